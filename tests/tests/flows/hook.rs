//! The operator's policy hook: what it says, and what happens while it says nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::post,
};
use halfkey_api::message::RecoveryState;
use halfkey_client::{Error, OldDevices, Recovering};
use halfkey_server::{policy_hook::PolicyHook, webhook::WebhookSecret};
use serde_json::{Value, json};

use super::world::{PASSWORD, Phone, World, backup_with, with};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What the hook does with a question.
#[derive(Clone)]
enum Says {
    This(StatusCode, String),
    /// Elsewhere.
    Redirect,
    /// Never.
    Nothing,
}

#[derive(Clone)]
struct Hook {
    says: Arc<Mutex<Says>>,
    /// Headers and body of each question.
    asked: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    address: std::net::SocketAddr,
}

impl Hook {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hook = Self { says: Arc::new(Mutex::new(Says::Nothing)), asked: Arc::default(), address };
        let answering = hook.clone();
        let answer = move |headers: HeaderMap, body: Bytes| {
            let hook = answering.clone();
            async move { hook.answer(headers, body).await }
        };
        tokio::spawn(axum::serve(listener, Router::new().route("/policy", post(answer))).into_future());
        hook
    }

    async fn answer(&self, headers: HeaderMap, body: Bytes) -> Response {
        self.asked.lock().unwrap().push((headers, body));
        let says = self.says.lock().unwrap().clone();
        match says {
            Says::This(status, text) => (status, text).into_response(),
            Says::Redirect => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, format!("http://{}/policy", self.address))])
                .into_response(),
            Says::Nothing => std::future::pending().await,
        }
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn decides(&self, decision: &Value) {
        self.says(Says::This(StatusCode::OK, decision.to_string()));
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn world_with(hook: &Hook) -> (World, String, Phone) {
    let policy_hook = PolicyHook {
        patience: Duration::from_millis(300),
        ..PolicyHook::new(format!("http://{}/policy", hook.address), WebhookSecret::parse(SECRET).unwrap())
    };
    let world = World::start_with(|config| config.policy_hook = Some(policy_hook)).await;
    let key = world.client_key().await;
    let owner = world.phone(&key);
    owner.halfkey.create_wallet().await.unwrap();
    owner.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    (world, key, owner)
}

async fn ask(phone: &Phone) -> Result<Recovering, Error> {
    phone.halfkey.recover_wallet(with(PASSWORD), OldDevices::Revoke, None).await
}

#[tokio::test]
async fn the_hook_allows_delays_and_denies_and_is_asked_once() {
    let hook = Hook::start().await;
    let (world, key, owner) = world_with(&hook).await;

    hook.decides(&json!({ "decision": "deny" }));
    assert_eq!(ask(&world.phone(&key)).await, Err(Error::Denied));
    let denied = &owner.halfkey.recoveries().await.unwrap()[0];
    assert_eq!(denied.state, RecoveryState::Denied);

    // The question says who asks for what, and is signed.
    let (headers, body) = hook.asked.lock().unwrap()[0].clone();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let seconds: u64 = header("webhook-timestamp").parse().unwrap();
    let signed = WebhookSecret::parse(SECRET).unwrap().sign(&header("webhook-id"), seconds, &body);
    assert_eq!(header("webhook-signature"), signed);
    assert_eq!(header("webhook-id"), format!("recovery_{}", denied.id));
    let question: Value = serde_json::from_slice(&body).unwrap();
    let client = world.the_client().await;
    assert_eq!(question["type"], "recovery.requested");
    let data = &question["data"];
    assert_eq!((&data["clientId"], &data["recoveryId"]), (&json!(client), &json!(denied.id)));
    assert_eq!((&data["method"], &data["revokesOldDevices"]), (&json!("PASSWORD"), &json!(true)));
    assert_eq!((&data["delaySeconds"], &data["devices"]), (&json!(0), &json!(1)));
    assert_eq!(data["device"]["name"], json!(denied.device_name));

    hook.decides(&json!({ "decision": "delay", "delaySeconds": 3600 }));
    let slow = world.phone(&key);
    let now_ms = halfkey_client::Clock::now_ms(&*world.clock);
    let Ok(Recovering::Waiting { until, .. }) = ask(&slow).await else { panic!() };
    assert!((now_ms + 3_600_000..now_ms + 3_660_000).contains(&until), "{until} at {now_ms}");
    // Asked again, what was decided stands, whatever the hook would say now.
    hook.decides(&json!({ "decision": "deny" }));
    let before = hook.asked();
    assert!(matches!(ask(&slow).await, Ok(Recovering::Waiting { until: again, .. }) if again == until));
    assert_eq!(hook.asked(), before);

    // A delay without end is cut at a week.
    hook.decides(&json!({ "decision": "delay", "delaySeconds": u64::MAX }));
    let now_ms = halfkey_client::Clock::now_ms(&*world.clock);
    let Ok(Recovering::Waiting { until, .. }) = ask(&world.phone(&key)).await else { panic!() };
    assert!((now_ms + 7 * DAY_MS..now_ms + 7 * DAY_MS + 60_000).contains(&until), "{until} at {now_ms}");

    hook.decides(&json!({ "decision": "allow" }));
    assert!(matches!(ask(&world.phone(&key)).await, Ok(Recovering::Recovered(_))));
}

/// Nothing is begun, nothing is listed, and the advice is to try again.
#[tokio::test]
async fn a_hook_that_does_not_decide_begins_nothing() {
    let hook = Hook::start().await;
    let (world, key, owner) = world_with(&hook).await;
    let text = |status, text: &str| Says::This(status, text.to_owned());
    let long = format!(r#"{{"decision":"allow"{}}}"#, " ".repeat(20_000));
    for says in [
        Says::Nothing,
        Says::Redirect,
        text(StatusCode::INTERNAL_SERVER_ERROR, r#"{"decision":"allow"}"#),
        text(StatusCode::NOT_FOUND, r#"{"decision":"allow"}"#),
        text(StatusCode::OK, ""),
        text(StatusCode::OK, "allow"),
        text(StatusCode::OK, r#"{"decision":"perhaps"}"#),
        text(StatusCode::OK, r#"{"decision":"delay"}"#),
        text(StatusCode::OK, r#"{"decision":"delay","delaySeconds":-1}"#),
        text(StatusCode::OK, r#"{"decision":"allow","decision":"deny"}"#),
        text(StatusCode::OK, &long),
    ] {
        hook.says(says.clone());
        let before = hook.asked();
        let phone = world.phone(&key);
        assert_eq!(ask(&phone).await, Err(Error::Retry { after: Some(30_000) }));
        assert_eq!(hook.asked(), before + 1, "a redirect is not followed");
        assert!(owner.halfkey.recoveries().await.unwrap().is_empty());
    }
    hook.decides(&json!({ "decision": "allow" }));
    assert!(matches!(ask(&world.phone(&key)).await, Ok(Recovering::Recovered(_))));
}
