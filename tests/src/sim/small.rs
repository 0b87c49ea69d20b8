//! Arithmetic without oblivious transfer (DECISIONS.md D30): shares add up, points follow, proofs and signatures hold,
//! and nothing else. Tens of thousands of schedules in seconds.

use halfkey_envelope::id::DeviceId;
use halfkey_protocol::lifecycle::PairRef;

use super::{
    ceremonies::{Ceremonies, Held, Next, Place, Proves, Purpose, Served, Stopped},
    rng::{Rng, mix, mix_all},
};

/// The squares modulo the safe prime `2q + 1` of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Small;

const Q: u64 = 2_147_483_543;
const P: u64 = 2 * Q + 1;

const fn add(a: u64, b: u64) -> u64 {
    (a + b) % Q
}

const fn sub(a: u64, b: u64) -> u64 {
    (a + Q - b) % Q
}

const fn point(s: u64) -> u64 {
    times(4, s)
}

const fn join(a: u64, b: u64) -> u64 {
    a * b % P
}

const fn times(a: u64, s: u64) -> u64 {
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

const fn random(rng: &mut Rng) -> u64 {
    rng.next() % Q
}

/// A pair's public record: the device's point, the server's, the wallet's key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Points {
    mine: u64,
    peer: u64,
    key: u64,
}

/// What goes back and forth.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// The first message of a key generation says nothing.
    Hello,
    /// A public point.
    Point(u64),
    /// P1 is bound (PROTOCOL.md 4.2, step 1).
    Commitment(u64),
    /// P2's sub-share for P1, and both points.
    Dealt { s1: u64, p1: u64, p2: u64 },
    /// P1 opens.
    Opened { p1: u64, p2: u64, salt: u64, s2: u64 },
    /// A part of a signature.
    Part { r: u64, z: u64 },
}

/// A dealer's share in two parts.
#[derive(Debug, Clone, Copy)]
pub struct Split {
    s1: u64,
    s2: u64,
    salt: u64,
}

impl Split {
    const fn of(share: u64, rng: &mut Rng) -> Self {
        let s1 = random(rng);
        Self { s1, s2: sub(share, s1), salt: rng.next() }
    }

    fn commitment(&self) -> u64 {
        mix_all(&[point(self.s1), point(self.s2), self.salt])
    }
}

/// A device between two rounds.
pub enum Run {
    Create { half: u64 },
    Deal { split: Split, old: Points, cheats: bool },
    Open { half: u64, key: Option<u64>, cheats: bool },
    Sign { nonce: u64, message: u64, held: Held<Small> },
}

/// The server between two rounds.
pub enum Kept {
    Create(u64),
    Deal(Split, u64),
}

/// `(R, z)`.
type Pair = (u64, u64);

fn challenge(r: u64, key: u64, message: u64) -> u64 {
    mix_all(&[r, key, message]) % Q
}

fn holds(proof: Pair, key: u64, message: u64) -> bool {
    point(proof.1) == join(proof.0, times(key, challenge(proof.0, key, message)))
}

fn said(about: &[u8], what: &[u8], nonce: &[u8; 32]) -> u64 {
    mix_all(&[mix(about), mix(what), mix(nonce)])
}

fn prove(half: u64, message: u64, rng: &mut Rng) -> Pair {
    let nonce = random(rng);
    let r = point(nonce);
    (r, add(nonce, challenge(r, point(half), message) * half % Q))
}

fn record(mine: u64, peer: u64) -> Points {
    Points { mine, peer, key: join(mine, peer) }
}

impl Ceremonies for Small {
    type Half = u64;
    type Public = Points;
    type Key = u64;
    type Whole = u64;
    type Sealed = u64;
    type Shred = u64;
    type Envelope = u64;
    type Record = (u64, [u8; 32]);
    type Body = Body;
    type Proof = Pair;
    type Signature = Pair;
    type Run = Run;
    type Kept = Kept;

    fn start(place: &Place, from: Option<&Held<Self>>, cheats: bool, rng: &mut Rng) -> Result<(Run, Body), Stopped> {
        match (place.purpose, from) {
            (Purpose::Create, _) => Ok((Run::Create { half: random(rng) }, Body::Hello)),
            (Purpose::Sign { message }, Some(held)) => {
                let nonce = random(rng);
                Ok((Run::Sign { nonce, message, held: held.clone() }, Body::Point(point(nonce))))
            }
            (_, Some(held)) => {
                let mut split = Split::of(held.half, rng);
                if cheats {
                    split.s2 = add(split.s2, 1);
                }
                Ok((Run::Deal { split, old: held.public, cheats }, Body::Commitment(split.commitment())))
            }
            _ => Err(Stopped::Bad),
        }
    }

    fn next(run: Run, answer: &Body, _: &mut Rng) -> Result<Next<Self>, Stopped> {
        match (run, *answer) {
            (Run::Create { half }, Body::Point(_)) => {
                Ok(Next::Send(Run::Open { half, key: None, cheats: false }, Body::Point(point(half))))
            }
            (Run::Deal { split, old, cheats }, Body::Dealt { s1, p1, p2 }) => {
                if join(p1, p2) != old.peer || point(s1) != p1 {
                    return Err(Stopped::Bad);
                }
                let run = Run::Open { half: add(split.s1, s1), key: Some(old.key), cheats };
                let (p1, p2) = (point(split.s1), point(split.s2));
                Ok(Next::Send(run, Body::Opened { p1, p2, salt: split.salt, s2: split.s2 }))
            }
            (Run::Open { half, key, cheats }, Body::Point(peer)) => {
                let public = record(point(half), peer);
                if key.is_some_and(|key| public.key != key) && !cheats {
                    return Err(Stopped::Bad);
                }
                Ok(Next::Made(Held { half, public }))
            }
            (Run::Sign { nonce, message, held }, Body::Part { r, z }) => {
                let key = held.public.key;
                let z = add(z, add(nonce, challenge(r, key, message) * held.half % Q));
                if holds((r, z), key, message) { Ok(Next::Signed((r, z))) } else { Err(Stopped::Bad) }
            }
            _ => Err(Stopped::Bad),
        }
    }

    fn serve(
        place: &Place,
        from: Option<&Held<Self>>,
        kept: Option<Kept>,
        request: &Body,
        checks: bool,
        rng: &mut Rng,
    ) -> Result<Served<Self>, Stopped> {
        match (place.purpose, from, kept, *request) {
            (Purpose::Create, _, None, Body::Hello) => {
                let half = random(rng);
                Ok(Served::Go(Body::Point(point(half)), Kept::Create(half)))
            }
            (Purpose::Create, _, Some(Kept::Create(half)), Body::Point(theirs)) => {
                Ok(Served::Store(Held { half, public: record(theirs, point(half)) }, None))
            }
            (Purpose::Sign { message }, Some(held), None, Body::Point(theirs)) => {
                let nonce = random(rng);
                let r = join(theirs, point(nonce));
                let z = add(nonce, challenge(r, held.public.key, message) * held.half % Q);
                Ok(Served::Signed(Body::Part { r, z }))
            }
            (Purpose::Create | Purpose::Sign { .. }, ..) => Err(Stopped::Bad),
            (_, Some(held), None, Body::Commitment(commitment)) => {
                let split = Split::of(held.half, rng);
                let dealt = Body::Dealt { s1: split.s1, p1: point(split.s1), p2: point(split.s2) };
                Ok(Served::Go(dealt, Kept::Deal(split, commitment)))
            }
            (_, Some(held), Some(Kept::Deal(split, committed)), Body::Opened { p1, p2, salt, s2 }) => {
                let opens = mix_all(&[p1, p2, salt]) == committed && point(s2) == p2;
                if !opens || checks && join(p1, p2) != held.public.mine {
                    return Err(Stopped::Bad);
                }
                let half = add(s2, split.s2);
                Ok(Served::Store(Held { half, public: record(join(p1, point(split.s1)), point(half)) }, None))
            }
            _ => Err(Stopped::Bad),
        }
    }

    fn acknowledge(stored: &Held<Self>, _: &Body, _: &mut Rng) -> Result<Body, Stopped> {
        Ok(Body::Point(point(stored.half)))
    }

    fn fits(stored: &Held<Self>, _: &mut Rng) -> bool {
        point(stored.half) == stored.public.peer
    }

    fn tamper(body: &mut Body, at: usize) {
        if let Body::Point(value) | Body::Commitment(value) | Body::Opened { s2: value, .. } = body {
            *value ^= 1 << (at % 31);
        }
    }

    fn seal_envelope(_: &Place, held: &Held<Self>, rng: &mut Rng) -> (u64, (u64, [u8; 32])) {
        let file_key = random(rng);
        let envelope = add(held.half, file_key);
        (envelope, (file_key, Self::digest(&envelope)))
    }

    fn open_envelope(record: &(u64, [u8; 32]), envelope: &u64) -> Option<u64> {
        (record.1 == Self::digest(envelope)).then(|| sub(*envelope, record.0))
    }

    fn digest(envelope: &u64) -> [u8; 32] {
        let print = point(*envelope).to_be_bytes();
        std::array::from_fn(|n| print[n % 8])
    }

    fn prove(held: &Held<Self>, pair: PairRef, what: Proves, nonce: &[u8; 32], rng: &mut Rng) -> Option<Pair> {
        let said = said(pair.as_bytes(), &[what as u8], nonce);
        (point(held.half) == held.public.mine).then(|| prove(held.half, said, rng))
    }

    fn proven(public: &Points, pair: PairRef, what: Proves, nonce: &[u8; 32], proof: &Pair) -> bool {
        holds(*proof, public.mine, said(pair.as_bytes(), &[what as u8], nonce))
    }

    fn ack(held: &Held<Self>, _: DeviceId, digest: &[u8; 32], nonce: &[u8; 32], rng: &mut Rng) -> Option<Pair> {
        (point(held.half) == held.public.mine).then(|| prove(held.half, said(digest, &[], nonce), rng))
    }

    fn acked(public: &Points, digest: &[u8; 32], nonce: &[u8; 32], ack: &Pair) -> bool {
        holds(*ack, public.mine, said(digest, &[], nonce))
    }

    fn signed(key: u64, _: PairRef, message: u64, signature: &Pair) -> bool {
        holds(*signature, key, message)
    }

    fn seal_half(half: &u64, _: PairRef, rng: &mut Rng) -> (u64, u64) {
        let key = random(rng);
        (add(*half, key), key)
    }

    fn rot(sealed: &mut u64) {
        *sealed = add(*sealed, 1);
    }

    fn open_half(sealed: &u64, shred: u64, _: PairRef) -> Option<u64> {
        Some(sub(*sealed, shred))
    }

    fn key(public: &Points) -> u64 {
        public.key
    }

    fn sum_of_points(public: &Points) -> Option<u64> {
        Some(join(public.mine, public.peer))
    }

    fn whole(device: &u64, server: &u64) -> Option<u64> {
        Some(add(*device, *server))
    }

    fn key_of(whole: u64) -> Option<u64> {
        Some(point(whole))
    }
}
