//! A key that needs several holders at once (METHODS.md C, "AllOf"): n random parts, one for each holder. All of them
//! together give the key, and any n - 1 of them tell nothing about it.
//!
//! ```text
//! key = HKDF-Extract(salt = set, part 1 ‖ … ‖ part n)                     (RFC 5869, SHA-256)
//! ```

use hkdf::Hkdf;
use minicbor::{Decode, Encode, bytes::ByteArray};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    cbor,
    entropy::{Entropy, random},
    seal::SealKey,
};

const VERSION: u16 = 1;
/// The most holders of one key.
pub const MAX_PARTS: u8 = 8;
/// The longest encoding of a part.
pub const MAX_PART: usize = 128;

/// Why parts do not give a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a part.
    #[error("not a part of a key")]
    Malformed,
    /// A version that this library does not know.
    #[error("unknown version {0} of a part")]
    UnknownVersion(u16),
    /// Parts are missing, or are not of one set. All of them are needed.
    #[error("not all parts of one key")]
    NotFound,
}

/// One holder's part.
pub struct Part {
    set: [u8; 32],
    index: u8,
    count: u8,
    part: Zeroizing<[u8; 32]>,
}

crate::secret::redact!(Part);

impl Part {
    /// Which of the parts it is, from 1.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// How many parts the key has.
    #[must_use]
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// Whether both are of one set; which parts they are is not looked at.
    #[must_use]
    pub fn is_of_the_set_of(&self, other: &Self) -> bool {
        (self.set, self.count) == (other.set, other.count)
    }

    /// The strict encoding, for the holder's sealed storage.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (set, index, count) = (ByteArray::from(self.set), self.index, self.count);
        cbor::to_secret_vec(&Wire { version: VERSION, set, index, count, part: self.part.as_ref() })
    }

    /// Decodes strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_PART {
            return Err(Error::Malformed);
        }
        let version = cbor::version(bytes).map_err(|_| Error::Malformed)?;
        if version != VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let wire: Wire<'_> = cbor::from_slice(bytes).map_err(|_| Error::Malformed)?;
        if wire.part.len() != 32 || wire.count > MAX_PARTS || !(1..=wire.count).contains(&wire.index) {
            return Err(Error::Malformed);
        }
        let mut part = Zeroizing::new([0u8; 32]);
        part.copy_from_slice(wire.part);
        Ok(Self { set: *wire.set, index: wire.index, count: wire.count, part })
    }
}

/// Makes the parts of a fresh key, in order, and that key.
///
/// # Panics
/// If `count` is not in 1 ..= [`MAX_PARTS`]: the callers' own constants.
#[must_use]
#[allow(clippy::expect_used, reason = "the parts were made as one whole set")]
pub fn split(count: u8, entropy: &mut dyn Entropy) -> (Vec<Part>, SealKey) {
    assert!((1..=MAX_PARTS).contains(&count), "a key has 1 to 8 parts");
    let set = *random::<32>(entropy);
    let parts: Vec<Part> = (1..=count).map(|index| Part { set, index, count, part: random::<32>(entropy) }).collect();
    let key = join(&parts.iter().collect::<Vec<_>>()).expect("a whole set");
    (parts, key)
}

/// The key of all its parts, given in any order.
pub fn join(parts: &[&Part]) -> Result<SealKey, Error> {
    let first = parts.first().ok_or(Error::NotFound)?;
    if parts.len() != usize::from(first.count) || !parts.iter().all(|part| part.is_of_the_set_of(first)) {
        return Err(Error::NotFound);
    }
    let mut material = Zeroizing::new(Vec::with_capacity(32 * parts.len()));
    for index in 1..=first.count {
        let part = parts.iter().find(|part| part.index == index).ok_or(Error::NotFound)?;
        material.extend_from_slice(part.part.as_ref());
    }
    let mut key = Zeroizing::new([0u8; 32]);
    let (mut prk, _) = Hkdf::<Sha256>::extract(Some(&first.set), &material);
    key.copy_from_slice(&prk);
    zeroize::Zeroize::zeroize(prk.as_mut_slice());
    Ok(SealKey::from_bytes(key))
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[n(1)]
    version: u16,
    #[n(2)]
    set: ByteArray<32>,
    #[n(3)]
    index: u8,
    #[n(4)]
    count: u8,
    #[cbor(b(5), with = "minicbor::bytes")]
    part: &'a [u8],
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::entropy::DangerSeededEntropy;

    #[test]
    fn all_parts_of_one_set_give_the_key_and_nothing_less_does() {
        let mut entropy = DangerSeededEntropy::new(1);
        let (parts, key) = split(3, &mut entropy);
        let (others, _) = split(3, &mut entropy);
        let [one, two, three] = &parts[..] else { unreachable!() };
        assert_eq!(join(&[three, one, two]).unwrap().expose(), key.expose(), "in any order");
        for bad in [&[][..], &[one], &[one, two], &[one, two, two], &[one, two, &others[2]], &[one, two, three, one]] {
            assert_eq!(join(bad).unwrap_err(), Error::NotFound);
        }
        assert_eq!(format!("{one:?}"), "Part");
    }

    #[test]
    fn a_part_is_read_back_and_a_damaged_one_is_not_a_part() {
        let (parts, _) = split(2, &mut DangerSeededEntropy::new(2));
        let bytes = parts[1].to_bytes();
        let again = Part::from_bytes(&bytes).unwrap();
        assert_eq!((again.set, again.index, again.count, *again.part), (parts[1].set, 2, 2, *parts[1].part));
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.to_vec();
            bytes[at] = value;
            Part::from_bytes(&bytes).map(|_| ())
        };
        assert_eq!(with(2, 2), Err(Error::UnknownVersion(2)));
        let (index, count) = (bytes.len() - 32 - 2 - 1 - 3, bytes.len() - 32 - 2 - 1 - 1);
        assert_eq!((bytes[index], bytes[count]), (2, 2));
        for (at, value) in [(index, 0), (index, 3), (count, 1), (count, 9)] {
            assert_eq!(with(at, value), Err(Error::Malformed), "{at} {value}");
        }
        assert_eq!(Part::from_bytes(&bytes[..bytes.len() - 1]).unwrap_err(), Error::Malformed);
    }
}
