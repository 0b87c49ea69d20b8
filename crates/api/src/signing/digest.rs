//! A bare digest: the one payload that nobody can read.

use super::{Capabilities, Decoded, SigningError, ToSign, summary::Summary};
use crate::chain::{PublicKey, ethereum, solana};

/// `digest` as `signer` would sign it, if the deployment allows that.
pub(super) fn decode(digest: [u8; 32], signer: &PublicKey, allowed: Capabilities) -> Result<Decoded, SigningError> {
    if !allowed.danger_sign_digest {
        return Err(SigningError::DigestNotAllowed);
    }
    let (to_sign, from) = match signer {
        PublicKey::Secp256k1(key) => (ToSign::Digest(digest), ethereum::address(key)),
        PublicKey::Ed25519(key) => (ToSign::Message(digest.to_vec()), solana::address(key)),
    };
    let mut summary = Summary::new("unknown", "sign 32 bytes that cannot be read", from);
    summary.detail("digest", format!("0x{}", hex::encode(digest)));
    Ok(Decoded { to_sign, summary })
}
