//! Proofs of knowledge of a half: one message, Fiat–Shamir (PROTOCOL.md 4).
//!
//! An interactive Schnorr proof with its state in a database leaks the share on a retry: two challenges for one
//! commitment give `b = (z − z′) / (c − c′)`. Here the commitment's secret is drawn and dropped inside one call, and
//! nobody chooses the challenge.

use halfkey_envelope::{entropy::Entropy, hash::h, id::PairId};

use crate::{
    error::{Error, Result},
    field::Scalar,
    half::Half,
    point::Point,
};

const TAG: &str = "halfkey/proof/v1/challenge";

/// What a proof is for; a proof made for one purpose verifies for no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// The half of a new wallet, from the copy read back from storage.
    Create,
    /// The half that a `reshare` made (step 5 of PROTOCOL.md 4.2).
    Ack,
    /// Proof of possession: opens the recovery and enrols the new device key (METHODS.md G).
    Possession,
    /// A drill (METHODS.md H, L2 and L3).
    Verify,
    /// Eject.
    Eject,
}

impl Purpose {
    /// The text that stands for the purpose in the challenge.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Ack => "ack",
            Self::Possession => "possession",
            Self::Verify => "verify",
            Self::Eject => "eject",
        }
    }
}

/// What a proof is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// What for.
    pub purpose: Purpose,
    /// The ceremony's context hash or session id.
    pub context: &'a [u8; 32],
    /// The pair.
    pub pair: PairId,
    /// 32 fresh bytes of the verifier, single use.
    pub nonce: &'a [u8; 32],
}

impl Statement<'_> {
    fn challenge(&self, point: &Point, commitment: &[u8]) -> Scalar {
        let hash = h(
            TAG,
            &[
                self.purpose.as_str().as_bytes(),
                self.context,
                self.pair.as_bytes(),
                self.nonce,
                &point.to_bytes(),
                commitment,
            ],
        );
        Scalar::challenge(point.curve(), hash)
    }
}

/// Proves knowledge of `half`: `R ‖ z`, 65 bytes on secp256k1 and 64 on Ed25519.
///
/// # Errors
/// [`Error::Internal`], with probability 2⁻²⁵⁰.
pub fn prove(statement: &Statement<'_>, half: &impl Half, entropy: &mut dyn Entropy) -> Result<Vec<u8>> {
    prove_for(statement, half, &half.point(), entropy)
}

/// As [`prove`], by a caller that has just compared `point` with the point of `half`.
pub(crate) fn prove_for(
    statement: &Statement<'_>,
    half: &impl Half,
    point: &Point,
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>> {
    let r = Scalar::random(half.curve(), entropy);
    let mut proof = Point::of(&r).to_bytes();
    let c = statement.challenge(point, &proof);
    let z = c.mul(half.scalar()).and_then(|product| product.add(&r)).map_err(|_| Error::Internal)?;
    proof.extend_from_slice(z.to_bytes().as_ref());
    Ok(proof)
}

/// Verifies a proof for the half whose point is `point`, **from the verifier's own record**: `R = z·G − c·B`.
///
/// R is not parsed. The right side lies in the group of prime order, and its one canonical encoding is compared: no other
/// point and no other encoding can be equal to it.
///
/// # Errors
/// [`Error::InvalidProof`].
pub fn verify(statement: &Statement<'_>, point: &Point, proof: &[u8]) -> Result<()> {
    let split = proof.len().checked_sub(32).ok_or(Error::InvalidProof)?;
    let (commitment, z) = proof.split_at(split);
    let z = Scalar::from_bytes(point.curve(), z).map_err(|_| Error::InvalidProof)?;
    let c = statement.challenge(point, commitment);
    let expected = point.commitment_of(&z, &c).map_err(|_| Error::InvalidProof)?;
    if expected.to_bytes() == commitment { Ok(()) } else { Err(Error::InvalidProof) }
}
