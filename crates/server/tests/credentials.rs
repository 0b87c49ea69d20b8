//! Who may call: bearer credentials, the device's signature, and what bad input gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use halfkey_api::{
    auth::{self, DEVICE_KEY_HEADER, NONCE_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER},
    message::CreatedSession,
    route,
};
use halfkey_server::config::Rate;
use harness::{Server, User};
use serde_json::json;

const HOUR_MS: u64 = 60 * 60 * 1000;

#[tokio::test]
async fn bad_credentials_are_refused_alike() {
    let server = Server::start().await;
    let user = server.user().await;
    let upper = user.token().to_uppercase();
    let cut = &user.token()[..user.token().len() - 1];
    let foreign = format!("hk_session_{}", "A".repeat(43));
    for token in ["", "x", "hk_session_", &upper, cut, &foreign, &server.custodian_key] {
        let answer = server.call("GET", route::DEVICES, token, b"").await;
        assert_eq!(answer.refusal(), "UNAUTHENTICATED", "{token}");
    }
    for token in ["", user.token(), &user.client.client_api_key] {
        let answer = server.call("POST", route::CUSTODIAN_CLIENTS, token, b"{}").await;
        assert_eq!(answer.refusal(), "UNAUTHENTICATED", "{token}");
    }
    let bare = Request::builder().uri(route::DEVICES).body(Body::empty()).unwrap();
    assert_eq!(server.send(bare).await.refusal(), "UNAUTHENTICATED");
    assert_eq!(server.call("GET", route::DEVICES, user.token(), b"").await.status, StatusCode::OK);
    assert_eq!(server.call("GET", route::DEVICES, &user.client.client_api_key, b"").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_slides_for_a_day_and_ends_after_a_week() {
    let server = Server::start().await;
    let user = server.user().await;
    server.pass_ms(25 * HOUR_MS);
    assert_eq!(server.call("GET", route::DEVICES, user.token(), b"").await.refusal(), "SESSION_EXPIRED");

    let path = route::path(route::CUSTODIAN_SESSIONS, &[&user.client.id.to_string()]);
    let session: CreatedSession = server.call("POST", &path, &server.custodian_key, b"").await.json();
    assert_eq!(session.expires_at, server.now_ms() + 24 * HOUR_MS);
    for _ in 0..8 {
        server.pass_ms(20 * HOUR_MS);
        let answer = server.call("GET", route::DEVICES, &session.client_session_token, b"").await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    server.pass_ms(20 * HOUR_MS);
    let answer = server.call("GET", route::DEVICES, &session.client_session_token, b"").await;
    assert_eq!(answer.refusal(), "SESSION_EXPIRED");
}

#[tokio::test]
async fn another_custodians_client_looks_unknown() {
    let server = Server::start().await;
    let user = server.user().await;
    let (_, other) = halfkey_server::admin::create_custodian(&server.app, "other").await.unwrap();
    let theirs = route::path(route::CUSTODIAN_SESSIONS, &[&user.client.id.to_string()]);
    let unknown = route::path(route::CUSTODIAN_SESSIONS, &["01929c5e-0000-7000-8000-000000000000"]);
    let (a, b) =
        (server.call("POST", &theirs, &other.key, b"").await, server.call("POST", &unknown, &other.key, b"").await);
    assert_eq!((a.refusal(), a.bytes), (b.refusal(), b.bytes));
    assert_eq!(server.call("POST", &theirs, &server.custodian_key, b"").await.status, StatusCode::CREATED);
}

fn enrolment(user: &User) -> Vec<u8> {
    serde_json::to_vec(&json!({ "publicKey": user.public_hex(), "platform": "linux", "name": "x" })).unwrap()
}

#[tokio::test]
async fn every_part_of_a_call_is_under_the_signature() {
    let server = Server::start().await;
    let user = server.user().await;
    let other = user.on_other_device(7);
    let request = || server.signed_request(&user, "POST", route::DEVICES, "application/json", enrolment(&user));
    assert_eq!(server.send(request()).await.status, StatusCode::CREATED, "enrolling the same device again");

    let mut changed: Vec<(&str, Request<Body>)> = Vec::new();
    let mut with = |what, change: &dyn Fn(&mut Request<Body>)| {
        let mut request = request();
        change(&mut request);
        changed.push((what, request));
    };
    with("query", &|r| *r.uri_mut() = format!("{}?a=b", route::DEVICES).parse().unwrap());
    with("body", &|r| *r.body_mut() = Body::from(enrolment(&other)));
    with("another body", &|r| *r.body_mut() = Body::from("{}"));
    with("key", &|r| drop(r.headers_mut().insert(DEVICE_KEY_HEADER, other.public_hex().parse().unwrap())));
    with("nonce", &|r| drop(r.headers_mut().insert(NONCE_HEADER, "00".repeat(32).parse().unwrap())));
    with("signature", &|r| drop(r.headers_mut().insert(SIGNATURE_HEADER, "00".repeat(64).parse().unwrap())));
    with("time", &|r| {
        let later = (server.now_ms() + 1).to_string();
        r.headers_mut().insert(TIMESTAMP_HEADER, later.parse().unwrap());
    });
    with("two keys", &|r| {
        r.headers_mut().append(DEVICE_KEY_HEADER, user.public_hex().parse().unwrap());
    });
    with("upper case", &|r| {
        drop(r.headers_mut().insert(DEVICE_KEY_HEADER, user.public_hex().to_uppercase().parse().unwrap()))
    });
    with("weak key", &|r| drop(r.headers_mut().insert(DEVICE_KEY_HEADER, "00".repeat(32).parse().unwrap())));
    for header in [DEVICE_KEY_HEADER, NONCE_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER] {
        with(header, &|r| drop(r.headers_mut().remove(header)));
    }
    for (what, request) in changed {
        assert_eq!(server.send(request).await.refusal(), "DEVICE_SIGNATURE_INVALID", "{what}");
    }
}

#[tokio::test]
async fn a_nonce_is_accepted_once_and_a_time_must_be_near() {
    let server = Server::start().await;
    let user = server.user().await;
    let send = async |timestamp_ms, nonce| {
        let body = enrolment(&user);
        let request = server.signed_with(&user, "POST", route::DEVICES, "application/json", body, timestamp_ms, nonce);
        server.send(request).await
    };
    let now = server.now_ms();
    assert_eq!(send(now, [1; 32]).await.status, StatusCode::CREATED);
    assert_eq!(send(now, [1; 32]).await.refusal(), "DEVICE_SIGNATURE_INVALID");
    assert_eq!(send(now + 1, [1; 32]).await.refusal(), "DEVICE_SIGNATURE_INVALID", "the nonce counts, not the call");
    for (timestamp_ms, nonce) in [(now - auth::MAX_SKEW_MS, 2), (now + auth::MAX_SKEW_MS, 3)] {
        assert_eq!(send(timestamp_ms, [nonce; 32]).await.status, StatusCode::CREATED);
    }
    for (timestamp_ms, nonce) in [(now - auth::MAX_SKEW_MS - 1, 4), (now + auth::MAX_SKEW_MS + 1, 5)] {
        assert_eq!(send(timestamp_ms, [nonce; 32]).await.refusal(), "DEVICE_SIGNATURE_INVALID");
    }
    server.pass_ms(2 * auth::MAX_SKEW_MS);
    assert_eq!(send(now + auth::MAX_SKEW_MS, [1; 32]).await.refusal(), "DEVICE_SIGNATURE_INVALID", "still remembered");
}

#[tokio::test]
async fn a_second_device_is_not_trusted_on_first_use() {
    let server = Server::start().await;
    let user = server.user().await;
    let thief = user.on_other_device(8);
    let body = json!({ "publicKey": thief.public_hex(), "platform": "linux", "name": "x" });
    assert_eq!(server.signed(&thief, "POST", route::DEVICES, &body).await.refusal(), "DEVICE_ALREADY_ENROLLED");
    let body = json!({ "publicKey": thief.public_hex(), "platform": "linux", "name": "x" });
    assert_eq!(
        server.signed(&user, "POST", route::DEVICES, &body).await.refusal(),
        "INVALID_REQUEST",
        "not its own key"
    );
}

#[tokio::test]
async fn malformed_bodies_get_typed_answers() {
    let server = Server::start().await;
    let user = server.user().await;
    let key = user.public_hex();
    let big = format!("{{\"publicKey\":\"{key}\",\"platform\":\"linux\",\"name\":\"{}\"}}", "x".repeat(17_000));
    let long = format!("{{\"publicKey\":\"{key}\",\"platform\":\"linux\",\"name\":\"{}\"}}", "x".repeat(65));
    let unknown = format!("{{\"publicKey\":\"{key}\",\"platform\":\"linux\",\"name\":\"x\",\"admin\":true}}");
    let control = format!("{{\"publicKey\":\"{key}\",\"platform\":\"li\\u0000nux\",\"name\":\"x\"}}");
    let cases: &[(&str, &str, &str)] = &[
        ("application/json", "", "INVALID_REQUEST"),
        ("application/json", "{", "INVALID_REQUEST"),
        ("application/json", "[]", "INVALID_REQUEST"),
        ("application/json", "{}", "INVALID_REQUEST"),
        ("application/json", "{} {}", "INVALID_REQUEST"),
        ("application/json", "\u{feff}{}", "INVALID_REQUEST"),
        ("application/json", &unknown, "INVALID_REQUEST"),
        ("application/json", &long, "INVALID_REQUEST"),
        ("application/json", &control, "INVALID_REQUEST"),
        ("application/json", &big, "BODY_TOO_LARGE"),
        ("text/plain", "{}", "UNSUPPORTED_MEDIA_TYPE"),
        ("application/jsonx", "{}", "UNSUPPORTED_MEDIA_TYPE"),
        ("", "{}", "UNSUPPORTED_MEDIA_TYPE"),
    ];
    for (kind, body, wanted) in cases {
        let request = server.signed_request(&user, "POST", route::DEVICES, kind, body.as_bytes().to_vec());
        let answer = server.send(request).await;
        assert_eq!(&answer.refusal(), wanted, "{kind}: {}", &body[..body.len().min(80)]);
    }
    for (query, wanted) in [
        ("take=0", "INVALID_REQUEST"),
        ("take=101", "INVALID_REQUEST"),
        ("take=x", "INVALID_REQUEST"),
        ("cursor=x", "INVALID_REQUEST"),
        ("page=1", "INVALID_REQUEST"),
    ] {
        let path = format!("{}?{query}", route::CUSTODIAN_CLIENTS);
        assert_eq!(server.call("GET", &path, &server.custodian_key, b"").await.refusal(), wanted, "{query}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_get_typed_answers() {
    let server = Server::start().await;
    let user = server.user().await;
    for path in ["/", "/api", "/api/v3/clients/me/nothing", "/api/v2/clients/me"] {
        assert_eq!(server.call("GET", path, user.token(), b"").await.refusal(), "NOT_FOUND", "{path}");
    }
    assert_eq!(server.call("PATCH", route::DEVICES, user.token(), b"").await.refusal(), "METHOD_NOT_ALLOWED");
    let odd = "/api/v3/custodians/me/clients/not-an-id/sessions";
    assert_eq!(server.call("POST", odd, &server.custodian_key, b"").await.refusal(), "NOT_FOUND");
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back_and_then_lets_in() {
    let server = Server::with(|config| config.limits.client = Rate { count: 3, window_ms: 60_000 }).await;
    let user = server.user().await;
    let send = async || {
        server.send(server.signed_request(&user, "POST", route::DEVICES, "application/json", enrolment(&user))).await
    };
    for _ in 0..2 {
        assert_eq!(send().await.status, StatusCode::CREATED);
    }
    server.pass_ms(20_000);
    let answer = send().await;
    assert_eq!(answer.refusal(), "RATE_LIMITED");
    assert_eq!(answer.headers["retry-after"], "40");
    let other = server.user().await;
    assert_eq!(
        server
            .send(server.signed_request(&other, "POST", route::DEVICES, "application/json", enrolment(&other)))
            .await
            .status,
        StatusCode::CREATED,
        "the limit is each client's own"
    );
    server.pass_ms(40_000);
    assert_eq!(send().await.status, StatusCode::CREATED);
}
