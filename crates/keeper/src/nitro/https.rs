//! One HTTPS request over a byte stream that somebody else relays. TLS ends here, in the enclave, under pinned roots.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, TrustAnchor},
};
use zeroize::Zeroizing;

use super::parent::{Address, Stream};

const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;

/// Whom to believe that he is KMS.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// The roots that Amazon's public services stand under, out of Mozilla's list.
pub fn amazon_roots() -> impl Iterator<Item = TrustAnchor<'static>> {
    let is_amazon =
        |anchor: &&TrustAnchor<'static>| anchor.subject.as_ref().windows(AMAZON.len()).any(|part| part == AMAZON);
    webpki_roots::TLS_SERVER_ROOTS.iter().filter(is_amazon).cloned()
}

const AMAZON: &[u8] = b"Amazon Root CA ";

impl Tls {
    /// Believes Amazon's roots and no other.
    ///
    /// # Errors
    /// [`rustls::Error`] if the library cannot do TLS at all.
    pub fn of_amazon() -> Result<Self, rustls::Error> {
        Self::new(RootCertStore { roots: amazon_roots().collect() })
    }

    /// Believes this root, DER, instead of Amazon's: for tests.
    ///
    /// # Errors
    /// [`rustls::Error`] for what is no certificate.
    pub fn danger_of(root: &[u8]) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_slice(root).into_owned())?;
        Self::new(roots)
    }

    fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Self(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }

    /// Sends a whole request to `host`; the status and the body of what comes back.
    pub fn exchange(&self, via: &Address, host: &str, request: &[u8]) -> io::Result<(u16, Zeroizing<Vec<u8>>)> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_: InvalidDnsNameError| malformed())?;
        let session = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, Stream::connect(via)?);
        stream.write_all(request)?;
        stream.flush()?;
        response(&mut stream)
    }
}

/// Reads a response of a known length. `Connection: close` was asked for; but an end that comes early is not taken for one.
fn response(stream: &mut impl Read) -> io::Result<(u16, Zeroizing<Vec<u8>>)> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_HEAD + MAX_BODY));
    loop {
        if let Some((status, start, length)) = head(&bytes)? {
            let have = bytes.len() - start;
            if have < length {
                bytes.resize(start + length, 0);
                stream.read_exact(&mut bytes[start + have..])?;
            }
            return Ok((status, Zeroizing::new(bytes[start..start + length].to_vec())));
        }
        if bytes.len() >= MAX_HEAD {
            return Err(malformed());
        }
        let mut piece = [0; 2048];
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

/// Status, where the body starts, and its length; `None` while the head is not complete.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(bytes).map_err(|_| malformed())? else { return Ok(None) };
    let status = response.code.ok_or_else(malformed)?;
    let named =
        |wanted: &str| response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(wanted)).collect();
    let (lengths, encodings): (Vec<_>, Vec<_>) = (named("content-length"), named("transfer-encoding"));
    let ([length], []) = (lengths.as_slice(), encodings.as_slice()) else { return Err(malformed()) };
    let length = std::str::from_utf8(length.value).ok().and_then(|length| length.parse().ok());
    let length: usize = length.filter(|length| *length <= MAX_BODY).ok_or_else(malformed)?;
    Ok(Some((status, start, length)))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a response of KMS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazon_has_four_roots_and_nobody_else_any() {
        assert_eq!(amazon_roots().count(), 4);
        assert!(Tls::of_amazon().is_ok());
    }

    #[test]
    fn responses_are_read_strictly() {
        let read = |text: &str| response(&mut text.as_bytes()).map(|(status, body)| (status, body.to_vec()));
        let good = "HTTP/1.1 400 Bad\r\nx: y\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(read(good).unwrap(), (400, b"{}".to_vec()));
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(20_000));
        let bad = [
            ("cut in the head", &good[..20], io::ErrorKind::UnexpectedEof),
            ("cut in the body", &good[..good.len() - 1], io::ErrorKind::UnexpectedEof),
            ("no length", "HTTP/1.1 200 OK\r\n\r\n{}", io::ErrorKind::InvalidData),
            (
                "two lengths",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 1\r\n\r\n{}",
                io::ErrorKind::InvalidData,
            ),
            ("too long", "HTTP/1.1 200 OK\r\ncontent-length: 65537\r\n\r\n{}", io::ErrorKind::InvalidData),
            (
                "chunks",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
                io::ErrorKind::InvalidData,
            ),
            ("another protocol", "SSH-2.0-x\r\n\r\n", io::ErrorKind::InvalidData),
            ("a head without end", long.as_str(), io::ErrorKind::InvalidData),
        ];
        for (case, text, kind) in bad {
            assert_eq!(read(text).map_err(|error| error.kind()), Err(kind), "{case}");
        }
    }
}
