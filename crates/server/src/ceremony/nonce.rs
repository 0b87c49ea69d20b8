//! n_S of PROTOCOL.md 4.2: 32 bytes that nobody can foresee, bound to a device key and to identifiers that were made
//! for one attempt. Derived under a key of the server, so that every node knows them and none has to be stored.

use halfkey_envelope::{
    hash::h,
    id::{BackupId, ClientId, PairId},
    seal::SealKey,
};

use crate::app::Inner;

/// Of one attempt to create the client's wallets.
pub(crate) fn of_wallets(app: &Inner, client: ClientId, device_key: &[u8; 32], pairs: &[PairId]) -> [u8; 32] {
    let pairs: Vec<u8> = pairs.iter().flat_map(|pair| *pair.as_bytes()).collect();
    derive(app, "wallets", client, device_key, &pairs)
}

/// Of one backup.
pub(crate) fn of_backup(app: &Inner, client: ClientId, device_key: &[u8; 32], backup: BackupId) -> [u8; 32] {
    derive(app, "backup", client, device_key, backup.as_bytes())
}

/// Of one healing.
pub(crate) fn of_heal(app: &Inner, client: ClientId, device_key: &[u8; 32], pair: PairId) -> [u8; 32] {
    derive(app, "heal", client, device_key, pair.as_bytes())
}

fn derive(app: &Inner, what: &str, client: ClientId, device_key: &[u8; 32], attempt: &[u8]) -> [u8; 32] {
    let context = h(
        "halfkey/server/v1/nonce",
        &[what.as_bytes(), app.deployment.as_bytes(), client.as_bytes(), device_key, attempt],
    );
    *SealKey::derive(&context, app.keys.nonces.as_ref(), "halfkey/server/v1/nonce").expose()
}
