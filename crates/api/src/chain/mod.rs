//! Public keys as chains know them, and the address of a wallet on each chain.

pub mod bitcoin;
pub mod ethereum;
pub mod solana;

use core::fmt;

use halfkey_envelope::wallet::Curve;
use serde::{Deserialize, Serialize};

/// The bytes are not a public key that may be used: wrong length, not canonical, not on the curve, the identity, or
/// (Ed25519) with a torsion component (DECISIONS.md D2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid public key")]
pub struct InvalidPublicKey;

/// A valid secp256k1 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secp256k1Key(k256::ecdsa::VerifyingKey);

impl Secp256k1Key {
    /// From 33 bytes, SEC1 compressed.
    ///
    /// # Errors
    /// [`InvalidPublicKey`] for every other form.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPublicKey> {
        if bytes.len() != 33 {
            return Err(InvalidPublicKey);
        }
        k256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).map(Self).map_err(|_| InvalidPublicKey)
    }

    /// SEC1 compressed.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 33] {
        let mut bytes = [0; 33];
        bytes.copy_from_slice(self.0.to_sec1_point(true).as_bytes());
        bytes
    }

    /// SEC1 uncompressed without its tag: x ‖ y.
    pub(crate) fn coordinates(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&self.0.to_sec1_point(false).as_bytes()[1..]);
        bytes
    }

    pub(crate) const fn verifying_key(&self) -> &k256::ecdsa::VerifyingKey {
        &self.0
    }
}

impl fmt::Debug for Secp256k1Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secp256k1Key({})", hex::encode(self.to_bytes()))
    }
}

/// A valid Ed25519 public key: canonical, of prime order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ed25519Key(ed25519_dalek::VerifyingKey);

impl Ed25519Key {
    /// From its 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// [`InvalidPublicKey`] for a non-canonical encoding and for points outside the prime-order group.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPublicKey> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| InvalidPublicKey)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| InvalidPublicKey)?;
        let point = key.to_edwards();
        let canonical = point.compress().as_bytes() == bytes;
        if canonical && !key.is_weak() && point.is_torsion_free() { Ok(Self(key)) } else { Err(InvalidPublicKey) }
    }

    /// The 32 bytes of RFC 8032.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub(crate) const fn verifying_key(&self) -> &ed25519_dalek::VerifyingKey {
        &self.0
    }
}

impl fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Key({})", hex::encode(self.to_bytes()))
    }
}

/// The public key of a wallet, valid by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicKey {
    /// Signs for Ethereum and Bitcoin.
    Secp256k1(Secp256k1Key),
    /// Signs for Solana.
    Ed25519(Ed25519Key),
}

impl PublicKey {
    /// From the bytes that every wire of Halfkey carries: 33 bytes SEC1 compressed, or 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// [`InvalidPublicKey`], see there.
    pub fn parse(curve: Curve, bytes: &[u8]) -> Result<Self, InvalidPublicKey> {
        match curve {
            Curve::Secp256k1 => Secp256k1Key::parse(bytes).map(Self::Secp256k1),
            Curve::Ed25519 => Ed25519Key::parse(bytes).map(Self::Ed25519),
        }
    }

    /// Its curve.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self {
            Self::Secp256k1(_) => Curve::Secp256k1,
            Self::Ed25519(_) => Curve::Ed25519,
        }
    }

    /// As on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Secp256k1(key) => key.to_bytes().to_vec(),
            Self::Ed25519(key) => key.to_bytes().to_vec(),
        }
    }
}

/// What the owner of a wallet calls its addresses: one for each chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Addresses {
    /// EIP-55.
    pub ethereum: String,
    /// Pay to witness public key hash, bech32 (BIP-173).
    pub bitcoin: String,
    /// base58.
    pub solana: String,
}

impl Addresses {
    /// The addresses of a wallet's two public keys.
    #[must_use]
    pub fn of(secp256k1: &Secp256k1Key, ed25519: &Ed25519Key, network: bitcoin::Network) -> Self {
        Self {
            ethereum: ethereum::address(secp256k1),
            bitcoin: bitcoin::address(secp256k1, network),
            solana: solana::address(ed25519),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    #[test]
    fn bad_secp256k1_keys_are_refused() {
        let good = bytes("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
        assert_eq!(Secp256k1Key::parse(&good).unwrap().to_bytes().to_vec(), good);
        let uncompressed = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                            483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
        let x_is_p = "02fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
        let not_on_curve = "020000000000000000000000000000000000000000000000000000000000000005";
        for bad in [
            "",
            "00",
            uncompressed,
            x_is_p,
            not_on_curve,
            &hex::encode(&good[..32]),
            &hex::encode([&good[..], &[0]].concat()),
        ] {
            assert_eq!(Secp256k1Key::parse(&bytes(bad)), Err(InvalidPublicKey), "{bad}");
        }
    }

    #[test]
    fn bad_ed25519_keys_are_refused() {
        // RFC 8032, section 7.1, test 1.
        let good = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(Ed25519Key::parse(&good).unwrap().to_bytes().to_vec(), good);
        let identity = "0100000000000000000000000000000000000000000000000000000000000000";
        let order_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa";
        let y_is_p_plus_1 = "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
        let minus_zero = "0100000000000000000000000000000000000000000000000000000000000080";
        for bad in [
            "",
            identity,
            order_8,
            y_is_p_plus_1,
            minus_zero,
            &hex::encode(&good[..31]),
            &hex::encode([&good[..], &[0]].concat()),
        ] {
            assert_eq!(Ed25519Key::parse(&bytes(bad)), Err(InvalidPublicKey), "{bad}");
        }
        // Of mixed order: the good key plus a point of order 8.
        let point = ed25519_dalek::VerifyingKey::from_bytes(&good.try_into().unwrap()).unwrap().to_edwards();
        let small = ed25519_dalek::VerifyingKey::from_bytes(&bytes(order_8).try_into().unwrap()).unwrap().to_edwards();
        assert_eq!(Ed25519Key::parse((point + small).compress().as_bytes()), Err(InvalidPublicKey));
    }
}
