//! Strict deterministic CBOR (RFC 8949 section 4.2.1): one value has one encoding, and nothing else decodes.
//!
//! Structs derive `minicbor::Encode` and `minicbor::Decode` with `#[cbor(map)]` and ascending integer keys.
//! [`from_slice`] decodes, encodes the value again and compares: indefinite lengths, long forms of integers,
//! unordered, duplicate or unknown keys, explicit nulls and trailing bytes all come out as different bytes.

use minicbor::{Decode, Decoder, Encode, Encoder, encode::Write};
use zeroize::Zeroizing;

/// Why bytes are not the strict encoding of the wanted type. Says nothing of the contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not CBOR, or not of the wanted shape.
    #[error("not a well-formed message of this kind")]
    Malformed,
    /// Another encoding of a value than the deterministic one, an unknown key, or bytes after the end.
    #[error("not the deterministic encoding, or something unknown in it")]
    NotCanonical,
}

/// The deterministic encoding of `value`.
#[must_use]
pub fn to_vec<T: Encode<()> + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// As [`to_vec`], for values with secrets in them: no copy of the bytes stays behind in memory.
#[must_use]
pub fn to_secret_vec<T: Encode<()> + ?Sized>(value: &T) -> Zeroizing<Vec<u8>> {
    let mut out = WipingBuffer(Zeroizing::new(Vec::with_capacity(256)));
    encode_into(value, &mut out);
    out.0
}

/// Decodes `bytes`, and only if they are exactly what [`to_vec`] gives for the value in them.
pub fn from_slice<'b, T: Decode<'b, ()> + Encode<()>>(bytes: &'b [u8]) -> Result<T, Error> {
    let value: T = Decoder::new(bytes).decode().map_err(|_| Error::Malformed)?;
    let mut rest = Rest(Some(bytes));
    encode_into(&value, &mut rest);
    if rest.0.is_some_and(<[u8]>::is_empty) { Ok(value) } else { Err(Error::NotCanonical) }
}

/// The format's version, under key 1 of a map whose other keys may be unknown: asked before [`from_slice`], so that bytes
/// of a newer version are told from damaged ones.
pub fn version(bytes: &[u8]) -> Result<u16, Error> {
    #[derive(Decode)]
    #[cbor(map)]
    struct Probe {
        #[n(1)]
        version: u16,
    }
    minicbor::decode(bytes).map(|Probe { version }| version).map_err(|_| Error::Malformed)
}

#[allow(clippy::expect_used, reason = "all writers are infallible and no `Encode` of the project returns an error")]
fn encode_into<T: Encode<()> + ?Sized, W: Write>(value: &T, out: &mut W)
where
    W::Error: core::fmt::Debug,
{
    Encoder::new(out).encode(value).expect("encoding to memory cannot fail");
}

/// What of the expected bytes is still to be written; `None` once others were. Nothing is copied: messages of 82 KB are
/// compared here, and there is nothing to wipe.
struct Rest<'a>(Option<&'a [u8]>);

impl Write for Rest<'_> {
    type Error = core::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0 = self.0.and_then(|rest| rest.strip_prefix(bytes));
        Ok(())
    }
}

/// A buffer that wipes the old allocation when it grows; `Vec` alone would leave copies behind.
struct WipingBuffer(Zeroizing<Vec<u8>>);

impl Write for WipingBuffer {
    type Error = core::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut grown = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            grown.extend_from_slice(&self.0);
            self.0 = grown;
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
