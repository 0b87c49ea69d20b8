//! What makes a keeper's evidence: the other side of `halfkey-evidence`.

use halfkey_envelope::keeper::{Evidence, EvidenceKind};

/// Evidence cannot be made now. The reason is for the log of the keeper's operator.
#[derive(Debug, thiserror::Error)]
#[error("no evidence: {0}")]
pub struct EvidenceFault(pub String);

/// Makes documents of one kind of evidence.
pub trait Attester: Send + Sync {
    /// The kind.
    fn kind(&self) -> EvidenceKind;

    /// The operator's identity, as policies of this kind pin it.
    fn operator(&self) -> &[u8];

    /// The document about [`Evidence::statement`]. All fields of `evidence` but the document are set.
    ///
    /// # Errors
    /// [`EvidenceFault`].
    fn document(&self, evidence: &Evidence) -> Result<Vec<u8>, EvidenceFault>;
}

/// Proves nothing.
pub struct InsecureDev;

impl Attester for InsecureDev {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::InsecureDev
    }

    fn operator(&self) -> &[u8] {
        &[]
    }

    fn document(&self, _: &Evidence) -> Result<Vec<u8>, EvidenceFault> {
        Ok(Vec::new())
    }
}
