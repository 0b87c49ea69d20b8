//! Keepers without hardware, for tests: evidence signed by a key in memory. Proves nothing about any machine.

pub mod der;
pub mod nitro;

use halfkey_envelope::{
    hpke::PublicKey,
    keeper::{Evidence, EvidenceKind, KeyId, configuration_hash},
};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};

use crate::{
    Policy,
    tpm2::{Document, Enrolment, OperatorKey, PcrSelection, Tpm2},
};

/// A machine that exists in memory alone: its operator's key, its attestation key and its PCRs.
pub struct Tpm2Machine {
    operator: SigningKey,
    attestation: SigningKey,
    /// The digest over its PCRs.
    pub digest: [u8; 32],
    /// From when and until when it is enrolled, in milliseconds since the Unix epoch.
    pub enrolled_ms: (u64, u64),
}

impl Tpm2Machine {
    /// The machine that belongs to this number, enrolled for ever.
    ///
    /// # Panics
    /// Never: the numbers give scalars of P-256.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a small number is a scalar")]
    pub fn new(seed: u8) -> Self {
        let key = |which: u8| {
            let mut scalar = [seed; 32];
            scalar[0] = which;
            SigningKey::from_slice(&scalar).expect("below the order")
        };
        Self { operator: key(1), attestation: key(2), digest: [seed; 32], enrolled_ms: (0, u64::MAX) }
    }

    /// The operator that vouches for it.
    ///
    /// # Panics
    /// Never: the key is a point.
    #[must_use]
    #[allow(clippy::expect_used, reason = "made from a point")]
    pub fn operator(&self) -> OperatorKey {
        OperatorKey::from_bytes(&compressed(&self.operator)).expect("a point")
    }

    /// The policy that accepts it.
    ///
    /// # Panics
    /// Never: the selection is valid.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a valid selection")]
    pub fn policy(&self) -> Policy {
        let selection = PcrSelection::new(&PCRS).expect("valid");
        Policy::nothing().with_tpm2(Tpm2::new(selection, vec![self.digest], self.operator()))
    }

    /// The keeper's evidence for a nonce.
    #[must_use]
    pub fn evidence(&self, nonce: [u8; 32], key_id: KeyId, public_key: PublicKey) -> Evidence {
        let kind = EvidenceKind::Tpm2;
        let configuration = configuration_hash(kind, key_id, &compressed(&self.operator));
        let mut evidence = Evidence { kind, nonce, key_id, public_key, configuration, document: Vec::new() };
        evidence.document = self.document(&evidence.statement()).to_vec();
        evidence
    }

    /// A quote about this statement, with the enrolment.
    #[must_use]
    pub fn document(&self, statement: &[u8; 32]) -> Document {
        let quote = self.quote(statement);
        Document { signature: sign(&self.attestation, &quote), enrolment: self.enrolment(), quote }
    }

    /// The operator's word for the attestation key.
    #[must_use]
    pub fn enrolment(&self) -> Enrolment {
        let mut enrolment = Enrolment {
            operator: compressed(&self.operator),
            attestation_key: public_area(&self.attestation),
            endorsement: [0; 32],
            not_before_ms: self.enrolled_ms.0,
            not_after_ms: self.enrolled_ms.1,
            signature: [0; 64],
        };
        enrolment.signature = self.vouch(&enrolment);
        enrolment
    }

    /// The operator's signature on an enrolment.
    #[must_use]
    pub fn vouch(&self, enrolment: &Enrolment) -> [u8; 64] {
        sign(&self.operator, &enrolment.signed())
    }

    /// The attestation key's signature on whatever: a real, restricted key would not give it.
    #[must_use]
    pub fn danger_sign(&self, bytes: &[u8]) -> [u8; 64] {
        sign(&self.attestation, bytes)
    }

    /// A TPMS_ATTEST with a quote over this machine's PCRs.
    #[must_use]
    pub fn quote(&self, statement: &[u8; 32]) -> Vec<u8> {
        let mut quote = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18, 0, 0, 0, 32];
        quote.extend_from_slice(statement);
        quote.extend_from_slice(&[0; 17 + 8]);
        quote.extend_from_slice(&[0, 0, 0, 1, 0, 0x0b, 3, 1, 0x80, 0, 0, 32]);
        quote.extend_from_slice(&self.digest);
        quote
    }
}

/// The PCRs of the machine's quotes.
pub const PCRS: [u8; 2] = [0, 15];

fn sign(key: &SigningKey, bytes: &[u8]) -> [u8; 64] {
    let signature: Signature = key.sign(bytes);
    signature.to_bytes().into()
}

#[allow(clippy::expect_used, reason = "a compressed point of P-256 has 33 bytes")]
fn compressed(key: &SigningKey) -> [u8; 33] {
    key.verifying_key().to_sec1_point(true).as_bytes().try_into().expect("33 bytes")
}

/// The TPMT_PUBLIC of an attestation key.
fn public_area(key: &SigningKey) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    let mut area = vec![0, 0x23, 0, 0x0b, 0, 0x05, 0, 0x72, 0, 0];
    area.extend_from_slice(&[0, 0x10, 0, 0x18, 0, 0x0b, 0, 0x03, 0, 0x10]);
    for coordinate in [point.x(), point.y()].into_iter().flatten() {
        area.extend_from_slice(&[0, 32]);
        area.extend_from_slice(coordinate);
    }
    area
}
