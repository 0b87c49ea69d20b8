-- What the proof of possession named: the device's later messages of the same recovery must name the same key.
ALTER TABLE recoveries ADD COLUMN one_time_key BYTES;
-- The device that cancelled it. A device's second cancel goes to the operator instead, who decides once.
ALTER TABLE recoveries ADD COLUMN ended_by BYTES;
ALTER TABLE recoveries ADD COLUMN contested_by BYTES;
ALTER TABLE recoveries ADD COLUMN contested_ms BIGINT;
ALTER TABLE recoveries ADD COLUMN decided_ms BIGINT;
-- Why a pair was banned, and when an operator let that stand.
ALTER TABLE pairs ADD COLUMN ban_reason TEXT;
ALTER TABLE pairs ADD COLUMN upheld_ms BIGINT;
