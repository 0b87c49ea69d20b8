//! Signatures as the world verifies them (T19), and BIP-32 children (T20).

use halfkey_envelope::wallet::Curve;
use halfkey_protocol::{
    DerivationPath, Error, Half, Op, PairPublic, Point, Role, SigningShare,
    sign::{self, Signature, derived_key},
};
use k256::ecdsa::{RecoveryId, VerifyingKey, signature::hazmat::PrehashVerifier};

use crate::world::{World, text};

#[test]
fn t19_ecdsa_signatures_are_low_s_and_recover_the_key() {
    let mut world = World::new(30);
    let (client, server) = world.dealt(Curve::Secp256k1);
    let key = VerifyingKey::from_sec1_bytes(&client.public().public_key().to_bytes()).unwrap();
    for i in 0..16 {
        let signature = world.sign(&client, &server, &text(Curve::Secp256k1, &i.to_string())).unwrap();
        let Signature::Ecdsa { r, s, recovery_id } = signature else { panic!() };
        let digest = halfkey_envelope::hash::sha256(i.to_string().as_bytes());
        let signature = k256::ecdsa::Signature::from_scalars(r, s).unwrap();
        assert_eq!(signature.normalize_s(), signature, "low S");
        key.verify_prehash(&digest, &signature).unwrap();
        let id = RecoveryId::from_byte(recovery_id).unwrap();
        assert_eq!(VerifyingKey::recover_from_prehash(&digest, &signature, id).unwrap(), key);
    }
}

#[test]
fn t19_eddsa_signatures_are_plain_rfc_8032() {
    let mut world = World::new(31);
    let (client, server) = world.dealt(Curve::Ed25519);
    let signature = world.sign(&client, &server, &text(Curve::Ed25519, "hello")).unwrap();
    let key: [u8; 32] = client.public().public_key().to_bytes().try_into().unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
    key.verify_strict(b"hello", &ed25519_dalek::Signature::from_bytes(&signature.to_bytes())).unwrap();
}

/// (chain code, public key) of an extended public key (BIP-32).
fn xpub(text: &str) -> ([u8; 32], Point) {
    let bytes = bs58::decode(text).with_check(None).into_vec().unwrap();
    (bytes[13..45].try_into().unwrap(), Point::from_bytes(Curve::Secp256k1, &bytes[45..78]).unwrap())
}

/// BIP-32 test vector 2, `m` to `m/0`: the only public derivations in the published vectors are non-hardened ones.
const M: &str =
    "xpub661MyMwAqRbcFW31YEwpkMuc5THy2PSt5bDMsktWQcFF8syAmRUapSCGu8ED9W6oDMSgv6Zz8idoc4a6mr8BDzTJY47LJhkJ8UB7WEGuduB";
const M_0: &str =
    "xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZb7ap6r1D3tgFxHmwMkQTPH";

#[test]
fn t20_public_derivation_agrees_with_the_published_vectors() {
    let (chain_code, key) = xpub(M);
    let own = SigningShare::from_bytes(Curve::Secp256k1, &[5; 32]).unwrap();
    let public = PairPublic::from_own(key, chain_code, Role::Client, own.point()).unwrap();
    let (_, child) = xpub(M_0);
    assert_eq!(derived_key(&public, &"m/0".parse().unwrap()).unwrap(), child);
    assert_eq!(derived_key(&public, &DerivationPath::root()).unwrap(), key);
}

#[test]
fn t20_both_sides_sign_for_the_child_key() {
    let mut world = World::new(32);
    let (client, server) = world.dealt(Curve::Secp256k1);
    let message = text(Curve::Secp256k1, "child");
    let digest = halfkey_envelope::hash::sha256(b"child");
    for path in ["m/0", "m/0/5", "m/44/60/0/0/2147483647"] {
        let path: DerivationPath = path.parse().unwrap();
        let ceremony = world.ceremony(Op::Sign, Curve::Secp256k1);
        let signature = world.sign_with(&ceremony, &client, &server, &message, &path).unwrap();
        let child = derived_key(client.public(), &path).unwrap();
        assert_ne!(child, client.public().public_key());
        let key = VerifyingKey::from_sec1_bytes(&child.to_bytes()).unwrap();
        let signature = k256::ecdsa::Signature::from_slice(&signature.to_bytes()).unwrap();
        key.verify_prehash(&digest, &signature).unwrap();
    }
    // One side at another path is in another session.
    let ceremony = world.ceremony(Op::Sign, Curve::Secp256k1);
    let e = &mut world.entropy;
    let (_, request) = sign::Client::start(&ceremony, &client, &message, &"m/1".parse().unwrap(), e).unwrap();
    let refused = sign::server_1(&ceremony, &server, &message, &"m/2".parse().unwrap(), &request, e);
    assert_eq!(refused.err(), Some(Error::WrongSession));
}

#[test]
fn t20_hardened_and_odd_paths_are_refused() {
    for path in ["m/0'", "m/0h", "m/2147483648", "m/4294967296", "m/-1", "m/+1", "m/01", "m/", "0/1", "", "M/0", "m//1"]
    {
        assert_eq!(path.parse::<DerivationPath>(), Err(Error::UnsupportedPath), "{path:?}");
    }
    assert_eq!(DerivationPath::new(&[1 << 31]), Err(Error::UnsupportedPath));
    assert_eq!(DerivationPath::new(&[0; 11]), Err(Error::UnsupportedPath));
    let mut world = World::new(33);
    let (client, _) = world.dealt(Curve::Ed25519);
    assert_eq!(sign::key(&client, &"m/0".parse().unwrap()), Err(Error::UnsupportedPath));
}
