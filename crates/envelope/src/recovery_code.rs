//! A recovery code: 128 random bits that a person writes down (METHODS.md B). It needs no keeper, and is the way
//! out when a password is forgotten.
//!
//! Shown as 26 symbols of Crockford's alphabet, the last with two zero bits of padding, and one check symbol
//! (the value modulo 37), in groups of four. Read with either case, any grouping, `I` and `L` for 1, `O` for 0.

use hkdf::Hkdf;
use minicbor::{Decode, Encode, bytes::ByteArray};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    cbor,
    entropy::{Entropy, random},
    id::{BackupId, ClientId, DeploymentId},
    seal::{self, Magic, OpenError, SealKey},
    secret::redact,
};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// What only the check symbol may be, for the values 32 to 36.
const CHECK_ALPHABET: &[u8; 5] = b"*~$=U";
const SYMBOLS: usize = 26;
const MAGIC: Magic = Magic(*b"HKR1");
const VERSION: u8 = 1;

/// 128 random bits.
pub struct RecoveryCode(Zeroizing<[u8; 16]>);

redact!(RecoveryCode);

/// Why typed text is no recovery code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// 27 symbols are needed.
    #[error("a recovery code has 27 symbols, not {found}")]
    Length {
        /// How many were typed.
        found: usize,
    },
    /// A symbol that no code has.
    #[error("symbol {position} is in no recovery code")]
    Symbol {
        /// Counted from one, without grouping.
        position: usize,
    },
    /// A symbol was mistyped, or two were swapped.
    #[error("a symbol was mistyped")]
    Check,
}

impl RecoveryCode {
    /// A fresh one.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self(random::<16>(entropy))
    }

    /// As it is shown: `XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXX`.
    #[must_use]
    pub fn display(&self) -> Zeroizing<String> {
        let value = u128::from_be_bytes(*self.0);
        let mut text = Zeroizing::new(String::with_capacity(40));
        for index in 0..SYMBOLS {
            text.push(char::from(ALPHABET[symbol_at(value, index)]));
            if index % 4 == 3 {
                text.push('-');
            }
        }
        let check = (value % 37) as usize;
        text.push(char::from(if check < 32 { ALPHABET[check] } else { CHECK_ALPHABET[check - 32] }));
        text
    }

    /// Reads what a person typed.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let symbols = Zeroizing::new(text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect::<Vec<char>>());
        if symbols.len() != SYMBOLS + 1 {
            return Err(ParseError::Length { found: symbols.len() });
        }
        let mut value = 0u128;
        for (index, symbol) in symbols[..SYMBOLS].iter().enumerate() {
            let bits = value_of(*symbol).ok_or(ParseError::Symbol { position: index + 1 })?;
            let bits = u128::from(bits);
            if index + 1 < SYMBOLS {
                value = value << 5 | bits;
            } else if bits & 0b11 == 0 {
                value = value << 3 | bits >> 2;
            } else {
                return Err(ParseError::Check);
            }
        }
        let check = symbols[SYMBOLS];
        let check = check_value_of(check).ok_or(ParseError::Symbol { position: SYMBOLS + 1 })?;
        if value % 37 != u128::from(check) {
            return Err(ParseError::Check);
        }
        Ok(Self(Zeroizing::new(value.to_be_bytes())))
    }

    /// `HKDF-Extract(salt, code)` (RFC 5869, SHA-256).
    pub(crate) fn key(&self, salt: &[u8; 32]) -> SealKey {
        let (prk, _) = Hkdf::<Sha256>::extract(Some(salt), self.0.as_ref());
        SealKey::from_bytes(Zeroizing::new(prk.into()))
    }
}

impl subtle::ConstantTimeEq for RecoveryCode {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

/// Symbol `index` of 26: five bits of the value, and three at the end with two zero bits after them.
const fn symbol_at(value: u128, index: usize) -> usize {
    let bits = if index + 1 < SYMBOLS { value >> (123 - 5 * index) } else { value << 2 };
    (bits & 31) as usize
}

fn value_of(symbol: char) -> Option<u8> {
    let symbol = match symbol.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    };
    ALPHABET.iter().position(|known| char::from(*known) == symbol).map(|value| value as u8)
}

fn check_value_of(symbol: char) -> Option<u8> {
    let upper = symbol.to_ascii_uppercase();
    let extra = CHECK_ALPHABET.iter().position(|known| char::from(*known) == upper).map(|value| 32 + value as u8);
    extra.or_else(|| value_of(symbol))
}

/// What a sealed record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The installation.
    pub deployment: DeploymentId,
    /// The end user.
    pub client: ClientId,
    /// The backup.
    pub backup: BackupId,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Header {
    #[n(0)]
    version: u8,
    #[n(1)]
    deployment: DeploymentId,
    #[n(2)]
    client: ClientId,
    #[n(3)]
    backup: BackupId,
    #[n(4)]
    salt: ByteArray<32>,
}

/// Seals a backup's record under `code`; it lies beside the envelope. The same code may seal the record of a
/// later backup: salt and backup id differ (DECISIONS.md D25).
#[must_use]
pub fn seal_record(code: &RecoveryCode, place: Place, record: &[u8], entropy: &mut dyn Entropy) -> Vec<u8> {
    seal_at(place, MAGIC, |salt| code.key(salt), record, entropy)
}

/// Opens what [`seal_record`] made for the same place. [`OpenError::WrongKey`] says that it is another code.
pub fn open_record(code: &RecoveryCode, place: Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    open_at(Some(place), MAGIC, |salt| code.key(salt), sealed)
}

/// Seals a record under a code of any kind: `magic` names the kind, and `key` makes the key from a fresh salt.
pub(crate) fn seal_at(
    place: Place,
    magic: Magic,
    key: impl FnOnce(&[u8; 32]) -> SealKey,
    record: &[u8],
    entropy: &mut dyn Entropy,
) -> Vec<u8> {
    let salt = *random::<32>(entropy);
    let Place { deployment, client, backup } = place;
    let header = Header { version: VERSION, deployment, client, backup, salt: salt.into() };
    seal::seal(&key(&salt), magic, &cbor::to_vec(&header), record, entropy)
}

/// Opens what [`seal_at`] made; for this place, where the caller knows it.
pub(crate) fn open_at(
    place: Option<Place>,
    magic: Magic,
    key: impl FnOnce(&[u8; 32]) -> SealKey,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let parsed = seal::Sealed::parse(magic, sealed)?;
    let header: Header = cbor::from_slice(parsed.header()).map_err(|_| OpenError::Malformed)?;
    if header.version != VERSION {
        return Err(OpenError::UnknownMagic);
    }
    let found = Place { deployment: header.deployment, client: header.client, backup: header.backup };
    if place.is_some_and(|place| place != found) {
        return Err(OpenError::OtherContext);
    }
    parsed.open(&key(&header.salt))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::entropy::DangerSeededEntropy;
    use proptest::prelude::*;

    fn place(backup: u8) -> Place {
        Place {
            deployment: DeploymentId::from_bytes([1; 16]),
            client: ClientId::from_bytes([2; 16]),
            backup: BackupId::from_bytes([backup; 16]),
        }
    }

    #[test]
    fn reads_what_people_write() {
        let code = RecoveryCode(Zeroizing::new(*b"\x00\x44\x32\x14\xc7\x42\x54\xb6\x35\xcf\x84\x65\x3a\x56\xd7\xc6"));
        let shown = code.display();
        assert_eq!(shown.len(), 27 + 6);
        for typed in [
            shown.to_lowercase(),
            shown.replace('-', ""),
            shown.replace('1', "l").replace('0', "o"),
            shown.replace('1', "I"),
        ] {
            assert_eq!(*RecoveryCode::parse(&typed).unwrap().0, *code.0, "{typed}");
        }
        assert_eq!(RecoveryCode::parse("").err(), Some(ParseError::Length { found: 0 }));
        assert_eq!(RecoveryCode::parse(&shown[1..]).err(), Some(ParseError::Length { found: 26 }));
        assert_eq!(RecoveryCode::parse(&format!("!{}", &shown[1..])).err(), Some(ParseError::Symbol { position: 1 }));
        assert_eq!(RecoveryCode::parse(&format!("U{}", &shown[1..])).err(), Some(ParseError::Symbol { position: 1 }));
    }

    #[test]
    fn padding_bits_are_zero() {
        let shown = RecoveryCode(Zeroizing::new([0; 16])).display().replace('-', "");
        assert_eq!(shown, "0".repeat(27));
        for last in ["1", "2", "3"] {
            let typed = format!("{}{last}0", &shown[..25]);
            assert_eq!(RecoveryCode::parse(&typed).err(), Some(ParseError::Check), "{typed}");
        }
        assert!(RecoveryCode::parse(&format!("{}41", &shown[..25])).is_ok(), "the lowest bit of the value");
    }

    #[test]
    fn a_record_opens_with_its_code_in_its_place() {
        let entropy = &mut DangerSeededEntropy::new(3);
        let (code, other) = (RecoveryCode::generate(entropy), RecoveryCode::generate(entropy));
        let sealed = seal_record(&code, place(3), b"record", entropy);
        assert_eq!(open_record(&code, place(3), &sealed).unwrap().as_slice(), b"record");
        assert_eq!(open_record(&other, place(3), &sealed).err(), Some(OpenError::WrongKey));
        assert_eq!(open_record(&code, place(4), &sealed).err(), Some(OpenError::OtherContext));
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open_record(&code, place(3), &changed).is_err(), "bit {bit}");
        }
        assert_eq!(format!("{code:?}"), "RecoveryCode");
    }

    proptest! {
        #[test]
        fn round_trips_and_catches_one_mistake(bytes in any::<[u8; 16]>(), at in 0usize..26, other in 0usize..32, swap in 0usize..25) {
            let code = RecoveryCode(Zeroizing::new(bytes));
            let shown = code.display().replace('-', "");
            prop_assert_eq!(*RecoveryCode::parse(&shown).unwrap().0, bytes);
            let mut typed = shown.clone().into_bytes();
            typed[at] = ALPHABET[other];
            let read = RecoveryCode::parse(std::str::from_utf8(&typed).unwrap());
            prop_assert_eq!(read.is_ok(), typed == shown.as_bytes());
            let mut typed = shown.clone().into_bytes();
            typed.swap(swap, swap + 1);
            let read = RecoveryCode::parse(std::str::from_utf8(&typed).unwrap());
            prop_assert_eq!(read.is_ok(), typed == shown.as_bytes());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = RecoveryCode::parse(&text);
        }
    }
}
