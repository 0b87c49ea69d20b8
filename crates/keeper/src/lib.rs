//! The passkey door: stateless, made for an enclave.
//!
//! A process of its own, with its own data folder. It has no database and no HTTP: bounded frames come in over a
//! Unix socket (0600) or a loopback address, and each is answered from the frame and the keeper's keys alone.
//!
//! It tells its long-term key and evidence about itself, and releases a part of a backup's key to the device that shows
//! an assertion of one of the backup's passkeys ([`release()`]). Its root is guarded by a TPM ([`tpm2`]), by AWS KMS
//! (`nitro`, a feature), or by nothing: then its evidence is of the kind `insecure-dev`, which clients refuse unless told
//! otherwise.

mod config;
mod evidence;
mod keys;
#[cfg(feature = "nitro")]
pub mod nitro;
mod release;
mod seal_root;
mod serve;
mod socket;
pub mod tpm;
pub mod tpm2;
mod verify;

pub use config::{Config, Guard, Listen};
pub use evidence::{Attester, EvidenceFault, InsecureDev};
pub use keys::Keys;
pub use release::release;
pub use seal_root::{FileRoot, RootError, SealRoot};
pub use serve::{Error, Keeper, Ready, run, serve};
pub use verify::{Expected, Own, VERIFIERS, Verifier, WebauthnRs, verify};
