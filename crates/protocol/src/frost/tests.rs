//! Attacks on FROST's messages (PROTOCOL.md 5).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use curve25519_dalek::constants::EIGHT_TORSION;
use frost_ed25519::keys::{
    VerifiableSecretSharingCommitment,
    dkg::round1::Package,
    refresh::{refresh_dkg_part1, refresh_dkg_part2, refresh_dkg_shares},
};
use halfkey_envelope::entropy::DangerSeededEntropy;

use super::*;
use crate::party::danger_deal;

fn entropy() -> DangerSeededEntropy {
    DangerSeededEntropy::new(1)
}

fn package_of(blob: &Blob) -> Package {
    Package::deserialize(&blob.open::<Encoded>(LIBRARY).unwrap().0).unwrap()
}

fn packages(signer: &Signer<'_, ()>) -> Result<(KeyPackage, PublicKeyPackage)> {
    let key = key_package(signer)?;
    let public = public_package(signer, &key)?;
    Ok((key, public))
}

#[test]
fn t11_a_raised_threshold_is_refused() {
    let e = &mut entropy();
    for length in [1, 3, 255] {
        let (_, package) = Frost::dkg_client_1(e).unwrap();
        let package = package_of(&package);
        let coefficient = package.commitment().serialize().unwrap().remove(0);
        let commitment = VerifiableSecretSharingCommitment::deserialize(vec![coefficient.clone(); length]).unwrap();
        let package = Package::new(commitment, *package.proof_of_knowledge());
        let (state, _) = Frost::dkg_client_1(e).unwrap();
        let refused = Frost::dkg_client_2(state, &encode(package.serialize()).unwrap()).err();
        assert_eq!(refused, Some(Error::PeerInvalid), "{length} coefficients");
    }
}

#[test]
fn t12_identifiers_are_fixed_and_never_on_the_wire() {
    assert!(Identifier::try_from(0u16).is_err());
    let e = &mut entropy();
    // Our own package sent back was proven under our identifier, not under the peer's.
    let (state, own) = Frost::dkg_client_1(e).unwrap();
    assert_eq!(Frost::dkg_client_2(state, &own).err(), Some(Error::PeerInvalid));
}

#[test]
fn t14_trailing_bytes_inside_a_library_message_are_refused() {
    let e = &mut entropy();
    let (state, _) = Frost::dkg_client_1(e).unwrap();
    let (_, package) = Frost::dkg_server_1(e).unwrap();
    let mut encoded = package.open::<Encoded>(LIBRARY).unwrap();
    encoded.0.push(0);
    let longer = Blob::new(LIBRARY, &encoded).unwrap();
    assert_eq!(Frost::dkg_client_2(state, &longer).err(), Some(Error::Malformed));
}

/// Nothing of a failed signature spends state, so it is no ban; and a false share is found before anything is returned.
#[test]
fn t01_a_false_signature_share_is_refused_without_a_ban() {
    let e = &mut entropy();
    let (client, server) = danger_deal(Curve::Ed25519, e).unwrap();
    let (state, request) = Frost::sign_client_1(&client.eddsa(), b"message", e).unwrap();
    let answer = Frost::sign_server(&server.eddsa(), b"another message", &request, e).unwrap();
    let refused = |_: [u8; 64]| Err::<(), _>(Error::SignatureInvalid);
    assert_eq!(Frost::sign_client_2(state, &answer, refused).err(), Some(Error::PeerInvalid));
}

#[test]
fn what_is_aggregated_is_what_the_library_aggregates_and_nothing_is_returned_unverified() {
    let e = &mut entropy();
    let (client, server) = danger_deal(Curve::Ed25519, e).unwrap();
    let (state, request) = Frost::sign_client_1(&client.eddsa(), b"message", e).unwrap();
    let answer = Frost::sign_server(&server.eddsa(), b"message", &request, e).unwrap();
    let part = answer.open::<ServerPart>(LIBRARY).unwrap();
    let theirs = SigningCommitments::deserialize(&part.commitments.0).unwrap();
    let package = signing_package(Role::Client, *state.nonces.commitments(), theirs, b"message").unwrap();
    let ours = signing::sign(&package, &state.nonces, &state.key).unwrap();
    let theirs = signing::SignatureShare::deserialize(&part.share.0).unwrap();
    let shares = BTreeMap::from([(identifier(Role::Client).unwrap(), ours), (identifier(Role::Peer).unwrap(), theirs)]);
    let library = frost_ed25519::aggregate(&package, &shares, &state.public).unwrap();
    let mut seen = None;
    let refused = |signature| {
        seen = Some(signature);
        Err::<(), _>(Error::SignatureInvalid)
    };
    // Every share is good, so it is nobody's fault, and still nothing comes out.
    assert_eq!(Frost::sign_client_2(state, &answer, refused).err(), Some(Error::SignatureInvalid));
    assert_eq!(seen.unwrap().to_vec(), library.serialize().unwrap());
}

/// Commitments of one length and header only, to points of prime order only; on both sides.
#[test]
fn t14_nonce_commitments_have_one_encoding() {
    type Spoil = fn(&mut Vec<u8>, &[u8; 32]);
    let e = &mut entropy();
    let (client, server) = danger_deal(Curve::Ed25519, e).unwrap();
    let (_, request) = Frost::sign_client_1(&client.eddsa(), b"message", e).unwrap();
    let good = request.open::<Encoded>(LIBRARY).unwrap();
    assert_eq!(good.0.len(), HEADER + 2 * 32);
    let mixed = (EdwardsPoint::mul_base(&DalekScalar::from(5u64)) + EIGHT_TORSION[1]).compress();
    let spoiled: [(Spoil, Error); 5] = [
        (|bytes, _| bytes.push(0), Error::Malformed),
        (|bytes, _| bytes.truncate(60), Error::PeerInvalid),
        (|bytes, _| bytes[1] ^= 1, Error::PeerInvalid),
        (|bytes, mixed| bytes[HEADER..HEADER + 32].copy_from_slice(mixed), Error::PeerInvalid),
        (|bytes, mixed| bytes[HEADER + 32..].copy_from_slice(mixed), Error::PeerInvalid),
    ];
    for (index, (spoil, error)) in spoiled.into_iter().enumerate() {
        let mut bytes = Encoded(good.0.clone());
        spoil(&mut bytes.0, mixed.as_bytes());
        let request = Blob::new(LIBRARY, &bytes).unwrap();
        let refused = Frost::sign_server(&server.eddsa(), b"message", &request, e).err();
        assert_eq!(refused, Some(error), "{index}: request");

        let (state, request) = Frost::sign_client_1(&client.eddsa(), b"message", e).unwrap();
        let answer = Frost::sign_server(&server.eddsa(), b"message", &request, e).unwrap();
        let mut part = answer.open::<ServerPart>(LIBRARY).unwrap();
        spoil(&mut part.commitments.0, mixed.as_bytes());
        let answer = Blob::new(LIBRARY, &part).unwrap();
        let refused = Frost::sign_client_2(state, &answer, |_| Ok(())).err();
        assert_eq!(refused, Some(error), "{index}: answer");
    }
}

/// FROST's own refresh verifies no proof of knowledge, so a peer that moves second can negate our commitment and later
/// our share: the refresh is accepted and changes nothing. Kept as a warning; `reshare` is not built on it.
#[test]
fn t06_the_stock_refresh_can_be_cancelled_by_a_rushing_peer() {
    let e = &mut entropy();
    let (client, _) = danger_deal(Curve::Ed25519, e).unwrap();
    let (ours, theirs) = (identifier(Role::Client).unwrap(), identifier(Role::Peer).unwrap());
    let (key, public) = packages(&client.eddsa()).unwrap();
    let (secret, package) = refresh_dkg_part1(ours, 2, 2, Rng06(e)).unwrap();
    // The peer's commitment is minus ours; its proof is not looked at.
    let coefficients = package.commitment().serialize().unwrap();
    let negated = coefficients.iter().map(|bytes| {
        let point = Point::from_bytes(Curve::Ed25519, bytes).unwrap();
        let Group2::Ed25519(point) = point.group() else { panic!() };
        (-point).compress().to_bytes().to_vec()
    });
    let commitment = VerifiableSecretSharingCommitment::deserialize(negated).unwrap();
    let rushed = Package::new(commitment, *package.proof_of_knowledge());
    let round1 = BTreeMap::from([(theirs, rushed)]);
    let (secret, sent) = refresh_dkg_part2(secret, &round1).unwrap();
    // Our polynomial is r·X, so what it sent for X = 2 tells −r, the value at X = 1 of the negated one.
    let at_two = Scalar::from_bytes(Curve::Ed25519, &sent[&theirs].signing_share().serialize()).unwrap();
    let minus_half = Scalar::Ed25519(-DalekScalar::from(2u64).invert());
    let minus_r = at_two.mul(&minus_half).unwrap();
    let share = round2::Package::new(FrostShare::deserialize(minus_r.to_bytes().as_ref()).unwrap());
    let round2 = BTreeMap::from([(theirs, share)]);
    let (refreshed, _) = refresh_dkg_shares(&secret, &round1, &round2, public, key.clone()).unwrap();
    assert_eq!(refreshed.signing_share(), key.signing_share(), "the refresh was accepted and changed nothing");
}

#[test]
fn additive_and_polynomial_forms_agree() {
    let e = &mut entropy();
    let (client, server) = danger_deal(Curve::Ed25519, e).unwrap();
    let (own, _) = packages(&client.eddsa()).unwrap();
    let (peer, public) = packages(&server.eddsa()).unwrap();
    let recombined = frost_ed25519::keys::reconstruct(&[own, peer]).unwrap();
    assert_eq!(VerifyingKey::from(recombined).serialize().unwrap(), client.public().public_key().to_bytes(),);
    assert_eq!(public.verifying_key().serialize().unwrap(), client.public().public_key().to_bytes());
}
