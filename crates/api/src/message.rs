//! The JSON messages of the control plane. Field names are camelCase; ids are UUIDs; times are
//! milliseconds since the Unix epoch.

mod backup;
mod client;
mod cloud;
mod custodian;
mod eject;
mod recovery;
mod verification;
mod webhook;

pub use backup::*;
pub use client::*;
pub use cloud::*;
pub use custodian::*;
pub use eject::*;
pub use recovery::*;
pub use verification::*;
pub use webhook::*;
