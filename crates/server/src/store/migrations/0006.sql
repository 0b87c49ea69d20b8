-- Of backups whose record lies in the user's cloud: the pepper root that names and seals it, what the device stated of the
-- account, and whether another device than the one that made it has read it, or the user has confirmed that others can.
CREATE TABLE cloud_records (
    backup BYTES NOT NULL PRIMARY KEY REFERENCES pairs (id),
    client BYTES NOT NULL REFERENCES clients (id),
    root BIGINT NOT NULL,
    account BYTES,
    hint TEXT,
    read_by BYTES,
    read_ms BIGINT,
    confirmed_ms BIGINT,
    made_ms BIGINT NOT NULL,
    CHECK ((account IS NULL) = (hint IS NULL)),
    CHECK ((read_by IS NULL) = (read_ms IS NULL))
) STRICT;
