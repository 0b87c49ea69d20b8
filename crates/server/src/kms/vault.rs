//! Sealing and opening halves: data key from the key service, shred key from the shred store, context from the row.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use halfkey_envelope::{
    custodian::{self, DataKey, HalfContext, Purpose},
    entropy::Entropy,
    id::{ClientId, DeploymentId, PairId},
};
use halfkey_protocol::lifecycle::PairRef;
use zeroize::Zeroizing;

use super::{EncryptionContext, KeyWrapper, KmsError};
use crate::{
    shred::Shred,
    store::{Error, SealedHalf, Store, StoredHalf},
};

/// At most this many data keys of signing halves are held in memory.
const MAX_CACHED: usize = 10_000;

/// Why a half cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The main database or the shred store.
    #[error(transparent)]
    Store(#[from] Error),
    /// The key service.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// The sealed half itself: another row's, or changed.
    #[error("a sealed half is refused")]
    Half(#[from] custodian::Error),
}

impl VaultError {
    /// Whether trying again cannot help: the sealed half is another row's or was changed, or its shred key is gone.
    /// That the key service refuses to unwrap belongs here; that it does not answer, or lacks a key version that an
    /// operator can give it back, does not.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Half(_) | Self::Kms(KmsError::Refused) | Self::Store(Error::Unknown(_) | Error::Shredded(_))
        )
    }
}

/// What a rewrap did; give `after` to the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrapped {
    /// Rows looked at.
    pub seen: u64,
    /// Rows that were under an older key version.
    pub changed: u64,
    /// The last row looked at; `None` when there are no more.
    pub after: Option<PairId>,
}

/// By the wrapped form and the context's digest: the data key, and until when it may stay.
type Cached = HashMap<Vec<u8>, (Arc<DataKey>, u64)>;

/// Seals and opens the server's and the custodian's halves.
pub struct Vault {
    store: Store,
    shred: Shred,
    kms: Arc<dyn KeyWrapper>,
    deployment: DeploymentId,
    signing_life_ms: u64,
    cached: Mutex<Cached>,
}

impl Vault {
    /// `signing_life_ms`: how long a signing half's data key stays in memory, so that a signature needs no call to the
    /// key service and an outage does not stop signing at once. Custodian halves' keys never stay.
    #[must_use]
    pub fn new(
        store: Store,
        shred: Shred,
        kms: Arc<dyn KeyWrapper>,
        deployment: DeploymentId,
        signing_life_ms: u64,
    ) -> Self {
        Self { store, shred, kms, deployment, signing_life_ms, cached: Mutex::default() }
    }

    /// Seals a half for the share pair `share`, whose row exists already. Its shred key is durable in every copy
    /// before this returns.
    ///
    /// # Errors
    /// [`VaultError`]; nothing is lost, the half may be sealed again.
    pub async fn seal(
        &self,
        client: ClientId,
        share: PairId,
        half: &[u8],
        entropy: &mut dyn Entropy,
        now_ms: u64,
    ) -> Result<SealedHalf, VaultError> {
        let place = self.store.half_place(client, share).await?;
        let context = HalfContext {
            deployment: self.deployment,
            client,
            wallet: place.wallet,
            curve: place.curve,
            pair: share,
            purpose: purpose(place.pair),
        };
        let data_key = DataKey::generate(entropy);
        let wrapped = self.kms.wrap(&data_key, &EncryptionContext::of_half(&context)).await?;
        let shred_key = self.shred.create(client, &place, entropy, now_ms).await?;
        let sealed = custodian::seal_half(&data_key, &shred_key, &context, half, entropy)?;
        Ok(SealedHalf { half: sealed, data_key: wrapped })
    }

    /// Opens a half that the store gave out for a use.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open(
        &self,
        client: ClientId,
        half: &StoredHalf,
        now_ms: u64,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let context = HalfContext {
            deployment: self.deployment,
            client,
            wallet: half.share.wallet,
            curve: half.share.curve,
            pair: half.share.id,
            purpose: purpose(half.share.pair),
        };
        let shred_key = self.shred.key(half.share.id).await?;
        let data_key = self.data_key(&half.sealed.data_key, &context, now_ms).await?;
        Ok(custodian::open_half(&data_key, &shred_key, &context, &half.sealed.half)?)
    }

    async fn data_key(&self, wrapped: &[u8], context: &HalfContext, now_ms: u64) -> Result<Arc<DataKey>, VaultError> {
        let may_stay = context.purpose == Purpose::Signing && self.signing_life_ms > 0;
        let encryption = EncryptionContext::of_half(context);
        let name = [wrapped, encryption.digest().as_slice()].concat();
        if may_stay && let Some(key) = self.cached(&name, now_ms) {
            return Ok(key);
        }
        let key = Arc::new(self.kms.unwrap(wrapped, &encryption).await?);
        if may_stay && let Ok(mut cached) = self.cached.lock() {
            cached.retain(|_, (_, until_ms)| now_ms < *until_ms);
            if cached.len() < MAX_CACHED {
                let until_ms = now_ms.saturating_add(self.signing_life_ms);
                cached.insert(name, (Arc::clone(&key), until_ms));
            }
        }
        Ok(key)
    }

    fn cached(&self, name: &[u8], now_ms: u64) -> Option<Arc<DataKey>> {
        let cached = self.cached.lock().ok()?;
        cached.get(name).filter(|(_, until_ms)| now_ms < *until_ms).map(|(key, _)| Arc::clone(key))
    }

    /// Walks at most `take` halves after `after` and brings their data keys under the newest key version. Idempotent;
    /// killed in the middle, it goes on from any earlier point.
    ///
    /// # Errors
    /// [`VaultError`]; rows that were done stay done.
    pub async fn rewrap(&self, after: Option<PairId>, take: u64) -> Result<Rewrapped, VaultError> {
        let rows = self.store.data_keys(after, take).await?;
        let mut done = Rewrapped { seen: 0, changed: 0, after: None };
        for row in rows {
            let context = HalfContext {
                deployment: self.deployment,
                client: row.client,
                wallet: row.share.wallet,
                curve: row.share.curve,
                pair: row.share.id,
                purpose: purpose(row.share.pair),
            };
            if let Some(new) = self.kms.rewrap(&row.data_key, &EncryptionContext::of_half(&context)).await? {
                self.store.replace_data_key(row.share.id, &row.data_key, &new).await?;
                done.changed += 1;
            }
            done.seen += 1;
            done.after = Some(row.share.id);
        }
        Ok(done)
    }
}

const fn purpose(pair: PairRef) -> Purpose {
    match pair {
        PairRef::Signing(_) => Purpose::Signing,
        PairRef::Backup(_) => Purpose::Backup,
    }
}
