//! What does not change while the SDK runs.

use std::sync::Mutex;

use halfkey_api::chain::bitcoin::Network;
use halfkey_envelope::{door::KdfParams, entropy::Entropy, text::Policy};

use crate::{deployment::Deployment, platform::PlatformEnv};

/// The deployment that is trusted, the platform, and the source of randomness.
pub struct Setting {
    pub(crate) deployment: Deployment,
    pub(crate) platform: PlatformEnv,
    pub(crate) device_name: String,
    pub(crate) network: Network,
    pub(crate) kdf: KdfParams,
    pub(crate) password_policy: Policy,
    pub(crate) entropy: Mutex<Box<dyn Entropy>>,
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
        }
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
