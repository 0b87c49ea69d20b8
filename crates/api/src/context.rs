//! What proofs and sealed bodies are bound to: computed by both sides from their own records, never sent.

use halfkey_envelope::{
    hash::h,
    id::{BackupId, ClientId, DeploymentId, PairId, RecoveryId, VerificationId},
};

/// Associated data of a sealed ceremony body, both ways.
#[must_use]
pub fn ceremony_aad(deployment: DeploymentId, client: ClientId, device_key: &[u8; 32]) -> [u8; 32] {
    h("halfkey/ceremony/v1/aad", &[deployment.as_bytes(), client.as_bytes(), device_key])
}

/// Associated data of a sealed request for a pepper.
#[must_use]
pub fn pepper_aad(deployment: DeploymentId, client: ClientId, device_key: &[u8; 32], within: [u8; 16]) -> [u8; 32] {
    h("halfkey/cloud/v1/pepper-aad", &[deployment.as_bytes(), client.as_bytes(), device_key, &within])
}

/// Context of the proof that the device has read back its new half (`CreateWallet` step 3, `Recover` and `Heal`
/// step 5).
#[must_use]
pub fn stored_half(deployment: DeploymentId, client: ClientId, nonce: &[u8; 32], device_key: &[u8; 32]) -> [u8; 32] {
    h("halfkey/signing/v1/stored", &[deployment.as_bytes(), client.as_bytes(), nonce, device_key])
}

/// Context of the proof of possession of a client backup share (METHODS.md G). It alone enrols a new device.
#[must_use]
pub fn possession(
    deployment: DeploymentId,
    client: ClientId,
    recovery: RecoveryId,
    nonce: &[u8; 32],
    new_device_key: &[u8; 32],
    one_time_key: &[u8; 32],
) -> [u8; 32] {
    h(
        "halfkey/recovery/v1/possession",
        &[deployment.as_bytes(), client.as_bytes(), recovery.as_bytes(), nonce, new_device_key, one_time_key],
    )
}

/// Context of the proof of possession in an eject. It is none in a recovery.
#[must_use]
pub fn ejection(
    deployment: DeploymentId,
    client: ClientId,
    eject: RecoveryId,
    nonce: &[u8; 32],
    device_key: &[u8; 32],
    one_time_key: &[u8; 32],
) -> [u8; 32] {
    h(
        "halfkey/eject/v1/possession",
        &[deployment.as_bytes(), client.as_bytes(), eject.as_bytes(), nonce, device_key, one_time_key],
    )
}

/// HPKE info of a custodian's half that leaves in an eject.
pub const EJECTED_HALF: &[u8] = b"halfkey/eject/v1/custodian-half";

/// Associated data of a custodian's half that leaves in an eject.
#[must_use]
pub fn ejected_half(
    deployment: DeploymentId,
    client: ClientId,
    eject: RecoveryId,
    pair: PairId,
    public_key: &[u8],
    one_time_key: &[u8; 32],
) -> [u8; 32] {
    h(
        "halfkey/eject/v1/half",
        &[deployment.as_bytes(), client.as_bytes(), eject.as_bytes(), pair.as_bytes(), public_key, one_time_key],
    )
}

/// Context of the device's proof in a drill (METHODS.md H, L2).
#[must_use]
pub fn verification_client(
    deployment: DeploymentId,
    client: ClientId,
    verification: VerificationId,
    backup: BackupId,
) -> [u8; 32] {
    h(
        "halfkey/verification/v1/client",
        &[deployment.as_bytes(), client.as_bytes(), verification.as_bytes(), backup.as_bytes()],
    )
}

/// Context of the custodian's proof in a drill (METHODS.md H, L3).
#[must_use]
pub fn verification_custodian(
    deployment: DeploymentId,
    client: ClientId,
    verification: VerificationId,
    backup: BackupId,
) -> [u8; 32] {
    h(
        "halfkey/verification/v1/custodian",
        &[deployment.as_bytes(), client.as_bytes(), verification.as_bytes(), backup.as_bytes()],
    )
}
