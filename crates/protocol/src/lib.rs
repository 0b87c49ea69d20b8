//! Two-party ceremonies over wallet halves and the life of a slot: bytes in, bytes out.
//!
//! What runs between the device and the server, and why it is sound, is in `docs/protocol.md`. This crate has no I/O, no
//! clock and no global randomness of its own; the one listed exception is the ECDSA library, which draws from the
//! operating system inside (DECISIONS.md D30).
//!
//! | ceremony | module | round trips |
//! |---|---|---|
//! | key generation | [`dkg`] | 2 |
//! | signature | [`sign`] | 2 on secp256k1, 1 on Ed25519 |
//! | backup, recovery, healing | [`reshare`] | 1 with each party, see there |
//! | fresh OT state | [`rekey`] | 2, secp256k1 only |
//!
//! Every step consumes its state by value. What a server keeps between two round trips is a [`Kept`]: secret bytes that
//! the caller seals, stores and deletes before use.

mod backend;
pub mod context;
pub mod descriptor;
pub mod dkg;
mod dkls;
pub mod error;
mod field;
mod frost;
pub mod half;
pub mod identity;
pub mod lifecycle;
pub mod pair;
pub mod party;
pub mod path;
pub mod point;
pub mod proof;
pub mod rekey;
pub mod reshare;
pub mod sign;
mod wire;

pub use context::{Ceremony, Op, PartyKeys};
pub use error::{Error, Fault, Result};
pub use half::{ClientBackupShare, CustodianBackupShare, Half, SigningShare};
pub use identity::{DeviceKey, IdentityKey, IdentityPublic, Signs};
pub use pair::{PairPublic, Role};
pub use party::SigningParty;
pub use path::DerivationPath;
pub use point::Point;
pub use wire::{Kept, MAX_MESSAGE};
