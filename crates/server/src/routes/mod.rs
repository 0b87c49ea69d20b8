//! One file for each thing that a caller can do.

mod custodians;
mod devices;
mod open;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// What a custodian's API key opens.
pub(crate) fn custodian() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(custodians::create_client)).routes(routes!(custodians::create_session))
}

/// What a client's credential opens; what changes anything needs a device's signature too.
pub(crate) fn client() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(devices::enrol, devices::list))
}

/// What needs no credential.
pub(crate) fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(open::healthz)).routes(routes!(open::readyz)).routes(routes!(open::openapi))
}
