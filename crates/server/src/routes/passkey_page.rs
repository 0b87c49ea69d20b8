//! The page that makes and uses passkeys for the command line (docs/passkeys.md, "The bridge").
//!
//! It is one file without any other: what it may do is named by hash in its Content-Security-Policy, and the only place
//! that it may send anything to is a port of the user's own machine.

use std::sync::OnceLock;

use axum::{extract::State, http::HeaderMap, response::Response};
use halfkey_api::route;

use crate::{app::App, fault::Fault, http::page::Page, openapi::Refused, relying_party};

fn page() -> &'static Page {
    static PAGE: OnceLock<Page> = OnceLock::new();
    PAGE.get_or_init(|| {
        Page::new(
            include_str!("../passkey_page/page.html"),
            include_str!("../page.css"),
            include_str!("../passkey_page/page.js"),
            "form-action http://127.0.0.1:*",
        )
    })
}

/// The passkey page of a relying party that this server hosts.
#[utoipa::path(
    get, path = route::PASSKEY_PAGE, tag = "relying party", operation_id = "passkeyPage",
    responses((status = 200, body = String, content_type = "text/html"), Refused)
)]
pub(super) async fn show(State(app): State<App>, headers: HeaderMap) -> Result<Response, Fault> {
    relying_party::asked_for(&app.config, &headers).ok_or_else(Fault::not_found)?;
    page().answer(&[
        // `origin` and not `no-referrer`: with the latter the browser hides the page's origin from the command line,
        // which accepts an answer from this page alone. Path and fragment are told to nobody either way.
        ("referrer-policy", "origin"),
        ("permissions-policy", "publickey-credentials-create=(self), publickey-credentials-get=(self)"),
    ])
}
