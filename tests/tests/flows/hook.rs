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
use halfkey_api::{message::RecoveryState, route};
use halfkey_client::{Cancelled, Ejecting, Error, OldDevices, Recovering, Resumed, StepUp};
use halfkey_envelope::{id::RecoveryId, wallet::Method};
use halfkey_server::{
    admin::{self, Scope},
    policy_hook::PolicyHook,
    webhook::WebhookSecret,
};
use serde_json::{Value, json};

use super::{
    notice::events,
    world::{PASSWORD, Phone, World, backup_with, with},
};

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
        text(StatusCode::OK, r#"{"decision":"step_up"}"#),
        text(StatusCode::OK, r#"{"decision":"step_up","prompt":"Call us"}"#),
        text(StatusCode::OK, r#"{"decision":"step_up","prompt":"Call us","withinSeconds":0}"#),
        text(StatusCode::OK, r#"{"decision":"step_up","prompt":"","withinSeconds":60}"#),
        text(StatusCode::OK, r#"{"decision":"step_up","prompt":"Call\nus","withinSeconds":60}"#),
        text(
            StatusCode::OK,
            &json!({ "decision": "step_up", "prompt": "x".repeat(201), "withinSeconds": 60 }).to_string(),
        ),
        text(StatusCode::OK, r#"{"decision":"step_up","prompt":"x","withinSeconds":60,"url":"http://bank.example"}"#),
        text(StatusCode::OK, r#"{"decision":"step_up","prompt":"x","withinSeconds":60,"url":"https://"}"#),
        text(StatusCode::OK, r#"{"decision":"step_up","prompt":"x","withinSeconds":60,"url":"https://b.example/a b"}"#),
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

const PROMPT: &str = "Show your passport at a branch";
const PLACE: &str = "https://bank.example/branches?near=me";

fn step_up(within_seconds: u64) -> Value {
    json!({ "decision": "step_up", "prompt": PROMPT, "url": PLACE, "withinSeconds": within_seconds })
}

/// What the custodian's backend says; status and answer.
async fn finish(world: &World, recovery: RecoveryId, confirmed: bool) -> (u16, Value) {
    let path = route::path(route::CUSTODIAN_STEP_UP, &[&recovery.to_string()]);
    world.custodian_asks("POST", &path, &json!({ "confirmed": confirmed }).to_string()).await
}

async fn asked_for(outcome: Result<Recovering, Error>) -> (RecoveryId, StepUp) {
    match outcome {
        Ok(Recovering::StepUpRequired { recovery_id, step_up }) => (recovery_id, step_up),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_step_up_waits_until_the_custodian_confirms_it() {
    let hook = Hook::start().await;
    let (world, key, owner) = world_with(&hook).await;
    hook.decides(&step_up(3600));
    let new = world.phone(&key);
    let now_ms = halfkey_client::Clock::now_ms(&*world.clock);
    let (id, asked) = asked_for(ask(&new).await).await;
    assert_eq!((asked.prompt.as_str(), asked.url.as_deref()), (PROMPT, Some(PLACE)));
    assert!((now_ms + 3_600_000..now_ms + 3_660_000).contains(&asked.until), "{} at {now_ms}", asked.until);
    // The same again, also after the app was closed; and the hook is not asked again.
    hook.decides(&json!({ "decision": "allow" }));
    let questions = hook.asked();
    assert_eq!(asked_for(ask(&new).await).await, (id, asked.clone()));
    let new = new.restarted();
    let open = Resumed::RecoveryOpen { recovery_id: id, method: Method::Password, until: None };
    assert_eq!(new.halfkey.resume().await, Ok(open));
    assert_eq!(asked_for(new.halfkey.resume_recovery(with(PASSWORD), None).await).await, (id, asked));
    assert_eq!(hook.asked(), questions);
    // Others see that it waits for something, and not for what.
    let listed = owner.halfkey.recoveries().await.unwrap().swap_remove(0);
    assert_eq!((listed.state, listed.step_up), (RecoveryState::StepUpRequired, None));

    // Nobody else's word counts.
    let (_, other) = admin::create_custodian(&world.state, "other").await.unwrap();
    let path = route::path(route::CUSTODIAN_STEP_UP, &[&id.to_string()]);
    let (status, refused) = world.custodian_asks_with(&other.key, "POST", &path, r#"{"confirmed":true}"#).await;
    assert_eq!((status, &refused["error"]["id"]), (404, &json!("NOT_FOUND")));
    let (status, refused) = world.custodian_asks_with(&key, "POST", &path, r#"{"confirmed":true}"#).await;
    assert_eq!(status, 401, "{refused}");
    for nonsense in ["{}", r#"{"confirmed":1}"#, r#"{"confirmed":true,"more":1}"#] {
        assert_eq!(world.custodian_asks("POST", &path, nonsense).await.0, 400, "{nonsense}");
    }
    assert_eq!(asked_for(ask(&new).await).await.0, id);

    let (status, confirmed) = finish(&world, id, true).await;
    assert_eq!((status, &confirmed["state"]), (200, &json!("READY")), "{confirmed}");
    assert_eq!(finish(&world, id, true).await, (200, confirmed));
    assert_eq!(finish(&world, id, false).await.0, 409, "it was confirmed");
    let recovered = new.halfkey.resume_recovery(with(PASSWORD), None).await;
    assert!(matches!(recovered, Ok(Recovering::Recovered(_))), "{recovered:?}");
    assert_eq!(finish(&world, id, false).await.0, 409);
    let told = events(&world, 100).await;
    let kinds = told.iter().filter_map(|event| event["kind"].as_str()).filter(|kind| kind.starts_with("recovery."));
    let kinds: Vec<_> = kinds.collect();
    let expected =
        ["recovery.requested", "recovery.step-up-confirmed", "recovery.possession-proven", "recovery.completed"];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn a_step_up_that_fails_or_that_nobody_confirms_ends_the_recovery() {
    let hook = Hook::start().await;
    let (world, key, owner) = world_with(&hook).await;
    hook.decides(&step_up(60));
    let failed = world.phone(&key);
    let (id, _) = asked_for(ask(&failed).await).await;
    let (status, denied) = finish(&world, id, false).await;
    assert_eq!((status, &denied["state"]), (200, &json!("DENIED")));
    assert_eq!(finish(&world, id, false).await, (200, denied));
    assert_eq!(finish(&world, id, true).await.0, 409, "it is over");
    assert_eq!(failed.halfkey.resume_recovery(with(PASSWORD), None).await, Err(Error::RecoveryOver));

    // Silence is a no: nothing opens one moment after the limit, and no word brings it back.
    let late = world.phone(&key);
    let (id, _) = asked_for(ask(&late).await).await;
    world.clock.pass_ms(60_000);
    assert_eq!(owner.halfkey.recoveries().await.unwrap()[0].state, RecoveryState::Expired);
    assert_eq!(finish(&world, id, true).await.0, 409);
    assert_eq!(late.halfkey.resume_recovery(with(PASSWORD), None).await, Err(Error::RecoveryOver));
    // Asked for anew, it is asked about anew.
    let (again, _) = asked_for(ask(&late).await).await;
    assert_ne!(again, id);

    // A time without end is cut at a week; what was never asked for cannot be confirmed.
    hook.decides(&step_up(u64::MAX));
    let now_ms = halfkey_client::Clock::now_ms(&*world.clock);
    let (_, asked) = asked_for(ask(&world.phone(&key)).await).await;
    assert!((now_ms + 7 * DAY_MS..now_ms + 7 * DAY_MS + 60_000).contains(&asked.until), "{}", asked.until);
    hook.decides(&json!({ "decision": "delay", "delaySeconds": 3600 }));
    let Ok(Recovering::Waiting { recovery_id, .. }) = ask(&world.phone(&key)).await else { panic!() };
    for confirmed in [true, false] {
        assert_eq!(finish(&world, recovery_id, confirmed).await.0, 409, "nothing was asked for");
    }
    assert_eq!(finish(&world, RecoveryId::from_bytes([7; 16]), true).await.0, 404);
}

/// Neither takes the place of the other, and neither does the operator's word about a second cancel.
#[tokio::test]
async fn a_step_up_does_not_shorten_the_deployments_delay_nor_a_dispute() {
    let hook = Hook::start().await;
    let hook_of = PolicyHook::new(format!("http://{}/policy", hook.address), WebhookSecret::parse(SECRET).unwrap());
    let world = World::start_with(|config| {
        config.policy_hook = Some(hook_of);
        config.recovery.delay_ms = 7_200_000;
        config.recovery.seen_within_ms = 30 * DAY_MS;
    })
    .await;
    let key = world.client_key().await;
    let owner = world.phone(&key);
    owner.halfkey.create_wallet().await.unwrap();
    owner.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    hook.decides(&step_up(10_000));
    let new = world.phone(&key);
    let (id, _) = asked_for(ask(&new).await).await;
    assert_eq!(finish(&world, id, true).await.1["state"], json!("WAITING"));
    assert!(matches!(ask(&new).await, Ok(Recovering::Waiting { .. })));
    world.clock.pass_ms(7_200_000);
    // Its time runs from the end of the delay, and not from the end of the step-up.
    world.clock.pass_ms(10_000_000);
    assert_eq!(owner.halfkey.recoveries().await.unwrap()[0].state, RecoveryState::Ready);
    owner.halfkey.cancel_recovery(id).await.unwrap();

    let new = world.phone(&key);
    let (id, _) = asked_for(ask(&new).await).await;
    assert_eq!(owner.halfkey.cancel_recovery(id).await, Ok(Cancelled::OperatorDecides));
    assert_eq!(finish(&world, id, true).await.1["state"], json!("REQUESTED"), "confirmed, and held all the same");
    assert_eq!(ask(&new).await, Ok(Recovering::Undecided { recovery_id: id }));
    admin::continue_recovery(&world.state, world.the_client().await, id).await.unwrap();
    assert!(matches!(ask(&new).await, Ok(Recovering::Waiting { .. })));

    let third = world.phone(&key);
    let (id, _) = asked_for(ask(&third).await).await;
    assert_eq!(owner.halfkey.cancel_recovery(id).await, Ok(Cancelled::OperatorDecides));
    admin::continue_recovery(&world.state, world.the_client().await, id).await.unwrap();
    assert_eq!(asked_for(ask(&third).await).await.0, id, "the operator decides about the cancel alone");
}

#[tokio::test]
async fn the_step_up_of_an_eject_needs_a_key_that_opens_windows() {
    let hook = Hook::start().await;
    let (world, key, owner) = world_with(&hook).await;
    world.enable_eject(&key, "{}").await;
    hook.decides(&step_up(3600));
    let eject = async || owner.halfkey.eject_private_keys(with(PASSWORD), None).await;
    let Ok(Ejecting::StepUpRequired { eject_id, step_up }) = eject().await else { panic!() };
    assert_eq!(step_up.prompt, PROMPT);
    let own = admin::custodians(&world.state).await.unwrap()[0].id;
    let narrow = admin::create_key(&world.state, own, Scope::Clients).await.unwrap();
    let path = route::path(route::CUSTODIAN_STEP_UP, &[&eject_id.to_string()]);
    let (status, refused) = world.custodian_asks_with(&narrow.key, "POST", &path, r#"{"confirmed":true}"#).await;
    assert_eq!((status, &refused["error"]["id"]), (403, &json!("FORBIDDEN")));
    assert!(matches!(eject().await, Ok(Ejecting::StepUpRequired { .. })));
    assert_eq!(finish(&world, eject_id, true).await.0, 200);
    assert!(matches!(eject().await, Ok(Ejecting::Keys(_))));
}

/// The server's word is shown to a user: what cannot be the custodian's is not passed on.
#[tokio::test]
async fn a_step_up_that_nobody_should_be_shown_is_refused() {
    let hook = Hook::start().await;
    let (world, key, _) = world_with(&hook).await;
    hook.decides(&step_up(3600));
    for (field, value) in [("prompt", json!("\u{1b}[2J")), ("url", json!("javascript:alert(1)")), ("prompt", json!(""))]
    {
        let phone = world.phone(&key);
        phone.network.tamper(move |path, body| {
            if path != route::RECOVERIES {
                return body;
            }
            let mut answer: Value = serde_json::from_slice(&body).unwrap();
            answer["stepUp"][field] = value.clone();
            answer.to_string().into_bytes()
        });
        assert_eq!(ask(&phone).await, Err(Error::PeerMisbehaved { what: "STEP_UP" }), "{field}");
    }
}
