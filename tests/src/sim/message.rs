//! What travels in the two queues.

use halfkey_envelope::id::{BackupId, DeviceId};
use halfkey_protocol::lifecycle::{PairRef, PairState};

use super::{
    arithmetic::Group,
    rng::{Rng, mix_all},
};

/// A split of one dealer's share for two recipients, with its commitment (PROTOCOL.md 4.2, step 1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Split<G: Group> {
    pub s1: G::Scalar,
    pub s2: G::Scalar,
    pub salt: u64,
}

impl<G: Group> Split<G> {
    pub(super) fn of(share: G::Scalar, rng: &mut Rng) -> Self {
        let s1 = G::random(rng);
        Self { s1, s2: G::sub(share, s1), salt: rng.next() }
    }

    pub(super) fn commitment(&self) -> u64 {
        commitment::<G>(G::point(self.s1), G::point(self.s2), self.salt)
    }
}

pub(super) fn commitment<G: Group>(p1: G::Point, p2: G::Point, salt: u64) -> u64 {
    mix_all(&[G::print(p1), G::print(p2), salt])
}

/// A one-message proof of knowledge of a share, bound to a pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof<G: Group> {
    pub r: G::Point,
    pub z: G::Scalar,
}

impl<G: Group> Proof<G> {
    pub(super) fn new(share: G::Scalar, pair: PairRef, rng: &mut Rng) -> Self {
        let nonce = G::random(rng);
        let r = G::point(nonce);
        let c = challenge::<G>(r, G::point(share), tag(pair));
        Self { r, z: G::add(nonce, G::mul(c, share)) }
    }

    pub(super) fn holds(&self, point: G::Point, pair: PairRef) -> bool {
        signature_holds::<G>(self.r, self.z, point, tag(pair))
    }
}

pub(super) fn challenge<G: Group>(r: G::Point, key: G::Point, message: u64) -> G::Scalar {
    G::scalar(mix_all(&[G::print(r), G::print(key), message]))
}

pub(super) fn signature_holds<G: Group>(r: G::Point, z: G::Scalar, key: G::Point, message: u64) -> bool {
    G::point(z) == G::join(r, G::times(key, challenge::<G>(r, key, message)))
}

pub(super) fn tag(pair: PairRef) -> u64 {
    super::rng::mix(pair.as_bytes())
}

/// A sealed client half. It opens only with the file key it was sealed under.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope<G: Group> {
    pub sealed: G::Scalar,
}

impl<G: Group> Envelope<G> {
    pub(super) fn digest(&self) -> [u8; 32] {
        let print = G::print(G::point(self.sealed)).to_be_bytes();
        std::array::from_fn(|n| print[n % 8])
    }
}

/// What a method holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<G: Group> {
    pub file_key: G::Scalar,
    pub digest: [u8; 32],
}

/// Which verb a new signing pair comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Backup { method: usize },
    Recover { method: usize, from: BackupId, revoke_old: bool },
    Heal { from: PairRef },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Request<G: Group> {
    CreateBegin { pair: PairRef },
    CreateOpen { pair: PairRef, point: G::Point },
    RecoverBegin { method: usize, pair: PairRef },
    Deal { purpose: Purpose, pair: PairRef, commitment: u64, possession: Option<Proof<G>> },
    Open { purpose: Purpose, pair: PairRef, p1: G::Point, p2: G::Point, salt: u64, s2: G::Scalar },
    KeepEnvelope { method: usize, backup: BackupId, envelope: Envelope<G> },
    KeyStored { method: usize, backup: BackupId, digest: [u8; 32] },
    CommitBackup { method: usize, backup: BackupId, digest: [u8; 32], proof: Proof<G> },
    Sign { pair: PairRef, message: u64, r: G::Point },
    CommitSigning { pair: PairRef, r: G::Point, z: G::Scalar, recovered: Option<(usize, BackupId, bool)> },
    Drill { method: usize, backup: BackupId },
    Verify { method: usize, backup: BackupId, proof: Proof<G> },
    Cancel { pair: PairRef },
    Revoke { device: DeviceId },
    RemoveMethod { method: usize },
    Garbage { pair: PairRef },
    Status,
}

#[derive(Debug, Clone)]
pub(super) enum Answer<G: Group> {
    CreateDealt { pair: PairRef, point: G::Point },
    RecoverReady { pair: PairRef, backup: BackupId, envelope: Envelope<G>, mine: G::Point, peer: G::Point },
    Dealt { pair: PairRef, s1: G::Scalar, p1: G::Point, p2: G::Point },
    Stored { pair: PairRef, point: G::Point },
    EnvelopeKept { backup: BackupId },
    Envelope { backup: BackupId, envelope: Envelope<G> },
    Part { pair: PairRef, r: G::Point, z: G::Scalar },
    Committed { pair: PairRef },
    Status { pairs: Vec<(PairRef, PairState)> },
    Refused,
    Bad,
}

/// One message on its way.
#[derive(Debug, Clone)]
pub(super) struct Mail<B> {
    pub device: DeviceId,
    pub body: B,
}
