//! The verification of `webauthn-rs-core`, and what our rule book has beyond it: it does not look at `crossOrigin`,
//! `topOrigin` and what follows the authenticator data, and compares origins as URLs instead of as text.

use std::time::Duration;

use halfkey_envelope::passkey::{Algorithm, Assertion, CredentialKey, Fault, Verifiable, base64url};
use serde_cbor_2::Value as Cbor;
use serde_json::{Value as Json, json};
use url::Url;
use webauthn_rs_core::{
    WebauthnCore,
    error::WebauthnError,
    proto::{
        AttestationFormat, AuthenticationState, AuthenticatorAssertionResponseRaw, COSEAlgorithm, COSEEC2Key, COSEKey,
        COSEKeyType, COSERSAKey, Credential, ECDSACurve, ParsedAttestation, PublicKeyCredential, RegisteredExtensions,
        UserVerificationPolicy,
    },
};

use super::{Expected, Verifier};

/// Length of the authenticator data without extensions.
const FIXED: usize = 37;
const FLAGS: usize = 32;
const ATTESTED: u8 = 1 << 6;
const EXTENSIONS: u8 = 1 << 7;

/// ES256 and RS256. The library has no EdDSA.
pub struct WebauthnRs;

impl Verifier for WebauthnRs {
    fn knows(&self, algorithm: Algorithm) -> bool {
        matches!(algorithm, Algorithm::Es256 | Algorithm::Rs256)
    }

    fn verify(&self, expected: &Expected<'_>, assertion: &Assertion) -> Result<(), Fault> {
        let origins: Result<Vec<Url>, _> = expected.origins.iter().map(|origin| Url::parse(origin)).collect();
        let core = WebauthnCore::new_unsafe_experts_only(
            "",
            expected.rp_id,
            origins.map_err(|_| Fault::WrongOrigin)?,
            Duration::ZERO,
            Some(false),
            Some(false),
        );
        let credential = credential(expected.credential)?;
        let answer = core.authenticate_single_credential(&response(assertion), &state(expected)?, &credential);
        answer.map_err(|error| fault(&error))?;
        check_client_data(expected, &assertion.client_data_json)?;
        check_authenticator_data(&assertion.authenticator_data)
    }
}

/// The library draws challenges itself; ours is computed, so the state is read from its stored form.
fn state(expected: &Expected<'_>) -> Result<AuthenticationState, Fault> {
    let state = json!({
        "credentials": [],
        "policy": UserVerificationPolicy::Required,
        "challenge": base64url(expected.challenge),
        "appid": null,
        "allow_backup_eligible_upgrade": false,
    });
    serde_json::from_value(state).map_err(|_| Fault::Malformed)
}

fn credential(known: &Verifiable) -> Result<Credential, Fault> {
    let (type_, key) = match &known.key {
        CredentialKey::Es256 { x, y } => {
            let point = COSEEC2Key { curve: ECDSACurve::SECP256R1, x: x.to_vec(), y: y.to_vec() };
            (COSEAlgorithm::ES256, COSEKeyType::EC_EC2(point))
        }
        CredentialKey::Rs256 { n, e } => (COSEAlgorithm::RS256, COSEKeyType::RSA(COSERSAKey { n: n.to_vec(), e: *e })),
        _ => return Err(Fault::UnsupportedKey),
    };
    Ok(Credential {
        cred_id: known.id.clone(),
        cred: COSEKey { type_, key },
        counter: 0,
        transports: None,
        user_verified: true,
        backup_eligible: known.backup_eligible.into(),
        backup_state: false,
        registration_policy: UserVerificationPolicy::Required,
        extensions: RegisteredExtensions::default(),
        attestation: ParsedAttestation::default(),
        attestation_format: AttestationFormat::None,
    })
}

fn response(assertion: &Assertion) -> PublicKeyCredential {
    PublicKeyCredential {
        id: base64url(&assertion.credential_id),
        raw_id: assertion.credential_id.clone(),
        response: AuthenticatorAssertionResponseRaw {
            authenticator_data: assertion.authenticator_data.clone(),
            client_data_json: assertion.client_data_json.clone(),
            signature: assertion.signature.clone(),
            user_handle: None,
        },
        extensions: Default::default(),
        type_: "public-key".to_owned(),
    }
}

const fn fault(error: &WebauthnError) -> Fault {
    match error {
        WebauthnError::InvalidClientDataType => Fault::WrongType,
        WebauthnError::MismatchedChallenge => Fault::WrongChallenge,
        WebauthnError::InvalidRPOrigin => Fault::WrongOrigin,
        WebauthnError::InvalidRPIDHash => Fault::WrongRpId,
        WebauthnError::UserNotPresent => Fault::UserNotPresent,
        WebauthnError::UserNotVerified => Fault::UserNotVerified,
        WebauthnError::CredentialBackupEligibilityInconsistent => Fault::BackupEligibilityChanged,
        WebauthnError::CredentialNotFound => Fault::UnknownCredential,
        WebauthnError::AuthenticationFailure | WebauthnError::SignatureInvalid => Fault::BadSignature,
        WebauthnError::EcdsaPointInvalid | WebauthnError::RsaParametersInvalid => Fault::UnsupportedKey,
        _ => Fault::Malformed,
    }
}

/// Texts exactly as expected, and no page around the one that asked.
fn check_client_data(expected: &Expected<'_>, json: &[u8]) -> Result<(), Fault> {
    let data: Json = serde_json::from_slice(json).map_err(|_| Fault::Malformed)?;
    let text = |name: &str| data.get(name).and_then(Json::as_str);
    if text("challenge") != Some(&base64url(expected.challenge)) {
        return Err(Fault::WrongChallenge);
    }
    if !expected.origins.iter().any(|origin| text("origin") == Some(origin)) {
        return Err(Fault::WrongOrigin);
    }
    match data.get("crossOrigin") {
        None | Some(Json::Bool(false)) => {}
        Some(Json::Bool(true)) => return Err(Fault::CrossOrigin),
        Some(_) => return Err(Fault::Malformed),
    }
    if data.get("topOrigin").is_some() { Err(Fault::CrossOrigin) } else { Ok(()) }
}

/// No attested credential, and nothing but one plain map of extensions, named by text, where the flags announce it. A
/// value that has another length when it is encoded again was not in the canonical form that authenticators must write.
fn check_authenticator_data(data: &[u8]) -> Result<(), Fault> {
    let flags = data.get(FLAGS).ok_or(Fault::Malformed)?;
    let extensions = data.get(FIXED..).ok_or(Fault::Malformed)?;
    let good = flags & ATTESTED == 0
        && if flags & EXTENSIONS == 0 { extensions.is_empty() } else { plain_map(extensions).unwrap_or(false) };
    if good { Ok(()) } else { Err(Fault::Malformed) }
}

fn plain_map(bytes: &[u8]) -> Option<bool> {
    let value: Cbor = serde_cbor_2::from_slice(bytes).ok()?;
    let again = serde_cbor_2::to_vec(&value).ok()?;
    let named = matches!(&value, Cbor::Map(entries) if entries.keys().all(|key| matches!(key, Cbor::Text(_))));
    Some(named && plain(&value) && again.len() == bytes.len())
}

fn plain(value: &Cbor) -> bool {
    match value {
        Cbor::Null | Cbor::Bool(_) | Cbor::Integer(_) | Cbor::Bytes(_) | Cbor::Text(_) => true,
        Cbor::Array(items) => items.iter().all(plain),
        Cbor::Map(entries) => entries.iter().all(|(key, value)| plain(key) && plain(value)),
        _ => false,
    }
}
