//! What can be signed (DECISIONS.md D7), and how it becomes the bytes that are signed.
//!
//! Device and server each decode the [`Payload`] themselves and sign what *they* computed from it: nobody's digest is
//! taken at its word (PROTOCOL.md 5, T4). A [`Decoded`] comes out of [`decode`] only, so a function that asks for one
//! cannot be handed a bare digest:
//!
//! ```compile_fail,E0451
//! # use halfkey_api::signing::{Decoded, Summary, ToSign};
//! fn forge(summary: Summary) -> Decoded {
//!     Decoded { to_sign: ToSign::Digest([0; 32]), summary }
//! }
//! ```

mod bitcoin;
mod build;
mod digest;
mod error;
mod ethereum;
mod finish;
mod payload;
mod reader;
mod solana;
mod summary;
mod typed_data;

use halfkey_envelope::wallet::Curve;

pub use self::{
    build::{Eip1559Transfer, SolanaTransfer},
    error::SigningError,
    finish::{Signature, Signed, finish},
    payload::{Payload, PayloadForm},
    summary::{Detail, Summary},
};
use crate::chain::PublicKey;

/// No payload is larger, in its bytes or its text.
pub const MAX_PAYLOAD_BYTES: usize = 128 * 1024;

/// What a deployment allows beyond decoded payloads. The default allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Signing 32 bytes that nobody can read: whoever chooses them can have anything signed.
    pub danger_sign_digest: bool,
}

/// What goes into the signature algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSign {
    /// ECDSA over secp256k1 signs this digest.
    Digest([u8; 32]),
    /// Ed25519 signs this message (RFC 8032, "PureEdDSA").
    Message(Vec<u8>),
}

/// A payload that was decoded and understood: the only source of something to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    to_sign: ToSign,
    summary: Summary,
}

impl Decoded {
    /// The curve of the signature.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self.to_sign {
            ToSign::Digest(_) => Curve::Secp256k1,
            ToSign::Message(_) => Curve::Ed25519,
        }
    }

    /// What is signed.
    #[must_use]
    pub const fn to_sign(&self) -> &ToSign {
        &self.to_sign
    }

    /// The bytes of [`Decoded::to_sign`]: 32 for ECDSA, the message for Ed25519.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.to_sign {
            ToSign::Digest(digest) => digest,
            ToSign::Message(message) => message,
        }
    }

    /// What it does, in words.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// Reads a payload as `signer` is asked to sign it.
///
/// # Errors
/// [`SigningError`]: malformed, oversize or trailing input, a form that this version does not sign, a key that is not
/// asked, or a bare digest without the capability.
pub fn decode(payload: &Payload, signer: &PublicKey, allowed: Capabilities) -> Result<Decoded, SigningError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(SigningError::TooLarge);
    }
    match (payload, signer) {
        (Payload::EthTransaction(bytes), PublicKey::Secp256k1(key)) => ethereum::decode_transaction(bytes, key),
        (Payload::EthMessage(message), PublicKey::Secp256k1(key)) => Ok(ethereum::decode_message(message, key)),
        (Payload::EthTypedData(json), PublicKey::Secp256k1(key)) => typed_data::decode(json, key),
        (Payload::BitcoinP2wpkh { psbt, input }, PublicKey::Secp256k1(key)) => bitcoin::decode(psbt, *input, key),
        (Payload::SolanaMessage(message), PublicKey::Ed25519(key)) => solana::decode(message, key),
        (Payload::Digest32 { curve, digest }, key) if *curve == key.curve() => digest::decode(*digest, key, allowed),
        _ => Err(SigningError::WrongCurve),
    }
}
