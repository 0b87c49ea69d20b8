//! `nitro`: an attestation document of AWS Nitro Enclaves ("Verifying the root of trust" in AWS's user guide, and
//! `attestation_process.md` of aws-nitro-enclaves-nsm-api).
//!
//! The document is a COSE_Sign1 (RFC 9052) under ES384 by a certificate of a few hours, whose chain ends at AWS's
//! root. It names the image's measurements (PCR 0 to 2), the certificate that the operator signed the image with
//! (PCR 8), the nonce, the keeper's key and, as user data, [`Evidence::statement`].

mod chain;
mod document;

use halfkey_envelope::keeper::{Evidence, EvidenceKind};

pub use self::document::Document;
use crate::{InvalidPolicy, Refusal, Verifier};

/// SHA-256 of AWS's root certificate "aws.nitro-enclaves" (G1), as AWS publishes it.
pub const AWS_ROOT_G1: [u8; 32] = [
    0x64, 0x1a, 0x03, 0x21, 0xa3, 0xe2, 0x44, 0xef, 0xe4, 0x56, 0x46, 0x31, 0x95, 0xd6, 0x06, 0x31, 0x7e, 0xd7, 0xcd,
    0xcc, 0x3c, 0x17, 0x56, 0xe0, 0x98, 0x93, 0xf3, 0xc6, 0x8f, 0x79, 0xbb, 0x5b,
];

/// A PCR of the enclave: SHA-384.
pub type Pcr = [u8; 48];

/// The PCRs that are measured: the image file, kernel and boot ramdisk, the application.
const IMAGE: [u8; 3] = [0, 1, 2];
/// The certificate that signed the image.
const SIGNER: u8 = 8;
const ZERO: Pcr = [0; 48];

/// PCR 0, 1 and 2 of an allowed image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement(pub [Pcr; 3]);

impl core::fmt::Display for Measurement {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [image, kernel, application] = self.0.map(hex::encode);
        write!(f, "{image}:{kernel}:{application}")
    }
}

/// The verifier: which images are allowed, and whose.
#[derive(Debug, Clone)]
pub struct Nitro {
    measurements: Vec<Measurement>,
    operator: Pcr,
    root: [u8; 32],
}

impl Nitro {
    /// Accepts these images if this operator signed them: `operator` is PCR 8, over its signing certificate.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for an all-zero PCR: that is what an enclave in debug mode, or one without a signature, shows.
    pub fn new(measurements: Vec<Measurement>, operator: Pcr) -> Result<Self, InvalidPolicy> {
        if operator == ZERO || measurements.iter().any(|measurement| measurement.0.contains(&ZERO)) {
            return Err(InvalidPolicy("an all-zero PCR measures nothing"));
        }
        Ok(Self { measurements, operator, root: AWS_ROOT_G1 })
    }

    /// Trusts another root than AWS's: its certificate's SHA-256. For tests: nothing in the world stands behind it.
    #[must_use]
    pub const fn danger_with_root(mut self, root: [u8; 32]) -> Self {
        self.root = root;
        self
    }
}

impl Verifier for Nitro {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Nitro
    }

    fn operator(&self) -> &[u8] {
        &self.operator
    }

    fn examine(&self, evidence: &Evidence, now_ms: u64) -> Result<String, Refusal> {
        let document = Document::from_slice(&evidence.document)?;
        document.verify(&self.root, now_ms)?;
        let image = IMAGE.map(|index| document.pcr(index));
        if image.contains(&Some(ZERO)) {
            return Err(Refusal::DebugMode);
        }
        let [Some(image), Some(kernel), Some(application)] = image else { return Err(Refusal::Malformed) };
        if document.nonce.as_deref() != Some(&evidence.nonce)
            || document.public_key.as_deref() != Some(evidence.public_key.as_bytes())
            || document.user_data.as_deref() != Some(&evidence.statement())
        {
            return Err(Refusal::NotBound);
        }
        if document.pcr(SIGNER) != Some(self.operator) {
            return Err(Refusal::OtherOperator);
        }
        let measurement = Measurement([image, kernel, application]);
        if !self.measurements.contains(&measurement) {
            return Err(Refusal::UnknownMeasurement);
        }
        Ok(measurement.to_string())
    }
}
