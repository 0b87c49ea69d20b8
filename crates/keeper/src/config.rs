//! What a keeper is started with.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use halfkey_envelope::keeper::KeyId;

use crate::tpm;

/// Where the keeper listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket at this path, made with mode 0600.
    Unix(PathBuf),
    /// A TCP address on the loopback interface; port 0 takes a free one. Any other interface is refused.
    Loopback(SocketAddr),
    /// This vsock port, for the parent of an enclave.
    #[cfg(feature = "nitro")]
    Vsock(u32),
}

/// What guards the keeper's root, and what evidence it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// A file of the data folder, made at the first start; evidence that proves nothing.
    InsecureDev,
    /// The TPM at this address, which has sealed the root before; its quotes.
    Tpm2(tpm::Address),
    /// AWS KMS, for the enclave's image; its module's attestation documents.
    #[cfg(feature = "nitro")]
    Nitro(Box<crate::nitro::Settings>),
}

/// What a keeper is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Its data folder: holds the sealing root, and is nobody else's.
    pub data: PathBuf,
    /// What guards the root.
    pub guard: Guard,
    /// The number of the long-term key that it announces. Older ones stay usable.
    pub key_id: KeyId,
    /// How many connections are served at once; further ones wait.
    pub max_connections: usize,
    /// How long a peer may take to send one frame, or to take one answer.
    pub timeout: Duration,
    /// Whether the end of standard input ends the keeper: a child does not outlive its parent.
    pub stop_on_stdin_close: bool,
}

impl Config {
    /// The defaults: key 1, 64 connections, 30 seconds a frame.
    #[must_use]
    pub const fn new(listen: Listen, data: PathBuf) -> Self {
        Self {
            listen,
            data,
            guard: Guard::InsecureDev,
            key_id: 1,
            max_connections: 64,
            timeout: Duration::from_secs(30),
            stop_on_stdin_close: false,
        }
    }
}
