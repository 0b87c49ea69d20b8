//! Paths, in one place for the server and the SDK.

/// Everything lies below this.
pub const BASE: &str = "/api/v3";

macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident = $path:expr;)*) => {$(
        $(#[$doc])*
        pub const $name: &str = $path;
    )*};
}

routes! {
    /// Create and list clients (custodian key).
    CUSTODIAN_CLIENTS = "/api/v3/custodians/me/clients";
    /// One client (custodian key).
    CUSTODIAN_CLIENT = "/api/v3/custodians/me/clients/{client_id}";
    /// Mint a client session token (custodian key).
    CUSTODIAN_SESSIONS = "/api/v3/custodians/me/clients/{client_id}/sessions";
    /// Open the window in which one client may eject (custodian key).
    CUSTODIAN_ENABLE_EJECT = "/api/v3/custodians/me/clients/{client_id}/enable-eject";
    /// The step that the policy hook asked for is done, or has failed (custodian key).
    CUSTODIAN_STEP_UP = "/api/v3/custodians/me/recoveries/{recovery_id}/step-up";
    /// What one client could eject: identifiers and windows, never a share (custodian key).
    CUSTODIAN_EJECTABLE = "/api/v3/custodians/me/clients/{client_id}/ejectable-backup-shares";
    /// The custodian's file of one client's exit kit (custodian key).
    CUSTODIAN_EXIT_KIT = "/api/v3/custodians/me/clients/{client_id}/exit-kit";
    /// The apps and origins that may use the passkeys of the custodian's relying party (custodian key).
    CUSTODIAN_RELYING_PARTY = "/api/v3/custodians/me/relying-party";
    /// The calling client: wallets, share pairs, backup status.
    CLIENT = "/api/v3/clients/me";
    /// Enrol the first device; list devices.
    DEVICES = "/api/v3/clients/me/devices";
    /// Revoke one device.
    DEVICE = "/api/v3/clients/me/devices/{device_id}";
    /// Open the creation of the client's wallets.
    WALLETS = "/api/v3/clients/me/wallets";
    /// Begin to heal this device's banned signing pair, after the operator's review.
    SIGNING_PAIR_HEAL = "/api/v3/clients/me/signing-share-pairs/{pair_id}/heal";
    /// Report that the server cheated with this device's signing pair: it is banned.
    SIGNING_PAIR_BAN = "/api/v3/clients/me/signing-share-pairs/{pair_id}/ban";
    /// Every step of every ceremony: sealed CBOR.
    CEREMONIES = "/api/v3/clients/me/ceremonies";
    /// Begin a backup.
    BACKUPS = "/api/v3/clients/me/backup-share-pairs";
    /// Cancel a pending backup.
    BACKUP = "/api/v3/clients/me/backup-share-pairs/{backup_id}";
    /// Upload (pending) and read back an envelope.
    BACKUP_CIPHER_TEXT = "/api/v3/clients/me/backup-share-pairs/{backup_id}/cipher-text";
    /// Both acknowledgements: the pair becomes Active, its predecessor Retired.
    BACKUP_COMMIT = "/api/v3/clients/me/backup-share-pairs/{backup_id}/commit";
    /// Remove a backup method.
    BACKUP_METHOD = "/api/v3/clients/me/backup-methods/{method}";
    /// Backup status, method by method and curve by curve.
    BACKUP_STATUS = "/api/v3/clients/me/backup-status";
    /// Relay to the guesskeeper.
    PASSWORD_DOOR = "/api/v3/clients/me/password-door";
    /// Relay to the keeper of the passkey door.
    PASSKEY_DOOR = "/api/v3/clients/me/passkey-door";
    /// The pepper of records in the user's cloud.
    CLOUD_PEPPER = "/api/v3/clients/me/cloud-pepper";
    /// The user says that the cloud of this method does keep its records on other devices.
    SYNC_CONFIRMATION = "/api/v3/clients/me/backup-methods/{method}/sync-confirmation";
    /// Begin and list recoveries.
    RECOVERIES = "/api/v3/clients/me/recoveries";
    /// One recovery.
    RECOVERY = "/api/v3/clients/me/recoveries/{recovery_id}";
    /// Cancel a recovery.
    RECOVERY_CANCEL = "/api/v3/clients/me/recoveries/{recovery_id}/cancel";
    /// The envelope, inside a recovery that policy has let through.
    RECOVERY_CIPHER_TEXT = "/api/v3/clients/me/recoveries/{recovery_id}/cipher-text";
    /// Proof of possession: enrols the new device key.
    RECOVERY_POSSESSION = "/api/v3/clients/me/recoveries/{recovery_id}/possession";
    /// Proof of possession in an eject: the wallets are `ejecting`, then the custodian's halves leave, sealed.
    RECOVERY_EJECT = "/api/v3/clients/me/recoveries/{recovery_id}/eject";
    /// The ejected keys were shown and checked: the wallets are `ejected`.
    RECOVERY_EJECT_ACKNOWLEDGE = "/api/v3/clients/me/recoveries/{recovery_id}/eject/acknowledge";
    /// Begin a verification (drill).
    VERIFICATIONS = "/api/v3/clients/me/verifications";
    /// The envelope, inside a verification.
    VERIFICATION_CIPHER_TEXT = "/api/v3/clients/me/verifications/{verification_id}/cipher-text";
    /// Proofs of both sides; sets `verifiedAt`.
    VERIFICATION_PROOF = "/api/v3/clients/me/verifications/{verification_id}/proof";
    /// A device found that the backup does not hold.
    VERIFICATION_FAILURE = "/api/v3/clients/me/verifications/{verification_id}/failure";
    /// The page behind the link of a notice, and the call that it makes: cancels a recovery.
    RECOVERY_LINK = "/recoveries/{recovery_id}/cancel";
    /// What happened to the custodian's clients.
    CUSTODIAN_EVENTS = "/api/v3/custodians/me/events";
    /// Where the custodian wants its events sent (custodian key).
    WEBHOOKS = "/api/v3/custodians/me/alerts/webhooks";
    /// One such address (custodian key).
    WEBHOOK = "/api/v3/custodians/me/alerts/webhooks/{webhook_id}";
    /// A new secret for it (custodian key).
    WEBHOOK_SECRET = "/api/v3/custodians/me/alerts/webhooks/{webhook_id}/secret";
    /// Send it a test, now (custodian key).
    WEBHOOK_TEST = "/api/v3/custodians/me/alerts/webhooks/{webhook_id}/test";
    /// What was and is sent to it (custodian key).
    WEBHOOK_DELIVERIES = "/api/v3/custodians/me/alerts/webhooks/{webhook_id}/deliveries";
    /// Send it what it missed (custodian key).
    WEBHOOK_REPLAY = "/api/v3/custodians/me/alerts/webhooks/{webhook_id}/replay";
    /// The page that makes and uses passkeys for the command line, on a relying party that this server hosts.
    PASSKEY_PAGE = "/passkey";
    /// For Apple's systems, on a relying party that this server hosts.
    APPLE_APP_SITE_ASSOCIATION = crate::relying_party::APPLE_PATH;
    /// For Android, on a relying party that this server hosts.
    ASSET_LINKS = crate::relying_party::ANDROID_PATH;
    /// Related origins, on a relying party that this server hosts.
    WEBAUTHN = crate::relying_party::WEBAUTHN_PATH;
    /// The process lives.
    HEALTHZ = "/healthz";
    /// Store, key management and keepers answer.
    READYZ = "/readyz";
    /// The OpenAPI document.
    OPENAPI = "/openapi.json";
}

/// `route` with its `{…}` segments replaced in order by `values`.
#[must_use]
pub fn path(route: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let segments = route.split('/').map(|segment| match segment.starts_with('{') {
        true => values.next().copied().unwrap_or(segment),
        false => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_filled_in_order() {
        assert_eq!(super::path(super::BACKUP_COMMIT, &["x"]), "/api/v3/clients/me/backup-share-pairs/x/commit");
    }
}
