//! Is this keeper what it says it is? Verifiers of a keeper's evidence (METHODS.md C).
//!
//! A keeper shows a document about {nonce, long-term key, configuration}: [`Evidence`]. [`verify`] takes it with what
//! the caller [expects](Expected) and the [`Policy`] that came with the app, and gives a verdict. It takes bytes and a
//! time; it asks nobody. Three kinds exist behind one [`Verifier`]:
//!
//! * `tpm2`: a quote over boot measurements, by an attestation key that the operator vouches for ([`tpm2`]);
//! * `nitro`: an attestation document of AWS Nitro Enclaves under AWS's root ([`nitro`]);
//! * `insecure-dev`: nothing at all, refused by default ([`insecure_dev`]).
//!
//! The order of trust: the deployment descriptor pins the keeper's key *and* the policy. Evidence adds that the pinned
//! key lies in a machine that runs an allowed program, under the pinned operator.

pub mod insecure_dev;
pub mod nitro;
mod policy;
mod reader;
mod refusal;
#[cfg(feature = "danger-synthetic")]
pub mod synthetic;
pub mod tpm2;

use halfkey_envelope::{
    hpke::PublicKey,
    keeper::{Evidence, EvidenceKind, KeyId, configuration_hash},
};
pub use policy::{InvalidPolicy, Policy};
pub use refusal::Refusal;

/// A verdict may be kept this long at most, in milliseconds: 24 hours (METHODS.md C).
pub const MAX_CACHE_MS: u64 = 24 * 60 * 60 * 1000;

/// What the caller knows before it looks at the evidence.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The 32 random bytes that it sent, never used before.
    pub nonce: &'a [u8; 32],
    /// The number of the *pinned* long-term key.
    pub key_id: KeyId,
    /// The *pinned* long-term key.
    pub public_key: &'a PublicKey,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// Evidence that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its kind.
    pub kind: EvidenceKind,
    /// Which of the allowed measurements the keeper runs with, as policies write it; empty with `insecure-dev`.
    pub measurement: String,
}

/// One kind of evidence and what of it is accepted.
pub trait Verifier {
    /// The kind that it judges.
    fn kind(&self) -> EvidenceKind;

    /// The operator's pinned identity, as the configuration's hash takes it.
    fn operator(&self) -> &[u8];

    /// Judges the document alone: signed by whom it must be, at this time, about exactly the fields beside it, by an
    /// allowed program with debugging off under the pinned operator. Gives the measurement.
    ///
    /// # Errors
    /// The [`Refusal`] of the first check that fails.
    fn examine(&self, evidence: &Evidence, now_ms: u64) -> Result<String, Refusal>;
}

/// Judges evidence: the fields against what is expected, then the document under the policy of its kind.
///
/// # Errors
/// The [`Refusal`] of the first check that fails.
pub fn verify(evidence: &Evidence, expected: &Expected<'_>, policy: &Policy) -> Result<Verified, Refusal> {
    let verifier = policy.verifier(evidence.kind)?;
    if evidence.nonce != *expected.nonce {
        return Err(Refusal::OtherNonce);
    }
    if evidence.key_id != expected.key_id || evidence.public_key != *expected.public_key {
        return Err(Refusal::OtherKey);
    }
    let configuration = configuration_hash(verifier.kind(), expected.key_id, verifier.operator());
    let measurement = verifier.examine(evidence, expected.now_ms)?;
    // Last: evidence of another operator is refused for that reason.
    if evidence.configuration != configuration {
        return Err(Refusal::OtherConfiguration);
    }
    Ok(Verified { kind: evidence.kind, measurement })
}
