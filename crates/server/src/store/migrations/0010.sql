-- Where custodians want their events sent. The secret is derived, not stored: of its version, and until `rotated_ms` plus a
-- day also of the one before. `paused_ms`: nothing is sent before, because the address failed.
CREATE TABLE webhooks (
    id BYTES NOT NULL PRIMARY KEY,
    custodian BYTES NOT NULL REFERENCES custodians (id),
    url TEXT NOT NULL,
    kinds TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    secret_version BIGINT NOT NULL,
    rotated_ms BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    failing_since_ms BIGINT,
    delivered_ms BIGINT,
    paused_ms BIGINT NOT NULL
) STRICT;
CREATE INDEX webhooks_by_custodian ON webhooks (custodian, id);

-- One for each event and address; `next_ms` is empty once it was delivered or given up.
CREATE TABLE deliveries (
    webhook BYTES NOT NULL REFERENCES webhooks (id),
    event BYTES NOT NULL REFERENCES outbox (id),
    attempts BIGINT NOT NULL,
    next_ms BIGINT,
    delivered_ms BIGINT,
    answer TEXT,
    PRIMARY KEY (webhook, event)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (next_ms, webhook);
CREATE INDEX outbox_by_time ON outbox (created_ms);
