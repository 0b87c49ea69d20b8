//! The private keys that `halfkey wallet eject` and `halfkey offline-recover` write, and whether they control the addresses
//! that they are said to: by AWS-LC, OpenSSL and code of this file, none of which had a part in making them.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use aws_lc_rs::digest::{SHA256, digest};
use k256::elliptic_curve::sec1::ToSec1Point;

use crate::verify::{ethereum_address, is_private_key_of};

/// The lines of such a file.
pub struct Keys {
    /// 0x and 64 digits.
    pub ethereum: String,
    /// Wallet import format.
    pub wif: String,
    /// 64 digits, little-endian.
    pub scalar: String,
    /// The addresses beside them: Ethereum, Bitcoin, Solana.
    pub addresses: [String; 3],
}

#[allow(clippy::unwrap_used, clippy::panic, reason = "a test's own hands: what fails ends the test")]
impl Keys {
    /// Reads `name value` lines; there must be these and no others.
    ///
    /// # Panics
    /// When one is missing, or there is one more.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut lines: Vec<(&str, &str)> =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap()).collect();
        let mut take = |name: &str| {
            let at = lines.iter().position(|line| line.0 == name).unwrap_or_else(|| panic!("no {name}"));
            lines.remove(at).1.to_owned()
        };
        let keys = Self {
            ethereum: take("ethereum-private-key"),
            wif: take("bitcoin-wif"),
            scalar: take("ed25519-scalar"),
            addresses: ["ethereum-address", "bitcoin-address", "solana-address"].map(&mut take),
        };
        assert_eq!(lines.len(), 0, "lines that nobody expects");
        keys
    }

    /// Every form of the secrets that must not be seen elsewhere.
    #[must_use]
    pub fn secrets(&self) -> [&str; 3] {
        [self.ethereum.trim_start_matches("0x"), &self.wif, &self.scalar]
    }

    /// The secp256k1 key is that of the Ethereum and the Bitcoin address, in both its forms. What the Ed25519 scalar is
    /// good for is seen by a sweep.
    ///
    /// # Panics
    /// When it is not.
    pub fn control(&self, expected: &serde_json::Value) {
        let [ethereum, bitcoin, solana] = &self.addresses;
        for (name, address) in [("ethereum", ethereum), ("bitcoin", bitcoin), ("solana", solana)] {
            assert_eq!(expected[name].as_str(), Some(address.as_str()), "{name}");
        }
        let mut secret = [0; 32];
        hex::decode_to_slice(self.ethereum.strip_prefix("0x").unwrap(), &mut secret).unwrap();
        // The public key is only claimed by this; AWS-LC says whether the two belong together.
        let claimed = k256::SecretKey::from_slice(&secret).unwrap().public_key().to_sec1_point(true);
        is_private_key_of(&secret, claimed.as_bytes()).unwrap();
        assert_eq!(&ethereum_address(claimed.as_bytes()).unwrap(), ethereum);

        let (prefix, program) = witness_program(bitcoin);
        let version = match prefix.as_str() {
            "bc" => 0x80,
            "tb" => 0xef,
            other => panic!("{other}: no network of Bitcoin"),
        };
        assert_eq!(program, hash160(claimed.as_bytes()));
        assert_eq!(base58check(&self.wif), [&[version], &secret[..], &[1]].concat(), "compressed, and of this network");
    }
}

/// What a text in Base58Check holds (Bitcoin's own encoding; the checksum is the beginning of a double SHA-256).
#[allow(clippy::unwrap_used, reason = "see Keys")]
fn base58check(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes: Vec<u8> = vec![];
    for symbol in text.chars() {
        let mut carry = ALPHABET.find(symbol).unwrap();
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = u8::try_from(carry % 256).unwrap();
            carry /= 256;
        }
        while carry > 0 {
            bytes.insert(0, u8::try_from(carry % 256).unwrap());
            carry /= 256;
        }
    }
    let content = bytes.split_off(bytes.len() - 4);
    let (content, sum) = (bytes, content);
    let twice = digest(&SHA256, digest(&SHA256, &content).as_ref());
    assert_eq!(sum, twice.as_ref()[..4], "the checksum");
    content
}

/// Prefix and witness program of a segregated-witness address of version 0 (BIP-173), its checksum verified.
#[allow(clippy::unwrap_used, reason = "see Keys")]
fn witness_program(address: &str) -> (String, Vec<u8>) {
    const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let (prefix, data) = address.rsplit_once('1').unwrap();
    let data: Vec<u32> = data.chars().map(|c| u32::try_from(ALPHABET.find(c).unwrap()).unwrap()).collect();
    let (high, low) = (prefix.bytes().map(|c| u32::from(c >> 5)), prefix.bytes().map(|c| u32::from(c & 31)));
    let mut sum = 1_u32;
    for value in high.chain([0]).chain(low).chain(data.iter().copied()) {
        let top = sum >> 25;
        sum = (sum & 0x01ff_ffff) << 5 ^ value;
        sum = (0..5).filter(|bit| top >> bit & 1 == 1).fold(sum, |sum, bit| sum ^ GENERATOR[bit]);
    }
    assert_eq!(sum, 1, "the checksum");
    let [version, program @ ..] = &data[..data.len() - 6] else { unreachable!() };
    assert_eq!((*version, program.len()), (0, 32));
    let bits: String = program.iter().map(|value| format!("{value:05b}")).collect();
    let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
    (prefix.to_owned(), (0..bits.len() / 8).map(|at| byte(at * 8)).collect())
}

/// RIPEMD-160 of SHA-256, by OpenSSL.
#[allow(clippy::unwrap_used, reason = "see Keys")]
fn hash160(bytes: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-ripemd160", "-binary"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = openssl.spawn().unwrap();
    child.stdin.take().unwrap().write_all(digest(&SHA256, bytes).as_ref()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && done.stdout.len() == 20, "openssl cannot compute RIPEMD-160");
    done.stdout
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of BIP-143 and of the Bitcoin wiki on the wallet import format.
    #[test]
    fn published_examples_are_read() {
        let wif = base58check("KwdMAjGmerYanjeui5SHS7JkmpZvVipYvB2LJGU1ZxJwYvP98617");
        let secret = hex::decode("0c28fca386c7a227600b2fe50b7cae11ec86d3bf1fbe471be89827e19d72aa1d").unwrap();
        assert_eq!(wif, [&[0x80], &secret[..], &[1]].concat());
        let (prefix, program) = witness_program("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4");
        assert_eq!((prefix.as_str(), hex::encode(&program)), ("bc", "751e76e8199196d454941c45d1b3a323f1433bd6".into()));
        let key = hex::decode("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap();
        assert_eq!(hash160(&key), program);
    }

    #[test]
    #[should_panic(expected = "the checksum")]
    fn a_wrong_symbol_of_an_address_is_noticed() {
        witness_program("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5");
    }

    #[test]
    #[should_panic(expected = "the checksum")]
    fn a_wrong_symbol_of_a_key_is_noticed() {
        base58check("KwdMAjGmerYanjeui5SHS7JkmpZvVipYvB2LJGU1ZxJwYvP98618");
    }
}
