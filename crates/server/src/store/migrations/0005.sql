-- Until when a client may eject: opened by its custodian, or by an operator (no key).
CREATE TABLE eject_windows (
    client BYTES NOT NULL PRIMARY KEY REFERENCES clients (id),
    key BYTES,
    opened_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
) STRICT;
-- An eject: when its device acknowledged the keys, and when the halves were retired after that.
ALTER TABLE recoveries ADD COLUMN acknowledged_ms BIGINT;
ALTER TABLE recoveries ADD COLUMN retired_ms BIGINT;
CREATE INDEX recoveries_to_retire ON recoveries (purpose, acknowledged_ms);
