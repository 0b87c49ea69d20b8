//! The passkey door: what opens a stanza, and everything that does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authenticator;
mod differential;
mod sheet;
mod table;
mod world;
