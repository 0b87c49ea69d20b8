//! Mixed pairs (T7), replays and reflections (T9), interleaved sessions (T16), kept state (T15).

use halfkey_envelope::{hpke::SecretKey, wallet::Curve};
use halfkey_protocol::{
    Ceremony, ClientBackupShare, CustodianBackupShare, DerivationPath, Error, Half, Kept, Op, Role, SigningParty,
    SigningShare, dkg,
    half::danger_combine,
    proof::{self, Purpose, Statement},
    rekey,
    reshare::{self, Claim, Reshare},
    sign::{self, ClientStep, ServerStep},
};

use crate::world::{World, text};

/// Halves by name, as scalars in one role type, so that any two can be put together.
fn halves(pairs: &[(&'static str, &dyn Fn() -> [u8; 32])], curve: Curve) -> Vec<(&'static str, SigningShare)> {
    pairs.iter().map(|(name, bytes)| (*name, SigningShare::from_bytes(curve, &bytes()).unwrap())).collect()
}

#[test]
fn t07_only_the_two_halves_of_one_pair_fit() {
    for curve in Curve::ALL {
        let mut world = World::new(7);
        let (client, server) = halfkey_protocol::party::danger_deal(curve, &mut world.entropy).unwrap();
        let first = world.backup(&client, &server);
        let second = world.backup(&client, &server);
        let halves = halves(
            &[
                ("a_C", &|| *client.share().to_bytes()),
                ("a_S", &|| *server.share().to_bytes()),
                ("b_C", &|| *first.client.to_bytes()),
                ("b_K", &|| *first.custodian.to_bytes()),
                ("b'_C", &|| *second.client.to_bytes()),
                ("b'_K", &|| *second.custodian.to_bytes()),
            ],
            curve,
        );
        let mut fits = Vec::new();
        for (i, (left, a)) in halves.iter().enumerate() {
            for (right, b) in &halves[i + 1..] {
                match danger_combine(a, b, &client.public().public_key()) {
                    Ok(_) => fits.push((*left, *right)),
                    Err(error) => assert_eq!(error, Error::ShareMismatch),
                }
            }
        }
        assert_eq!(fits, [("a_C", "a_S"), ("b_C", "b_K"), ("b'_C", "b'_K")]);
    }
}

/// Two parties of different pairs or generations of one wallet never sign together, and nobody is banned for it.
#[test]
fn t07_parties_of_different_generations_refuse() {
    for curve in Curve::ALL {
        let mut world = World::new(8);
        let (client, server) = world.dealt(curve);
        let backup = world.backup(&client, &server);
        let (new_client, new_server) = world.recover(&backup);
        let message = text(curve, "mixed");
        for (left, right) in [(&client, &new_server), (&new_client, &server)] {
            let error = world.sign(left, right, &message).unwrap_err();
            assert_eq!(error, Error::WrongSession);
        }
        world.sign(&new_client, &new_server, &message).unwrap();
    }
}

type Changed = (&'static str, fn(&mut World, &mut Ceremony));

const ELSEWHERE: [Changed; 6] = [
    ("session", |w, c| c.server_nonce = w.nonce()),
    ("wallet", |_, c| c.wallet = halfkey_envelope::id::WalletId::from_bytes([9; 16])),
    ("generation", |_, c| c.generation += 1),
    ("pair", |w, c| (c.old_pair, c.new_pair) = (Some(w.pair()), Some(w.pair()))),
    ("client", |_, c| c.client = halfkey_envelope::id::ClientId::from_bytes([9; 16])),
    ("deployment", |_, c| c.deployment = halfkey_envelope::id::DeploymentId::from_bytes([9; 16])),
];

#[test]
fn t09_a_replayed_signing_message_belongs_nowhere_else() {
    let root = DerivationPath::root();
    for curve in Curve::ALL {
        let mut world = World::new(9);
        let (client, server) = world.dealt(curve);
        let message = text(curve, "once");
        let ceremony = world.ceremony(Op::Sign, curve);
        let (state, request) = sign::Client::start(&ceremony, &client, &message, &root, &mut world.entropy).unwrap();
        for (what, change) in ELSEWHERE {
            let mut other = ceremony.clone();
            change(&mut world, &mut other);
            let refused = sign::server_1(&other, &server, &message, &root, &request, &mut world.entropy);
            assert_eq!(refused.err(), Some(Error::WrongSession), "{what}");
        }
        let other = text(curve, "twice");
        let refused = sign::server_1(&ceremony, &server, &other, &root, &request, &mut world.entropy);
        assert_eq!(refused.err(), Some(Error::WrongSession), "another message");
        // Reflection: our own request as the answer.
        assert_eq!(state.next(&request).err(), Some(Error::WrongSession));
    }
}

/// A second request of one session, sent into another one of the same pair and message.
#[test]
fn t09_a_replayed_second_request_belongs_to_its_session() {
    let mut world = World::new(10);
    let (client, server) = world.dealt(Curve::Secp256k1);
    let (message, root) = (text(Curve::Secp256k1, "once"), DerivationPath::root());
    let ceremony = world.ceremony(Op::Sign, Curve::Secp256k1);
    let (first, request) = start(&mut world, &ceremony, &client, &message);
    let (answer, kept) = server_1(&mut world, &ceremony, &server, &message, &request);
    let (_, kept_again) = server_1(&mut world, &ceremony, &server, &message, &request);
    let ClientStep::Send { request: second, .. } = first.next(&answer).unwrap() else { panic!() };
    let refused = sign::server_2(&ceremony, &server, &message, &root, kept_again, &second);
    assert_eq!(refused.err(), Some(Error::WrongSession));
    assert!(sign::server_2(&ceremony, &server, &message, &root, kept, &second).is_ok());
}

fn start(
    world: &mut World,
    ceremony: &Ceremony,
    client: &SigningParty,
    message: &sign::Message,
) -> (sign::Client, Vec<u8>) {
    sign::Client::start(ceremony, client, message, &DerivationPath::root(), &mut world.entropy).unwrap()
}

fn server_1(
    world: &mut World,
    ceremony: &Ceremony,
    server: &SigningParty,
    message: &sign::Message,
    request: &[u8],
) -> (Vec<u8>, Kept) {
    let root = DerivationPath::root();
    match sign::server_1(ceremony, server, message, &root, request, &mut world.entropy).unwrap() {
        ServerStep::Continue { answer, kept } => (answer, kept),
        ServerStep::Done { .. } => panic!("two round trips"),
    }
}

#[test]
fn t09_a_replayed_key_generation_message_belongs_nowhere_else() {
    for curve in Curve::ALL {
        let mut world = World::new(11);
        let ceremony = world.ceremony(Op::Create, curve);
        let (client, request) = dkg::Client::start(&ceremony, &mut world.entropy).unwrap();
        for (what, change) in ELSEWHERE {
            let mut other = ceremony.clone();
            change(&mut world, &mut other);
            let refused = dkg::server_1(&other, &request, &mut world.entropy);
            assert_eq!(refused.err(), Some(Error::WrongSession), "{what}");
        }
        let (_, kept) = dkg::server_1(&ceremony, &request, &mut world.entropy).unwrap();
        let (answer, _) = dkg::server_1(&ceremony, &request, &mut world.entropy).unwrap();
        let (_, second) = client.next(&answer).unwrap();
        let refused = dkg::server_2(&ceremony, kept, &second, &mut world.entropy);
        assert_eq!(refused.err(), Some(Error::WrongSession), "another run of the same request");
    }
}

#[test]
fn t09_a_replayed_rekey_message_belongs_nowhere_else() {
    let mut world = World::new(12);
    let (client, server) = world.dealt(Curve::Secp256k1);
    let (base, other) = (world.nonce(), world.nonce());
    let (state, request) = rekey::Client::start(&base, &client, &mut world.entropy).unwrap();
    let refused = rekey::server_1(&other, &server, &request, &mut world.entropy);
    assert_eq!(refused.err(), Some(Error::WrongSession));
    let (_, kept) = rekey::server_1(&base, &server, &request, &mut world.entropy).unwrap();
    let (answer, _) = rekey::server_1(&base, &server, &request, &mut world.entropy).unwrap();
    let (_, second) = state.next(&answer).unwrap();
    assert_eq!(rekey::server_2(&base, kept, &second).err(), Some(Error::WrongSession));
}

#[test]
fn t09_a_replayed_reshare_message_belongs_nowhere_else() {
    for curve in Curve::ALL {
        let mut world = World::new(13);
        let (client, server) = halfkey_protocol::party::danger_deal(curve, &mut world.entropy).unwrap();
        let honest = world.reshare(Op::Backup, client.public());
        let e = &mut world.entropy;
        let hpke = SecretKey::generate(e);
        let (dealer, commit) = reshare::Dealer::start(&honest, client.share(), &world.device, hpke, e).unwrap();
        let (deal, kept) = reshare::deal(&honest, server.share(), &world.server, &commit, e).unwrap();
        let (_, kept_again) = reshare::deal(&honest, server.share(), &world.server, &commit, e).unwrap();
        let opened = dealer.open::<ClientBackupShare>(&deal, &world.device, e).unwrap();
        for (what, change) in ELSEWHERE {
            let mut other = honest.clone();
            change(&mut world, &mut other.ceremony);
            let e = &mut world.entropy;
            let refused = reshare::deal(&other, server.share(), &world.server, &commit, e).err();
            assert_eq!(refused, Some(Error::WrongSession), "{what}");
            let refused = reshare::receive::<CustodianBackupShare>(&other, &world.custodian_hpke, &opened.message);
            assert_eq!(refused.err(), Some(Error::WrongSession), "{what}");
        }
        let healing = Reshare { ceremony: Ceremony { op: Op::Heal, ..honest.ceremony.clone() }, ..honest.clone() };
        let refused = reshare::receive::<SigningShare>(&healing, &world.server_hpke, &opened.message);
        assert_eq!(refused.err(), Some(Error::WrongSession), "another operation");
        let refused = reshare::verify_opening(&honest, kept_again, &opened.message);
        assert_eq!(refused.err(), Some(Error::WrongSession), "an opening of another deal");
        assert!(reshare::verify_opening(&honest, kept, &opened.message).is_ok());
    }
}

#[test]
fn t09_an_ack_counts_for_one_recipient_session_envelope_and_nonce() {
    let mut world = World::new(14);
    let (client, server) = halfkey_protocol::party::danger_deal(Curve::Ed25519, &mut world.entropy).unwrap();
    let first = world.backup(&client, &server);
    let second = world.backup(&client, &server);
    let (digest, nonce) = ([1; 32], [2; 32]);
    let claim = Claim { role: Role::Client, envelope: Some(&digest), nonce: &nonce };
    let e = &mut world.entropy;
    let ack = reshare::ack(&first.reshare, &first.transcript, &claim, &world.device, &first.client, e).unwrap();
    let verify = |backup: &crate::world::Backup, claim: &Claim<'_>| {
        reshare::verify_ack(&backup.reshare, &backup.transcript, claim, &ack).err()
    };
    assert_eq!(verify(&first, &claim), None);
    assert_eq!(verify(&second, &claim), Some(Error::WrongSession));
    assert_eq!(verify(&first, &Claim { role: Role::Peer, ..claim }), Some(Error::WrongSession));
    assert_eq!(verify(&first, &Claim { envelope: None, ..claim }), Some(Error::InvalidIdentitySignature));
    assert_eq!(verify(&first, &Claim { envelope: Some(&[3; 32]), ..claim }), Some(Error::InvalidIdentitySignature));
    assert_eq!(verify(&first, &Claim { nonce: &[3; 32], ..claim }), Some(Error::InvalidProof));
    // An ack is made from the copy read back: another half is refused at once.
    let refused = reshare::ack(&first.reshare, &first.transcript, &claim, &world.device, &second.client, e);
    assert_eq!(refused.err(), Some(Error::ShareMismatch));
}

#[test]
fn t09_a_proof_counts_for_one_purpose_context_pair_and_nonce() {
    for curve in Curve::ALL {
        let mut world = World::new(15);
        let (client, server) = halfkey_protocol::party::danger_deal(curve, &mut world.entropy).unwrap();
        let (context, nonce, pair) = (world.nonce(), world.nonce(), world.pair());
        let statement = Statement { purpose: Purpose::Possession, context: &context, pair, nonce: &nonce };
        let bytes = proof::prove(&statement, client.share(), &mut world.entropy).unwrap();
        let point = client.public().client_point();
        assert_eq!(proof::verify(&statement, &point, &bytes), Ok(()));
        let (other, elsewhere) = ([1; 32], world.pair());
        for wrong in [
            Statement { purpose: Purpose::Eject, ..statement },
            Statement { context: &other, ..statement },
            Statement { pair: elsewhere, ..statement },
            Statement { nonce: &other, ..statement },
        ] {
            assert_eq!(proof::verify(&wrong, &point, &bytes), Err(Error::InvalidProof));
        }
        assert_eq!(proof::verify(&statement, &server.public().peer_point(), &bytes), Err(Error::InvalidProof));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(proof::verify(&statement, &point, &changed), Err(Error::InvalidProof));
        }
        assert_eq!(proof::verify(&statement, &point, &[bytes.as_slice(), &[0]].concat()), Err(Error::InvalidProof));
    }
}

/// FROST's nonces have no stored form: the server's one step gives an answer and keeps nothing.
#[test]
fn t15_the_server_keeps_nothing_of_an_eddsa_signature() {
    let mut world = World::new(16);
    let (client, server) = world.dealt(Curve::Ed25519);
    let (message, root) = (text(Curve::Ed25519, "stateless"), DerivationPath::root());
    let ceremony = world.ceremony(Op::Sign, Curve::Ed25519);
    let (_, request) = start(&mut world, &ceremony, &client, &message);
    let mut answers = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let step = sign::server_1(&ceremony, &server, &message, &root, &request, &mut world.entropy).unwrap();
        let ServerStep::Done { answer } = step else { panic!("nothing may be kept") };
        assert!(answers.insert(answer), "fresh nonces for every answer, a replay included");
    }
}

/// Kept state of one step or session is of no use in another.
#[test]
fn t15_kept_state_belongs_to_one_step_and_session() {
    let mut world = World::new(17);
    let (client, server) = world.dealt(Curve::Secp256k1);
    let (message, root) = (text(Curve::Secp256k1, "kept"), DerivationPath::root());
    let ceremony = world.ceremony(Op::Sign, Curve::Secp256k1);
    let (state, request) = start(&mut world, &ceremony, &client, &message);
    let (answer, kept) = server_1(&mut world, &ceremony, &server, &message, &request);
    let ClientStep::Send { request, .. } = state.next(&answer).unwrap() else { panic!() };
    let bytes = kept.as_bytes().to_vec();
    let other = world.ceremony(Op::Sign, Curve::Secp256k1);
    let refused = sign::server_2(&other, &server, &message, &root, Kept::from_bytes(bytes.clone()), &request);
    assert_eq!(refused.err(), Some(Error::InvalidState));
    let refused = rekey::server_2(&[1; 32], Kept::from_bytes(bytes.clone()), &request);
    assert_eq!(refused.err(), Some(Error::InvalidState));
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        let refused =
            sign::server_2(&ceremony, &server, &message, &root, Kept::from_bytes(bytes[..cut].to_vec()), &request);
        assert_eq!(refused.err(), Some(Error::InvalidState));
    }
}

/// Fifty sessions of one pair, each step of all before the next step of any, answers taken in reverse order.
#[test]
fn t16_fifty_interleaved_sessions_do_not_mix() {
    let root = DerivationPath::root();
    for curve in Curve::ALL {
        let mut world = World::new(18);
        let (client, server) = world.dealt(curve);
        let messages: Vec<_> = (0..50).map(|i| text(curve, &format!("message {i}"))).collect();
        let ceremonies: Vec<_> = (0..50).map(|_| world.ceremony(Op::Sign, curve)).collect();
        let mut open = Vec::new();
        for (ceremony, message) in ceremonies.iter().zip(&messages) {
            open.push(start(&mut world, ceremony, &client, message));
        }
        let mut answers = Vec::new();
        for (i, (_, request)) in open.iter().enumerate().rev() {
            let e = &mut world.entropy;
            answers.push(sign::server_1(&ceremonies[i], &server, &messages[i], &root, request, e).unwrap());
        }
        answers.reverse();
        let mut signatures = std::collections::BTreeSet::new();
        for (i, ((state, _), step)) in open.into_iter().zip(answers).enumerate() {
            let signature = match step {
                ServerStep::Done { answer } => match state.next(&answer).unwrap() {
                    ClientStep::Done(signature) => signature,
                    ClientStep::Send { .. } => panic!(),
                },
                ServerStep::Continue { answer, kept } => {
                    let ClientStep::Send { request, state } = state.next(&answer).unwrap() else { panic!() };
                    let (answer, _) =
                        sign::server_2(&ceremonies[i], &server, &messages[i], &root, kept, &request).unwrap();
                    state.finish(&answer).unwrap()
                }
            };
            assert!(signatures.insert(signature.to_bytes()));
        }
    }
}

/// Sessions of one pair, message and context at the same time, and their second requests crossed: refused before any
/// library call, so an innocent mix-up is never taken for an attack and bans nobody.
#[test]
fn t16_crossed_sessions_are_refused_without_a_ban() {
    let mut world = World::new(19);
    let (client, server) = world.dealt(Curve::Secp256k1);
    let (message, root) = (text(Curve::Secp256k1, "the same"), DerivationPath::root());
    let ceremony = world.ceremony(Op::Sign, Curve::Secp256k1);
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let (state, request) = start(&mut world, &ceremony, &client, &message);
        let (answer, kept) = server_1(&mut world, &ceremony, &server, &message, &request);
        let ClientStep::Send { request, state } = state.next(&answer).unwrap() else { panic!() };
        sessions.push((state, request, kept.as_bytes().to_vec()));
    }
    for (i, (_, request, _)) in sessions.iter().enumerate() {
        for (j, (_, _, kept)) in sessions.iter().enumerate().filter(|(j, _)| i != *j) {
            let kept = Kept::from_bytes(kept.clone());
            let refused = sign::server_2(&ceremony, &server, &message, &root, kept, request).err();
            assert_eq!(refused, Some(Error::WrongSession), "{i} into {j}");
        }
    }
    for (state, request, kept) in sessions {
        let (answer, _) =
            sign::server_2(&ceremony, &server, &message, &root, Kept::from_bytes(kept), &request).unwrap();
        state.finish(&answer).unwrap();
    }
}
