//! The honest runs that the attacks deviate from.

use halfkey_envelope::wallet::Curve;
use halfkey_protocol::{Op, half::danger_combine, rekey};

use crate::world::{World, text};

#[test]
fn a_wallet_is_created_backed_up_recovered_and_signs() {
    for curve in Curve::ALL {
        let mut world = World::new(1);
        let (client, server) = world.create(curve);
        assert_eq!(client.public(), server.public());
        world.sign(&client, &server, &text(curve, "before")).unwrap();
        let backup = world.backup(&client, &server);
        let key = danger_combine(&backup.client, &backup.custodian, &client.public().public_key()).unwrap();
        assert_eq!(*key, *danger_combine(client.share(), server.share(), &client.public().public_key()).unwrap());
        let (client, server) = world.recover(&backup);
        assert_eq!(client.public().public_key(), backup.transcript.pair().public_key());
        world.sign(&client, &server, &text(curve, "after")).unwrap();
    }
}

#[test]
fn a_rekey_keeps_key_and_chain_code_and_moves_the_halves() {
    let mut world = World::new(2);
    let (client, server) = world.dealt(Curve::Secp256k1);
    let ceremony = world.ceremony(Op::Rekey, Curve::Secp256k1);
    let base = rekey::context(&ceremony, client.public()).unwrap();
    let (new_client, new_server) = world.rekey(&base, &client, &server);
    assert_eq!(new_client.public(), new_server.public());
    assert_eq!(new_client.public().public_key(), client.public().public_key());
    assert_eq!(new_client.public().chain_code(), client.public().chain_code());
    assert_ne!(new_client.public().client_point(), client.public().client_point());
    world.sign(&new_client, &new_server, &text(Curve::Secp256k1, "again")).unwrap();
    assert!(world.sign(&new_client, &server, &text(Curve::Secp256k1, "mixed")).is_err());
}

/// A client keeps its state across awaits on any executor.
#[test]
fn client_states_can_move_between_threads() {
    fn sends<T: Send + 'static>() {}
    sends::<halfkey_protocol::dkg::Client>();
    sends::<halfkey_protocol::dkg::ClientSecond>();
    sends::<halfkey_protocol::sign::Client>();
    sends::<halfkey_protocol::sign::ClientStep>();
    sends::<rekey::Client>();
    sends::<rekey::ClientSecond>();
    sends::<halfkey_protocol::reshare::Dealer>();
    sends::<halfkey_protocol::SigningParty>();
}
