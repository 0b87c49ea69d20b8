//! Keys and two-party signatures on secp256k1 without oblivious transfer, for schedules by the thousand: dealt halves,
//! and a Schnorr signature whose two parts add up.

use halfkey_envelope::{hash::h, wallet::Curve};
use halfkey_protocol::{Half as _, PairPublic, Point, SigningParty, SigningShare};
use k256::{
    ProjectivePoint, PublicKey, Scalar,
    elliptic_curve::{PrimeField, ops::Reduce, sec1::ToSec1Point},
};

use super::{Stopped, fresh, part};
use crate::sim::rng::Rng;

type Parts = Vec<Vec<u8>>;

/// A device between request and answer.
pub struct Signer {
    nonce: Scalar,
    half: Scalar,
    key: Point,
    message: Vec<u8>,
}

pub(super) fn share(rng: &mut Rng) -> SigningShare {
    let bytes = reduced(&fresh(rng)).to_bytes();
    SigningShare::from_bytes(Curve::Secp256k1, &bytes.into()).expect("not zero")
}

pub(super) fn record(device: &Point, server: &Point, chain_code: [u8; 32]) -> Result<PairPublic, Stopped> {
    Ok(PairPublic::new(device.add(server)?, chain_code, *device, *server)?)
}

pub(super) fn reduced(bytes: &[u8; 32]) -> Scalar {
    <Scalar as Reduce<k256::FieldBytes>>::reduce(&(*bytes).into())
}

/// A scalar that is reduced already.
pub(super) fn parse(bytes: &[u8; 32]) -> Scalar {
    Option::from(Scalar::from_repr((*bytes).into())).expect("a reduced scalar")
}

impl Signer {
    pub(super) fn start(party: &SigningParty, message: Vec<u8>, rng: &mut Rng) -> (Self, Parts) {
        let nonce = reduced(&fresh(rng));
        let request = vec![bytes_of(&(ProjectivePoint::GENERATOR * nonce))];
        let half = parse(&party.share().to_bytes());
        (Self { nonce, half, key: party.public().public_key(), message }, request)
    }

    pub(super) fn finish(self, answer: &Parts) -> Result<Vec<u8>, Stopped> {
        let (r, z) = (part(answer, 0)?, part(answer, 1)?);
        let z = scalar(z)? + self.nonce + challenge(r, &self.key, &self.message) * self.half;
        let signature = [r, &z.to_bytes()].concat();
        if holds(&self.key, &self.message, &signature) { Ok(signature) } else { Err(Stopped::Bad) }
    }
}

pub(super) fn answer(party: &SigningParty, message: &[u8], request: &Parts, rng: &mut Rng) -> Result<Parts, Stopped> {
    let nonce = reduced(&fresh(rng));
    let r = bytes_of(&(point(part(request, 0)?)? + ProjectivePoint::GENERATOR * nonce));
    let c = challenge(&r, &party.public().public_key(), message);
    let z = nonce + c * parse(&party.share().to_bytes());
    Ok(vec![r, z.to_bytes().to_vec()])
}

pub(super) fn holds(key: &Point, message: &[u8], signature: &[u8]) -> bool {
    let checked = || {
        let (r, z) = signature.split_at_checked(33).ok_or(Stopped::Bad)?;
        let expected = point(r)? + point(&key.to_bytes())? * challenge(r, key, message);
        Ok::<_, Stopped>(ProjectivePoint::GENERATOR * scalar(z)? == expected)
    };
    checked().unwrap_or(false)
}

fn challenge(r: &[u8], key: &Point, message: &[u8]) -> Scalar {
    reduced(&h("halfkey/simulation/v1/challenge", &[r, &key.to_bytes(), message]))
}

fn scalar(bytes: &[u8]) -> Result<Scalar, Stopped> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| Stopped::Bad)?;
    Option::from(Scalar::from_repr(bytes.into())).ok_or(Stopped::Bad)
}

fn point(bytes: &[u8]) -> Result<ProjectivePoint, Stopped> {
    Ok(PublicKey::from_sec1_bytes(bytes).map_err(|_| Stopped::Bad)?.to_projective())
}

fn bytes_of(point: &ProjectivePoint) -> Vec<u8> {
    point.to_affine().to_sec1_point(true).as_bytes().to_vec()
}
