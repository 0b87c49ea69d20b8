//! Links to the keepers: length-prefixed frames over a Unix socket or TCP under a pre-shared key (DECISIONS.md D28).

use std::time::Duration;

use halfkey_envelope::{
    door::{Reply, Request},
    entropy::OsEntropy,
    frame::{self, Channel, Decoder, LinkKey, Response},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::Mutex,
    time::timeout,
};

use crate::config::KeeperAddress;

const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(10);
const MAX_IDLE: usize = 16;

/// Why a keeper gave no answer. Nothing is known of what it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No connection, or it broke.
    #[error("the keeper cannot be reached")]
    Io(#[from] std::io::Error),
    /// No answer in time.
    #[error("the keeper does not answer in time")]
    Timeout,
    /// Not a keeper of this version, or not the one with our link key.
    #[error("the keeper answers what no keeper should")]
    Unexpected,
}

impl From<frame::Error> for LinkError {
    fn from(_: frame::Error) -> Self {
        Self::Unexpected
    }
}

/// The server's end of the link to one keeper; connects when needed and keeps a few connections.
pub struct Link {
    address: KeeperAddress,
    idle: Mutex<Vec<Connection>>,
}

impl Link {
    /// To the keeper at `address`; nothing is connected yet.
    #[must_use]
    pub fn new(address: KeeperAddress) -> Self {
        Self { address, idle: Mutex::new(Vec::new()) }
    }

    /// Asks the guesskeeper. Every request of the door may be repeated, so one that met a connection which the keeper
    /// had closed meanwhile is sent once more on a fresh one.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn ask(&self, request: &Request) -> Result<Reply, LinkError> {
        let answer = self.call(&request.to_bytes()).await?;
        Reply::from_bytes(&answer).map_err(|_| LinkError::Unexpected)
    }

    /// Asks the keeper of the passkey door, which keeps no state: every request may be repeated. The bytes are a request
    /// of `halfkey_envelope::keeper` and its answer.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn relay(&self, request: &[u8]) -> Result<Vec<u8>, LinkError> {
        self.call(request).await
    }

    async fn call(&self, message: &[u8]) -> Result<Vec<u8>, LinkError> {
        if let Some(mut connection) = self.take().await {
            match connection.call(message).await {
                Ok(answer) => {
                    self.keep(connection).await;
                    return Ok(answer);
                }
                // The keeper had closed it, or was restarted: once more, on a fresh one.
                Err(LinkError::Io(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection =
            timeout(CONNECT, Connection::open(&self.address)).await.map_err(|_| LinkError::Timeout)??;
        let answer = connection.call(message).await?;
        self.keep(connection).await;
        Ok(answer)
    }

    async fn take(&self) -> Option<Connection> {
        self.idle.lock().await.pop()
    }

    async fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().await;
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

struct Connection {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    channel: Option<Channel>,
}

impl Connection {
    async fn open(address: &KeeperAddress) -> Result<Self, LinkError> {
        match address {
            KeeperAddress::Unix(path) => Ok(Self::new(Box::new(UnixStream::connect(path).await?))),
            KeeperAddress::Tcp { address, key } => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut connection = Self::new(Box::new(stream));
                connection.channel = Some(connection.handshake(key).await?);
                Ok(connection)
            }
        }
    }

    fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, decoder: Decoder::new(), channel: None }
    }

    async fn handshake(&mut self, key: &LinkKey) -> Result<Channel, LinkError> {
        let challenge = self.receive().await?;
        let response = Response::new(&challenge, &mut OsEntropy)?;
        self.send(&response.message(key)).await?;
        let proof = self.receive().await?;
        Ok(response.finish(key, &proof)?)
    }

    async fn call(&mut self, message: &[u8]) -> Result<Vec<u8>, LinkError> {
        let exchange = async {
            match &mut self.channel {
                Some(channel) => {
                    let wrapped = channel.wrap(message)?;
                    self.send(&wrapped).await?;
                }
                None => self.send(message).await?,
            }
            let answer = self.receive().await?;
            match &mut self.channel {
                Some(channel) => Ok(channel.unwrap(&answer)?),
                None => Ok(answer),
            }
        };
        timeout(ANSWER, exchange).await.map_err(|_| LinkError::Timeout)?
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        self.stream.write_all(&frame::encode(message)?).await?;
        Ok(self.stream.flush().await?)
    }

    async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut buffer = [0u8; 4096];
        loop {
            if let Some(message) = self.decoder.next_frame()? {
                return Ok(message);
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }
}
