//! The hollow share form opens for ever (DECISIONS.md D8), and the published vectors of hashes, proofs and sessions hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{fs, path::PathBuf};

use halfkey_envelope::{
    entropy::DangerSeededEntropy,
    hash::h,
    hpke::SecretKey,
    id::{ClientId, DeploymentId, PairId, WalletId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, ClientBackupShare, DerivationPath, DeviceKey, Error, Half, IdentityKey, Op, PartyKeys, Point, Role,
    SigningParty, SigningShare, Signs,
    party::danger_deal,
    proof::{self, Purpose, Statement},
    rekey,
    reshare::{Dealer, Reshare, deal},
    sign::{self, Message},
};
use serde_json::{Value, json};

fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests")).join(path)
}

const GOLDEN: [(Curve, Role, &str); 4] = [
    (Curve::Secp256k1, Role::Client, "golden/share-secp256k1-client-v1.bin"),
    (Curve::Secp256k1, Role::Peer, "golden/share-secp256k1-peer-v1.bin"),
    (Curve::Ed25519, Role::Client, "golden/share-ed25519-client-v1.bin"),
    (Curve::Ed25519, Role::Peer, "golden/share-ed25519-peer-v1.bin"),
];

fn dealt(curve: Curve, role: Role) -> SigningParty {
    let (client, peer) = danger_deal(curve, &mut DangerSeededEntropy::new(100)).unwrap();
    match role {
        Role::Client => client,
        Role::Peer => peer,
    }
}

#[test]
fn golden_hollow_shares_open_and_are_still_written() {
    for (curve, role, path) in GOLDEN {
        let bytes = fs::read(repository(path)).unwrap();
        let opened = SigningParty::from_bytes(&bytes).unwrap();
        let expected = dealt(curve, role);
        assert_eq!(opened.public(), expected.public());
        assert!(opened.share().ct_eq(expected.share()));
        assert_eq!(opened.role(), role);
        assert_eq!(opened.needs_rekey(), curve == Curve::Secp256k1);
        assert_eq!(*opened.to_hollow_bytes(), bytes);
    }
}

/// OT state of another library version: nothing is lost, signing asks for a rekey, and after it the wallet signs.
#[test]
fn a_share_of_another_library_version_asks_for_a_rekey() {
    let e = &mut DangerSeededEntropy::new(101);
    let (client, server) = danger_deal(Curve::Secp256k1, e).unwrap();
    let (client, server) = rekeyed(&client, &server, e);
    let mut bytes = client.to_bytes().unwrap().to_vec();
    let at = bytes.windows(12).position(|window| window == b"dkls23/0.6.2").unwrap();
    bytes[at + 11] = b'9';
    let old = SigningParty::from_bytes(&bytes).unwrap();
    assert!(old.needs_rekey() && old.share().ct_eq(client.share()));
    let ceremony = ceremony(Op::Sign, Curve::Secp256k1, e);
    let message = Message::secp256k1(b"x", |_| Ok::<_, Error>([1; 32])).unwrap();
    let refused = sign::Client::start(&ceremony, &old, &message, &DerivationPath::root(), e);
    assert_eq!(refused.err(), Some(Error::NeedsRekey));
    let (client, server) = rekeyed(&old, &server, e);
    assert!(!client.needs_rekey() && !server.needs_rekey());
    assert_eq!(client.public(), server.public());
    bytes[at - 1] ^= 0x01;
    assert!(SigningParty::from_bytes(&bytes).is_err());
}

fn rekeyed(client: &SigningParty, server: &SigningParty, e: &mut DangerSeededEntropy) -> (SigningParty, SigningParty) {
    let (state, request) = rekey::Client::start(&[8; 32], client, e).unwrap();
    let (answer, kept) = rekey::server_1(&[8; 32], server, &request, e).unwrap();
    let (state, request) = state.next(&answer).unwrap();
    let (answer, server) = rekey::server_2(&[8; 32], kept, &request).unwrap();
    (state.finish(&answer).unwrap(), server)
}

fn ceremony(op: Op, curve: Curve, e: &mut DangerSeededEntropy) -> Ceremony {
    let keys = |seed: u8| PartyKeys {
        identity: IdentityKey::from_bytes(&[seed; 32]).public(),
        hpke: Some(*SecretKey::from_seed(&[seed; 32]).public_key().as_bytes()),
    };
    Ceremony {
        op,
        deployment: DeploymentId::generate(e, 1),
        client: ClientId::generate(e, 2),
        wallet: WalletId::generate(e, 3),
        curve,
        old_pair: Some(PairId::generate(e, 4)),
        new_pair: Some(PairId::generate(e, 5)),
        generation: 7,
        server_nonce: [6; 32],
        device: PartyKeys { identity: DeviceKey::from_bytes(&[1; 32]).public(), hpke: keys(1).hpke },
        server: keys(2),
        custodian: Some(keys(3)),
    }
}

fn hash_vectors() -> Value {
    let cases: [(&str, &[&[u8]]); 5] = [
        ("halfkey/test/v1/h", &[]),
        ("halfkey/test/v1/h", &[b""]),
        ("halfkey/test/v1/h", &[b"a", b"b"]),
        ("halfkey/test/v1/h", &[b"ab"]),
        ("halfkey/test/v1/h", &[&[0; 300], b"tail"]),
    ];
    cases
        .iter()
        .map(|(tag, parts)| {
            let parts_hex: Vec<String> = parts.iter().map(hex::encode).collect();
            json!({ "tag": tag, "parts": parts_hex, "hash": hex::encode(h(tag, parts)) })
        })
        .collect()
}

fn proof_vectors() -> Value {
    let e = &mut DangerSeededEntropy::new(102);
    Curve::ALL
        .map(|curve| {
            let mut secret = [0; 32];
            secret[if curve == Curve::Secp256k1 { 31 } else { 0 }] = 5;
            let half = SigningShare::from_bytes(curve, &secret).unwrap();
            let (context, nonce, pair) = ([1; 32], [2; 32], PairId::from_bytes([3; 16]));
            let statement = Statement { purpose: Purpose::Possession, context: &context, pair, nonce: &nonce };
            let proof = proof::prove(&statement, &half, e).unwrap();
            json!({
                "curve": curve.as_str(), "purpose": "possession", "context": hex::encode(context),
                "pair": hex::encode(pair.as_bytes()), "nonce": hex::encode(nonce),
                "point": hex::encode(half.point().to_bytes()), "proof": hex::encode(proof),
            })
        })
        .to_vec()
        .into()
}

/// One whole backup per curve: context fields, the three messages, and the session id that must come out.
fn reshare_vectors() -> Value {
    Curve::ALL
        .map(|curve| {
            let e = &mut DangerSeededEntropy::new(103);
            let (client, server) = danger_deal(curve, e).unwrap();
            let mut ceremony = ceremony(Op::Backup, curve, e);
            let one_time = SecretKey::from_seed(&[9; 32]);
            ceremony.device.hpke = Some(*one_time.public_key().as_bytes());
            let reshare = Reshare { ceremony, old: *client.public() };
            let device = DeviceKey::from_bytes(&[1; 32]);
            let (dealer, commit) = Dealer::start(&reshare, client.share(), &device, one_time, e).unwrap();
            let (dealt, _) = deal(&reshare, server.share(), &IdentityKey::from_bytes(&[2; 32]), &commit, e).unwrap();
            let opened = dealer.open::<ClientBackupShare>(&dealt, &device, e).unwrap();
            let c = &reshare.ceremony;
            let id = |bytes: &[u8; 16]| hex::encode(bytes);
            let point = |point: Point| hex::encode(point.to_bytes());
            json!({
                "curve": curve.as_str(), "op": "backup",
                "deployment": id(c.deployment.as_bytes()), "client": id(c.client.as_bytes()),
                "wallet": id(c.wallet.as_bytes()), "old_pair": id(c.old_pair.unwrap().as_bytes()),
                "new_pair": id(c.new_pair.unwrap().as_bytes()), "generation": c.generation,
                "server_nonce": hex::encode(c.server_nonce),
                "device": { "identity": hex::encode(c.device.identity.to_bytes()), "hpke": hex::encode(c.device.hpke.unwrap()) },
                "server": { "identity": hex::encode(c.server.identity.to_bytes()), "hpke": hex::encode(c.server.hpke.unwrap()) },
                "custodian": {
                    "identity": hex::encode(c.custodian.unwrap().identity.to_bytes()),
                    "hpke": hex::encode(c.custodian.unwrap().hpke.unwrap()),
                },
                "public_key": point(reshare.old.public_key()), "chain_code": hex::encode(reshare.old.chain_code()),
                "a_client": point(reshare.old.client_point()), "a_peer": point(reshare.old.peer_point()),
                "commit": hex::encode(commit), "deal": hex::encode(dealt), "open": hex::encode(&opened.message),
                "sid": hex::encode(opened.transcript.sid()),
                "b_client": point(opened.transcript.pair().client_point()),
                "b_peer": point(opened.transcript.pair().peer_point()),
            })
        })
        .to_vec()
        .into()
}

#[test]
fn the_published_vectors_hold() {
    let published: Value = serde_json::from_slice(&fs::read(repository("vectors/protocol.json")).unwrap()).unwrap();
    assert_eq!(published["hash"], hash_vectors());
    assert_eq!(published["proof"], proof_vectors());
    assert_eq!(published["reshare"], reshare_vectors());
}

/// The published proofs verify, as any other implementation's would.
#[test]
fn published_proofs_verify() {
    let published: Value = serde_json::from_slice(&fs::read(repository("vectors/protocol.json")).unwrap()).unwrap();
    for vector in published["proof"].as_array().unwrap() {
        let field = |name: &str| hex::decode(vector[name].as_str().unwrap()).unwrap();
        let curve: Curve = vector["curve"].as_str().unwrap().parse().unwrap();
        let (context, nonce): ([u8; 32], [u8; 32]) =
            (field("context").try_into().unwrap(), field("nonce").try_into().unwrap());
        let pair = PairId::from_bytes(field("pair").try_into().unwrap());
        let statement = Statement { purpose: Purpose::Possession, context: &context, pair, nonce: &nonce };
        let point = Point::from_bytes(curve, &field("point")).unwrap();
        proof::verify(&statement, &point, &field("proof")).unwrap();
    }
}

/// Writes files that are not there yet; never changes one. Run by hand for a new format version.
#[test]
#[ignore = "writes the files of a new format version"]
fn write_missing_files() {
    let missing = |path: &str| Some(repository(path)).filter(|path| !path.exists());
    for (curve, role, path) in GOLDEN {
        if let Some(path) = missing(path) {
            fs::write(path, &*dealt(curve, role).to_hollow_bytes()).unwrap();
        }
    }
    if let Some(path) = missing("vectors/protocol.json") {
        let all = json!({ "hash": hash_vectors(), "proof": proof_vectors(), "reshare": reshare_vectors() });
        fs::write(path, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }
}
