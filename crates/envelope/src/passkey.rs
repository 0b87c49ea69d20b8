//! The passkey door (METHODS.md C): a stanza beside the envelope, which only a user's passkey opens again.
//!
//! A **stanza** holds the backup's record, sealed under a key that comes from one or two *parts* ([`crate::all_of`]).
//! In mode `keeper` the part is sealed to a keeper, which gives it to whoever shows a passkey assertion over its own
//! one-time key; in mode `prf` it is sealed under a secret that the passkey itself computes, and there is no keeper; in
//! mode `keeper+prf` there are two parts and both are needed.
//!
//! ```text
//! device                                          server                keeper
//! Release::begin: one-time key, challenge
//! passkey signs the challenge (get)
//! Release::request: sealed to the pinned key ──►  relays  ────────────► opens request and stanza,
//!                                                                       verifies the assertion inside
//! PendingRelease::finish: opens the part     ◄──  relays  ◄──────────── seals the part for the one-time key
//! Stanza::open: the record
//! ```
//!
//! The challenge hashes the one-time key, the stanza and the context: a lying host cannot redirect an assertion, and a
//! replay yields only a ciphertext for the same one-time key.

mod prf;
mod release;
mod stanza;
mod webauthn;

use core::{fmt, str::FromStr};

use minicbor::{Decode, Encode};

pub use prf::{PRF_LEN, PrfOutput, prf_input};
pub use release::{PendingRelease, Release, ReleaseAnswer, ReleaseBody, challenge, open_request};
pub use stanza::{
    Flag, Header, KeeperContents, Listed, MAX_CREDENTIALS, MAX_ORIGINS, MAX_STANZA, Prf, SealParams, Stanza,
    Verifiable, seal,
};
pub use webauthn::{
    Algorithm, Assertion, AuthenticatorData, ClientData, Credential, CredentialKey, Fault, MAX_CREDENTIAL_ID,
    NewCredential, Registration, TokenBinding, base64url, check_origin, check_rp_id,
};

use crate::{
    all_of, hpke,
    id::{BackupId, ClientId, DeploymentId},
    keeper::Refusal,
    wallet::UnknownName,
};

/// What a passkey's user needs to open a stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Mode {
    /// A keeper that verifies the assertion.
    #[n(1)]
    Keeper,
    /// The passkey's own secret (WebAuthn `prf`), and no keeper.
    #[n(2)]
    Prf,
    /// Both.
    #[n(3)]
    KeeperAndPrf,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Keeper, Self::Prf, Self::KeeperAndPrf];

    /// The name in texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Prf => "prf",
            Self::KeeperAndPrf => "keeper+prf",
        }
    }

    /// Whether a keeper is needed.
    #[must_use]
    pub const fn has_keeper(self) -> bool {
        matches!(self, Self::Keeper | Self::KeeperAndPrf)
    }

    /// Whether the passkey's own secret is needed.
    #[must_use]
    pub const fn has_prf(self) -> bool {
        matches!(self, Self::Prf | Self::KeeperAndPrf)
    }

    const fn parts(self) -> u8 {
        self.has_keeper() as u8 + self.has_prf() as u8
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(UnknownName)
    }
}

/// Whose backup a stanza belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Context {
    /// The installation.
    #[n(1)]
    pub deployment: DeploymentId,
    /// The end user.
    #[n(2)]
    pub client: ClientId,
    /// The backup.
    #[n(3)]
    pub backup: BackupId,
}

/// What a release is for. The passkey signs it along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Op {
    /// The first opening of a new backup, before it counts (DECISIONS.md D32).
    #[n(1)]
    Backup,
    /// A recovery.
    #[n(2)]
    Recover,
    /// A drill.
    #[n(3)]
    Verify,
}

impl Op {
    /// The one byte that stands for it in hashes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Backup => 1,
            Self::Recover => 2,
            Self::Verify => 3,
        }
    }
}

/// Why a stanza cannot be made, asked for or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a stanza, a request or an answer of this format.
    #[error("malformed")]
    Malformed,
    /// A version that this library does not know.
    #[error("unknown version {0}")]
    UnknownVersion(u16),
    /// Longer than allowed: fewer credentials, or shorter ones.
    #[error("too large")]
    TooLarge,
    /// What it is to be made from contradicts itself: a mode without its parts, no or repeated credentials, an
    /// impossible relying party or origin.
    #[error("unusable parameters: {0}")]
    Parameters(&'static str),
    /// The mode has no such part.
    #[error("a stanza of mode {0} has no such part")]
    NoSuchPart(Mode),
    /// A part that the mode needs was not given.
    #[error("a part that mode {0} needs is missing")]
    MissingPart(Mode),
    /// A PRF output that is not 32 bytes, or all zero. Nothing is ever sealed under it.
    #[error("unusable PRF output")]
    UnusablePrf,
    /// No such credential in the stanza.
    #[error("not a credential of this stanza")]
    UnknownCredential,
    /// Of another backup.
    #[error("of another backup")]
    OtherContext,
    /// Sealed to another key, or changed.
    #[error("does not open")]
    DoesNotOpen,
    /// The keeper refused.
    #[error("the keeper refused: {0}")]
    Refused(Refusal),
    /// Not written by the keeper that the request was sealed to.
    #[error("not an answer of the pinned keeper")]
    ForgedAnswer,
    /// The pinned keeper's key is unusable.
    #[error("unusable public key of the keeper")]
    BadKeeperKey,
}

impl Error {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::UnknownVersion(_) => "UNKNOWN_VERSION",
            Self::TooLarge => "TOO_LARGE",
            Self::Parameters(_) => "BAD_PARAMETERS",
            Self::NoSuchPart(_) => "NO_SUCH_PART",
            Self::MissingPart(_) => "MISSING_PART",
            Self::UnusablePrf => "UNUSABLE_PRF",
            Self::UnknownCredential => "UNKNOWN_CREDENTIAL",
            Self::OtherContext => "OTHER_CONTEXT",
            Self::DoesNotOpen => "DOES_NOT_OPEN",
            Self::Refused(refusal) => refusal.code(),
            Self::ForgedAnswer => "FORGED_ANSWER",
            Self::BadKeeperKey => "BAD_KEEPER_KEY",
        }
    }
}

impl From<hpke::Error> for Error {
    fn from(error: hpke::Error) -> Self {
        match error {
            hpke::Error::BadPublicKey => Self::BadKeeperKey,
            hpke::Error::TooLarge => Self::TooLarge,
            hpke::Error::UnknownVersion(version) => Self::UnknownVersion(version.into()),
            hpke::Error::TooShort => Self::Malformed,
            hpke::Error::Refused => Self::DoesNotOpen,
        }
    }
}

impl From<all_of::Error> for Error {
    fn from(error: all_of::Error) -> Self {
        match error {
            all_of::Error::UnknownVersion(version) => Self::UnknownVersion(version),
            all_of::Error::Malformed => Self::Malformed,
            all_of::Error::NotFound => Self::DoesNotOpen,
        }
    }
}
