//! Non-hardened BIP-32 paths: both parties derive per signature; only the root halves are ever stored.

use core::{fmt, str::FromStr};

use crate::error::{Error, Result};

const MAX_DEPTH: usize = 10;
const HARDENED: u32 = 1 << 31;

/// A path below the wallet's key; empty for the key itself. secp256k1 only (PROTOCOL.md 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct DerivationPath(Vec<u32>);

impl DerivationPath {
    /// The wallet's own key.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// From its indices.
    ///
    /// # Errors
    /// [`Error::UnsupportedPath`] for a hardened index, since nobody holds the whole key, or more than ten levels.
    pub fn new(indices: &[u32]) -> Result<Self> {
        let supported = indices.len() <= MAX_DEPTH && indices.iter().all(|index| *index < HARDENED);
        if supported { Ok(Self(indices.to_vec())) } else { Err(Error::UnsupportedPath) }
    }

    /// The indices.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.0
    }

    /// The indices as hashed: big-endian, four bytes each.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|index| index.to_be_bytes()).collect()
    }
}

impl FromStr for DerivationPath {
    type Err = Error;

    /// `m`, `m/0/5`, …; `'` and `h` (hardened) are refused, and so is anything but plain decimal.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        if parts.next() != Some("m") {
            return Err(Error::UnsupportedPath);
        }
        let index = |part: &str| {
            let index: u32 = part.parse().map_err(|_| Error::UnsupportedPath)?;
            if index.to_string() == part { Ok(index) } else { Err(Error::UnsupportedPath) }
        };
        Self::new(&parts.map(index).collect::<Result<Vec<_>>>()?)
    }
}

impl fmt::Display for DerivationPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("m")?;
        self.0.iter().try_for_each(|index| write!(f, "/{index}"))
    }
}
