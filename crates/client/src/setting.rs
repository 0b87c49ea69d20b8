//! What does not change while the SDK runs.

use std::{collections::BTreeSet, sync::Mutex};

use halfkey_api::chain::bitcoin::Network;
use halfkey_envelope::{door::KdfParams, entropy::Entropy, passkey::check_origin, text::Policy, wallet::Method};

use crate::{
    deployment::Deployment,
    error::{Error, Result},
    machine::lock,
    platform::{GoogleConfig, ICloudConfig, PasskeyConfig, PlatformEnv},
};

/// The deployment that is trusted, the platform, and the source of randomness.
pub struct Setting {
    pub(crate) deployment: Deployment,
    pub(crate) platform: PlatformEnv,
    pub(crate) device_name: String,
    pub(crate) network: Network,
    pub(crate) kdf: KdfParams,
    pub(crate) password_policy: Policy,
    pub(crate) entropy: Mutex<Box<dyn Entropy>>,
    passkeys: Mutex<Option<PasskeyConfig>>,
    google: Mutex<Option<GoogleConfig>>,
    icloud: Mutex<Option<ICloudConfig>>,
    custom: Mutex<BTreeSet<String>>,
    insecure_evidence: bool,
}

impl Setting {
    /// The defaults for a deployment; `entropy` must be a cryptographic source.
    #[must_use]
    pub fn new(deployment: Deployment, entropy: Box<dyn Entropy>) -> Self {
        let password_policy = deployment.password_policy();
        Self {
            deployment,
            platform: PlatformEnv::default(),
            device_name: "device".to_owned(),
            network: Network::Mainnet,
            kdf: KdfParams::DEFAULT,
            password_policy,
            entropy: Mutex::new(entropy),
            passkeys: Mutex::new(None),
            google: Mutex::new(None),
            icloud: Mutex::new(None),
            custom: Mutex::default(),
            insecure_evidence: false,
        }
    }

    /// Where this app's passkeys live. Needed for the method PASSKEY.
    ///
    /// # Errors
    /// [`Error::UntrustedRelyingParty`] if the descriptor does not name it, or its origins are impossible.
    pub fn configure_passkey_storage(&self, config: PasskeyConfig) -> Result<()> {
        let named = self.deployment.descriptor().relying_parties.contains(&config.relying_party_id);
        let origins = &config.relying_party_origins;
        if !named || origins.is_empty() || !origins.iter().all(|origin| check_origin(origin)) {
            return Err(Error::UntrustedRelyingParty);
        }
        *lock(&self.passkeys) = Some(config);
        Ok(())
    }

    /// The app at Google. Needed for the method GDRIVE.
    ///
    /// # Errors
    /// [`Error::HostIncomplete`] if a field is empty.
    pub fn configure_google_storage(&self, config: GoogleConfig) -> Result<()> {
        if config.client_id.is_empty() || config.application_name.is_empty() || config.api_base().is_empty() {
            return Err(Error::HostIncomplete { what: "GoogleConfig" });
        }
        *lock(&self.google) = Some(config);
        Ok(())
    }

    /// The app at iCloud Keychain. Needed for the method ICLOUD.
    pub fn configure_icloud_storage(&self, config: ICloudConfig) {
        *lock(&self.icloud) = Some(config);
    }

    /// The host answers [`crate::step::Ask::Custom`] for a method of this name: 1 to 32 of `A-Z`, `0-9` and `_`. Needed
    /// for the method `CUSTOM:` and that name.
    ///
    /// # Errors
    /// [`Error::InvalidMethod`] for another name.
    pub fn register_backup_method(&self, name: &str) -> Result<()> {
        Method::custom(name).map_err(|_| Error::InvalidMethod { code: "NAME" })?;
        lock(&self.custom).insert(name.to_owned());
        Ok(())
    }

    pub(crate) fn is_registered(&self, name: &str) -> bool {
        lock(&self.custom).contains(name)
    }

    pub(crate) fn google_config(&self) -> Option<GoogleConfig> {
        lock(&self.google).clone()
    }

    pub(crate) fn icloud_config(&self) -> Option<ICloudConfig> {
        *lock(&self.icloud)
    }

    /// Accepts a keeper that proves nothing about itself: whoever runs it reads every backup made with it. For demos.
    #[cfg(feature = "danger-insecure-evidence")]
    #[must_use]
    pub const fn danger_accept_insecure_evidence(mut self, accept: bool) -> Self {
        self.insecure_evidence = accept;
        self
    }

    pub(crate) fn passkey_config(&self) -> Option<PasskeyConfig> {
        lock(&self.passkeys).clone()
    }

    /// What evidence the keeper must show: the descriptor's policy. `insecure-dev` only if this program was compiled
    /// *and* told to accept it.
    pub(crate) fn evidence_policy(&self) -> Result<halfkey_evidence::Policy> {
        let wanted = &self.deployment.descriptor().evidence;
        let policy = wanted.policy().map_err(|_| Error::InvalidDescriptor)?;
        #[cfg(feature = "danger-insecure-evidence")]
        if self.insecure_evidence && *wanted == halfkey_protocol::descriptor::EvidencePolicy::InsecureDev {
            return Ok(policy.danger_accept_insecure_dev());
        }
        Ok(policy)
    }

    pub(crate) const fn accepts_insecure_evidence(&self) -> bool {
        self.insecure_evidence
    }

    /// Where this runs.
    #[must_use]
    pub fn platform(mut self, platform: PlatformEnv) -> Self {
        self.platform = platform;
        self
    }

    /// The user's name for this device; cut off after 64 characters.
    #[must_use]
    pub fn device_name(mut self, name: &str) -> Self {
        self.device_name = name.chars().take(64).collect();
        self
    }

    /// The Bitcoin network whose addresses are shown; the main one by default.
    #[must_use]
    pub const fn bitcoin_network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Cost of the key derivation of new password backups: [`KdfParams::DEFAULT`] unless the device is very small.
    #[must_use]
    pub const fn key_derivation(mut self, kdf: KdfParams) -> Self {
        self.kdf = kdf;
        self
    }

    /// A password policy of the app's own; the stricter rule of this and the deployment's holds.
    #[must_use]
    pub fn stricter_passwords(mut self, policy: Policy) -> Self {
        self.password_policy = self.password_policy.and(policy);
        self
    }
}
