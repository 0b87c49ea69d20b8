//! Evidence that proves nothing. Any process that knows the pinned key's bytes can write it.

use halfkey_envelope::keeper::{Evidence, EvidenceKind};

use crate::{Refusal, Verifier};

/// Accepts whatever has the right fields. Made by `Policy::danger_accept_insecure_dev` alone.
#[derive(Debug, Clone, Copy)]
pub struct InsecureDev(());

impl InsecureDev {
    #[cfg(feature = "danger-insecure-evidence")]
    pub(crate) const fn danger_accept() -> Self {
        Self(())
    }
}

impl Verifier for InsecureDev {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::InsecureDev
    }

    fn operator(&self) -> &[u8] {
        &[]
    }

    fn examine(&self, evidence: &Evidence, _: u64) -> Result<String, Refusal> {
        if evidence.document.is_empty() { Ok(String::new()) } else { Err(Refusal::Malformed) }
    }
}
