//! Every step of every ceremony: one path, sealed CBOR in and out.

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use halfkey_api::{ceremony::MEDIA_TYPE, route};

use crate::{
    app::App,
    ceremony,
    fault::Fault,
    http::{auth::Signed, body},
    openapi::{DeviceHeaders, Refused},
};

/// One step of a ceremony: strict CBOR, HPKE-sealed to the server's pinned key, and an answer sealed for its sender.
#[utoipa::path(
    post, path = route::CEREMONIES, tag = "ceremonies", security(("client" = [])), operation_id = "ceremonyStep",
    params(DeviceHeaders), request_body(content = Vec<u8>, content_type = "application/cbor"),
    responses((status = 200, body = Vec<u8>, content_type = "application/cbor"), Refused)
)]
pub(super) async fn step(State(app): State<App>, call: Signed<body::Sealed>) -> Result<Response, Fault> {
    let Signed { caller, device, body: body::Sealed(body) } = call;
    let answer = ceremony::step(app, Signed { caller, device, body }).await?;
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], answer).into_response())
}
