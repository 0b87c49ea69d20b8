//! Attacks on `reshare` by a dealer who sees everything first, and by somebody on the way (PROTOCOL.md 5).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use halfkey_envelope::{
    cbor,
    entropy::DangerSeededEntropy,
    id::{ClientId, DeploymentId, PairId, WalletId},
};

use super::*;
use crate::{
    half::{ClientBackupShare, CustodianBackupShare, SigningShare},
    identity::{DeviceKey, IdentityKey, Signs},
    party::{SigningParty, danger_deal},
    wire::{Step, message, parse, parse_any},
};

struct Setting {
    entropy: DangerSeededEntropy,
    device: DeviceKey,
    server: IdentityKey,
    custodian_hpke: SecretKey,
    client: SigningParty,
    peer: SigningParty,
    reshare: Reshare,
}

fn setting(curve: Curve, seed: u64) -> Setting {
    let mut entropy = DangerSeededEntropy::new(seed);
    let e = &mut entropy;
    let (client, peer) = danger_deal(curve, e).unwrap();
    let (device, server, custodian) = (DeviceKey::generate(e), IdentityKey::generate(e), IdentityKey::generate(e));
    let (server_hpke, custodian_hpke) = (SecretKey::generate(e), SecretKey::generate(e));
    let keys = |identity: &IdentityKey, hpke: &SecretKey| PartyKeys {
        identity: identity.public(),
        hpke: Some(*hpke.public_key().as_bytes()),
    };
    let ceremony = Ceremony {
        op: Op::Backup,
        deployment: DeploymentId::generate(e, 1),
        client: ClientId::generate(e, 1),
        wallet: WalletId::generate(e, 1),
        curve,
        old_pair: Some(PairId::generate(e, 1)),
        new_pair: Some(PairId::generate(e, 1)),
        generation: 1,
        server_nonce: [1; 32],
        device: PartyKeys { identity: device.public(), hpke: None },
        server: keys(&server, &server_hpke),
        custodian: Some(keys(&custodian, &custodian_hpke)),
    };
    let reshare = Reshare { ceremony, old: *client.public() };
    Setting { entropy, device, server, custodian_hpke, client, peer, reshare }
}

impl Setting {
    /// The honest messages: commit, deal, and what the device made of them.
    fn run(&mut self) -> (Vec<u8>, Vec<u8>, Opened<ClientBackupShare>) {
        let e = &mut self.entropy;
        let hpke = SecretKey::generate(e);
        let (dealer, commit) = Dealer::start(&self.reshare, self.client.share(), &self.device, hpke, e).unwrap();
        let (deal, _) = deal(&self.reshare, self.peer.share(), &self.server, &commit, e).unwrap();
        let opened = dealer.open::<ClientBackupShare>(&deal, &self.device, e).unwrap();
        (commit, deal, opened)
    }

    fn receive(&self, open: &[u8]) -> Result<(CustodianBackupShare, Transcript)> {
        receive(&self.reshare, &self.custodian_hpke, open)
    }

    /// A malicious device: commits honestly, then opens to whatever `choose` makes of P2's sub-share for it, with
    /// matching points, seals and signature. `recommit` puts a fitting commitment into message 3 as well.
    fn rushing_device(
        &mut self,
        choose: impl Fn(&Scalar, &Scalar) -> Scalar,
        recommit: bool,
    ) -> Result<(CustodianBackupShare, Transcript)> {
        let e = &mut self.entropy;
        let hpke = SecretKey::generate(e);
        let one_time = SecretKey::from_bytes(hpke.to_bytes());
        let (_, commit) = Dealer::start(&self.reshare, self.client.share(), &self.device, hpke, e).unwrap();
        let (deal, _) = deal(&self.reshare, self.peer.share(), &self.server, &commit, e).unwrap();
        let (context, commit) = parse_any::<Commit>(Step::Commit, &commit).unwrap();
        let deal: Deal = parse(Step::Deal, &context, &deal).unwrap();
        let curve = self.reshare.ceremony.curve;
        let session = |commitment: &[u8; 32]| {
            Session {
                context,
                client_nonce: &commit.nonce,
                peer_nonce: &deal.nonce,
                commitment,
                peer_points: &deal.points,
            }
            .sid()
        };
        let sid = session(&commit.commitment);
        let seen = unseal(&one_time, &sid, Role::Peer, Role::Client, curve, &deal.sealed_client).unwrap();
        let mine = self.client.share().scalar();
        let for_peer = choose(mine, &seen);
        let split = [mine.sub(&for_peer).unwrap(), for_peer];
        let (points, salt) = (Points::of(&split.each_ref().map(Point::of)), [4; 32]);
        let committed = if recommit { commitment(&context, &points, &salt) } else { *commit.commitment };
        let sid = session(&committed);
        let key = self.reshare.recipient_key().unwrap();
        let aad = seal_aad(&sid, Role::Client, Role::Peer);
        let sealed = hpke::seal_to(&key, HPKE_INFO, &aad, split[1].to_bytes().as_ref(), e).unwrap();
        let mut open = Open {
            client_nonce: commit.nonce,
            commitment: committed.into(),
            hpke: commit.hpke,
            peer_nonce: deal.nonce,
            peer_points: deal.points,
            peer_signature: deal.signature,
            peer_sealed: deal.sealed_peer,
            client_points: points,
            salt: salt.into(),
            client_sealed: sealed.into(),
            signature: [0; 64].into(),
        };
        open.signature = self.device.sign(OPEN_SIGNATURE, &open_parts(&sid, &open)).into();
        self.receive(&message(Step::Open, &sid, &open).unwrap())
    }
}

/// The adversary of PROTOCOL.md 3: it has seen its sub-share s₂₁ and wants the offset s₁₂ − s₂₁ to be a value it chose.
#[test]
fn t06_a_rushing_device_cannot_choose_the_offset() {
    for curve in Curve::ALL {
        let mut setting = setting(curve, 1);
        // Offset "cancel": the custodian's half would be exactly the server's, b_K = s₁₂ + s₂₂ = a_S.
        let cancel = |_: &Scalar, seen: &Scalar| seen.duplicate();
        assert_eq!(setting.rushing_device(cancel, false).err(), Some(Error::CommitmentMismatch));
        let steer = |_: &Scalar, seen: &Scalar| seen.add(&Scalar::challenge(seen.curve(), [1; 32])).unwrap();
        assert_eq!(setting.rushing_device(steer, false).err(), Some(Error::CommitmentMismatch));
    }
}

/// The same with a commitment made after the fact: it is in the sid that P2 signed.
#[test]
fn t06_a_commitment_made_after_the_deal_is_not_the_one_that_was_signed() {
    for curve in Curve::ALL {
        let mut setting = setting(curve, 2);
        let steer = |_: &Scalar, seen: &Scalar| seen.add(&Scalar::challenge(seen.curve(), [1; 32])).unwrap();
        assert_eq!(setting.rushing_device(steer, true).err(), Some(Error::InvalidIdentitySignature));
    }
}

#[test]
fn t06_the_offset_differs_in_every_run_and_the_pair_is_new() {
    for curve in Curve::ALL {
        let mut setting = setting(curve, 3);
        let mut offsets = std::collections::BTreeSet::new();
        for _ in 0..32 {
            let (_, _, opened) = setting.run();
            let offset = setting.client.share().scalar().sub(opened.half.scalar()).unwrap();
            assert!(offsets.insert(*offset.to_bytes()));
            assert_ne!(opened.transcript.pair().client_point(), setting.client.public().client_point());
        }
    }
}

/// An unchanged pair is refused even if everything else is in order: here both dealers work together for it.
#[test]
fn t06_a_pair_equal_to_the_old_one_is_refused() {
    let mut setting = setting(Curve::Ed25519, 4);
    let cancel = |_: &Scalar, seen: &Scalar| seen.duplicate();
    // Without a server's signature over the later commitment the colluding case cannot be reached through messages, so
    // the check itself is asked.
    assert!(setting.rushing_device(cancel, true).is_err());
    let mine = setting.client.share().scalar();
    let theirs = setting.peer.share().scalar();
    let random = Scalar::random(Curve::Ed25519, &mut setting.entropy);
    let client = [mine.sub(&random).unwrap(), random.duplicate()];
    let peer = [random.duplicate(), theirs.sub(&random).unwrap()];
    let (client_points, peer_points, salt) =
        (Points::of(&client.each_ref().map(Point::of)), Points::of(&peer.each_ref().map(Point::of)), [5; 32]);
    let context = [6; 32];
    let committed = commitment(&context, &client_points, &salt);
    let session = Session {
        context,
        client_nonce: &[1; 32],
        peer_nonce: &[2; 32],
        commitment: &committed,
        peer_points: &peer_points,
    };
    let signature = setting.server.sign(DEAL_SIGNATURE, &[&session.sid()]);
    let opening = Opening { peer_signature: &signature, client_points: &client_points, salt: &salt, own_deal: None };
    let sid = setting.reshare.authentic(&session, &opening).unwrap();
    let client = client_points.of_half(&setting.reshare.old.client_point()).unwrap();
    let peer = peer_points.of_half(&setting.reshare.old.peer_point()).unwrap();
    assert_eq!(setting.reshare.accept(sid, &client, &peer).err(), Some(Error::ShareMismatch));
}

/// Changes one field of message 3 and signs it again as the device would.
fn resigned(setting: &Setting, open: &[u8], change: impl Fn(&mut Open)) -> Vec<u8> {
    let (sid, mut open) = parse_any::<Open>(Step::Open, open).unwrap();
    change(&mut open);
    open.signature = setting.device.sign(OPEN_SIGNATURE, &open_parts(&sid, &open)).into();
    message(Step::Open, &sid, &open).unwrap()
}

#[test]
fn t13_points_that_do_not_add_up_to_the_dealers_half_are_refused() {
    let mut setting = setting(Curve::Secp256k1, 5);
    // A rogue dealer splits another scalar than its half.
    let rogue = Scalar::random(Curve::Secp256k1, &mut setting.entropy);
    let split = split(&rogue, &mut setting.entropy);
    let half = [setting.client.public().client_point(), setting.client.public().peer_point()];
    assert_eq!(Points::of(&split.each_ref().map(Point::of)).of_half(&half[0]), Err(Error::ShareMismatch));
    let foreign = SigningShare::wrap(rogue);
    let e = &mut setting.entropy;
    let hpke = SecretKey::generate(e);
    assert!(Dealer::start(&setting.reshare, &foreign, &setting.device, hpke, e).is_err());
}

#[test]
fn t14_every_changed_byte_of_an_opening_is_refused_without_a_ban() {
    for curve in Curve::ALL {
        let mut setting = setting(curve, 6);
        let (_, _, opened) = setting.run();
        assert!(setting.receive(&opened.message).is_ok());
        for at in 0..opened.message.len() {
            let mut bytes = opened.message.clone();
            bytes[at] ^= 1;
            let error = setting.receive(&bytes).err();
            assert!(error.is_some_and(|error| !error.is_ban()), "byte {at}");
        }
        let trailing = [opened.message.as_slice(), &[0]].concat();
        assert_eq!(setting.receive(&trailing).err(), Some(Error::Malformed));
    }
}

#[test]
fn t14_sub_shares_that_do_not_fit_their_points_are_refused() {
    let mut setting = setting(Curve::Ed25519, 7);
    let (_, _, opened) = setting.run();
    let sid = *opened.transcript.sid();
    let key = setting.reshare.recipient_key().unwrap();
    let e = &mut setting.entropy;
    let seal = |bytes: &[u8], e: &mut DangerSeededEntropy| {
        hpke::seal_to(&key, HPKE_INFO, &seal_aad(&sid, Role::Client, Role::Peer), bytes, e).unwrap()
    };
    let other = Scalar::random(Curve::Ed25519, e).to_bytes();
    let not_reduced = [0xff; 32];
    let cases: [(&[u8], Error); 4] = [
        (other.as_ref(), Error::ShareMismatch),
        (&not_reduced, Error::InvalidScalar),
        (&[0; 32], Error::InvalidScalar),
        (&[1; 33], Error::InvalidScalar),
    ];
    for (bytes, expected) in cases {
        let sealed = seal(bytes, &mut setting.entropy);
        let bytes = resigned(&setting, &opened.message, |open| open.client_sealed = sealed.clone().into());
        assert_eq!(setting.receive(&bytes).err(), Some(expected));
    }
}

/// Whoever has a sub-share reads no point: it must see of the points all that a reader sees.
#[test]
fn points_are_the_same_from_a_sub_share_as_read() {
    for curve in Curve::ALL {
        let mut setting = setting(curve, 11);
        let e = &mut setting.entropy;
        let scalars = split(setting.client.share().scalar(), e);
        let half = setting.client.public().client_point();
        let points = Points::of(&scalars.each_ref().map(Point::of));
        let read = points.of_half(&half).unwrap();
        let other = Points::of(&split(&Scalar::random(curve, e), e).each_ref().map(Point::of));
        let broken = Points { client: vec![0; points.client.len()].into(), ..points.clone() };
        for (role, part) in [(Role::Client, &scalars[0]), (Role::Peer, &scalars[1])] {
            assert_eq!(points.of_part(&half, role, part), Ok(read));
            assert_eq!(points.of_part(&half, role.other(), part), Err(Error::ShareMismatch));
            assert_eq!(points.of_part(&half, role, &Scalar::random(curve, e)), Err(Error::ShareMismatch));
            assert_eq!(other.of_part(&half, role, part), Err(Error::ShareMismatch));
            assert_eq!(broken.of_part(&half, role, part), Err(Error::InvalidPoint));
            // The whole half as a part leaves the identity for the other.
            let whole = setting.client.share().scalar();
            assert_eq!(points.of_part(&half, role, whole), Err(Error::ShareMismatch));
        }
        assert_eq!(points.of_own_half(&half), Ok(read));
    }
}

/// The server knows its own signature again; one that others would refuse is none, in an opening of its very deal.
#[test]
fn the_witness_refuses_another_signature_than_its_own() {
    for curve in Curve::ALL {
        let mut setting = setting(curve, 12);
        let e = &mut setting.entropy;
        let hpke = SecretKey::generate(e);
        let (dealer, commit) =
            Dealer::start(&setting.reshare, setting.client.share(), &setting.device, hpke, e).unwrap();
        let (deal, kept) = deal(&setting.reshare, setting.peer.share(), &setting.server, &commit, e).unwrap();
        let opened = dealer.open::<ClientBackupShare>(&deal, &setting.device, e).unwrap();
        let witness = |open: &[u8]| {
            verify_opening(&setting.reshare, crate::wire::Kept::from_bytes(kept.as_bytes().to_vec()), open)
        };
        assert_eq!(witness(&opened.message), Ok(opened.transcript));
        let changed = resigned(&setting, &opened.message, |open| open.peer_signature[0] ^= 1);
        assert_eq!(witness(&changed), Err(Error::InvalidIdentitySignature));
        assert_eq!(setting.receive(&changed).err(), Some(Error::InvalidIdentitySignature));
    }
}

/// Somebody between device and server puts his own HPKE key into the device's first message, with a context that fits.
#[test]
fn t17_a_swapped_one_time_key_is_refused() {
    for curve in Curve::ALL {
        let mut setting = setting(curve, 8);
        let e = &mut setting.entropy;
        let hpke = SecretKey::generate(e);
        let (_, commit) = Dealer::start(&setting.reshare, setting.client.share(), &setting.device, hpke, e).unwrap();
        let (_, mut commit) = parse_any::<Commit>(Step::Commit, &commit).unwrap();
        let mallory = SecretKey::generate(e);
        commit.hpke = (*mallory.public_key().as_bytes()).into();
        let context = setting.reshare.with_device_key(&commit.hpke).unwrap().context().unwrap();
        let swapped = message(Step::Commit, &context, &commit).unwrap();
        let refused = deal(&setting.reshare, setting.peer.share(), &setting.server, &swapped, e).err();
        assert_eq!(refused, Some(Error::InvalidIdentitySignature));
    }
}

/// A custodian key that is not the pinned one: the custodian's own context differs, so nothing fits.
#[test]
fn t17_the_custodian_key_is_pinned_on_both_sides() {
    let mut setting = setting(Curve::Ed25519, 9);
    let mallory = SecretKey::generate(&mut setting.entropy);
    let honest = setting.reshare.clone();
    let mut fooled = setting.reshare.clone();
    fooled.ceremony.custodian.as_mut().unwrap().hpke = Some(*mallory.public_key().as_bytes());
    setting.reshare = fooled;
    let (_, _, opened) = setting.run();
    assert_eq!(
        receive::<CustodianBackupShare>(&honest, &setting.custodian_hpke, &opened.message).err(),
        Some(Error::WrongSession)
    );
    assert_eq!(receive::<CustodianBackupShare>(&honest, &mallory, &opened.message).err(), Some(Error::InvalidContext));
}

#[test]
fn t03_every_part_of_the_session_counts() {
    let points = |a: &[u8], b: &[u8]| Points { client: a.to_vec().into(), peer: b.to_vec().into() };
    let sid = |context: u8, client: u8, peer: u8, commitment: u8, points: &Points| {
        Session {
            context: [context; 32],
            client_nonce: &[client; 32],
            peer_nonce: &[peer; 32],
            commitment: &[commitment; 32],
            peer_points: points,
        }
        .sid()
    };
    let base = sid(1, 2, 3, 4, &points(b"ab", b"c"));
    let others = [
        sid(0, 2, 3, 4, &points(b"ab", b"c")),
        sid(1, 0, 3, 4, &points(b"ab", b"c")),
        sid(1, 2, 0, 4, &points(b"ab", b"c")),
        sid(1, 2, 3, 0, &points(b"ab", b"c")),
        sid(1, 2, 3, 4, &points(b"a", b"bc")),
        sid(1, 2, 3, 4, &points(b"abc", b"")),
        sid(1, 3, 2, 4, &points(b"ab", b"c")),
    ];
    assert!(others.iter().all(|other| *other != base));
}

#[test]
fn the_messages_decode_strictly() {
    let mut setting = setting(Curve::Secp256k1, 10);
    let (commit, deal, opened) = setting.run();
    assert!(cbor::from_slice::<Commit>(&commit).is_err(), "a frame is no body");
    assert!(parse_any::<Open>(Step::Open, &deal).is_err());
    assert!(opened.message.len() < 1024 && deal.len() < 700 && commit.len() < 400);
}
