#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::{Ipv4Addr, SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;

const DOMAIN: &str = "wallet.example.com";
const PRINT: &str = "14:6D:E9:83:C5:73:06:50:D8:EE:B9:95:2F:34:FC:64:16:A0:83:42:E6:1D:BE:A8:8A:04:96:B2:3F:CF:44:E5";
const JSON: &str = "application/json";

/// What the customer's server answers to one path; 404 to all others.
#[derive(Clone)]
struct Served {
    path: &'static str,
    status: u16,
    kind: &'static str,
    location: &'static str,
    body: String,
}

fn served(path: &'static str, body: &Value) -> Served {
    Served { path, status: 200, kind: JSON, location: "", body: body.to_string() }
}

/// A real HTTP server that ends with the test.
struct Customer {
    base: String,
    task: JoinHandle<()>,
}

impl Drop for Customer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn customer(files: Vec<Served>) -> Customer {
    crate::transport::install_tls_provider();
    let answer = async |State(files): State<Vec<Served>>, uri: Uri, headers: HeaderMap| -> Response {
        let here = headers["host"] == DOMAIN;
        let Some(file) = files.iter().find(|file| file.path == uri.path() && here) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let headers = [("content-type", file.kind), ("location", file.location)];
        (StatusCode::from_u16(file.status).unwrap(), headers, file.body.clone()).into_response()
    };
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(files);
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Customer { base, task }
}

fn args(base: &str) -> RelyingPartyArgs {
    RelyingPartyArgs {
        domain: DOMAIN.into(),
        apple_apps: vec!["ABCDE12345.com.example.wallet".into()],
        android_apps: vec![format!("com.example.wallet={PRINT}")],
        origins: vec!["https://app.example.org".into()],
        base_url: Some(base.into()),
        ..RelyingPartyArgs::default()
    }
}

fn good() -> [Served; 3] {
    let target = json!({
        "namespace": "android_app", "package_name": "com.example.wallet", "sha256_cert_fingerprints": [PRINT],
    });
    [
        served(APPLE_PATH, &json!({ "applinks": {}, "webcredentials": { "apps": ["ABCDE12345.com.example.wallet"] } })),
        served(
            ANDROID_PATH,
            &json!([
                { "relation": ["delegate_permission/common.handle_all_urls", judge_relation()], "target": target },
                { "relation": [judge_relation()], "target": { "namespace": "web", "site": "https://example.com" } },
            ]),
        ),
        served(WEBAUTHN_PATH, &json!({ "origins": ["https://app.example.org"] })),
    ]
}

const fn judge_relation() -> &'static str {
    halfkey_api::relying_party::LOGIN_RELATION
}

/// The ids and subjects of what is found when one file is served otherwise.
async fn found(changed: Served) -> Vec<(String, String)> {
    let files = good().map(|file| if file.path == changed.path { changed.clone() } else { file });
    let customer = customer(files.into()).await;
    let report = examine(&args(&customer.base)).await.unwrap();
    let others = report.files.iter().filter(|file| !file.url.ends_with(changed.path));
    assert!(others.clone().count() == 2 && others.clone().all(|file| file.findings.is_empty()));
    let findings = report.all().map(|finding| (finding.id.as_str().to_owned(), finding.subject.clone()));
    let findings: Vec<_> = findings.collect();
    let errors = report.all().any(|finding| finding.id.severity() == Severity::Error);
    assert_eq!(report.is_good(), !errors);
    findings
}

#[tokio::test]
async fn good_files_are_good() {
    let customer = customer(good().into()).await;
    let report = examine(&args(&customer.base)).await.unwrap();
    assert!(report.is_good());
    assert_eq!(report.all().count(), 0, "{:#}", report.value());
    let value = report.value();
    assert_eq!((&value["good"], &value["files"][0]["status"]), (&json!(true), &json!(200)));
    assert_eq!(value["androidOrigins"], json!(["android:apk-key-hash:FG3pg8VzBlDY7rmVLzT8ZBagg0LmHb6oigSWsj_PROU"]));
    assert_eq!(report.lines().last().unwrap(), "Nothing is wrong.");
}

#[tokio::test]
async fn each_defect_of_an_answer_has_its_finding() {
    let [apple, android, webauthn] = good();
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(halfkey_api::relying_party::MAX_FILE));
    for file in [&apple, &android, &webauthn] {
        let to = "https://elsewhere.example/";
        let followed = if file.path == WEBAUTHN_PATH { "REDIRECT_NOT_FOLLOWED" } else { "REDIRECT" };
        for (changed, id, subject) in [
            (Served { status: 301, location: to, ..file.clone() }, followed, to),
            (Served { status: 302, location: "http://a.example/", ..file.clone() }, "REDIRECT", "http://a.example/"),
            (Served { status: 404, ..file.clone() }, "MISSING", ""),
            (Served { status: 403, ..file.clone() }, "STATUS", "403"),
            (Served { status: 500, ..file.clone() }, "STATUS", "500"),
            (Served { kind: "text/html; charset=utf-8", ..file.clone() }, "CONTENT_TYPE", "text/html"),
            (Served { body: "{,}".into(), ..file.clone() }, "NOT_JSON", ""),
            (Served { body: "<html>".into(), ..file.clone() }, "NOT_JSON", ""),
            (Served { body: format!("\u{feff}{}", file.body), ..file.clone() }, "NOT_JSON", ""),
            (Served { body: long.clone(), ..file.clone() }, "TOO_LARGE", ""),
        ] {
            assert_eq!(found(changed).await, [(id.to_owned(), subject.to_owned())], "{}", file.path);
        }
        let parameter = Served { kind: "application/json; charset=utf-8", ..file.clone() };
        assert_eq!(found(parameter).await, []);
    }
}

#[tokio::test]
async fn each_defect_of_a_content_has_its_finding() {
    let other_print = PRINT.replacen("14", "15", 1);
    let app = "ABCDE12345.com.example.wallet";
    let links = |relation: &str, package: &str, prints: &[&str]| {
        let target = json!({ "namespace": "android_app", "package_name": package, "sha256_cert_fingerprints": prints });
        served(ANDROID_PATH, &json!([{ "relation": [relation], "target": target }]))
    };
    let (login, wallet) = (judge_relation(), "com.example.wallet");
    let six: Vec<String> =
        (0..5).map(|n| format!("https://name{n}.example")).chain(["https://app.example.org".to_owned()]).collect();
    let own = format!("{wallet} {PRINT}");
    let cases: Vec<(Served, Vec<(&str, String)>)> = vec![
        (served(APPLE_PATH, &json!({})), vec![("WRONG_SHAPE", "webcredentials.apps is not a list of texts".into())]),
        (served(APPLE_PATH, &json!({ "webcredentials": { "apps": [] } })), vec![("APP_MISSING", app.into())]),
        (
            served(APPLE_PATH, &json!({ "webcredentials": { "apps": [app, "com.example.wallet"] } })),
            vec![("BAD_APP_ID", "com.example.wallet".into())],
        ),
        (
            served(APPLE_PATH, &json!({ "webcredentials": { "apps": [app, "ZZZZZ12345.com.evil"] } })),
            vec![("APP_UNEXPECTED", "ZZZZZ12345.com.evil".into())],
        ),
        (served(ANDROID_PATH, &json!({})), vec![("WRONG_SHAPE", "not a list of statements".into())]),
        (served(ANDROID_PATH, &json!(["x"])), vec![("WRONG_SHAPE", "not a list of statements".into())]),
        (served(ANDROID_PATH, &json!([])), vec![("PACKAGE_MISSING", wallet.into())]),
        (
            links("delegate_permission/common.handle_all_urls", wallet, &[PRINT]),
            vec![("RELATION_MISSING", wallet.into())],
        ),
        (
            links(login, wallet, &[&other_print]),
            vec![("FINGERPRINT_UNEXPECTED", format!("{wallet} {other_print}")), ("FINGERPRINT_MISSING", own.clone())],
        ),
        (links(login, wallet, &[PRINT, "14:6D"]), vec![("BAD_FINGERPRINT", format!("{wallet} 14:6D"))]),
        (
            links(login, "com.evil.wallet", &[PRINT]),
            vec![("PACKAGE_UNEXPECTED", "com.evil.wallet".into()), ("PACKAGE_MISSING", wallet.into())],
        ),
        (served(WEBAUTHN_PATH, &json!([])), vec![("WRONG_SHAPE", "origins is not a list of texts".into())]),
        (
            served(WEBAUTHN_PATH, &json!({ "origins": ["https://app.example.org/"] })),
            vec![
                ("BAD_ORIGIN", "https://app.example.org/".into()),
                ("ORIGIN_MISSING", "https://app.example.org".into()),
            ],
        ),
        (
            served(WEBAUTHN_PATH, &json!({ "origins": ["https://app.example.org", "https://evil.example"] })),
            vec![("ORIGIN_UNEXPECTED", "https://evil.example".into())],
        ),
    ];
    for (changed, expected) in cases {
        let expected: Vec<(String, String)> =
            expected.into_iter().map(|(id, subject)| (id.to_owned(), subject)).collect();
        assert_eq!(found(changed.clone()).await, expected, "{}", changed.body);
    }
    let many = found(served(WEBAUTHN_PATH, &json!({ "origins": six }))).await;
    assert_eq!(many.last().unwrap(), &("TOO_MANY_NAMES".to_owned(), "6".to_owned()));
}

#[tokio::test]
async fn without_expectations_what_is_absent_is_a_note() {
    let customer = customer(vec![]).await;
    let bare = RelyingPartyArgs { domain: DOMAIN.into(), base_url: Some(customer.base.clone()), ..Default::default() };
    let report = examine(&bare).await.unwrap();
    assert!(report.is_good());
    let ids: Vec<&str> = report.all().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, ["ABSENT"; 3]);
}

#[tokio::test]
async fn nobody_there_is_an_error_and_bad_arguments_are_usage() {
    let base = {
        let gone = customer(vec![]).await;
        gone.base.clone()
    };
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let report = examine(&args(&nobody)).await.unwrap();
    let ids: Vec<&str> = report.all().map(|finding| finding.id.as_str()).collect();
    assert_eq!((ids, report.is_good()), (vec!["UNREACHABLE"; 3], false));

    let bad = |change: fn(&mut RelyingPartyArgs)| {
        let mut args = args(&base);
        change(&mut args);
        args
    };
    for args in [
        bad(|args| args.domain = "https://example.com".into()),
        bad(|args| args.apple_apps = vec!["com.example".into()]),
        bad(|args| args.android_apps = vec!["com.example".into()]),
        bad(|args| args.android_apps = vec!["com.example=AB".into()]),
        bad(|args| args.origins = vec!["example.com".into()]),
        bad(|args| args.base_url = Some("example.com".into())),
    ] {
        assert!(matches!(examine(&args).await, Err(Error::Usage(_))));
    }
    let suffix = RelyingPartyArgs { domain: "co.uk".into(), base_url: Some(nobody), ..Default::default() };
    let report = examine(&suffix).await.unwrap();
    assert_eq!(report.all().next().unwrap().id.as_str(), "PUBLIC_SUFFIX");
}
