-- Times are milliseconds since the Unix epoch. Identifiers are 16 bytes, digests and Ed25519 keys 32.
-- Nothing in this database opens a half: each is sealed under a data key that the key service wrapped and a shred key
-- that lies in another database.

CREATE TABLE deployment (
    singleton BIGINT NOT NULL PRIMARY KEY CHECK (singleton = 1),
    id BYTES NOT NULL,
    created_ms BIGINT NOT NULL
) STRICT;

-- Keys of the server itself (identity, HPKE, pepper roots), wrapped by the key service: every node has the same ones.
CREATE TABLE server_keys (
    name TEXT NOT NULL PRIMARY KEY,
    wrapped BYTES NOT NULL,
    created_ms BIGINT NOT NULL
) STRICT;

CREATE TABLE custodians (
    id BYTES NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_ms BIGINT NOT NULL
) STRICT;

CREATE TABLE clients (
    id BYTES NOT NULL PRIMARY KEY,
    custodian BYTES NOT NULL REFERENCES custodians (id),
    external_id TEXT,
    created_ms BIGINT NOT NULL,
    deleted_ms BIGINT,
    version BIGINT NOT NULL
) STRICT;
CREATE INDEX clients_by_custodian ON clients (custodian, id);

CREATE TABLE api_keys (
    id BYTES NOT NULL PRIMARY KEY,
    digest BYTES NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('CUSTODIAN', 'CLIENT')),
    custodian BYTES NOT NULL REFERENCES custodians (id),
    client BYTES REFERENCES clients (id),
    scope TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    CHECK ((kind = 'CLIENT') = (client IS NOT NULL))
) STRICT;
CREATE INDEX api_keys_by_custodian ON api_keys (custodian, id);

CREATE TABLE sessions (
    digest BYTES NOT NULL PRIMARY KEY,
    client BYTES NOT NULL REFERENCES clients (id),
    created_ms BIGINT NOT NULL,
    used_ms BIGINT NOT NULL,
    ends_ms BIGINT NOT NULL
) STRICT;
CREATE INDEX sessions_by_client ON sessions (client);
CREATE INDEX sessions_by_end ON sessions (ends_ms);

CREATE TABLE devices (
    id BYTES NOT NULL PRIMARY KEY,
    client BYTES NOT NULL REFERENCES clients (id),
    public_key BYTES NOT NULL,
    platform TEXT NOT NULL,
    name TEXT NOT NULL,
    recovery BYTES,
    created_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    UNIQUE (client, public_key)
) STRICT;

CREATE TABLE request_nonces (
    device BYTES NOT NULL,
    nonce BYTES NOT NULL,
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (device, nonce)
) STRICT;
CREATE INDEX request_nonces_by_end ON request_nonces (expires_ms);

CREATE TABLE wallets (
    id BYTES NOT NULL PRIMARY KEY,
    client BYTES NOT NULL REFERENCES clients (id),
    curve TEXT NOT NULL CHECK (curve IN ('SECP256K1', 'ED25519')),
    public_key BYTES,
    chain_code BYTES,
    state TEXT NOT NULL CHECK (state IN ('CREATING', 'OPEN', 'EJECTING', 'EJECTED')),
    created_ms BIGINT NOT NULL,
    version BIGINT NOT NULL,
    UNIQUE (client, curve),
    CHECK ((state = 'CREATING') = (public_key IS NULL)),
    CHECK ((public_key IS NULL) = (chain_code IS NULL))
) STRICT;

-- A slot: (wallet, device) for signing, (client, method) for backups; and who may work on it at the moment.
CREATE TABLE slots (
    slot TEXT NOT NULL PRIMARY KEY,
    client BYTES NOT NULL REFERENCES clients (id),
    wallet BYTES REFERENCES wallets (id),
    device BYTES REFERENCES devices (id),
    method TEXT,
    generation BIGINT NOT NULL,
    heals BIGINT NOT NULL,
    revoked BIGINT NOT NULL CHECK (revoked IN (0, 1)),
    lease_device BYTES,
    lease_until_ms BIGINT,
    version BIGINT NOT NULL,
    CHECK ((wallet IS NULL) = (device IS NULL)),
    CHECK ((wallet IS NULL) <> (method IS NULL)),
    CHECK ((lease_device IS NULL) = (lease_until_ms IS NULL))
) STRICT;
CREATE INDEX slots_by_client ON slots (client);

-- One pair of a slot. Of a backup slot it stands for all curves of one backup, and its id is the backup's.
-- The two unique indexes are a second wall behind the life cycle: whatever a bug does, no slot has two active pairs.
CREATE TABLE pairs (
    id BYTES NOT NULL PRIMARY KEY,
    slot TEXT NOT NULL REFERENCES slots (slot),
    client BYTES NOT NULL REFERENCES clients (id),
    generation BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'RETIRED', 'ERASED', 'BANNED', 'FROZEN')),
    begun_by BYTES NOT NULL,
    heals BIGINT NOT NULL,
    reviewed BIGINT NOT NULL,
    server_half BIGINT NOT NULL,
    test_signature BIGINT NOT NULL,
    custodian_ack BIGINT NOT NULL,
    envelope_digest BYTES,
    asserted BIGINT NOT NULL,
    proven BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    deadline_ms BIGINT NOT NULL,
    activated_ms BIGINT,
    retired_ms BIGINT,
    retired_because TEXT,
    opened_ms BIGINT,
    replica_safe BIGINT NOT NULL,
    verified_ms BIGINT,
    UNIQUE (slot, generation)
) STRICT;
CREATE INDEX pairs_by_client ON pairs (client);
CREATE UNIQUE INDEX pairs_one_standing ON pairs (slot) WHERE state IN ('ACTIVE', 'BANNED', 'FROZEN');
CREATE UNIQUE INDEX pairs_one_pending ON pairs (slot) WHERE state = 'PENDING';
CREATE INDEX pairs_to_sweep ON pairs (state, deadline_ms);

-- The curves of a pair: its public side, and the server's or custodian's half, sealed.
CREATE TABLE pair_shares (
    id BYTES NOT NULL PRIMARY KEY,
    pair BYTES NOT NULL REFERENCES pairs (id),
    client BYTES NOT NULL REFERENCES clients (id),
    wallet BYTES NOT NULL REFERENCES wallets (id),
    curve TEXT NOT NULL,
    public_key BYTES,
    chain_code BYTES,
    client_point BYTES,
    peer_point BYTES,
    half BYTES,
    data_key BYTES,
    shredded_ms BIGINT,
    UNIQUE (pair, curve),
    CHECK ((half IS NULL) = (data_key IS NULL))
) STRICT;

CREATE TABLE envelopes (
    backup BYTES NOT NULL PRIMARY KEY REFERENCES pairs (id),
    client BYTES NOT NULL REFERENCES clients (id),
    envelope BYTES NOT NULL,
    digest BYTES NOT NULL,
    record BYTES,
    statement TEXT,
    stored_ms BIGINT NOT NULL
) STRICT;

-- Single-use nonces; taking one deletes it.
CREATE TABLE challenges (
    nonce BYTES NOT NULL PRIMARY KEY,
    client BYTES NOT NULL REFERENCES clients (id),
    purpose TEXT NOT NULL,
    device_key BYTES NOT NULL,
    reference BYTES NOT NULL,
    expires_ms BIGINT NOT NULL
) STRICT;
CREATE INDEX challenges_by_end ON challenges (expires_ms);

CREATE TABLE recoveries (
    id BYTES NOT NULL PRIMARY KEY,
    client BYTES NOT NULL REFERENCES clients (id),
    purpose TEXT NOT NULL CHECK (purpose IN ('RECOVER', 'EJECT')),
    method TEXT NOT NULL,
    backup BYTES NOT NULL REFERENCES pairs (id),
    state TEXT NOT NULL CHECK (state IN
        ('REQUESTED', 'WAITING', 'READY', 'EXECUTING', 'COMPLETED', 'CANCELLED', 'EXPIRED', 'DENIED')),
    device_key BYTES NOT NULL,
    platform TEXT NOT NULL,
    device_name TEXT NOT NULL,
    device BYTES NOT NULL,
    old_devices TEXT NOT NULL CHECK (old_devices IN ('REVOKE', 'KEEP')),
    nonce BYTES NOT NULL,
    ready_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    possession_ms BIGINT,
    version BIGINT NOT NULL
) STRICT;
CREATE INDEX recoveries_by_client ON recoveries (client, id);
CREATE UNIQUE INDEX recoveries_one_open ON recoveries (client, device_key)
    WHERE state IN ('REQUESTED', 'WAITING', 'READY', 'EXECUTING');
CREATE INDEX recoveries_to_sweep ON recoveries (state, expires_ms);

-- The signing pairs that a recovery will make, named before it is allowed to make them.
CREATE TABLE recovery_pairs (
    pair BYTES NOT NULL PRIMARY KEY,
    recovery BYTES NOT NULL REFERENCES recoveries (id),
    wallet BYTES NOT NULL REFERENCES wallets (id),
    curve TEXT NOT NULL,
    UNIQUE (recovery, curve)
) STRICT;

CREATE TABLE verifications (
    id BYTES NOT NULL PRIMARY KEY,
    client BYTES NOT NULL REFERENCES clients (id),
    backup BYTES NOT NULL REFERENCES pairs (id),
    device BYTES NOT NULL REFERENCES devices (id),
    state TEXT NOT NULL CHECK (state IN ('OPEN', 'PASSED', 'FAILED')),
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    finished_ms BIGINT
) STRICT;
CREATE INDEX verifications_by_client ON verifications (client);

CREATE TABLE rate_limits (
    subject TEXT NOT NULL PRIMARY KEY,
    started_ms BIGINT NOT NULL,
    ends_ms BIGINT NOT NULL,
    hits BIGINT NOT NULL
) STRICT;
CREATE INDEX rate_limits_by_end ON rate_limits (ends_ms);

-- Append-only and chained by hash, one chain per subject (a client, a custodian or the deployment).
CREATE TABLE audit_heads (
    subject BYTES NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    hash BYTES NOT NULL
) STRICT;
CREATE TABLE audit (
    subject BYTES NOT NULL,
    sequence BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    kind TEXT NOT NULL,
    entry TEXT NOT NULL,
    hash BYTES NOT NULL,
    PRIMARY KEY (subject, sequence)
) STRICT;

-- Events to tell the custodian of, written in the transaction of what they tell.
CREATE TABLE outbox (
    id BYTES NOT NULL PRIMARY KEY,
    custodian BYTES NOT NULL REFERENCES custodians (id),
    client BYTES,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    next_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    delivered_ms BIGINT
) STRICT;
CREATE INDEX outbox_due ON outbox (delivered_ms, next_ms);
