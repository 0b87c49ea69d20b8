//! What the two sides compute together, as the models see it: rounds of messages, halves at rest, envelopes, proofs.
//! [`Small`](super::Small) is arithmetic alone; [`Real`](super::Real) is `halfkey-protocol` and `halfkey-envelope`.

use std::fmt::Debug;

use halfkey_envelope::id::{BackupId, DeviceId};
use halfkey_protocol::lifecycle::PairRef;

use super::rng::Rng;

/// Which verb a ceremony belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The first signing pair.
    Create,
    /// A backup by a method.
    Backup {
        /// Its index.
        method: usize,
    },
    /// A signing pair on a new device.
    Recover {
        /// The method that opened.
        method: usize,
        /// Its backup.
        from: BackupId,
        /// Whether the other devices go.
        revoke_old: bool,
    },
    /// A signing pair in place of a banned one.
    Heal {
        /// The banned pair.
        from: PairRef,
    },
    /// A signature; the one over [`test_message`] is what a pending pair may make.
    Sign {
        /// What is signed.
        message: u64,
    },
}

/// What a proof of knowledge of a half is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proves {
    /// It opens a recovery.
    Possession,
    /// It answers a drill.
    Drill,
}

/// What a pending pair signs to show that both stored halves work.
pub(super) fn test_message(pair: PairRef) -> u64 {
    super::rng::mix(pair.as_bytes())
}

/// What a ceremony is bound to. Each side fills it in from its own records.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The verb.
    pub purpose: Purpose,
    /// The device.
    pub device: DeviceId,
    /// The pair that deals, or signs.
    pub old: Option<PairRef>,
    /// The pair that is made.
    pub new: Option<PairRef>,
    /// Of the slot.
    pub generation: u64,
    /// Fresh bytes of the server.
    pub nonce: [u8; 32],
}

/// A half with the public record that its holder has of the pair.
pub struct Held<C: Ceremonies> {
    /// The half.
    pub half: C::Half,
    /// The record.
    pub public: C::Public,
}

impl<C: Ceremonies> Clone for Held<C> {
    fn clone(&self) -> Self {
        Self { half: self.half.clone(), public: self.public.clone() }
    }
}

/// What the device does after an answer.
pub enum Next<C: Ceremonies> {
    /// One more round.
    Send(C::Run, C::Body),
    /// The new half.
    Made(Held<C>),
    /// The signature, verified.
    Signed(C::Signature),
}

/// What the server does after a request.
pub enum Served<C: Ceremonies> {
    /// One more round.
    Go(C::Body, C::Kept),
    /// The new half: durable, then read back, then the answer; `None` is answered by [`Ceremonies::acknowledge`].
    Store(Held<C>, Option<C::Body>),
    /// Once this leaves, the message counts as signed.
    Signed(C::Body),
}

/// Why a step stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It does not fit. Nothing changes.
    Bad,
    /// The peer cheated: the pair is banned before the answer.
    Ban,
}

type Done<T> = Result<T, Stopped>;

/// One kind of wallet: its keys, halves and messages.
pub trait Ceremonies: Copy + Debug + 'static {
    /// A half, opened.
    type Half: Clone + PartialEq;
    /// The public record of a pair.
    type Public: Clone + Debug;
    /// A wallet's public key.
    type Key: Copy + PartialEq + Debug;
    /// A wallet's whole private key, which the observer alone knows.
    type Whole: Copy + PartialEq + Debug;
    /// A half as the main database has it.
    type Sealed: Clone + PartialEq;
    /// The other key to it, in the shred store.
    type Shred: Copy + PartialEq;
    /// A sealed client half.
    type Envelope: Clone + PartialEq + Debug;
    /// What a method holds.
    type Record: Clone + PartialEq;
    /// A message of a round.
    type Body: Clone + Debug;
    /// A proof of knowledge of a half.
    type Proof: Clone + Debug;
    /// The whole signature.
    type Signature: Clone + Debug;
    /// A device between two rounds.
    type Run;
    /// The server between two rounds: single use.
    type Kept;

    /// The device's first message. `from` deals, or signs; a cheating device deals what does not add up.
    ///
    /// # Errors
    /// `Stopped`.
    fn start(place: &Place, from: Option<&Held<Self>>, cheats: bool, rng: &mut Rng) -> Done<(Self::Run, Self::Body)>;
    /// The device's step after an answer.
    ///
    /// # Errors
    /// `Stopped`.
    fn next(run: Self::Run, answer: &Self::Body, rng: &mut Rng) -> Done<Next<Self>>;
    /// The server's step. `checks` is off where a simulation is to see what happens without the checks on points.
    ///
    /// # Errors
    /// `Stopped`.
    fn serve(
        place: &Place,
        from: Option<&Held<Self>>,
        kept: Option<Self::Kept>,
        request: &Self::Body,
        checks: bool,
        rng: &mut Rng,
    ) -> Done<Served<Self>>;
    /// The answer to a request whose half is now stored, from the copy read back.
    ///
    /// # Errors
    /// `Stopped`.
    fn acknowledge(stored: &Held<Self>, request: &Self::Body, rng: &mut Rng) -> Done<Self::Body>;
    /// Whether the server's stored half is still the one of the record.
    fn fits(stored: &Held<Self>, rng: &mut Rng) -> bool;
    /// The message of a round, changed on its way.
    fn tamper(body: &mut Self::Body, at: usize);

    /// Seals a device's half of a backup; gives what the method must hold.
    fn seal_envelope(place: &Place, held: &Held<Self>, rng: &mut Rng) -> (Self::Envelope, Self::Record);
    /// The half in it, if the record is of this envelope.
    fn open_envelope(record: &Self::Record, envelope: &Self::Envelope) -> Option<Self::Half>;
    /// What witnesses an envelope.
    fn digest(envelope: &Self::Envelope) -> [u8; 32];

    /// A proof of knowledge of a device's backup half, under the verifier's nonce. `None`: the half is another one.
    fn prove(held: &Held<Self>, pair: PairRef, what: Proves, nonce: &[u8; 32], rng: &mut Rng) -> Option<Self::Proof>;
    /// Verifies it for the device's half of one's own record.
    fn proven(public: &Self::Public, pair: PairRef, what: Proves, nonce: &[u8; 32], proof: &Self::Proof) -> bool;
    /// The device's acknowledgement of a backup, from the half that it read back.
    fn ack(
        held: &Held<Self>,
        device: DeviceId,
        digest: &[u8; 32],
        nonce: &[u8; 32],
        rng: &mut Rng,
    ) -> Option<Self::Proof>;
    /// Verifies it.
    fn acked(public: &Self::Public, digest: &[u8; 32], nonce: &[u8; 32], ack: &Self::Proof) -> bool;
    /// Verifies a signature.
    fn signed(key: Self::Key, pair: PairRef, message: u64, signature: &Self::Signature) -> bool;

    /// Seals the server's half for its row.
    fn seal_half(half: &Self::Half, pair: PairRef, rng: &mut Rng) -> (Self::Sealed, Self::Shred);
    /// What a medium that lost a bit gives back.
    fn rot(sealed: &mut Self::Sealed);
    /// Opens it.
    fn open_half(sealed: &Self::Sealed, shred: Self::Shred, pair: PairRef) -> Option<Self::Half>;

    /// The wallet's key, by the record.
    fn key(public: &Self::Public) -> Self::Key;
    /// What the record says the wallet's key is, computed from the points of the two halves.
    fn sum_of_points(public: &Self::Public) -> Option<Self::Key>;
    /// Both halves added up: the observer's view, which no process has.
    fn whole(device: &Self::Half, server: &Self::Half) -> Option<Self::Whole>;
    /// Its public key.
    fn key_of(whole: Self::Whole) -> Option<Self::Key>;
}
