//! Enrolment: the operator looks at a machine and vouches for its attestation key.

use halfkey_envelope::hash::sha256;
use halfkey_evidence::tpm2::{Enrolment, attestation_key};
use minicbor::{Decode, Encode};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};

use super::{Result, Tpm2Error, approval::compressed, operator_key};
use crate::tpm::Tpm;

/// What a machine shows to its operator. Unsigned: the operator reads it on the machine itself, or checks the endorsement
/// key's certificate and lets the TPM show with `tpm2_activatecredential` that both keys are in it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnrolmentRequest {
    /// The attestation key: a TPMT_PUBLIC.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub attestation_key: Vec<u8>,
    /// The certificate of the endorsement key, DER, where there is one.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub endorsement_certificate: Option<Vec<u8>>,
}

/// The operator's word for this machine from `not_before_ms` to `not_after_ms`.
///
/// # Errors
/// [`Tpm2Error::Enrolment`] if the key is not one that only signs what its TPM made.
pub fn vouch(
    request: &EnrolmentRequest,
    not_before_ms: u64,
    not_after_ms: u64,
    operator: &SigningKey,
) -> Result<Enrolment> {
    attestation_key(&request.attestation_key).map_err(Tpm2Error::Enrolment)?;
    let mut enrolment = Enrolment {
        operator: compressed(operator.verifying_key())?,
        attestation_key: request.attestation_key.clone(),
        endorsement: request.endorsement_certificate.as_ref().map_or([0; 32], |certificate| sha256(certificate)),
        not_before_ms,
        not_after_ms,
        signature: [0; 64],
    };
    let signature: Signature = operator.sign(&enrolment.signed());
    enrolment.signature = signature.to_bytes().into();
    Ok(enrolment)
}

/// Whether an enrolment is signed, in force, and for the machine with this TPM.
pub fn check(enrolment: &Enrolment, tpm: &mut Tpm, now_ms: u64) -> Result<()> {
    enrolment.check(&operator_key(&enrolment.operator)?, now_ms).map_err(Tpm2Error::Enrolment)?;
    if enrolment.attestation_key != tpm.attestation_key()? {
        return Err(Tpm2Error::Enrolment(halfkey_evidence::Refusal::OtherRoot));
    }
    Ok(())
}
