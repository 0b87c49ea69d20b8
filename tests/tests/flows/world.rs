//! A whole deployment in this process: the server's router on SQLite, a guesskeeper on a Unix socket, and phones that
//! run the SDK over a transport that can lose answers.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http,
};
use halfkey_api::{message::CreatedClient, route};
use halfkey_client::{
    Addresses, BackupMethod, Clock, CodeText, Credentials, Deployment, Halfkey, Password, PasswordKind, Progress,
    Prompt, RecoveryMethod, Request, Response, Transport, TransportError,
    host::Dismissed,
    memory::{MemoryBlobStore, MemorySecretStore},
};
use halfkey_envelope::{door::KdfParams, entropy::DangerSeededEntropy};
use halfkey_guesskeeper::{Listen, Rules};
use halfkey_server::{
    App, Details, admin, app,
    clock::{Clock as ServerClock, SystemClock},
    config::{Config, KeeperAddress, Rate},
    descriptor,
};
use tempfile::TempDir;
use tower::ServiceExt;
use zeroize::Zeroizing;

pub const PASSWORD: &str = "correct horse battery staple";
pub const OTHER_PASSWORD: &str = "a quite different long passphrase";

pub struct World {
    pub router: Router,
    pub deployment: Deployment,
    pub state: App,
    /// The server's clock, and that of the phones.
    pub clock: Arc<MovedClock>,
    custodian_key: String,
    pub keeper: tokio::task::JoinHandle<Result<(), halfkey_guesskeeper::Error>>,
    pub folder: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// A server with other settings than the usual ones.
    pub async fn start_with(settings: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("guesskeeper.sock");
        let mut keeper =
            halfkey_guesskeeper::Config::new(folder.path().join("guesskeeper"), Listen::Unix(socket.clone()));
        keeper.anchor = Some(folder.path().join("anchor"));
        // The delays are the guesskeeper's own tests' matter.
        keeper.rules = Rules { delays_ms: [0; 7], ..Rules::default() };
        let keeper = tokio::spawn(halfkey_guesskeeper::run(keeper));
        until_it_listens(&socket).await;

        let mut config = Config::new(folder.path().join("server"));
        config.guesskeeper = Some(KeeperAddress::Unix(socket));
        let plenty = Rate::per_minute(1_000_000);
        for limit in [
            &mut config.limits.client,
            &mut config.limits.heavy,
            &mut config.limits.heavy_deployment,
            &mut config.limits.backups,
            &mut config.limits.recoveries,
            &mut config.limits.door_client,
            &mut config.limits.door_deployment,
            &mut config.limits.signatures,
        ] {
            *limit = plenty;
        }
        settings(&mut config);
        let clock = Arc::new(MovedClock::default());
        let state = App::open(config, clock.clone()).await.unwrap();
        let (_, key) = admin::create_custodian(&state, "test").await.unwrap();
        let details = Details { server_url: Some("http://halfkey.test".into()), ..Details::default() };
        let signed = descriptor(&state, details).await.unwrap();
        let deployment = Deployment::from_json(&signed.to_json().unwrap()).unwrap();
        Self { router: app(state.clone()), deployment, state, clock, custodian_key: key.key, keeper, folder }
    }

    /// A client's session token.
    pub async fn client(&self) -> String {
        self.created_client().await.client_session_token
    }

    /// A client's own API key: it does not end with time.
    pub async fn client_key(&self) -> String {
        self.created_client().await.client_api_key
    }

    async fn created_client(&self) -> CreatedClient {
        let request = http::Request::post(route::CUSTODIAN_CLIENTS)
            .header("authorization", format!("Bearer {}", self.custodian_key))
            .header("content-type", "application/json")
            .body(Body::from("{}"))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// A phone of this client, new out of the box.
    pub fn phone(&self, token: &str) -> Phone {
        Phone::new(self, token)
    }
}

async fn until_it_listens(socket: &Path) {
    while tokio::net::UnixStream::connect(socket).await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It never reaches the server.
    Request,
    /// The server has done its work, and nobody hears of it.
    Answer,
}

/// The machine's clock, moved by so many milliseconds.
#[derive(Default)]
pub struct MovedClock {
    moved_ms: AtomicI64,
    base: Option<Arc<MovedClock>>,
}

impl MovedClock {
    pub fn pass_ms(&self, ms: i64) {
        self.moved_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl ServerClock for MovedClock {
    fn now_ms(&self) -> u64 {
        let base = self.base.as_ref().map_or_else(|| SystemClock.now_ms(), |base| ServerClock::now_ms(&**base));
        base.checked_add_signed(self.moved_ms.load(Ordering::SeqCst)).unwrap()
    }
}

impl Clock for MovedClock {
    fn now_ms(&self) -> u64 {
        ServerClock::now_ms(self)
    }
}

/// Changes an answer's body, by the path that was asked.
pub type Tamper = Box<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync>;

/// The network between a phone and the server.
pub struct Network {
    router: Router,
    sent: AtomicUsize,
    lose: Mutex<Option<(usize, Loss)>>,
    tamper: Mutex<Option<Tamper>>,
}

impl Network {
    /// How many requests were made.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Loses the `nth` request from now on (counted from 0), once.
    pub fn lose(&self, nth: usize, loss: Loss) {
        *self.lose.lock().unwrap() = Some((self.sent() + nth, loss));
    }

    pub fn tamper(&self, with: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) {
        *self.tamper.lock().unwrap() = Some(Box::new(with));
    }

    pub fn honest(&self) {
        *self.tamper.lock().unwrap() = None;
    }

    /// Whether the loss that was asked for has happened.
    pub fn has_lost(&self) -> bool {
        self.lose.lock().unwrap().is_none()
    }

    fn loses(&self) -> Option<Loss> {
        let number = self.sent.fetch_add(1, Ordering::SeqCst);
        let mut lose = self.lose.lock().unwrap();
        let loss = lose.filter(|(at, _)| *at == number).map(|(_, loss)| loss);
        if loss.is_some() {
            *lose = None;
        }
        loss
    }
}

#[async_trait]
impl Transport for Network {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let loss = self.loses();
        if loss == Some(Loss::Request) {
            return Err(TransportError::Unreachable);
        }
        let path = request.url.strip_prefix("http://halfkey.test").unwrap().to_owned();
        let mut builder = http::Request::builder().method(request.method).uri(&path);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let response = self.router.clone().oneshot(builder.body(Body::from(request.body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let mut body = to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec();
        if loss == Some(Loss::Answer) {
            return Err(TransportError::Timeout);
        }
        if let Some(tamper) = &*self.tamper.lock().unwrap() {
            body = tamper(&path, body);
        }
        Ok(Response { status, headers: Vec::new(), body })
    }
}

/// Writes the code down and types it back.
#[derive(Default)]
pub struct Paper {
    pub code: Mutex<Option<String>>,
    /// How many times something else is typed first.
    pub typos: AtomicUsize,
}

#[async_trait]
impl Prompt for Paper {
    async fn confirm_recovery_code(&self, code: &str, _: bool) -> Result<Zeroizing<String>, Dismissed> {
        *self.code.lock().unwrap() = Some(code.to_owned());
        let typos = self.typos.load(Ordering::SeqCst);
        if typos > 0 {
            self.typos.store(typos - 1, Ordering::SeqCst);
            return Ok(Zeroizing::new("0000".into()));
        }
        Ok(Zeroizing::new(code.to_lowercase()))
    }
}

/// The SDK with what a phone keeps.
pub struct Phone {
    pub halfkey: Halfkey,
    pub network: Arc<Network>,
    pub blobs: Arc<MemoryBlobStore>,
    pub secrets: Arc<MemorySecretStore>,
    pub paper: Arc<Paper>,
    pub progress: Arc<Mutex<Vec<Progress>>>,
    /// The server's clock, unless it is moved.
    pub clock: Arc<MovedClock>,
    deployment: Deployment,
    token: String,
}

static SEED: AtomicUsize = AtomicUsize::new(1);

impl Phone {
    fn new(world: &World, token: &str) -> Self {
        let (router, lose) = (world.router.clone(), Mutex::new(None));
        let network = Arc::new(Network { router, sent: AtomicUsize::new(0), lose, tamper: Mutex::new(None) });
        let (blobs, secrets) = (Arc::new(MemoryBlobStore::new()), Arc::new(MemorySecretStore::new()));
        let clock = Arc::new(MovedClock { moved_ms: AtomicI64::new(0), base: Some(world.clock.clone()) });
        Self::with(network, blobs, secrets, clock, world.deployment.clone(), token)
    }

    fn with(
        network: Arc<Network>,
        blobs: Arc<MemoryBlobStore>,
        secrets: Arc<MemorySecretStore>,
        clock: Arc<MovedClock>,
        deployment: Deployment,
        token: &str,
    ) -> Self {
        let (paper, progress) = (Arc::new(Paper::default()), Arc::new(Mutex::new(Vec::new())));
        let reports = Arc::clone(&progress);
        let seed = SEED.fetch_add(1, Ordering::SeqCst) as u64;
        let halfkey = Halfkey::builder(deployment.clone(), Credentials::token(token))
            .share_store(secrets.clone(), blobs.clone())
            .transport(network.clone())
            .clock(clock.clone())
            .prompt(paper.clone())
            .entropy(Box::new(DangerSeededEntropy::new(seed)))
            .key_derivation(KdfParams::FLOOR)
            .on_progress(move |progress| reports.lock().unwrap().push(progress))
            .build()
            .unwrap();
        Self { halfkey, network, blobs, secrets, paper, progress, clock, deployment, token: token.to_owned() }
    }

    /// Somebody else signs in on this phone.
    pub fn signed_in_as(&self, token: &str) -> Self {
        let (blobs, secrets) = (self.blobs.clone(), self.secrets.clone());
        let clock = self.clock.clone();
        Self::with(self.network.clone(), blobs, secrets, clock, self.deployment.clone(), token)
    }

    /// The app was killed and starts again: the same stores, nothing in memory.
    pub fn restarted(&self) -> Self {
        let (blobs, secrets) = (self.blobs.clone(), self.secrets.clone());
        let clock = self.clock.clone();
        Self::with(self.network.clone(), blobs, secrets, clock, self.deployment.clone(), &self.token)
    }
}

pub fn backup_with(password: &str) -> BackupMethod {
    BackupMethod::Password { password: Password::new(password), kind: PasswordKind::Password }
}

pub fn with(password: &str) -> RecoveryMethod {
    RecoveryMethod::Password(Password::new(password))
}

pub fn with_code(code: &str) -> RecoveryMethod {
    RecoveryMethod::RecoveryCode(CodeText::new(code))
}

/// Recovers, and gives what came of it.
pub async fn recover(
    phone: &Phone,
    method: RecoveryMethod,
    old_devices: halfkey_client::OldDevices,
    expected: Option<Addresses>,
) -> halfkey_client::Result<halfkey_client::Recovered> {
    match phone.halfkey.recover_wallet(method, old_devices, expected).await? {
        halfkey_client::Recovering::Recovered(recovered) => Ok(*recovered),
        waiting => panic!("{waiting:?}"),
    }
}
