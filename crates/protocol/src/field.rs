//! Scalars of both curves. Private to the crate: outside, a secret scalar has a role (`half.rs`).

use halfkey_envelope::{
    entropy::{Entropy, random},
    wallet::Curve,
};
use k256::elliptic_curve::{Field, PrimeField, ops::Reduce};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

/// A scalar; wiped by whoever holds it. Never zero where it comes from outside.
pub enum Scalar {
    Secp256k1(k256::Scalar),
    Ed25519(curve25519_dalek::Scalar),
}

impl Scalar {
    /// Parses 32 bytes: big-endian for secp256k1, little-endian for Ed25519; reduced and not zero.
    pub(crate) fn from_bytes(curve: Curve, bytes: &[u8]) -> Result<Self> {
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(bytes.try_into().map_err(|_| Error::InvalidScalar)?);
        let scalar = match curve {
            Curve::Secp256k1 => Option::from(k256::Scalar::from_repr((*bytes).into())).map(Self::Secp256k1),
            Curve::Ed25519 => Option::from(curve25519_dalek::Scalar::from_canonical_bytes(*bytes)).map(Self::Ed25519),
        };
        scalar.filter(|scalar: &Self| !scalar.is_zero()).ok_or(Error::InvalidScalar)
    }

    /// Uniform, not zero.
    pub(crate) fn random(curve: Curve, entropy: &mut dyn Entropy) -> Self {
        loop {
            let scalar = match curve {
                // Rejection: a draw is out of range once in 2^128.
                Curve::Secp256k1 => Self::from_bytes(curve, random::<32>(entropy).as_ref()),
                Curve::Ed25519 => {
                    Ok(Self::Ed25519(curve25519_dalek::Scalar::from_bytes_mod_order_wide(&random::<64>(entropy))))
                }
            };
            match scalar {
                Ok(scalar) if !scalar.is_zero() => return scalar,
                _ => {}
            }
        }
    }

    /// A Fiat–Shamir challenge: 32 hashed bytes, reduced.
    pub(crate) fn challenge(curve: Curve, hash: [u8; 32]) -> Self {
        match curve {
            Curve::Secp256k1 => Self::Secp256k1(<k256::Scalar as Reduce<k256::FieldBytes>>::reduce(&hash.into())),
            Curve::Ed25519 => Self::Ed25519(curve25519_dalek::Scalar::from_bytes_mod_order(hash)),
        }
    }

    pub(crate) const fn curve(&self) -> Curve {
        match self {
            Self::Secp256k1(_) => Curve::Secp256k1,
            Self::Ed25519(_) => Curve::Ed25519,
        }
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(match self {
            Self::Secp256k1(scalar) => scalar.to_repr().into(),
            Self::Ed25519(scalar) => scalar.to_bytes(),
        })
    }

    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Secp256k1(scalar) => bool::from(Field::is_zero(scalar)),
            Self::Ed25519(scalar) => bool::from(scalar.ct_eq(&curve25519_dalek::Scalar::ZERO)),
        }
    }

    /// `self + other`; a zero sum is refused, since it would be a share that everybody knows.
    pub(crate) fn add(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a + b, |a, b| a + b)
    }

    /// `self − other`; zero refused.
    pub(crate) fn sub(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a - b, |a, b| a - b)
    }

    /// `self · other`; zero refused.
    pub(crate) fn mul(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a * b, |a, b| a * b)
    }

    fn combine(
        &self,
        other: &Self,
        secp256k1: impl Fn(k256::Scalar, k256::Scalar) -> k256::Scalar,
        ed25519: impl Fn(curve25519_dalek::Scalar, curve25519_dalek::Scalar) -> curve25519_dalek::Scalar,
    ) -> Result<Self> {
        let result = match (self, other) {
            (Self::Secp256k1(a), Self::Secp256k1(b)) => Self::Secp256k1(secp256k1(*a, *b)),
            (Self::Ed25519(a), Self::Ed25519(b)) => Self::Ed25519(ed25519(*a, *b)),
            _ => return Err(Error::InvalidContext),
        };
        if result.is_zero() { Err(Error::InvalidScalar) } else { Ok(result) }
    }

    /// A copy in another role; both are wiped on drop.
    pub(crate) const fn duplicate(&self) -> Self {
        match self {
            Self::Secp256k1(scalar) => Self::Secp256k1(*scalar),
            Self::Ed25519(scalar) => Self::Ed25519(*scalar),
        }
    }
}

impl Zeroize for Scalar {
    fn zeroize(&mut self) {
        match self {
            Self::Secp256k1(scalar) => scalar.zeroize(),
            Self::Ed25519(scalar) => scalar.zeroize(),
        }
    }
}

impl Drop for Scalar {
    fn drop(&mut self) {
        self.zeroize();
    }
}

/// The three kinds of halves, so that no ceremony takes one for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `SigningShare`.
    Signing,
    /// `ClientBackupShare`.
    ClientBackup,
    /// `CustodianBackupShare`.
    CustodianBackup,
}

/// What a role type is made of; nobody outside can implement it.
pub trait Secret {
    /// The role.
    const KIND: Kind;
    /// Gives a scalar its role.
    fn wrap(scalar: Scalar) -> Self;
    /// The scalar inside.
    fn scalar(&self) -> &Scalar;
}
