-- What a custodian says about the apps and origins that may use its relying party's passkeys: validated JSON.
CREATE TABLE relying_parties (
    custodian BYTES NOT NULL PRIMARY KEY REFERENCES custodians (id),
    document TEXT NOT NULL,
    changed_ms BIGINT NOT NULL
) STRICT;
