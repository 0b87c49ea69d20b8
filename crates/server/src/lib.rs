//! The server: HTTP interface, store, key management, policy and relays to the keepers.

pub mod admin;
mod app;
mod backup;
mod ceremony;
mod challenge;
pub mod clock;
mod cloud;
pub mod config;
mod custodian;
mod descriptor;
mod door;
mod eject;
mod error;
mod events;
mod exit_kit;
mod fault;
mod heavy;
mod http;
pub mod kept;
mod keys;
pub mod kms;
mod link;
pub mod openapi;
mod passkey_door;
pub mod policy_hook;
mod protection;
mod recovery;
pub mod relying_party;
mod routes;
mod serve;
pub mod shred;
mod signer;
mod status;
pub mod store;
mod turns;
pub mod webhook;

pub use self::{
    app::{App, app},
    descriptor::{Details, descriptor},
    error::Error,
    link::LinkError,
    serve::run,
};
