//! Why a payload is not signed.

use crate::{chain::InvalidPublicKey, error::ErrorId};

/// Why a payload is refused, before anything is signed or after a signature turned out not to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The payload does not parse: what it is, and what is wrong.
    #[error("malformed payload: {0}")]
    Malformed(&'static str),
    /// The payload is larger than this version signs.
    #[error("the payload is too large")]
    TooLarge,
    /// Well formed, but nothing that this version signs.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// The payload's form has a version that this one does not know.
    #[error("unknown payload version")]
    UnknownVersion,
    /// The key is no key.
    #[error(transparent)]
    InvalidPublicKey(#[from] InvalidPublicKey),
    /// The payload is signed on another curve than the key's.
    #[error("the payload is not for this key's curve")]
    WrongCurve,
    /// The payload does not ask this key to sign.
    #[error("this key is not asked to sign the payload")]
    NotTheSigner,
    /// A PSBT does not prove what its inputs are worth, so nobody can know the fee (BIP-174, "Signer").
    #[error("the PSBT does not prove the amount of every input: add the previous transactions")]
    UnprovenAmount,
    /// Signing a bare digest needs the capability `danger_sign_digest`.
    #[error("signing a bare digest is not allowed")]
    DigestNotAllowed,
    /// The signature is not one of this payload by this key, or is not in its normal form (low s).
    #[error("the signature does not verify")]
    InvalidSignature,
}

impl SigningError {
    /// The stable code, the same in every language.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "PAYLOAD_MALFORMED",
            Self::TooLarge => "PAYLOAD_TOO_LARGE",
            Self::Unsupported(_) => "PAYLOAD_NOT_SUPPORTED",
            Self::UnknownVersion => "PAYLOAD_UNKNOWN_VERSION",
            Self::InvalidPublicKey(_) => "INVALID_PUBLIC_KEY",
            Self::WrongCurve => "PAYLOAD_WRONG_CURVE",
            Self::NotTheSigner => "PAYLOAD_NOT_THE_SIGNER",
            Self::UnprovenAmount => "PAYLOAD_UNPROVEN_AMOUNT",
            Self::DigestNotAllowed => "DIGEST_SIGNING_DISABLED",
            Self::InvalidSignature => "SIGNATURE_INVALID",
        }
    }

    /// The error of the HTTP interface that says it.
    #[must_use]
    pub const fn error_id(&self) -> ErrorId {
        match self {
            Self::DigestNotAllowed => ErrorId::DigestSigningDisabled,
            Self::UnknownVersion => ErrorId::UnsupportedVersion,
            _ => ErrorId::InvalidPayload,
        }
    }
}
