-- The second key of every half. Destroying it in all copies is the deletion of the half.
CREATE TABLE shred_keys (
    half BYTES NOT NULL PRIMARY KEY,
    pair BYTES NOT NULL,
    slot TEXT NOT NULL,
    client BYTES NOT NULL,
    wallet BYTES NOT NULL,
    shred_key BYTES,
    created_ms BIGINT NOT NULL,
    destroyed_ms BIGINT
) STRICT;
CREATE INDEX shred_keys_by_slot ON shred_keys (slot);

-- What an older main database must not undo: 1 removed, 2 banned, 3 erased.
CREATE TABLE shred_marks (
    pair BYTES NOT NULL PRIMARY KEY,
    slot TEXT NOT NULL,
    severity BIGINT NOT NULL CHECK (severity IN (1, 2, 3)),
    at_ms BIGINT NOT NULL
) STRICT;
CREATE INDEX shred_marks_by_slot ON shred_marks (slot);

CREATE TABLE shred_devices (
    device BYTES NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL
) STRICT;

-- The highest generation ever seen in a slot: a main database that knows less is an older copy.
CREATE TABLE shred_slots (
    slot TEXT NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL
) STRICT;
