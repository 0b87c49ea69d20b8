//! What relying parties serve: three files for apps and browsers, and what a custodian says in them.

use axum::{
    Json,
    extract::State,
    http::{
        HeaderMap,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use halfkey_api::{message::RelyingPartyApps, relying_party::Apps, route};
use serde_json::Value;

use crate::{
    app::App,
    fault::Fault,
    http::{
        auth::{AsCustodian, Unsigned},
        body,
    },
    openapi::Refused,
    relying_party,
};

/// Long enough to spare the database, short enough for a new certificate.
const CACHE: &str = "public, max-age=300";

/// What this custodian says about its relying party's apps; empty lists if it never said anything.
#[utoipa::path(
    get, path = route::CUSTODIAN_RELYING_PARTY, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "showRelyingParty", responses((status = 200, body = RelyingPartyApps), Refused)
)]
pub(super) async fn show(State(app): State<App>, caller: AsCustodian) -> Result<Json<RelyingPartyApps>, Fault> {
    relying_party::said(&app, caller.custodian).await.map(Json)
}

/// Replace what this custodian says about its relying party's apps.
#[utoipa::path(
    put, path = route::CUSTODIAN_RELYING_PARTY, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "putRelyingParty", request_body = RelyingPartyApps,
    responses((status = 200, body = RelyingPartyApps), Refused)
)]
pub(super) async fn put(
    State(app): State<App>,
    caller: AsCustodian,
    Unsigned(body::LargeJson(wanted)): Unsigned<body::LargeJson<RelyingPartyApps>>,
) -> Result<Json<RelyingPartyApps>, Fault> {
    relying_party::say(&app, caller.custodian, &wanted, caller.now_ms).await.map(Json)
}

/// `{"webcredentials":{"apps":["TEAMID.bundle.id"]}}`.
#[utoipa::path(
    get, path = route::APPLE_APP_SITE_ASSOCIATION, tag = "relying party", operation_id = "appleAppSiteAssociation",
    responses((status = 200, body = Value), Refused)
)]
pub(super) async fn apple(State(app): State<App>, headers: HeaderMap) -> Result<Response, Fault> {
    file(&app, &headers, Apps::apple_file).await
}

/// Digital Asset Links with `delegate_permission/common.get_login_creds`.
#[utoipa::path(
    get, path = route::ASSET_LINKS, tag = "relying party", operation_id = "assetLinks",
    responses((status = 200, body = Value), Refused)
)]
pub(super) async fn android(State(app): State<App>, headers: HeaderMap) -> Result<Response, Fault> {
    file(&app, &headers, Apps::android_file).await
}

/// `{"origins":["https://…"]}`.
#[utoipa::path(
    get, path = route::WEBAUTHN, tag = "relying party", operation_id = "relatedOrigins",
    responses((status = 200, body = Value), Refused)
)]
pub(super) async fn webauthn(State(app): State<App>, headers: HeaderMap) -> Result<Response, Fault> {
    file(&app, &headers, Apps::webauthn_file).await
}

async fn file(app: &App, headers: &HeaderMap, of: fn(&Apps) -> Option<Value>) -> Result<Response, Fault> {
    let hosted = relying_party::asked_for(&app.config, headers).ok_or_else(Fault::not_found)?;
    let file = of(&relying_party::apps(app, hosted).await?).ok_or_else(Fault::not_found)?;
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, CACHE)];
    Ok((headers, file.to_string()).into_response())
}
