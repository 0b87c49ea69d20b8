//! What all handlers share, and the router they hang on.

use std::{ops::Deref, sync::Arc};

use axum::{Router, middleware};
use halfkey_api::error::ErrorId;
use halfkey_envelope::{entropy::OsEntropy, id::DeploymentId};

use crate::{
    clock::Clock,
    config::{Config, Rate},
    error::Error,
    fault::Fault,
    heavy::Heavy,
    http::{
        auth,
        guard::{self, Guard},
    },
    link::Link,
    routes,
    store::{Limit, Store},
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
    pub(crate) heavy: Heavy,
    pub(crate) guard: Guard,
    pub(crate) guesskeeper: Option<Link>,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// Opens the data folder and the databases; makes what a first start makes.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        private_folder(&config.data)?;
        let store = Store::connect(&config.database_url()).await?;
        let now_ms = clock.now_ms();
        store.check_clock(now_ms).await?;
        let deployment = store.deployment(&mut OsEntropy, now_ms).await?;
        let guesskeeper = config.guesskeeper.clone().map(Link::new);
        Ok(Self(Arc::new(Inner {
            deployment,
            store,
            heavy: Heavy::new(config.limits.heavy_queue),
            guard: Guard::new(config.limits.concurrent_requests, config.request_timeout),
            guesskeeper,
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

    /// Counts one of `subject` against `rate`.
    pub(crate) async fn limit(&self, subject: &str, rate: Rate, now_ms: u64) -> Result<(), Fault> {
        let limit = Limit { hits: u64::from(rate.count), window_ms: rate.window_ms };
        Ok(self.store.hit(subject, limit, now_ms).await?)
    }

    /// Whether everything that a request may need answers.
    pub(crate) async fn ready(&self) -> Result<(), Fault> {
        self.store.ping().await?;
        Ok(())
    }
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
