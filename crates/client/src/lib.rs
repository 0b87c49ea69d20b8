//! The SDK: create, back up, recover, sign and verify, as a step machine without I/O of its own.
//!
//! An app gives [`Halfkey::builder`] the deployment it trusts, the client's credentials and a few host traits
//! ([`host`]), and calls verbs. Below it, every verb is one linear `async fn` that a [`machine::Machine`] polls by hand,
//! one question to the host at a time (ADR 0002): bindings and browsers use that machine directly. No HTTP, no runtime,
//! no clock and no randomness of its own.

mod backup;
mod call;
mod ceremony;
mod cloud;
pub mod command;
mod create;
mod deployment;
mod device;
mod devices;
mod door;
mod driver;
mod eject;
mod error;
mod exit_kit;
mod heal;
pub mod host;
mod keeper;
pub mod machine;
pub mod memory;
mod opening;
mod passkey;
pub mod platform;
mod port;
pub mod progress;
mod recover;
mod renew;
mod resume;
pub mod secret;
mod setting;
mod sign;
mod status;
pub mod step;
mod together;
mod verify;

pub use command::{
    Backup, BackupMethod, BrokenBackup, Cancelled, Command, CurveDrill, Ejecting, Held, Identity, Outcome,
    PasskeyBackup, PasskeyChange, PasskeyInfo, PasskeyList, PasswordKind, Recovered, Recovering, RecoveryMethod,
    Resumed, SignOutcome, Verified,
};
pub use deployment::Deployment;
pub use driver::{Builder, Credentials, Halfkey, ShareStore};
pub use eject::{Ed25519Scalar, PrivateKeys, Secp256k1PrivateKey};
pub use error::{Error, Result, StorageReason, WeakReason};
pub use exit_kit::{ExitKit, offline_recover};
pub use halfkey_api::{
    chain::Addresses,
    message::{BackupStatus, DrillLevel, MethodStatus, OldDevices, Protection, ProtectionReason, StepUp},
    signing::Payload,
};
pub use halfkey_envelope::{method_set::MethodSet, passkey::Mode as PasskeyMode};
pub use host::{
    BlobSlot, BlobStore, Clock, Prompt, Request, Response, SecretStore, SessionProvider, StoreError, Transport,
    TransportError,
};
pub use platform::{GoogleConfig, ICloudConfig, PasskeyConfig, Platform, PlatformEnv};
pub use progress::{Progress, Stage};
pub use secret::{CodeText, Password};
pub use setting::Setting;
pub use together::Together;
