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

#[cfg(feature = "nitro")]
use crate::nitro::{NitroRoot, Nsm};
use crate::{
    config::{Config, Guard},
    evidence::{Attester, InsecureDev},
    keys::Keys,
    release::release,
    seal_root::{FileRoot, RootError, SealRoot},
    socket::{Connection, Listener, read_message, write_message},
    tpm2::Tpm2Root,
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
    /// In how many independent places its root lies.
    pub sealings: u32,
    /// Where it listens, if on TCP.
    pub address: Option<SocketAddr>,
}

impl Ready {
    /// One line of JSON for the parent process.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self { key_id, public_key, evidence, sealings, address } = self;
        let public_key = hex::encode(public_key.as_bytes());
        let address = address.map(|address| format!(r#","address":"{address}""#)).unwrap_or_default();
        format!(
            r#"{{"ready":true,"public_key":"{public_key}","key_id":{key_id},"evidence":"{evidence}","sealings":{sealings}{address}}}"#
        )
    }
}

/// The keeper as a pure function of a request and its keys.
pub struct Keeper {
    keys: Keys,
    attester: Box<dyn Attester>,
    sealings: u32,
}

impl Keeper {
    /// The keeper whose keys come from `root`, and whose evidence `attester` makes.
    pub fn new(
        root: &dyn SealRoot,
        attester: Box<dyn Attester>,
        key_id: KeyId,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, RootError> {
        let opened = root.open(entropy)?;
        let sealings = root.sealings(&keeper::long_term_key(&opened, 1).public_key())?;
        Ok(Self { keys: Keys::new(opened, key_id), attester, sealings })
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
                evidence: self.attester.kind(),
                sealings: self.sealings,
            }),
            Request::Evidence { nonce } => self.evidence(*nonce),
            Request::Release { key_id, stanza, sealed } => {
                let released = release(&self.keys, *key_id, stanza, sealed, &mut OsEntropy);
                released.map_or_else(Answer::Refused, Answer::Released)
            }
            _ => Answer::Refused(Refusal::UnsupportedRequest),
        }
    }

    fn evidence(&self, nonce: [u8; 32]) -> Answer {
        let (kind, key_id, public_key) = (self.attester.kind(), self.keys.current(), self.keys.public_key());
        let configuration = keeper::configuration_hash(kind, key_id, self.attester.operator());
        let mut evidence = Evidence { kind, nonce, key_id, public_key, configuration, document: Vec::new() };
        match self.attester.document(&evidence) {
            Ok(document) => evidence.document = document,
            Err(fault) => {
                tracing::error!(%fault, "evidence was asked for");
                return Answer::Refused(Refusal::EvidenceUnavailable);
            }
        }
        Answer::Evidence(evidence)
    }
}

/// The keeper of this configuration.
fn keeper(config: &Config) -> Result<Keeper, RootError> {
    let data = config.data.clone();
    match &config.guard {
        Guard::InsecureDev => Keeper::new(&FileRoot::new(data), Box::new(InsecureDev), config.key_id, &mut OsEntropy),
        Guard::Tpm2(tpm) => {
            let root = Tpm2Root::new(data, tpm.clone());
            let attester = root.attester().map_err(|error| RootError::Tpm2(Box::new(error)))?;
            Keeper::new(&root, Box::new(attester), config.key_id, &mut OsEntropy)
        }
        #[cfg(feature = "nitro")]
        Guard::Nitro(settings) => {
            let module = Nsm::open().map_err(|fault| RootError::Nitro(Box::new(fault.into())))?;
            let root = NitroRoot::new((**settings).clone(), Arc::new(module));
            let root = root.map_err(|error| RootError::Nitro(Box::new(error)))?;
            Keeper::new(&root, Box::new(root.attester()), config.key_id, &mut OsEntropy)
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
    let keeper = Arc::new(keeper(&config)?);
    let listener = Listener::bind(&config.listen).await.map_err(Error::Listen)?;
    ready(&Ready {
        key_id: keeper.keys.current(),
        public_key: keeper.keys.public_key(),
        evidence: keeper.attester.kind(),
        sealings: keeper.sealings,
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
async fn converse(mut connection: Connection, keeper: &Arc<Keeper>, limit: Duration) -> io::Result<()> {
    while let Some(request) = timeout(limit, read_message(&mut connection)).await?? {
        // A TPM takes its time, and an assertion takes the processor: neither must hold up the other connections.
        let keeper = Arc::clone(keeper);
        let answer = tokio::task::spawn_blocking(move || keeper.answer(&request)).await.map_err(io::Error::other)?;
        timeout(limit, write_message(&mut connection, &answer)).await??;
    }
    Ok(())
}
