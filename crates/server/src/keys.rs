//! The server's own keys: made at the first start, wrapped by the key service, the same on every node. The signing
//! server (S) and the custodian (K) have keys of their own although they live in one process (PROTOCOL.md 4).

use std::fmt;

use halfkey_envelope::{
    cloud::{PepperRoot, RootId},
    custodian::DataKey,
    entropy::OsEntropy,
    hpke::SecretKey,
    id::DeploymentId,
};
use halfkey_protocol::{
    IdentityKey, PartyKeys, Signs,
    descriptor::{HpkePublic, Party},
};
use zeroize::Zeroizing;

use crate::{
    error::Error,
    kept::KeptKey,
    kms::{EncryptionContext, KeyWrapper},
    store::{self, Store, cloud::pepper_root_name},
};

/// The name of the key that is made first.
pub(crate) const FIRST: &str = "deployment-identity";

/// The keys of one role.
pub(crate) struct RoleKeys {
    pub(crate) identity: IdentityKey,
    pub(crate) hpke: SecretKey,
}

impl RoleKeys {
    /// As a ceremony's context takes them.
    pub(crate) fn public(&self) -> PartyKeys {
        self.party().keys()
    }

    /// As the descriptor names them.
    pub(crate) fn party(&self) -> Party {
        Party { identity: self.identity.public(), hpke: HpkePublic(*self.hpke.public_key().as_bytes()) }
    }
}

/// All of the server's own keys.
pub(crate) struct Keys {
    /// Signs descriptors.
    pub(crate) deployment: IdentityKey,
    /// The signing server.
    pub(crate) server: RoleKeys,
    /// The custodian of managed backups.
    pub(crate) custodian: RoleKeys,
    /// Signs the audit log's checkpoints.
    pub(crate) audit: IdentityKey,
    /// Derives n_S.
    pub(crate) nonces: Zeroizing<[u8; 32]>,
    /// Derives what cancels a recovery by link.
    pub(crate) links: Zeroizing<[u8; 32]>,
    /// Derives what signs the events that are sent to custodians.
    pub(crate) webhooks: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Opens them, and makes those that are not there yet.
    pub(crate) async fn open(
        store: &Store,
        kms: &dyn KeyWrapper,
        deployment: DeploymentId,
        now_ms: u64,
    ) -> Result<Self, Error> {
        let seed = async |name| seed(store, kms, deployment, name, now_ms).await;
        let identity = async |name| Ok::<_, Error>(IdentityKey::from_bytes(&*seed(name).await?));
        let hpke = async |name| Ok::<_, Error>(SecretKey::from_seed(&*seed(name).await?));
        Ok(Self {
            deployment: identity(FIRST).await?,
            server: RoleKeys { identity: identity("server-identity").await?, hpke: hpke("server-hpke").await? },
            custodian: RoleKeys {
                identity: identity("custodian-identity").await?,
                hpke: hpke("custodian-hpke").await?,
            },
            audit: identity("audit-log").await?,
            nonces: seed("nonces").await?,
            links: seed("recovery-links").await?,
            webhooks: seed("webhooks").await?,
        })
    }
}

/// The key of kept state (PROTOCOL.md 4.7): the same on every node.
pub(crate) async fn kept_key(
    store: &Store,
    kms: &dyn KeyWrapper,
    deployment: DeploymentId,
    now_ms: u64,
) -> Result<KeptKey, Error> {
    Ok(KeptKey::from_bytes(seed(store, kms, deployment, "kept-state", now_ms).await?))
}

/// The number of the newest pepper root; the first one is made where there is none.
pub(crate) async fn newest_pepper_root(
    store: &Store,
    kms: &dyn KeyWrapper,
    deployment: DeploymentId,
    now_ms: u64,
) -> Result<RootId, Error> {
    match store.newest_pepper_root().await? {
        Some(newest) => Ok(newest),
        None => make_pepper_root(store, kms, deployment, 1, now_ms).await,
    }
}

/// Makes the pepper root of this number unless there is one: what is there is never replaced.
pub(crate) async fn make_pepper_root(
    store: &Store,
    kms: &dyn KeyWrapper,
    deployment: DeploymentId,
    root: RootId,
    now_ms: u64,
) -> Result<RootId, Error> {
    let name = pepper_root_name(root);
    let context = EncryptionContext::of_server_key(deployment, &name);
    let fresh = kms.wrap(&DataKey::generate(&mut OsEntropy), &context).await?;
    store.server_key(&name, &fresh, now_ms).await?;
    Ok(root)
}

/// The pepper root of this number. One that is gone is never made anew: the records of its backups would be lost unseen.
pub(crate) async fn pepper_root(
    store: &Store,
    kms: &dyn KeyWrapper,
    deployment: DeploymentId,
    root: RootId,
) -> Result<PepperRoot, Error> {
    let name = pepper_root_name(root);
    let gone = store::Error::Corrupt("a pepper root is gone");
    let wrapped = store.find_server_key(&name).await?.ok_or(gone)?;
    let key = kms.unwrap(&wrapped, &EncryptionContext::of_server_key(deployment, &name)).await?;
    Ok(PepperRoot::from_bytes(Zeroizing::new(*key.expose())))
}

/// One 32-byte seed: wrapped in the database, made if it is not there. Whoever writes first wins, on every node.
async fn seed(
    store: &Store,
    kms: &dyn KeyWrapper,
    deployment: DeploymentId,
    name: &str,
    now_ms: u64,
) -> Result<Zeroizing<[u8; 32]>, Error> {
    let context = EncryptionContext::of_server_key(deployment, name);
    let wrapped = match store.find_server_key(name).await? {
        Some(wrapped) => wrapped,
        None => {
            let fresh = kms.wrap(&DataKey::generate(&mut OsEntropy), &context).await?;
            store.server_key(name, &fresh, now_ms).await?
        }
    };
    Ok(Zeroizing::new(*kms.unwrap(&wrapped, &context).await?.expose()))
}
