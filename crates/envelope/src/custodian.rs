//! A server-side half at rest (METHODS.md F): sealed under a key from the KMS *and* a shred key, bound to its row.
//!
//! Both keys are needed. Destroying the shred key in all copies destroys the half, whatever a database backup holds.

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::{
    cbor,
    entropy::Entropy,
    id::{ClientId, DeploymentId, PairId, WalletId},
    seal::{self, Magic, OpenError, SealKey, Sealed},
    wallet::Curve,
};

const MAGIC: Magic = Magic(*b"HKC1");
const VERSION: u16 = 1;
/// HKDF-SHA256 with ChaCha20-Poly1305, as [`crate::seal`] describes.
const SUITE: u16 = 1;
const KEY_TAG: &str = "halfkey/custodian/v1/key";

/// The longest sealed half: a signing half with its oblivious-transfer state has 53 KB.
pub const MAX_SEALED_HALF: usize = 256 * 1024;

crate::secret::secret32! {
    /// A data key that the KMS wraps, one per half.
    DataKey;
    /// The second key of a half, in the shred store: destroying it is the deletion.
    ShredKey;
}

/// What a sealed half is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Purpose {
    /// The server's half of a signing pair.
    #[n(1)]
    Signing,
    /// The custodian's half of a backup pair.
    #[n(2)]
    Backup,
}

impl Purpose {
    /// The name in the KMS's encryption context.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Backup => "backup",
        }
    }
}

/// The row that a half belongs to. Bound here and, as [`Self::encryption_context`], in the KMS: swapped rows are
/// refused twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfContext {
    /// The installation.
    pub deployment: DeploymentId,
    /// The end user.
    pub client: ClientId,
    /// The wallet.
    pub wallet: WalletId,
    /// The wallet's curve.
    pub curve: Curve,
    /// The share pair.
    pub pair: PairId,
    /// Which half of which kind of pair.
    pub purpose: Purpose,
}

impl HalfContext {
    /// The same context as names and values, for the KMS's associated data.
    #[must_use]
    pub fn encryption_context(&self) -> Vec<(&'static str, String)> {
        vec![
            ("deployment", self.deployment.to_string()),
            ("client", self.client.to_string()),
            ("wallet", self.wallet.to_string()),
            ("curve", self.curve.to_string()),
            ("pair", self.pair.to_string()),
            ("purpose", self.purpose.as_str().to_owned()),
        ]
    }

    fn header(&self) -> Vec<u8> {
        let Self { deployment, client, wallet, curve, pair, purpose } = *self;
        cbor::to_vec(&Header { version: VERSION, suite: SUITE, deployment, client, wallet, curve, pair, purpose })
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Header {
    #[n(1)]
    version: u16,
    #[n(2)]
    suite: u16,
    #[n(3)]
    deployment: DeploymentId,
    #[n(4)]
    client: ClientId,
    #[n(5)]
    wallet: WalletId,
    #[n(6)]
    curve: Curve,
    #[n(7)]
    pair: PairId,
    #[n(8)]
    purpose: Purpose,
}

#[derive(Decode)]
#[cbor(map)]
struct Probe {
    #[n(1)]
    version: u16,
    #[n(2)]
    suite: u16,
}

/// A field of [`HalfContext`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of `HalfContext`")]
#[non_exhaustive]
pub enum Field {
    Deployment,
    Client,
    Wallet,
    Curve,
    Pair,
    Purpose,
}

/// Why a sealed half is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Longer than [`MAX_SEALED_HALF`].
    #[error("longer than allowed")]
    TooLarge,
    /// A version that this library does not know.
    #[error("unknown version {0} of a sealed half")]
    UnknownVersion(u16),
    /// A suite that this library does not know.
    #[error("unknown suite {0} of a sealed half")]
    UnknownSuite(u16),
    /// The header is not strict CBOR of its kind.
    #[error("header of a sealed half: {0}")]
    Header(cbor::Error),
    /// Sealed for another row.
    #[error("half belongs to another row: {0:?} differs")]
    OtherContext(Field),
    /// The outer form or the keys.
    #[error(transparent)]
    Sealed(#[from] OpenError),
}

/// Seals a half for its row.
pub fn seal_half(
    data_key: &DataKey,
    shred_key: &ShredKey,
    context: &HalfContext,
    half: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, Error> {
    if half.len() > MAX_SEALED_HALF - 1024 {
        return Err(Error::TooLarge);
    }
    Ok(seal::seal(&key(data_key, shred_key), MAGIC, &context.header(), half, entropy))
}

/// Opens a half, if it belongs to the row `context`.
pub fn open_half(
    data_key: &DataKey,
    shred_key: &ShredKey,
    context: &HalfContext,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (sealed, found) = parse(sealed)?;
    check(context, &found)?;
    Ok(sealed.open(&key(data_key, shred_key))?)
}

/// The context of a sealed half, **not authenticated**.
pub fn peek_context(sealed: &[u8]) -> Result<HalfContext, Error> {
    parse(sealed).map(|(_, context)| context)
}

fn key(data_key: &DataKey, shred_key: &ShredKey) -> SealKey {
    let mut both = Zeroizing::new([0u8; 64]);
    both[..32].copy_from_slice(data_key.expose());
    both[32..].copy_from_slice(shred_key.expose());
    SealKey::derive(b"", both.as_slice(), KEY_TAG)
}

fn parse(bytes: &[u8]) -> Result<(Sealed<'_>, HalfContext), Error> {
    if bytes.len() > MAX_SEALED_HALF {
        return Err(Error::TooLarge);
    }
    let sealed = Sealed::parse(MAGIC, bytes)?;
    let probe: Probe = minicbor::decode(sealed.header()).map_err(|_| Error::Header(cbor::Error::Malformed))?;
    if probe.version != VERSION {
        return Err(Error::UnknownVersion(probe.version));
    }
    if probe.suite != SUITE {
        return Err(Error::UnknownSuite(probe.suite));
    }
    let Header { deployment, client, wallet, curve, pair, purpose, .. } =
        cbor::from_slice(sealed.header()).map_err(Error::Header)?;
    Ok((sealed, HalfContext { deployment, client, wallet, curve, pair, purpose }))
}

fn check(want: &HalfContext, have: &HalfContext) -> Result<(), Error> {
    let same = |field: Field, equal: bool| if equal { Ok(()) } else { Err(Error::OtherContext(field)) };
    same(Field::Deployment, want.deployment == have.deployment)?;
    same(Field::Client, want.client == have.client)?;
    same(Field::Wallet, want.wallet == have.wallet)?;
    same(Field::Curve, want.curve == have.curve)?;
    same(Field::Pair, want.pair == have.pair)?;
    same(Field::Purpose, want.purpose == have.purpose)
}
