//! What the calling client has.

use axum::{Json, extract::State};
use halfkey_api::{
    message::{BackupStatus, ClientDetail},
    route,
};

use crate::{app::App, fault::Fault, http::auth::AsClient, openapi::Refused, status};

/// The calling client: wallets, share pairs, devices, backup status.
#[utoipa::path(
    get, path = route::CLIENT, tag = "client", security(("client" = [])), operation_id = "showMe",
    responses((status = 200, body = ClientDetail), Refused)
)]
pub(super) async fn show(State(app): State<App>, caller: AsClient) -> Result<Json<ClientDetail>, Fault> {
    let devices = app.store.devices(caller.client).await?;
    Ok(Json(ClientDetail {
        id: caller.client,
        deployment: app.deployment,
        wallets: status::wallets(&app, caller.client).await?,
        devices: devices.into_iter().map(status::device).collect(),
        backup_status: status::backups(&app, caller.client, caller.now_ms).await?,
    }))
}

/// Backup status, method by method and curve by curve, from what the server has verified itself.
#[utoipa::path(
    get, path = route::BACKUP_STATUS, tag = "backups", security(("client" = [])), operation_id = "showBackupStatus",
    responses((status = 200, body = BackupStatus), Refused)
)]
pub(super) async fn backup_status(State(app): State<App>, caller: AsClient) -> Result<Json<BackupStatus>, Fault> {
    status::backups(&app, caller.client, caller.now_ms).await.map(Json)
}
