//! Where a TPM is, and bytes to it and back.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use zeroize::Zeroizing;

use super::TpmError;

/// The longest answer of a TPM.
const MAX_ANSWER: usize = 4096;
const HEADER: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a TPM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The kernel's character device.
    Device(PathBuf),
    /// The raw socket of a software TPM on the loopback interface, for tests and virtual machines: `swtpm:ADDRESS`.
    Loopback(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => path.display().fmt(f),
            Self::Loopback(address) => write!(f, "swtpm:{address}"),
        }
    }
}

/// The text is neither a path nor `swtpm:` and a loopback address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither the path of a device, such as /dev/tpmrm0, nor swtpm: and a loopback address")]
pub struct InvalidAddress;

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        match text.strip_prefix("swtpm:") {
            Some(address) => {
                let address: SocketAddr = address.parse().map_err(|_| InvalidAddress)?;
                if address.ip().is_loopback() { Ok(Self::Loopback(address)) } else { Err(InvalidAddress) }
            }
            None if text.starts_with('/') => Ok(Self::Device(text.into())),
            None => Err(InvalidAddress),
        }
    }
}

/// An open connection.
pub struct Link {
    address: Address,
    stream: Stream,
}

enum Stream {
    Device(File),
    Socket(TcpStream),
}

impl Link {
    pub fn open(address: &Address) -> Result<Self, TpmError> {
        let stream = match address {
            Address::Device(path) => OpenOptions::new().read(true).write(true).open(path).map(Stream::Device),
            Address::Loopback(address) => TcpStream::connect(address).and_then(|socket| {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Ok(Stream::Socket(socket))
            }),
        };
        let stream = stream.map_err(|error| TpmError::Link(address.clone(), error))?;
        Ok(Self { address: address.clone(), stream })
    }

    /// One command, one answer.
    pub fn transact(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let answered = match &mut self.stream {
            Stream::Device(device) => device.write_all(command).and_then(|()| whole(device)),
            Stream::Socket(socket) => socket.write_all(command).and_then(|()| framed(socket)),
        };
        answered.map_err(|error| TpmError::Link(self.address.clone(), error))
    }
}

/// The device gives an answer in one piece.
fn whole(device: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut answer = Zeroizing::new(vec![0; MAX_ANSWER]);
    let length = device.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// A socket gives a stream: the header names the length.
fn framed(socket: &mut TcpStream) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut answer = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    answer.resize(HEADER, 0);
    socket.read_exact(&mut answer)?;
    let length = u32::from_be_bytes([answer[2], answer[3], answer[4], answer[5]]) as usize;
    if !(HEADER..=MAX_ANSWER).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    answer.resize(length, 0);
    socket.read_exact(&mut answer[HEADER..])?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_and_the_loopback_interface_are_addresses() {
        for good in ["/dev/tpmrm0", "swtpm:127.0.0.1:2321", "swtpm:[::1]:2321"] {
            assert_eq!(good.parse::<Address>().map(|address| address.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "tpmrm0", "swtpm:", "swtpm:10.0.0.1:2321", "swtpm:localhost:2321", "127.0.0.1:2321"] {
            assert_eq!(bad.parse::<Address>(), Err(InvalidAddress), "{bad}");
        }
    }
}
