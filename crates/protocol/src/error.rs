//! One error for every ceremony; it says whose fault it is and never carries contents.

/// Whose fault an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer, or somebody on the way, sent what no honest peer sends now.
    Theirs,
    /// The caller gave something that cannot work: wrong input, wrong record, stale state.
    Ours,
    /// This program is wrong.
    Bug,
}

/// Why a ceremony stopped. Nothing was changed and no state may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a message of this step: wrong encoding, trailing bytes, too long, wrong lengths.
    #[error("malformed message")]
    Malformed,
    /// A version of a message, stored form or descriptor that this program does not know.
    #[error("unknown version")]
    UnknownVersion,
    /// A message made with another library version than ours.
    #[error("the peer runs another version of the protocol library")]
    LibraryMismatch,
    /// A message of another session, wallet, pair, generation, operation or step, or our own sent back.
    #[error("the message belongs to another session or step")]
    WrongSession,
    /// A point off the curve, of small or mixed order, not canonical, or the identity.
    #[error("invalid point")]
    InvalidPoint,
    /// A scalar that is zero or not reduced.
    #[error("invalid scalar")]
    InvalidScalar,
    /// A commitment was opened to something else.
    #[error("a commitment does not open")]
    CommitmentMismatch,
    /// Points or shares do not add up to the wallet's own record.
    #[error("the shares do not fit the wallet's public key")]
    ShareMismatch,
    /// A proof of knowledge does not verify.
    #[error("a proof of knowledge does not verify")]
    InvalidProof,
    /// A signature of an identity or device key does not verify.
    #[error("an identity signature does not verify")]
    InvalidIdentitySignature,
    /// A sealed sub-share does not open under our key.
    #[error("a sealed part does not open")]
    Unsealable,
    /// The peer's part of a signature or of a key generation fails the library's checks; a new session may be tried.
    #[error("the peer's contribution is invalid")]
    PeerInvalid,
    /// The peer cheated in a way that spends our OT state: **ban the pair durably before answering** (PROTOCOL.md 4.9).
    #[error("the peer cheated; the pair is banned")]
    PeerCheated,
    /// The signature made does not verify under the wallet's public key.
    #[error("the signature does not verify")]
    SignatureInvalid,
    /// The OT state was written by another library version, or there is none: run `rekey` first (DECISIONS.md D8).
    #[error("the share needs fresh OT state")]
    NeedsRekey,
    /// A hardened or over-long derivation path, or one on a curve without derivation.
    #[error("unsupported derivation path")]
    UnsupportedPath,
    /// The stored bytes of a share, or the kept state, are damaged or belong elsewhere.
    #[error("the stored state is invalid")]
    InvalidState,
    /// The context does not fit the ceremony: a pair id or party is missing, or the curve is another one.
    #[error("the context does not fit the ceremony")]
    InvalidContext,
    /// A descriptor is not signed by the key it names, or a rotation is older or not signed by the known key.
    #[error("the deployment descriptor is not trusted")]
    UntrustedDescriptor,
    /// A bug in this program or in a library.
    #[error("internal error")]
    Internal,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            Self::NeedsRekey | Self::UnsupportedPath | Self::InvalidState | Self::InvalidContext => Fault::Ours,
            Self::Internal => Fault::Bug,
            _ => Fault::Theirs,
        }
    }

    /// Whether the pair must be banned, durably, before anything else is answered.
    #[must_use]
    pub const fn is_ban(self) -> bool {
        matches!(self, Self::PeerCheated)
    }

    /// The stable code, the same in every language.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED_MESSAGE",
            Self::UnknownVersion => "UNKNOWN_VERSION",
            Self::LibraryMismatch => "LIBRARY_MISMATCH",
            Self::WrongSession => "WRONG_SESSION",
            Self::InvalidPoint => "INVALID_POINT",
            Self::InvalidScalar => "INVALID_SCALAR",
            Self::CommitmentMismatch => "COMMITMENT_MISMATCH",
            Self::ShareMismatch => "SHARE_MISMATCH",
            Self::InvalidProof => "INVALID_PROOF",
            Self::InvalidIdentitySignature => "INVALID_IDENTITY_SIGNATURE",
            Self::Unsealable => "UNSEALABLE",
            Self::PeerInvalid => "PEER_INVALID",
            Self::PeerCheated => "PEER_CHEATED",
            Self::SignatureInvalid => "SIGNATURE_INVALID",
            Self::NeedsRekey => "NEEDS_REKEY",
            Self::UnsupportedPath => "UNSUPPORTED_PATH",
            Self::InvalidState => "INVALID_STATE",
            Self::InvalidContext => "INVALID_CONTEXT",
            Self::UntrustedDescriptor => "UNTRUSTED_DESCRIPTOR",
            Self::Internal => "INTERNAL",
        }
    }
}

/// Result of every ceremony step.
pub type Result<T> = core::result::Result<T, Error>;
