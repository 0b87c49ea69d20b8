//! What is fuzzed of `halfkey-protocol`: every message of every ceremony, every kept state, the stored share, the public
//! values and the descriptor. The fuzz targets call these with the fuzzer's bytes, and a property test of the crate
//! calls the same functions in every `./check`.
//!
//! The first byte chooses a step and a depth: the bytes stand for the whole message, for the body inside a genuine
//! frame, for the library's structure inside a genuine body, or for changes to a genuine message of this very process.
//! So the fuzzer need not guess a session id to reach the inner decoders, nor a commitment to get behind them. Each function asserts more than "no panic": only genuine bytes are accepted where a signature or
//! proof covers them all, what decodes is the one encoding of its value, and nothing but a signature ever bans.

use std::sync::{
    LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use halfkey_envelope::{
    entropy::DangerSeededEntropy,
    hash::{h, sha256},
    hpke::SecretKey,
    id::{ClientId, DeploymentId, PairId, WalletId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, ClientBackupShare, CustodianBackupShare, DerivationPath, DeviceKey, Error, Half, IdentityKey,
    IdentityPublic, Kept, Op, PairPublic, PartyKeys, Point, Role, SigningParty, SigningShare, Signs,
    descriptor::SignedDescriptor,
    dkg,
    party::danger_deal,
    proof::{self, Purpose, Statement},
    rekey,
    reshare::{self, Claim, Dealer, Reshare, Transcript},
    sign::{self, ClientStep, Message, ServerStep},
};
use minicbor::{Decoder, Encoder, data::Type};

const NONCE: [u8; 32] = [9; 32];
const BASE: [u8; 32] = [8; 32];

fn entropy() -> DangerSeededEntropy {
    DangerSeededEntropy::new(7)
}

fn device() -> DeviceKey {
    DeviceKey::from_bytes(&[1; 32])
}

fn server() -> IdentityKey {
    IdentityKey::from_bytes(&[2; 32])
}

fn custodian() -> IdentityKey {
    IdentityKey::from_bytes(&[3; 32])
}

fn hpke(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn ceremony(op: Op, curve: Curve) -> Ceremony {
    let keys = |identity: &IdentityKey, seed| PartyKeys {
        identity: identity.public(),
        hpke: Some(*hpke(seed).public_key().as_bytes()),
    };
    Ceremony {
        op,
        deployment: DeploymentId::from_bytes([1; 16]),
        client: ClientId::from_bytes([2; 16]),
        wallet: WalletId::from_bytes([3; 16]),
        curve,
        old_pair: Some(PairId::from_bytes([4; 16])),
        new_pair: Some(PairId::from_bytes([5; 16])),
        generation: 1,
        server_nonce: [6; 32],
        device: PartyKeys { identity: device().public(), hpke: None },
        server: keys(&server(), 20),
        custodian: Some(keys(&custodian(), 30)),
    }
}

fn message(curve: Curve) -> Message {
    let made = match curve {
        Curve::Secp256k1 => Message::secp256k1(b"fuzz", |bytes| Ok::<_, Error>(sha256(bytes))),
        Curve::Ed25519 => Message::ed25519(b"fuzz", |bytes| Ok::<_, Error>(bytes.to_vec())),
    };
    made.expect("the decoder refuses nothing")
}

/// Both parties of one key on one curve, able to sign, and what honest parties send each other.
struct World {
    client: Vec<u8>,
    peer: Vec<u8>,
    dkg: [Vec<u8>; 3],
    dkg_kept: Vec<u8>,
    rekey: [Vec<u8>; 3],
    rekey_kept: Vec<u8>,
    sign: [Vec<u8>; 4],
    sign_kept: Vec<u8>,
    commit: Vec<u8>,
    deal: Vec<u8>,
    deal_kept: Vec<u8>,
    open: Vec<u8>,
    acks: [Vec<u8>; 2],
    halves: [Vec<u8>; 2],
    transcript: Transcript,
}

static WORLDS: [LazyLock<World>; 2] =
    [LazyLock::new(|| World::new(Curve::Secp256k1)), LazyLock::new(|| World::new(Curve::Ed25519))];

/// The two parties that deal: the same in every process, without OT state.
fn dealt(curve: Curve) -> (SigningParty, SigningParty) {
    danger_deal(curve, &mut entropy()).expect("a key")
}

fn party(bytes: &[u8]) -> SigningParty {
    SigningParty::from_bytes(bytes).expect("a stored party")
}

fn reshare_of(curve: Curve) -> Reshare {
    Reshare { ceremony: ceremony(Op::Backup, curve), old: *dealt(curve).0.public() }
}

fn dealer(curve: Curve) -> (Dealer, Vec<u8>) {
    let (client, _) = dealt(curve);
    Dealer::start(&reshare_of(curve), client.share(), &device(), hpke(10), &mut entropy()).expect("starts")
}

impl World {
    fn new(curve: Curve) -> Self {
        let e = &mut entropy();
        let (mut client, mut peer) = dealt(curve);
        let mut rekeyed = ([vec![], vec![], vec![]], vec![]);
        if curve == Curve::Secp256k1 {
            let (run, first) = rekey::Client::start(&BASE, &client, e).expect("starts");
            let (answer, kept) = rekey::server_1(&BASE, &peer, &first, e).expect("answers");
            let (run, second) = run.next(&answer).expect("goes on");
            rekeyed = ([first, answer, second.clone()], kept.as_bytes().to_vec());
            let (answer, server) = rekey::server_2(&BASE, kept, &second).expect("answers");
            (client, peer) = (run.finish(&answer).expect("a party"), server);
        }
        let generate = ceremony(Op::Create, curve);
        let (run, first) = dkg::Client::start(&generate, e).expect("starts");
        let (answer, kept) = dkg::server_1(&generate, &first, e).expect("answers");
        let (_, second) = run.next(&answer).expect("goes on");
        let (dkg, dkg_kept) = ([first, answer, second], kept.as_bytes().to_vec());

        let (signing, text, root) = (ceremony(Op::Sign, curve), message(curve), DerivationPath::root());
        let (run, first) = sign::Client::start(&signing, &client, &text, &root, e).expect("starts");
        let (sign, sign_kept) = match sign::server_1(&signing, &peer, &text, &root, &first, e).expect("answers") {
            ServerStep::Done { answer } => ([first, answer, vec![], vec![]], vec![]),
            ServerStep::Continue { answer, kept } => {
                let ClientStep::Send { request, .. } = run.next(&answer).expect("goes on") else { unreachable!() };
                let bytes = kept.as_bytes().to_vec();
                let (last, _) = sign::server_2(&signing, &peer, &text, &root, kept, &request).expect("signs");
                ([first, answer, request, last], bytes)
            }
        };
        let (reshare, (_, dealing)) = (reshare_of(curve), dealt(curve));
        let (run, commit) = dealer(curve);
        let (deal, kept) = reshare::deal(&reshare, dealing.share(), &server(), &commit, e).expect("deals");
        let opened = run.open::<ClientBackupShare>(&deal, &device(), &mut entropy()).expect("opens");
        let (half, transcript) =
            reshare::receive::<CustodianBackupShare>(&reshare, &hpke(30), &opened.message).expect("receives");
        let client_claim = Claim { role: Role::Client, envelope: Some(&NONCE), nonce: &NONCE };
        let peer_claim = Claim { role: Role::Peer, envelope: None, nonce: &NONCE };
        let acks = [
            reshare::ack(&reshare, &transcript, &client_claim, &device(), &opened.half, e).expect("acks"),
            reshare::ack(&reshare, &transcript, &peer_claim, &custodian(), &half, e).expect("acks"),
        ];
        Self {
            client: client.to_bytes().expect("bytes").to_vec(),
            peer: peer.to_bytes().expect("bytes").to_vec(),
            dkg,
            dkg_kept,
            rekey: rekeyed.0,
            rekey_kept: rekeyed.1,
            sign,
            sign_kept,
            commit,
            deal,
            deal_kept: kept.as_bytes().to_vec(),
            open: opened.message,
            acks,
            halves: [opened.half.to_bytes().to_vec(), half.to_bytes().to_vec()],
            transcript,
        }
    }
}

/// What the first byte means.
struct Choice {
    curve: Curve,
    step: usize,
    depth: u8,
}

fn choice(bytes: &[u8]) -> Option<(Choice, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let curve = if first & 1 == 0 { Curve::Secp256k1 } else { Curve::Ed25519 };
    Some((Choice { curve, step: usize::from(first >> 3), depth: first >> 1 & 3 }, rest))
}

fn world(curve: Curve) -> &'static World {
    match curve {
        Curve::Secp256k1 => &WORLDS[0],
        Curve::Ed25519 => &WORLDS[1],
    }
}

/// The message that `bytes` stand for at this depth: 0 all of it, 1 the frame's body, 2 the longest bytes in it, 3 up to
/// eight changes: a place in three bytes, and what it is changed by.
fn at_depth(depth: u8, genuine: &[u8], bytes: &[u8]) -> Vec<u8> {
    match depth {
        3 => {
            let mut changed = genuine.to_vec();
            for change in bytes.chunks_exact(4).take(8) {
                let at = u32::from_be_bytes([0, change[0], change[1], change[2]]) as usize;
                let at = at % changed.len();
                changed[at] ^= change[3];
            }
            changed
        }
        1 => with_longest(genuine, |_| bytes.to_vec()),
        2 => with_longest(genuine, |body| with_longest(body, |_| bytes.to_vec())),
        _ => bytes.to_vec(),
    }
}

/// The same CBOR with its longest byte string replaced.
fn with_longest(cbor: &[u8], replace: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut decoder = Decoder::new(cbor);
    let mut longest: Option<(usize, usize, &[u8])> = None;
    while let Ok(kind) = decoder.datatype() {
        let start = decoder.position();
        let walked = match kind {
            Type::Map => decoder.map().map(drop),
            Type::Array => decoder.array().map(drop),
            Type::Bytes => decoder.bytes().map(|bytes| {
                if longest.is_none_or(|(_, _, found)| found.len() < bytes.len()) {
                    longest = Some((start, start, bytes));
                }
            }),
            _ => decoder.skip(),
        };
        if walked.is_err() {
            break;
        }
        if let Some((at, end, _)) = &mut longest
            && *at == start
        {
            *end = decoder.position();
        }
    }
    let Some((start, end, old)) = longest else { return vec![] };
    let mut new = Encoder::new(Vec::new());
    new.bytes(&replace(old)).expect("a vector takes everything");
    [&cbor[..start], &new.into_writer(), &cbor[end..]].concat()
}

/// A genuine input for a step at a depth, as the bodies take it.
fn input(curve: Curve, step: usize, depth: u8, message: &[u8]) -> Vec<u8> {
    let longest = |cbor: &[u8]| {
        let mut found = vec![];
        with_longest(cbor, |bytes| {
            found = bytes.to_vec();
            vec![]
        });
        found
    };
    let bytes = match depth {
        0 => message.to_vec(),
        1 => longest(message),
        2 => longest(&longest(message)),
        _ => vec![0; 8],
    };
    let first = (step as u8) << 3 | depth << 1 | u8::from(curve == Curve::Ed25519);
    [&[first], bytes.as_slice()].concat()
}

/// Genuine inputs at every depth.
fn inputs<'a>(curve: Curve, messages: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Vec<u8>> {
    let some = messages.into_iter().enumerate().filter(|(_, message)| !message.is_empty());
    some.flat_map(|(step, message)| (0..4).map(move |depth| input(curve, step, depth, message))).collect()
}

static ACCEPTED: AtomicUsize = AtomicUsize::new(0);

/// How many inputs a step has accepted so far: a body that refuses everything proves nothing.
pub fn accepted() -> usize {
    ACCEPTED.load(Ordering::Relaxed)
}

fn counted<T>(result: Result<T, Error>) -> Option<T> {
    ACCEPTED.fetch_add(usize::from(result.is_ok()), Ordering::Relaxed);
    result.ok()
}

fn never_bans<T>(result: Result<T, Error>) -> Option<T> {
    if let Err(error) = &result {
        assert!(!error.is_ban(), "only a signature bans");
    }
    counted(result)
}

/// Genuine inputs of [`generation`].
pub fn genuine_generation() -> Vec<Vec<u8>> {
    Curve::ALL.into_iter().flat_map(|curve| inputs(curve, &world(curve).dkg)).collect()
}

/// Key generation: the server's two steps, the device's first.
pub fn generation(bytes: &[u8]) {
    let Some((Choice { curve, step, depth }, bytes)) = choice(bytes) else { return };
    let (world, ceremony, e) = (world(curve), ceremony(Op::Create, curve), &mut entropy());
    let Some(genuine) = world.dkg.get(step) else { return };
    let bytes = at_depth(depth, genuine, bytes);
    match step {
        0 => drop(never_bans(dkg::server_1(&ceremony, &bytes, e))),
        1 => {
            // A fresh device each time: the answer is for its nonce on Ed25519, which draws from the same stream.
            let (run, _) = dkg::Client::start(&ceremony, e).expect("starts");
            drop(never_bans(run.next(&bytes)));
        }
        _ => {
            let kept = Kept::from_bytes(world.dkg_kept.clone());
            if let Some((_, party)) = never_bans(dkg::server_2(&ceremony, kept, &bytes, e)) {
                assert_eq!(party.role(), Role::Peer);
            }
        }
    }
}

/// Genuine inputs of [`refresh`].
pub fn genuine_refresh() -> Vec<Vec<u8>> {
    inputs(Curve::Secp256k1, &world(Curve::Secp256k1).rekey)
}

/// Fresh OT state: the server's two steps, the device's first.
pub fn refresh(bytes: &[u8]) {
    let Some((Choice { step, depth, .. }, bytes)) = choice(bytes) else { return };
    let (world, e) = (world(Curve::Secp256k1), &mut entropy());
    let Some(genuine) = world.rekey.get(step) else { return };
    let bytes = at_depth(depth, genuine, bytes);
    let (client, peer) = dealt(Curve::Secp256k1);
    match step {
        0 => drop(never_bans(rekey::server_1(&BASE, &peer, &bytes, e))),
        1 => {
            let (run, _) = rekey::Client::start(&BASE, &client, e).expect("starts");
            drop(never_bans(run.next(&bytes)));
        }
        _ => {
            let kept = Kept::from_bytes(world.rekey_kept.clone());
            if let Some((_, party)) = never_bans(rekey::server_2(&BASE, kept, &bytes)) {
                assert_eq!(party.public().public_key(), peer.public().public_key(), "the key never changes");
            }
        }
    }
}

/// Genuine inputs of [`signature`].
pub fn genuine_signature() -> Vec<Vec<u8>> {
    Curve::ALL.into_iter().flat_map(|curve| inputs(curve, &world(curve).sign)).collect()
}

/// Signatures: every step of both sides. What comes out was verified; a second step that is refused leaves nothing.
pub fn signature(bytes: &[u8]) {
    let Some((Choice { curve, step, depth }, bytes)) = choice(bytes) else { return };
    let (world, ceremony, e) = (world(curve), ceremony(Op::Sign, curve), &mut entropy());
    let (text, root) = (message(curve), DerivationPath::root());
    let Some(genuine) = world.sign.get(step).filter(|genuine| !genuine.is_empty()) else { return };
    let bytes = at_depth(depth, genuine, bytes);
    match step {
        0 => drop(counted(sign::server_1(&ceremony, &party(&world.peer), &text, &root, &bytes, e))),
        1 => {
            let client = party(&world.client);
            let (run, _) = sign::Client::start(&ceremony, &client, &text, &root, e).expect("starts");
            drop(counted(run.next(&bytes)));
        }
        2 => {
            let kept = Kept::from_bytes(world.sign_kept.clone());
            drop(counted(sign::server_2(&ceremony, &party(&world.peer), &text, &root, kept, &bytes)));
        }
        _ => {
            let (client, peer) = (party(&world.client), party(&world.peer));
            let (run, first) = sign::Client::start(&ceremony, &client, &text, &root, e).expect("starts");
            let answer = sign::server_1(&ceremony, &peer, &text, &root, &first, e).expect("answers");
            let ServerStep::Continue { answer, .. } = answer else { return };
            let ClientStep::Send { state, .. } = run.next(&answer).expect("goes on") else { return };
            // Of another session, whatever its bytes.
            assert!(state.finish(&bytes).is_err());
        }
    }
}

/// Genuine inputs of [`redistribution`].
pub fn genuine_redistribution() -> Vec<Vec<u8>> {
    let of = |curve| {
        let World { commit, deal, open, acks: [client, peer], .. } = world(curve);
        inputs(curve, [commit, deal, open, open, client, peer])
    };
    Curve::ALL.into_iter().flat_map(of).collect()
}

/// `reshare`: a signature or proof covers every message, so only the genuine bytes are accepted, and from a deal nobody
/// gets another half.
pub fn redistribution(bytes: &[u8]) {
    let Some((Choice { curve, step, depth }, bytes)) = choice(bytes) else { return };
    let (world, reshare, e) = (world(curve), reshare_of(curve), &mut entropy());
    let messages = [&world.commit, &world.deal, &world.open, &world.open, &world.acks[0], &world.acks[1]];
    let Some(genuine) = messages.get(step) else { return };
    let bytes = at_depth(depth, genuine, bytes);
    let accepted = match step {
        0 => never_bans(reshare::deal(&reshare, dealt(curve).1.share(), &server(), &bytes, e)).is_some(),
        1 => {
            let opened = never_bans(dealer(curve).0.open::<ClientBackupShare>(&bytes, &device(), e));
            opened.inspect(|opened| assert_eq!(*opened.half.to_bytes(), *world.halves[0])).is_some()
        }
        2 => {
            let received = never_bans(reshare::receive::<CustodianBackupShare>(&reshare, &hpke(30), &bytes));
            received.inspect(|(half, _)| assert_eq!(*half.to_bytes(), *world.halves[1])).is_some()
        }
        3 => {
            let kept = Kept::from_bytes(world.deal_kept.clone());
            let witnessed = never_bans(reshare::verify_opening(&reshare, kept, &bytes));
            witnessed.inspect(|transcript| assert_eq!(*transcript, world.transcript)).is_some()
        }
        _ => {
            let claim = match step {
                4 => Claim { role: Role::Client, envelope: Some(&NONCE), nonce: &NONCE },
                _ => Claim { role: Role::Peer, envelope: None, nonce: &NONCE },
            };
            never_bans(reshare::verify_ack(&reshare, &world.transcript, &claim, &bytes)).is_some()
        }
    };
    // P2's part for R2 passes through the device unread: of a deal, only what the device gets from it is certain here.
    let same = bytes == **genuine || step == 1 && accepted;
    assert_eq!(accepted, same, "only the genuine message is accepted");
}

/// Genuine inputs of [`kept`].
pub fn genuine_kept() -> Vec<Vec<u8>> {
    let of = |curve| {
        let World { dkg_kept, rekey_kept, sign_kept, deal_kept, .. } = world(curve);
        inputs(curve, [dkg_kept, rekey_kept, sign_kept, deal_kept])
    };
    Curve::ALL.into_iter().flat_map(of).collect()
}

/// What a server kept between two steps, with the genuine request for the second: damaged state is refused, and never
/// held against the peer by a ban.
pub fn kept(bytes: &[u8]) {
    let Some((Choice { curve, step, depth }, bytes)) = choice(bytes) else { return };
    let world = world(curve);
    let states = [&world.dkg_kept, &world.rekey_kept, &world.sign_kept, &world.deal_kept];
    let Some(genuine) = states.get(step).filter(|state| !state.is_empty()) else { return };
    let state = at_depth(depth, genuine, bytes);
    // A state that decodes as the library's own structure is computed with; what it holds is the server's own doing.
    let kept = Kept::from_bytes(state);
    match step {
        0 => drop(dkg::server_2(&ceremony(Op::Create, curve), kept, &world.dkg[2], &mut entropy())),
        1 => drop(rekey::server_2(&BASE, kept, &world.rekey[2])),
        2 => {
            let (ceremony, root) = (ceremony(Op::Sign, curve), DerivationPath::root());
            drop(sign::server_2(&ceremony, &party(&world.peer), &message(curve), &root, kept, &world.sign[2]));
        }
        _ => {
            if let Some(transcript) = never_bans(reshare::verify_opening(&reshare_of(curve), kept, &world.open)) {
                assert_eq!(transcript, world.transcript);
            }
        }
    }
}

/// Genuine inputs of [`share`].
pub fn genuine_share() -> Vec<Vec<u8>> {
    let hollow = |curve| dealt(curve).0.to_hollow_bytes().to_vec();
    vec![hollow(Curve::Secp256k1), hollow(Curve::Ed25519), world(Curve::Secp256k1).peer.clone()]
}

/// A stored share: what opens is one encoding, and its half belongs to its record.
pub fn share(bytes: &[u8]) {
    let Ok(party) = SigningParty::from_bytes(bytes) else { return };
    assert_eq!(party.share().point(), party.public().point_of(party.role()));
    let hollow = party.to_hollow_bytes();
    let again = SigningParty::from_bytes(&hollow).expect("what is written opens");
    assert_eq!(*again.to_hollow_bytes(), *hollow);
    if party.public().curve() == Curve::Ed25519 {
        assert_eq!(*hollow, bytes, "one share has one encoding");
    } else if !party.needs_rekey() {
        assert_eq!(**party.to_bytes().expect("bytes"), *bytes, "one share has one encoding");
    }
}

/// Genuine inputs of [`values`]: point, key of an identity, half, proof.
pub fn genuine_values() -> Vec<Vec<u8>> {
    let of = |curve| {
        let half = dealt(curve).0;
        let point = half.share().point().to_bytes();
        let proof = proof::prove(&statement(), half.share(), &mut entropy()).expect("proves");
        let pair = half.public();
        let record = [pair.public_key(), pair.client_point(), pair.peer_point()].map(|point| point.to_bytes()).concat();
        let all = [point, device().public().to_bytes().to_vec(), half.share().to_bytes().to_vec(), proof, record];
        all.iter().enumerate().map(|(step, bytes)| input(curve, step, 0, bytes)).collect::<Vec<_>>()
    };
    Curve::ALL.into_iter().flat_map(of).collect()
}

fn statement() -> Statement<'static> {
    Statement { purpose: Purpose::Verify, context: &BASE, pair: PairId::from_bytes([5; 16]), nonce: &NONCE }
}

/// Points, scalars, keys, records and proofs: what parses is canonical, and only the genuine proof verifies.
pub fn values(bytes: &[u8]) {
    let Some((Choice { curve, step, .. }, bytes)) = choice(bytes) else { return };
    let party = dealt(curve).0;
    match step {
        0 => {
            if let Ok(point) = Point::from_bytes(curve, bytes) {
                assert_eq!(point.to_bytes(), bytes, "one point has one encoding");
                assert!(point.sub(&point).is_err(), "the identity is refused");
            }
        }
        1 => {
            if let Ok(key) = IdentityPublic::from_bytes(bytes) {
                assert_eq!(key.to_bytes(), bytes, "one key has one encoding");
            }
        }
        2 => {
            let Ok(bytes) = <&[u8; 32]>::try_from(bytes) else { return };
            if let Ok(half) = SigningShare::from_bytes(curve, bytes) {
                assert_eq!(*half.to_bytes(), *bytes, "one scalar has one encoding");
                assert_eq!(Point::from_bytes(curve, &half.point().to_bytes()), Ok(half.point()));
            }
        }
        3 => {
            let genuine = proof::prove(&statement(), party.share(), &mut entropy()).expect("proves");
            let verifies = proof::verify(&statement(), &party.share().point(), bytes).is_ok();
            assert_eq!(verifies, bytes == genuine, "only the genuine proof verifies");
        }
        _ => {
            let third = bytes.len() / 3;
            let (x, rest) = bytes.split_at(third);
            let (client, peer) = rest.split_at(third);
            if let Ok(pair) = PairPublic::from_bytes(curve, x, [0; 32], client, peer) {
                assert_eq!(pair.client_point().add(&pair.peer_point()), Ok(pair.public_key()));
            }
        }
    }
}

/// Genuine inputs of [`descriptor`].
pub fn genuine_descriptor() -> Vec<Vec<u8>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (identity, hpke) = (hex(&server().public().to_bytes()), hex(&[5; 32]));
    let party = format!("{{\"identity\":\"{identity}\",\"hpke\":\"{hpke}\"}}");
    let document = format!(
        "{{\"version\":1,\"serial\":1,\"deployment\":\"01010101-0101-0101-0101-010101010101\",\
         \"server_url\":\"https://halfkey.example\",\"identity\":\"{identity}\",\"server\":{party},\
         \"custodian\":{party},\"guesskeeper\":{{\"key_id\":1,\"hpke\":\"{hpke}\"}},\
         \"evidence\":{{\"kind\":\"insecure-dev\"}},\"audit_log_key\":\"{identity}\",\"relying_parties\":[],\
         \"allow_digest\":false,\"profile\":\"dev\"}}"
    );
    vec![document.into_bytes()]
}

/// A descriptor: as the file, and as a document that its own key has signed. What opens is whole, and its successor
/// must be newer.
pub fn descriptor(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    if let Ok(file) = SignedDescriptor::from_json(text) {
        drop(file.open());
    }
    let signature = server().sign("halfkey/descriptor/v1/signature", &[bytes]);
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = serde_json::json!({ "document": text, "signature": hex }).to_string();
    let Ok(file) = SignedDescriptor::from_json(&file) else { return };
    if let Some(descriptor) = counted(file.open()) {
        assert_eq!(descriptor.identity, server().public(), "nobody else has signed it");
        assert!(file.succeed(&descriptor).is_err(), "it does not succeed itself");
        let again = descriptor.sign(&server(), None).expect("it can be signed again");
        assert_eq!(again.open().as_ref(), Ok(&descriptor));
    }
}

/// Two hashes of different parts differ, wherever the parts are cut (T3).
pub fn hashed_parts(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first() else { return };
    let at = usize::from(*at).min(bytes.len());
    let (left, right) = bytes.split_at(at);
    assert_ne!(h("a", &[left, right]), h("a", &[bytes]));
    if at > 0 {
        assert_ne!(h("a", &[left, right]), h("a", &[&left[..at - 1], &bytes[at - 1..]]));
    }
}
