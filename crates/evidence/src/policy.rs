//! What evidence an app accepts: comes with the app, in the deployment descriptor, and never from the server.

use halfkey_envelope::keeper::EvidenceKind;

use crate::{Refusal, Verifier, insecure_dev::InsecureDev, nitro::Nitro, tpm2::Tpm2};

/// A policy that cannot be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a policy for evidence: {0}")]
pub struct InvalidPolicy(pub(crate) &'static str);

/// What evidence is accepted. By default none.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    tpm2: Option<Tpm2>,
    nitro: Option<Nitro>,
    insecure_dev: Option<InsecureDev>,
}

impl Policy {
    /// Accepts nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Accepts TPM quotes as this verifier judges them.
    #[must_use]
    pub fn with_tpm2(self, tpm2: Tpm2) -> Self {
        Self { tpm2: Some(tpm2), ..self }
    }

    /// Accepts Nitro documents as this verifier judges them.
    #[must_use]
    pub fn with_nitro(self, nitro: Nitro) -> Self {
        Self { nitro: Some(nitro), ..self }
    }

    /// Accepts a keeper that proves nothing: whoever runs the server can read every backup made with it.
    #[cfg(feature = "danger-insecure-evidence")]
    #[must_use]
    pub fn danger_accept_insecure_dev(self) -> Self {
        Self { insecure_dev: Some(InsecureDev::danger_accept()), ..self }
    }

    /// The kinds that are accepted.
    pub fn kinds(&self) -> impl Iterator<Item = EvidenceKind> {
        [EvidenceKind::InsecureDev, EvidenceKind::Tpm2, EvidenceKind::Nitro]
            .into_iter()
            .filter(|kind| self.verifier(*kind).is_ok())
    }

    /// The verifier of a kind.
    ///
    /// # Errors
    /// [`Refusal::InsecureDev`] and [`Refusal::OtherKind`].
    pub fn verifier(&self, kind: EvidenceKind) -> Result<&dyn Verifier, Refusal> {
        match kind {
            EvidenceKind::InsecureDev => self.insecure_dev.as_ref().map(as_dyn).ok_or(Refusal::InsecureDev),
            EvidenceKind::Tpm2 => self.tpm2.as_ref().map(as_dyn).ok_or(Refusal::OtherKind),
            EvidenceKind::Nitro => self.nitro.as_ref().map(as_dyn).ok_or(Refusal::OtherKind),
            _ => Err(Refusal::OtherKind),
        }
    }
}

fn as_dyn<V: Verifier>(verifier: &V) -> &dyn Verifier {
    verifier
}
