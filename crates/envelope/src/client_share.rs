//! The sealed client backup share: one envelope per backup, with one client half per curve (METHODS.md A).
//!
//! The header stands in the clear and says exactly whose share this is. Opening compares it field by field with
//! what the caller expects before any key is used, so that swapped or rolled-back envelopes are named, not guessed.

use minicbor::{Decode, Encode};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    cbor,
    entropy::Entropy,
    hash::sha256,
    id::{BackupId, ClientId, DeploymentId, WalletId},
    record::Record,
    seal::{self, FileKey, Magic, OpenError, Sealed},
    wallet::{Curve, Method},
};

const MAGIC: Magic = Magic(*b"HKE1");
const VERSION: u16 = 1;
/// HKDF-SHA256 with ChaCha20-Poly1305, as [`crate::seal`] describes.
const SUITE: u16 = 1;
const CONTENTS_VERSION: u16 = 1;

/// The longest envelope. One with every curve has about 700 bytes.
pub const MAX_ENVELOPE: usize = 8 * 1024;

/// Whose share an envelope holds: in the clear, and authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Header {
    #[n(1)]
    version: u16,
    #[n(2)]
    suite: u16,
    /// The installation.
    #[n(3)]
    pub deployment: DeploymentId,
    /// The end user.
    #[n(4)]
    pub client: ClientId,
    /// The backup; a new one for every envelope.
    #[n(5)]
    pub backup: BackupId,
    /// The generation of the (client, method) slot.
    #[n(6)]
    pub generation: u64,
    /// What holds the key.
    #[n(7)]
    pub method: Method,
    /// One entry per curve, in ascending order of [`Curve::code`].
    #[n(8)]
    pub curves: Vec<CurveHeader>,
}

/// One curve of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CurveHeader {
    /// The curve.
    #[n(1)]
    pub curve: Curve,
    /// The wallet on this curve.
    #[n(2)]
    pub wallet: WalletId,
    /// X, the wallet's public key: SEC1 compressed (33 bytes) or Edwards (32 bytes).
    #[cbor(n(3), with = "minicbor::bytes")]
    pub public_key: Vec<u8>,
    /// The chain code; all zero on a curve without derivation.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub chain_code: [u8; 32],
    /// B_C, the client half's public point.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub client_point: Vec<u8>,
    /// B_K, the custodian half's public point.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub custodian_point: Vec<u8>,
}

impl Header {
    /// The header of a new envelope. Refuses curves that are missing, repeated, unordered or have points of the
    /// wrong length.
    pub fn new(
        deployment: DeploymentId,
        client: ClientId,
        backup: BackupId,
        generation: u64,
        method: Method,
        curves: Vec<CurveHeader>,
    ) -> Result<Self, Error> {
        let header = Self { version: VERSION, suite: SUITE, deployment, client, backup, generation, method, curves };
        header.validate()?;
        Ok(header)
    }

    /// The entry of `curve`.
    #[must_use]
    pub fn curve(&self, curve: Curve) -> Option<&CurveHeader> {
        self.curves.iter().find(|entry| entry.curve == curve)
    }

    fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let probe: Probe = minicbor::decode(bytes).map_err(|_| Error::Header(cbor::Error::Malformed))?;
        if probe.version != VERSION {
            return Err(Error::UnknownVersion(probe.version));
        }
        if probe.suite != SUITE {
            return Err(Error::UnknownSuite(probe.suite));
        }
        let header: Self = cbor::from_slice(bytes).map_err(Error::Header)?;
        header.validate()?;
        Ok(header)
    }

    fn validate(&self) -> Result<(), Error> {
        check_curves(self.curves.iter().map(|entry| entry.curve))?;
        self.curves.iter().try_for_each(|entry| {
            [&entry.public_key, &entry.client_point, &entry.custodian_point]
                .into_iter()
                .try_for_each(|point| check_point(entry.curve, point))
        })
    }
}

/// The first two fields alone, so that a later version is told apart from rubbish.
#[derive(Decode)]
#[cbor(map)]
struct Probe {
    #[n(1)]
    version: u16,
    #[n(2)]
    suite: u16,
}

/// The client halves in an envelope: b_C per curve, 32 bytes (big-endian for secp256k1, little-endian for Ed25519).
pub struct Contents(Vec<ClientHalf>);

/// One client half with its curve.
struct ClientHalf {
    curve: Curve,
    share: Zeroizing<[u8; 32]>,
}

crate::secret::redact!(Contents);

impl Contents {
    /// Halves for an envelope, one per curve in ascending order.
    pub fn new(halves: impl IntoIterator<Item = (Curve, Zeroizing<[u8; 32]>)>) -> Result<Self, Error> {
        let halves: Vec<_> = halves.into_iter().map(|(curve, share)| ClientHalf { curve, share }).collect();
        check_curves(halves.iter().map(|half| half.curve))?;
        Ok(Self(halves))
    }

    /// b_C of `curve`, as bytes: `protocol` checks that it fits the public point.
    #[must_use]
    pub fn share(&self, curve: Curve) -> Option<&Zeroizing<[u8; 32]>> {
        self.0.iter().find(|half| half.curve == curve).map(|half| &half.share)
    }

    /// The curves that are inside.
    pub fn curves(&self) -> impl Iterator<Item = Curve> + '_ {
        self.0.iter().map(|half| half.curve)
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        cbor::to_secret_vec(&ContentsWire {
            version: CONTENTS_VERSION,
            halves: self.0.iter().map(HalfWire::from).collect(),
        })
    }

    fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let wire: ContentsWire<'_> = cbor::from_slice(bytes).map_err(Error::Contents)?;
        if wire.version != CONTENTS_VERSION {
            return Err(Error::UnknownVersion(wire.version));
        }
        let half = |half: HalfWire<'_>| Ok((half.curve, copy_32(half.share)?));
        Self::new(wire.halves.into_iter().map(half).collect::<Result<Vec<_>, Error>>()?)
    }
}

/// Borrows the secret bytes: no copy is made that is not wiped.
#[derive(Encode, Decode)]
#[cbor(map)]
struct ContentsWire<'a> {
    #[n(1)]
    version: u16,
    #[b(2)]
    halves: Vec<HalfWire<'a>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct HalfWire<'a> {
    #[n(1)]
    curve: Curve,
    #[cbor(b(2), with = "minicbor::bytes")]
    share: &'a [u8],
}

impl<'a> From<&'a ClientHalf> for HalfWire<'a> {
    fn from(half: &'a ClientHalf) -> Self {
        Self { curve: half.curve, share: half.share.as_slice() }
    }
}

/// What the caller knows about the envelope it wants to open. `None` means: not known beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The installation.
    pub deployment: DeploymentId,
    /// The end user.
    pub client: ClientId,
    /// The backup.
    pub backup: BackupId,
    /// The generation of the slot.
    pub generation: Option<u64>,
    /// What holds the key.
    pub method: Method,
    /// One entry per curve, in ascending order.
    pub curves: Vec<ExpectedCurve>,
}

/// What the caller knows about one curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedCurve {
    /// The curve.
    pub curve: Curve,
    /// The wallet on this curve.
    pub wallet: WalletId,
    /// X.
    pub public_key: Vec<u8>,
    /// The chain code.
    pub chain_code: [u8; 32],
    /// B_C.
    pub client_point: Vec<u8>,
    /// B_K, where the caller knows it (it is X − B_C).
    pub custodian_point: Option<Vec<u8>>,
}

impl From<&Header> for Expected {
    fn from(header: &Header) -> Self {
        let curve = |entry: &CurveHeader| ExpectedCurve {
            curve: entry.curve,
            wallet: entry.wallet,
            public_key: entry.public_key.clone(),
            chain_code: entry.chain_code,
            client_point: entry.client_point.clone(),
            custodian_point: Some(entry.custodian_point.clone()),
        };
        Self {
            deployment: header.deployment,
            client: header.client,
            backup: header.backup,
            generation: Some(header.generation),
            method: header.method.clone(),
            curves: header.curves.iter().map(curve).collect(),
        }
    }
}

impl From<&Record> for Expected {
    fn from(record: &Record) -> Self {
        let curve = |entry: &crate::record::RecordCurve| ExpectedCurve {
            curve: entry.curve,
            wallet: entry.wallet,
            public_key: entry.public_key.clone(),
            chain_code: entry.chain_code,
            client_point: entry.client_point.clone(),
            custodian_point: None,
        };
        Self {
            deployment: record.deployment,
            client: record.client,
            backup: record.backup,
            generation: None,
            method: record.method.clone(),
            curves: record.curves.iter().map(curve).collect(),
        }
    }
}

impl Expected {
    /// Compares field by field; the first difference is named.
    pub fn check(&self, header: &Header) -> Result<(), Error> {
        let same = |field: Field, equal: bool| if equal { Ok(()) } else { Err(Error::OtherContext(field)) };
        same(Field::Deployment, self.deployment == header.deployment)?;
        same(Field::Client, self.client == header.client)?;
        same(Field::Backup, self.backup == header.backup)?;
        same(Field::Generation, self.generation.is_none_or(|generation| generation == header.generation))?;
        same(Field::Method, self.method == header.method)?;
        same(Field::Curves, self.curves.len() == header.curves.len())?;
        for (want, have) in self.curves.iter().zip(&header.curves) {
            same(Field::Curves, want.curve == have.curve)?;
            same(Field::Wallet(want.curve), want.wallet == have.wallet)?;
            same(Field::PublicKey(want.curve), want.public_key == have.public_key)?;
            same(Field::ChainCode(want.curve), want.chain_code == have.chain_code)?;
            same(Field::ClientPoint(want.curve), want.client_point == have.client_point)?;
            let custodian = want.custodian_point.as_ref();
            same(Field::CustodianPoint(want.curve), custodian.is_none_or(|point| *point == have.custodian_point))?;
        }
        Ok(())
    }
}

/// A field of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of `Header` and `CurveHeader`")]
#[non_exhaustive]
pub enum Field {
    Deployment,
    Client,
    Backup,
    Generation,
    Method,
    Curves,
    Wallet(Curve),
    PublicKey(Curve),
    ChainCode(Curve),
    ClientPoint(Curve),
    CustodianPoint(Curve),
}

/// Why an envelope or record is refused. Never says anything of the contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Longer than allowed.
    #[error("longer than allowed")]
    TooLarge,
    /// A version that this library does not know.
    #[error("unknown version {0}")]
    UnknownVersion(u16),
    /// A suite that this library does not know.
    #[error("unknown suite {0}")]
    UnknownSuite(u16),
    /// The header is not strict CBOR of its kind.
    #[error("header: {0}")]
    Header(cbor::Error),
    /// The sealed contents are not strict CBOR of their kind.
    #[error("contents: {0}")]
    Contents(cbor::Error),
    /// No curve, an unordered or a repeated one.
    #[error("curves must be present, ascending and distinct")]
    Curves,
    /// A point or scalar of the wrong length.
    #[error("a field of a {0} share has the wrong length")]
    Length(Curve),
    /// The header names another context than the caller expects.
    #[error("made for another context: {0:?} differs")]
    OtherContext(Field),
    /// The bytes are not the ones that the record was made for: another or an older envelope.
    #[error("not the envelope that the record names")]
    OtherEnvelope,
    /// The outer form or the key.
    #[error(transparent)]
    Sealed(#[from] OpenError),
}

/// Seals the client halves. The curves of header and contents must be the same.
pub fn seal(key: &FileKey, header: &Header, contents: &Contents, entropy: &mut dyn Entropy) -> Result<Vec<u8>, Error> {
    header.validate()?;
    check_same_curves(header, contents)?;
    Ok(seal::seal(&key.as_seal_key(), MAGIC, &cbor::to_vec(header), &contents.to_bytes(), entropy))
}

/// Opens an envelope: parse strictly, compare the context, compare the commitment, then decrypt.
pub fn open(key: &FileKey, expected: &Expected, envelope: &[u8]) -> Result<(Header, Contents), Error> {
    let (sealed, header) = parse(envelope)?;
    expected.check(&header)?;
    let contents = Contents::from_slice(&sealed.open(&key.as_seal_key())?)?;
    check_same_curves(&header, &contents)?;
    Ok((header, contents))
}

/// Opens the envelope that `record` was made for, and no other.
pub fn open_with_record(record: &Record, envelope: &[u8]) -> Result<(Header, Contents), Error> {
    if digest(envelope) != record.envelope_digest {
        return Err(Error::OtherEnvelope);
    }
    open(&record.file_key, &Expected::from(record), envelope)
}

/// The header of an envelope, **not authenticated**: for listing, and for servers that hold no key.
pub fn peek_header(envelope: &[u8]) -> Result<Header, Error> {
    parse(envelope).map(|(_, header)| header)
}

/// What witnesses an envelope: SHA-256 over all its bytes.
#[must_use]
pub fn digest(envelope: &[u8]) -> [u8; 32] {
    sha256(envelope)
}

/// The commitment in the clear of an envelope.
pub fn commitment(envelope: &[u8]) -> Result<[u8; 32], Error> {
    let (sealed, _) = parse(envelope)?;
    sealed.commitment().try_into().map_err(|_| OpenError::Malformed.into())
}

/// The commitment that `key` gives for this envelope.
pub fn commitment_of(key: &FileKey, envelope: &[u8]) -> Result<[u8; 32], Error> {
    let (sealed, _) = parse(envelope)?;
    Ok(sealed.commitment_of(&key.as_seal_key()))
}

/// Drill L1 (METHODS.md H): does the method still hold the right key? Nothing is opened.
pub fn drill(key: &FileKey, expected: &Expected, envelope: &[u8]) -> Result<(), Error> {
    let (sealed, header) = parse(envelope)?;
    expected.check(&header)?;
    let same = sealed.commitment_of(&key.as_seal_key()).as_slice().ct_eq(sealed.commitment());
    if bool::from(same) { Ok(()) } else { Err(OpenError::WrongKey.into()) }
}

fn parse(envelope: &[u8]) -> Result<(Sealed<'_>, Header), Error> {
    if envelope.len() > MAX_ENVELOPE {
        return Err(Error::TooLarge);
    }
    let sealed = Sealed::parse(MAGIC, envelope)?;
    let header = Header::from_slice(sealed.header())?;
    Ok((sealed, header))
}

fn check_same_curves(header: &Header, contents: &Contents) -> Result<(), Error> {
    let same = header.curves.iter().map(|entry| entry.curve).eq(contents.curves());
    if same { Ok(()) } else { Err(Error::Curves) }
}

pub(crate) fn check_curves(curves: impl Iterator<Item = Curve>) -> Result<(), Error> {
    let codes: Vec<u8> = curves.map(Curve::code).collect();
    let ascending = codes.windows(2).all(|pair| pair[0] < pair[1]);
    if codes.is_empty() || !ascending { Err(Error::Curves) } else { Ok(()) }
}

pub(crate) fn check_point(curve: Curve, point: &[u8]) -> Result<(), Error> {
    let length = match curve {
        Curve::Secp256k1 => 33,
        Curve::Ed25519 => 32,
    };
    if point.len() == length { Ok(()) } else { Err(Error::Length(curve)) }
}

pub(crate) fn copy_32(bytes: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut copy = Zeroizing::new([0u8; 32]);
    if bytes.len() != copy.len() {
        return Err(Error::Contents(cbor::Error::Malformed));
    }
    copy.copy_from_slice(bytes);
    Ok(copy)
}
