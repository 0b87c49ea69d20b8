//! A server in this process, on a private SQLite database and a clock that stands still until it is moved.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub mod phone;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use halfkey_api::{auth, message::CreatedClient, route};
use halfkey_envelope::entropy::{DangerSeededEntropy, Entropy, OsEntropy, random};
use halfkey_protocol::identity::{DeviceKey, Signs};
use halfkey_server::{App, admin, app, clock::Clock, config::Config};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::ConnectOptions;
use tempfile::TempDir;
use tower::ServiceExt;

pub const START_MS: u64 = 1_763_800_000_000;

pub struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub struct Server {
    pub router: Router,
    pub app: App,
    pub clock: Arc<TestClock>,
    pub custodian_key: String,
    pub folder: TempDir,
    config: Config,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(START_MS)));
        let mut config = Config::new(folder.path());
        change(&mut config);
        let app_state = App::open(config.clone(), Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        let (_, key) = admin::create_custodian(&app_state, "test").await.unwrap();
        Self { router: app(app_state.clone()), app: app_state, clock, custodian_key: key.key, folder, config }
    }

    /// The same data folder after a stop, with other settings.
    pub async fn change(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.restart().await;
    }

    /// The same data folder after a stop.
    pub async fn restart(&mut self) {
        self.app = App::open(self.config.clone(), Arc::clone(&self.clock) as Arc<dyn Clock>).await.unwrap();
        self.router = app(self.app.clone());
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Changes rows of the main database behind the server's back; says how many.
    pub async fn tamper(&self, statement: &str) -> u64 {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.folder.path().join("halfkey.db"));
        let mut database = options.connect().await.unwrap();
        let text = sqlx::AssertSqlSafe(statement.to_owned());
        sqlx::query(text).execute(&mut database).await.unwrap().rows_affected()
    }

    pub fn pass_ms(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// A call with a bearer credential and no device signature.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: &[u8]) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_vec())).unwrap()).await
    }

    pub async fn create_client(&self) -> CreatedClient {
        let answer = self.call("POST", route::CUSTODIAN_CLIENTS, &self.custodian_key, b"{}").await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()
    }

    /// A client with one enrolled device.
    pub async fn user(&self) -> User {
        let client = self.create_client().await;
        let user = User { client, key: DeviceKey::generate(&mut OsEntropy) };
        let body = serde_json::json!({ "publicKey": user.public_hex(), "platform": "linux", "name": "test" });
        let answer = self.signed(&user, "POST", route::DEVICES, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        user
    }

    /// A JSON call signed by the user's device.
    pub async fn signed(&self, user: &User, method: &str, path: &str, body: &impl Serialize) -> Answer {
        self.send(self.signed_request(user, method, path, "application/json", serde_json::to_vec(body).unwrap())).await
    }

    /// A call without a body, signed by the user's device.
    pub async fn signed_empty(&self, user: &User, method: &str, path: &str) -> Answer {
        self.send(self.signed_request(user, method, path, "application/json", Vec::new())).await
    }

    pub fn signed_request(&self, user: &User, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Request<Body> {
        let nonce = *random::<32>(&mut OsEntropy);
        self.signed_with(user, method, path, kind, body, self.now_ms(), nonce)
    }

    #[allow(clippy::too_many_arguments, reason = "each is one thing that a test varies")]
    pub fn signed_with(
        &self,
        user: &User,
        method: &str,
        path: &str,
        kind: &str,
        body: Vec<u8>,
        timestamp_ms: u64,
        nonce: [u8; 32],
    ) -> Request<Body> {
        let deployment = self.app.deployment();
        let digest = auth::request_digest(deployment.as_bytes(), method, path, &body, timestamp_ms, &nonce);
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", user.client.client_session_token))
            .header("content-type", kind)
            .header(auth::DEVICE_KEY_HEADER, user.public_hex())
            .header(auth::TIMESTAMP_HEADER, timestamp_ms.to_string())
            .header(auth::NONCE_HEADER, hex::encode(nonce))
            .header(auth::SIGNATURE_HEADER, hex::encode(user.key.sign_digest(&digest)))
            .body(Body::from(body))
            .unwrap()
    }
}

pub struct User {
    pub client: CreatedClient,
    pub key: DeviceKey,
}

impl User {
    pub fn public(&self) -> [u8; 32] {
        self.key.public().to_bytes()
    }

    pub fn public_hex(&self) -> String {
        hex::encode(self.public())
    }

    pub fn token(&self) -> &str {
        &self.client.client_session_token
    }

    /// The same client with another device key.
    pub fn on_other_device(&self, seed: u64) -> Self {
        Self { client: self.client.clone(), key: DeviceKey::generate(&mut DangerSeededEntropy::new(seed)) }
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The stable id of a refusal; checks that it travels under its status and with a trace id.
    pub fn refusal(&self) -> String {
        let body: halfkey_api::error::ErrorBody = self.json();
        assert_eq!(self.status.as_u16(), body.error.id.status(), "{}", self.text());
        assert_eq!(self.headers[auth::TRACE_HEADER].len(), 16);
        body.error.id.as_str().to_owned()
    }
}

pub fn seeded(seed: u64) -> impl Entropy {
    DangerSeededEntropy::new(seed)
}
