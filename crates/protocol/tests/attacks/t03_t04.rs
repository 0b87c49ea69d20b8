//! Versions that are broken (T2), injective contexts (T3), and no way to sign a bare digest (T4).

use halfkey_envelope::{id::DeploymentId, wallet::Curve};
use halfkey_protocol::{
    Ceremony, DerivationPath, DeviceKey, Error, Op, Signs,
    descriptor::{Descriptor, EvidencePolicy, Hex, HpkePublic, Party, Profile, SignedDescriptor, VERSION},
    sign::{self, Message},
};

use crate::world::{World, text};

type Change = (&'static str, fn(&mut Ceremony));

const CHANGES: [Change; 13] = [
    ("op", |c| c.op = Op::Verify),
    ("deployment", |c| c.deployment = DeploymentId::from_bytes([9; 16])),
    ("client", |c| c.client = halfkey_envelope::id::ClientId::from_bytes([9; 16])),
    ("wallet", |c| c.wallet = halfkey_envelope::id::WalletId::from_bytes([9; 16])),
    ("curve", |c| c.curve = Curve::Ed25519),
    ("old pair", |c| c.old_pair = None),
    ("new pair", |c| c.new_pair = None),
    ("old and new pair", |c| std::mem::swap(&mut c.old_pair, &mut c.new_pair)),
    ("generation", |c| c.generation += 1),
    ("server's nonce", |c| c.server_nonce[31] ^= 1),
    ("device's one-time key", |c| c.device.hpke = Some([9; 32])),
    ("server's HPKE key", |c| c.server.hpke = None),
    ("custodian", |c| c.custodian = None),
];

/// Up to 0.5.1 the library was totally broken: the lock file holds a sound version and the dependency rules keep it so.
#[test]
fn t02_the_broken_versions_are_locked_and_ruled_out() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (lock, rules) = (read("Cargo.lock"), read("deny.toml"));
    for name in ["dkls23", "dkls23-core", "dkls23-secp256k1"] {
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"0.6.2\"")), "{name}");
    }
    for name in ["dkls23", "dkls23-core"] {
        assert!(rules.contains(&format!("crate = \"{name}\", below = \"0.6.1\"")), "{name}");
    }
}

#[test]
fn t03_every_field_of_the_context_counts() {
    let mut world = World::new(3);
    let ceremony = world.ceremony(Op::Sign, Curve::Secp256k1);
    let hash = |ceremony: &Ceremony| ceremony.hash("halfkey/test/v1/context", &[b"a", b"b"]);
    let mut seen = std::collections::BTreeSet::from([hash(&ceremony)]);
    for (field, change) in CHANGES {
        let mut changed = ceremony.clone();
        change(&mut changed);
        assert!(seen.insert(hash(&changed)), "{field}");
    }
    for party in 0..3 {
        let mut changed = ceremony.clone();
        let key = DeviceKey::generate(&mut world.entropy).public();
        match party {
            0 => changed.device.identity = key,
            1 => changed.server.identity = key,
            _ => changed.custodian.as_mut().unwrap().identity = key,
        }
        assert!(seen.insert(hash(&changed)), "identity {party}");
    }
    assert!(seen.insert(ceremony.hash("halfkey/test/v1/context", &[b"ab"])), "parts are length-prefixed");
    assert!(seen.insert(ceremony.hash("halfkey/test/v1/other", &[b"a", b"b"])), "tag");
}

pub fn descriptor(world: &World) -> Descriptor {
    let party = |identity: &halfkey_protocol::IdentityKey, hpke: &halfkey_envelope::hpke::SecretKey| Party {
        identity: identity.public(),
        hpke: HpkePublic(*hpke.public_key().as_bytes()),
    };
    Descriptor {
        version: VERSION,
        serial: 1,
        deployment: world.deployment,
        server_url: "https://halfkey.example".to_owned(),
        identity: world.server.public(),
        server: party(&world.server, &world.server_hpke),
        custodian: party(&world.custodian, &world.custodian_hpke),
        keeper: None,
        guesskeeper: None,
        evidence: EvidencePolicy::Nothing,
        audit_log_key: world.server.public(),
        relying_parties: vec!["halfkey.example".to_owned()],
        export_key: None,
        allow_digest: false,
        profile: Profile::Dev,
    }
}

#[test]
fn t04_a_bare_digest_needs_the_deployment_s_leave() {
    let world = World::new(4);
    let mut descriptor = descriptor(&world);
    assert!(descriptor.digest_capability().is_none());
    descriptor.allow_digest = true;
    let message = Message::danger_digest([1; 32], &descriptor.digest_capability().unwrap());
    assert_eq!(message.curve(), Curve::Secp256k1);
}

/// The server makes the digest from the payload that its policy saw. A device that names another payload, even one with
/// the same digest, is in another session.
#[test]
fn t04_both_parties_sign_the_payload_that_the_server_decoded() {
    for curve in Curve::ALL {
        let mut world = World::new(5);
        let (client, server) = world.dealt(curve);
        let ceremony = world.ceremony(Op::Sign, curve);
        let root = DerivationPath::root();
        let shown = text(curve, "pay 1");
        let hidden = match curve {
            Curve::Secp256k1 => {
                Message::secp256k1(b"pay 1000", |_| Ok::<_, Error>(halfkey_envelope::hash::sha256(b"pay 1")))
            }
            Curve::Ed25519 => Message::ed25519(b"pay 1000", |_| Ok::<_, Error>(b"pay 1".to_vec())),
        }
        .unwrap();
        let (_, request) = sign::Client::start(&ceremony, &client, &hidden, &root, &mut world.entropy).unwrap();
        let refused = sign::server_1(&ceremony, &server, &shown, &root, &request, &mut world.entropy);
        assert_eq!(refused.err(), Some(Error::WrongSession));
    }
}

#[test]
fn a_descriptor_is_trusted_only_with_the_right_signatures() {
    let world = World::new(6);
    let first = descriptor(&world);
    let signed = first.sign(&world.server, None).unwrap();
    let json = signed.to_json().unwrap();
    assert_eq!(SignedDescriptor::from_json(&json).unwrap().open().unwrap(), first);

    let forged = json.replace("halfkey.example", "mallory.example");
    assert_eq!(SignedDescriptor::from_json(&forged).unwrap().open(), Err(Error::UntrustedDescriptor));

    let mut second = first.clone();
    second.serial = 2;
    second.identity = world.custodian.public();
    let unsigned_by_old = second.sign(&world.custodian, None).unwrap();
    assert_eq!(unsigned_by_old.succeed(&first), Err(Error::UntrustedDescriptor));
    let by_another = second.sign(&world.custodian, Some(&world.custodian)).unwrap();
    assert_eq!(by_another.succeed(&first), Err(Error::UntrustedDescriptor));
    let rotated = second.sign(&world.custodian, Some(&world.server)).unwrap();
    assert_eq!(rotated.succeed(&first).unwrap(), second);
    assert_eq!(signed.succeed(&first), Err(Error::UntrustedDescriptor), "not newer");

    second.version = 2;
    assert_eq!(second.sign(&world.custodian, None), Err(Error::UnknownVersion));
    let unknown = json.replace("\\\"version\\\":1", "\\\"version\\\":2");
    assert_ne!(unknown, json);
    assert_eq!(SignedDescriptor::from_json(&unknown).unwrap().open(), Err(Error::UnknownVersion));
}

/// SEC1 of P-256's generator.
const OPERATOR: &str = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";

#[test]
fn a_policy_for_evidence_says_what_it_means_or_is_refused() {
    let world = World::new(7);
    let operator = Hex::try_from(OPERATOR.to_owned()).unwrap();
    let tpm2 = |pcrs: &[u8], operator| EvidencePolicy::Tpm2 {
        pcrs: pcrs.to_vec(),
        measurements: vec![Hex([7; 32])],
        operator,
    };
    let nitro = |pcr, operator| EvidencePolicy::Nitro { measurements: vec![[Hex(pcr); 3]], operator: Hex(operator) };
    let with = |evidence| Descriptor { evidence, ..descriptor(&world) };
    let kinds = |descriptor: &Descriptor| {
        let policy = descriptor.evidence.policy().unwrap();
        policy.kinds().map(|kind| kind.to_string()).collect::<Vec<_>>()
    };
    for (evidence, accepted) in [
        (EvidencePolicy::Nothing, &[][..]),
        (EvidencePolicy::InsecureDev, &[]),
        (tpm2(&[0, 7, 11], operator), &["tpm2"]),
        (nitro([1; 48], [2; 48]), &["nitro"]),
    ] {
        let signed = with(evidence).sign(&world.server, None).unwrap();
        let opened = SignedDescriptor::from_json(&signed.to_json().unwrap()).unwrap().open().unwrap();
        assert_eq!(kinds(&opened), accepted, "{:?}", opened.evidence);
    }
    for evidence in [
        tpm2(&[], operator),
        tpm2(&[7, 23], operator),
        tpm2(&[7], Hex([0; 33])),
        nitro([0; 48], [2; 48]),
        nitro([1; 48], [0; 48]),
    ] {
        assert_eq!(with(evidence.clone()).sign(&world.server, None), Err(Error::InvalidContext), "{evidence:?}");
    }
    // A file that was signed by another program is refused when it is opened.
    let signed = with(tpm2(&[0, 7, 11], operator)).sign(&world.server, None).unwrap().to_json().unwrap();
    for (from, to) in [("[0,7,11]", "[0,7,23]"), (OPERATOR, &OPERATOR.to_uppercase()), ("0707", "07")] {
        let changed = signed.replacen(from, to, 1);
        assert_ne!(changed, signed, "{from}");
        assert_eq!(SignedDescriptor::from_json(&changed).unwrap().open(), Err(Error::Malformed), "{to}");
    }
}
