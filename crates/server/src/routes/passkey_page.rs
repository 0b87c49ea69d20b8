//! The page that makes and uses passkeys for the command line (docs/passkeys.md, "The bridge").
//!
//! It is one file without any other: what it may do is named by hash in its Content-Security-Policy, and the only place
//! that it may send anything to is a port of the user's own machine.

use std::sync::OnceLock;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use halfkey_api::route;
use sha2::{Digest, Sha256};

use crate::{app::App, fault::Fault, openapi::Refused, relying_party};

struct Page {
    html: String,
    policy: String,
}

fn page() -> &'static Page {
    static PAGE: OnceLock<Page> = OnceLock::new();
    PAGE.get_or_init(|| {
        let style = include_str!("../passkey_page/page.css");
        let script = include_str!("../passkey_page/page.js");
        let html = include_str!("../passkey_page/page.html").replace("{{style}}", style).replace("{{script}}", script);
        let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; form-action http://127.0.0.1:*; base-uri 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'",
            hash(script),
            hash(style),
        );
        Page { html, policy }
    })
}

/// The passkey page of a relying party that this server hosts.
#[utoipa::path(
    get, path = route::PASSKEY_PAGE, tag = "relying party", operation_id = "passkeyPage",
    responses((status = 200, body = String, content_type = "text/html"), Refused)
)]
pub(super) async fn show(State(app): State<App>, headers: HeaderMap) -> Result<Response, Fault> {
    relying_party::asked_for(&app.config, &headers).ok_or_else(Fault::not_found)?;
    let page = page();
    let headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", page.policy.as_str()),
        ("cache-control", "no-store"),
        // `origin` and not `no-referrer`: with the latter the browser hides the page's origin from the command line,
        // which accepts an answer from this page alone. Path and fragment are told to nobody either way.
        ("referrer-policy", "origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "publickey-credentials-create=(self), publickey-credentials-get=(self)"),
    ];
    let mut response = page.html.as_str().into_response();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|error| Fault::internal(&error))?;
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(response)
}
