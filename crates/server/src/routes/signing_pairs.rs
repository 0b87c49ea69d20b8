//! A device's own signing pairs after one side was cheated (PROTOCOL.md 4.9).

use axum::{Json, extract::State, http::StatusCode};
use halfkey_api::{
    bytes::Hex,
    message::{HealBegun, ReportBan},
    route,
};
use halfkey_envelope::{entropy::OsEntropy, id::PairId};

use crate::{
    app::App,
    ceremony::nonce,
    fault::Fault,
    http::{auth::Signed, body, path::Id},
    openapi::{DeviceHeaders, Refused},
};

const MAX_REASON: usize = 64;

/// Begin to heal this device's banned signing pair: a new pair takes its place. The operator has to review the ban
/// first, once for each healing. Asked again while the new pair is pending, the answer is the same.
#[utoipa::path(
    post, path = route::SIGNING_PAIR_HEAL, tag = "devices", security(("client" = [])), operation_id = "healSigningPair",
    params(("pair_id" = String, Path, format = "uuid"), DeviceHeaders),
    responses((status = 200, body = HealBegun), Refused)
)]
pub(super) async fn heal(
    State(app): State<App>,
    Id(banned): Id<PairId>,
    call: Signed<body::Empty>,
) -> Result<Json<HealBegun>, Fault> {
    let (client, device, now_ms) = (call.caller.client, &call.device, call.caller.now_ms);
    let new = PairId::generate(&mut OsEntropy, now_ms);
    let begun = app.store.begin_heal(client, device.id, banned, new, now_ms).await?;
    tracing::info!(%client, pair = %banned, new = %begun.pair, "healing of a banned pair begun");
    Ok(Json(HealBegun {
        nonce: Hex(nonce::of_heal(&app, client, &device.public_key, begun.pair)),
        expires_at: begun.deadline_ms,
        wallet_id: begun.wallet,
        curve: begun.curve,
        pair_id: begun.pair,
        generation: begun.generation,
        from_pair_id: banned,
    }))
}

/// Report that the server cheated with this device's own signing pair. It is banned at once, and the operator is asked.
#[utoipa::path(
    post, path = route::SIGNING_PAIR_BAN, tag = "devices", security(("client" = [])), operation_id = "banSigningPair",
    params(("pair_id" = String, Path, format = "uuid"), DeviceHeaders), request_body = ReportBan,
    responses((status = 204), Refused)
)]
pub(super) async fn ban(
    State(app): State<App>,
    Id(pair): Id<PairId>,
    call: Signed<body::Json<ReportBan>>,
) -> Result<StatusCode, Fault> {
    let (client, device, now_ms) = (call.caller.client, call.device.id, call.caller.now_ms);
    let body::Json(ReportBan { reason }) = call.body;
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if reason.is_empty() || reason.len() > MAX_REASON || !reason.chars().all(plain) {
        return Err(Fault::field("reason", "1 to 64 characters of A-Z, 0-9 and _"));
    }
    tracing::warn!(%client, %pair, reason, "a device reports that this server cheated: pair banned");
    app.store.ban_own_pair(client, device, pair, &format!("DEVICE_REPORTS_{reason}"), now_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}
