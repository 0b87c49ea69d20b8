//! HTTP calls: the bearer token, the device's signature, and the server's errors as advice.

use halfkey_api::{
    auth::{DEVICE_KEY_HEADER, NONCE_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, request_digest},
    error::{ErrorDetails, ErrorId},
};
use halfkey_envelope::entropy::random;
use halfkey_protocol::{DeviceKey, Signs};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    host::{Request, Response},
    port::Port,
};

const JSON: &str = "application/json";

/// One call of the API.
pub(crate) struct Call<'a> {
    port: &'a Port,
    key: Option<&'a DeviceKey>,
    method: &'static str,
    path: String,
    media_type: &'static str,
    body: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(crate) const fn new(port: &'a Port, method: &'static str, path: String) -> Self {
        Self { port, key: None, method, path, media_type: JSON, body: Vec::new() }
    }

    pub(crate) fn get(port: &'a Port, path: &str) -> Self {
        Self::new(port, "GET", path.to_owned())
    }

    /// Signed by this device key.
    pub(crate) const fn signed(mut self, key: &'a DeviceKey) -> Self {
        self.key = Some(key);
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        self.body = serde_json::to_vec(body).map_err(|_| Error::Internal)?;
        Ok(self)
    }

    pub(crate) fn bytes(mut self, media_type: &'static str, body: Vec<u8>) -> Self {
        (self.media_type, self.body) = (media_type, body);
        self
    }

    /// Sends, and reads the answer as JSON.
    pub(crate) async fn fetch<T: DeserializeOwned>(self) -> Result<T> {
        let answer = self.send().await?;
        serde_json::from_slice(&answer).map_err(|_| Error::PeerMisbehaved { what: "answer" })
    }

    /// Sends, and gives the answer's bytes.
    pub(crate) async fn send(self) -> Result<Vec<u8>> {
        accept(self.exchange().await?)
    }

    /// As [`Self::send`]; `None` if the server refused with this `id`.
    pub(crate) async fn send_unless(self, id: ErrorId) -> Result<Option<Vec<u8>>> {
        let response = self.exchange().await?;
        if refused_with(&response).is_some_and(|refused| refused == id.as_str()) {
            return Ok(None);
        }
        accept(response).map(Some)
    }

    /// A token that the server does not know any more is replaced once: nothing was done under it.
    async fn exchange(self) -> Result<Response> {
        let refused = self.port.token().await?;
        let response = self.attempt(&refused).await?;
        if !wants_another_token(&response) {
            return Ok(response);
        }
        self.port.token_invalidated().await?;
        let token = self.port.token().await?;
        if token == refused {
            return Err(Error::SignInAgain);
        }
        self.attempt(&token).await
    }

    async fn attempt(&self, token: &Zeroizing<String>) -> Result<Response> {
        let mut headers = vec![
            ("authorization".to_owned(), format!("Bearer {}", token.as_str())),
            ("accept".to_owned(), self.media_type.to_owned()),
        ];
        if !self.body.is_empty() {
            headers.push(("content-type".to_owned(), self.media_type.to_owned()));
        }
        if let Some(key) = self.key {
            self.sign(key, &mut headers).await?;
        }
        let url = format!("{}{}", self.port.setting.deployment.server_url(), self.path);
        self.port.http(Request { method: self.method, url, headers, body: self.body.clone() }).await
    }

    async fn sign(&self, key: &DeviceKey, headers: &mut Vec<(String, String)>) -> Result<()> {
        let now_ms = self.port.now().await?;
        let nonce = random::<32>(&mut self.port.entropy());
        let deployment = self.port.setting.deployment.id();
        let digest = request_digest(deployment.as_bytes(), self.method, &self.path, &self.body, now_ms, &nonce);
        let fields = [
            (DEVICE_KEY_HEADER, hex::encode(key.public().to_bytes())),
            (TIMESTAMP_HEADER, now_ms.to_string()),
            (NONCE_HEADER, hex::encode(nonce.as_ref())),
            (SIGNATURE_HEADER, hex::encode(key.sign_digest(&digest))),
        ];
        headers.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        Ok(())
    }
}

fn accept(response: Response) -> Result<Vec<u8>> {
    match response.status {
        200..=299 => Ok(response.body),
        status => Err(refusal(status, &response.body)),
    }
}

/// The id in the body of a refusal.
fn refused_with(response: &Response) -> Option<String> {
    let refused = !matches!(response.status, 200..=299);
    let refusal = refused.then(|| serde_json::from_slice::<Refusal>(&response.body).ok())??;
    Some(refusal.error.id)
}

fn wants_another_token(response: &Response) -> bool {
    let known = refused_with(response).and_then(|id| ErrorId::ALL.iter().find(|known| known.as_str() == id));
    known.is_some_and(|id| matches!(advice(*id, ErrorDetails::default()), Error::SignInAgain))
}

/// An error body as any version of the server may write it.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalContent,
}

#[derive(Deserialize)]
struct RefusalContent {
    id: String,
    #[serde(default)]
    details: Option<ErrorDetails>,
}

fn refusal(status: u16, body: &[u8]) -> Error {
    let Ok(Refusal { error: RefusalContent { id, details } }) = serde_json::from_slice(body) else {
        // Not our server: a proxy on the way, or a load balancer.
        return if status >= 500 { Error::Retry { after: None } } else { Error::PeerMisbehaved { what: "answer" } };
    };
    match ErrorId::ALL.iter().find(|known| known.as_str() == id) {
        Some(known) => advice(*known, details.unwrap_or_default()),
        None if status >= 500 => Error::Retry { after: None },
        None => Error::Refused { id },
    }
}

fn advice(id: ErrorId, details: ErrorDetails) -> Error {
    let after = details.retry_after_ms;
    if let (ErrorId::DeviceSignatureInvalid, Some(server_time)) = (id, details.server_time_ms) {
        return Error::ClockSkew { server_time };
    }
    match id {
        ErrorId::Unauthenticated | ErrorId::SessionExpired => Error::SignInAgain,
        ErrorId::DeviceRevoked => Error::DeviceRevoked,
        ErrorId::UnsupportedVersion => Error::UpgradeRequired,
        ErrorId::InvalidPayload | ErrorId::DigestSigningDisabled => Error::InvalidPayload,
        ErrorId::RecoveryDenied => Error::Denied,
        ErrorId::NotBackedUp => Error::NotBackedUp,
        ErrorId::WalletAlreadyExists => Error::WalletAlreadyExists,
        ErrorId::OperationInProgress => Error::OperationInProgress,
        ErrorId::PairBanned => Error::Banned,
        ErrorId::NotBanned => Error::NotBanned,
        ErrorId::ReviewNeeded => Error::ReviewNeeded,
        ErrorId::PairFrozen => Error::Frozen,
        ErrorId::EjectNotEnabled => Error::EjectNotEnabled,
        ErrorId::WalletEjecting => Error::Ejecting,
        ErrorId::WalletEjected => Error::Ejected,
        ErrorId::LastProtection => Error::LastProtection,
        ErrorId::WrongSecret => Error::WrongSecret { remaining: details.remaining, retry_after: after },
        ErrorId::LockedOut => Error::LockedOut,
        ErrorId::CustodianShareBroken => Error::CustodianShareBroken { curves: details.curves },
        ErrorId::RecoveryWaiting
        | ErrorId::CeremonyMismatch
        | ErrorId::GuessTooEarly
        | ErrorId::RateLimited
        | ErrorId::Unavailable
        | ErrorId::Internal => Error::Retry { after },
        other => Error::Refused { id: other.as_str().to_owned() },
    }
}

/// Whether the server refused with this id.
pub(crate) fn is_refused(error: &Error, id: ErrorId) -> bool {
    matches!(error, Error::Refused { id: refused } if refused == id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(id: &str, details: &str) -> Vec<u8> {
        format!(r#"{{"error":{{"id":"{id}","message":"m"{details}}}}}"#).into_bytes()
    }

    #[test]
    fn every_error_id_becomes_advice_and_later_ones_are_kept() {
        for id in ErrorId::ALL {
            let error = refusal(id.status(), &body(id.as_str(), ""));
            assert!(!matches!(error, Error::Internal | Error::PeerMisbehaved { .. }), "{}: {error:?}", id.as_str());
        }
        assert_eq!(refusal(409, &body("NEW_IN_V9", "")), Error::Refused { id: "NEW_IN_V9".into() });
        assert_eq!(refusal(503, &body("NEW_IN_V9", "")), Error::Retry { after: None });
    }

    #[test]
    fn figures_reach_the_caller() {
        let details = r#","details":{"remaining":7,"retryAfterMs":60000}"#;
        let expected = Error::WrongSecret { remaining: Some(7), retry_after: Some(60_000) };
        assert_eq!(refusal(403, &body("WRONG_SECRET", details)), expected);
        assert_eq!(refusal(429, &body("RATE_LIMITED", details)), Error::Retry { after: Some(60_000) });
    }

    #[test]
    fn a_wrong_clock_is_told_apart_from_a_wrong_signature() {
        let details = r#","details":{"serverTimeMs":1700000000000}"#;
        let skew = refusal(401, &body("DEVICE_SIGNATURE_INVALID", details));
        assert_eq!(skew, Error::ClockSkew { server_time: 1_700_000_000_000 });
        let wrong = refusal(401, &body("DEVICE_SIGNATURE_INVALID", ""));
        assert_eq!(wrong, Error::Refused { id: "DEVICE_SIGNATURE_INVALID".into() });
    }

    #[test]
    fn what_no_server_of_ours_says_is_no_advice_of_ours() {
        assert_eq!(refusal(404, b"<html>"), Error::PeerMisbehaved { what: "answer" });
        assert_eq!(refusal(502, b"<html>"), Error::Retry { after: None });
    }
}
