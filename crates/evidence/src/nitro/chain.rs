//! The certificates of a document, from the pinned root to the one that signed (RFC 5280, section 6, with what AWS's
//! chain uses and nothing else: ECDSA with SHA-384 on P-384, basic constraints, key usage).

use halfkey_envelope::hash::sha256;
use p384::ecdsa::{DerSignature, VerifyingKey, signature::Verifier as _};
use x509_cert::{
    Certificate,
    der::{Decode, Encode, asn1::ObjectIdentifier, oid::AssociatedOid},
    ext::pkix::{BasicConstraints, KeyUsage},
};

use crate::Refusal;

const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// The key of the last certificate, if the chain begins at the pinned root, every signature holds, every certificate
/// may do what it does here, and all are valid now.
pub fn verify(chain: &[Vec<u8>], root: &[u8; 32], now_ms: u64) -> Result<VerifyingKey, Refusal> {
    let (first, rest) = chain.split_first().ok_or(Refusal::Malformed)?;
    if sha256(first) != *root {
        return Err(Refusal::OtherRoot);
    }
    let mut issuer = parse(first)?;
    check_validity(&issuer, now_ms)?;
    for (position, bytes) in rest.iter().enumerate() {
        let certificate = parse(bytes)?;
        let below = rest.len() - position - 1;
        check_issuer(&issuer, below)?;
        check_signature(&certificate, &issuer)?;
        check_validity(&certificate, now_ms)?;
        issuer = certificate;
    }
    check_signer(&issuer)?;
    key(&issuer)
}

fn parse(bytes: &[u8]) -> Result<Certificate, Refusal> {
    let certificate = Certificate::from_der(bytes).map_err(|_| Refusal::Malformed)?;
    // What is not understood and critical forbids the certificate's use (RFC 5280, 4.2).
    let known = [BasicConstraints::OID, KeyUsage::OID];
    let mut critical = certificate.tbs_certificate().extensions().into_iter().flatten().filter(|e| e.critical);
    if critical.any(|extension| !known.contains(&extension.extn_id)) {
        return Err(Refusal::BadChain);
    }
    Ok(certificate)
}

/// Whether it may issue certificates with `below` further issuers under it.
fn check_issuer(certificate: &Certificate, below: usize) -> Result<(), Refusal> {
    let (constraints, usage) = uses(certificate)?;
    let (Some(constraints), Some(usage)) = (constraints, usage) else { return Err(Refusal::BadChain) };
    let deep_enough = constraints.path_len_constraint.is_none_or(|most| below <= usize::from(most));
    if constraints.ca && deep_enough && usage.key_cert_sign() { Ok(()) } else { Err(Refusal::BadChain) }
}

/// Whether it may sign documents, and no certificates.
fn check_signer(certificate: &Certificate) -> Result<(), Refusal> {
    let (constraints, usage) = uses(certificate)?;
    let may = usage.is_some_and(|usage| usage.digital_signature() && !usage.key_cert_sign());
    if may && !constraints.is_some_and(|constraints| constraints.ca) { Ok(()) } else { Err(Refusal::BadChain) }
}

fn uses(certificate: &Certificate) -> Result<(Option<BasicConstraints>, Option<KeyUsage>), Refusal> {
    let tbs = certificate.tbs_certificate();
    let constraints = tbs.get_extension::<BasicConstraints>().map_err(|_| Refusal::BadChain)?;
    let usage = tbs.get_extension::<KeyUsage>().map_err(|_| Refusal::BadChain)?;
    Ok((constraints.map(|(_, constraints)| constraints), usage.map(|(_, usage)| usage)))
}

fn check_signature(certificate: &Certificate, issuer: &Certificate) -> Result<(), Refusal> {
    let tbs = certificate.tbs_certificate();
    if tbs.issuer() != issuer.tbs_certificate().subject() {
        return Err(Refusal::BadChain);
    }
    let algorithms = [certificate.signature_algorithm(), tbs.signature()];
    if algorithms.iter().any(|algorithm| algorithm.oid != ECDSA_WITH_SHA384 || algorithm.parameters.is_some()) {
        return Err(Refusal::BadChain);
    }
    let signature = certificate.signature().as_bytes().ok_or(Refusal::BadSignature)?;
    let signature = DerSignature::try_from(signature).map_err(|_| Refusal::BadSignature)?;
    // DER has one encoding: these are the bytes that were parsed.
    let signed = tbs.to_der().map_err(|_| Refusal::Malformed)?;
    key(issuer)?.verify(&signed, &signature).map_err(|_| Refusal::BadSignature)
}

fn key(certificate: &Certificate) -> Result<VerifyingKey, Refusal> {
    let info = certificate.tbs_certificate().subject_public_key_info();
    let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
    if info.algorithm.oid != EC_PUBLIC_KEY || curve != Some(SECP384R1) {
        return Err(Refusal::BadChain);
    }
    let point = info.subject_public_key.as_bytes().ok_or(Refusal::BadChain)?;
    VerifyingKey::from_sec1_bytes(point).map_err(|_| Refusal::BadChain)
}

fn check_validity(certificate: &Certificate, now_ms: u64) -> Result<(), Refusal> {
    let validity = certificate.tbs_certificate().validity();
    let now = core::time::Duration::from_millis(now_ms);
    if now < validity.not_before.to_unix_duration() {
        return Err(Refusal::NotYetValid);
    }
    // The last second is a whole one.
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(Refusal::Expired);
    }
    Ok(())
}
