//! Single-use nonces for the proofs that a device makes from an envelope it has read.

use halfkey_envelope::{
    entropy::{OsEntropy, random},
    id::{BackupId, ClientId, RecoveryId, VerificationId},
};

use crate::{app::Inner, fault::Fault, store::Challenge};

/// How long a challenge may be answered: an envelope has to be opened in between, and a user asked.
const LIFE_MS: u64 = 10 * 60 * 1000;

/// What the proof under a challenge will be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The acknowledgement of a new backup.
    Commit(BackupId),
    /// The proof of possession in a recovery.
    Possession(RecoveryId),
    /// A drill.
    Verification(VerificationId),
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Commit(_) => "commit",
            Self::Possession(_) => "possession",
            Self::Verification(_) => "verification",
        }
    }

    const fn reference(self) -> [u8; 16] {
        match self {
            Self::Commit(id) => *id.as_bytes(),
            Self::Possession(id) => *id.as_bytes(),
            Self::Verification(id) => *id.as_bytes(),
        }
    }
}

/// A fresh challenge for this device key and purpose.
pub(crate) async fn give(
    app: &Inner,
    client: ClientId,
    device_key: &[u8; 32],
    purpose: Purpose,
    now_ms: u64,
) -> Result<[u8; 32], Fault> {
    let challenge = Challenge {
        nonce: *random::<32>(&mut OsEntropy),
        purpose: purpose.name().to_owned(),
        device_key: *device_key,
        reference: purpose.reference(),
        expires_ms: now_ms.saturating_add(LIFE_MS),
    };
    app.store.put_challenge(client, &challenge).await?;
    Ok(challenge.nonce)
}

/// Takes a challenge: it exists for this device key and purpose, and never again.
pub(crate) async fn take(
    app: &Inner,
    client: ClientId,
    device_key: &[u8; 32],
    purpose: Purpose,
    nonce: &[u8; 32],
    now_ms: u64,
) -> Result<(), Fault> {
    Ok(app.store.take_challenge(client, purpose.name(), device_key, &purpose.reference(), nonce, now_ms).await?)
}
