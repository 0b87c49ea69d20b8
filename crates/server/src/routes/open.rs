//! Probes and the API's own description: no credentials.

use axum::{
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use halfkey_api::route;

use crate::{app::App, fault::Fault, openapi};

/// The process lives.
#[utoipa::path(get, path = route::HEALTHZ, tag = "probes", operation_id = "healthz", responses((status = 204)))]
pub(super) async fn healthz() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Store, key management and keepers answer.
#[utoipa::path(
    get, path = route::READYZ, tag = "probes", operation_id = "readyz",
    responses((status = 204), (status = 503, body = halfkey_api::error::ErrorBody))
)]
pub(super) async fn readyz(State(app): State<App>) -> Result<StatusCode, Fault> {
    app.ready().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// This document.
#[utoipa::path(
    get, path = route::OPENAPI, tag = "probes", operation_id = "openapi",
    responses((status = 200, body = serde_json::Value))
)]
pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi::json())
}
