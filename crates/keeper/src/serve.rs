//! The process: listen, answer frame by frame, stop.

use std::{future::Future, io, io::Write, net::SocketAddr, sync::Arc, time::Duration};

use halfkey_envelope::{
    entropy::{Entropy, OsEntropy},
    hpke::PublicKey,
    keeper::{self, Answer, Evidence, EvidenceKind, Info, KeyId, Refusal, Request},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::{
    config::Config,
    keys::Keys,
    release::release,
    seal_root::{FileRoot, RootError, SealRoot},
    socket::{Connection, Listener, read_message, write_message},
};

/// Why a keeper does not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sealing root.
    #[error("sealing root: {0}")]
    Root(#[from] RootError),
    /// The socket.
    #[error("listening: {0}")]
    Listen(#[source] io::Error),
    /// Standard output or the signal handlers.
    #[error("process: {0}")]
    Process(#[source] io::Error),
}

/// What a keeper announces when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number of its current long-term key.
    pub key_id: KeyId,
    /// That key.
    pub public_key: PublicKey,
    /// The kind of evidence it gives.
    pub evidence: EvidenceKind,
    /// Where it listens, if on TCP.
    pub address: Option<SocketAddr>,
}

impl Ready {
    /// One line of JSON for the parent process.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self { key_id, public_key, evidence, address } = self;
        let public_key = hex::encode(public_key.as_bytes());
        let address = address.map(|address| format!(r#","address":"{address}""#)).unwrap_or_default();
        format!(r#"{{"ready":true,"public_key":"{public_key}","key_id":{key_id},"evidence":"{evidence}"{address}}}"#)
    }
}

/// The keeper as a pure function of a request and its keys.
pub struct Keeper {
    keys: Keys,
    evidence: EvidenceKind,
}

impl Keeper {
    /// The keeper whose keys come from `root`.
    pub fn new(root: &dyn SealRoot, key_id: KeyId, entropy: &mut dyn Entropy) -> Result<Self, RootError> {
        Ok(Self { keys: Keys::new(root.open(entropy)?, key_id), evidence: root.evidence() })
    }

    /// The answer to the bytes of one request.
    #[must_use]
    pub fn answer(&self, request: &[u8]) -> Vec<u8> {
        let answer = keeper::decode_request(request).map(|request| self.handle(&request));
        keeper::encode_answer(&answer.unwrap_or_else(Answer::Refused))
    }

    fn handle(&self, request: &Request) -> Answer {
        match request {
            Request::Info => Answer::Info(Info {
                version: keeper::VERSION,
                key_id: self.keys.current(),
                public_key: self.keys.public_key(),
                evidence: self.evidence,
            }),
            Request::Evidence { nonce } => Answer::Evidence(self.evidence(*nonce)),
            Request::Release { key_id, stanza, sealed } => {
                let released = release(&self.keys, *key_id, stanza, sealed, &mut OsEntropy);
                released.map_or_else(Answer::Refused, Answer::Released)
            }
            _ => Answer::Refused(Refusal::UnsupportedRequest),
        }
    }

    fn evidence(&self, nonce: [u8; 32]) -> Evidence {
        Evidence {
            kind: self.evidence,
            nonce,
            key_id: self.keys.current(),
            public_key: self.keys.public_key(),
            configuration: keeper::configuration_hash(self.evidence, self.keys.current(), b""),
            document: Vec::new(),
        }
    }
}

/// Runs a keeper until SIGTERM or SIGINT, or until standard input ends if the configuration says so. Prints one line
/// of JSON on standard output when it is ready.
pub async fn run(config: Config) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Process)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Process)?;
    let stdin_closed = stdin_closed(config.stop_on_stdin_close);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stdin_closed => {}
        }
    };
    let announce = |ready: &Ready| {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", ready.to_json())?;
        out.flush()
    };
    serve(config, announce, stop).await
}

/// Ends when standard input does, or never. A thread of its own reads: it must not keep the runtime from stopping.
async fn stdin_closed(watch: bool) {
    if !watch {
        return std::future::pending().await;
    }
    let (closed, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = end.await;
}

/// Serves until `stop`; calls `ready` once the socket accepts connections.
pub async fn serve(
    config: Config,
    ready: impl FnOnce(&Ready) -> io::Result<()>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let keeper = Arc::new(Keeper::new(&FileRoot::new(config.data.clone()), config.key_id, &mut OsEntropy)?);
    let listener = Listener::bind(&config.listen).await.map_err(Error::Listen)?;
    ready(&Ready {
        key_id: keeper.keys.current(),
        public_key: keeper.keys.public_key(),
        evidence: keeper.evidence,
        address: listener.address(),
    })
    .map_err(Error::Process)?;
    tokio::select! {
        () = stop => Ok(()),
        failed = accept_all(&listener, &keeper, &config) => failed.map_err(Error::Listen),
    }
}

async fn accept_all(listener: &Listener, keeper: &Arc<Keeper>, config: &Config) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(config.max_connections));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, or the peer is gone again: wait a little instead of spinning.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (keeper, limit) = (Arc::clone(keeper), config.timeout);
        tokio::spawn(async move {
            if let Err(error) = converse(connection, &keeper, limit).await {
                tracing::debug!(kind = ?error.kind(), "a connection was closed");
            }
            drop(place);
        });
    }
}

/// Answers frame by frame until the peer ends, errs or is too slow.
async fn converse(mut connection: Connection, keeper: &Keeper, limit: Duration) -> io::Result<()> {
    while let Some(request) = timeout(limit, read_message(&mut connection)).await?? {
        timeout(limit, write_message(&mut connection, &keeper.answer(&request))).await??;
    }
    Ok(())
}
