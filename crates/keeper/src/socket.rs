//! The listening socket, and frames on a connection.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
};

use halfkey_envelope::frame;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
};

use crate::config::Listen;

/// A connection of either kind.
pub type Connection = Pin<Box<dyn ReadWrite>>;

/// Both directions of a connection.
pub trait ReadWrite: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> ReadWrite for T {}

/// A bound listener. A Unix socket's file goes with it.
pub enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
    #[cfg(feature = "nitro")]
    Vsock(tokio_vsock::VsockListener),
}

impl Listener {
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Unix(path) => bind_private(path).map(|listener| Self::Unix(listener, path.clone())),
            Listen::Loopback(address) if address.ip().is_loopback() => TcpListener::bind(address).await.map(Self::Tcp),
            #[cfg(feature = "nitro")]
            Listen::Vsock(port) => {
                let address = tokio_vsock::VsockAddr::new(tokio_vsock::VMADDR_CID_ANY, *port);
                tokio_vsock::VsockListener::bind(address).map(Self::Vsock)
            }
            Listen::Loopback(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a loopback address")),
        }
    }

    pub async fn accept(&self) -> io::Result<Connection> {
        Ok(match self {
            Self::Unix(listener, _) => Box::pin(listener.accept().await?.0),
            Self::Tcp(listener) => Box::pin(listener.accept().await?.0),
            #[cfg(feature = "nitro")]
            Self::Vsock(listener) => Box::pin(listener.accept().await?.0),
        })
    }

    /// Where a TCP listener came to stand.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            _ => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds inside a private folder and moves the socket out with its final mode: there is no moment at which others
/// could connect. A dead socket in its place is replaced, a living one is not.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        let alive = std::os::unix::net::UnixStream::connect(path).is_ok();
        if alive || !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "the socket's path is taken"));
        }
    }
    let mut folder = path.as_os_str().to_owned();
    folder.push(format!(".{}", std::process::id()));
    let folder = PathBuf::from(folder);
    DirBuilder::new().mode(0o700).create(&folder)?;
    let temporary = folder.join("s");
    let bound = UnixListener::bind(&temporary).and_then(|listener| {
        fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
        fs::rename(&temporary, path)?;
        Ok(listener)
    });
    let _ = fs::remove_file(&temporary);
    fs::remove_dir(&folder)?;
    bound
}

/// The next message; `None` where the peer ends the connection between two messages.
pub async fn read_message(connection: &mut Connection) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0u8; 4];
    match connection.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > frame::MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, frame::Error::BadLength));
    }
    let mut message = vec![0u8; length];
    connection.read_exact(&mut message).await?;
    Ok(Some(message))
}

pub async fn write_message(connection: &mut Connection, message: &[u8]) -> io::Result<()> {
    let frame = frame::encode(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    connection.write_all(&frame).await?;
    connection.flush().await
}
