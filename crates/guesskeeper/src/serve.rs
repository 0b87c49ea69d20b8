//! The socket in front of the door: bounded connections, bounded frames, deadlines.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use halfkey_envelope::{
    door::{KeeperId, Refusal, Reply, Request},
    entropy::OsEntropy,
    frame::{self, Challenge, Channel, Decoder, LinkKey},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::{Config, Error, Keeper, Listen, SystemClock};

/// A frame that has begun ends within this time; so does the handshake, and the writing of a reply.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this time.
const IDLE: Duration = Duration::from_secs(600);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
const MAX_SKEW_MS: u64 = 5_000;

/// Runs one guesskeeper until it is told to stop: SIGTERM, SIGINT, or the end of standard input if so configured.
/// When it listens, one line of JSON on standard output says so:
/// `{"ready":true,"public_key":"…","keeper":"…","listen":"…"}`.
pub async fn run(config: Config) -> Result<(), Error> {
    let keeper = Arc::new(Keeper::open(&config, Arc::new(SystemClock)).await?);
    let skew = keeper.clock_skew_ms().await?;
    if skew.unsigned_abs() > MAX_SKEW_MS {
        return Err(Error::ClockSkew(skew));
    }
    let stop = stop_signal(config.stop_with_stdin)?;
    let listener = Listener::bind(config.listen).await?;
    say_ready(&keeper, &listener)?;
    let ended = tokio::select! {
        failed = accept(&listener, &keeper, config.max_connections) => failed,
        () = sweep(&keeper) => Ok(()),
        () = stop => Ok(()),
    };
    keeper.close().await;
    ended
}

fn say_ready(keeper: &Keeper, listener: &Listener) -> Result<(), Error> {
    let key = keeper.public_key();
    let line = serde_json::json!({
        "ready": true,
        "public_key": hex::encode(key.as_bytes()),
        "keeper": KeeperId::of(&key).to_string(),
        "listen": listener.address()?,
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Ends when the process should.
fn stop_signal(with_stdin: bool) -> Result<impl Future<Output = ()>, Error> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (ended, stdin_ended) = oneshot::channel();
    if with_stdin {
        // A thread of its own: nothing waits for it when the process ends in another way.
        std::thread::Builder::new().name("stdin".into()).spawn(move || {
            let mut sink = [0u8; 256];
            while io::stdin().read(&mut sink).is_ok_and(|count| count > 0) {}
            let _ = ended.send(());
        })?;
    } else {
        std::mem::forget(ended);
    }
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = stdin_ended => {}
        }
    })
}

async fn sweep(keeper: &Keeper) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if let Err(error) = keeper.sweep().await {
            tracing::error!(%error, "the sweep failed");
        }
    }
}

enum Listener {
    Unix(UnixListener, String),
    Tcp(TcpListener, Arc<LinkKey>),
}

impl Listener {
    async fn bind(listen: Listen) -> Result<Self, Error> {
        match listen {
            Listen::Unix(path) => Ok(Self::Unix(bind_unix(&path)?, path.display().to_string())),
            Listen::Tcp(address, key) => Ok(Self::Tcp(TcpListener::bind(address).await?, Arc::new(key))),
        }
    }

    fn address(&self) -> Result<String, Error> {
        match self {
            Self::Unix(_, path) => Ok(path.clone()),
            Self::Tcp(listener, _) => Ok(listener.local_addr()?.to_string()),
        }
    }
}

/// Binds under another name, closes it to all others, and only then gives it its name.
fn bind_unix(path: &Path) -> Result<UnixListener, Error> {
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let _ = fs::remove_file(&next);
    let listener = UnixListener::bind(&next)?;
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600))?;
    fs::rename(&next, path)?;
    Ok(listener)
}

async fn accept(listener: &Listener, keeper: &Arc<Keeper>, max: usize) -> Result<(), Error> {
    let slots = Arc::new(Semaphore::new(max));
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.map_err(|_| Error::Stopping)?;
        while connections.try_join_next().is_some() {}
        let keeper = Arc::clone(keeper);
        match listener {
            Listener::Unix(listener, _) => {
                let Some(stream) = accepted(listener.accept().await).await else { continue };
                connections.spawn(async move {
                    Connection::new(stream).serve(&keeper, None).await;
                    drop(slot);
                });
            }
            Listener::Tcp(listener, key) => {
                let Some(stream) = accepted(listener.accept().await).await else { continue };
                let _ = stream.set_nodelay(true);
                let key = Arc::clone(key);
                connections.spawn(async move {
                    Connection::new(stream).serve(&keeper, Some(&key)).await;
                    drop(slot);
                });
            }
        }
    }
}

/// A failed accept (no file descriptors, say) is waited out, not the end of the door.
async fn accepted<S, A>(accepted: io::Result<(S, A)>) -> Option<S> {
    match accepted {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "a connection was not accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

struct Connection<S> {
    stream: S,
    decoder: Decoder,
    channel: Option<Channel>,
}

/// The connection ended, or must end.
struct Closed;

impl From<frame::Error> for Closed {
    fn from(_: frame::Error) -> Self {
        Self
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    const fn new(stream: S) -> Self {
        Self { stream, decoder: Decoder::new(), channel: None }
    }

    async fn serve(mut self, keeper: &Keeper, key: Option<&LinkKey>) {
        if let Some(key) = key
            && self.handshake(key).await.is_err()
        {
            tracing::warn!("a connection without the link key was closed");
            return;
        }
        while self.exchange(keeper).await.is_ok() {}
    }

    async fn handshake(&mut self, key: &LinkKey) -> Result<(), Closed> {
        let challenge = Challenge::new(&mut OsEntropy);
        self.write(&challenge.message()).await?;
        let answer = self.read(FRAME_DEADLINE).await?;
        let (proof, channel) = challenge.accept(key, &answer)?;
        self.write(&proof).await?;
        self.channel = Some(channel);
        Ok(())
    }

    /// One request, one reply.
    async fn exchange(&mut self, keeper: &Keeper) -> Result<(), Closed> {
        let mut message = self.read(IDLE).await?;
        if let Some(channel) = &mut self.channel {
            message = channel.unwrap(&message)?;
        }
        let reply = match Request::from_bytes(&message) {
            Ok(request) => keeper.handle(request).await,
            Err(reason) => Reply::Refused { reason },
        };
        let close = matches!(reply, Reply::Refused { reason: Refusal::Malformed });
        let mut reply = reply.to_bytes();
        if let Some(channel) = &mut self.channel {
            reply = channel.wrap(&reply)?;
        }
        self.write(&reply).await?;
        if close { Err(Closed) } else { Ok(()) }
    }

    async fn read(&mut self, patience: Duration) -> Result<Vec<u8>, Closed> {
        let mut deadline = Instant::now() + patience;
        let mut begun = false;
        let mut bytes = [0u8; 4096];
        loop {
            if let Some(message) = self.decoder.next_frame()? {
                return Ok(message);
            }
            // One deadline for the whole frame: a byte now and then does not keep a connection.
            if self.decoder.is_mid_frame() && !begun {
                (begun, deadline) = (true, deadline.min(Instant::now() + FRAME_DEADLINE));
            }
            match timeout_at(deadline, self.stream.read(&mut bytes)).await {
                Ok(Ok(count)) if count > 0 => self.decoder.push(&bytes[..count]),
                _ => return Err(Closed),
            }
        }
    }

    async fn write(&mut self, message: &[u8]) -> Result<(), Closed> {
        let frame = frame::encode(message)?;
        match timeout(FRAME_DEADLINE, self.stream.write_all(&frame)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Closed),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use halfkey_envelope::{frame::Response, id::BackupId};
    use tokio::io::DuplexStream;

    async fn tcp_link(theirs: [u8; 32]) -> (tempfile::TempDir, Connection<DuplexStream>, tokio::task::JoinHandle<()>) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path().join("data"), Listen::Unix("unused".into()));
        let keeper = Keeper::open(&config, Arc::new(SystemClock)).await.unwrap();
        let (here, there) = tokio::io::duplex(4096);
        let serving = tokio::spawn(async move {
            Connection::new(there).serve(&keeper, Some(&LinkKey::from_bytes([1; 32].into()))).await;
        });
        let mut caller = Connection::new(here);
        let Ok(challenge) = caller.read(FRAME_DEADLINE).await else { unreachable!("a challenge comes first") };
        let response = Response::new(&challenge, &mut OsEntropy).unwrap();
        let key = LinkKey::from_bytes(theirs.into());
        let _ = caller.write(&response.message(&key)).await;
        if let Ok(proof) = caller.read(FRAME_DEADLINE).await {
            caller.channel = Some(response.finish(&key, &proof).unwrap());
        }
        (folder, caller, serving)
    }

    #[tokio::test]
    async fn a_tcp_link_serves_whoever_has_its_key() {
        let (_folder, mut caller, _serving) = tcp_link([1; 32]).await;
        let request = Request::Status { backup: BackupId::from_bytes([1; 16]) }.to_bytes();
        let wrapped = caller.channel.as_mut().unwrap().wrap(&request).unwrap();
        assert!(caller.write(&wrapped).await.is_ok());
        let Ok(reply) = caller.read(FRAME_DEADLINE).await else { unreachable!("a reply comes") };
        let reply = caller.channel.as_mut().unwrap().unwrap(&reply).unwrap();
        assert_eq!(Reply::from_bytes(&reply), Ok(Reply::Refused { reason: Refusal::NotFound }));
        // A message that did not go through the channel ends the connection.
        assert!(caller.write(&request).await.is_ok());
        assert!(caller.read(FRAME_DEADLINE).await.is_err());
    }

    #[tokio::test]
    async fn a_tcp_link_is_closed_to_everyone_else() {
        let (_folder, caller, serving) = tcp_link([2; 32]).await;
        assert!(caller.channel.is_none(), "no proof for a caller without the key");
        serving.await.unwrap();
    }
}
