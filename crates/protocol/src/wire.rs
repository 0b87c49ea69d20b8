//! Messages and kept state: versioned, strict CBOR, bounded (DECISIONS.md D6).

use halfkey_envelope::cbor;
use minicbor::{Decode, Encode, bytes::ByteArray, bytes::ByteVec};
use serde::{Serialize, de::DeserializeOwned};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

/// The largest message of any ceremony: the ECDSA key generation needs 148 KB, doubled and rounded up.
pub const MAX_MESSAGE: usize = 384 * 1024;
const VERSION: u8 = 1;
/// Longer than any secret structure of a library: the OT state of a share has 52 KB.
const SECRET_LEN: usize = 64 * 1024;

/// The step that a message or a kept state belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    DkgRequest1 = 1,
    DkgAnswer1 = 2,
    DkgRequest2 = 3,
    DkgAnswer2 = 4,
    SignRequest1 = 11,
    SignAnswer1 = 12,
    SignRequest2 = 13,
    SignAnswer2 = 14,
    RekeyRequest1 = 21,
    RekeyAnswer1 = 22,
    RekeyRequest2 = 23,
    RekeyAnswer2 = 24,
    Commit = 31,
    Deal = 32,
    Open = 33,
    Ack = 34,
    KeptDkg = 129,
    KeptSign = 130,
    KeptRekey = 131,
    KeptDeal = 132,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Frame {
    #[n(0)]
    version: u8,
    #[n(1)]
    step: u8,
    /// The ceremony's context hash, or its session id once there is one.
    #[n(2)]
    session: ByteArray<32>,
    #[n(3)]
    body: ByteVec,
}

/// One message of `step` in `session`.
pub(crate) fn message(step: Step, session: &[u8; 32], body: &impl Encode<()>) -> Result<Vec<u8>> {
    let frame =
        Frame { version: VERSION, step: step as u8, session: (*session).into(), body: cbor::to_vec(body).into() };
    let bytes = cbor::to_vec(&frame);
    if bytes.len() > MAX_MESSAGE { Err(Error::Internal) } else { Ok(bytes) }
}

/// Parses a message that must be of `step` in `session`; a message of another session or step is refused before its
/// body is looked at, so it can never cause a ban.
pub(crate) fn parse<T>(step: Step, session: &[u8; 32], bytes: &[u8]) -> Result<T>
where
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    let (found, body) = parse_any::<T>(step, bytes)?;
    if bool::from(found.ct_eq(session)) { Ok(body) } else { Err(Error::WrongSession) }
}

/// Parses a message of `step` whose session is derived from its own body; the caller compares.
pub(crate) fn parse_any<T>(step: Step, bytes: &[u8]) -> Result<([u8; 32], T)>
where
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    if bytes.len() > MAX_MESSAGE {
        return Err(Error::Malformed);
    }
    let frame: Frame = cbor::from_slice(bytes).map_err(|_| Error::Malformed)?;
    if frame.version != VERSION {
        return Err(Error::UnknownVersion);
    }
    if frame.step != step as u8 {
        return Err(Error::WrongSession);
    }
    let body = cbor::from_slice(&frame.body).map_err(|_| Error::Malformed)?;
    Ok((*frame.session, body))
}

/// A library's own structure as postcard, with the library's version (DECISIONS.md D6, D8).
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct Blob {
    #[n(0)]
    library: String,
    #[n(1)]
    data: ByteVec,
}

impl Blob {
    pub(crate) fn new(library: &str, value: &impl Serialize) -> Result<Self> {
        // Every secret structure fits: a vector that grows would leave copies of its old contents behind.
        let mut data = postcard::to_extend(value, Vec::with_capacity(SECRET_LEN)).map_err(|_| Error::Internal)?;
        if data.len() < SECRET_LEN / 2 {
            // All of an allocation is wiped in the end, which costs more than a whole EdDSA step where it is this long.
            let exact = data.as_slice().to_vec();
            data.as_mut_slice().zeroize();
            data = exact;
        }
        Ok(Self { library: library.to_owned(), data: data.into() })
    }

    pub(crate) fn library(&self) -> &str {
        &self.library
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Refuses another library version and trailing bytes.
    pub(crate) fn open<T: DeserializeOwned>(&self, library: &str) -> Result<T> {
        if self.library != library {
            return Err(Error::LibraryMismatch);
        }
        let (value, rest) = postcard::take_from_bytes(&self.data).map_err(|_| Error::Malformed)?;
        if rest.is_empty() { Ok(value) } else { Err(Error::Malformed) }
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

/// What a server must remember between two round trips: **secret, single use**. The caller seals it, stores it, and
/// deletes it *before* it goes on (PROTOCOL.md 4.7); it is consumed by value.
pub struct Kept(Zeroizing<Vec<u8>>);

impl Kept {
    /// From the opened bytes of the store.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes to seal.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn new(step: Step, session: &[u8; 32], body: &impl Encode<()>) -> Result<Self> {
        let body = cbor::to_secret_vec(body);
        let mut frame =
            Frame { version: VERSION, step: step as u8, session: (*session).into(), body: body.to_vec().into() };
        let bytes = cbor::to_secret_vec(&frame);
        frame.body.zeroize();
        Ok(Self(bytes))
    }

    /// Opens a kept state that must be of `step` in `session`.
    pub(crate) fn open<T>(self, step: Step, session: &[u8; 32]) -> Result<T>
    where
        T: for<'b> Decode<'b, ()> + Encode<()>,
    {
        let mut frame: Frame = cbor::from_slice(&self.0).map_err(|_| Error::InvalidState)?;
        let ours = frame.version == VERSION && frame.step == step as u8 && bool::from(frame.session.ct_eq(session));
        let body = cbor::from_slice(&frame.body).map_err(|_| Error::InvalidState);
        frame.body.zeroize();
        if ours { body } else { Err(Error::InvalidState) }
    }
}

impl core::fmt::Debug for Kept {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Kept")
    }
}
