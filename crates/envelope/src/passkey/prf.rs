//! The secret that a passkey computes (WebAuthn Level 3, section 10.1.4, `prf`).

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Context, Error};
use crate::{hash::h, seal::SealKey};

/// The length of a PRF output, bytes.
pub const PRF_LEN: usize = 32;
const INPUT: &[u8] = b"halfkey/prf/v1";

/// `eval.first` of a `get()`: SHA-256("halfkey/prf/v1" ‖ salt).
#[must_use]
pub fn prf_input(salt: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(INPUT).chain_update(salt).finalize().into()
}

/// What the passkey gave for [`prf_input`]. Only that of a `get()` counts, and only if a second one gives the same.
pub struct PrfOutput(Zeroizing<[u8; PRF_LEN]>);

crate::secret::redact!(PrfOutput);

impl PrfOutput {
    /// The output as the platform gave it. Too short, too long or all zero: refused.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        let mut output = Zeroizing::new([0u8; PRF_LEN]);
        if bytes.len() != PRF_LEN || bool::from(bytes.ct_eq(output.as_slice())) {
            return Err(Error::UnusablePrf);
        }
        output.copy_from_slice(bytes);
        Ok(Self(output))
    }

    /// The key under which the part of this credential is sealed, and what that sealed form is bound to.
    pub(super) fn wrap_key(&self, salt: &[u8; 32], binding: &[u8; 32]) -> SealKey {
        SealKey::derive_bytes(salt, self.0.as_slice(), binding)
    }
}

impl ConstantTimeEq for PrfOutput {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

/// What a wrap belongs to: the stanza's header, the backup and the credential.
pub(super) fn binding(header: &[u8], context: &Context, credential: &[u8]) -> [u8; 32] {
    let Context { deployment, client, backup } = context;
    h("halfkey/passkey/v1/prf", &[header, deployment.as_bytes(), client.as_bytes(), backup.as_bytes(), credential])
}
