//! Who calls: bearer credentials, and the device key's signature over every changing call (DECISIONS.md D4).

use halfkey_envelope::hash::{h, sha256};

/// The calling device's Ed25519 public key, 64 hex digits.
pub const DEVICE_KEY_HEADER: &str = "x-halfkey-device-key";
/// Milliseconds since the Unix epoch, decimal; refused when more than [`MAX_SKEW_MS`] off.
pub const TIMESTAMP_HEADER: &str = "x-halfkey-timestamp";
/// 32 fresh random bytes, hex; each is accepted once.
pub const NONCE_HEADER: &str = "x-halfkey-nonce";
/// The Ed25519 signature over [`request_digest`], 128 hex digits.
pub const SIGNATURE_HEADER: &str = "x-halfkey-signature";
/// On every answer.
pub const TRACE_HEADER: &str = "x-trace-id";
/// How far a request's timestamp may be off, in milliseconds.
pub const MAX_SKEW_MS: u64 = 5 * 60 * 1000;

/// What a device signs for a changing call: method, path with query, body, time, nonce and deployment.
#[must_use]
pub fn request_digest(
    deployment: &[u8; 16],
    method: &str,
    path_and_query: &str,
    body: &[u8],
    timestamp_ms: u64,
    nonce: &[u8; 32],
) -> [u8; 32] {
    h(
        "halfkey/request/v1/sign",
        &[deployment, method.as_bytes(), path_and_query.as_bytes(), &sha256(body), &timestamp_ms.to_be_bytes(), nonce],
    )
}

/// The first characters of a credential tell its kind; the rest is 32 random bytes, base64url.
pub mod prefix {
    /// Custodian API key.
    pub const CUSTODIAN_KEY: &str = "hk_custodian_";
    /// Client API key (tests and development).
    pub const CLIENT_KEY: &str = "hk_client_";
    /// Client session token: 24 h sliding, 7 days at most.
    pub const SESSION_TOKEN: &str = "hk_session_";
}
