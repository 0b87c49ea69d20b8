//! Keepers for tests within one process, without a TPM: the real keeper, and before it a front that shows the evidence of
//! a machine which exists in memory alone. Everything else passes as it is. (Tests of whole processes have a keeper with
//! a TPM: see [`crate::tpm_keeper`].)

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use halfkey_envelope::{
    frame::{self, Decoder},
    hpke::PublicKey,
    keeper::{self, Answer, KeyId, Request},
};
use halfkey_evidence::synthetic::{PCRS, Tpm2Machine};
use halfkey_keeper::{Config, Listen};
use halfkey_protocol::descriptor::{EvidencePolicy, Hex, HpkePublic, Keeper as Pinned};
use tokio::task::JoinHandle;

/// The machine of every front: tests of one deployment agree on it after a restart.
fn machine() -> Tpm2Machine {
    Tpm2Machine::new(7)
}

/// The policy that the fronts' evidence satisfies.
#[must_use]
pub fn policy() -> EvidencePolicy {
    let machine = machine();
    EvidencePolicy::Tpm2 {
        pcrs: PCRS.to_vec(),
        measurements: vec![Hex(machine.digest)],
        operator: Hex(*machine.operator().as_bytes()),
    }
}

/// Stands before a keeper; ends with this.
pub struct Front {
    socket: PathBuf,
    ended: Arc<AtomicBool>,
}

impl Front {
    /// Listens on `socket` for the keeper at `behind`, which may come and go.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(socket: &Path, behind: &Path) -> io::Result<Self> {
        let _ = std::fs::remove_file(socket);
        let (listener, behind) = (UnixListener::bind(socket)?, behind.to_owned());
        let (ended, machine) = (Arc::new(AtomicBool::new(false)), Arc::new(machine()));
        let end = Arc::clone(&ended);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (behind, machine) = (behind.clone(), Arc::clone(&machine));
                thread::spawn(move || attend(stream, &behind, &machine));
            }
        });
        Ok(Self { socket: socket.to_owned(), ended })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _wake = UnixStream::connect(&self.socket);
    }
}

fn attend(mut stream: UnixStream, behind: &Path, machine: &Tpm2Machine) -> io::Result<()> {
    let mut decoder = Decoder::new();
    loop {
        let frame = read(&mut stream, &mut decoder)?;
        let mut answer = exchange(&mut UnixStream::connect(behind)?, &frame)?;
        if let Ok(Answer::Evidence(evidence)) = keeper::decode_answer(&answer) {
            let shown = machine.evidence(evidence.nonce, evidence.key_id, evidence.public_key);
            answer = keeper::encode_answer(&Answer::Evidence(shown));
        }
        stream.write_all(&frame::encode(&answer).map_err(io::Error::other)?)?;
    }
}

/// One request to a keeper and its answer.
///
/// # Errors
/// When nobody answers.
pub fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let answer = exchange(&mut UnixStream::connect(socket)?, &keeper::encode_request(request))?;
    keeper::decode_answer(&answer).map_err(io::Error::other)
}

fn exchange(stream: &mut UnixStream, message: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(&frame::encode(message).map_err(io::Error::other)?)?;
    read(stream, &mut Decoder::new())
}

fn read(stream: &mut UnixStream, decoder: &mut Decoder) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(message) = decoder.next_frame().map_err(io::Error::other)? {
            return Ok(message);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => decoder.push(&buffer[..count]),
        }
    }
}

/// A keeper in this process, for tests that run the server's router in it too; it ends with this.
pub struct Keeper {
    /// Where the server reaches it.
    pub socket: PathBuf,
    /// Where it is reached without a machine's evidence: `insecure-dev`.
    pub bare_socket: PathBuf,
    /// Its long-term key.
    pub key: (KeyId, PublicKey),
    keeper: JoinHandle<()>,
    _front: Front,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Keeper {
    /// Starts one with a sealing root of its own below `folder`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn start(folder: &Path, name: &str) -> io::Result<Self> {
        Self::start_with_key(folder, name, 1).await
    }

    /// Ends it and starts it again with the root that it has, announcing the key of this number.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn rotate(&mut self, folder: &Path, name: &str, key_id: KeyId) -> io::Result<()> {
        self.keeper.abort();
        let _ended = (&mut self.keeper).await;
        *self = Self::start_with_key(folder, name, key_id).await?;
        Ok(())
    }

    async fn start_with_key(folder: &Path, name: &str, key_id: KeyId) -> io::Result<Self> {
        let [data, bare_socket, socket] = ["", ".bare.sock", ".sock"].map(|end| folder.join(format!("{name}{end}")));
        let config = Config { key_id, ..Config::new(Listen::Unix(bare_socket.clone()), data) };
        let keeper = tokio::spawn(async move {
            let _ = halfkey_keeper::serve(config, |_| Ok(()), std::future::pending()).await;
        });
        while tokio::net::UnixStream::connect(&bare_socket).await.is_err() {
            tokio::task::yield_now().await;
        }
        let front = Front::start(&socket, &bare_socket)?;
        let asked = bare_socket.clone();
        let info =
            tokio::task::spawn_blocking(move || ask(&asked, &Request::Info)).await.map_err(io::Error::other)??;
        let Answer::Info(info) = info else { return Err(io::Error::other("no keeper answers")) };
        Ok(Self { socket, bare_socket, key: (info.key_id, info.public_key), keeper, _front: front })
    }

    /// As a descriptor pins it.
    #[must_use]
    pub fn pinned(&self) -> Pinned {
        Pinned { key_id: self.key.0, hpke: HpkePublic(*self.key.1.as_bytes()) }
    }

    /// Asks it directly, as no server would let a client.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ask(&self, request: &Request) -> io::Result<Answer> {
        let (socket, request) = (self.socket.clone(), request.clone());
        tokio::task::spawn_blocking(move || ask(&socket, &request)).await.map_err(io::Error::other)?
    }
}
