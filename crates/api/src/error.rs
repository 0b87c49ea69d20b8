//! Error ids: stable, the same in every language, with the HTTP status each travels under.

use halfkey_envelope::wallet::Curve;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! error_ids {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// What went wrong, stable across versions and languages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        // The description cannot read a literal that a macro passes to serde; the names are the same.
        #[schema(rename_all = "SCREAMING_SNAKE_CASE")]
        #[non_exhaustive]
        pub enum ErrorId {$(
            $(#[$doc])*
            #[serde(rename = $text)]
            $name,
        )*}

        impl ErrorId {
            /// Every id, for documents and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {$(Self::$name => $text,)*}
            }

            /// The HTTP status it travels under.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {$(Self::$name => $status,)*}
            }
        }
    };
}

error_ids! {
    /// The body or a parameter does not parse or validate.
    InvalidRequest = "INVALID_REQUEST", 400;
    /// A version that this server does not know.
    UnsupportedVersion = "UNSUPPORTED_VERSION", 400;
    /// The curve or chain payload cannot be decoded.
    InvalidPayload = "INVALID_PAYLOAD", 400;
    /// A ceremony message does not fit its session: replayed, reordered, from another wallet, or altered.
    CeremonyMismatch = "CEREMONY_MISMATCH", 409;
    /// A proof or acknowledgement does not verify.
    ProofInvalid = "PROOF_INVALID", 400;
    /// The envelope's digest is not the one stored.
    EnvelopeMismatch = "ENVELOPE_MISMATCH", 409;
    /// No or unknown credentials.
    Unauthenticated = "UNAUTHENTICATED", 401;
    /// The session token has expired: sign in again.
    SessionExpired = "SESSION_EXPIRED", 401;
    /// The device signature is missing, wrong, stale or replayed.
    DeviceSignatureInvalid = "DEVICE_SIGNATURE_INVALID", 401;
    /// The calling device was revoked.
    DeviceRevoked = "DEVICE_REVOKED", 403;
    /// The credential may not do this.
    Forbidden = "FORBIDDEN", 403;
    /// Signing a bare digest is off in this deployment.
    DigestSigningDisabled = "DIGEST_SIGNING_DISABLED", 403;
    /// The policy denied the recovery.
    RecoveryDenied = "RECOVERY_DENIED", 403;
    /// The custodian has opened no window for an eject, or it is closed.
    EjectNotEnabled = "EJECT_NOT_ENABLED", 403;
    /// The recovery waits; see `waitingUntil`.
    RecoveryWaiting = "RECOVERY_WAITING", 409;
    /// Not there, or not the caller's.
    NotFound = "NOT_FOUND", 404;
    /// No committed backup by this method.
    NotBackedUp = "NOT_BACKED_UP", 404;
    /// Method or media type not supported at this path.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405;
    /// The client has its wallets already.
    WalletAlreadyExists = "WALLET_ALREADY_EXISTS", 409;
    /// The client already has a device: later ones come through a recovery.
    DeviceAlreadyEnrolled = "DEVICE_ALREADY_ENROLLED", 409;
    /// Another operation on this wallet is running.
    OperationInProgress = "OPERATION_IN_PROGRESS", 409;
    /// The share pair is not in a state that allows this.
    ShareState = "SHARE_STATE", 409;
    /// The pair is banned after the peer misbehaved; recover, or ask the operator.
    PairBanned = "PAIR_BANNED", 409;
    /// The pair is frozen after a cancelled recovery.
    PairFrozen = "PAIR_FROZEN", 409;
    /// The wallet is being ejected: only that eject may be repeated.
    WalletEjecting = "WALLET_EJECTING", 409;
    /// The wallet was ejected: its owner has the keys.
    WalletEjected = "WALLET_EJECTED", 409;
    /// The pair is not banned: there is nothing to heal.
    NotBanned = "NOT_BANNED", 409;
    /// The pair is banned, and the operator has not let it heal.
    ReviewNeeded = "REVIEW_NEEDED", 409;
    /// It would leave the wallet without an active pair or a proven backup.
    LastProtection = "LAST_PROTECTION", 409;
    /// Wrong password, PIN or code; `details.remaining` guesses are left.
    WrongSecret = "WRONG_SECRET", 403;
    /// Too early for another guess; `details.retryAfterMs`.
    GuessTooEarly = "GUESS_TOO_EARLY", 429;
    /// No guesses are left at the password door; that backup is gone.
    LockedOut = "LOCKED_OUT", 423;
    /// The custodian's half of this backup does not open, or is not the one of its record: the backup cannot be used.
    /// `details.curves` names the curves.
    CustodianShareBroken = "CUSTODIAN_SHARE_BROKEN", 409;
    /// A header says the body is a type this path does not take.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415;
    /// The body is larger than this path takes.
    BodyTooLarge = "BODY_TOO_LARGE", 413;
    /// Too many requests; `details.retryAfterMs`.
    RateLimited = "RATE_LIMITED", 429;
    /// A component (key management, keeper, database) does not answer; nothing was lost.
    Unavailable = "UNAVAILABLE", 503;
    /// A fault of the server.
    Internal = "INTERNAL", 500;
}

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorContent,
}

/// The id, a sentence for people, and figures for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorContent {
    /// The stable id.
    pub id: ErrorId,
    /// For people; may change.
    pub message: String,
    /// Figures that the caller may act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ErrorDetails>,
}

/// Figures that go with some ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorDetails {
    /// Guesses left at the password door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u32>,
    /// How long to wait, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The field that does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The server's time in milliseconds, where the caller's clock is too far from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_time_ms: Option<u64>,
    /// The curves that are meant, where not all of them are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub curves: Vec<Curve>,
}

impl ErrorBody {
    /// An error without figures.
    pub fn new(id: ErrorId, message: impl Into<String>) -> Self {
        Self { error: ErrorContent { id, message: message.into(), details: None } }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_are_unique_and_round_trip() {
        let mut seen = std::collections::BTreeSet::new();
        for id in ErrorId::ALL {
            assert!(seen.insert(id.as_str()), "{} twice", id.as_str());
            let json = serde_json::to_string(id).unwrap();
            assert_eq!(json, format!("\"{}\"", id.as_str()));
            assert_eq!(serde_json::from_str::<ErrorId>(&json).unwrap(), *id);
            assert!((400..=599).contains(&id.status()));
        }
    }
}
