//! Arithmetic-true groups without oblivious transfer (DECISIONS.md D30): shares add up, points follow, nothing else.

use std::fmt::Debug;

use super::rng::Rng;

/// A prime-order group in which the simulation shares keys.
pub trait Group: Copy + PartialEq + Debug + 'static {
    /// A share.
    type Scalar: Copy + PartialEq + Debug;
    /// Its public point.
    type Point: Copy + PartialEq + Debug;

    /// A uniform scalar.
    fn random(rng: &mut Rng) -> Self::Scalar;
    /// A scalar from a challenge.
    fn scalar(n: u64) -> Self::Scalar;
    /// `a + b`.
    fn add(a: Self::Scalar, b: Self::Scalar) -> Self::Scalar;
    /// `a − b`.
    fn sub(a: Self::Scalar, b: Self::Scalar) -> Self::Scalar;
    /// `a · b`.
    fn mul(a: Self::Scalar, b: Self::Scalar) -> Self::Scalar;
    /// `s · G`.
    fn point(s: Self::Scalar) -> Self::Point;
    /// `A + B`.
    fn join(a: Self::Point, b: Self::Point) -> Self::Point;
    /// `s · A`.
    fn times(a: Self::Point, s: Self::Scalar) -> Self::Point;
    /// A short fingerprint, for commitments and challenges.
    fn print(a: Self::Point) -> u64;
}

/// The squares modulo the safe prime `2q + 1` of 32 bits: tens of thousands of schedules in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Small;

const Q: u64 = 2_147_483_543;
const P: u64 = 2 * Q + 1;

impl Group for Small {
    type Scalar = u64;
    type Point = u64;

    fn random(rng: &mut Rng) -> u64 {
        rng.next() % Q
    }

    fn scalar(n: u64) -> u64 {
        n % Q
    }

    fn add(a: u64, b: u64) -> u64 {
        (a + b) % Q
    }

    fn sub(a: u64, b: u64) -> u64 {
        (a + Q - b) % Q
    }

    fn mul(a: u64, b: u64) -> u64 {
        a * b % Q
    }

    fn point(s: u64) -> u64 {
        Self::times(4, s)
    }

    fn join(a: u64, b: u64) -> u64 {
        a * b % P
    }

    fn times(a: u64, s: u64) -> u64 {
        let (mut base, mut exponent, mut out) = (a, s, 1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                out = out * base % P;
            }
            base = base * base % P;
            exponent >>= 1;
        }
        out
    }

    fn print(a: u64) -> u64 {
        a
    }
}

/// secp256k1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Secp256k1;

impl Group for Secp256k1 {
    type Scalar = k256::Scalar;
    type Point = k256::ProjectivePoint;

    fn random(rng: &mut Rng) -> k256::Scalar {
        (0..4).fold(k256::Scalar::ZERO, |sum, _| {
            let shift = k256::Scalar::from(u64::MAX) + k256::Scalar::ONE;
            sum * shift + k256::Scalar::from(rng.next())
        })
    }

    fn scalar(n: u64) -> k256::Scalar {
        k256::Scalar::from(n)
    }

    fn add(a: k256::Scalar, b: k256::Scalar) -> k256::Scalar {
        a + b
    }

    fn sub(a: k256::Scalar, b: k256::Scalar) -> k256::Scalar {
        a - b
    }

    fn mul(a: k256::Scalar, b: k256::Scalar) -> k256::Scalar {
        a * b
    }

    fn point(s: k256::Scalar) -> k256::ProjectivePoint {
        k256::ProjectivePoint::GENERATOR * s
    }

    fn join(a: k256::ProjectivePoint, b: k256::ProjectivePoint) -> k256::ProjectivePoint {
        a + b
    }

    fn times(a: k256::ProjectivePoint, s: k256::Scalar) -> k256::ProjectivePoint {
        a * s
    }

    fn print(a: k256::ProjectivePoint) -> u64 {
        use k256::elliptic_curve::group::GroupEncoding;
        super::rng::mix(&a.to_affine().to_bytes())
    }
}

/// The prime-order subgroup of Curve25519.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ed25519;

impl Group for Ed25519 {
    type Scalar = curve25519_dalek::Scalar;
    type Point = curve25519_dalek::EdwardsPoint;

    fn random(rng: &mut Rng) -> Self::Scalar {
        let mut bytes = [0; 64];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&rng.next().to_le_bytes()));
        Self::Scalar::from_bytes_mod_order_wide(&bytes)
    }

    fn scalar(n: u64) -> Self::Scalar {
        Self::Scalar::from(n)
    }

    fn add(a: Self::Scalar, b: Self::Scalar) -> Self::Scalar {
        a + b
    }

    fn sub(a: Self::Scalar, b: Self::Scalar) -> Self::Scalar {
        a - b
    }

    fn mul(a: Self::Scalar, b: Self::Scalar) -> Self::Scalar {
        a * b
    }

    fn point(s: Self::Scalar) -> Self::Point {
        curve25519_dalek::EdwardsPoint::mul_base(&s)
    }

    fn join(a: Self::Point, b: Self::Point) -> Self::Point {
        a + b
    }

    fn times(a: Self::Point, s: Self::Scalar) -> Self::Point {
        a * s
    }

    fn print(a: Self::Point) -> u64 {
        super::rng::mix(a.compress().as_bytes())
    }
}
