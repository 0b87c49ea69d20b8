//! What a refused request is told: a stable id, a sentence, and figures. Never contents.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use halfkey_api::error::{ErrorBody, ErrorContent, ErrorDetails, ErrorId};
use halfkey_envelope::wallet::Curve;
use halfkey_protocol::{
    error::{Error as ProtocolError, Fault as Whose},
    lifecycle::Refusal,
};

use crate::{
    error::Error,
    kms::{KmsError, VaultError},
    store::{Error as StoreError, What},
};

const RETRY_AFTER_MS: u64 = 1_000;

/// A refusal on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable id, and with it the status.
    pub id: ErrorId,
    /// For people.
    pub message: &'static str,
    /// For programs.
    pub details: Option<ErrorDetails>,
}

impl Fault {
    /// A refusal without figures.
    #[must_use]
    pub const fn new(id: ErrorId, message: &'static str) -> Self {
        Self { id, message, details: None }
    }

    /// The body or a parameter does not parse or validate.
    #[must_use]
    pub const fn invalid(message: &'static str) -> Self {
        Self::new(ErrorId::InvalidRequest, message)
    }

    /// A field of the body does not validate.
    #[must_use]
    pub fn field(name: &str, message: &'static str) -> Self {
        let details = ErrorDetails { field: Some(name.to_owned()), ..ErrorDetails::default() };
        Self { details: Some(details), ..Self::invalid(message) }
    }

    /// Not there, or not the caller's: nobody can tell which.
    #[must_use]
    pub const fn not_found() -> Self {
        Self::new(ErrorId::NotFound, "not found")
    }

    /// A fault of this server. The cause goes to the log, under the request's trace id.
    #[must_use]
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal fault");
        Self::new(ErrorId::Internal, "a fault of the server")
    }

    /// A component does not answer; nothing was lost.
    #[must_use]
    pub fn unavailable(message: &'static str, retry_after_ms: u64) -> Self {
        Self::new(ErrorId::Unavailable, message).retry_after(retry_after_ms)
    }

    /// Too many requests.
    #[must_use]
    pub fn rate_limited(retry_after_ms: u64) -> Self {
        Self::new(ErrorId::RateLimited, "too many requests").retry_after(retry_after_ms)
    }

    /// The pair is banned.
    #[must_use]
    pub const fn banned() -> Self {
        Self::new(ErrorId::PairBanned, "the share pair is banned; recover, or ask the operator")
    }

    /// Another operation on this wallet is running.
    #[must_use]
    pub fn in_progress(retry_after_ms: u64) -> Self {
        Self::new(ErrorId::OperationInProgress, "another operation on this wallet is running")
            .retry_after(retry_after_ms)
    }

    /// The same with a time after which to try again.
    #[must_use]
    pub fn retry_after(mut self, retry_after_ms: u64) -> Self {
        self.details.get_or_insert_default().retry_after_ms = Some(retry_after_ms);
        self
    }

    /// The same, of these curves.
    #[must_use]
    pub fn of_curves(mut self, curves: Vec<Curve>) -> Self {
        self.details.get_or_insert_default().curves = curves;
        self
    }

    /// The same with the server's time: the caller's clock is wrong.
    #[must_use]
    pub fn server_time(mut self, now_ms: u64) -> Self {
        self.details.get_or_insert_default().server_time_ms = Some(now_ms);
        self
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unknown(What::Credential) => Self::new(ErrorId::Unauthenticated, "no or unknown credentials"),
            StoreError::Expired(What::Credential) => Self::new(ErrorId::SessionExpired, "the session has expired"),
            StoreError::Unknown(What::Challenge) | StoreError::Expired(What::Challenge) => {
                Self::new(ErrorId::ProofInvalid, "the challenge is unknown, used or expired")
            }
            StoreError::Unknown(What::Session) | StoreError::Expired(What::Session) => {
                Self::new(ErrorId::CeremonyMismatch, "no such session; begin again at step 1")
            }
            StoreError::Unknown(_) => Self::not_found(),
            StoreError::Exists(What::Device) => {
                Self::new(ErrorId::DeviceAlreadyEnrolled, "later devices come through a recovery")
            }
            StoreError::Exists(What::Wallet) => Self::new(ErrorId::WalletAlreadyExists, "the client has its wallets"),
            StoreError::Exists(What::Envelope) | StoreError::Mismatch(What::Envelope) => {
                Self::new(ErrorId::EnvelopeMismatch, "another envelope is stored")
            }
            StoreError::Mismatch(_) => Self::new(ErrorId::CeremonyMismatch, "it does not fit what is stored"),
            StoreError::Exists(_) | StoreError::Expired(_) | StoreError::State(_) => {
                Self::new(ErrorId::ShareState, "it is not in a state that allows this")
            }
            StoreError::OperationInProgress { .. } => Self::in_progress(RETRY_AFTER_MS),
            StoreError::Conflict => Self::in_progress(RETRY_AFTER_MS),
            StoreError::Busy { retry_after_ms } => Self::rate_limited(retry_after_ms),
            StoreError::EjectClosed => {
                Self::new(ErrorId::EjectNotEnabled, "the custodian has opened no window for an eject")
            }
            StoreError::Refused(refusal) => refusal.into(),
            StoreError::Shredded(_) => Self::new(ErrorId::ShareState, "the half was destroyed"),
            StoreError::Unavailable(cause) => {
                tracing::warn!(%cause, "the database does not answer");
                Self::unavailable("the database does not answer; nothing was lost", RETRY_AFTER_MS)
            }
            error => Self::internal(&error),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OperationInProgress { .. } => Self::in_progress(RETRY_AFTER_MS),
            Refusal::Banned => Self::banned(),
            Refusal::Frozen => Self::new(ErrorId::PairFrozen, "the share pair is frozen"),
            Refusal::Ejecting => {
                Self::new(ErrorId::WalletEjecting, "the wallet is being ejected; only that may be repeated")
            }
            Refusal::Ejected => Self::new(ErrorId::WalletEjected, "the wallet was ejected"),
            Refusal::NotBanned => Self::new(ErrorId::NotBanned, "the share pair is not banned"),
            Refusal::ReviewNeeded => Self::new(ErrorId::ReviewNeeded, "the operator has to review the ban first"),
            Refusal::LastPair | Refusal::LastBackup | Refusal::LastDevice => {
                Self::new(ErrorId::LastProtection, "it would leave the wallet without protection")
            }
            Refusal::Revoked => Self::new(ErrorId::DeviceRevoked, "the device was revoked"),
            Refusal::EvidenceConflict => Self::new(ErrorId::EnvelopeMismatch, "another envelope is stored"),
            _ => Self::new(ErrorId::ShareState, "the share pair is not in a state that allows this"),
        }
    }
}

impl From<KmsError> for Fault {
    fn from(error: KmsError) -> Self {
        match error {
            KmsError::Unavailable { retry_after_ms } => {
                Self::unavailable("the key service does not answer; nothing was lost", retry_after_ms)
            }
            error => Self::internal(&error),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Kms(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<VaultError> for Fault {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error.into(),
            VaultError::Kms(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        tracing::info!(code = error.code(), "a ceremony stopped");
        match error {
            ProtocolError::Malformed => Self::invalid("a ceremony message does not parse"),
            ProtocolError::UnknownVersion | ProtocolError::LibraryMismatch => {
                Self::new(ErrorId::UnsupportedVersion, "another version of the ceremony")
            }
            ProtocolError::InvalidProof | ProtocolError::InvalidIdentitySignature => {
                Self::new(ErrorId::ProofInvalid, "a proof does not verify")
            }
            ProtocolError::NeedsRekey => Self::new(ErrorId::ShareState, "the server's half needs fresh state; recover"),
            error if error.is_ban() => Self::banned(),
            error if error.fault() == Whose::Theirs => {
                Self::new(ErrorId::CeremonyMismatch, "a ceremony message does not fit its session")
            }
            error => Self::internal(&error),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.id.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let wait = self.details.as_ref().and_then(|details| details.retry_after_ms);
        tracing::debug!(id = self.id.as_str(), "refused");
        let content = ErrorContent { id: self.id, message: self.message.to_owned(), details: self.details };
        let mut response = (status, Json(ErrorBody { error: content })).into_response();
        if let Some(wait) = wait {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.div_ceil(1000).max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_the_body_and_rounded_up_in_the_header() {
        let response = Fault::rate_limited(1_001).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
