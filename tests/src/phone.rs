//! A device of a user: the SDK in this process, with stores that can be copied, lost and looked into.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use halfkey_cli::wallet::SystemClock;
use halfkey_client::{
    BlobSlot, BlobStore, Credentials, Deployment as Trusted, Halfkey, SecretStore,
    host::{Dismissed, Prompt},
    memory::{MemoryBlobStore, MemorySecretStore},
};
use halfkey_envelope::{door::KdfParams, entropy::OsEntropy};
use zeroize::Zeroizing;

use crate::{
    deployment::{Client, Deployment},
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
        Self::with(Arc::default(), Arc::default(), &deployment.descriptor, &client.api_key, deployment.address())
    }

    /// A device with a copy of what another had.
    ///
    /// # Errors
    /// See [`Phone::new`].
    pub async fn restored(deployment: &Deployment, client: &Client, saved: &Saved) -> Result<Self, Failed> {
        let phone = Self::new(deployment, client)?;
        if let Some(key) = &saved.key {
            phone.keychain.write(key).await?;
        }
        for (slot, bytes) in &saved.blobs {
            phone.disk.put(*slot, bytes.clone());
        }
        Ok(phone)
    }

    /// The same device after the app was killed and started again: only what was stored is left.
    ///
    /// # Errors
    /// See [`Phone::new`].
    pub fn restarted(self, deployment: &Deployment) -> Result<Self, Failed> {
        Self::with(self.keychain, self.disk, &self.descriptor, &self.token, deployment.address())
    }

    fn with(
        keychain: Arc<MemorySecretStore>,
        disk: Arc<MemoryBlobStore>,
        descriptor: &str,
        token: &str,
        server: SocketAddr,
    ) -> Result<Self, Failed> {
        let (wire, paper) = (Wire::to(server)?, Arc::<Paper>::default());
        let app = Halfkey::builder(Trusted::from_json(descriptor)?, Credentials::token(token))
            .share_store(Arc::clone(&keychain) as Arc<dyn SecretStore>, Arc::clone(&disk) as Arc<dyn BlobStore>)
            .transport(Arc::clone(&wire) as _)
            .clock(Arc::new(SystemClock))
            .entropy(Box::new(OsEntropy))
            .prompt(Arc::clone(&paper) as _)
            // What a guess costs is tested elsewhere; here it would only be waited for.
            .key_derivation(KdfParams::FLOOR)
            .build()?;
        Ok(Self { keychain, disk, paper, wire, app, descriptor: descriptor.to_owned(), token: token.to_owned() })
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
