//! Verifiable redistribution of a wallet's key between two dealers and two recipients, on either curve (PROTOCOL.md 4.2).
//!
//! | op | dealers P1, P2 | recipients R1, R2 |
//! |---|---|---|
//! | Backup | device, server | device, custodian |
//! | Recover | device (backup half), custodian | device, server |
//! | Heal | device, server | device, server |
//!
//! P1 commits to its points before it sees P2's; P2 deals before it sees anything but the commitment. So the offset
//! between the old and the new pair is uniform if either dealer is honest, which the libraries' own refresh does not
//! give (PROTOCOL.md 3). Correctness needs no zero-knowledge proof: the dealers' points are known, and all checks are
//! linear equations between points.

mod ack;
mod deal;
mod receive;

pub use ack::{Claim, ack, verify_ack};
pub use deal::{Dealer, Opened, deal};
pub use receive::{receive, verify_opening};

use halfkey_envelope::{
    hash::h,
    hpke::{self, PublicKey, SecretKey},
    wallet::Curve,
};
use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use self::deal::Dealt;
use crate::{
    context::{Ceremony, Op, PartyKeys},
    error::{Error, Result},
    field::{Kind, Scalar, Secret},
    pair::{PairPublic, Role},
    point::Point,
};

const CONTEXT: &str = "halfkey/reshare/v1/context";
const COMMITMENT: &str = "halfkey/reshare/v1/commitment";
const SID: &str = "halfkey/reshare/v1/sid";
const COMMIT_SIGNATURE: &str = "halfkey/reshare/v1/commit-signature";
const DEAL_SIGNATURE: &str = "halfkey/reshare/v1/deal-signature";
const OPEN_SIGNATURE: &str = "halfkey/reshare/v1/open-signature";
const SEAL: &str = "halfkey/reshare/v1/seal";
const HPKE_INFO: &[u8] = b"halfkey/reshare/v1";

/// One `reshare`, as each party knows it from its **own** records. The device's HPKE key may be absent in the ceremony
/// of the server and the custodian: it is then taken from the device's signed messages.
#[derive(Debug, Clone)]
pub struct Reshare {
    /// The full context. `op` is Backup, Recover or Heal; both pair ids are set; the keys of all who take part are set.
    pub ceremony: Ceremony,
    /// The pair that is dealt: the signing pair, or in a recovery the backup pair.
    pub old: PairPublic,
}

/// What a `reshare` agreed on. Public, and to be kept until the pair is active: acks are made and checked against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcript {
    sid: [u8; 32],
    pair: PairPublic,
}

impl Transcript {
    /// From a stored record of one's own.
    #[must_use]
    pub const fn from_record(sid: [u8; 32], pair: PairPublic) -> Self {
        Self { sid, pair }
    }

    /// The session id: a hash of the context, both nonces, P1's commitment and P2's points.
    #[must_use]
    pub const fn sid(&self) -> &[u8; 32] {
        &self.sid
    }

    /// The new pair's public record.
    #[must_use]
    pub const fn pair(&self) -> &PairPublic {
        &self.pair
    }

    /// The same session after [`crate::rekey`] moved the points.
    ///
    /// # Errors
    /// [`Error::ShareMismatch`] if `pair` is of another key or chain code.
    pub fn rekeyed(&self, pair: PairPublic) -> Result<Self> {
        let same = pair.public_key() == self.pair.public_key() && pair.chain_code() == self.pair.chain_code();
        if same { Ok(Self { sid: self.sid, pair }) } else { Err(Error::ShareMismatch) }
    }
}

/// Message 1, P1 → P2: bound before it sees anything.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Commit {
    #[n(0)]
    nonce: ByteArray<32>,
    #[n(1)]
    commitment: ByteArray<32>,
    #[n(2)]
    hpke: ByteArray<32>,
    /// The device's, over context, nonce and commitment.
    #[n(3)]
    signature: ByteArray<64>,
}

/// Message 2, P2 → P1.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Deal {
    #[n(0)]
    nonce: ByteArray<32>,
    #[n(1)]
    points: Points,
    /// To R1.
    #[n(2)]
    sealed_client: ByteVec,
    /// To R2.
    #[n(3)]
    sealed_peer: ByteVec,
    /// P2's, over the sid.
    #[n(4)]
    signature: ByteArray<64>,
}

/// Message 3, P1 → R2 and S.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Open {
    /// Of message 1.
    #[n(0)]
    client_nonce: ByteArray<32>,
    #[n(1)]
    commitment: ByteArray<32>,
    #[n(2)]
    hpke: ByteArray<32>,
    /// Of message 2.
    #[n(3)]
    peer_nonce: ByteArray<32>,
    #[n(4)]
    peer_points: Points,
    #[n(5)]
    peer_signature: ByteArray<64>,
    #[n(6)]
    peer_sealed: ByteVec,
    /// Opens the commitment.
    #[n(7)]
    client_points: Points,
    #[n(8)]
    salt: ByteArray<32>,
    #[n(9)]
    client_sealed: ByteVec,
    /// The device's, over all of it.
    #[n(10)]
    signature: ByteArray<64>,
}

/// A dealer's two points: for R1 and for R2.
#[derive(Encode, Decode, Clone, PartialEq, Eq)]
#[cbor(map)]
struct Points {
    #[n(0)]
    client: ByteVec,
    #[n(1)]
    peer: ByteVec,
}

impl Points {
    fn of(points: &[Point; 2]) -> Self {
        Self { client: points[0].to_bytes().into(), peer: points[1].to_bytes().into() }
    }

    /// Both points, if they add up to `half`. The second is computed from the first and compared: what is equal to the
    /// canonical encoding of a difference of valid points needs no check of its own, and that check is dear on Ed25519.
    fn of_half(&self, half: &Point) -> Result<[Point; 2]> {
        let client = Point::from_bytes(half.curve(), &self.client)?;
        match half.sub(&client) {
            Ok(peer) if peer.to_bytes() == *self.peer => Ok([client, peer]),
            _ => Err(Point::from_bytes(half.curve(), &self.peer).err().unwrap_or(Error::ShareMismatch)),
        }
    }

    /// As [`Self::of_half`] for `recipient`, who has the dealer's sub-share, and with the check that it fits its point.
    ///
    /// No point is read. That of the recipient is `part·G`, the other one what is left of `half`: both are valid points
    /// as they are made, they add up to `half`, and `part` fits. If their canonical encodings are the dealer's, then all
    /// of this holds for the dealer's points.
    fn of_part(&self, half: &Point, recipient: Role, part: &Scalar) -> Result<[Point; 2]> {
        let ours = Point::of(part);
        let made = half.sub(&ours).map(|other| match recipient {
            Role::Client => [ours, other],
            Role::Peer => [other, ours],
        });
        match made {
            Ok(made) if Self::of(&made) == *self => Ok(made),
            // Which of the checks it was that failed.
            _ => Err(self.of_half(half).err().unwrap_or(Error::ShareMismatch)),
        }
    }

    /// As [`Self::of_half`] for the dealer itself, whose own sid these encodings are hashed into: it made both of them.
    fn of_own_half(&self, half: &Point) -> Result<[Point; 2]> {
        let client = Point::from_own_bytes(half.curve(), &self.client)?;
        Ok([client, half.sub(&client)?])
    }
}

/// What both nonces, the commitment and P2's points are; the sid is its hash.
struct Session<'a> {
    context: [u8; 32],
    client_nonce: &'a [u8; 32],
    peer_nonce: &'a [u8; 32],
    commitment: &'a [u8; 32],
    peer_points: &'a Points,
}

impl Session<'_> {
    /// Without the commitment in it, a malicious P1 could choose the offset after seeing P2's points.
    fn sid(&self) -> [u8; 32] {
        h(
            SID,
            &[
                &self.context,
                self.client_nonce,
                self.peer_nonce,
                self.commitment,
                &self.peer_points.client,
                &self.peer_points.peer,
            ],
        )
    }
}

impl Reshare {
    /// Checks that the context is complete for its operation.
    fn check(&self) -> Result<()> {
        let complete = matches!(self.ceremony.op, Op::Backup | Op::Recover | Op::Heal)
            && self.ceremony.old_pair.is_some()
            && self.ceremony.new_pair.is_some()
            && self.ceremony.curve == self.old.curve();
        if !complete {
            return Err(Error::InvalidContext);
        }
        self.dealer()?;
        self.recipient_key().map(|_| ())
    }

    /// With the device's one-time HPKE key, as its message carries it.
    fn with_device_key(&self, key: &[u8; 32]) -> Result<Self> {
        if self.ceremony.device.hpke.is_some_and(|known| known != *key) {
            return Err(Error::WrongSession);
        }
        let mut reshare = self.clone();
        reshare.ceremony.device.hpke = Some(*key);
        Ok(reshare)
    }

    /// `ctx` of PROTOCOL.md 4.2.
    fn context(&self) -> Result<[u8; 32]> {
        self.check()?;
        self.device_key()?;
        Ok(self.ceremony.hash(
            CONTEXT,
            &[
                &self.old.public_key().to_bytes(),
                self.old.chain_code(),
                &self.old.client_point().to_bytes(),
                &self.old.peer_point().to_bytes(),
            ],
        ))
    }

    /// P2.
    fn dealer(&self) -> Result<&PartyKeys> {
        match self.ceremony.op {
            Op::Backup | Op::Heal => Ok(&self.ceremony.server),
            Op::Recover => self.ceremony.custodian(),
            _ => Err(Error::InvalidContext),
        }
    }

    /// R2.
    fn recipient(&self) -> Result<&PartyKeys> {
        match self.ceremony.op {
            Op::Backup => self.ceremony.custodian(),
            Op::Recover | Op::Heal => Ok(&self.ceremony.server),
            _ => Err(Error::InvalidContext),
        }
    }

    fn recipient_key(&self) -> Result<PublicKey> {
        self.recipient()?.hpke.map(PublicKey::from_bytes).ok_or(Error::InvalidContext)
    }

    fn device_key(&self) -> Result<PublicKey> {
        self.ceremony.device.hpke.map(PublicKey::from_bytes).ok_or(Error::InvalidContext)
    }

    /// Which kind of half `role` deals, and which it gets.
    fn deals(&self, role: Role) -> Kind {
        match (self.ceremony.op, role) {
            (Op::Recover, Role::Client) => Kind::ClientBackup,
            (Op::Recover, Role::Peer) => Kind::CustodianBackup,
            _ => Kind::Signing,
        }
    }

    fn gets(&self, role: Role) -> Kind {
        match (self.ceremony.op, role) {
            (Op::Backup, Role::Client) => Kind::ClientBackup,
            (Op::Backup, Role::Peer) => Kind::CustodianBackup,
            _ => Kind::Signing,
        }
    }

    /// The dealt half must be the one of the record, in its role.
    fn check_dealt<H: Secret>(&self, role: Role, half: &H) -> Result<()> {
        if H::KIND != self.deals(role) || half.scalar().curve() != self.ceremony.curve {
            return Err(Error::InvalidContext);
        }
        if Point::of(half.scalar()) != self.old.point_of(role) {
            return Err(Error::ShareMismatch);
        }
        Ok(())
    }

    /// Step 4 of PROTOCOL.md 4.2, first part: P2 signed this session, and the commitment in it opens to P1's points. Gives
    /// the sid.
    fn authentic(&self, session: &Session<'_>, open: &Opening<'_>) -> Result<[u8; 32]> {
        let sid = session.sid();
        match open.own_deal {
            // Ed25519 signatures are deterministic and these bytes were made over this sid by whoever compares them.
            Some(dealt) if *dealt.sid != sid => return Err(Error::WrongSession),
            Some(dealt) if dealt.signature.as_slice() != open.peer_signature => {
                return Err(Error::InvalidIdentitySignature);
            }
            Some(_) => {}
            None => self.dealer()?.identity.verify(DEAL_SIGNATURE, &[&sid], open.peer_signature)?,
        }
        let opened = commitment(&session.context, open.client_points, open.salt);
        if !bool::from(opened.ct_eq(session.commitment)) {
            return Err(Error::CommitmentMismatch);
        }
        Ok(sid)
    }

    /// Step 4, second part, on both dealers' points, each pair of which adds up to its dealer's half: the new pair, which
    /// belongs to the same key and is not the old one.
    fn accept(&self, sid: [u8; 32], client: &[Point; 2], peer: &[Point; 2]) -> Result<Transcript> {
        let (b1, b2) = (client[0].add(&peer[0])?, client[1].add(&peer[1])?);
        let pair = PairPublic::new(self.old.public_key(), *self.old.chain_code(), b1.encoded(), b2.encoded())?;
        if b1 == self.old.client_point() || b2 == self.old.peer_point() {
            return Err(Error::ShareMismatch);
        }
        Ok(Transcript { sid, pair })
    }
}

/// P1's opening and P2's signature.
struct Opening<'a> {
    peer_signature: &'a [u8],
    client_points: &'a Points,
    salt: &'a [u8; 32],
    /// For P2 itself: what it remembers of its deal.
    own_deal: Option<&'a Dealt>,
}

/// `com₁ = H(ctx ‖ 1 ‖ S₁₁ ‖ S₁₂ ‖ salt)`.
fn commitment(context: &[u8; 32], points: &Points, salt: &[u8; 32]) -> [u8; 32] {
    h(COMMITMENT, &[context, &[Role::Client.code()], &points.client, &points.peer, salt])
}

/// Splits a half into two random parts: `s₁` random, `s₂ = a − s₁`.
fn split(half: &Scalar, entropy: &mut dyn halfkey_envelope::entropy::Entropy) -> [Scalar; 2] {
    loop {
        let first = Scalar::random(half.curve(), entropy);
        if let Ok(second) = half.sub(&first) {
            return [first, second];
        }
    }
}

/// The points of a split, of the half with this point: the second is what is left of it, as the second scalar is.
fn split_points(split: &[Scalar; 2], half: &Point) -> Result<[Point; 2]> {
    let first = Point::of(&split[0]);
    Ok([first.encoded(), half.sub(&first)?.encoded()])
}

/// Associated data of a sealed sub-share: session, dealer, recipient.
fn seal_aad(sid: &[u8; 32], dealer: Role, recipient: Role) -> [u8; 32] {
    h(SEAL, &[sid, &[dealer.code()], &[recipient.code()]])
}

fn unseal(
    secret: &SecretKey,
    sid: &[u8; 32],
    dealer: Role,
    recipient: Role,
    curve: Curve,
    sealed: &[u8],
) -> Result<Scalar> {
    let aad = seal_aad(sid, dealer, recipient);
    let bytes: Zeroizing<Vec<u8>> = hpke::open(secret, HPKE_INFO, &aad, sealed).map_err(|_| Error::Unsealable)?;
    Scalar::from_bytes(curve, &bytes)
}

/// What the device signs in message 3: everything that is not bound by the sid already.
fn open_parts<'a>(sid: &'a [u8; 32], open: &'a Open) -> [&'a [u8]; 6] {
    [
        sid,
        &open.client_points.client,
        &open.client_points.peer,
        open.salt.as_slice(),
        &open.client_sealed,
        &open.peer_sealed,
    ]
}

#[cfg(test)]
mod tests;
