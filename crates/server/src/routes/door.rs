//! The relays to the two keepers, and the pepper of clouds. What a client says to a door is opaque here; where it may say
//! it is not.

use axum::{Json, extract::State};
use halfkey_api::{
    message::{DoorAnswer, DoorRequest, PasskeyDoorRequest, PepperGiven, PepperRequest},
    route,
};

use crate::{
    app::App,
    cloud, door,
    fault::Fault,
    http::{auth::SignedByAnyKey, body},
    openapi::{DeviceHeaders, Refused},
    passkey_door,
};

/// Relay one message to the password door, inside one's own pending backup, an open recovery, or a drill.
#[utoipa::path(
    post, path = route::PASSWORD_DOOR, tag = "backups", security(("client" = [])), operation_id = "passwordDoor",
    params(DeviceHeaders), request_body = DoorRequest, responses((status = 200, body = DoorAnswer), Refused)
)]
pub(super) async fn relay(
    State(app): State<App>,
    call: SignedByAnyKey<body::LargeJson<DoorRequest>>,
) -> Result<Json<DoorAnswer>, Fault> {
    door::relay(&app, call).await.map(Json)
}

/// Relay one message to the keeper of the passkey door: a release inside one's own pending backup, an open recovery, or
/// a drill; a request for evidence there, or at any time by an enrolled device.
#[utoipa::path(
    post, path = route::PASSKEY_DOOR, tag = "backups", security(("client" = [])), operation_id = "passkeyDoor",
    params(DeviceHeaders), request_body = PasskeyDoorRequest, responses((status = 200, body = DoorAnswer), Refused)
)]
pub(super) async fn relay_passkey(
    State(app): State<App>,
    call: SignedByAnyKey<body::LargeJson<PasskeyDoorRequest>>,
) -> Result<Json<DoorAnswer>, Fault> {
    passkey_door::relay(&app, call).await.map(Json)
}

/// The pepper of the record of a backup in the user's cloud, inside one's own pending backup, an open recovery, or a drill.
#[utoipa::path(
    post, path = route::CLOUD_PEPPER, tag = "backups", security(("client" = [])), operation_id = "cloudPepper",
    params(DeviceHeaders), request_body = PepperRequest, responses((status = 200, body = PepperGiven), Refused)
)]
pub(super) async fn give_pepper(
    State(app): State<App>,
    call: SignedByAnyKey<body::Json<PepperRequest>>,
) -> Result<Json<PepperGiven>, Fault> {
    cloud::give(&app, call).await.map(Json)
}
