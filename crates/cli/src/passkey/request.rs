//! What the command line tells the page, and what the page answers (docs/passkeys.md, "The bridge").
//!
//! ```text
//! fragment   = base64url(JSON)                                     in the page's URL behind `#`: no server sees it
//! salt       = SHA-256(fragment)
//! shared     = ECDH P-256 of the page's one-time key with the request's one-time key
//! key        = HKDF-SHA-256(shared, salt, "halfkey/passkey-bridge/v1" ‖ page's public key), 32 bytes
//! sealed     = page's public key (65 bytes, uncompressed) ‖ AES-256-GCM(key, nonce 0, JSON)
//! ```
//!
//! The page sends `sealed` over loopback. Whoever else listens there, or reads what passes, learns nothing: neither the
//! assertion nor the PRF output. The salt makes it the answer to this very request. All parts are WebCrypto's on one
//! side and AWS-LC's on the other.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    digest::{SHA256, digest},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    rand::SystemRandom,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use halfkey_client::host::{
    CredentialRef, PasskeyCreate, PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot, PrfOutput,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize, Zeroizing};

const TAG: &[u8] = b"halfkey/passkey-bridge/v1";
const POINT: usize = 65;

/// A wish for the page.
pub(super) enum Wish {
    Create(PasskeyCreate),
    Get(PasskeyGet),
}

/// What came back.
pub(super) enum Answer {
    Created(PasskeyCreated),
    Got(PasskeyGot),
}

/// One request that waits for its answer.
pub(super) struct Pending {
    /// In the URL, and back in the answer: who has not seen the URL cannot answer.
    pub(super) state: String,
    pub(super) fragment: String,
    key: EphemeralPrivateKey,
    salt: [u8; 32],
    creates: bool,
}

impl Pending {
    /// A fresh state and a fresh key for `wish`.
    pub(super) fn new(wish: &Wish, wallet: &str, port: u16) -> Result<Self, PasskeyError> {
        let failed = |_| PasskeyError::Failed;
        let random = SystemRandom::new();
        let key = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(failed)?;
        let public = key.compute_public_key().map_err(failed)?;
        let state = random_text()?;
        let mut request = match wish {
            Wish::Create(wish) => json!({
                "op": "create",
                "rpId": wish.rp_id,
                "rpName": wish.rp_name,
                "userHandle": base64url(&wish.user_handle),
                "userName": wish.user_name,
                "challenge": base64url(&wish.challenge),
                "credentials": credentials(&wish.exclude),
                "prf": wish.prf.as_ref().map(|input| base64url(input)),
            }),
            Wish::Get(wish) => json!({
                "op": "get",
                "rpId": wish.rp_id,
                "challenge": base64url(&wish.challenge),
                "credentials": credentials(&wish.allow),
                "prf": wish.prf.as_ref().map(|input| base64url(input)),
            }),
        };
        request["v"] = json!(1);
        request["port"] = json!(port);
        request["state"] = json!(state);
        request["key"] = json!(base64url(public.as_ref()));
        request["wallet"] = json!(wallet);
        let fragment = base64url(request.to_string().as_bytes());
        let salt = sha256(fragment.as_bytes());
        Ok(Self { state, fragment, key, salt, creates: matches!(wish, Wish::Create(_)) })
    }

    /// Six digits that the page shows too.
    pub(super) fn code(&self) -> String {
        let [a, b, c, d, ..] = self.salt;
        let number = u32::from_be_bytes([a, b, c, d]) % 1_000_000;
        format!("{:03} {:03}", number / 1000, number % 1000)
    }

    /// Opens what the page sealed.
    pub(super) fn open(self, sealed: &str) -> Result<Answer, PasskeyError> {
        let creates = self.creates;
        let plain = self.unseal(sealed).ok_or(PasskeyError::Failed)?;
        read(&plain, creates)
    }

    fn unseal(self, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let message = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (theirs, ciphertext) = message.split_at_checked(POINT)?;
        let info = [TAG, theirs];
        let derive = |shared: &[u8]| -> Result<LessSafeKey, Unspecified> {
            let prk = Salt::new(HKDF_SHA256, &self.salt).extract(shared);
            Ok(LessSafeKey::new(UnboundKey::from(prk.expand(&info, &AES_256_GCM)?)))
        };
        let theirs = UnparsedPublicKey::new(&ECDH_P256, theirs);
        let key = agree_ephemeral(self.key, theirs, Unspecified, derive).ok()?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        // Each key opens one message, so its nonce is zero.
        let length = key.open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut plain).ok()?.len();
        plain[length..].zeroize();
        plain.truncate(length);
        Some(plain)
    }
}

/// 32 fresh random bytes, as text.
pub(super) fn random_text() -> Result<String, PasskeyError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| PasskeyError::Failed)?;
    Ok(base64url(&bytes))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn credentials(list: &[CredentialRef]) -> Value {
    list.iter().map(|one| json!({ "id": base64url(&one.id), "transports": one.transports })).collect()
}

/// Bytes as base64url in the page's JSON; wiped.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Piece(Zeroizing<Vec<u8>>);

impl TryFrom<String> for Piece {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let text = Zeroizing::new(text);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.as_bytes()).map_err(|_| "not base64url")?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl Piece {
    fn take(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }

    fn prf(self) -> PrfOutput {
        PrfOutput::new(self.0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreatedPieces {
    credential_id: Piece,
    attestation_object: Piece,
    client_data_json: Piece,
    transports: Vec<String>,
    prf_enabled: bool,
    prf: Option<Piece>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GotPieces {
    credential_id: Piece,
    authenticator_data: Piece,
    client_data_json: Piece,
    signature: Piece,
    user_handle: Option<Piece>,
    prf: Option<Piece>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    error: Reason,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Reason {
    Cancelled,
    NotAvailable,
    NoPasskey,
    AlreadyRegistered,
    PrfUnsupported,
}

fn read(plain: &[u8], creates: bool) -> Result<Answer, PasskeyError> {
    if let Ok(Refused { error }) = serde_json::from_slice(plain) {
        return Err(match error {
            Reason::Cancelled => PasskeyError::Cancelled,
            Reason::NotAvailable => PasskeyError::NotAvailable,
            Reason::NoPasskey => PasskeyError::NoPasskey,
            Reason::AlreadyRegistered => PasskeyError::AlreadyRegistered,
            Reason::PrfUnsupported => PasskeyError::PrfUnsupported,
        });
    }
    if creates {
        let pieces: CreatedPieces = serde_json::from_slice(plain).map_err(|_| PasskeyError::Failed)?;
        return Ok(Answer::Created(PasskeyCreated {
            credential_id: pieces.credential_id.take(),
            attestation_object: pieces.attestation_object.take(),
            client_data_json: pieces.client_data_json.take(),
            transports: pieces.transports,
            prf_enabled: pieces.prf_enabled,
            prf: pieces.prf.map(Piece::prf),
        }));
    }
    let pieces: GotPieces = serde_json::from_slice(plain).map_err(|_| PasskeyError::Failed)?;
    Ok(Answer::Got(PasskeyGot {
        credential_id: pieces.credential_id.take(),
        authenticator_data: pieces.authenticator_data.take(),
        client_data_json: pieces.client_data_json.take(),
        signature: pieces.signature.take(),
        user_handle: pieces.user_handle.map(Piece::take),
        prf: pieces.prf.map(Piece::prf),
    }))
}

/// What the page does, in Rust, for the tests of this module.
#[cfg(test)]
pub(super) fn seal_as_page(fragment: &str, plain: &str) -> (String, String) {
    let request: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(fragment).unwrap()).unwrap();
    let theirs = BASE64_URL_SAFE_NO_PAD.decode(request["key"].as_str().unwrap()).unwrap();
    let ours = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
    let public = ours.compute_public_key().unwrap();
    let salt = sha256(fragment.as_bytes());
    let info = [TAG, public.as_ref()];
    let key = agree_ephemeral(ours, UnparsedPublicKey::new(&ECDH_P256, theirs), Unspecified, |shared| {
        let prk = Salt::new(HKDF_SHA256, &salt).extract(shared);
        Ok(LessSafeKey::new(UnboundKey::from(prk.expand(&info, &AES_256_GCM)?)))
    });
    let mut bytes = plain.as_bytes().to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    key.unwrap().seal_in_place_append_tag(nonce, Aad::empty(), &mut bytes).unwrap();
    let sealed = base64url(&[public.as_ref(), &bytes].concat());
    (request["state"].as_str().unwrap().to_owned(), sealed)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
