//! Sealed envelopes, and what holds the key to them: a password, a code or a public key.
//!
//! This is the lowest crate of Halfkey. It takes bytes, a source of randomness and a time, and gives bytes:
//! no sockets, clock, global randomness, environment or logging (`docs/adr/0001`).

pub mod all_of;
pub mod cbor;
pub mod client_share;
pub mod cloud;
pub mod custodian;
pub mod door;
pub mod entropy;
pub mod exit_kit;
pub mod frame;
pub mod hash;
pub mod hpke;
pub mod id;
pub mod keeper;
pub mod method_set;
pub mod oprf;
pub mod part_record;
pub mod passkey;
pub mod password;
pub mod record;
pub mod recovery_code;
pub mod seal;
mod secret;
pub mod text;
pub mod wallet;

pub use record::Record;
pub use seal::FileKey;
