//! Our own verifier: the strict readers of `halfkey-envelope`, and the signature libraries themselves.

use halfkey_envelope::passkey::{Algorithm, Assertion, AuthenticatorData, ClientData, CredentialKey, Fault};
use p256::ecdsa::{Signature, VerifyingKey, signature::Verifier as _};

use super::{Expected, Verifier};

/// ES256 and EdDSA.
pub struct Own;

impl Verifier for Own {
    fn knows(&self, algorithm: Algorithm) -> bool {
        matches!(algorithm, Algorithm::Es256 | Algorithm::EdDsa)
    }

    fn verify(&self, expected: &Expected<'_>, assertion: &Assertion) -> Result<(), Fault> {
        if assertion.credential_id != expected.credential.id {
            return Err(Fault::UnknownCredential);
        }
        let client_data = ClientData::parse(&assertion.client_data_json)?;
        client_data.check("webauthn.get", expected.challenge, expected.origins)?;
        let data = AuthenticatorData::parse(&assertion.authenticator_data)?;
        if data.attested.is_some() {
            return Err(Fault::Malformed);
        }
        data.check(expected.rp_id)?;
        if data.backup_eligible != bool::from(expected.credential.backup_eligible) {
            return Err(Fault::BackupEligibilityChanged);
        }
        check_signature(&expected.credential.key, &assertion.signed_bytes(), &assertion.signature)
    }
}

fn check_signature(key: &CredentialKey, message: &[u8], signature: &[u8]) -> Result<(), Fault> {
    let verified = match key {
        CredentialKey::Es256 { x, y } => {
            let point = p256::Sec1Point::from_affine_coordinates(x.into(), y.into(), false);
            let key = VerifyingKey::from_sec1_point(&point).map_err(|_| Fault::UnsupportedKey)?;
            Signature::from_der(signature).and_then(|signature| key.verify(message, &signature)).is_ok()
        }
        CredentialKey::EdDsa { x } => {
            let key = ed25519_dalek::VerifyingKey::from_bytes(x).map_err(|_| Fault::UnsupportedKey)?;
            let signature = ed25519_dalek::Signature::from_slice(signature);
            signature.and_then(|signature| key.verify_strict(message, &signature)).is_ok()
        }
        _ => return Err(Fault::UnsupportedKey),
    };
    if verified { Ok(()) } else { Err(Fault::BadSignature) }
}
