//! The relay to the guesskeeper. What a client says to the password door is opaque here; where it may say it is not.

use axum::{Json, extract::State};
use halfkey_api::{
    message::{DoorAnswer, DoorRequest},
    route,
};

use crate::{
    app::App,
    door,
    fault::Fault,
    http::{auth::SignedByAnyKey, body},
    openapi::{DeviceHeaders, Refused},
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
