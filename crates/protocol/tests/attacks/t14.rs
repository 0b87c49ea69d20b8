//! The corpus of bad points, scalars and encodings (T14), and what secrets print (T18).

use halfkey_envelope::{entropy::DangerSeededEntropy, wallet::Curve};
use halfkey_protocol::{
    CustodianBackupShare, DeviceKey, Error, Half, IdentityKey, IdentityPublic, Kept, MAX_MESSAGE, Op, Point,
    SigningParty, SigningShare, dkg, party::danger_deal, reshare, sign,
};
use proptest::prelude::*;

use crate::world::{World, text};

fn hex(text: &str) -> Vec<u8> {
    ::hex::decode(text).unwrap()
}

const G: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const ED_G: &str = "5866666666666666666666666666666666666666666666666666666666666666";

/// SEC1: the identity, both uncompressed forms, x ≥ p, off the curve, other lengths and tags.
const BAD_SECP256K1: [(&str, &str); 9] = [
    ("empty", ""),
    ("identity", "00"),
    ("identity, padded", "000000000000000000000000000000000000000000000000000000000000000000"),
    ("x = p", "02fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f"),
    ("x = p + 1", "02fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc30"),
    ("x = 2^256 - 1", "02ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
    ("x = 5 is off the curve", "020000000000000000000000000000000000000000000000000000000000000005"),
    ("tag 4", "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
    ("tag 5", "0579be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
];

/// RFC 8032: the identity in both encodings, the points of order 2, 4 and 8, y ≥ p, and no curve point.
const BAD_ED25519: [(&str, &str); 10] = [
    ("empty", ""),
    ("identity", "0100000000000000000000000000000000000000000000000000000000000000"),
    ("identity, sign bit", "0100000000000000000000000000000000000000000000000000000000000080"),
    ("y = p + 1", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ("order 2", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ("order 4", "0000000000000000000000000000000000000000000000000000000000000000"),
    ("order 4, sign bit", "0000000000000000000000000000000000000000000000000000000000000080"),
    ("order 8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    ("order 8, other", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ("y = 2 is no point", "0200000000000000000000000000000000000000000000000000000000000000"),
];

#[test]
fn t14_bad_points_are_refused() {
    assert!(Point::from_bytes(Curve::Secp256k1, &hex(G)).is_ok());
    assert!(Point::from_bytes(Curve::Ed25519, &hex(ED_G)).is_ok());
    for (curve, corpus) in [(Curve::Secp256k1, BAD_SECP256K1.as_slice()), (Curve::Ed25519, &BAD_ED25519)] {
        for (what, bytes) in corpus {
            assert_eq!(Point::from_bytes(curve, &hex(bytes)), Err(Error::InvalidPoint), "{curve}: {what}");
        }
    }
    for (curve, good) in [(Curve::Secp256k1, G), (Curve::Ed25519, ED_G)] {
        let trailing = [hex(good), vec![0]].concat();
        assert_eq!(Point::from_bytes(curve, &trailing), Err(Error::InvalidPoint));
        assert_eq!(Point::from_bytes(curve, &hex(good)[1..]), Err(Error::InvalidPoint));
    }
}

/// A point of the right group plus one of order 8: on the curve, canonical, not of small order.
#[test]
fn t14_points_of_mixed_order_are_refused() {
    use curve25519_dalek::{constants::EIGHT_TORSION, edwards::CompressedEdwardsY};
    let good = CompressedEdwardsY::from_slice(&hex(ED_G)).unwrap().decompress().unwrap();
    for torsion in &EIGHT_TORSION[1..] {
        let mixed = (good + torsion).compress().to_bytes();
        assert_eq!(Point::from_bytes(Curve::Ed25519, &mixed), Err(Error::InvalidPoint));
    }
}

#[test]
fn t14_bad_scalars_are_refused() {
    let n = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let n_plus_1 = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364142";
    let l = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let l_plus_1 = "eed3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let (zero, max) = ("00".repeat(32), "ff".repeat(32));
    for (curve, bytes) in [
        (Curve::Secp256k1, n),
        (Curve::Secp256k1, n_plus_1),
        (Curve::Ed25519, l),
        (Curve::Ed25519, l_plus_1),
        (Curve::Secp256k1, &zero),
        (Curve::Secp256k1, &max),
        (Curve::Ed25519, &zero),
        (Curve::Ed25519, &max),
    ] {
        let bytes: [u8; 32] = hex(bytes).try_into().unwrap();
        assert_eq!(SigningShare::from_bytes(curve, &bytes).err(), Some(Error::InvalidScalar));
    }
    let one: [u8; 32] = hex(&format!("{}01", "00".repeat(31))).try_into().unwrap();
    assert_eq!(SigningShare::from_bytes(Curve::Secp256k1, &one).unwrap().point().to_bytes(), hex(G));
}

#[test]
fn t14_bad_identity_keys_are_refused() {
    for (what, bytes) in BAD_ED25519 {
        assert_eq!(IdentityPublic::from_bytes(&hex(bytes)).err(), Some(Error::InvalidPoint), "{what}");
    }
}

#[test]
fn t14_oversize_trailing_and_unknown_versions_are_refused() {
    let mut world = World::new(20);
    let ceremony = world.ceremony(Op::Create, Curve::Ed25519);
    let (_, request) = dkg::Client::start(&ceremony, &mut world.entropy).unwrap();
    let mut refused = |bytes: &[u8]| dkg::server_1(&ceremony, bytes, &mut world.entropy).err();
    assert_eq!(refused(&request), None);
    assert_eq!(refused(&[request.as_slice(), &[0]].concat()), Some(Error::Malformed), "trailing byte");
    assert_eq!(refused(&vec![0; MAX_MESSAGE + 1]), Some(Error::Malformed), "oversize");
    assert_eq!(refused(&[]), Some(Error::Malformed), "empty");
    let mut version = request.clone();
    assert_eq!(version[..3], [0xa4, 0x00, 0x01], "a map of four, and the version first");
    version[2] = 0x02;
    assert_eq!(refused(&version), Some(Error::UnknownVersion));
    // The same value with a longer integer is another encoding.
    let mut loose = request.clone();
    loose.splice(2..3, [0x18, 0x01]);
    assert_eq!(refused(&loose), Some(Error::Malformed));
}

#[test]
fn t14_a_stored_share_must_fit_its_record() {
    for curve in Curve::ALL {
        let (client, _) = danger_deal(curve, &mut DangerSeededEntropy::new(1)).unwrap();
        let bytes = client.to_hollow_bytes();
        assert!(SigningParty::from_bytes(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let changed = SigningParty::from_bytes(&changed);
            // The chain code alone is not bound to the points; it is compared with the wallet's own record.
            assert!(changed.is_err() || changed.unwrap().public().chain_code() != client.public().chain_code());
        }
    }
}

#[test]
fn t18_secrets_print_only_their_names() {
    let mut world = World::new(21);
    let (client, server) = danger_deal(Curve::Ed25519, &mut world.entropy).unwrap();
    let backup = world.backup(&client, &server);
    let printed: [(String, &str); 7] = [
        (format!("{:?}", client), "SigningParty"),
        (format!("{:?}", client.share()), "SigningShare"),
        (format!("{:?}", backup.client), "ClientBackupShare"),
        (format!("{:?}", backup.custodian), "CustodianBackupShare"),
        (format!("{:?}", DeviceKey::from_bytes(&[1; 32])), "DeviceKey"),
        (format!("{:?}", IdentityKey::from_bytes(&[1; 32])), "IdentityKey"),
        (format!("{:?}", Kept::from_bytes(vec![1, 2, 3])), "Kept"),
    ];
    for (shown, name) in printed {
        assert_eq!(shown, name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No decoder panics or accepts, whatever the bytes.
    #[test]
    fn t14_random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let mut world = World::new(22);
        let (client, server) = danger_deal(Curve::Ed25519, &mut world.entropy).unwrap();
        let create = world.ceremony(Op::Create, Curve::Secp256k1);
        let signing = world.ceremony(Op::Sign, Curve::Ed25519);
        let reshare = world.reshare(Op::Backup, client.public());
        let message = text(Curve::Ed25519, "x");
        let e = &mut world.entropy;
        prop_assert!(dkg::server_1(&create, &bytes, e).is_err());
        prop_assert!(sign::server_1(&signing, &server, &message, &Default::default(), &bytes, e).is_err());
        prop_assert!(reshare::deal(&reshare, server.share(), &world.server, &bytes, e).is_err());
        prop_assert!(reshare::receive::<CustodianBackupShare>(&reshare, &world.custodian_hpke, &bytes).is_err());
        prop_assert!(SigningParty::from_bytes(&bytes).is_err());
        prop_assert!(dkg::server_2(&create, Kept::from_bytes(bytes.clone()), &bytes, e).is_err());
        for curve in Curve::ALL {
            if let Ok(point) = Point::from_bytes(curve, &bytes) {
                prop_assert_eq!(point.to_bytes(), bytes.clone());
            }
        }
    }
}
