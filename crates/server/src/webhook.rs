//! Messages to a custodian's backend or the operator's, signed as Standard Webhooks 1.0.0 says.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The longest answer that is read.
const MAX_ANSWER: usize = 16 * 1024;

/// What both sides of a webhook know: 24 to 64 bytes.
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

/// Not `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is whsec_ and the base64 of 24 to 64 bytes")]
pub struct NotASecret;

impl WebhookSecret {
    /// From `whsec_…`.
    ///
    /// # Errors
    /// [`NotASecret`].
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let encoded = text.trim().strip_prefix("whsec_").ok_or(NotASecret)?;
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| NotASecret)?);
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(NotASecret) }
    }

    /// `v1,` and the base64 of HMAC-SHA-256 over id, time in seconds and body.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// No connection, no answer in time, or one that broke off.
    #[error("no answer")]
    Away(#[from] reqwest::Error),
    /// Another status than 2xx; a redirect is one.
    #[error("status {0}")]
    Status(u16),
    /// More than is read.
    #[error("too long an answer")]
    TooLong,
}

/// Sends signed messages to one address.
pub(crate) struct Sender {
    url: String,
    client: reqwest::Client,
}

impl Sender {
    /// `patience`: how long the other side may take, from the first byte to the last.
    pub(crate) fn new(url: String, patience: Duration) -> Result<Self, reqwest::Error> {
        // One provider for the whole process; a second call does nothing.
        let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(patience)
            .user_agent(concat!("halfkey/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { url, client })
    }

    /// Posts JSON and gives the body of a 2xx.
    pub(crate) async fn post(
        &self,
        secret: &WebhookSecret,
        id: &str,
        now_ms: u64,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Unanswered> {
        let seconds = now_ms / 1000;
        let signature = secret.sign(id, seconds, &body);
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body);
        let mut answer = request.send().await?;
        if !answer.status().is_success() {
            return Err(Unanswered::Status(answer.status().as_u16()));
        }
        let mut read = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if read.len() + chunk.len() > MAX_ANSWER {
                return Err(Unanswered::TooLong);
            }
            read.extend_from_slice(&chunk);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The vector that Standard Webhooks publishes with its libraries.
    #[test]
    fn signs_as_the_standard_does() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{secret:?}"), "WebhookSecret");
    }

    #[test]
    fn a_secret_has_24_to_64_bytes() {
        for (bytes, good) in [(23, false), (24, true), (64, true), (65, false)] {
            let text = format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
            assert_eq!(WebhookSecret::parse(&text).is_ok(), good, "{bytes}");
        }
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!"] {
            assert_eq!(WebhookSecret::parse(text).err(), Some(NotASecret), "{text}");
        }
    }
}
