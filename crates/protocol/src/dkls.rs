//! The one file that names `dkls23`: threshold ECDSA over secp256k1 (Doerner, Kondi, Lee, shelat, eprint 2023/765).
//!
//! Schedules: PROTOCOL.md 4.5. Letting the second mover answer two rounds at once is sound because the honest party is
//! only ever less informed than in the simultaneous model, and whoever moves second has sent its commitment before it
//! sees the opening. Traps of PROTOCOL.md 2 closed here:
//! 1. round 2 sends `(index, commitment)` alone; the proof goes out in round 3, and the verifier rebuilds
//!    `ProofCommitment` with the commitment it **stored**;
//! 2. fragments leave only inside messages whose transport is sealed to the peer (DECISIONS.md D6);
//! 3. `BanCounterparty` becomes [`Error::PeerCheated`]; everything else is recoverable;
//! 4. `Party` never leaves this file, and is made anew from the hollow share and the OT state for each use;
//! 5. the identity is refused for every received point.

use std::{collections::BTreeMap, mem};

use dkls23::{
    protocols::{
        Abort, AbortKind, Parameters, PartiesMessage, Party, PartyIndex, PublicKeyPackage,
        derivation::DerivData,
        dkg::{
            self, BroadcastDerivationPhase2to4, BroadcastDerivationPhase3to4, KeepInitMulPhase3to4,
            KeepInitZeroSharePhase2to3, KeepInitZeroSharePhase3to4, ProofCommitment, SessionData,
            TransmitInitMulPhase3to4, TransmitInitZeroSharePhase2to4, TransmitInitZeroSharePhase3to4,
            UniqueKeepDerivationPhase2to3,
        },
        signing::{
            Broadcast3to4, KeepPhase1to2, KeepPhase2to3, SignData, TransmitPhase1to2, TransmitPhase2to3,
            UniqueKeep1to2, UniqueKeep2to3,
        },
    },
    utilities::{
        multiplication::{MulReceiver, MulSender},
        ot::extension::KAPPA,
        proofs::{DLogProof, EncProof, R as FISCHLIN_REPETITIONS},
        zero_shares::ZeroShare,
    },
};
use k256::{AffinePoint, ProjectivePoint, Scalar as K256Scalar, Secp256k1, elliptic_curve::scalar::IsHigh};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{
    backend::{EcdsaBackend, EcdsaJob, Generated, Hollow, RawEcdsa, Signer},
    error::{Error, Result},
    field::{Scalar, Secret},
    half::SigningShare,
    pair::{PairPublic, Role},
    point::{Group2, Point},
    wire::Blob,
};

/// The back end.
pub(crate) struct Dkls;

const LIBRARY: &str = "dkls23/0.6.2";
type K = Secp256k1;

/// Everything of a `Party` that is neither the share nor the public record.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ot {
    session_id: Vec<u8>,
    zero_share: ZeroShare,
    mul_senders: BTreeMap<PartyIndex, MulSender<K>>,
    mul_receivers: BTreeMap<PartyIndex, MulReceiver<K>>,
}

/// Round 1: the other party's fragment of a polynomial. Secret.
#[derive(Serialize, Deserialize)]
struct Fragment(K256Scalar);

impl Drop for Fragment {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Round 2, without the proof (trap 1).
#[derive(Serialize, Deserialize)]
struct Commitments {
    proof: [u8; 32],
    zero_share: TransmitInitZeroSharePhase2to4,
    /// Absent in a refresh.
    chain_code: Option<BroadcastDerivationPhase2to4>,
}

/// Round 3: the openings and the OT initialisation.
#[derive(Serialize, Deserialize)]
struct Openings {
    proof: DLogProof<K>,
    zero_share: TransmitInitZeroSharePhase3to4,
    multiplication: TransmitInitMulPhase3to4<K>,
    chain_code: Option<BroadcastDerivationPhase3to4>,
}

/// Our own state after round 2, before the openings are made.
#[derive(Serialize, Deserialize)]
struct Committed {
    poly_point: K256Scalar,
    proof: ProofCommitment<K>,
    zero_kept: BTreeMap<PartyIndex, KeepInitZeroSharePhase2to3>,
    zero_sent: TransmitInitZeroSharePhase2to4,
    chain_kept: Option<UniqueKeepDerivationPhase2to3>,
    chain_sent: Option<BroadcastDerivationPhase2to4>,
}

impl Drop for Committed {
    fn drop(&mut self) {
        self.poly_point.zeroize();
        for kept in self.zero_kept.values_mut() {
            kept.seed.zeroize();
            kept.salt.zeroize();
        }
        if let Some(kept) = &mut self.chain_kept {
            kept.aux_chain_code.zeroize();
        }
    }
}

/// Our own state after round 3.
struct Opened {
    committed: Committed,
    zero_kept: BTreeMap<PartyIndex, KeepInitZeroSharePhase3to4>,
    mul_kept: BTreeMap<PartyIndex, KeepInitMulPhase3to4<K>>,
    chain_sent: Option<BroadcastDerivationPhase3to4>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        for kept in self.zero_kept.values_mut() {
            kept.seed.zeroize();
        }
        for kept in self.mul_kept.values_mut() {
            kept.ot_sender.s.zeroize();
            kept.ot_receiver.seed.zeroize();
            kept.nonce.zeroize();
            kept.vec_r.zeroize();
            kept.correlation.zeroize();
        }
    }
}

/// The client's fragments, its own first.
pub(crate) struct Fragments([K256Scalar; 2]);

impl Drop for Fragments {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The client after round 3, with the commitments that the server sent in round 2.
pub(crate) struct AwaitOpenings {
    opened: Opened,
    theirs: Commitments,
}

/// The server after round 2.
#[derive(Serialize, Deserialize)]
pub(crate) struct ServerGeneration(Committed);

/// One session of a signature: everything needed to go on, in memory.
pub(crate) struct ClientSign1 {
    party: Party<K>,
    data: SignData,
    unique: UniqueKeep1to2<K>,
    kept: BTreeMap<PartyIndex, KeepPhase1to2<K>>,
}

pub(crate) struct ClientSign2 {
    party: Party<K>,
    data: SignData,
    x: String,
    ours: Broadcast3to4<K>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ServerSign {
    unique: UniqueKeep2to3<K>,
    kept: BTreeMap<PartyIndex, KeepPhase2to3<K>>,
}

#[derive(Serialize, Deserialize)]
struct ClientRounds2And3 {
    round2: TransmitPhase2to3<K>,
    round3: Broadcast3to4<K>,
}

#[derive(Serialize, Deserialize)]
struct ServerRounds1And2 {
    round1: TransmitPhase1to2,
    round2: TransmitPhase2to3<K>,
}

impl EcdsaBackend for Dkls {
    const LIBRARY: &'static str = LIBRARY;
    type Ot = Ot;
    type ClientDkg1 = Fragments;
    type ClientDkg2 = AwaitOpenings;
    type ServerDkg = ServerGeneration;
    type ClientRekey1 = Fragments;
    type ClientRekey2 = AwaitOpenings;
    type ServerRekey = ServerGeneration;
    type ClientSign1 = ClientSign1;
    type ClientSign2 = ClientSign2;
    type ServerSign = ServerSign;

    fn dkg_client_1() -> Result<(Fragments, Blob)> {
        send_fragment(dkg::phase1::<K>(&session_data(Role::Client, &[0; 32])?), Role::Client)
    }

    fn dkg_server_1(session: &[u8; 32], request: &Blob) -> Result<(ServerGeneration, Blob)> {
        let data = session_data(Role::Peer, session)?;
        let (ours, fragment) = send_fragment(dkg::phase1::<K>(&data), Role::Peer)?;
        let committed = commit_dkg(&data, &ours, &request.open::<Fragment>(LIBRARY)?)?;
        let answer = Blob::new(LIBRARY, &(fragment.open::<Fragment>(LIBRARY)?, committed.commitments()))?;
        Ok((ServerGeneration(committed), answer))
    }

    fn dkg_client_2(session: &[u8; 32], ours: Fragments, answer: &Blob) -> Result<(AwaitOpenings, Blob)> {
        let data = session_data(Role::Client, session)?;
        let (fragment, theirs) = answer.open::<(Fragment, Commitments)>(LIBRARY)?;
        let committed = commit_dkg(&data, &ours, &fragment)?;
        let sent = committed.commitments();
        let (opened, openings) = open_dkg(&data, committed)?;
        Ok((AwaitOpenings { opened, theirs }, Blob::new(LIBRARY, &(sent, openings))?))
    }

    fn dkg_server_2(session: &[u8; 32], state: ServerGeneration, request: &Blob) -> Result<(Generated<Ot>, Blob)> {
        let data = session_data(Role::Peer, session)?;
        let (theirs, their_openings) = request.open::<(Commitments, Openings)>(LIBRARY)?;
        check_openings(Role::Peer, &theirs, &their_openings)?;
        let (opened, openings) = open_dkg(&data, state.0)?;
        let generated = finish_dkg(&data, Role::Peer, &opened, &theirs, &their_openings)?;
        Ok((generated, Blob::new(LIBRARY, &openings)?))
    }

    fn dkg_client_3(session: &[u8; 32], state: AwaitOpenings, answer: &Blob) -> Result<Generated<Ot>> {
        let data = session_data(Role::Client, session)?;
        let openings = answer.open::<Openings>(LIBRARY)?;
        check_openings(Role::Client, &state.theirs, &openings)?;
        finish_dkg(&data, Role::Client, &state.opened, &state.theirs, &openings)
    }

    fn rekey_client_1() -> Result<(Fragments, Blob)> {
        // The correction is a polynomial with constant term zero: it depends on no share.
        let blank = blank_party(Role::Client)?;
        send_fragment(blank.refresh_complete_phase1(), Role::Client)
    }

    fn rekey_server_1(hollow: &Hollow<'_>, request: &Blob) -> Result<(ServerGeneration, Blob)> {
        let party = hollow_party(hollow)?;
        let (ours, fragment) = send_fragment(party.refresh_complete_phase1(), Role::Peer)?;
        let committed = commit_refresh(&party, hollow, &ours, &request.open::<Fragment>(LIBRARY)?)?;
        let answer = Blob::new(LIBRARY, &(fragment.open::<Fragment>(LIBRARY)?, committed.commitments()))?;
        Ok((ServerGeneration(committed), answer))
    }

    fn rekey_client_2(hollow: &Hollow<'_>, ours: Fragments, answer: &Blob) -> Result<(AwaitOpenings, Blob)> {
        let party = hollow_party(hollow)?;
        let (fragment, theirs) = answer.open::<(Fragment, Commitments)>(LIBRARY)?;
        let committed = commit_refresh(&party, hollow, &ours, &fragment)?;
        let sent = committed.commitments();
        let (opened, openings) = open_refresh(&party, hollow, committed)?;
        Ok((AwaitOpenings { opened, theirs }, Blob::new(LIBRARY, &(sent, openings))?))
    }

    fn rekey_server_2(hollow: &Hollow<'_>, state: ServerGeneration, request: &Blob) -> Result<(Generated<Ot>, Blob)> {
        let party = hollow_party(hollow)?;
        let (theirs, their_openings) = request.open::<(Commitments, Openings)>(LIBRARY)?;
        check_openings(Role::Peer, &theirs, &their_openings)?;
        let (opened, openings) = open_refresh(&party, hollow, state.0)?;
        let generated = finish_refresh(&party, hollow, &opened, &theirs, &their_openings)?;
        Ok((generated, Blob::new(LIBRARY, &openings)?))
    }

    fn rekey_client_3(hollow: &Hollow<'_>, state: AwaitOpenings, answer: &Blob) -> Result<Generated<Ot>> {
        let party = hollow_party(hollow)?;
        let openings = answer.open::<Openings>(LIBRARY)?;
        check_openings(Role::Client, &state.theirs, &openings)?;
        finish_refresh(&party, hollow, &state.opened, &state.theirs, &openings)
    }

    fn sign_client_1(signer: &Signer<'_, Ot>, job: &EcdsaJob<'_>) -> Result<(ClientSign1, Blob)> {
        let party = signing_party(signer, job.path)?;
        let data = sign_data(Role::Client, job)?;
        let (unique, kept, sent) = party.sign_phase1(&data).map_err(abort)?;
        let request = Blob::new(LIBRARY, &one(sent)?)?;
        Ok((ClientSign1 { party, data, unique, kept }, request))
    }

    fn sign_server_1(signer: &Signer<'_, Ot>, job: &EcdsaJob<'_>, request: &Blob) -> Result<(ServerSign, Blob)> {
        let party = signing_party(signer, job.path)?;
        let data = sign_data(Role::Peer, job)?;
        let theirs = request.open::<TransmitPhase1to2>(LIBRARY)?;
        from_peer(Role::Peer, &theirs.parties)?;
        let (unique, kept, sent) = party.sign_phase1(&data).map_err(abort)?;
        let round1 = one(sent)?;
        let (unique, kept, sent) = party.sign_phase2(&data, unique, kept, &[theirs]).map_err(abort)?;
        let answer = Blob::new(LIBRARY, &ServerRounds1And2 { round1, round2: one(sent)? })?;
        Ok((ServerSign { unique, kept }, answer))
    }

    fn sign_client_2(state: ClientSign1, answer: &Blob) -> Result<(ClientSign2, Blob)> {
        let ClientSign1 { party, data, unique, kept } = state;
        let theirs = answer.open::<ServerRounds1And2>(LIBRARY)?;
        check_round2(Role::Client, &theirs.round2)?;
        from_peer(Role::Client, &theirs.round1.parties)?;
        let (unique, kept, sent) = party.sign_phase2(&data, unique, kept, &[theirs.round1]).map_err(abort)?;
        let (x, ours) = party.sign_phase3(&data, unique, kept, &[theirs.round2]).map_err(abort)?;
        let request = Blob::new(LIBRARY, &ClientRounds2And3 { round2: one(sent)?, round3: ours.clone() })?;
        Ok((ClientSign2 { party, data, x, ours }, request))
    }

    fn sign_server_2<T>(
        signer: &Signer<'_, Ot>,
        job: &EcdsaJob<'_>,
        state: ServerSign,
        request: &Blob,
        verified: impl Fn(&RawEcdsa) -> Result<T>,
    ) -> Result<(T, Blob)> {
        let party = signing_party(signer, job.path)?;
        let data = sign_data(Role::Peer, job)?;
        let theirs = request.open::<ClientRounds2And3>(LIBRARY)?;
        check_round2(Role::Peer, &theirs.round2)?;
        let (x, ours) = party.sign_phase3(&data, state.unique, state.kept, &[theirs.round2]).map_err(abort)?;
        let signature = assemble(&party, &data, &x, [ours.clone(), theirs.round3], verified)?;
        Ok((signature, Blob::new(LIBRARY, &ours)?))
    }

    fn sign_client_3<T>(state: ClientSign2, answer: &Blob, verified: impl Fn(&RawEcdsa) -> Result<T>) -> Result<T> {
        let theirs = answer.open::<Broadcast3to4<K>>(LIBRARY)?;
        assemble(&state.party, &state.data, &state.x, [state.ours, theirs], verified)
    }

    fn derive(public: &PairPublic, path: &[u32]) -> Result<Point> {
        let mut data = DerivData::<K> {
            depth: 0,
            child_number: 0,
            parent_fingerprint: [0; 4],
            poly_point: K256Scalar::ONE,
            pk: affine(&public.public_key())?,
            chain_code: *public.chain_code(),
        };
        for index in path {
            data = data.derive_child(*index).map_err(|_| Error::UnsupportedPath)?;
        }
        point(data.pk)
    }
}

// Sending and receiving.

fn index(role: Role) -> Result<PartyIndex> {
    PartyIndex::new(role.code()).map_err(|_| Error::Internal)
}

fn parameters() -> Result<Parameters> {
    Parameters::new(2, 2).map_err(|_| Error::Internal)
}

fn session_data(role: Role, session: &[u8; 32]) -> Result<SessionData> {
    Ok(SessionData { parameters: parameters()?, party_index: index(role)?, session_id: session.to_vec() })
}

/// The only message of a round between two parties.
fn one<T>(messages: Vec<T>) -> Result<T> {
    let [message] = <[T; 1]>::try_from(messages).map_err(|_| Error::Internal)?;
    Ok(message)
}

/// `fragments[j − 1]` is for party `j`: keeps our own, sends the other's.
fn send_fragment(mut fragments: Vec<K256Scalar>, role: Role) -> Result<(Fragments, Blob)> {
    let (own, other) = match (role, fragments.as_slice()) {
        (Role::Client, [own, other]) | (Role::Peer, [other, own]) => (*own, *other),
        _ => return Err(Error::Internal),
    };
    fragments.zeroize();
    Ok((Fragments([own, other]), Blob::new(LIBRARY, &Fragment(other))?))
}

fn commit_dkg(data: &SessionData, ours: &Fragments, theirs: &Fragment) -> Result<Committed> {
    let (poly_point, proof, zero_kept, zero_sent, chain_kept, chain_sent) =
        dkg::phase2::<K>(data, &[ours.0[0], theirs.0]);
    let (chain_kept, chain_sent) = (Some(chain_kept), Some(chain_sent));
    Ok(Committed { poly_point, proof, zero_kept, zero_sent: one(zero_sent)?, chain_kept, chain_sent })
}

fn commit_refresh(party: &Party<K>, hollow: &Hollow<'_>, ours: &Fragments, theirs: &Fragment) -> Result<Committed> {
    let (poly_point, proof, zero_kept, zero_sent) =
        party.refresh_complete_phase2(&hollow.refresh, &[ours.0[0], theirs.0]);
    Ok(Committed { poly_point, proof, zero_kept, zero_sent: one(zero_sent)?, chain_kept: None, chain_sent: None })
}

impl Committed {
    /// What may leave in round 2: never the proof (trap 1).
    fn commitments(&self) -> Commitments {
        Commitments {
            proof: self.proof.commitment,
            zero_share: self.zero_sent.clone(),
            chain_code: self.chain_sent.clone(),
        }
    }
}

fn open_dkg(data: &SessionData, committed: Committed) -> Result<(Opened, Openings)> {
    let chain_kept = committed.chain_kept.as_ref().ok_or(Error::InvalidState)?;
    let (zero_kept, zero_sent, mul_kept, mul_sent, chain_sent) =
        dkg::phase3::<K>(data, &committed.zero_kept, chain_kept);
    let openings = Openings {
        proof: committed.proof.proof.clone(),
        zero_share: one(zero_sent)?,
        multiplication: one(mul_sent)?,
        chain_code: Some(chain_sent.clone()),
    };
    Ok((Opened { committed, zero_kept, mul_kept, chain_sent: Some(chain_sent) }, openings))
}

fn open_refresh(party: &Party<K>, hollow: &Hollow<'_>, committed: Committed) -> Result<(Opened, Openings)> {
    let (zero_kept, zero_sent, mul_kept, mul_sent) =
        party.refresh_complete_phase3(&hollow.refresh, &committed.zero_kept);
    let openings = Openings {
        proof: committed.proof.proof.clone(),
        zero_share: one(zero_sent)?,
        multiplication: one(mul_sent)?,
        chain_code: None,
    };
    Ok((Opened { committed, zero_kept, mul_kept, chain_sent: None }, openings))
}

/// Both proofs, ours and the peer's, the latter with the commitment that was **stored** in round 2 (trap 1). A copy of
/// our own commitment is refused: it would be our own contribution sent back.
fn proofs(role: Role, ours: &Committed, theirs: &Commitments, openings: &Openings) -> Result<[ProofCommitment<K>; 2]> {
    if theirs.proof == ours.proof.commitment {
        return Err(Error::CommitmentMismatch);
    }
    let theirs =
        ProofCommitment { index: index(role.other())?, proof: openings.proof.clone(), commitment: theirs.proof };
    Ok([ours.proof.clone(), theirs])
}

fn finish_dkg(
    data: &SessionData,
    role: Role,
    ours: &Opened,
    theirs: &Commitments,
    openings: &Openings,
) -> Result<Generated<Ot>> {
    let proofs = proofs(role, &ours.committed, theirs, openings)?;
    let (party, package) = dkg::phase4::<K>(
        data,
        &ours.committed.poly_point,
        &proofs,
        &ours.zero_kept,
        std::slice::from_ref(&theirs.zero_share),
        std::slice::from_ref(&openings.zero_share),
        &ours.mul_kept,
        std::slice::from_ref(&openings.multiplication),
        &both(role, &ours.committed.chain_sent, &theirs.chain_code)?,
        &both(role, &ours.chain_sent, &openings.chain_code)?,
        |_| String::new(),
    )
    .map_err(abort)?;
    generated(role, party, &package)
}

/// A broadcast of both parties, by index.
fn both<T: Clone>(role: Role, ours: &Option<T>, theirs: &Option<T>) -> Result<BTreeMap<PartyIndex, T>> {
    let (ours, theirs) = (ours.clone().ok_or(Error::InvalidState)?, theirs.clone().ok_or(Error::Malformed)?);
    Ok(BTreeMap::from([(index(role)?, ours), (index(role.other())?, theirs)]))
}

fn generated(role: Role, party: Party<K>, package: &PublicKeyPackage<K>) -> Result<Generated<Ot>> {
    let share = additive(role, &party.poly_point)?;
    let theirs = package.verifying_share(index(role.other())?).ok_or(Error::Internal)?;
    let peer_point = additive_point(role.other(), theirs)?;
    let public_key = point(party.pk)?;
    let chain_code = *party.chain_code();
    Ok(Generated { share, public_key, chain_code, peer_point, ot: Ot::of(party) })
}

/// The refreshed party must have the wallet's key and chain code, and the peer's point moves by its committed correction.
fn finish_refresh(
    party: &Party<K>,
    hollow: &Hollow<'_>,
    ours: &Opened,
    theirs: &Commitments,
    openings: &Openings,
) -> Result<Generated<Ot>> {
    let role = hollow.role;
    let proofs = proofs(role, &ours.committed, theirs, openings)?;
    let refreshed = party
        .refresh_complete_phase4(
            &hollow.refresh,
            &ours.committed.poly_point,
            &proofs,
            &ours.zero_kept,
            std::slice::from_ref(&theirs.zero_share),
            std::slice::from_ref(&openings.zero_share),
            &ours.mul_kept,
            std::slice::from_ref(&openings.multiplication),
        )
        .map_err(abort)?;
    let package = package(hollow.public)?.refresh(&hollow.refresh, &proofs).map_err(|_| Error::PeerInvalid)?;
    if refreshed.pk != affine(&hollow.public.public_key())? || refreshed.chain_code() != hollow.public.chain_code() {
        return Err(Error::ShareMismatch);
    }
    generated(role, refreshed, &package)
}

fn package(public: &PairPublic) -> Result<PublicKeyPackage<K>> {
    let shares = BTreeMap::from([
        (index(Role::Client)?, poly_point_of(Role::Client, &public.client_point())?),
        (index(Role::Peer)?, poly_point_of(Role::Peer, &public.peer_point())?),
    ]);
    Ok(PublicKeyPackage::new(affine(&public.public_key())?, shares, parameters()?))
}

/// The signature of both parties' parts, **verified by the caller**, who finds its recovery id by that.
///
/// The library's own last step verifies it as well and then computes R anew for the recovery id: five multiplications in
/// constant time of what is public. It runs where the verification fails, and says what was wrong. It refuses an x that
/// is not below n, so R's x was not reduced and the recovery id is one of two.
fn assemble<T>(
    party: &Party<K>,
    data: &SignData,
    x: &str,
    parts: [Broadcast3to4<K>; 2],
    verified: impl Fn(&RawEcdsa) -> Result<T>,
) -> Result<T> {
    let signature = signature_of(x, &parts);
    let with = |recovery_id| signature.and_then(|(r, s)| verified(&RawEcdsa { r, s, recovery_id }).ok());
    if let Some(verified) = with(0).or_else(|| with(1)) {
        return Ok(verified);
    }
    party.sign_phase4(data, x, &parts, true).map_err(abort)?;
    Err(Error::SignatureInvalid)
}

/// r and s, low (step 10 of Protocol 3.6 in eprint 2023/765): `s = (w₁ + w₂) / (u₁ + u₂)`.
fn signature_of(x: &str, parts: &[Broadcast3to4<K>; 2]) -> Option<([u8; 32], [u8; 32])> {
    let [ours, theirs] = parts;
    let s = (ours.w + theirs.w) * Option::<K256Scalar>::from((ours.u + theirs.u).invert())?;
    let low = if bool::from(s.is_high()) { -s } else { s };
    let r = hex::decode(x).ok()?.try_into().ok()?;
    Some((r, low.to_bytes().into()))
}

/// Trap 3: an abort that spends OT state is a ban; every other one leaves the state as it was.
fn abort(abort: Abort) -> Error {
    match abort.kind {
        AbortKind::BanCounterparty(_) => Error::PeerCheated,
        AbortKind::Recoverable => Error::PeerInvalid,
    }
}

/// A message must be from the peer and for us; our own sent back, or an index 0 or above 2, is nobody's.
fn from_peer(us: Role, parties: &PartiesMessage) -> Result<()> {
    let fits = parties.sender == index(us.other())? && parties.receiver == index(us)?;
    if fits { Ok(()) } else { Err(Error::WrongSession) }
}

// Trap 5: the library's decoder accepts the identity, and vectors of any length.

fn check_round2(us: Role, message: &TransmitPhase2to3<K>) -> Result<()> {
    from_peer(us, &message.parties)?;
    not_identity([message.gamma_u, message.gamma_v, message.public_share, message.instance_point])
}

fn check_openings(us: Role, theirs: &Commitments, openings: &Openings) -> Result<()> {
    from_peer(us, &theirs.zero_share.parties)?;
    from_peer(us, &openings.zero_share.parties)?;
    from_peer(us, &openings.multiplication.parties)?;
    let broadcasts = [
        theirs.chain_code.as_ref().map(|sent| sent.sender_index),
        openings.chain_code.as_ref().map(|sent| sent.sender_index),
    ];
    if broadcasts.into_iter().flatten().any(|sender| Some(sender) != index(us.other()).ok()) {
        return Err(Error::WrongSession);
    }
    check_dlog(&openings.proof)?;
    check_dlog(&openings.multiplication.dlog_proof)?;
    has_length(&openings.multiplication.enc_proofs, usize::from(KAPPA))?;
    openings.multiplication.enc_proofs.iter().try_for_each(check_enc)
}

fn check_dlog(proof: &DLogProof<K>) -> Result<()> {
    has_length(&proof.rand_commitments, usize::from(FISCHLIN_REPETITIONS))?;
    has_length(&proof.proofs, usize::from(FISCHLIN_REPETITIONS))?;
    not_identity([proof.point])?;
    not_identity(proof.rand_commitments.iter().copied())
}

fn check_enc(proof: &EncProof<K>) -> Result<()> {
    for part in [&proof.proof0, &proof.proof1] {
        not_identity([part.base_g, part.base_h, part.point_u, part.point_v])?;
    }
    for part in [&proof.commitments0, &proof.commitments1] {
        not_identity([part.rc_g, part.rc_h])?;
    }
    Ok(())
}

fn has_length<T>(vector: &[T], length: usize) -> Result<()> {
    if vector.len() == length { Ok(()) } else { Err(Error::Malformed) }
}

fn not_identity(points: impl IntoIterator<Item = AffinePoint>) -> Result<()> {
    let any = points.into_iter().any(|point| point == AffinePoint::IDENTITY);
    if any { Err(Error::InvalidPoint) } else { Ok(()) }
}

// Between our additive halves and the library's points of a degree-1 polynomial at 1 and 2 (PROTOCOL.md 4):
// x = 2·p(1) − p(2), so c_C = 2·p₁ and c_S = −p₂.

fn additive(role: Role, poly_point: &K256Scalar) -> Result<SigningShare> {
    let scalar = match role {
        Role::Client => poly_point + poly_point,
        Role::Peer => -poly_point,
    };
    let scalar = Scalar::Secp256k1(scalar);
    if scalar.is_zero() { Err(Error::InvalidScalar) } else { Ok(SigningShare::wrap(scalar)) }
}

fn poly_point(role: Role, share: &SigningShare) -> Result<K256Scalar> {
    let Scalar::Secp256k1(share) = share.scalar() else { return Err(Error::InvalidContext) };
    Ok(match role {
        Role::Client => share * &half()?,
        Role::Peer => -share,
    })
}

fn half() -> Result<K256Scalar> {
    Option::from(K256Scalar::from(2u64).invert()).ok_or(Error::Internal)
}

fn additive_point(role: Role, theirs: &AffinePoint) -> Result<Point> {
    let poly = ProjectivePoint::from(*theirs);
    Point::new(Group2::Secp256k1(match role {
        Role::Client => poly + poly,
        Role::Peer => -poly,
    }))
}

fn poly_point_of(role: Role, additive: &Point) -> Result<AffinePoint> {
    let Group2::Secp256k1(additive) = additive.group() else { return Err(Error::InvalidContext) };
    Ok(match role {
        Role::Client => (*additive * half()?).to_affine(),
        Role::Peer => (-*additive).to_affine(),
    })
}

fn affine(point: &Point) -> Result<AffinePoint> {
    let Group2::Secp256k1(point) = point.group() else { return Err(Error::InvalidContext) };
    Ok(point.to_affine())
}

fn point(affine: AffinePoint) -> Result<Point> {
    Point::new(Group2::Secp256k1(affine.into()))
}

// Parties.

impl Ot {
    fn of(mut party: Party<K>) -> Self {
        Self {
            session_id: mem::take(&mut party.session_id),
            zero_share: party.zero_share.clone(),
            mul_senders: mem::take(&mut party.mul_senders),
            mul_receivers: mem::take(&mut party.mul_receivers),
        }
    }
}

fn party(role: Role, share: &SigningShare, public: &PairPublic, session_id: Vec<u8>) -> Result<Party<K>> {
    let poly_point = poly_point(role, share)?;
    let pk = affine(&public.public_key())?;
    Ok(Party {
        parameters: parameters()?,
        party_index: index(role)?,
        session_id,
        poly_point,
        pk,
        zero_share: ZeroShare::initialize(Vec::new()),
        mul_senders: BTreeMap::new(),
        mul_receivers: BTreeMap::new(),
        derivation_data: DerivData {
            depth: 0,
            child_number: 0,
            parent_fingerprint: [0; 4],
            poly_point,
            pk,
            chain_code: *public.chain_code(),
        },
        address: String::new(),
    })
}

/// A party with empty maps: it can be refreshed, and nothing else (PROTOCOL.md 4.3).
fn hollow_party(hollow: &Hollow<'_>) -> Result<Party<K>> {
    party(hollow.role, hollow.share, hollow.public, hollow.session.to_vec())
}

/// Only its parameters count.
fn blank_party(role: Role) -> Result<Party<K>> {
    let pk = AffinePoint::GENERATOR;
    let public = PairPublic::from_own(
        point(pk)?,
        [0; 32],
        role,
        point((ProjectivePoint::GENERATOR + ProjectivePoint::GENERATOR).to_affine())?,
    )?;
    party(role, &SigningShare::wrap(Scalar::Secp256k1(K256Scalar::ONE)), &public, Vec::new())
}

fn signing_party(signer: &Signer<'_, Ot>, path: &[u32]) -> Result<Party<K>> {
    let mut party = party(signer.role, signer.share, signer.public, signer.ot.session_id.clone())?;
    party.zero_share = signer.ot.zero_share.clone();
    party.mul_senders = signer.ot.mul_senders.clone();
    party.mul_receivers = signer.ot.mul_receivers.clone();
    for index in path {
        party = party.derive_child(*index, |_| String::new()).map_err(|_| Error::UnsupportedPath)?;
    }
    Ok(party)
}

fn sign_data(role: Role, job: &EcdsaJob<'_>) -> Result<SignData> {
    Ok(SignData { sign_id: job.id.to_vec(), counterparties: vec![index(role.other())?], message_hash: job.digest })
}

#[cfg(test)]
mod tests;
