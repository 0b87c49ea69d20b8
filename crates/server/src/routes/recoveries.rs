//! Recoveries: asked for and proven by the new device's key, listed and cancelled by the client's others.

use std::sync::OnceLock;

use axum::{Json, extract::State, response::Response};
use halfkey_api::{
    message::{
        BeginRecovery, CancelByLink, CancelledByLink, CipherText, FinishStepUp, PossessionProven, ProvePossession,
        Recovery, RecoveryList,
    },
    route,
};
use halfkey_envelope::id::RecoveryId;

use super::devices;
use crate::{
    app::App,
    backup, challenge,
    fault::Fault,
    http::{
        auth::{AsClient, AsCustodian, MaybeSigned, SignedByAnyKey, Stranger, Unsigned},
        body,
        page::Page,
        path::Id,
    },
    openapi::{DeviceHeaders, Refused},
    recovery,
    store::EndedBy,
};

const MAX_LISTED: u64 = 100;

/// Open a recovery, signed by the new device's key. Asking again with the same key gives the one that is open.
#[utoipa::path(
    post, path = route::RECOVERIES, tag = "recoveries", security(("client" = [])), operation_id = "beginRecovery",
    params(DeviceHeaders), request_body = BeginRecovery, responses((status = 200, body = Recovery), Refused)
)]
pub(super) async fn begin(
    State(app): State<App>,
    call: SignedByAnyKey<body::Json<BeginRecovery>>,
) -> Result<Json<Recovery>, Fault> {
    let body::Json(wanted) = call.body;
    devices::check(&wanted.new_device)?;
    if wanted.new_device.public_key.0 != call.key {
        return Err(Fault::field("newDevice.publicKey", "not the key that signed the call"));
    }
    recovery::begin(&app, &call.caller, &call.key, wanted).await.map(Json)
}

/// The client's recoveries, newest first.
#[utoipa::path(
    get, path = route::RECOVERIES, tag = "recoveries", security(("client" = [])), operation_id = "listRecoveries",
    responses((status = 200, body = RecoveryList), Refused)
)]
pub(super) async fn list(State(app): State<App>, caller: AsClient) -> Result<Json<RecoveryList>, Fault> {
    let recoveries = app.store.recoveries(caller.client, MAX_LISTED, caller.now_ms).await?;
    Ok(Json(RecoveryList { results: recoveries.iter().map(recovery::shown).collect() }))
}

/// One recovery. Signed by the device key that asked, the answer has what only that device gets to know.
#[utoipa::path(
    get, path = route::RECOVERY, tag = "recoveries", security(("client" = [])), operation_id = "showRecovery",
    params(("recovery_id" = String, Path, format = "uuid")), responses((status = 200, body = Recovery), Refused)
)]
pub(super) async fn show(
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
    caller: AsClient,
    MaybeSigned(key): MaybeSigned,
) -> Result<Json<Recovery>, Fault> {
    let recovery = app.store.recovery(caller.client, id, caller.now_ms).await?;
    match key {
        Some(key) if key == recovery.device.public_key => {
            recovery::shown_to_its_device(&app, caller.client, recovery).await.map(Json)
        }
        _ => Ok(Json(recovery::shown(&recovery))),
    }
}

/// Cancel a recovery: any enrolled device may, and the device that asked. After a proof of possession the backup is
/// frozen. Before it, a device's second cancel holds the recovery, `REQUESTED`, until the operator has decided.
#[utoipa::path(
    post, path = route::RECOVERY_CANCEL, tag = "recoveries", security(("client" = [])),
    operation_id = "cancelRecovery", params(("recovery_id" = String, Path, format = "uuid"), DeviceHeaders),
    responses((status = 200, body = Recovery), Refused)
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
    call: SignedByAnyKey<body::Empty>,
) -> Result<Json<Recovery>, Fault> {
    let (client, now_ms) = (call.caller.client, call.caller.now_ms);
    let recovery = app.store.recovery(client, id, now_ms).await?;
    let own = recovery.device.public_key == call.key;
    let by = match (&call.device, own) {
        (Some(device), _) => device.id,
        (None, true) => recovery.device.id,
        (None, false) => {
            call.enrolled()?;
            return Err(Fault::not_found());
        }
    };
    let recovery = app.store.end_recovery(client, id, EndedBy::Device(by), now_ms).await?;
    Ok(Json(recovery::shown(&recovery)))
}

/// The envelope with a challenge, inside a recovery that the policy has let through.
#[utoipa::path(
    get, path = route::RECOVERY_CIPHER_TEXT, tag = "recoveries", security(("client" = [])),
    operation_id = "readRecoveryCipherText", params(("recovery_id" = String, Path, format = "uuid"), DeviceHeaders),
    responses((status = 200, body = CipherText), Refused)
)]
pub(super) async fn read_cipher_text(
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
    call: SignedByAnyKey<body::Empty>,
) -> Result<Json<CipherText>, Fault> {
    let recovery = recovery::must_be_open(&app, &call.caller, &call.key, id).await?;
    let purpose = challenge::Purpose::Possession(id);
    backup::cipher_text(&app, &call.caller, &call.key, recovery.backup, purpose).await.map(Json)
}

/// Proof of possession of every client half: enrols the new device.
#[utoipa::path(
    post, path = route::RECOVERY_POSSESSION, tag = "recoveries", security(("client" = [])),
    operation_id = "provePossession", params(("recovery_id" = String, Path, format = "uuid"), DeviceHeaders),
    request_body = ProvePossession, responses((status = 200, body = PossessionProven), Refused)
)]
pub(super) async fn prove_possession(
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
    call: SignedByAnyKey<body::Json<ProvePossession>>,
) -> Result<Json<PossessionProven>, Fault> {
    let body::Json(proven) = call.body;
    recovery::prove_possession(&app, &call.caller, &call.key, id, proven).await.map(Json)
}

/// Say how the step has gone that the policy hook asked the user for. Confirmed, the recovery goes on; failed, it is denied.
/// Confirming again changes nothing. For an eject it needs a key whose scope opens windows for ejects.
#[utoipa::path(
    post, path = route::CUSTODIAN_STEP_UP, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "finishStepUp", params(("recovery_id" = String, Path, format = "uuid")),
    request_body = FinishStepUp, responses((status = 200, body = Recovery), Refused)
)]
pub(super) async fn finish_step_up(
    State(app): State<App>,
    caller: AsCustodian,
    Id(id): Id<RecoveryId>,
    Unsigned(body::Json(finish)): Unsigned<body::Json<FinishStepUp>>,
) -> Result<Json<Recovery>, Fault> {
    recovery::finish_step_up(&app, &caller, id, finish.confirmed).await.map(Json)
}

fn page() -> &'static Page {
    static PAGE: OnceLock<Page> = OnceLock::new();
    PAGE.get_or_init(|| {
        Page::new(
            include_str!("../cancel_page/page.html"),
            include_str!("../page.css"),
            include_str!("../cancel_page/page.js"),
            "connect-src 'self'; form-action 'none'",
        )
    })
}

/// The page behind the link of a notice. It says what is going on; nothing happens before its button is pressed.
#[utoipa::path(
    get, path = route::RECOVERY_LINK, tag = "recoveries", operation_id = "recoveryLinkPage",
    params(("recovery_id" = String, Path, format = "uuid")),
    responses((status = 200, body = String, content_type = "text/html"), Refused)
)]
pub(super) async fn link_page(_recovery: Id<RecoveryId>) -> Result<Response, Fault> {
    page().answer(&[("referrer-policy", "no-referrer")])
}

/// Cancel a recovery by the link of its notice. After a proof of possession the backup is frozen; before it, the second
/// cancel by a link holds the recovery until the operator has decided.
#[utoipa::path(
    post, path = route::RECOVERY_LINK, tag = "recoveries", operation_id = "cancelRecoveryByLink",
    params(("recovery_id" = String, Path, format = "uuid")), request_body = CancelByLink,
    responses((status = 200, body = CancelledByLink), Refused)
)]
pub(super) async fn cancel_by_link(
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
    stranger: Stranger,
    Unsigned(body::Json(CancelByLink { token })): Unsigned<body::Json<CancelByLink>>,
) -> Result<Json<CancelledByLink>, Fault> {
    if let Some(from) = stranger.address {
        app.limit(&format!("unauthenticated:{from}"), app.config.limits.unauthenticated, stranger.now_ms).await?;
    }
    recovery::cancel_by_link(&app, id, &token.0, stranger.now_ms).await.map(Json)
}
