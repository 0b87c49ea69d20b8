//! A peer that moves after it saw us (PROTOCOL.md 5, T10 and T13), on Ed25519.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use halfkey_envelope::{
    entropy::DangerSeededEntropy,
    id::{ClientId, DeploymentId, PairId, WalletId},
};

use super::*;
use crate::{
    context::PartyKeys,
    identity::{DeviceKey, IdentityKey, Signs},
};

fn ceremony(e: &mut DangerSeededEntropy) -> Ceremony {
    Ceremony {
        op: Op::Create,
        deployment: DeploymentId::generate(e, 1),
        client: ClientId::generate(e, 1),
        wallet: WalletId::generate(e, 1),
        curve: Curve::Ed25519,
        old_pair: None,
        new_pair: Some(PairId::generate(e, 1)),
        generation: 1,
        server_nonce: [1; 32],
        device: PartyKeys { identity: DeviceKey::generate(e).public(), hpke: None },
        server: PartyKeys { identity: IdentityKey::generate(e).public(), hpke: Some([2; 32]) },
        custodian: None,
    }
}

/// FROST alone lets the device make its polynomial after it saw the server's: here it does, and its hash gives it away.
#[test]
fn t13_a_package_chosen_after_the_server_s_is_refused() {
    let e = &mut DangerSeededEntropy::new(1);
    let ceremony = ceremony(e);
    let (mut client, request) = Client::start(&ceremony, e).unwrap();
    let (answer, kept) = server_1(&ceremony, &request, e).unwrap();
    let First::Eddsa { state, package, .. } = &mut client.state else { panic!() };
    (*state, *package) = Eddsa::dkg_client_1(e).unwrap();
    let (_, request) = client.next(&answer).unwrap();
    assert_eq!(server_2(&ceremony, kept, &request, e).err(), Some(Error::CommitmentMismatch));
}

#[test]
fn t10_another_salt_does_not_open_the_commitment() {
    let e = &mut DangerSeededEntropy::new(2);
    let ceremony = ceremony(e);
    let (mut client, request) = Client::start(&ceremony, e).unwrap();
    let (answer, kept) = server_1(&ceremony, &request, e).unwrap();
    let First::Eddsa { salt, .. } = &mut client.state else { panic!() };
    salt[0] ^= 1;
    let (_, request) = client.next(&answer).unwrap();
    assert_eq!(server_2(&ceremony, kept, &request, e).err(), Some(Error::CommitmentMismatch));
}

/// The server's answer carries a proof of its half for this ceremony; one of another key is refused.
#[test]
fn t13_a_server_that_does_not_know_its_half_is_refused() {
    let e = &mut DangerSeededEntropy::new(3);
    let ceremony = ceremony(e);
    let (client, request) = Client::start(&ceremony, e).unwrap();
    let (answer, kept) = server_1(&ceremony, &request, e).unwrap();
    let (client, request) = client.next(&answer).unwrap();
    let (answer, _) = server_2(&ceremony, kept, &request, e).unwrap();
    let mut changed: Answer2 = parse(Step::DkgAnswer2, &client.session, &answer).unwrap();
    changed.proof[40] ^= 1;
    let answer = message(Step::DkgAnswer2, &client.session, &changed).unwrap();
    assert_eq!(client.finish(&answer).err(), Some(Error::InvalidProof));
}
