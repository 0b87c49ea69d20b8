//! Everything that is promised of the stored and sent forms of this crate: known answers, golden files that open
//! for ever, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod all_of;
mod cbor_variants;
mod cloud;
mod decoders;
mod door;
mod door_decoders;
mod golden;
mod passkey;
mod passkey_decoders;
mod refusals;
mod sample;
mod secrets;
mod two_keys;
mod vectors;
