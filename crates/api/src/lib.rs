//! Every message, error id and schema of the HTTP interface, and the decoding of what can be signed.
//!
//! The control plane is JSON; ceremony bodies are strict CBOR, HPKE-sealed to the server's pinned key
//! (DECISIONS.md D6). No I/O here: the server and the SDK share these types and nothing else.

pub mod auth;
pub mod bytes;
pub mod ceremony;
pub mod chain;
pub mod context;
#[cfg(feature = "public-suffix")]
pub mod domain;
pub mod error;
pub mod message;
pub mod relying_party;
pub mod route;
pub mod signing;
