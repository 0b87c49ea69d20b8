//! `tpm2`: a quote of a TPM 2.0 (TCG TPM 2.0 Library, parts 2 and 3) over the PCRs of a measured boot.
//!
//! The chain of trust: the app pins the **operator's key**; the operator's key signs an [`Enrolment`] of one machine's
//! attestation key; the attestation key signs the quote; the quote names the PCRs and [`Evidence::statement`].
//! The attestation key is *restricted*: its TPM signs with it only structures that the TPM itself made.
//!
//! A TPM's maker vouches for its endorsement key (EK), not for an operator. Whoever enrols a machine looks at the EK
//! certificate; its digest stays in the enrolment, so that a dispute can be settled later. Apps do not need it: what
//! they pin is the operator, who answers for the machine.

use halfkey_envelope::{
    cbor,
    hash::{h, sha256},
    keeper::{Evidence, EvidenceKind},
};
use minicbor::{Decode, Encode};
use p256::{
    Sec1Point,
    ecdsa::{Signature, VerifyingKey, signature::Verifier as _},
};

use crate::{InvalidPolicy, Refusal, Verifier, reader::Reader};

/// TPM_GENERATED_VALUE: a restricted key signs nothing that begins with it unless the TPM wrote it (part 2, 6.2).
const GENERATED: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_QUOTE.
const QUOTE: u16 = 0x8018;
const ALG_SHA256: u16 = 0x000b;
const ALG_ECC: u16 = 0x0023;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const CURVE_P256: u16 = 0x0003;
/// fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign (part 2, 8.3): all must be set, and decrypt must not.
const ATTESTATION_ATTRIBUTES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18;
const DECRYPT: u32 = 1 << 17;

/// An operator's P-256 key: vouches for the attestation keys of its machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorKey {
    key: VerifyingKey,
    bytes: [u8; 33],
}

impl OperatorKey {
    /// From its compressed SEC1 form.
    ///
    /// # Errors
    /// [`InvalidPolicy`] if it is not a point of P-256.
    pub fn from_bytes(bytes: &[u8; 33]) -> Result<Self, InvalidPolicy> {
        let key = VerifyingKey::from_sec1_bytes(bytes).map_err(|_| InvalidPolicy("not a P-256 key"))?;
        Ok(Self { key, bytes: *bytes })
    }

    /// Its compressed SEC1 form.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 33] {
        &self.bytes
    }
}

/// Which PCRs of the SHA-256 bank count. Only those of the static measurement, 0 to 15, may: the others can be reset
/// while the machine runs, and then say whatever its owner wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrSelection(Vec<u8>);

impl PcrSelection {
    /// A selection; the order does not count.
    ///
    /// # Errors
    /// [`InvalidPolicy`] if it is empty, has doubles, or one above 15.
    pub fn new(pcrs: &[u8]) -> Result<Self, InvalidPolicy> {
        let mut sorted = pcrs.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.is_empty() || sorted.len() != pcrs.len() {
            return Err(InvalidPolicy("PCRs are missing or named twice"));
        }
        if sorted.iter().any(|pcr| *pcr > 15) {
            return Err(InvalidPolicy("PCRs above 15 can be reset while the machine runs"));
        }
        Ok(Self(sorted))
    }

    /// The numbers, ascending.
    #[must_use]
    pub fn pcrs(&self) -> &[u8] {
        &self.0
    }

    /// The three bytes of a TPMS_PCR_SELECTION.
    #[must_use]
    pub fn bitmap(&self) -> [u8; 3] {
        let mut bitmap = [0u8; 3];
        for pcr in &self.0 {
            bitmap[usize::from(pcr / 8)] |= 1 << (pcr % 8);
        }
        bitmap
    }

    /// The digest of a quote in which every selected PCR has this value.
    fn uniform(&self, byte: u8) -> [u8; 32] {
        sha256(&vec![byte; 32 * self.0.len()])
    }
}

/// The verifier: which PCR digests are allowed, and whose machines.
#[derive(Debug, Clone)]
pub struct Tpm2 {
    selection: PcrSelection,
    measurements: Vec<[u8; 32]>,
    operator: OperatorKey,
}

impl Tpm2 {
    /// Accepts these digests over the selected PCRs, from machines that this operator has enrolled.
    #[must_use]
    pub const fn new(selection: PcrSelection, measurements: Vec<[u8; 32]>, operator: OperatorKey) -> Self {
        Self { selection, measurements, operator }
    }
}

/// A machine's attestation key and the operator's word for it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrolment {
    /// Who vouches: a compressed P-256 key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub operator: [u8; 33],
    /// The attestation key: a TPMT_PUBLIC.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub attestation_key: Vec<u8>,
    /// SHA-256 of the EK certificate that the operator looked at; all zero where the TPM has none.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub endorsement: [u8; 32],
    /// From when, in milliseconds since the Unix epoch.
    #[n(4)]
    pub not_before_ms: u64,
    /// Until when.
    #[n(5)]
    pub not_after_ms: u64,
    /// The operator's ECDSA signature (r ‖ s, SHA-256) over [`Enrolment::signed`].
    #[cbor(n(6), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

impl Enrolment {
    /// The 32 bytes that the operator signs.
    #[must_use]
    pub fn signed(&self) -> [u8; 32] {
        let Self { operator, attestation_key, endorsement, not_before_ms, not_after_ms, signature: _ } = self;
        let (from, until) = (not_before_ms.to_be_bytes(), not_after_ms.to_be_bytes());
        h("halfkey/evidence/v1/enrolment", &[operator, attestation_key, endorsement, &from, &until])
    }

    /// Whether the pinned operator vouches for the key at this time.
    ///
    /// # Errors
    /// [`Refusal::OtherOperator`], [`Refusal::OtherRoot`], [`Refusal::NotYetValid`], [`Refusal::Expired`].
    pub fn check(&self, operator: &OperatorKey, now_ms: u64) -> Result<(), Refusal> {
        if self.operator != operator.bytes {
            return Err(Refusal::OtherOperator);
        }
        let signature = Signature::from_slice(&self.signature).map_err(|_| Refusal::OtherRoot)?;
        operator.key.verify(&self.signed(), &signature).map_err(|_| Refusal::OtherRoot)?;
        if now_ms < self.not_before_ms {
            return Err(Refusal::NotYetValid);
        }
        if now_ms > self.not_after_ms {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

/// The document of this kind.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Document {
    /// The quote: a TPMS_ATTEST.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub quote: Vec<u8>,
    /// The attestation key's ECDSA signature (r ‖ s, SHA-256) over the quote.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signature: [u8; 64],
    /// Whose key that is.
    #[n(3)]
    pub enrolment: Enrolment,
}

impl Document {
    /// Reads the strict encoding.
    ///
    /// # Errors
    /// [`Refusal::Truncated`], [`Refusal::Malformed`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Refusal> {
        match minicbor::decode::<Self>(bytes) {
            Err(error) if error.is_end_of_input() => Err(Refusal::Truncated),
            _ => cbor::from_slice(bytes).map_err(|_| Refusal::Malformed),
        }
    }

    /// The strict encoding.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }
}

/// What a quote says (TPMS_ATTEST with TPMS_QUOTE_INFO, part 2, 10.12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The qualifying data.
    pub extra: Vec<u8>,
    /// Which PCRs, as a bitmap of the SHA-256 bank.
    pub selection: [u8; 3],
    /// The digest over their values.
    pub digest: [u8; 32],
    /// How often the TPM was reset.
    pub resets: u32,
    /// The TPM's firmware.
    pub firmware: u64,
}

impl Quote {
    /// Reads a TPMS_ATTEST; only a quote over one SHA-256 selection is one for us.
    ///
    /// # Errors
    /// [`Refusal::Truncated`], [`Refusal::Malformed`]; [`Refusal::UnknownMeasurement`] for other banks.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(bytes);
        if (reader.u32()?, reader.u16()?) != (GENERATED, QUOTE) {
            return Err(Refusal::Malformed);
        }
        let _qualified_signer = reader.sized()?;
        let extra = reader.sized()?.to_vec();
        let _clock = reader.take(8)?;
        let resets = reader.u32()?;
        let _restarts_and_safe = reader.take(5)?;
        let firmware = u64::from_be_bytes(reader.array()?);
        let (count, bank, size) = (reader.u32()?, reader.u16()?, reader.u8()?);
        if (count, bank, size) != (1, ALG_SHA256, 3) {
            return Err(Refusal::UnknownMeasurement);
        }
        let selection = reader.array()?;
        let digest = reader.sized()?.try_into().map_err(|_| Refusal::Malformed)?;
        reader.end()?;
        Ok(Self { extra, selection, digest, resets, firmware })
    }
}

/// The attestation key of a TPMT_PUBLIC (part 2, 12.2.4): restricted, born in its TPM, P-256, signs with SHA-256.
///
/// # Errors
/// [`Refusal::Truncated`], [`Refusal::Malformed`]; [`Refusal::BadAttestationKey`] if it is not of that kind.
pub fn attestation_key(public: &[u8]) -> Result<VerifyingKey, Refusal> {
    let mut reader = Reader::new(public);
    let (kind, name) = (reader.u16()?, reader.u16()?);
    let attributes = reader.u32()?;
    let _policy = reader.sized()?;
    let parameters: [u16; 5] = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let wanted = [ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL];
    let may = attributes & (ATTESTATION_ATTRIBUTES | DECRYPT) == ATTESTATION_ATTRIBUTES;
    if (kind, name) != (ALG_ECC, ALG_SHA256) || parameters != wanted || !may {
        return Err(Refusal::BadAttestationKey);
    }
    let (x, y) = (coordinate(reader.sized()?)?, coordinate(reader.sized()?)?);
    reader.end()?;
    let point = Sec1Point::from_affine_coordinates(&x.into(), &y.into(), false);
    VerifyingKey::from_sec1_point(&point).map_err(|_| Refusal::BadAttestationKey)
}

/// A TPM may leave out leading zeros of a number.
fn coordinate(bytes: &[u8]) -> Result<[u8; 32], Refusal> {
    let mut padded = [0u8; 32];
    let start = padded.len().checked_sub(bytes.len()).ok_or(Refusal::Malformed)?;
    padded[start..].copy_from_slice(bytes);
    Ok(padded)
}

impl Verifier for Tpm2 {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Tpm2
    }

    fn operator(&self) -> &[u8] {
        &self.operator.bytes
    }

    fn examine(&self, evidence: &Evidence, now_ms: u64) -> Result<String, Refusal> {
        let document = Document::from_slice(&evidence.document)?;
        document.enrolment.check(&self.operator, now_ms)?;
        let key = attestation_key(&document.enrolment.attestation_key)?;
        let signature = Signature::from_slice(&document.signature).map_err(|_| Refusal::BadSignature)?;
        key.verify(&document.quote, &signature).map_err(|_| Refusal::BadSignature)?;
        let quote = Quote::from_slice(&document.quote)?;
        if quote.extra != evidence.statement() {
            return Err(Refusal::NotBound);
        }
        if quote.selection != self.selection.bitmap() {
            return Err(Refusal::UnknownMeasurement);
        }
        if [0, 0xff].iter().any(|byte| quote.digest == self.selection.uniform(*byte)) {
            return Err(Refusal::DebugMode);
        }
        if !self.measurements.contains(&quote.digest) {
            return Err(Refusal::UnknownMeasurement);
        }
        Ok(hex::encode(quote.digest))
    }
}
