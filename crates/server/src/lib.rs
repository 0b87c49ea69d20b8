//! The server: HTTP interface, store, key management, policy and relays to the keepers.

pub mod admin;
mod app;
pub mod clock;
pub mod config;
mod error;
mod fault;
mod heavy;
mod http;
pub mod kept;
pub mod kms;
mod link;
pub mod openapi;
mod routes;
pub mod shred;
mod status;
pub mod store;

pub use self::{
    app::{App, app},
    error::Error,
};
