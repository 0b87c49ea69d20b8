//! Byte streams to the parent instance, which an enclave's only neighbour is. Nothing that comes over them is trusted.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use vsock::VsockStream;
use zeroize::Zeroizing;

/// How long the parent may take for each piece.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the parent offers a stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// `vsock:CID:PORT`; the parent of an enclave has CID 3.
    Vsock(u32, u32),
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `tcp:ADDRESS` on the loopback interface, for tests.
    Loopback(SocketAddr),
}

/// Not an address of one of the three forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not vsock:CID:PORT, unix:PATH or tcp: and a loopback address")]
pub struct InvalidAddress;

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (kind, rest) = text.split_once(':').ok_or(InvalidAddress)?;
        match kind {
            "vsock" => {
                let (cid, port) = rest.split_once(':').ok_or(InvalidAddress)?;
                let number = |text: &str| text.parse().map_err(|_| InvalidAddress);
                Ok(Self::Vsock(number(cid)?, number(port)?))
            }
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "tcp" => {
                let address: SocketAddr = rest.parse().map_err(|_| InvalidAddress)?;
                if address.ip().is_loopback() { Ok(Self::Loopback(address)) } else { Err(InvalidAddress) }
            }
            _ => Err(InvalidAddress),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(cid, port) => write!(f, "vsock:{cid}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// An open stream.
pub enum Stream {
    Vsock(VsockStream),
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub fn connect(address: &Address) -> io::Result<Self> {
        let patience = Some(PATIENCE);
        Ok(match address {
            Address::Vsock(cid, port) => {
                let stream = VsockStream::connect_with_cid_port(*cid, *port)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                Self::Vsock(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                Self::Unix(stream)
            }
            Address::Loopback(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                Self::Tcp(stream)
            }
        })
    }

    fn finish(&self) -> io::Result<()> {
        match self {
            Self::Vsock(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Vsock(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
            Self::Tcp(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Vsock(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Vsock(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tcp(stream) => stream.flush(),
        }
    }
}

/// What the parent says there until it ends, at most `most` bytes.
pub fn fetch(address: &Address, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    Stream::connect(address)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the parent says more than it should"));
    }
    Ok(bytes)
}

/// Hands the parent these bytes, and waits until it ends the stream. What it then does with them is not known.
pub fn hand_over(address: &Address, bytes: &[u8]) -> io::Result<()> {
    let mut stream = Stream::connect(address)?;
    stream.write_all(bytes)?;
    stream.flush()?;
    stream.finish()?;
    stream.take(1).read_to_end(&mut Vec::new()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        for text in ["vsock:3:8001", "unix:/run/kms", "tcp:127.0.0.1:80", "tcp:[::1]:80"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in
            ["", "vsock:3", "vsock:3:x", "vsock:3:1:1", "unix:here", "tcp:192.0.2.1:80", "tcp:localhost:80", "3:80"]
        {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress), "{text}");
        }
    }
}
