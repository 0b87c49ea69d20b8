//! The passkey door: stateless, made for an enclave.
//!
//! A process of its own, with its own data folder. It has no database and no HTTP: bounded frames come in over a
//! Unix socket (0600) or a loopback address, and each is answered from the frame and the keeper's keys alone.
//!
//! This version tells its long-term key and evidence about itself. **It releases no file keys yet**: any such
//! request is answered with `UNSUPPORTED_REQUEST` (see [`halfkey_envelope::keeper`]). Its evidence is of the kind
//! `insecure-dev`, which proves nothing and which clients refuse unless told otherwise.

mod config;
mod seal_root;
mod serve;
mod socket;

pub use config::{Config, Listen};
pub use seal_root::{FileRoot, RootError, SealRoot};
pub use serve::{Error, Keeper, Ready, run, serve};
