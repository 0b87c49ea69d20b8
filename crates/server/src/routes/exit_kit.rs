//! The custodian's part of an exit kit.

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use halfkey_api::route;
use halfkey_envelope::id::ClientId;

use crate::{
    app::App,
    exit_kit,
    fault::Fault,
    http::{auth::AsCustodian, path::Id},
    openapi::Refused,
};

/// The custodian's file of one client's exit kit, sealed to the registered export key. Needs a key whose scope allows
/// ejects; it stands in the audit log.
#[utoipa::path(
    get, path = route::CUSTODIAN_EXIT_KIT, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "exitKit", params(("client_id" = String, Path, format = "uuid")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), Refused)
)]
pub(super) async fn export(
    State(app): State<App>,
    caller: AsCustodian,
    Id(client): Id<ClientId>,
) -> Result<Response, Fault> {
    caller.must_open_ejects()?;
    let file = exit_kit::export(&app, caller.custodian, client, caller.now_ms).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], file).into_response())
}
