//! Sealed envelopes, and what holds the key to them: a password, a code or a public key.
//!
//! This is the lowest crate of Halfkey. It takes bytes, a source of randomness and a time, and gives bytes:
//! no sockets, clock, global randomness, environment or logging (`docs/adr/0001`).

pub mod cbor;
pub mod client_share;
pub mod custodian;
pub mod entropy;
pub mod hash;
pub mod hpke;
pub mod id;
pub mod record;
pub mod seal;
mod secret;
pub mod wallet;

pub use record::Record;
pub use seal::FileKey;
