//! The server: HTTP interface, store, key management, policy and relays to the keepers.

pub mod store;
