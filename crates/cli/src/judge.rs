//! Judges finished signatures by means that had no part in making them (DECISIONS.md D35).
//!
//! The wallet's own tree computes with `k256`, `ed25519-dalek` and `alloy`. Here AWS-LC verifies, and the transaction
//! is taken apart and turned into an address by code that shares nothing but Keccak with the one that put it together. The
//! sender is never *recovered* from a signature: the signature is verified under the wallet's known public key, and the
//! address is derived from that key. One bit is left to the chain itself: the parity of the nonce's point, from which a
//! node recovers the sender, enters no signature equation.

use aws_lc_rs::{
    digest::{Digest, SHA256},
    encoding::AsDer,
    rand::SystemRandom,
    signature::{
        ECDSA_P256K1_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, ParsedPublicKey,
        UnparsedPublicKey,
    },
};
use sha3::{Digest as _, Keccak256};

/// What does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The bytes are not a signed EIP-1559 transaction in canonical RLP.
    #[error("not a signed EIP-1559 transaction")]
    NotATransaction,
    /// The text is not base58 of 64 bytes.
    #[error("not a Solana signature")]
    NotASignature,
    /// The public key is none.
    #[error("not a public key")]
    NotAPublicKey,
    /// The signature is not by this key over these bytes, or its s is not low (EIP-2).
    #[error("the signature does not verify")]
    WrongSignature,
}

/// What a signed EIP-1559 transaction says, after its signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EthereumTransaction {
    /// EIP-155.
    pub chain_id: u64,
    /// The sender's count.
    pub nonce: u64,
    /// The sender: the EIP-55 address of the key that the signature verified under.
    pub from: String,
    /// The receiver's EIP-55 address; `None` creates a contract.
    pub to: Option<String>,
    /// In wei.
    pub value: u128,
    /// The transaction's hash.
    pub hash: [u8; 32],
}

/// Takes a signed EIP-1559 transaction apart and verifies its signature under `public_key` (33 bytes, SEC1).
///
/// # Errors
/// [`Rejected`].
pub fn ethereum_transaction(raw: &[u8], public_key: &[u8]) -> Result<EthereumTransaction, Rejected> {
    let [0x02, rlp @ ..] = raw else { return Err(Rejected::NotATransaction) };
    let (fields, rest) = list(rlp)?;
    let spans = items(fields)?;
    let [chain_id, nonce, tip, fee, gas, to, value, data, access_list, parity, r, s] = spans[..] else {
        return Err(Rejected::NotATransaction);
    };
    if !rest.is_empty() || number(parity, 1)? > 1 {
        return Err(Rejected::NotATransaction);
    }
    let (_, _, _, _) = (number(tip, 16)?, number(fee, 16)?, number(gas, 8)?, string(data)?);
    list(access_list)?;
    // What is signed is the list without its last three items, after the same type byte.
    let unsigned: Vec<u8> = [chain_id, nonce, tip, fee, gas, to, value, data, access_list].concat();
    let digest = keccak256(&[&[0x02], &list_header(unsigned.len())[..], &unsigned].concat());
    verify_ecdsa(public_key, &digest, &scalar(r)?, &scalar(s)?)?;
    let to = match string(to)? {
        [] => None,
        account => Some(checksummed(account.try_into().map_err(|_| Rejected::NotATransaction)?)),
    };
    Ok(EthereumTransaction {
        chain_id: u64::try_from(number(chain_id, 8)?).map_err(|_| Rejected::NotATransaction)?,
        nonce: u64::try_from(number(nonce, 8)?).map_err(|_| Rejected::NotATransaction)?,
        from: ethereum_address(public_key)?,
        to,
        value: number(value, 16)?,
        hash: keccak256(raw),
    })
}

/// Verifies an Ed25519 signature, in base58, over a Solana message under `public_key` (32 bytes).
///
/// # Errors
/// [`Rejected`].
pub fn solana_message(message: &[u8], signature: &str, public_key: &[u8]) -> Result<(), Rejected> {
    let signature = bs58::decode(signature).into_vec().map_err(|_| Rejected::NotASignature)?;
    if signature.len() != 64 {
        return Err(Rejected::NotASignature);
    }
    if public_key.len() != 32 {
        return Err(Rejected::NotAPublicKey);
    }
    let key = UnparsedPublicKey::new(&ED25519, public_key);
    key.verify(message, &signature).map_err(|_| Rejected::WrongSignature)
}

/// Verifies an ECDSA signature over secp256k1 of a digest that is already there.
///
/// # Errors
/// [`Rejected::WrongSignature`], also for a high s; [`Rejected::NotAPublicKey`].
pub fn verify_ecdsa(public_key: &[u8], digest: &[u8; 32], r: &[u8; 32], s: &[u8; 32]) -> Result<(), Rejected> {
    if *s > HALF_ORDER {
        return Err(Rejected::WrongSignature);
    }
    // The algorithm's SHA-256 is not computed: the name only says that the digest has 32 bytes.
    let digest = Digest::import_less_safe(digest, &SHA256).map_err(|_| Rejected::WrongSignature)?;
    parse(public_key)?.verify_digest_sig(&digest, &[*r, *s].concat()).map_err(|_| Rejected::WrongSignature)
}

/// The EIP-55 address of a secp256k1 public key (33 bytes, SEC1).
///
/// # Errors
/// [`Rejected::NotAPublicKey`].
pub fn ethereum_address(public_key: &[u8]) -> Result<String, Rejected> {
    let der = parse(public_key)?.as_der().map_err(|_| Rejected::NotAPublicKey)?;
    // A SubjectPublicKeyInfo ends with the point (RFC 5480, section 2.2).
    let point = der.as_ref().last_chunk::<65>().filter(|point| point[0] == 4).ok_or(Rejected::NotAPublicKey)?;
    let hash = keccak256(&point[1..]);
    Ok(checksummed(hash.last_chunk().ok_or(Rejected::NotAPublicKey)?))
}

/// Half of the order of secp256k1, rounded down.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57, 0x6e,
    0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Whether `secret` is the private key of `public_key`: AWS-LC signs with the one, and verifies under the other.
///
/// # Errors
/// [`Rejected::NotAPublicKey`] if they do not belong together; [`Rejected::WrongSignature`].
pub fn is_private_key_of(secret: &[u8; 32], public_key: &[u8]) -> Result<(), Rejected> {
    let (public, other) = (parse(public_key)?, |_| Rejected::NotAPublicKey);
    let der = public.as_der().map_err(|_| Rejected::NotAPublicKey)?;
    let point = der.as_ref().last_chunk::<65>().ok_or(Rejected::NotAPublicKey)?;
    let alg = &ECDSA_P256K1_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(alg, secret, point).map_err(other)?;
    let wrong = |_| Rejected::WrongSignature;
    let signature = pair.sign(&SystemRandom::new(), b"halfkey judge").map_err(wrong)?;
    public.verify_sig(b"halfkey judge", signature.as_ref()).map_err(wrong)
}

fn parse(public_key: &[u8]) -> Result<ParsedPublicKey, Rejected> {
    if public_key.len() != 33 {
        return Err(Rejected::NotAPublicKey);
    }
    ParsedPublicKey::new(&ECDSA_P256K1_SHA256_FIXED, public_key).map_err(|_| Rejected::NotAPublicKey)
}

/// EIP-55: a letter is a capital where the hash of the lower-case address has 8 or more in its place.
fn checksummed(account: &[u8; 20]) -> String {
    let lower = hex::encode(account);
    let hash = hex::encode(keccak256(lower.as_bytes()));
    let cased = lower.chars().zip(hash.chars());
    let cased = cased.map(|(digit, hash)| if hash >= '8' { digit.to_ascii_uppercase() } else { digit });
    core::iter::once("0x".to_owned()).chain(cased.map(String::from)).collect()
}

/// An item of RLP with its header, its content, whether it is a list, and what follows it. Canonical forms only.
struct Item<'a> {
    whole: &'a [u8],
    content: &'a [u8],
    is_list: bool,
    rest: &'a [u8],
}

fn item(bytes: &[u8]) -> Result<Item<'_>, Rejected> {
    let bad = Rejected::NotATransaction;
    let first = *bytes.first().ok_or(bad)?;
    let (is_list, base) = if first >= 0xc0 { (true, 0xc0) } else { (false, 0x80) };
    let (header, length) = match first {
        0..=0x7f => (0, 1),
        _ if first - base <= 55 => (1, usize::from(first - base)),
        _ => {
            let digits = bytes.get(1..1 + usize::from(first - base - 55)).ok_or(bad)?;
            let length =
                digits.iter().try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add((*digit).into()));
            let length = length.ok_or(bad)?;
            if length <= 55 || digits[0] == 0 {
                return Err(bad);
            }
            (1 + digits.len(), length)
        }
    };
    let (whole, rest) = bytes.split_at_checked(header.checked_add(length).ok_or(bad)?).ok_or(bad)?;
    let content = &whole[header..];
    // A single byte below 0x80 is its own encoding.
    if first == 0x81 && content[0] < 0x80 {
        return Err(bad);
    }
    Ok(Item { whole, content, is_list, rest })
}

fn list(bytes: &[u8]) -> Result<(&[u8], &[u8]), Rejected> {
    let item = item(bytes)?;
    if item.is_list { Ok((item.content, item.rest)) } else { Err(Rejected::NotATransaction) }
}

fn items(mut bytes: &[u8]) -> Result<Vec<&[u8]>, Rejected> {
    let mut items = vec![];
    while !bytes.is_empty() {
        let item = item(bytes)?;
        items.push(item.whole);
        bytes = item.rest;
    }
    Ok(items)
}

fn string(bytes: &[u8]) -> Result<&[u8], Rejected> {
    let item = item(bytes)?;
    if item.is_list { Err(Rejected::NotATransaction) } else { Ok(item.content) }
}

/// A number without leading zeros, of at most `limit` bytes.
fn number(bytes: &[u8], limit: usize) -> Result<u128, Rejected> {
    let digits = string(bytes)?;
    if digits.len() > limit.min(16) || digits.first() == Some(&0) {
        return Err(Rejected::NotATransaction);
    }
    Ok(digits.iter().fold(0, |sum, digit| sum << 8 | u128::from(*digit)))
}

fn scalar(bytes: &[u8]) -> Result<[u8; 32], Rejected> {
    let digits = string(bytes)?;
    if digits.len() > 32 || digits.first() == Some(&0) {
        return Err(Rejected::NotATransaction);
    }
    let mut scalar = [0; 32];
    scalar[32 - digits.len()..].copy_from_slice(digits);
    Ok(scalar)
}

#[allow(clippy::cast_possible_truncation)] // each byte is masked or known to be small
fn list_header(length: usize) -> Vec<u8> {
    if length <= 55 {
        return vec![0xc0 + length as u8];
    }
    let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
    [&[0xf7 + digits.len() as u8], &digits[..]].concat()
}

/// Keccak-256, the hash of Ethereum. The one library part that the signing side uses as well: a wrong hash would make a
/// right signature fail here, never a wrong one pass.
#[must_use]
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
