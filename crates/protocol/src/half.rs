//! The halves of a wallet's key: one secret type per role.

use core::fmt;

use ed25519_dalek::{
    VerifyingKey,
    hazmat::{ExpandedSecretKey, raw_sign},
};
use halfkey_envelope::{
    entropy::{Entropy, random},
    wallet::Curve,
};
use sha2_010::Sha512;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    field::{Kind, Scalar, Secret},
    point::Point,
};

/// One party's additive part of a wallet's private key. Implemented by [`SigningShare`], [`ClientBackupShare`] and
/// [`CustodianBackupShare`] alone.
pub trait Half: Secret + Sized {
    /// Parses a canonical, non-zero scalar: 32 bytes, big-endian on secp256k1, little-endian on Ed25519.
    ///
    /// # Errors
    /// [`Error::InvalidScalar`].
    fn from_bytes(curve: Curve, bytes: &[u8; 32]) -> Result<Self> {
        Scalar::from_bytes(curve, bytes).map(Self::wrap)
    }

    /// The scalar's 32 bytes, wiped on drop: for sealing only.
    fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.scalar().to_bytes()
    }

    /// The public point of the half.
    fn point(&self) -> Point {
        Point::of(self.scalar())
    }

    /// The half's curve.
    fn curve(&self) -> Curve {
        self.scalar().curve()
    }
}

macro_rules! halves {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name(Scalar);

        impl Secret for $name {
            const KIND: Kind = Kind::$kind;

            fn wrap(scalar: Scalar) -> Self {
                Self(scalar)
            }

            fn scalar(&self) -> &Scalar {
                &self.0
            }
        }

        impl Half for $name {}

        impl $name {
            /// Whether both are the same scalar, in constant time.
            #[must_use]
            pub fn ct_eq(&self, other: &Self) -> bool {
                self.curve() == other.curve() && bool::from(self.to_bytes().ct_eq(other.to_bytes().as_ref()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

halves! {
    /// A half of a signing pair: the device's or the server's.
    SigningShare = Signing;
    /// The device's half of a backup pair: lives in the envelope only.
    ClientBackupShare = ClientBackup;
    /// The custodian's half of a backup pair.
    CustodianBackupShare = CustodianBackup;
}

/// Adds both halves of a pair and checks them against the wallet's public key: the *eject* of PROTOCOL.md 4.1.
/// The result is the private key itself: 32 bytes, big-endian on secp256k1; on Ed25519 a little-endian *scalar*,
/// not a seed (PROTOCOL.md 4.8).
///
/// # Errors
/// [`Error::ShareMismatch`] if they are not the two halves of `public_key`.
pub fn danger_combine(first: &impl Half, second: &impl Half, public_key: &Point) -> Result<Zeroizing<[u8; 32]>> {
    let sum = first.scalar().add(second.scalar()).map_err(|_| Error::ShareMismatch)?;
    if Point::of(&sum) == *public_key { Ok(sum.to_bytes()) } else { Err(Error::ShareMismatch) }
}

/// The public point of an ejected private key.
///
/// # Errors
/// [`Error::InvalidScalar`] unless it is canonical and not zero.
pub fn danger_scalar_point(curve: Curve, key: &[u8; 32]) -> Result<Point> {
    Ok(Point::of(&Scalar::from_bytes(curve, key)?))
}

/// Signs with an ejected Ed25519 scalar, which has no seed and so no prefix of its own: a fresh random one takes its place
/// (PROTOCOL.md 4.8). The result is an ordinary signature of RFC 8032, verified before it is returned.
///
/// # Errors
/// [`Error::InvalidScalar`]; [`Error::Internal`] if the signature does not verify.
pub fn danger_sign_with_scalar(scalar: &[u8; 32], message: &[u8], entropy: &mut dyn Entropy) -> Result<[u8; 64]> {
    let Scalar::Ed25519(scalar) = &Scalar::from_bytes(Curve::Ed25519, scalar)? else { return Err(Error::Internal) };
    let key = ExpandedSecretKey { scalar: *scalar, hash_prefix: *random::<32>(entropy) };
    let public = VerifyingKey::from(&key);
    let signature = raw_sign::<Sha512>(&key, message, &public);
    public.verify_strict(message, &signature).map_err(|_| Error::Internal)?;
    Ok(signature.to_bytes())
}
