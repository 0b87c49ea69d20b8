//! Attacks that need a look inside the library's messages (PROTOCOL.md 5).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use dkls23::utilities::{
    hashes::tagged_hash_as_scalar,
    oracle_tags::TAG_OT_BASE_H,
    ot::base::{OTReceiver, OTSender},
};
use halfkey_envelope::{entropy::DangerSeededEntropy, wallet::Curve};
use k256::{
    ecdsa::Signature as K256Signature,
    elliptic_curve::{PrimeField, group::GroupEncoding},
};
use proptest::prelude::*;

use super::*;
use crate::{half::Half, party::danger_deal, sign::check_ecdsa};

const JOB: EcdsaJob<'static> = EcdsaJob { id: [3; 32], digest: [5; 32], path: &[] };

struct Side {
    role: Role,
    share: SigningShare,
    public: PairPublic,
    ot: Ot,
}

impl Side {
    fn signer(&self) -> Signer<'_, Ot> {
        Signer { role: self.role, share: &self.share, public: &self.public, ot: &self.ot }
    }
}

/// Both sides with OT state from a real `refresh_complete`.
fn sides() -> (Side, Side) {
    let (client, server) = danger_deal(Curve::Secp256k1, &mut DangerSeededEntropy::new(1)).unwrap();
    let hollow = |party| hollow_of(party, [1; 32], [2; 32]);
    let (state, request) = Dkls::rekey_client_1().unwrap();
    let (kept, answer) = Dkls::rekey_server_1(&hollow(&server), &request).unwrap();
    let (state, request) = Dkls::rekey_client_2(&hollow(&client), state, &answer).unwrap();
    let (peer, answer) = Dkls::rekey_server_2(&hollow(&server), kept, &request).unwrap();
    let own = Dkls::rekey_client_3(&hollow(&client), state, &answer).unwrap();
    let public = PairPublic::new(own.public_key, own.chain_code, own.share.point(), own.peer_point).unwrap();
    (
        Side { role: Role::Client, share: own.share, public, ot: own.ot },
        Side { role: Role::Peer, share: peer.share, public, ot: peer.ot },
    )
}

fn hollow_of(party: &crate::SigningParty, session: [u8; 32], refresh: [u8; 32]) -> Hollow<'_> {
    Hollow { role: party.role(), share: party.share(), public: party.public(), session, refresh }
}

/// The verification of `sign.rs`, for a signature of [`JOB`].
fn verifier(side: &Side) -> impl Fn(&RawEcdsa) -> Result<(K256Signature, u8)> {
    let key = side.public.public_key();
    move |raw| {
        check_ecdsa(&key, &JOB.digest, raw).ok_or(Error::SignatureInvalid)?;
        Ok((K256Signature::from_scalars(raw.r, raw.s).unwrap(), raw.recovery_id))
    }
}

fn blob(value: &impl Serialize) -> Blob {
    Blob::new(LIBRARY, value).unwrap()
}

fn flip(bytes: &mut [u8]) {
    bytes[0] ^= 1;
}

fn other(scalar: &mut K256Scalar) {
    *scalar += K256Scalar::ONE;
}

fn shift(point: &mut AffinePoint) {
    *point = (ProjectivePoint::GENERATOR + *point).to_affine();
}

type Tamper<T> = (&'static str, Error, fn(&mut T));

const ROUND_1: [Tamper<TransmitPhase1to2>; 6] = [
    ("u", Error::PeerCheated, |m| flip(&mut m.mul_transmit.u[0])),
    ("u, last", Error::PeerCheated, |m| flip(m.mul_transmit.u.last_mut().unwrap())),
    ("verify_x", Error::PeerCheated, |m| flip(&mut m.mul_transmit.verify_x)),
    ("verify_t", Error::PeerCheated, |m| flip(&mut m.mul_transmit.verify_t[0])),
    ("nonce", Error::PeerCheated, |m| flip(&mut m.mul_transmit.nonce)),
    ("session_binding", Error::PeerInvalid, |m| flip(&mut m.session_binding)),
];

const ROUND_2: [Tamper<ClientRounds2And3>; 14] = [
    ("tau", Error::PeerCheated, |m| other(&mut m.round2.mul_transmit.vector_of_tau[0][0])),
    ("ote_salt", Error::PeerCheated, |m| flip(&mut m.round2.mul_transmit.ote_salt)),
    ("verify_r", Error::PeerCheated, |m| flip(&mut m.round2.mul_transmit.verify_r)),
    ("verify_u", Error::PeerCheated, |m| other(&mut m.round2.mul_transmit.verify_u[0])),
    ("gamma_sender", Error::PeerCheated, |m| other(&mut m.round2.mul_transmit.gamma_sender[0])),
    ("gamma_u", Error::PeerCheated, |m| shift(&mut m.round2.gamma_u)),
    ("gamma_v", Error::PeerCheated, |m| shift(&mut m.round2.gamma_v)),
    ("public_share", Error::PeerCheated, |m| shift(&mut m.round2.public_share)),
    ("psi", Error::PeerInvalid, |m| other(&mut m.round2.psi)),
    ("instance_point", Error::PeerInvalid, |m| shift(&mut m.round2.instance_point)),
    ("salt", Error::PeerInvalid, |m| flip(&mut m.round2.salt)),
    ("session_binding", Error::PeerInvalid, |m| flip(&mut m.round2.session_binding)),
    ("u", Error::PeerInvalid, |m| other(&mut m.round3.u)),
    ("w", Error::PeerInvalid, |m| other(&mut m.round3.w)),
];

/// Each attempt starts from the same stored state of the server, as if the attacker could rewind it.
#[test]
fn t01_every_tampered_field_aborts_and_ot_fields_ban() {
    let (client, server) = sides();
    let (state, request) = Dkls::sign_client_1(&client.signer(), &JOB).unwrap();
    for (field, expected, tamper) in ROUND_1 {
        let mut message = request.open::<TransmitPhase1to2>(LIBRARY).unwrap();
        tamper(&mut message);
        let error = Dkls::sign_server_1(&server.signer(), &JOB, &blob(&message)).err();
        assert_eq!(error, Some(expected), "round 1, {field}");
        assert_eq!(expected.is_ban(), expected == Error::PeerCheated);
    }
    let (kept, answer) = Dkls::sign_server_1(&server.signer(), &JOB, &request).unwrap();
    let kept = blob(&kept);
    let (_, request) = Dkls::sign_client_2(state, &answer).unwrap();
    for (field, expected, tamper) in ROUND_2 {
        let mut message = request.open::<ClientRounds2And3>(LIBRARY).unwrap();
        tamper(&mut message);
        let state = kept.open::<ServerSign>(LIBRARY).unwrap();
        let error = Dkls::sign_server_2(&server.signer(), &JOB, state, &blob(&message), verifier(&server)).err();
        assert_eq!(error, Some(expected), "round 2, {field}");
    }
    let state = kept.open::<ServerSign>(LIBRARY).unwrap();
    let honest = Dkls::sign_server_2(&server.signer(), &JOB, state, &request, verifier(&server));
    assert!(honest.is_ok(), "the honest message still works");
}

#[test]
fn what_is_assembled_is_what_the_library_assembles_and_nothing_is_returned_unverified() {
    let (client, server) = sides();
    let mut recovery_ids = [false; 2];
    while recovery_ids != [true; 2] {
        let (state, request) = Dkls::sign_client_1(&client.signer(), &JOB).unwrap();
        let (kept, answer) = Dkls::sign_server_1(&server.signer(), &JOB, &request).unwrap();
        let kept = blob(&kept);
        let (state, request) = Dkls::sign_client_2(state, &answer).unwrap();
        let again = || kept.open::<ServerSign>(LIBRARY).unwrap();
        let refuses = |_: &RawEcdsa| -> Result<()> { Err(Error::Internal) };
        let refused = Dkls::sign_server_2(&server.signer(), &JOB, again(), &request, refuses).err();
        assert_eq!(refused, Some(Error::SignatureInvalid));
        let signed = Dkls::sign_server_2(&server.signer(), &JOB, again(), &request, verifier(&server));
        let (server_signature, answer) = signed.unwrap();
        let parts = [state.ours.clone(), answer.open::<Broadcast3to4<K>>(LIBRARY).unwrap()];
        let (s, recovery_id) = state.party.sign_phase4(&state.data, &state.x, &parts, true).unwrap();
        let x = state.x.clone();
        let (signature, id) = Dkls::sign_client_3(state, &answer, verifier(&client)).unwrap();
        assert_eq!((signature, id), server_signature);
        assert_eq!((hex::encode(signature.to_bytes()), id), (x + &s, recovery_id));
        recovery_ids[usize::from(id)] = true;
    }
}

/// 256 tampering attempts at the OT extension: none gets an answer, so none gets a second one from one OT state.
#[test]
fn t01_256_tampering_attempts_never_get_an_answer() {
    let (client, server) = sides();
    let (_, request) = Dkls::sign_client_1(&client.signer(), &JOB).unwrap();
    for attempt in 0..256usize {
        let mut message = request.open::<TransmitPhase1to2>(LIBRARY).unwrap();
        let u = &mut message.mul_transmit.u;
        let (row, column) = (attempt % u.len(), (attempt * 7) % u[0].len());
        u[row][column] ^= 1 << (attempt % 8);
        assert_eq!(Dkls::sign_server_1(&server.signer(), &JOB, &blob(&message)).err(), Some(Error::PeerCheated));
    }
}

/// Up to 0.5.1 the base-OT point was `h = k·G` with a `k` that anybody could hash, so a receiver got both messages:
/// with `u = bit·h + r·G` and `z = s·G` it knows `s·v` and `s·(v − h)`. The proof of concept must fail now.
#[test]
fn t02_nobody_knows_the_logarithm_of_the_base_ot_point() {
    let session = b"session".as_slice();
    let sender = OTSender::<K>::init(session);
    let receiver = OTReceiver::init();
    let (r, proof) = receiver.run_phase1::<K>(session, false);
    let (m0, m1) = sender.run_phase2(session, &receiver.seed, &proof).unwrap();
    let z = sender.run_phase1().point;
    let message = |value: ProjectivePoint| {
        let bytes = value.to_affine().to_bytes();
        dkls23::utilities::hashes::tagged_hash(dkls23::utilities::oracle_tags::TAG_OT_BASE_MSG, &[session, &bytes])
    };
    assert_eq!(message(z * r), m0, "the chosen message, by the same computation as the attack");
    let components: [&[u8]; 2] = [session, &receiver.seed];
    for tag in [TAG_OT_BASE_H, b"dkls23/ot/base/h/v1".as_slice()] {
        let k = tagged_hash_as_scalar::<K>(tag, &components);
        assert_ne!((ProjectivePoint::GENERATOR * k).to_affine(), proof.proof0.base_h, "known logarithm");
        assert_ne!(message(z * (r - k)), m1, "the attack of 0.5.1 gives the other message");
    }
}

/// The stock refresh lets the party that moves second cancel the change: kept as a warning, and as the reason why
/// `reshare` exists. The same adversary fails against `reshare` in `src/reshare/tests.rs`.
#[test]
fn t06_the_stock_refresh_can_be_cancelled_by_a_rushing_peer() {
    let (client, server) = danger_deal(Curve::Secp256k1, &mut DangerSeededEntropy::new(2)).unwrap();
    let (client, server) = (hollow_of(&client, [1; 32], [2; 32]), hollow_of(&server, [1; 32], [2; 32]));
    let (state, request) = Dkls::rekey_client_1().unwrap();
    let theirs = request.open::<Fragment>(LIBRARY).unwrap().0;
    // A zero-constant polynomial is r·X: what reached us at X = 2 tells r, and −r·X cancels it everywhere.
    let r = theirs * half().unwrap();
    let party = hollow_party(&server).unwrap();
    let ours = Fragments([-(r + r), -r]);
    let committed = commit_refresh(&party, &server, &ours, &Fragment(theirs)).unwrap();
    let answer = blob(&(Fragment(-r), committed.commitments()));
    let (state, _) = Dkls::rekey_client_2(&client, state, &answer).unwrap();
    let (_, openings) = open_refresh(&party, &server, committed).unwrap();
    let refused = Dkls::rekey_client_3(&client, state, &blob(&openings)).err();
    // The correction is zero, whose proof has the identity as its point: our own check of received points stops the
    // extreme case, the library alone does not.
    assert_eq!(refused, Some(Error::InvalidPoint));

    // Any other offset of the attacker's choice goes through: here the client's half moves by exactly 5·2.
    let (state, request) = Dkls::rekey_client_1().unwrap();
    let r = request.open::<Fragment>(LIBRARY).unwrap().0 * half().unwrap();
    let five = K256Scalar::from(5u64);
    let ours = Fragments([(five - r) + (five - r), five - r]);
    let committed = commit_refresh(&party, &server, &ours, &request.open::<Fragment>(LIBRARY).unwrap()).unwrap();
    let answer = blob(&(Fragment(five - r), committed.commitments()));
    let (state, request) = Dkls::rekey_client_2(&client, state, &answer).unwrap();
    let (theirs, their_openings) = request.open::<(Commitments, Openings)>(LIBRARY).unwrap();
    let (opened, openings) = open_refresh(&party, &server, committed).unwrap();
    finish_refresh(&party, &server, &opened, &theirs, &their_openings).unwrap();
    let moved = Dkls::rekey_client_3(&client, state, &blob(&openings)).unwrap();
    let Scalar::Secp256k1(new) = moved.share.scalar() else { panic!() };
    let Scalar::Secp256k1(old) = client.share.scalar() else { panic!() };
    assert_eq!(new - old, five + five, "the attacker chose the offset");
}

/// Trap 1: what leaves in round 2 holds no part of the proof.
#[test]
fn t10_round_2_carries_the_commitment_and_not_the_proof() {
    let (_, request) = Dkls::dkg_client_1().unwrap();
    let (kept, answer) = Dkls::dkg_server_1(&[9; 32], &request).unwrap();
    let point = kept.0.proof.proof.point.to_bytes();
    assert!(answer.data().len() < 200, "{} bytes", answer.data().len());
    assert!(!answer.data().windows(32).any(|window| window == &point[1..]), "the point itself must not be sent");
    for proof in &kept.0.proof.proof.proofs {
        let response = proof.challenge_response.to_repr();
        assert!(!answer.data().windows(32).any(|window| window == response.as_slice()));
    }
}

#[test]
fn t10_an_opening_of_another_commitment_is_refused() {
    let (_, kept, request) = dkg_until_request_2();
    let (mut theirs, openings) = request.open::<(Commitments, Openings)>(LIBRARY).unwrap();
    flip(&mut theirs.proof);
    let refused = Dkls::dkg_server_2(&[9; 32], kept, &blob(&(theirs, openings))).err();
    assert_eq!(refused, Some(Error::PeerInvalid));
}

#[test]
fn t10_a_copied_commitment_and_proof_are_refused() {
    let (_, kept, request) = dkg_until_request_2();
    let (mut theirs, mut openings) = request.open::<(Commitments, Openings)>(LIBRARY).unwrap();
    theirs.proof = kept.0.proof.commitment;
    openings.proof = kept.0.proof.proof.clone();
    let refused = Dkls::dkg_server_2(&[9; 32], kept, &blob(&(theirs, openings))).err();
    assert_eq!(refused, Some(Error::CommitmentMismatch));
}

fn dkg_until_request_2() -> (AwaitOpenings, ServerGeneration, Blob) {
    let (state, request) = Dkls::dkg_client_1().unwrap();
    let (kept, answer) = Dkls::dkg_server_1(&[9; 32], &request).unwrap();
    let (state, request) = Dkls::dkg_client_2(&[9; 32], state, &answer).unwrap();
    (state, kept, request)
}

/// One recorded key generation, up to the server's second step.
struct Recorded {
    kept: Blob,
    request: Blob,
}

impl Recorded {
    fn new() -> Self {
        let (_, kept, request) = dkg_until_request_2();
        Self { kept: blob(&kept), request }
    }

    /// Runs the server's second step on a changed request.
    fn with(&self, change: impl Fn(&mut Commitments, &mut Openings)) -> Option<Error> {
        let (mut theirs, mut openings) = self.request.open::<(Commitments, Openings)>(LIBRARY).unwrap();
        change(&mut theirs, &mut openings);
        let kept = self.kept.open::<ServerGeneration>(LIBRARY).unwrap();
        Dkls::dkg_server_2(&[9; 32], kept, &blob(&(theirs, openings))).err()
    }
}

#[test]
fn t11_vectors_of_another_length_are_refused() {
    let (dkg, malformed) = (Recorded::new(), Some(Error::Malformed));
    assert_eq!(dkg.with(|_, o| o.multiplication.enc_proofs.clear()), malformed, "0 OT proofs");
    assert_eq!(dkg.with(|_, o| o.multiplication.enc_proofs.truncate(255)), malformed, "255 OT proofs");
    let one_more = |_: &mut Commitments, o: &mut Openings| {
        let last = o.multiplication.enc_proofs[255].clone();
        o.multiplication.enc_proofs.push(last);
    };
    assert_eq!(dkg.with(one_more), malformed, "257 OT proofs");
    assert_eq!(dkg.with(|_, o| o.proof.proofs.truncate(63)), malformed, "63 responses");
    assert_eq!(dkg.with(|_, o| o.proof.rand_commitments.truncate(63)), malformed, "63 commitments");
    assert_eq!(dkg.with(|_, o| o.multiplication.dlog_proof.proofs.clear()), malformed, "no responses");
}

#[test]
fn t11_signing_vectors_of_another_length_never_get_an_answer() {
    let (client, server) = sides();
    let (_, request) = Dkls::sign_client_1(&client.signer(), &JOB).unwrap();
    let changes: [fn(&mut TransmitPhase1to2); 4] = [
        |m| m.mul_transmit.u.clear(),
        |m| m.mul_transmit.u.truncate(1),
        |m| m.mul_transmit.u.push(m.mul_transmit.u[0]),
        |m| m.mul_transmit.verify_t.truncate(1),
    ];
    for change in changes {
        let mut message = request.open::<TransmitPhase1to2>(LIBRARY).unwrap();
        change(&mut message);
        assert!(Dkls::sign_server_1(&server.signer(), &JOB, &blob(&message)).is_err());
    }
}

#[test]
fn t12_only_the_peer_s_index_is_accepted() {
    let (dkg, wrong) = (Recorded::new(), Some(Error::WrongSession));
    let (us, them) = (index(Role::Peer).unwrap(), index(Role::Client).unwrap());
    let third = PartyIndex::new(3).unwrap();
    for sender in [us, third] {
        assert_eq!(dkg.with(|c, _| c.zero_share.parties.sender = sender), wrong);
        assert_eq!(dkg.with(|_, o| o.multiplication.parties.sender = sender), wrong);
        assert_eq!(dkg.with(|_, o| o.chain_code.as_mut().unwrap().sender_index = sender), wrong);
    }
    assert_eq!(dkg.with(|_, o| o.zero_share.parties.receiver = them), wrong);
    assert!(postcard::from_bytes::<PartyIndex>(&[0]).is_err(), "index 0 is no index");
    let (client, server) = sides();
    let (_, request) = Dkls::sign_client_1(&client.signer(), &JOB).unwrap();
    let mut message = request.open::<TransmitPhase1to2>(LIBRARY).unwrap();
    message.parties.sender = us;
    assert_eq!(Dkls::sign_server_1(&server.signer(), &JOB, &blob(&message)).err(), wrong);
}

/// The server chose its polynomial and committed before it saw anything of ours but one fragment; choosing another one
/// after our opening does not fit its commitment.
#[test]
fn t13_a_point_chosen_after_ours_is_refused() {
    let (state, request) = Dkls::dkg_client_1().unwrap();
    let (kept, answer) = Dkls::dkg_server_1(&[9; 32], &request).unwrap();
    let (state, _) = Dkls::dkg_client_2(&[9; 32], state, &answer).unwrap();
    let data = session_data(Role::Peer, &[9; 32]).unwrap();
    let (_, mut openings) = open_dkg(&data, kept.0).unwrap();
    let (chosen, _) = DLogProof::<K>::prove_commit(&K256Scalar::from(42u64), &[9; 32]).unwrap();
    openings.proof = chosen;
    assert_eq!(Dkls::dkg_client_3(&[9; 32], state, &blob(&openings)).err(), Some(Error::PeerInvalid));
}

#[test]
fn t14_the_identity_is_refused_in_every_point_of_a_message() {
    let (dkg, identity) = (Recorded::new(), AffinePoint::IDENTITY);
    let invalid = Some(Error::InvalidPoint);
    assert_eq!(dkg.with(|_, o| o.proof.point = identity), invalid);
    assert_eq!(dkg.with(|_, o| o.proof.rand_commitments[7] = identity), invalid);
    assert_eq!(dkg.with(|_, o| o.multiplication.dlog_proof.point = identity), invalid);
    assert_eq!(dkg.with(|_, o| o.multiplication.enc_proofs[3].proof1.point_u = identity), invalid);
    assert_eq!(dkg.with(|_, o| o.multiplication.enc_proofs[3].commitments0.rc_h = identity), invalid);

    let (client, server) = sides();
    let (state, request) = Dkls::sign_client_1(&client.signer(), &JOB).unwrap();
    let (kept, answer) = Dkls::sign_server_1(&server.signer(), &JOB, &request).unwrap();
    let kept = blob(&kept);
    let (_, request) = Dkls::sign_client_2(state, &answer).unwrap();
    let fields: [fn(&mut ClientRounds2And3) -> &mut AffinePoint; 4] = [
        |m| &mut m.round2.gamma_u,
        |m| &mut m.round2.gamma_v,
        |m| &mut m.round2.public_share,
        |m| &mut m.round2.instance_point,
    ];
    for field in fields {
        let mut message = request.open::<ClientRounds2And3>(LIBRARY).unwrap();
        *field(&mut message) = identity;
        let state = kept.open::<ServerSign>(LIBRARY).unwrap();
        assert_eq!(
            Dkls::sign_server_2(&server.signer(), &JOB, state, &blob(&message), verifier(&server)).err(),
            invalid
        );
    }
}

#[test]
fn t14_another_library_version_and_trailing_bytes_are_refused() {
    let fragment = Fragment(K256Scalar::ONE);
    let other = Blob::new("dkls23/0.6.1", &fragment).unwrap();
    assert_eq!(Dkls::dkg_server_1(&[9; 32], &other).err(), Some(Error::LibraryMismatch));
    let trailing = Blob::new(LIBRARY, &(Fragment(K256Scalar::ONE), 0u8)).unwrap();
    assert_eq!(Dkls::dkg_server_1(&[9; 32], &trailing).err(), Some(Error::Malformed));
    // The order n itself, as a scalar on the wire.
    let order = (-K256Scalar::ONE).to_repr();
    let mut bytes = postcard::to_allocvec(&Fragment(-K256Scalar::ONE)).unwrap();
    let at = bytes.windows(32).position(|window| window == order.as_slice()).unwrap();
    bytes[at + 31] += 1;
    assert!(postcard::from_bytes::<Fragment>(&bytes).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No decoder of a library structure panics, whatever the bytes.
    #[test]
    fn t14_decoders_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = postcard::take_from_bytes::<(Fragment, Commitments)>(&bytes);
        let _ = postcard::take_from_bytes::<(Commitments, Openings)>(&bytes);
        let _ = postcard::take_from_bytes::<ServerRounds1And2>(&bytes);
        let _ = postcard::take_from_bytes::<ClientRounds2And3>(&bytes);
        let _ = postcard::take_from_bytes::<ServerSign>(&bytes);
        let _ = postcard::take_from_bytes::<Ot>(&bytes);
    }
}
