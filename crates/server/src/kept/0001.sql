CREATE UNLOGGED TABLE kept (
    session BYTES NOT NULL PRIMARY KEY,
    client BYTES NOT NULL,
    device_key BYTES NOT NULL,
    seat BIGINT NOT NULL,
    operation TEXT NOT NULL,
    step BIGINT NOT NULL,
    subject BYTES NOT NULL,
    slot TEXT,
    generation BIGINT NOT NULL,
    transcript BYTES NOT NULL,
    deadline_ms BIGINT NOT NULL,
    sealed BYTES NOT NULL,
    UNIQUE (device_key, seat)
) STRICT;
CREATE UNIQUE INDEX kept_one_session ON kept (slot, operation) WHERE slot IS NOT NULL;
CREATE INDEX kept_by_deadline ON kept (deadline_ms);
