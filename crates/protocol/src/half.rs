//! The halves of a wallet's key: one secret type per role.

use core::fmt;

use halfkey_envelope::wallet::Curve;
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
