//! A device of a user: the SDK in this process, with stores that can be copied, lost and looked into.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use halfkey_cli::wallet::SystemClock;
use halfkey_client::{
    BlobSlot, BlobStore, Credentials, Deployment as Trusted, Halfkey, PasskeyConfig, PlatformEnv, SecretStore,
    host::{Dismissed, Passkeys, Prompt},
    memory::{MemoryBlobStore, MemorySecretStore},
};
use halfkey_envelope::{door::KdfParams, entropy::OsEntropy, wallet::Method};
use zeroize::Zeroizing;

use crate::{
    deployment::{Client, Deployment, ORIGIN, RELYING_PARTY},
    wire::Wire,
};

/// One device.
pub struct Phone {
    /// Its wrapping key.
    pub keychain: Arc<MemorySecretStore>,
    /// Its sealed blobs.
    pub disk: Arc<MemoryBlobStore>,
    /// Where its user writes a recovery code down.
    pub paper: Arc<Paper>,
    /// Its network.
    pub wire: Arc<Wire>,
    /// The app.
    pub app: Halfkey,
    descriptor: String,
    token: String,
    provider: Option<Arc<dyn Passkeys>>,
}

/// A piece of paper: keeps the recovery code, and its user types it back from there.
#[derive(Default)]
pub struct Paper(Mutex<Option<String>>);

impl Paper {
    /// The code that was shown last.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Prompt for Paper {
    async fn confirm_recovery_code(&self, code: &str, _again: bool) -> Result<Zeroizing<String>, Dismissed> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(code.to_owned());
        Ok(Zeroizing::new(code.to_owned()))
    }
}

/// What a device had on it.
pub struct Saved {
    key: Option<Zeroizing<[u8; 32]>>,
    blobs: Vec<(BlobSlot, Vec<u8>)>,
}

/// Why a device cannot be made.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Phone {
    /// A device with nothing on it.
    ///
    /// # Errors
    /// When the descriptor does not fit this SDK.
    pub fn new(deployment: &Deployment, client: &Client) -> Result<Self, Failed> {
        let (descriptor, token) = (&deployment.descriptor, &client.api_key);
        Self::with(Arc::default(), Arc::default(), descriptor, token, deployment.address(), None)
    }

    /// A device with nothing on it, whose passkeys lie with this provider.
    ///
    /// # Errors
    /// See [`Phone::new`].
    pub fn with_passkeys(
        deployment: &Deployment,
        client: &Client,
        provider: &(impl Passkeys + Clone + 'static),
    ) -> Result<Self, Failed> {
        let (descriptor, token) = (&deployment.descriptor, &client.api_key);
        let provider = Some(Arc::new(provider.clone()) as Arc<dyn Passkeys>);
        Self::with(Arc::default(), Arc::default(), descriptor, token, deployment.address(), provider)
    }

    /// Puts a copy of what a device had on this one.
    ///
    /// # Errors
    /// Never: the stores are in memory.
    pub async fn restore(&self, saved: &Saved) -> Result<(), Failed> {
        if let Some(key) = &saved.key {
            self.keychain.write(key).await?;
        }
        for (slot, bytes) in &saved.blobs {
            self.disk.put(*slot, bytes.clone());
        }
        Ok(())
    }

    /// A device with a copy of what another had.
    ///
    /// # Errors
    /// See [`Phone::new`].
    pub async fn restored(deployment: &Deployment, client: &Client, saved: &Saved) -> Result<Self, Failed> {
        let phone = Self::new(deployment, client)?;
        phone.restore(saved).await?;
        Ok(phone)
    }

    /// The same device after the app was killed and started again: only what was stored is left.
    ///
    /// # Errors
    /// See [`Phone::new`].
    pub fn restarted(self, deployment: &Deployment) -> Result<Self, Failed> {
        let (descriptor, token) = (&self.descriptor, &self.token);
        Self::with(self.keychain, self.disk, descriptor, token, deployment.address(), self.provider)
    }

    fn with(
        keychain: Arc<MemorySecretStore>,
        disk: Arc<MemoryBlobStore>,
        descriptor: &str,
        token: &str,
        server: SocketAddr,
        provider: Option<Arc<dyn Passkeys>>,
    ) -> Result<Self, Failed> {
        let (wire, paper) = (Wire::to(server)?, Arc::<Paper>::default());
        let mut platform = PlatformEnv::default();
        platform.overrides.push((Method::Passkey, provider.is_some()));
        let mut builder = Halfkey::builder(Trusted::from_json(descriptor)?, Credentials::token(token));
        if let Some(provider) = &provider {
            builder = builder.passkeys(Arc::clone(provider));
        }
        let app = builder
            .platform(platform)
            .share_store(Arc::clone(&keychain) as Arc<dyn SecretStore>, Arc::clone(&disk) as Arc<dyn BlobStore>)
            .transport(Arc::clone(&wire) as _)
            .clock(Arc::new(SystemClock))
            .entropy(Box::new(OsEntropy))
            .prompt(Arc::clone(&paper) as _)
            // What a guess costs is tested elsewhere; here it would only be waited for.
            .key_derivation(KdfParams::FLOOR)
            .build()?;
        if provider.is_some() {
            app.configure_passkey_storage(PasskeyConfig::new(RELYING_PARTY, [ORIGIN]))?;
        }
        let (descriptor, token) = (descriptor.to_owned(), token.to_owned());
        Ok(Self { keychain, disk, paper, wire, app, descriptor, token, provider })
    }

    /// A copy of what is on the device.
    ///
    /// # Errors
    /// Never: the stores are in memory.
    pub async fn saved(&self) -> Result<Saved, Failed> {
        let key = self.keychain.read().await?;
        let blobs = [BlobSlot::Current, BlobSlot::Pending].into_iter();
        let blobs = blobs.filter_map(|slot| Some((slot, self.disk.peek(slot)?))).collect();
        Ok(Saved { key, blobs })
    }
}
