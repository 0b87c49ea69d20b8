//! Events are sent to the addresses that a custodian names: signed, at least once, and however long an address is away.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use halfkey_api::route::{self, path};
use halfkey_client::{OldDevices, Recovering};
use halfkey_server::{
    admin::{self, Scope},
    config::{Dangers, Profile, RecoveryPolicy},
    webhook::WebhookSecret,
};
use serde_json::{Value, json};

use super::world::{PASSWORD, World, backup_with, with};

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// What a backend answers to an event.
type Says = Box<dyn Fn(&Value) -> StatusCode + Send>;

/// A custodian's backend.
#[derive(Clone)]
struct Backend {
    says: Arc<Mutex<Says>>,
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    url: String,
}

impl Backend {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let backend =
            Self { says: Arc::new(Mutex::new(Box::new(|_| StatusCode::NO_CONTENT))), got: Arc::default(), url };
        let answering = backend.clone();
        let answer = async move |headers: HeaderMap, body: Bytes| {
            let says = (answering.says.lock().unwrap())(&serde_json::from_slice(&body).unwrap());
            answering.got.lock().unwrap().push((headers, body));
            says
        };
        tokio::spawn(axum::serve(listener, Router::new().route("/events", post(answer))).into_future());
        backend
    }

    fn says(&self, says: impl Fn(&Value) -> StatusCode + Send + 'static) {
        *self.says.lock().unwrap() = Box::new(says);
    }

    /// What came since the last time; every message is under each of `secrets`, and under no other.
    fn took(&self, secrets: &[&str]) -> Vec<(String, Value)> {
        let got = std::mem::take(&mut *self.got.lock().unwrap());
        got.into_iter()
            .map(|(headers, body)| {
                let header = |name: &str| headers[name].to_str().unwrap().to_owned();
                let (id, seconds) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
                let signed: Vec<String> = secrets
                    .iter()
                    .map(|secret| WebhookSecret::parse(secret).unwrap().sign(&id, seconds, &body))
                    .collect();
                assert_eq!(header("webhook-signature"), signed.join(" "));
                (id, serde_json::from_slice(&body).unwrap())
            })
            .collect()
    }
}

fn types(took: &[(String, Value)]) -> Vec<&str> {
    took.iter().map(|(_, body)| body["type"].as_str().unwrap()).collect()
}

async fn add(world: &World, url: &str, kinds: &[&str]) -> (String, String) {
    let (status, made) = world.call(true, "POST", route::WEBHOOKS, Some(json!({ "url": url, "kinds": kinds }))).await;
    assert_eq!(status, 201, "{made}");
    (made["webhook"]["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

async fn shown(world: &World, id: &str) -> Value {
    world.call(true, "GET", &path(route::WEBHOOK, &[id]), None).await.1
}

async fn deliveries(world: &World, id: &str, state: &str) -> Vec<Value> {
    let path = format!("{}?state={state}", path(route::WEBHOOK_DELIVERIES, &[id]));
    let (status, page) = world.call(true, "GET", &path, None).await;
    assert_eq!(status, 200, "{page}");
    page["results"].as_array().unwrap().clone()
}

/// Something happens to the world's one client.
async fn happens(world: &World, kind: &str) {
    let now_ms = halfkey_client::Clock::now_ms(&*world.clock);
    world.clock.pass_ms(1);
    world.store().await.notify(world.the_client().await, kind, json!({}), now_ms).await.unwrap();
}

async fn deliver(world: &World) {
    world.state.deliver_events().await.unwrap();
}

#[tokio::test]
async fn what_happens_is_sent_signed_to_who_asked_for_it() {
    let world = World::start_with(|config| {
        config.recovery = RecoveryPolicy::of(Profile::Production);
        config.public_url = Some("https://backup.example/".to_owned());
    })
    .await;
    let (all, some) = (Backend::start().await, Backend::start().await);
    let key = world.client_key().await;
    let phone = world.phone(&key);
    phone.halfkey.create_wallet().await.unwrap();
    let (everything, secret) = add(&world, &all.url, &[]).await;
    let (few, other_secret) = add(&world, &some.url, &["recovery.requested", "backup"]).await;
    assert_ne!(secret, other_secret);
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let asked = world.phone(&key).halfkey.recover_wallet(with(PASSWORD), OldDevices::Revoke, None).await;
    assert!(matches!(asked, Ok(Recovering::Waiting { .. })));
    deliver(&world).await;

    let took = all.took(&[&secret]);
    assert_eq!(types(&took), ["backup.completed", "recovery.requested"], "nothing from before, in order");
    let (id, asked) = &took[1];
    let client = json!(world.the_client().await);
    assert_eq!(asked["data"]["clientId"], client);
    let recovery = asked["data"]["payload"]["recovery"].as_str().unwrap();
    let link = asked["data"]["cancelLink"].as_str().unwrap();
    assert!(link.starts_with(&format!("https://backup.example/recoveries/{recovery}/cancel#")), "{link}");
    let took_few = some.took(&[&other_secret]);
    assert_eq!(types(&took_few), ["recovery.requested"], "a kind is a whole name");

    // The list of events names the same event alike.
    world.clock.pass_ms(2_000);
    let (_, page) = world.call(true, "GET", route::CUSTODIAN_EVENTS, None).await;
    let last = page["results"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["id"], &last["cancelLink"]), (&json!(id), &json!(link)));
    assert_eq!(last["createdAt"], asked["timestamp"]);

    deliver(&world).await;
    assert!(all.took(&[&secret]).is_empty(), "once");
    let [done, _] = &deliveries(&world, &everything, "delivered").await[..] else { panic!() };
    assert_eq!(
        (&done["answer"], &done["attempts"], &done["kind"]),
        (&json!("204"), &json!(1), &json!("backup.completed"))
    );
    assert!(shown(&world, &few).await["deliveredAt"].is_u64());

    let (status, _) = world.call(true, "DELETE", &path(route::WEBHOOK, &[&few]), None).await;
    assert_eq!(status, 204);
    happens(&world, "recovery.requested").await;
    deliver(&world).await;
    assert_eq!((all.took(&[&secret]).len(), some.took(&[&other_secret]).len()), (1, 0));
    assert_eq!(world.call(true, "GET", &path(route::WEBHOOK, &[&few]), None).await.0, 404);
}

/// What an address missed waits for it; what it cannot take holds up nothing else; what is given up can be had again.
#[tokio::test]
async fn an_address_that_is_away_misses_nothing() {
    let world = World::start().await;
    let _client = world.client().await;
    let backend = Backend::start().await;
    let (id, secret) = add(&world, &backend.url, &[]).await;
    backend.says(|_| StatusCode::BAD_GATEWAY);
    for kind in ["a.first", "a.second"] {
        happens(&world, kind).await;
    }
    deliver(&world).await;
    assert_eq!(types(&backend.took(&[&secret])), ["a.first"], "then it is left alone");
    let since = shown(&world, &id).await["failingSince"].as_u64().unwrap();
    assert_eq!(deliveries(&world, &id, "pending").await[0]["answer"], "status 502");
    world.clock.pass_ms(5_100);
    deliver(&world).await;
    assert_eq!(types(&backend.took(&[&secret])), ["a.first"]);
    let failing = shown(&world, &id).await;
    assert_eq!((failing["failingSince"].as_u64().unwrap(), &failing["failures"]), (since, &json!(2)));

    // One event that it never takes, and others that it does.
    backend.says(|event| if event["type"] == "a.first" { StatusCode::BAD_REQUEST } else { StatusCode::OK });
    world.clock.pass_ms(31_000);
    deliver(&world).await;
    world.clock.pass_ms(MINUTE_MS + 1_000);
    deliver(&world).await;
    assert_eq!(types(&backend.took(&[&secret])), ["a.first", "a.second"]);
    assert!(shown(&world, &id).await.get("failingSince").is_none(), "it took one");
    for _ in 0..200 {
        world.clock.pass_ms(HOUR_MS);
        deliver(&world).await;
    }
    let given_up = &deliveries(&world, &id, "failed").await[0];
    assert_eq!(
        (&given_up["kind"], &given_up["attempts"], &given_up["answer"]),
        (&json!("a.first"), &json!(13), &json!("status 400"))
    );
    assert_eq!(backend.took(&[&secret]).len(), 10, "thirteen in all");

    backend.says(|_| StatusCode::ACCEPTED);
    let replay = path(route::WEBHOOK_REPLAY, &[&id]);
    let (_, replayed) = world.call(true, "POST", &replay, Some(json!({ "since": 0, "onlyFailed": true }))).await;
    assert_eq!(replayed["count"], 1);
    deliver(&world).await;
    let again = backend.took(&[&secret]);
    assert_eq!(types(&again), ["a.first"]);
    assert_eq!(again[0].0, given_up["eventId"].as_str().unwrap(), "the same id as before");

    // All of it, also what happened before the address was there.
    let second = second_address(&world, &backend, &replay).await;
    assert_eq!(second, ["a.first", "a.second"]);
}

async fn second_address(world: &World, backend: &Backend, replay_first: &str) -> Vec<String> {
    let (id, secret) = add(world, &backend.url, &[]).await;
    deliver(world).await;
    assert!(backend.took(&[]).is_empty());
    let none = json!({ "since": u64::MAX / 4, "onlyFailed": false });
    assert_eq!(world.call(true, "POST", replay_first, Some(none)).await.1["count"], 0);
    let (_, replayed) =
        world.call(true, "POST", &path(route::WEBHOOK_REPLAY, &[&id]), Some(json!({ "since": 0 }))).await;
    assert_eq!(replayed["count"], 2);
    deliver(world).await;
    types(&backend.took(&[&secret])).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_changed_secret_and_the_one_before_sign_for_a_day() {
    let world = World::start().await;
    let _client = world.client().await;
    let backend = Backend::start().await;
    let (id, first) = add(&world, &backend.url, &[]).await;
    let (status, changed) = world.call(true, "POST", &path(route::WEBHOOK_SECRET, &[&id]), None).await;
    assert_eq!(status, 200, "{changed}");
    let second = changed["secret"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    happens(&world, "a.kind").await;
    deliver(&world).await;
    assert_eq!(backend.took(&[&second, &first]).len(), 1);
    world.clock.pass_ms(24 * HOUR_MS);
    let (_, tested) = world.call(true, "POST", &path(route::WEBHOOK_TEST, &[&id]), None).await;
    assert_eq!((&tested["ok"], &tested["answer"]), (&json!(true), &json!("204")));
    assert_eq!(types(&backend.took(&[&second])), ["webhook.test"]);
    backend.says(|_| StatusCode::NOT_FOUND);
    let (_, tested) = world.call(true, "POST", &path(route::WEBHOOK_TEST, &[&id]), None).await;
    assert_eq!((&tested["ok"], &tested["answer"]), (&json!(false), &json!("status 404")));
    assert!(shown(&world, &id).await.get("failingSince").is_none(), "a test is no delivery");
}

#[tokio::test]
async fn only_the_custodian_itself_says_where_its_events_go() {
    let world = World::start().await;
    let backend = Backend::start().await;
    let (id, _) = add(&world, &backend.url, &[]).await;
    let (owner, stranger) = admin::create_custodian(&world.state, "other").await.unwrap();
    let little = admin::create_key(&world.state, owner, Scope::Clients).await.unwrap();
    let unknown = "01929c5e-0000-7000-8000-000000000000";
    for (method, route, body) in [
        ("GET", route::WEBHOOK, ""),
        ("DELETE", route::WEBHOOK, ""),
        ("POST", route::WEBHOOK_SECRET, ""),
        ("POST", route::WEBHOOK_TEST, ""),
        ("GET", route::WEBHOOK_DELIVERIES, ""),
        ("POST", route::WEBHOOK_REPLAY, r#"{"since":0}"#),
    ] {
        let theirs = world.custodian_asks_with(&stranger.key, method, &path(route, &[&id]), body).await;
        let nobodys = world.custodian_asks_with(&stranger.key, method, &path(route, &[unknown]), body).await;
        assert_eq!((theirs.0, &theirs.1), (404, &nobodys.1), "{method} {route}");
        if method != "GET" {
            let refused = world.custodian_asks_with(&little.key, method, &path(route, &[&id]), body).await;
            assert_eq!((refused.0, refused.1["error"]["id"].as_str()), (403, Some("FORBIDDEN")), "{method} {route}");
        }
    }
    let create = json!({ "url": backend.url }).to_string();
    assert_eq!(world.custodian_asks_with(&little.key, "POST", route::WEBHOOKS, &create).await.0, 403);
    let (_, theirs) = world.custodian_asks_with(&stranger.key, "GET", route::WEBHOOKS, "").await;
    assert_eq!(theirs["results"], json!([]));
    for _ in 1..10 {
        add(&world, &backend.url, &[]).await;
    }
    let (status, refused) = world.custodian_asks("POST", route::WEBHOOKS, &create).await;
    assert_eq!((status, refused["error"]["id"].as_str()), (409, Some("SHARE_STATE")));
}

/// In production a stranger's address is a public one over TLS, whatever it is called.
#[tokio::test]
async fn nobody_sends_this_server_into_its_own_network() {
    let careful = |private: bool| async move {
        World::start_with(|config| {
            let dangers = Dangers { local_kms: true, single_shred_store: true, ..Dangers::default() };
            (config.profile, config.dangers, config.private_webhooks) = (Profile::Production, dangers, private);
        })
        .await
    };
    let world = careful(false).await;
    for url in [
        "",
        "x",
        "http://example.com/",
        "ftp://example.com/",
        "https://user@example.com/",
        "https://:pw@example.com/",
        "https://example.com/#x",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://2130706433/",
        &format!("https://example.com/{}", "x".repeat(2048)),
    ] {
        let (status, refused) = world.custodian_asks("POST", route::WEBHOOKS, &json!({ "url": url }).to_string()).await;
        let (error, field) = (&refused["error"]["id"], &refused["error"]["details"]["field"]);
        assert_eq!((status, error, field), (400, &json!("INVALID_REQUEST"), &json!("url")), "{url}");
    }
    for kinds in [json!([""]), json!(["A.b"]), json!(["a,b"]), json!(["a%"]), json!(vec!["a"; 51])] {
        let body = json!({ "url": "https://example.com/", "kinds": kinds }).to_string();
        let (status, refused) = world.custodian_asks("POST", route::WEBHOOKS, &body).await;
        assert_eq!((status, &refused["error"]["details"]["field"]), (400, &json!("kinds")), "{body}");
    }
    // A name that leads inside is found out when it is called.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (id, _) = add(&world, &format!("https://localhost:{}/", listener.local_addr().unwrap().port()), &[]).await;
    let (_, tested) = world.call(true, "POST", &path(route::WEBHOOK_TEST, &[&id]), None).await;
    assert_eq!((&tested["ok"], &tested["answer"]), (&json!(false), &json!("no answer")));
    let came = tokio::time::timeout(std::time::Duration::from_millis(100), listener.accept()).await;
    assert!(came.is_err(), "nobody came");

    let world = careful(true).await;
    let backend = Backend::start().await;
    add(&world, &backend.url, &[]).await;
}
