//! Points of both curves: a value that exists is on the curve, of prime order and not the identity.

use core::fmt;

use curve25519_dalek::{
    edwards::{CompressedEdwardsY, EdwardsPoint},
    traits::{Identity, IsIdentity},
};
use halfkey_envelope::wallet::Curve;
use k256::{
    AffinePoint, ProjectivePoint,
    elliptic_curve::{
        Group,
        ops::MulByGeneratorVartime,
        sec1::{FromSec1Point, ToSec1Point},
    },
};

use crate::{
    error::{Error, Result},
    field::Scalar,
};

/// A point other than the identity, in the group of prime order of its curve.
///
/// Encoded as SEC1 compressed (33 bytes) or as RFC 8032 (32 bytes), canonical only (DECISIONS.md D2).
#[derive(Clone, Copy)]
pub struct Point {
    group: Group2,
    /// The encoding that it was read from, zero-padded: every hash over a record asks for it again, and making it costs
    /// an inversion.
    encoding: Option<[u8; 33]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group2 {
    Secp256k1(ProjectivePoint),
    Ed25519(EdwardsPoint),
}

impl Point {
    /// Parses and validates. Refuses wrong lengths, uncompressed forms, coordinates that are not reduced, points off
    /// the curve, of small or mixed order, and the identity (PROTOCOL.md 2 trap 5).
    ///
    /// # Errors
    /// [`Error::InvalidPoint`].
    pub fn from_bytes(curve: Curve, bytes: &[u8]) -> Result<Self> {
        let group = match curve {
            Curve::Secp256k1 => secp256k1(bytes),
            Curve::Ed25519 => ed25519(bytes),
        };
        // Of the canonical encodings only: what was read is what `to_bytes` would make.
        Ok(Self { encoding: padded(bytes), ..Self::new(group.ok_or(Error::InvalidPoint)?)? })
    }

    /// As [`Self::from_bytes`], of an encoding that the caller itself made of a valid point: its order is not checked
    /// again.
    ///
    /// # Errors
    /// [`Error::InvalidPoint`].
    pub(crate) fn from_own_bytes(curve: Curve, bytes: &[u8]) -> Result<Self> {
        let group = match curve {
            Curve::Secp256k1 => secp256k1(bytes),
            Curve::Ed25519 => decompressed(bytes).map(Group2::Ed25519),
        };
        Self::new(group.ok_or(Error::InvalidPoint)?)
    }

    /// The canonical encoding: 33 or 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match (self.group, &self.encoding) {
            (Group2::Secp256k1(_), Some(bytes)) => bytes.to_vec(),
            (Group2::Ed25519(_), Some(bytes)) => bytes[..32].to_vec(),
            (Group2::Secp256k1(point), None) => point.to_affine().to_sec1_point(true).as_bytes().to_vec(),
            (Group2::Ed25519(point), None) => point.compress().to_bytes().to_vec(),
        }
    }

    /// The same, with its encoding at hand: for a point that is hashed more than once.
    pub(crate) fn encoded(self) -> Self {
        let encoding = self.encoding.or_else(|| padded(&self.to_bytes()));
        Self { encoding, ..self }
    }

    /// SEC1 uncompressed (65 bytes), as Ethereum addresses hash it; `None` on Ed25519.
    #[must_use]
    pub fn to_uncompressed(&self) -> Option<Vec<u8>> {
        match self.group {
            Group2::Secp256k1(point) => Some(point.to_affine().to_sec1_point(false).as_bytes().to_vec()),
            Group2::Ed25519(_) => None,
        }
    }

    /// The curve it lies on.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self.group {
            Group2::Secp256k1(_) => Curve::Secp256k1,
            Group2::Ed25519(_) => Curve::Ed25519,
        }
    }

    /// `scalar · G`. The scalar is not zero, so this is no identity.
    pub(crate) fn of(scalar: &Scalar) -> Self {
        let group = match scalar {
            Scalar::Secp256k1(s) => Group2::Secp256k1(ProjectivePoint::mul_by_generator(s)),
            Scalar::Ed25519(s) => Group2::Ed25519(EdwardsPoint::mul_base(s)),
        };
        Self { group, encoding: None }
    }

    /// The sum of two points of one curve.
    ///
    /// # Errors
    /// [`Error::InvalidPoint`] if it is the identity or the curves differ.
    pub fn add(&self, other: &Self) -> Result<Self> {
        match (self.group, other.group) {
            (Group2::Secp256k1(a), Group2::Secp256k1(b)) => Self::new(Group2::Secp256k1(a + b)),
            (Group2::Ed25519(a), Group2::Ed25519(b)) => Self::new(Group2::Ed25519(a + b)),
            _ => Err(Error::InvalidPoint),
        }
    }

    /// The difference of two points of one curve: a peer's point is `X − A_own` (PROTOCOL.md 4).
    ///
    /// # Errors
    /// [`Error::InvalidPoint`] if it is the identity or the curves differ.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        match (self.group, other.group) {
            (Group2::Secp256k1(a), Group2::Secp256k1(b)) => Self::new(Group2::Secp256k1(a - b)),
            (Group2::Ed25519(a), Group2::Ed25519(b)) => Self::new(Group2::Ed25519(a - b)),
            _ => Err(Error::InvalidPoint),
        }
    }

    /// `z·G − c·self`: the commitment of a Schnorr proof. All of it is public, so the time may vary.
    ///
    /// # Errors
    /// [`Error::InvalidPoint`] if it is the identity or the curves differ.
    pub(crate) fn commitment_of(&self, z: &Scalar, challenge: &Scalar) -> Result<Self> {
        match (self.group, z, challenge) {
            (Group2::Secp256k1(b), Scalar::Secp256k1(z), Scalar::Secp256k1(c)) => {
                let commitment = ProjectivePoint::mul_by_generator_and_mul_add_vartime(z, &-c, &b);
                Self::new(Group2::Secp256k1(commitment))
            }
            (Group2::Ed25519(b), Scalar::Ed25519(z), Scalar::Ed25519(c)) => {
                Self::new(Group2::Ed25519(EdwardsPoint::vartime_double_scalar_mul_basepoint(&-c, &b, z)))
            }
            _ => Err(Error::InvalidPoint),
        }
    }

    pub(crate) fn new(point: Group2) -> Result<Self> {
        let identity = match point {
            Group2::Secp256k1(p) => bool::from(Group::is_identity(&p)),
            Group2::Ed25519(p) => p.is_identity() || p == EdwardsPoint::identity(),
        };
        if identity { Err(Error::InvalidPoint) } else { Ok(Self { group: point, encoding: None }) }
    }

    pub(crate) const fn group(&self) -> &Group2 {
        &self.group
    }
}

impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        self.group == other.group
    }
}

impl Eq for Point {}

fn padded(bytes: &[u8]) -> Option<[u8; 33]> {
    let mut padded = [0; 33];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(padded)
}

fn secp256k1(bytes: &[u8]) -> Option<Group2> {
    let [2 | 3, ..] = bytes else { return None };
    if bytes.len() != 33 {
        return None;
    }
    let encoded = k256::Sec1Point::from_bytes(bytes).ok()?;
    let affine = Option::<AffinePoint>::from(AffinePoint::from_sec1_point(&encoded))?;
    Some(Group2::Secp256k1(affine.into()))
}

fn ed25519(bytes: &[u8]) -> Option<Group2> {
    let point = decompressed(bytes)?;
    let canonical = point.compress().as_bytes() == bytes;
    (canonical && point.is_torsion_free()).then_some(Group2::Ed25519(point))
}

fn decompressed(bytes: &[u8]) -> Option<EdwardsPoint> {
    CompressedEdwardsY::from_slice(bytes).ok()?.decompress()
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Point({}:{})", self.curve(), hex::encode(self.to_bytes()))
    }
}
