//! What all handlers share, and the router they hang on.

use std::{ops::Deref, sync::Arc};

use axum::{Router, middleware};
use halfkey_api::error::ErrorId;
use halfkey_envelope::{entropy::OsEntropy, id::DeploymentId};

use crate::{
    clock::Clock,
    config::{Config, Rate},
    door,
    error::Error,
    events,
    fault::Fault,
    heavy::Heavy,
    http::{
        auth,
        guard::{self, Guard},
    },
    kept::{Caps, Kept},
    keys::{self, Keys},
    kms::{KeyWrapper, LocalKeys, Missing, Vault},
    link::Link,
    passkey_door,
    policy_hook::Asked,
    routes,
    shred::{Copies, Shred},
    store::{Limit, Store},
    turns::Turns,
    webhook::Sender,
};

/// A server's state; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// See [`App`].
pub struct Inner {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) deployment: DeploymentId,
    pub(crate) store: Store,
    shred: Shred,
    kept: Option<Kept>,
    pub(crate) kms: Arc<dyn KeyWrapper>,
    pub(crate) keys: Keys,
    pub(crate) vault: Vault,
    /// Key generation and fresh oblivious-transfer state: a third of a second each.
    pub(crate) heavy: Heavy,
    /// Signatures and reshares: milliseconds, and not to wait behind the heavy ones.
    pub(crate) quick: Heavy,
    pub(crate) guard: Guard,
    /// Signatures with one pair, and commits of one subject, one at a time.
    pub(crate) turns: Turns,
    pub(crate) guesskeeper: Option<Link>,
    pub(crate) keeper: Option<Link>,
    pub(crate) policy_hook: Option<Asked>,
    /// To the addresses that custodians named.
    pub(crate) webhooks: Sender,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// Opens the data folder and the databases to serve; makes what a first start makes, and forgets the sessions of
    /// the start before.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::open_as(config, clock, true).await
    }

    /// The same for an operator's command, beside a server that may be running: no ceremony can be taken part in.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open_for_admin(config: Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::open_as(config, clock, false).await
    }

    async fn open_as(config: Config, clock: Arc<dyn Clock>, to_serve: bool) -> Result<Self, Error> {
        let refused = config.refused();
        if !refused.is_empty() {
            return Err(Error::Unsafe(refused));
        }
        private_folder(&config.data)?;
        let now_ms = clock.now_ms();
        let store = Store::connect(&config.database_url()).await?;
        store.check_clock(now_ms).await?;
        let deployment = store.deployment(&mut OsEntropy, now_ms).await?;
        let shred = open_shred(&config).await?;
        let store = meet(store, shred.clone(), now_ms).await?;
        let kms = open_kms(&config, &store).await?;
        let keys = Keys::open(&store, kms.as_ref(), deployment, now_ms).await?;
        let kept_key = keys::kept_key(&store, kms.as_ref(), deployment, now_ms).await?;
        let kept = match to_serve {
            true => Some(Kept::connect(&config.kept_url(), kept_key, Caps::default()).await?),
            false => None,
        };
        let life_ms = u64::try_from(config.signing_key_cache.as_millis()).unwrap_or(u64::MAX);
        let vault = Vault::new(store.clone(), shred.clone(), Arc::clone(&kms), deployment, life_ms);
        let guesskeeper = config.guesskeeper.clone().map(Link::new);
        let keeper = config.keeper.clone().map(Link::new);
        let policy_hook = config.policy_hook.clone().map(Asked::new).transpose().map_err(Error::Hook)?;
        let webhooks = events::sender(config.webhooks_into_private_networks()).map_err(Error::Hook)?;
        Ok(Self(Arc::new(Inner {
            deployment,
            store,
            shred,
            kept,
            kms,
            keys,
            vault,
            heavy: Heavy::new(config.limits.heavy_queue),
            quick: Heavy::new(config.limits.quick_queue),
            guard: Guard::new(config.limits.concurrent_requests, config.request_timeout),
            turns: Turns::default(),
            guesskeeper,
            keeper,
            policy_hook,
            webhooks,
            config,
            clock,
        })))
    }

    /// This deployment.
    #[must_use]
    pub fn deployment(&self) -> DeploymentId {
        self.deployment
    }
}

impl Inner {
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The state between two rounds of a ceremony.
    pub(crate) fn kept(&self) -> Result<&Kept, Fault> {
        self.kept.as_ref().ok_or_else(|| Fault::internal(&"not opened to serve"))
    }

    /// Counts one of `subject` against `rate`.
    pub(crate) async fn limit(&self, subject: &str, rate: Rate, now_ms: u64) -> Result<(), Fault> {
        let limit = Limit { hits: u64::from(rate.count), window_ms: rate.window_ms };
        Ok(self.store.hit(subject, limit, now_ms).await?)
    }

    /// Closes every database.
    pub(crate) async fn close(&self) {
        if let Some(kept) = &self.kept {
            kept.close().await;
        }
        self.shred.close().await;
        self.store.close().await;
    }

    /// Whether everything that a request may need answers.
    pub(crate) async fn ready(&self) -> Result<(), Fault> {
        self.store.ping().await?;
        self.kms.health().await?;
        if let Some(link) = &self.guesskeeper {
            let away = |_| Fault::unavailable("the guesskeeper does not answer", 1_000);
            door::keys(link).await.map_err(away)?;
        }
        if let Some(link) = &self.keeper {
            let away = |_| Fault::unavailable("the keeper does not answer", 1_000);
            passkey_door::info(link).await.map_err(away)?;
        }
        Ok(())
    }
}

async fn open_shred(config: &Config) -> Result<Shred, Error> {
    let urls = config.shred_urls();
    let copies = if urls.len() > 1 { Copies::AtLeastTwo } else { Copies::DangerOne };
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    Ok(Shred::connect(&urls, copies).await?)
}

/// The main database meets the newest shred store: what an older copy would undo is corrected, and said.
async fn meet(store: Store, shred: Shred, now_ms: u64) -> Result<Store, Error> {
    let (store, found) = store.attach(shred, now_ms).await?;
    if found.restored {
        tracing::warn!(corrected = found.corrected, "the main database is an older copy");
        for (client, wallet) in &found.back_up_again {
            tracing::warn!(%client, %wallet, "this wallet lost its newest half: its device should back up again");
        }
    }
    if found.without_shred_key > 0 {
        tracing::error!(
            halves = found.without_shred_key,
            "halves without a shred key: is this the newest shred store?"
        );
    }
    Ok(store)
}

/// The local key file is made at the very first start only: later a missing one is an accident, not a wish.
async fn open_kms(config: &Config, store: &Store) -> Result<Arc<dyn KeyWrapper>, Error> {
    let first_start = store.find_server_key(keys::FIRST).await?.is_none();
    let missing = if first_start { Missing::Create } else { Missing::Refuse };
    Ok(Arc::new(LocalKeys::open(&config.data.join("kms.key"), missing)?))
}

/// The data folder, readable by its owner alone.
fn private_folder(path: &std::path::Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(Error::io("the data folder"))
}

/// The whole HTTP interface.
pub fn app(app: App) -> Router {
    let custodian =
        Router::from(routes::custodian()).route_layer(middleware::from_fn_with_state(app.clone(), auth::custodians));
    let client = Router::from(routes::client()).route_layer(middleware::from_fn_with_state(app.clone(), auth::clients));
    let router = custodian.merge(client).merge(Router::from(routes::open()));
    router
        .fallback(async || Fault::new(ErrorId::NotFound, "no such path"))
        .method_not_allowed_fallback(async || Fault::new(ErrorId::MethodNotAllowed, "no such method at this path"))
        .layer(middleware::from_fn_with_state(app.guard.clone(), guard::guard))
        .layer(middleware::from_fn(guard::trace))
        .with_state(app)
}
