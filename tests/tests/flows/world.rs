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
use halfkey_api::{
    auth::DEVICE_KEY_HEADER,
    ceremony::{ANSWER, CeremonyAnswer, CeremonyRequest, INFO, Op},
    context::ceremony_aad,
    message::{ClientDetail, CreatedClient},
    route,
};
use halfkey_cli::transport::{HttpTransport, install_tls_provider};
use halfkey_client::{
    Addresses, BackupMethod, Builder, Clock, CodeText, Credentials, Deployment, GoogleConfig, Halfkey, ICloudConfig,
    PasskeyConfig, Password, PasswordKind, PlatformEnv, Progress, Prompt, RecoveryMethod, Request, Response, Transport,
    TransportError,
    host::{CloudTokenProvider, CustomMethod, Dismissed, Passkeys, SyncedSecretStore},
    memory::{MemoryBlobStore, MemorySecretStore, NotingTimer},
};
use halfkey_envelope::{
    cbor,
    door::KdfParams,
    entropy::{DangerSeededEntropy, OsEntropy},
    hpke::{self, SecretKey},
    id::{BackupId, ClientId, DeploymentId},
    wallet::Method,
};
use halfkey_guesskeeper::{Listen, Rules};
use halfkey_server::{
    App, Details, admin, app,
    clock::{Clock as ServerClock, SystemClock},
    config::{Config, KeeperAddress, Rate},
    descriptor,
    kms::{EncryptionContext, KeyWrapper, LocalKeys, Missing},
    store::Store,
};
use halfkey_tests::keeper::{Keeper, policy as keeper_policy};
use tempfile::TempDir;
use tower::ServiceExt;
use zeroize::Zeroizing;

pub const PASSWORD: &str = "correct horse battery staple";
pub const RELYING_PARTY: &str = "wallet.example";
pub const ORIGIN: &str = "https://wallet.example";
pub const OTHER_PASSWORD: &str = "a quite different long passphrase";

pub struct World {
    pub router: Router,
    pub deployment: Deployment,
    pub state: App,
    /// The server's clock, and that of the phones.
    pub clock: Arc<MovedClock>,
    custodian_key: String,
    pub keeper: tokio::task::JoinHandle<Result<(), halfkey_guesskeeper::Error>>,
    /// Of the passkey door.
    pub passkey_keeper: Keeper,
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

    /// A deployment as `halfkey serve` makes it in development: its keeper proves nothing.
    pub async fn start_with_insecure_keeper() -> Self {
        Self::start_as(|_| (), false).await
    }

    /// A server with other settings than the usual ones.
    pub async fn start_with(settings: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(settings, true).await
    }

    async fn start_as(settings: impl FnOnce(&mut Config), with_evidence: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("guesskeeper.sock");
        let mut keeper =
            halfkey_guesskeeper::Config::new(folder.path().join("guesskeeper"), Listen::Unix(socket.clone()));
        keeper.anchor = Some(folder.path().join("anchor"));
        // The delays are the guesskeeper's own tests' matter.
        keeper.rules = Rules { delays_ms: [0; 7], ..Rules::default() };
        let keeper = tokio::spawn(halfkey_guesskeeper::run(keeper));
        until_it_listens(&socket).await;

        let passkey_keeper = Keeper::start(folder.path(), "keeper").await.unwrap();
        let mut config = Config::new(folder.path().join("server"));
        config.guesskeeper = Some(KeeperAddress::Unix(socket));
        let keeper_socket = if with_evidence { &passkey_keeper.socket } else { &passkey_keeper.bare_socket };
        config.keeper = Some(KeeperAddress::Unix(keeper_socket.clone()));
        let plenty = Rate::per_minute(1_000_000);
        for limit in [
            &mut config.limits.client,
            &mut config.limits.heavy,
            &mut config.limits.heavy_deployment,
            &mut config.limits.backups,
            &mut config.limits.recoveries,
            &mut config.limits.door_client,
            &mut config.limits.door_deployment,
            &mut config.limits.passkey_client,
            &mut config.limits.passkey_deployment,
            &mut config.limits.signatures,
        ] {
            *limit = plenty;
        }
        settings(&mut config);
        let clock = Arc::new(MovedClock::default());
        let state = App::open(config, clock.clone()).await.unwrap();
        let (_, key) = admin::create_custodian(&state, "test").await.unwrap();
        let details = Details {
            server_url: Some("http://halfkey.test".into()),
            keeper: Some(passkey_keeper.pinned()),
            evidence: with_evidence.then(keeper_policy),
            relying_parties: vec![RELYING_PARTY.to_owned()],
            ..Details::default()
        };
        let signed = descriptor(&state, details).await.unwrap();
        let deployment = Deployment::from_json(&signed.to_json().unwrap()).unwrap();
        Self {
            router: app(state.clone()),
            deployment,
            state,
            clock,
            custodian_key: key.key,
            keeper,
            passkey_keeper,
            folder,
        }
    }

    /// The descriptor with other details: another app of the same deployment.
    pub async fn trusts(&self, change: impl FnOnce(&mut Details)) -> Deployment {
        let mut details = Details {
            server_url: Some("http://halfkey.test".into()),
            keeper: Some(self.passkey_keeper.pinned()),
            evidence: Some(keeper_policy()),
            relying_parties: vec![RELYING_PARTY.to_owned()],
            ..Details::default()
        };
        change(&mut details);
        let signed = descriptor(&self.state, details).await.unwrap();
        Deployment::from_json(&signed.to_json().unwrap()).unwrap()
    }

    /// Who this is.
    pub async fn client_of(&self, token: &str) -> ClientDetail {
        let request = http::Request::get(route::CLIENT).header("authorization", format!("Bearer {token}"));
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap()
    }

    /// Envelope and sealed record of a backup, as they lie in the server's database.
    pub async fn stored(&self, backup: BackupId) -> (Vec<u8>, Vec<u8>) {
        let database = format!("sqlite:{}", self.folder.path().join("server/halfkey.db").display());
        let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
        let query = sqlx::query_as("SELECT envelope, record FROM envelopes WHERE backup = $1");
        query.bind(&backup.as_bytes()[..]).fetch_one(&pool).await.unwrap()
    }

    /// A call of the custodian's backend: status and answer.
    pub async fn custodian_asks(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        self.custodian_asks_with(&self.custodian_key, method, path, body).await
    }

    /// What the custodian's backend downloads.
    pub async fn custodian_gets(&self, key: Option<&str>, path: &str) -> (u16, Vec<u8>) {
        let key = key.unwrap_or(&self.custodian_key);
        let request = http::Request::get(path).header("authorization", format!("Bearer {key}"));
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        (status, to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    /// The same with another key.
    pub async fn custodian_asks_with(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, serde_json::Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// The custodian opens the window of this client.
    pub async fn enable_eject(&self, token: &str, body: &str) -> serde_json::Value {
        let client = self.client_of(token).await.id;
        let path = route::path(route::CUSTODIAN_ENABLE_EJECT, &[&client.to_string()]);
        let (status, answer) = self.custodian_asks("POST", &path, body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The server's database as an older copy would have it, or a liar: `old` counts again, and `newer` does not.
    pub async fn revive(&self, old: BackupId, newer: BackupId) {
        let database = format!("sqlite:{}", self.folder.path().join("server/halfkey.db").display());
        let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
        for (backup, state) in [(newer, "RETIRED"), (old, "ACTIVE")] {
            let query = sqlx::query("UPDATE pairs SET state = $2 WHERE id = $1");
            let changed = query.bind(&backup.as_bytes()[..]).bind(state).execute(&pool).await.unwrap();
            assert_eq!(changed.rows_affected(), 1);
        }
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

    /// The server's own database, beside the server.
    pub async fn store(&self) -> Store {
        let database = self.folder.path().join("server/halfkey.db");
        Store::connect(&format!("sqlite:{}", database.display())).await.unwrap()
    }

    /// What only the server has: whoever holds it can answer in its place.
    pub async fn stolen_server_key(&self) -> SecretKey {
        let wrapped = self.store().await.find_server_key("server-hpke").await.unwrap().unwrap();
        let kms = LocalKeys::open(&self.folder.path().join("server/kms.key"), Missing::Refuse).unwrap();
        let context = EncryptionContext::of_server_key(self.deployment.id(), "server-hpke");
        SecretKey::from_seed(kms.unwrap(&wrapped, &context).await.unwrap().expose())
    }

    /// A call of the custodian's backend, or of somebody without any credential: the status and the body.
    pub async fn call(
        &self,
        as_custodian: bool,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> (u16, serde_json::Value) {
        let mut request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        if as_custodian {
            request = request.header("authorization", format!("Bearer {}", self.custodian_key));
        }
        self.answer(request, body).await
    }

    /// The same of another custodian.
    pub async fn call_as(&self, key: &str, method: &str, path: &str) -> (u16, serde_json::Value) {
        let request = http::Request::builder().method(method).uri(path);
        self.answer(request.header("authorization", format!("Bearer {key}")), None).await
    }

    async fn answer(
        &self,
        request: http::request::Builder,
        body: Option<serde_json::Value>,
    ) -> (u16, serde_json::Value) {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).as_ref().into()))
    }

    /// The only client that has a wallet.
    pub async fn the_client(&self) -> ClientId {
        let waiting = admin::custodians(&self.state).await.unwrap();
        let page = self.store().await.clients(waiting[0].id, None, 10).await.unwrap();
        assert_eq!(page.len(), 1);
        page[0].id
    }

    /// A phone of this client, new out of the box.
    pub fn phone(&self, token: &str) -> Phone {
        Phone::new(self, token, self.deployment.clone(), Sides::default())
    }

    /// One whose passkeys lie with this provider.
    pub fn phone_of(&self, token: &str, provider: &(impl Passkeys + Clone + 'static)) -> Phone {
        Phone::new(self, token, self.deployment.clone(), Sides::of(provider))
    }

    /// One whose user has clouds.
    pub fn phone_in(&self, token: &str, clouds: &Clouds) -> Phone {
        Phone::new(self, token, self.deployment.clone(), Sides { clouds: Some(clouds.clone()), ..Sides::default() })
    }

    /// One whose user has passkeys and clouds.
    pub fn phone_with(&self, token: &str, provider: &(impl Passkeys + Clone + 'static), clouds: &Clouds) -> Phone {
        let sides = Sides { clouds: Some(clouds.clone()), ..Sides::of(provider) };
        Phone::new(self, token, self.deployment.clone(), sides)
    }

    /// The same, of an app that trusts another descriptor.
    pub fn phone_trusting(
        &self,
        token: &str,
        provider: &(impl Passkeys + Clone + 'static),
        deployment: Deployment,
    ) -> Phone {
        Phone::new(self, token, deployment, Sides::of(provider))
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

/// A server that answers ceremonies as it likes: its own steps, opened, spoilt, and sealed again.
pub struct Hostile {
    key: SecretKey,
    deployment: DeploymentId,
    client: ClientId,
    spoil: Spoil,
}

/// Changes one answer, by the ceremony and the step.
pub type Spoil = Box<dyn Fn(Op, &mut CeremonyAnswer) + Send + Sync>;

impl Hostile {
    pub async fn of(world: &World, spoil: impl Fn(Op, &mut CeremonyAnswer) + Send + Sync + 'static) -> Self {
        let (key, client) = (world.stolen_server_key().await, world.the_client().await);
        Self { key, deployment: world.deployment.id(), client, spoil: Box::new(spoil) }
    }

    fn answers(&self, request: &Request, sealed: Vec<u8>) -> Vec<u8> {
        let device = request.headers.iter().find(|(name, _)| name == DEVICE_KEY_HEADER).unwrap();
        let mut key = [0u8; 32];
        hex::decode_to_slice(&device.1, &mut key).unwrap();
        let aad = ceremony_aad(self.deployment, self.client, &key);
        let (asked, answers) = hpke::open_request(&self.key, INFO, &aad, &request.body).unwrap();
        let asked: CeremonyRequest = cbor::from_slice(&asked).unwrap();
        let mut answer: CeremonyAnswer = cbor::from_slice(&answers.open_answer(ANSWER, &sealed).unwrap()).unwrap();
        (self.spoil)(asked.op, &mut answer);
        answers.seal_answer(ANSWER, &cbor::to_vec(&answer), &mut OsEntropy)
    }
}

/// The network between a phone and the server.
pub struct Network {
    hostile: Mutex<Option<Hostile>>,
    blocked: Mutex<Option<&'static str>>,
    router: Router,
    sent: AtomicUsize,
    lose: Mutex<Option<(usize, Loss)>>,
    tamper: Mutex<Option<Tamper>>,
    /// To everybody but our own server.
    internet: HttpTransport,
    /// Ends what waits for an answer from there, as the transport's own limit does.
    patience_ends: tokio::sync::Notify,
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

    pub fn hostile(&self, server: Hostile) {
        *self.hostile.lock().unwrap() = Some(server);
    }

    pub fn honest(&self) {
        *self.tamper.lock().unwrap() = None;
        *self.hostile.lock().unwrap() = None;
        *self.blocked.lock().unwrap() = None;
    }

    /// Loses every request whose path ends so.
    pub fn block(&self, end: &'static str) {
        *self.blocked.lock().unwrap() = Some(end);
    }

    /// What waits now for an answer from the internet has waited long enough.
    pub fn give_up(&self) {
        self.patience_ends.notify_waiters();
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
        let Some(path) = request.url.strip_prefix("http://halfkey.test").map(str::to_owned) else {
            let answer = tokio::select! {
                answer = self.internet.send(request) => answer,
                () = self.patience_ends.notified() => Err(TransportError::Timeout),
            };
            return if loss == Some(Loss::Answer) { Err(TransportError::Timeout) } else { answer };
        };
        if self.blocked.lock().unwrap().is_some_and(|end| path.ends_with(end)) {
            return Err(TransportError::Unreachable);
        }
        let mut builder = http::Request::builder().method(request.method).uri(&path);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let body = Body::from(request.body.clone());
        let response = self.router.clone().oneshot(builder.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let mut body = to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec();
        if loss == Some(Loss::Answer) {
            return Err(TransportError::Timeout);
        }
        if let (Some(hostile), true) = (&*self.hostile.lock().unwrap(), path == route::CEREMONIES && status == 200) {
            body = hostile.answers(&request, body);
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
    sides: Sides,
}

/// What else a phone has.
#[derive(Clone, Default)]
pub struct Sides {
    passkeys: Option<Arc<dyn Passkeys>>,
    clouds: Option<Clouds>,
}

impl Sides {
    fn of(provider: &(impl Passkeys + Clone + 'static)) -> Self {
        Self { passkeys: Some(Arc::new(provider.clone())), clouds: None }
    }
}

/// The user's clouds, as one phone reaches them.
#[derive(Clone)]
pub struct Clouds {
    /// Gives tokens for the Drive at this address.
    pub google: Option<(Arc<dyn CloudTokenProvider>, String)>,
    pub synced: Option<Arc<dyn SyncedSecretStore>>,
    pub icloud: ICloudConfig,
    /// The app's own methods, by name.
    pub custom: Vec<(&'static str, Arc<dyn CustomMethod>)>,
    pub timer: Option<Arc<NotingTimer>>,
}

impl Default for Clouds {
    fn default() -> Self {
        let (icloud, timer) = (ICloudConfig::default(), Some(Arc::default()));
        Self { google: None, synced: None, icloud, custom: Vec::new(), timer }
    }
}

impl Clouds {
    /// The waits that were asked for since the last call.
    pub fn waits(&self) -> Vec<u64> {
        self.timer.as_ref().unwrap().take()
    }

    fn build(&self, mut builder: Builder) -> Builder {
        if let Some((tokens, _)) = &self.google {
            builder = builder.cloud_tokens(Arc::clone(tokens));
        }
        if let Some(store) = &self.synced {
            builder = builder.synced_secrets(Arc::clone(store));
        }
        match &self.timer {
            Some(timer) => builder.timer(timer.clone()),
            None => builder,
        }
    }

    fn configure(&self, halfkey: &Halfkey) {
        if let Some((_, api_base)) = &self.google {
            let config = GoogleConfig::new("client.apps.googleusercontent.com", "Test").danger_api_base(api_base);
            halfkey.configure_google_storage(config).unwrap();
        }
        if self.synced.is_some() {
            halfkey.configure_icloud_storage(self.icloud);
        }
        for (name, method) in &self.custom {
            halfkey.register_backup_method(name, Arc::clone(method)).unwrap();
        }
    }
}

static SEED: AtomicUsize = AtomicUsize::new(1);

impl Phone {
    fn new(world: &World, token: &str, deployment: Deployment, sides: Sides) -> Self {
        let (router, lose) = (world.router.clone(), Mutex::new(None));
        let (sent, tamper, hostile, blocked) =
            (AtomicUsize::new(0), Mutex::new(None), Mutex::new(None), Mutex::new(None));
        install_tls_provider();
        let internet = HttpTransport::new().unwrap();
        let patience_ends = tokio::sync::Notify::new();
        let network = Arc::new(Network { hostile, blocked, router, sent, lose, tamper, internet, patience_ends });
        let (blobs, secrets) = (Arc::new(MemoryBlobStore::new()), Arc::new(MemorySecretStore::new()));
        let clock = Arc::new(MovedClock { moved_ms: AtomicI64::new(0), base: Some(world.clock.clone()) });
        Self::with(network, blobs, secrets, clock, deployment, token, sides)
    }

    fn with(
        network: Arc<Network>,
        blobs: Arc<MemoryBlobStore>,
        secrets: Arc<MemorySecretStore>,
        clock: Arc<MovedClock>,
        deployment: Deployment,
        token: &str,
        sides: Sides,
    ) -> Self {
        let provider = sides.passkeys.clone();
        let (paper, progress) = (Arc::new(Paper::default()), Arc::new(Mutex::new(Vec::new())));
        let reports = Arc::clone(&progress);
        let seed = SEED.fetch_add(1, Ordering::SeqCst) as u64;
        let mut platform = PlatformEnv::default();
        platform.overrides.push((Method::Passkey, provider.is_some()));
        if sides.clouds.as_ref().is_some_and(|clouds| clouds.synced.is_some()) {
            platform.overrides.push((Method::ICloud, true));
        }
        let mut builder = Halfkey::builder(deployment.clone(), Credentials::token(token)).platform(platform);
        if let Some(provider) = &provider {
            builder = builder.passkeys(Arc::clone(provider));
        }
        if let Some(clouds) = &sides.clouds {
            builder = clouds.build(builder);
        }
        let halfkey = builder
            .share_store(secrets.clone(), blobs.clone())
            .transport(network.clone())
            .clock(clock.clone())
            .prompt(paper.clone())
            .entropy(Box::new(DangerSeededEntropy::new(seed)))
            .key_derivation(KdfParams::FLOOR)
            .on_progress(move |progress| reports.lock().unwrap().push(progress))
            .build()
            .unwrap();
        if provider.is_some() {
            halfkey.configure_passkey_storage(PasskeyConfig::new(RELYING_PARTY, [ORIGIN])).unwrap();
        }
        sides.clouds.iter().for_each(|clouds| clouds.configure(&halfkey));
        let token = token.to_owned();
        Self { halfkey, network, blobs, secrets, paper, progress, clock, deployment, token, sides }
    }

    /// Somebody else signs in on this phone.
    pub fn signed_in_as(&self, token: &str) -> Self {
        let (blobs, secrets) = (self.blobs.clone(), self.secrets.clone());
        let clock = self.clock.clone();
        Self::with(self.network.clone(), blobs, secrets, clock, self.deployment.clone(), token, self.sides.clone())
    }

    /// The same phone, whose sheet now offers this provider.
    pub fn with_provider(&self, provider: &(impl Passkeys + Clone + 'static)) -> Self {
        let (blobs, secrets) = (self.blobs.clone(), self.secrets.clone());
        let (clock, sides) = (self.clock.clone(), Sides::of(provider));
        Self::with(self.network.clone(), blobs, secrets, clock, self.deployment.clone(), &self.token, sides)
    }

    /// The credential of its client.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same phone, whose app reaches these clouds.
    pub fn with_clouds(&self, clouds: &Clouds) -> Self {
        let (blobs, secrets, clock) = (self.blobs.clone(), self.secrets.clone(), self.clock.clone());
        let sides = Sides { clouds: Some(clouds.clone()), ..self.sides.clone() };
        Self::with(self.network.clone(), blobs, secrets, clock, self.deployment.clone(), &self.token, sides)
    }

    /// The same phone, whose app cannot wait.
    pub fn without_timer(&self) -> Self {
        self.with_clouds(&Clouds { timer: None, ..self.sides.clouds.clone().unwrap() })
    }

    /// The app was killed and starts again: the same stores, nothing in memory.
    pub fn restarted(&self) -> Self {
        let (blobs, secrets) = (self.blobs.clone(), self.secrets.clone());
        let clock = self.clock.clone();
        let (clock, sides) = (clock, self.sides.clone());
        Self::with(self.network.clone(), blobs, secrets, clock, self.deployment.clone(), &self.token, sides)
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
