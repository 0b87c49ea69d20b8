//! The deployment that an app trusts: the keys of its descriptor, compiled in and never fetched (DECISIONS.md D5).

use halfkey_envelope::{hpke::PublicKey, id::DeploymentId, keeper::KeyId, text::Policy};
use halfkey_protocol::{
    IdentityPublic, PartyKeys,
    descriptor::{Descriptor, DigestCapability, Profile, SignedDescriptor},
};

use crate::error::{Error, Result};

/// A trusted deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment(Descriptor);

impl Deployment {
    /// From the file that `halfkey admin descriptor` writes, **as it was compiled into the app** or pinned at first use.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] if it is damaged or not signed, [`Error::UpgradeRequired`] for an unknown version.
    pub fn from_json(json: &str) -> Result<Self> {
        let signed = SignedDescriptor::from_json(json).map_err(untrusted)?;
        signed.open().map(Self).map_err(untrusted)
    }

    /// The successor that the known deployment's own key has signed.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] if it is not, or not newer.
    pub fn rotate(&self, json: &str) -> Result<Self> {
        let signed = SignedDescriptor::from_json(json).map_err(untrusted)?;
        signed.succeed(&self.0).map(Self).map_err(untrusted)
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> DeploymentId {
        self.0.deployment
    }

    /// Where its server is reached, without a slash at the end.
    #[must_use]
    pub fn server_url(&self) -> &str {
        self.0.server_url.trim_end_matches('/')
    }

    /// The descriptor.
    #[must_use]
    pub const fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    /// Whether it runs in earnest: its operator refuses unsafe settings.
    #[must_use]
    pub fn is_production(&self) -> bool {
        self.0.profile == Profile::Production
    }

    pub(crate) const fn server(&self) -> PartyKeys {
        self.0.server.keys()
    }

    pub(crate) const fn server_identity(&self) -> IdentityPublic {
        self.0.server.identity
    }

    pub(crate) const fn server_hpke(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.server.hpke.0)
    }

    pub(crate) const fn custodian(&self) -> PartyKeys {
        self.0.custodian.keys()
    }

    /// The pinned key of the password door.
    pub(crate) fn guesskeeper(&self) -> Result<PublicKey> {
        self.0.guesskeeper.map(|keeper| PublicKey::from_bytes(keeper.hpke.0)).ok_or(Error::InvalidDescriptor)
    }

    /// The pinned key of the passkey door and its number, if the deployment has one.
    pub(crate) fn keeper(&self) -> Option<(KeyId, PublicKey)> {
        self.0.keeper.map(|keeper| (keeper.key_id, PublicKey::from_bytes(keeper.hpke.0)))
    }

    pub(crate) fn password_policy(&self) -> Policy {
        Policy::default()
    }

    pub(crate) fn digest_capability(&self) -> Option<DigestCapability> {
        self.0.digest_capability()
    }
}

fn untrusted(error: halfkey_protocol::Error) -> Error {
    match error {
        halfkey_protocol::Error::UnknownVersion => Error::UpgradeRequired,
        _ => Error::InvalidDescriptor,
    }
}
