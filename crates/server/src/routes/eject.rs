//! Ejects: the custodian opens the window; inside it a device proves possession, gets the custodian's halves sealed, and
//! acknowledges the keys.

use axum::{Json, extract::State};
use halfkey_api::{
    message::{EjectReleased, EjectWindow, EjectableBackupShares, EnableEject, ProvePossession, Recovery},
    route,
};
use halfkey_envelope::id::{ClientId, RecoveryId};

use crate::{
    app::App,
    eject,
    fault::Fault,
    http::{
        auth::{AsCustodian, SignedByAnyKey, Unsigned},
        body,
        path::Id,
    },
    openapi::{DeviceHeaders, Refused},
    recovery,
};

/// Open the window in which one client may eject: the private keys then leave to that client's device. Needs a key whose
/// scope allows it. The custodian is notified, and it stands in the audit log.
#[utoipa::path(
    post, path = route::CUSTODIAN_ENABLE_EJECT, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "enableEject", params(("client_id" = String, Path, format = "uuid")), request_body = EnableEject,
    responses((status = 200, body = EjectWindow), Refused)
)]
pub(super) async fn enable(
    State(app): State<App>,
    caller: AsCustodian,
    Id(client): Id<ClientId>,
    Unsigned(body::Json(wanted)): Unsigned<body::Json<EnableEject>>,
) -> Result<Json<EjectWindow>, Fault> {
    caller.must_open_ejects()?;
    eject::enable(&app, (caller.custodian, caller.key), client, wanted, caller.now_ms).await.map(Json)
}

/// What one client could eject: identifiers and the open window, never a share.
#[utoipa::path(
    get, path = route::CUSTODIAN_EJECTABLE, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "ejectableBackupShares", params(("client_id" = String, Path, format = "uuid")),
    responses((status = 200, body = EjectableBackupShares), Refused)
)]
pub(super) async fn ejectable(
    State(app): State<App>,
    caller: AsCustodian,
    Id(client): Id<ClientId>,
) -> Result<Json<EjectableBackupShares>, Fault> {
    eject::ejectable(&app, caller.custodian, client, caller.now_ms).await.map(Json)
}

/// Proof of possession in an eject: the wallets are `ejecting`, and the custodian's halves leave, sealed to the proof's
/// one-time key. May be repeated with the same key until 30 days after the acknowledgement.
#[utoipa::path(
    post, path = route::RECOVERY_EJECT, tag = "recoveries", security(("client" = [])), operation_id = "eject",
    params(("recovery_id" = String, Path, format = "uuid"), DeviceHeaders), request_body = ProvePossession,
    responses((status = 200, body = EjectReleased), Refused)
)]
pub(super) async fn release(
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
    call: SignedByAnyKey<body::Json<ProvePossession>>,
) -> Result<Json<EjectReleased>, Fault> {
    let body::Json(proven) = call.body;
    eject::release(&app, &call.caller, &call.key, id, proven).await.map(Json)
}

/// The ejected keys were compared with the addresses and shown: the wallets are `ejected`.
#[utoipa::path(
    post, path = route::RECOVERY_EJECT_ACKNOWLEDGE, tag = "recoveries", security(("client" = [])),
    operation_id = "acknowledgeEject", params(("recovery_id" = String, Path, format = "uuid"), DeviceHeaders),
    responses((status = 200, body = Recovery), Refused)
)]
pub(super) async fn acknowledge(
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
    call: SignedByAnyKey<body::Empty>,
) -> Result<Json<Recovery>, Fault> {
    recovery::must_be_open(&app, &call.caller, &call.key, id).await?;
    let eject = app.store.acknowledge_ejection(call.caller.client, id, call.caller.now_ms).await?;
    tracing::info!(client = %call.caller.client, eject = %id, "the wallet is ejected");
    Ok(Json(recovery::shown(&eject)))
}
