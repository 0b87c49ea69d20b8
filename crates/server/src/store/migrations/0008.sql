-- 1: whoever got the notice has cancelled it by its link.
ALTER TABLE recoveries ADD COLUMN ended_by_link BIGINT NOT NULL DEFAULT 0;
CREATE INDEX outbox_by_custodian ON outbox (custodian, id);
