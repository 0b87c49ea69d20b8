//! Hosted relying parties: three files by their published formats, who may say what in them, and the passkey page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use axum::{body::Body, http::Request};
use base64::{Engine, prelude::BASE64_STANDARD};
use halfkey_api::{error::ErrorBody, route};
use halfkey_server::{Details, Error, admin, config::Profile, relying_party::read_apps};
use harness::{Answer, Server};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PRINT: &str = "14:6D:E9:83:C5:73:06:50:D8:EE:B9:95:2F:34:FC:64:16:A0:83:42:E6:1D:BE:A8:8A:04:96:B2:3F:CF:44:E5";

fn apps(name: &str) -> Value {
    json!({
        "appleAppIds": [format!("ABCDE12345.com.{name}")],
        "androidApps": [{ "packageName": format!("com.{name}"), "certificateFingerprints": [PRINT] }],
        "relatedOrigins": [format!("https://{name}.example")],
    })
}

async fn get(server: &Server, host: &str, path: &str) -> Answer {
    server.send(Request::builder().uri(path).header("host", host).body(Body::empty()).unwrap()).await
}

async fn put(server: &Server, key: &str, body: &Value) -> Answer {
    server.call("PUT", route::CUSTODIAN_RELYING_PARTY, key, body.to_string().as_bytes()).await
}

async fn apple(server: &Server, host: &str) -> Value {
    let answer = get(server, host, route::APPLE_APP_SITE_ASSOCIATION).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json::<Value>()["webcredentials"]["apps"].clone()
}

#[tokio::test]
async fn the_three_files_are_served_as_published() {
    let server = Server::with(|config| config.relying_parties = vec!["wallet.example.com".parse().unwrap()]).await;
    let (host, key) = ("wallet.example.com", server.custodian_key.as_str());
    for path in [route::APPLE_APP_SITE_ASSOCIATION, route::ASSET_LINKS, route::WEBAUTHN] {
        assert_eq!(get(&server, host, path).await.refusal(), "NOT_FOUND", "nothing was said yet");
    }
    let empty = json!({ "appleAppIds": [], "androidApps": [], "relatedOrigins": [] });
    let said = server.call("GET", route::CUSTODIAN_RELYING_PARTY, key, b"").await;
    assert_eq!(said.json::<Value>(), empty);

    assert_eq!(put(&server, key, &apps("one")).await.json::<Value>(), apps("one"));
    let said = server.call("GET", route::CUSTODIAN_RELYING_PARTY, key, b"").await;
    assert_eq!(said.json::<Value>(), apps("one"));
    let files = [
        (route::APPLE_APP_SITE_ASSOCIATION, json!({ "webcredentials": { "apps": ["ABCDE12345.com.one"] } })),
        (
            route::ASSET_LINKS,
            json!([{
                "relation": ["delegate_permission/common.get_login_creds"],
                "target": {
                    "namespace": "android_app", "package_name": "com.one", "sha256_cert_fingerprints": [PRINT],
                },
            }]),
        ),
        (route::WEBAUTHN, json!({ "origins": ["https://one.example"] })),
    ];
    for (path, file) in &files {
        let answer = get(&server, "Wallet.Example.com:443", path).await;
        assert_eq!((answer.status.as_u16(), answer.json::<Value>()), (200, file.clone()));
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "public, max-age=300");
        assert_eq!(get(&server, "example.com", path).await.refusal(), "NOT_FOUND", "another host");
    }
    // A PUT replaces the whole.
    put(&server, key, &json!({ "relatedOrigins": ["https://one.example"] })).await;
    assert_eq!(get(&server, host, route::ASSET_LINKS).await.refusal(), "NOT_FOUND");
    assert_eq!(get(&server, host, route::WEBAUTHN).await.status, 200);
}

#[tokio::test]
async fn a_shared_domain_is_a_union_and_an_assigned_one_is_its_custodians_alone() {
    let mut server = Server::with(|config| {
        config.relying_parties = vec!["shared.example.com".parse().unwrap()];
        config.relying_party_apps = read_apps(&apps("operator").to_string()).unwrap();
    })
    .await;
    let (_, second) = admin::create_custodian(&server.app, "second").await.unwrap();
    let (third_id, third) = admin::create_custodian(&server.app, "third").await.unwrap();
    server.change(|config| config.relying_parties.push(format!("third.example.com={third_id}").parse().unwrap())).await;
    let first = server.custodian_key.clone();
    for (key, name) in [(&first, "one"), (&second.key, "two"), (&third.key, "three")] {
        assert_eq!(put(&server, key, &apps(name)).await.status, 200);
    }
    let shared = json!(["ABCDE12345.com.one", "ABCDE12345.com.operator", "ABCDE12345.com.two"]);
    assert_eq!(apple(&server, "shared.example.com").await, shared);
    assert_eq!(apple(&server, "third.example.com").await, json!(["ABCDE12345.com.three"]));
    // Who said nothing, or says it again, changes nobody else's.
    assert_eq!(put(&server, &second.key, &json!({})).await.status, 200);
    assert_eq!(apple(&server, "shared.example.com").await, json!(["ABCDE12345.com.one", "ABCDE12345.com.operator"]));
}

#[tokio::test]
async fn bad_ids_are_refused_by_name_and_change_nothing() {
    let server = Server::with(|config| config.relying_parties = vec!["wallet.example.com".parse().unwrap()]).await;
    let key = server.custodian_key.as_str();
    assert_eq!(put(&server, key, &apps("one")).await.status, 200);
    let origins: Vec<String> = (0..6).map(|n| format!("https://name{n}.example")).collect();
    let cases = [
        (json!({ "appleAppIds": ["com.example"] }), Some("appleAppIds[0]")),
        (
            json!({ "androidApps": [{ "packageName": "x", "certificateFingerprints": [PRINT] }] }),
            Some("androidApps[0].packageName"),
        ),
        (
            json!({ "androidApps": [{ "packageName": "com.x", "certificateFingerprints": ["AB"] }] }),
            Some("androidApps[0].certificateFingerprints[0]"),
        ),
        (
            json!({ "androidApps": [{ "packageName": "com.x", "certificateFingerprints": [] }] }),
            Some("androidApps[0].certificateFingerprints"),
        ),
        (json!({ "relatedOrigins": ["http://a.example"] }), Some("relatedOrigins[0]")),
        (json!({ "relatedOrigins": vec!["https://a.example"; 21] }), Some("relatedOrigins")),
        (json!({ "relatedOrigins": origins }), Some("relatedOrigins")),
        (json!({ "unknown": [] }), None),
    ];
    for (body, field) in cases {
        let answer = put(&server, key, &body).await;
        assert_eq!(answer.refusal(), "INVALID_REQUEST", "{body}");
        let error = answer.json::<ErrorBody>().error;
        assert_eq!(error.details.and_then(|details| details.field).as_deref(), field, "{body}");
    }
    let said = server.call("GET", route::CUSTODIAN_RELYING_PARTY, key, b"").await;
    assert_eq!(said.json::<Value>(), apps("one"));
    for token in ["", "hk_custodian_x"] {
        assert_eq!(put(&server, token, &apps("one")).await.refusal(), "UNAUTHENTICATED");
    }
}

#[tokio::test]
async fn a_shared_domain_takes_no_more_names_than_browsers_read() {
    let server = Server::with(|config| config.relying_parties = vec!["wallet.example.com".parse().unwrap()]).await;
    let (_, second) = admin::create_custodian(&server.app, "second").await.unwrap();
    let origins = |from: u32, to: u32| json!({ "relatedOrigins": (from..to).map(|n| format!("https://name{n}.example")).collect::<Vec<_>>() });
    assert_eq!(put(&server, &server.custodian_key, &origins(0, 4)).await.status, 200);
    assert_eq!(put(&server, &second.key, &origins(4, 6)).await.refusal(), "INVALID_REQUEST", "six together");
    assert_eq!(put(&server, &second.key, &origins(3, 5)).await.status, 200, "five together");
    let served: Value = get(&server, "wallet.example.com", route::WEBAUTHN).await.json();
    assert_eq!(served["origins"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_server_that_hosts_none_says_so() {
    let server = Server::start().await;
    assert_eq!(put(&server, &server.custodian_key, &apps("one")).await.refusal(), "NOT_FOUND");
    assert_eq!(get(&server, "localhost", route::PASSKEY_PAGE).await.refusal(), "NOT_FOUND");
    assert_eq!(get(&server, "localhost", route::WEBAUTHN).await.refusal(), "NOT_FOUND");
}

#[tokio::test]
async fn the_page_may_run_its_own_script_and_answer_this_machine_only() {
    let server = Server::with(|config| config.relying_parties = vec!["localhost".parse().unwrap()]).await;
    let answer = get(&server, "localhost:8787", route::PASSKEY_PAGE).await;
    assert_eq!(answer.status, 200);
    let html = answer.text();
    let part = |tag: &str| {
        let (_, rest) = html.split_once(&format!("<{tag}>")).unwrap();
        rest.split_once(&format!("</{tag}>")).unwrap().0.to_owned()
    };
    let hash = |tag: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(part(tag))));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; form-action http://127.0.0.1:*; base-uri 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash("script"),
        hash("style")
    );
    assert_eq!(answer.headers["content-security-policy"], policy);
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.headers[name], value);
    }
    for outside in ["src=", "href=", "@import", "fetch(", "XMLHttpRequest", "eval(", "innerHTML"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!part("style").contains("url("));
    assert_eq!(get(&server, "example.com", route::PASSKEY_PAGE).await.refusal(), "NOT_FOUND");
}

#[tokio::test]
async fn a_descriptor_of_production_names_no_relying_party_of_the_operator() {
    let server = Server::with(|config| {
        config.profile = Profile::Production;
        config.dangers.local_kms = true;
        config.dangers.single_shred_store = true;
    })
    .await;
    let details = |name: &str| Details {
        server_url: Some("https://api.operator.com".into()),
        relying_parties: vec![name.into()],
        ..Details::default()
    };
    for name in ["operator.com", "wallet.operator.com", "api.operator.com"] {
        let refused = halfkey_server::descriptor(&server.app, details(name)).await.unwrap_err();
        assert!(matches!(refused, Error::OperatorIsRelyingParty(named) if named == name));
    }
    let signed = halfkey_server::descriptor(&server.app, details("customer.com")).await.unwrap();
    assert_eq!(signed.open().unwrap().relying_parties, ["customer.com"]);
}
