//! Devices: the first one by trust on first use, later ones through a recovery (DECISIONS.md D4).

use axum::{Json, extract::State, http::StatusCode};
use halfkey_api::{
    message::{Device, EnrolDevice},
    route,
};
use halfkey_envelope::{entropy::OsEntropy, id::DeviceId};

use halfkey_protocol::lifecycle::Force;

use crate::{
    app::App,
    fault::Fault,
    http::{
        auth::{AsClient, Signed, SignedByAnyKey},
        body,
        path::Id,
    },
    openapi::{DeviceHeaders, Refused},
    status,
    store::NewDevice,
};

const MAX_PLATFORM: usize = 32;
const MAX_NAME: usize = 64;

/// Checks what a device says of itself.
pub(super) fn check(wanted: &EnrolDevice) -> Result<(), Fault> {
    let fits = |text: &str, max| !text.is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control);
    if !fits(&wanted.platform, MAX_PLATFORM) {
        return Err(Fault::field("platform", "1 to 32 characters"));
    }
    if !fits(&wanted.name, MAX_NAME) {
        return Err(Fault::field("name", "1 to 64 characters"));
    }
    Ok(())
}

/// Enrol the client's first device. The call is signed by the very key that it enrols.
#[utoipa::path(
    post, path = route::DEVICES, tag = "devices", security(("client" = [])), operation_id = "enrolDevice",
    params(DeviceHeaders), request_body = EnrolDevice, responses((status = 201, body = Device), Refused)
)]
pub(super) async fn enrol(
    State(app): State<App>,
    call: SignedByAnyKey<body::Json<EnrolDevice>>,
) -> Result<(StatusCode, Json<Device>), Fault> {
    let body::Json(wanted) = call.body;
    check(&wanted)?;
    if wanted.public_key.0 != call.key {
        return Err(Fault::field("publicKey", "not the key that signed the call"));
    }
    let new = NewDevice {
        id: DeviceId::generate(&mut OsEntropy, call.caller.now_ms),
        public_key: call.key,
        platform: wanted.platform,
        name: wanted.name,
    };
    let device = app.store.enrol_first_device(call.caller.client, &new, call.caller.now_ms).await?;
    Ok((StatusCode::CREATED, Json(status::device(device))))
}

/// The client's devices, revoked ones included.
#[utoipa::path(
    get, path = route::DEVICES, tag = "devices", security(("client" = [])), operation_id = "listDevices",
    responses((status = 200, body = Vec<Device>), Refused)
)]
pub(super) async fn list(State(app): State<App>, caller: AsClient) -> Result<Json<Vec<Device>>, Fault> {
    let devices = app.store.devices(caller.client).await?;
    Ok(Json(devices.into_iter().map(status::device).collect()))
}

/// Revoke a device: it never signs again; the server's halves of its pairs are erased once a copy is safe.
#[utoipa::path(
    delete, path = route::DEVICE, tag = "devices", security(("client" = [])), operation_id = "revokeDevice",
    params(("device_id" = String, Path, format = "uuid"), DeviceHeaders),
    responses((status = 204), Refused)
)]
pub(super) async fn revoke(
    State(app): State<App>,
    Id(device): Id<DeviceId>,
    call: Signed<body::Empty>,
) -> Result<StatusCode, Fault> {
    let (client, by, now_ms) = (call.caller.client, Some(call.device.id), call.caller.now_ms);
    app.store.revoke_device(client, by, device, Force::default(), now_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}
