//! A device that deals what does not add up to its half, in messages that are otherwise in order: well formed, of their
//! session, and signed with its own key (PROTOCOL.md 4.2, step 4). Written from `docs/protocol.md`, not from the dealer.

use halfkey_envelope::{
    hash::h,
    hpke::{self, PublicKey, SecretKey},
    wallet::Curve,
};
use halfkey_protocol::{
    DeviceKey, Half as _, Op, PairPublic, Point, Role, SigningShare, Signs as _,
    reshare::{Reshare, Transcript},
};
use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};

use super::{KEYS, Stopped, fresh, schnorr, sum};
use crate::sim::rng::Rng;

#[derive(Encode, Decode)]
#[cbor(map)]
struct Frame {
    #[n(0)]
    version: u8,
    #[n(1)]
    step: u8,
    #[n(2)]
    session: ByteArray<32>,
    #[n(3)]
    body: ByteVec,
}

#[derive(Encode)]
#[cbor(map)]
struct Commit {
    #[n(0)]
    nonce: ByteArray<32>,
    #[n(1)]
    commitment: ByteArray<32>,
    #[n(2)]
    hpke: ByteArray<32>,
    #[n(3)]
    signature: ByteArray<64>,
}

#[derive(Decode)]
#[cbor(map)]
struct Deal {
    #[n(0)]
    nonce: ByteArray<32>,
    #[n(1)]
    points: Points,
    #[n(2)]
    sealed_client: ByteVec,
    #[n(3)]
    sealed_peer: ByteVec,
    #[n(4)]
    signature: ByteArray<64>,
}

#[derive(Encode)]
#[cbor(map)]
struct Open {
    #[n(0)]
    client_nonce: ByteArray<32>,
    #[n(1)]
    commitment: ByteArray<32>,
    #[n(2)]
    hpke: ByteArray<32>,
    #[n(3)]
    peer_nonce: ByteArray<32>,
    #[n(4)]
    peer_points: Points,
    #[n(5)]
    peer_signature: ByteArray<64>,
    #[n(6)]
    peer_sealed: ByteVec,
    #[n(7)]
    client_points: Points,
    #[n(8)]
    salt: ByteArray<32>,
    #[n(9)]
    client_sealed: ByteVec,
    #[n(10)]
    signature: ByteArray<64>,
}

#[derive(Encode, Decode, Clone)]
#[cbor(map)]
struct Points {
    #[n(0)]
    client: ByteVec,
    #[n(1)]
    peer: ByteVec,
}

/// Between its commitment and its opening.
pub struct Liar {
    pub(super) reshare: Reshare,
    context: [u8; 32],
    nonce: [u8; 32],
    salt: [u8; 32],
    commitment: [u8; 32],
    split: [[u8; 32]; 2],
    points: Points,
    hpke: SecretKey,
}

impl Liar {
    pub(super) fn start(
        reshare: Reshare,
        half: &[u8; 32],
        key: &DeviceKey,
        hpke: SecretKey,
        rng: &mut Rng,
    ) -> Result<(Self, Vec<u8>), Stopped> {
        let (curve, old) = (reshare.ceremony.curve, reshare.old);
        let mut ceremony = reshare.ceremony.clone();
        ceremony.device.hpke = Some(*hpke.public_key().as_bytes());
        let record = [old.public_key(), old.client_point(), old.peer_point()].map(|point| point.to_bytes());
        let [whole, client, peer] = record;
        let parts = [whole.as_slice(), old.chain_code(), &client, &peer];
        let context = ceremony.hash("halfkey/reshare/v1/context", &parts);
        // Any two scalars, as long as they do not add up to the half.
        let (first, one) = (reduced(curve, &fresh(rng)), one(curve));
        let second = difference(curve, &sum(curve, half, &one), &first);
        let points = Points { client: point(curve, &first)?.into(), peer: point(curve, &second)?.into() };
        let (nonce, salt) = (fresh(rng), fresh(rng));
        let tag = "halfkey/reshare/v1/commitment";
        let commitment = h(tag, &[&context, &[Role::Client.code()], &points.client, &points.peer, &salt]);
        let signature = key.sign("halfkey/reshare/v1/commit-signature", &[&context, &nonce, &commitment]);
        let commit = Commit {
            nonce: nonce.into(),
            commitment: commitment.into(),
            hpke: (*hpke.public_key().as_bytes()).into(),
            signature: signature.into(),
        };
        let bytes = frame(31, &context, &commit);
        Ok((Self { reshare, context, nonce, salt, commitment, split: [first, second], points, hpke }, bytes))
    }

    /// Its new half, what an honest party would believe had been agreed on, and the opening.
    pub(super) fn open(
        self,
        deal: &[u8],
        key: &DeviceKey,
        rng: &mut Rng,
    ) -> Result<([u8; 32], Transcript, Vec<u8>), Stopped> {
        let (curve, old) = (self.reshare.ceremony.curve, self.reshare.old);
        let frame_of_deal: Frame = minicbor::decode(deal).map_err(|_| Stopped::Bad)?;
        let deal: Deal = minicbor::decode(&frame_of_deal.body).map_err(|_| Stopped::Bad)?;
        let sid = h(
            "halfkey/reshare/v1/sid",
            &[
                &self.context,
                &self.nonce,
                deal.nonce.as_slice(),
                &self.commitment,
                &deal.points.client,
                &deal.points.peer,
            ],
        );
        let info = b"halfkey/reshare/v1";
        let from_peer = hpke::open(&self.hpke, info, &aad(&sid, Role::Peer, Role::Client), &deal.sealed_client);
        let from_peer: [u8; 32] =
            from_peer.map_err(|_| Stopped::Bad)?.as_slice().try_into().map_err(|_| Stopped::Bad)?;
        let half = sum(curve, &self.split[0], &from_peer);
        let recipient = match self.reshare.ceremony.op {
            Op::Backup => &KEYS.custodian_hpke,
            _ => &KEYS.server_hpke,
        };
        let recipient = PublicKey::from_bytes(*recipient.public_key().as_bytes());
        let sealed = hpke::seal_to(&recipient, info, &aad(&sid, Role::Client, Role::Peer), &self.split[1], rng);
        let sealed = sealed.map_err(|_| Stopped::Bad)?;
        let parts: [&[u8]; 6] = [&sid, &self.points.client, &self.points.peer, &self.salt, &sealed, &deal.sealed_peer];
        let signature = key.sign("halfkey/reshare/v1/open-signature", &parts);
        let new_point = |mine: &ByteVec, theirs: &ByteVec| -> Result<Point, Stopped> {
            Ok(Point::from_bytes(curve, mine)?.add(&Point::from_bytes(curve, theirs)?)?)
        };
        let client = new_point(&self.points.client, &deal.points.client)?;
        let peer = new_point(&self.points.peer, &deal.points.peer)?;
        // A record that does not add up cannot be made; then the lie ends here, and the server's refusal with it.
        let pair = PairPublic::new(old.public_key(), *old.chain_code(), client, peer)
            .or_else(|_| PairPublic::from_own(old.public_key(), *old.chain_code(), Role::Client, client))?;
        let open = Open {
            client_nonce: self.nonce.into(),
            commitment: self.commitment.into(),
            hpke: (*self.hpke.public_key().as_bytes()).into(),
            peer_nonce: deal.nonce,
            peer_points: deal.points,
            peer_signature: deal.signature,
            peer_sealed: deal.sealed_peer,
            client_points: self.points,
            salt: self.salt.into(),
            client_sealed: sealed.into(),
            signature: signature.into(),
        };
        Ok((half, Transcript::from_record(sid, pair), frame(33, &sid, &open)))
    }
}

fn frame(step: u8, session: &[u8; 32], body: &impl Encode<()>) -> Vec<u8> {
    let body = minicbor::to_vec(body).unwrap_or_default();
    let frame = Frame { version: 1, step, session: (*session).into(), body: body.into() };
    minicbor::to_vec(frame).unwrap_or_default()
}

fn aad(sid: &[u8; 32], dealer: Role, recipient: Role) -> [u8; 32] {
    h("halfkey/reshare/v1/seal", &[sid, &[dealer.code()], &[recipient.code()]])
}

fn point(curve: Curve, scalar: &[u8; 32]) -> Result<Vec<u8>, Stopped> {
    Ok(SigningShare::from_bytes(curve, scalar)?.point().to_bytes())
}

fn one(curve: Curve) -> [u8; 32] {
    match curve {
        Curve::Secp256k1 => k256::Scalar::ONE.to_bytes().into(),
        Curve::Ed25519 => curve25519_dalek::Scalar::ONE.to_bytes(),
    }
}

fn reduced(curve: Curve, bytes: &[u8; 32]) -> [u8; 32] {
    match curve {
        Curve::Secp256k1 => schnorr::reduced(bytes).to_bytes().into(),
        Curve::Ed25519 => curve25519_dalek::Scalar::from_bytes_mod_order(*bytes).to_bytes(),
    }
}

fn difference(curve: Curve, a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    match curve {
        Curve::Secp256k1 => (schnorr::parse(a) - schnorr::parse(b)).to_bytes().into(),
        Curve::Ed25519 => {
            let parse = |bytes: &[u8; 32]| curve25519_dalek::Scalar::from_bytes_mod_order(*bytes);
            (parse(a) - parse(b)).to_bytes()
        }
    }
}
