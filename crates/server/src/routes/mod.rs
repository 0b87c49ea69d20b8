//! One file for each thing that a caller can do.

mod backups;
mod ceremonies;
mod client;
mod custodians;
mod devices;
mod door;
mod eject;
mod exit_kit;
mod open;
mod passkey_page;
mod recoveries;
mod relying_party;
mod signing_pairs;
mod verifications;
mod wallets;
mod webhooks;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// What a custodian's API key opens.
pub(crate) fn custodian() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(custodians::create_client, custodians::list_clients))
        .routes(routes!(custodians::list_events))
        .routes(routes!(custodians::show_client))
        .routes(routes!(custodians::create_session))
        .routes(routes!(eject::enable))
        .routes(routes!(eject::ejectable))
        .routes(routes!(exit_kit::export))
        .routes(routes!(recoveries::finish_step_up))
        .routes(routes!(relying_party::show, relying_party::put))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::show, webhooks::delete))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::replay))
}

/// What a client's credential opens; what changes anything needs a device's signature too.
pub(crate) fn client() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(client::show))
        .routes(routes!(client::backup_status))
        .routes(routes!(devices::enrol, devices::list))
        .routes(routes!(devices::revoke))
        .routes(routes!(wallets::begin))
        .routes(routes!(signing_pairs::heal))
        .routes(routes!(signing_pairs::ban))
        .routes(routes!(ceremonies::step))
        .routes(routes!(backups::begin))
        .routes(routes!(backups::cancel))
        .routes(routes!(backups::store_cipher_text, backups::read_cipher_text))
        .routes(routes!(backups::commit))
        .routes(routes!(backups::remove_method))
        .routes(routes!(backups::confirm_sync))
        .routes(routes!(door::relay))
        .routes(routes!(door::relay_passkey))
        .routes(routes!(door::give_pepper))
        .routes(routes!(recoveries::begin, recoveries::list))
        .routes(routes!(recoveries::show))
        .routes(routes!(recoveries::cancel))
        .routes(routes!(recoveries::read_cipher_text))
        .routes(routes!(recoveries::prove_possession))
        .routes(routes!(eject::release))
        .routes(routes!(eject::acknowledge))
        .routes(routes!(verifications::begin))
        .routes(routes!(verifications::read_cipher_text))
        .routes(routes!(verifications::prove))
        .routes(routes!(verifications::fail))
}

/// What needs no credential.
pub(crate) fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(open::healthz))
        .routes(routes!(open::readyz))
        .routes(routes!(open::openapi))
        .routes(routes!(relying_party::apple))
        .routes(routes!(relying_party::android))
        .routes(routes!(relying_party::webauthn))
        .routes(routes!(passkey_page::show))
        .routes(routes!(recoveries::link_page, recoveries::cancel_by_link))
}
