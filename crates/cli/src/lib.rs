//! The command line: a real wallet client, the demo, and the HTTP transport that both use.

pub mod demo;
pub mod doctor;
pub mod error;
pub mod google;
pub mod judge;
pub mod offline;
pub mod output;
pub mod passkey;
pub mod passphrase;
pub mod profile;
pub mod secrets;
pub mod transport;
pub mod wallet;

pub use error::{Error, Result};
