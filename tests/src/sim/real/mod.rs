//! The real thing: messages of `halfkey-protocol` byte by byte, envelopes and sealed halves of `halfkey-envelope`.
//!
//! | kind | key generation and signatures | backup, recovery, healing |
//! |---|---|---|
//! | [`Frost`] | FROST on Ed25519 | `reshare` |
//! | [`OtFree`] | without oblivious transfer, on secp256k1: [`schnorr`] | `reshare` |
//! | [`Dkls`] | DKLs23 on secp256k1 | `reshare`, then `rekey` |
//!
//! The ECDSA library draws from the operating system inside, so a seed of [`Dkls`] replays the schedule and not the
//! bytes (DECISIONS.md D30).
#![allow(clippy::expect_used, reason = "trouble with a constant fails the run")]

mod liar;
mod schnorr;

use std::{fmt::Debug, marker::PhantomData, rc::Rc, sync::LazyLock};

use halfkey_envelope::{
    FileKey, Record,
    client_share::{self, Contents, CurveHeader, Header},
    custodian::{self, DataKey, HalfContext, Purpose as HalfPurpose, ShredKey},
    entropy::{Entropy, random},
    hash::{h, sha256},
    hpke::SecretKey,
    id::{BackupId, DeploymentId, DeviceId, PairId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, ClientBackupShare, CustodianBackupShare, DerivationPath, DeviceKey, Error, Half as _, IdentityKey,
    Kept as ProtocolKept, Op, PairPublic, PartyKeys, Point, Role, SigningParty, SigningShare, Signs as _, dkg,
    lifecycle::PairRef,
    proof::{self, Statement},
    rekey,
    reshare::{self, Claim, Dealer, Reshare, Transcript},
    sign::{self, ClientStep, Message, ServerStep},
};
use liar::Liar;
use zeroize::Zeroizing;

use super::{
    ceremonies::{Ceremonies, Held, Next, Place, Proves, Purpose, Served, Stopped, test_message},
    rng::Rng,
    server::{CLIENT, METHODS, WALLET},
};

const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([0xDE; 16]);

/// What of the real protocol runs.
pub trait Kind: Copy + Debug + 'static {
    /// The wallet's curve.
    const CURVE: Curve;
    /// Whether keys and signatures are made by the library; otherwise without oblivious transfer.
    const LIBRARY: bool = true;
}

/// All of it, on Ed25519.
#[derive(Debug, Clone, Copy)]
pub struct Frost;
/// All of it, on secp256k1: about half a second for each new signing pair.
#[derive(Debug, Clone, Copy)]
pub struct Dkls;
/// `reshare`, envelopes and proofs, on secp256k1.
#[derive(Debug, Clone, Copy)]
pub struct OtFree;

impl Kind for Frost {
    const CURVE: Curve = Curve::Ed25519;
}

impl Kind for Dkls {
    const CURVE: Curve = Curve::Secp256k1;
}

impl Kind for OtFree {
    const CURVE: Curve = Curve::Secp256k1;
    const LIBRARY: bool = false;
}

/// `halfkey-protocol` under the models.
#[derive(Debug, Clone, Copy)]
pub struct Real<K>(PhantomData<K>);

/// Bytes that are cheap to copy: a signing half as its party stores it, a backup half as its scalar, an envelope.
pub type Bytes = Rc<[u8]>;

/// A party's own record of a pair; of a backup also what its acks are checked against.
#[derive(Debug, Clone)]
pub struct Public {
    pair: PairPublic,
    made: Option<Rc<(Reshare, Transcript)>>,
}

/// A device between two rounds.
pub enum Run {
    Dealt(SigningShare),
    Generate(Box<dkg::Client>),
    GenerateSecond(Box<dkg::ClientSecond>),
    Deal { dealer: Box<Dealer>, reshare: Box<Reshare>, device: DeviceId },
    Lie { liar: Box<Liar>, device: DeviceId },
    Backup { half: ClientBackupShare, made: Box<(Reshare, Transcript)>, nonce: [u8; 32], cheats: bool },
    Stored(Box<SigningParty>),
    Rekey(Box<rekey::Client>),
    RekeySecond(Box<rekey::ClientSecond>),
    Sign(Box<sign::Client>),
    SignSecond(Box<sign::ClientSecond>),
    Schnorr(Box<schnorr::Signer>),
}

/// The server between two rounds.
pub enum Kept {
    Generate(ProtocolKept),
    Deal(ProtocolKept),
    Rekey([u8; 32], ProtocolKept),
    Sign(ProtocolKept),
}

/// The secret keys of the deployment.
struct Keys {
    server: IdentityKey,
    server_hpke: SecretKey,
    custodian: IdentityKey,
    custodian_hpke: SecretKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    server: IdentityKey::from_bytes(&[1; 32]),
    server_hpke: SecretKey::from_seed(&[2; 32]),
    custodian: IdentityKey::from_bytes(&[3; 32]),
    custodian_hpke: SecretKey::from_seed(&[4; 32]),
});

/// Every device has its own, and the server knows the public half of each.
fn device_key(device: DeviceId) -> DeviceKey {
    DeviceKey::from_bytes(&h("halfkey/simulation/v1/device", &[device.as_bytes()]))
}

fn keys(identity: &IdentityKey, hpke: &SecretKey) -> PartyKeys {
    PartyKeys { identity: identity.public(), hpke: Some(*hpke.public_key().as_bytes()) }
}

fn pair_id(pair: PairRef) -> PairId {
    PairId::from_bytes(*pair.as_bytes())
}

fn ceremony<K: Kind>(place: &Place) -> Ceremony {
    let op = match place.purpose {
        Purpose::Create => Op::Create,
        Purpose::Backup { .. } => Op::Backup,
        Purpose::Recover { .. } => Op::Recover,
        Purpose::Heal { .. } => Op::Heal,
        Purpose::Sign { .. } => Op::Sign,
    };
    Ceremony {
        op,
        deployment: DEPLOYMENT,
        client: CLIENT,
        wallet: WALLET,
        curve: K::CURVE,
        old_pair: place.old.map(pair_id),
        new_pair: place.new.map(pair_id),
        generation: place.generation,
        server_nonce: place.nonce,
        device: PartyKeys { identity: device_key(place.device).public(), hpke: None },
        server: keys(&KEYS.server, &KEYS.server_hpke),
        custodian: Some(keys(&KEYS.custodian, &KEYS.custodian_hpke)),
    }
}

fn message(curve: Curve, pair: PairRef, message: u64) -> Message {
    if message == test_message(pair) {
        return Message::recovery_check(curve, &sha256(pair.as_bytes()));
    }
    let text = message.to_be_bytes();
    let made = match curve {
        Curve::Secp256k1 => Message::secp256k1(&text, |bytes| Ok::<_, Error>(sha256(bytes))),
        Curve::Ed25519 => Message::ed25519(&text, |bytes| Ok::<_, Error>(bytes.to_vec())),
    };
    made.expect("the decoder refuses nothing")
}

/// What is signed, written down once more.
fn signed_bytes(curve: Curve, pair: PairRef, message: u64) -> Vec<u8> {
    let sid = sha256(pair.as_bytes());
    match (curve, message == test_message(pair)) {
        (Curve::Secp256k1, true) => h("halfkey/recover/v1/check", &[&sid]).to_vec(),
        (Curve::Secp256k1, false) => sha256(&message.to_be_bytes()).to_vec(),
        (Curve::Ed25519, true) => [&[0xff], b"halfkey recovery-check".as_slice(), &sid].concat(),
        (Curve::Ed25519, false) => message.to_be_bytes().to_vec(),
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        if error.is_ban() { Self::Ban } else { Self::Bad }
    }
}

fn party<K: Kind>(held: &Held<Real<K>>) -> Result<SigningParty, Stopped> {
    Ok(SigningParty::from_bytes(&held.half)?)
}

fn held<K: Kind>(party: &SigningParty) -> Result<Held<Real<K>>, Stopped> {
    let bytes = party.to_bytes()?;
    Ok(Held { half: bytes.as_slice().into(), public: Public { pair: *party.public(), made: None } })
}

fn scalar(half: &Bytes) -> Result<[u8; 32], Stopped> {
    half.as_ref().try_into().map_err(|_| Stopped::Bad)
}

fn part(parts: &[Vec<u8>], nth: usize) -> Result<&[u8], Stopped> {
    parts.get(nth).map(Vec::as_slice).ok_or(Stopped::Bad)
}

fn nonce_in(parts: &[Vec<u8>], nth: usize) -> Result<[u8; 32], Stopped> {
    part(parts, nth)?.try_into().map_err(|_| Stopped::Bad)
}

fn fresh(rng: &mut Rng) -> [u8; 32] {
    *random::<32>(rng)
}

impl<K: Kind> Real<K> {
    fn start_reshare(
        place: &Place,
        from: &Held<Self>,
        cheats: bool,
        rng: &mut Rng,
    ) -> Result<(Run, Vec<Vec<u8>>), Stopped> {
        let reshare = Reshare { ceremony: ceremony::<K>(place), old: from.public.pair };
        let (key, hpke) = (device_key(place.device), SecretKey::generate(rng));
        if cheats {
            let half = match place.purpose {
                Purpose::Recover { .. } => scalar(&from.half)?,
                _ => *party(from)?.share().to_bytes(),
            };
            let (liar, commit) = Liar::start(reshare, &half, &key, hpke, rng)?;
            return Ok((Run::Lie { liar: Box::new(liar), device: place.device }, vec![commit]));
        }
        let (dealer, commit) = match place.purpose {
            Purpose::Recover { .. } => {
                let half = ClientBackupShare::from_bytes(K::CURVE, &scalar(&from.half)?)?;
                Dealer::start(&reshare, &half, &key, hpke, rng)
            }
            _ => Dealer::start(&reshare, party(from)?.share(), &key, hpke, rng),
        }?;
        Ok((Run::Deal { dealer: Box::new(dealer), reshare: Box::new(reshare), device: place.device }, vec![commit]))
    }

    /// The opening goes out; of a signing pair with the first message of its fresh OT state.
    fn received(
        share: SigningShare,
        transcript: &Transcript,
        opening: Vec<u8>,
        rng: &mut Rng,
    ) -> Result<Next<Self>, Stopped> {
        let party = SigningParty::hollow(Role::Client, share, *transcript.pair())?;
        if K::LIBRARY && party.needs_rekey() {
            let (run, refresh) = rekey::Client::start(transcript.sid(), &party, rng)?;
            return Ok(Next::Send(Run::Rekey(Box::new(run)), vec![opening, refresh]));
        }
        Ok(Next::Send(Run::Stored(Box::new(party)), vec![opening]))
    }

    fn deal(place: &Place, from: &Held<Self>, request: &[Vec<u8>], rng: &mut Rng) -> Result<Served<Self>, Stopped> {
        let reshare = Reshare { ceremony: ceremony::<K>(place), old: from.public.pair };
        let commit = part(request, 0)?;
        let (deal, kept) = match place.purpose {
            Purpose::Recover { .. } => {
                let half = CustodianBackupShare::from_bytes(K::CURVE, &scalar(&from.half)?)?;
                reshare::deal(&reshare, &half, &KEYS.custodian, commit, rng)
            }
            _ => reshare::deal(&reshare, party(from)?.share(), &KEYS.server, commit, rng),
        }?;
        Ok(Served::Go(vec![deal], Kept::Deal(through_bytes(&kept))))
    }

    fn receive(
        place: &Place,
        from: &Held<Self>,
        kept: ProtocolKept,
        request: &[Vec<u8>],
        rng: &mut Rng,
    ) -> Result<Served<Self>, Stopped> {
        let reshare = Reshare { ceremony: ceremony::<K>(place), old: from.public.pair };
        let opening = part(request, 0)?;
        let witnessed = reshare::verify_opening(&reshare, kept, opening)?;
        if let Purpose::Backup { .. } = place.purpose {
            let (half, transcript) = reshare::receive::<CustodianBackupShare>(&reshare, &KEYS.custodian_hpke, opening)?;
            same(&witnessed, &transcript)?;
            let made = Some(Rc::new((reshare, transcript)));
            let public = Public { pair: *transcript.pair(), made };
            return Ok(Served::Store(Held { half: half.to_bytes().as_slice().into(), public }, None));
        }
        let (half, transcript) = reshare::receive::<SigningShare>(&reshare, &KEYS.server_hpke, opening)?;
        same(&witnessed, &transcript)?;
        let party = SigningParty::hollow(Role::Peer, half, *transcript.pair())?;
        if !(K::LIBRARY && party.needs_rekey()) {
            return Ok(Served::Store(held(&party)?, Some(vec![])));
        }
        let (answer, kept) = rekey::server_1(transcript.sid(), &party, part(request, 1)?, rng)?;
        Ok(Served::Go(vec![answer], Kept::Rekey(*transcript.sid(), through_bytes(&kept))))
    }

    fn custodian_ack(stored: &Held<Self>, nonce: &[u8; 32], rng: &mut Rng) -> Result<Vec<u8>, Stopped> {
        let (reshare, transcript) = stored.public.made.as_deref().ok_or(Stopped::Bad)?;
        let half = CustodianBackupShare::from_bytes(K::CURVE, &scalar(&stored.half)?)?;
        let claim = Claim { role: Role::Peer, envelope: None, nonce };
        let ack = reshare::ack(reshare, transcript, &claim, &KEYS.custodian, &half, rng)?;
        reshare::verify_ack(reshare, transcript, &claim, &ack)?;
        Ok(ack)
    }
}

/// S and K must have seen the same.
fn same(witnessed: &Transcript, received: &Transcript) -> Result<(), Stopped> {
    if witnessed == received { Ok(()) } else { Err(Stopped::Bad) }
}

/// As a database would give it back.
fn through_bytes(kept: &ProtocolKept) -> ProtocolKept {
    ProtocolKept::from_bytes(kept.as_bytes().to_vec())
}

impl<K: Kind> Ceremonies for Real<K> {
    type Half = Bytes;
    type Public = Public;
    type Key = Point;
    type Whole = [u8; 32];
    type Sealed = Bytes;
    type Shred = [u8; 32];
    type Envelope = Bytes;
    type Record = Bytes;
    type Body = Vec<Vec<u8>>;
    type Proof = Vec<u8>;
    type Signature = Vec<u8>;
    type Run = Run;
    type Kept = Kept;

    fn start(
        place: &Place,
        from: Option<&Held<Self>>,
        cheats: bool,
        rng: &mut Rng,
    ) -> Result<(Run, Vec<Vec<u8>>), Stopped> {
        match (place.purpose, from) {
            (Purpose::Create, _) if K::LIBRARY => {
                let (run, request) = dkg::Client::start(&ceremony::<K>(place), rng)?;
                Ok((Run::Generate(Box::new(run)), vec![request]))
            }
            (Purpose::Create, _) => {
                let share = schnorr::share(rng);
                let point = share.point().to_bytes();
                Ok((Run::Dealt(share), vec![point]))
            }
            (Purpose::Sign { message: text }, Some(from)) if K::LIBRARY => {
                let message = message(K::CURVE, place.old.ok_or(Stopped::Bad)?, text);
                let (ceremony, party) = (ceremony::<K>(place), party(from)?);
                let (run, request) = sign::Client::start(&ceremony, &party, &message, &DerivationPath::root(), rng)?;
                Ok((Run::Sign(Box::new(run)), vec![request]))
            }
            (Purpose::Sign { message }, Some(from)) => {
                let bytes = signed_bytes(K::CURVE, place.old.ok_or(Stopped::Bad)?, message);
                let (run, request) = schnorr::Signer::start(&party(from)?, bytes, rng);
                Ok((Run::Schnorr(Box::new(run)), request))
            }
            (_, Some(from)) => Self::start_reshare(place, from, cheats, rng),
            _ => Err(Stopped::Bad),
        }
    }

    fn next(run: Run, answer: &Vec<Vec<u8>>, rng: &mut Rng) -> Result<Next<Self>, Stopped> {
        match run {
            Run::Dealt(share) => {
                let peer = Point::from_bytes(K::CURVE, part(answer, 0)?)?;
                let public = schnorr::record(&share.point(), &peer, nonce_in(answer, 1)?)?;
                Ok(Next::Made(held(&SigningParty::hollow(Role::Client, share, public)?)?))
            }
            Run::Generate(run) => {
                let (run, request) = run.next(part(answer, 0)?)?;
                Ok(Next::Send(Run::GenerateSecond(Box::new(run)), vec![request]))
            }
            Run::GenerateSecond(run) => Ok(Next::Made(held(&run.finish(part(answer, 0)?)?)?)),
            Run::Deal { dealer, reshare, device } if reshare.ceremony.op == Op::Backup => {
                let opened = dealer.open::<ClientBackupShare>(part(answer, 0)?, &device_key(device), rng)?;
                let (half, transcript, nonce) = (opened.half, opened.transcript, fresh(rng));
                let run = Run::Backup { half, made: Box::new((*reshare, transcript)), nonce, cheats: false };
                Ok(Next::Send(run, vec![opened.message, nonce.to_vec()]))
            }
            Run::Deal { dealer, device, .. } => {
                let opened = dealer.open::<SigningShare>(part(answer, 0)?, &device_key(device), rng)?;
                Self::received(opened.half, &opened.transcript, opened.message, rng)
            }
            Run::Lie { liar, device } => {
                let (reshare, nonce) = (liar.reshare.clone(), fresh(rng));
                let (half, transcript, opening) = liar.open(part(answer, 0)?, &device_key(device), rng)?;
                if reshare.ceremony.op != Op::Backup {
                    return Self::received(SigningShare::from_bytes(K::CURVE, &half)?, &transcript, opening, rng);
                }
                let half = ClientBackupShare::from_bytes(K::CURVE, &half)?;
                let run = Run::Backup { half, made: Box::new((reshare, transcript)), nonce, cheats: true };
                Ok(Next::Send(run, vec![opening, nonce.to_vec()]))
            }
            Run::Backup { half, made, nonce, cheats } => {
                let (reshare, transcript) = &*made;
                let claim = Claim { role: Role::Peer, envelope: None, nonce: &nonce };
                let acked = reshare::verify_ack(reshare, transcript, &claim, part(answer, 0)?);
                if !cheats {
                    acked?;
                }
                let public = Public { pair: *transcript.pair(), made: Some(Rc::from(made)) };
                Ok(Next::Made(Held { half: half.to_bytes().as_slice().into(), public }))
            }
            Run::Stored(party) => Ok(Next::Made(held(&party)?)),
            Run::Rekey(run) => {
                let (run, request) = run.next(part(answer, 0)?)?;
                Ok(Next::Send(Run::RekeySecond(Box::new(run)), vec![request]))
            }
            Run::RekeySecond(run) => Ok(Next::Made(held(&run.finish(part(answer, 0)?)?)?)),
            Run::Sign(run) => match run.next(part(answer, 0)?)? {
                ClientStep::Done(signature) => Ok(Next::Signed(signature.to_bytes().to_vec())),
                ClientStep::Send { request, state } => Ok(Next::Send(Run::SignSecond(state), vec![request])),
            },
            Run::SignSecond(run) => Ok(Next::Signed(run.finish(part(answer, 0)?)?.to_bytes().to_vec())),
            Run::Schnorr(run) => Ok(Next::Signed(run.finish(answer)?)),
        }
    }

    fn serve(
        place: &Place,
        from: Option<&Held<Self>>,
        kept: Option<Kept>,
        request: &Vec<Vec<u8>>,
        _checks: bool,
        rng: &mut Rng,
    ) -> Result<Served<Self>, Stopped> {
        let root = DerivationPath::root();
        match (place.purpose, from, kept) {
            (Purpose::Create, _, None) if K::LIBRARY => {
                let (answer, kept) = dkg::server_1(&ceremony::<K>(place), part(request, 0)?, rng)?;
                Ok(Served::Go(vec![answer], Kept::Generate(through_bytes(&kept))))
            }
            (Purpose::Create, _, Some(Kept::Generate(kept))) => {
                let (answer, party) = dkg::server_2(&ceremony::<K>(place), kept, part(request, 0)?, rng)?;
                Ok(Served::Store(held(&party)?, Some(vec![answer])))
            }
            (Purpose::Create, _, None) => {
                let theirs = Point::from_bytes(K::CURVE, part(request, 0)?)?;
                let (share, chain_code) = (schnorr::share(rng), fresh(rng));
                let answer = vec![share.point().to_bytes(), chain_code.to_vec()];
                let public = schnorr::record(&theirs, &share.point(), chain_code)?;
                Ok(Served::Store(held(&SigningParty::hollow(Role::Peer, share, public)?)?, Some(answer)))
            }
            (Purpose::Sign { message: text }, Some(from), kept) if K::LIBRARY => {
                let message = message(K::CURVE, place.old.ok_or(Stopped::Bad)?, text);
                let (ceremony, party, request) = (ceremony::<K>(place), party(from)?, part(request, 0)?);
                match kept {
                    None => match sign::server_1(&ceremony, &party, &message, &root, request, rng)? {
                        ServerStep::Continue { answer, kept } => {
                            Ok(Served::Go(vec![answer], Kept::Sign(through_bytes(&kept))))
                        }
                        ServerStep::Done { answer } => Ok(Served::Signed(vec![answer])),
                    },
                    Some(Kept::Sign(kept)) => {
                        let (answer, _) = sign::server_2(&ceremony, &party, &message, &root, kept, request)?;
                        Ok(Served::Signed(vec![answer]))
                    }
                    Some(_) => Err(Stopped::Bad),
                }
            }
            (Purpose::Sign { message }, Some(from), None) => {
                let bytes = signed_bytes(K::CURVE, place.old.ok_or(Stopped::Bad)?, message);
                Ok(Served::Signed(schnorr::answer(&party(from)?, &bytes, request, rng)?))
            }
            (Purpose::Create | Purpose::Sign { .. }, ..) => Err(Stopped::Bad),
            (_, Some(from), None) => Self::deal(place, from, request, rng),
            (_, Some(from), Some(Kept::Deal(kept))) => Self::receive(place, from, kept, request, rng),
            (_, Some(_), Some(Kept::Rekey(sid, kept))) => {
                let (answer, party) = rekey::server_2(&sid, kept, part(request, 0)?)?;
                Ok(Served::Store(held(&party)?, Some(vec![answer])))
            }
            _ => Err(Stopped::Bad),
        }
    }

    fn acknowledge(stored: &Held<Self>, request: &Vec<Vec<u8>>, rng: &mut Rng) -> Result<Vec<Vec<u8>>, Stopped> {
        Ok(vec![Self::custodian_ack(stored, &nonce_in(request, 1)?, rng)?])
    }

    fn fits(stored: &Held<Self>, rng: &mut Rng) -> bool {
        match stored.public.made {
            Some(_) => Self::custodian_ack(stored, &fresh(rng), rng).is_ok(),
            None => party(stored).is_ok_and(|party| *party.public() == stored.public.pair),
        }
    }

    fn tamper(body: &mut Vec<Vec<u8>>, at: usize) {
        if let Some(bytes) = body.first_mut().filter(|bytes| !bytes.is_empty()) {
            let at = at * bytes.len() / 256;
            bytes[at] ^= 1;
        }
    }

    fn seal_envelope(place: &Place, held: &Held<Self>, rng: &mut Rng) -> (Bytes, Bytes) {
        let (Some(PairRef::Backup(backup)), Purpose::Backup { method }) = (place.new, place.purpose) else {
            return (Rc::default(), Rc::default());
        };
        let header = header(backup, place.generation, method, &held.public.pair);
        let share = Zeroizing::new(scalar(&held.half).unwrap_or_default());
        let contents = Contents::new([(K::CURVE, share)]).expect("one curve");
        let bytes = fresh(rng);
        let file_key = || FileKey::from_bytes(Zeroizing::new(bytes));
        let envelope = client_share::seal(&file_key(), &header, &contents, rng).expect("a valid header");
        let record = Record::new(&header, file_key(), client_share::digest(&envelope));
        (envelope.into(), record.to_bytes().as_slice().into())
    }

    fn open_envelope(record: &Bytes, envelope: &Bytes) -> Option<Bytes> {
        let record = Record::from_bytes(record).ok()?;
        let (_, contents) = client_share::open_with_record(&record, envelope).ok()?;
        Some(contents.share(K::CURVE)?.as_slice().into())
    }

    fn digest(envelope: &Bytes) -> [u8; 32] {
        client_share::digest(envelope)
    }

    fn prove(held: &Held<Self>, pair: PairRef, what: Proves, nonce: &[u8; 32], rng: &mut Rng) -> Option<Vec<u8>> {
        let half = ClientBackupShare::from_bytes(K::CURVE, &scalar(&held.half).ok()?).ok()?;
        if half.point() != held.public.pair.client_point() {
            return None;
        }
        proof::prove(&statement(what, pair, nonce, &sha256(pair.as_bytes())), &half, rng).ok()
    }

    fn proven(public: &Public, pair: PairRef, what: Proves, nonce: &[u8; 32], proof: &Vec<u8>) -> bool {
        let context = sha256(pair.as_bytes());
        proof::verify(&statement(what, pair, nonce, &context), &public.pair.client_point(), proof).is_ok()
    }

    fn ack(held: &Held<Self>, device: DeviceId, digest: &[u8; 32], nonce: &[u8; 32], rng: &mut Rng) -> Option<Vec<u8>> {
        let (reshare, transcript) = held.public.made.as_deref()?;
        let half = ClientBackupShare::from_bytes(K::CURVE, &scalar(&held.half).ok()?).ok()?;
        let claim = Claim { role: Role::Client, envelope: Some(digest), nonce };
        reshare::ack(reshare, transcript, &claim, &device_key(device), &half, rng).ok()
    }

    fn acked(public: &Public, digest: &[u8; 32], nonce: &[u8; 32], ack: &Vec<u8>) -> bool {
        let claim = Claim { role: Role::Client, envelope: Some(digest), nonce };
        public
            .made
            .as_deref()
            .is_some_and(|(reshare, transcript)| reshare::verify_ack(reshare, transcript, &claim, ack).is_ok())
    }

    fn signed(key: Point, pair: PairRef, message: u64, signature: &Vec<u8>) -> bool {
        let bytes = signed_bytes(K::CURVE, pair, message);
        match (K::LIBRARY, K::CURVE) {
            (false, _) => schnorr::holds(&key, &bytes, signature),
            (true, Curve::Secp256k1) => verify_ecdsa(&key, &bytes, signature).is_some(),
            (true, Curve::Ed25519) => verify_eddsa(&key, &bytes, signature).is_some(),
        }
    }

    fn seal_half(half: &Bytes, pair: PairRef, rng: &mut Rng) -> (Bytes, [u8; 32]) {
        let shred = fresh(rng);
        let sealed = custodian::seal_half(&data_key(), &shred_key(shred), &row::<K>(pair), half, rng);
        (sealed.expect("a half fits").into(), shred)
    }

    fn rot(sealed: &mut Bytes) {
        let mut bytes = sealed.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        *sealed = bytes.into();
    }

    fn open_half(sealed: &Bytes, shred: [u8; 32], pair: PairRef) -> Option<Bytes> {
        let opened = custodian::open_half(&data_key(), &shred_key(shred), &row::<K>(pair), sealed).ok()?;
        Some(opened.as_slice().into())
    }

    fn key(public: &Public) -> Point {
        public.pair.public_key()
    }

    fn sum_of_points(public: &Public) -> Option<Point> {
        public.pair.client_point().add(&public.pair.peer_point()).ok()
    }

    fn whole(device: &Bytes, server: &Bytes) -> Option<[u8; 32]> {
        let bytes = |half: &Bytes| match scalar(half) {
            Ok(scalar) => Some(scalar),
            Err(_) => Some(*SigningParty::from_bytes(half).ok()?.share().to_bytes()),
        };
        Some(sum(K::CURVE, &bytes(device)?, &bytes(server)?))
    }

    fn key_of(whole: [u8; 32]) -> Option<Point> {
        Some(SigningShare::from_bytes(K::CURVE, &whole).ok()?.point())
    }
}

/// `a + b`, by the curve's own library.
fn sum(curve: Curve, a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    match curve {
        Curve::Secp256k1 => (schnorr::parse(a) + schnorr::parse(b)).to_bytes().into(),
        Curve::Ed25519 => {
            let parse = |bytes: &[u8; 32]| curve25519_dalek::Scalar::from_bytes_mod_order(*bytes);
            (parse(a) + parse(b)).to_bytes()
        }
    }
}

fn verify_ecdsa(key: &Point, digest: &[u8], signature: &[u8]) -> Option<()> {
    use k256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
    let key = VerifyingKey::from_sec1_bytes(&key.to_bytes()).ok()?;
    key.verify_prehash(digest, &Signature::from_slice(signature).ok()?).ok()
}

fn verify_eddsa(key: &Point, message: &[u8], signature: &[u8]) -> Option<()> {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    UnparsedPublicKey::new(&ED25519, key.to_bytes()).verify(message, signature).ok()
}

fn header(backup: BackupId, generation: u64, method: usize, pair: &PairPublic) -> Header {
    let curve = CurveHeader {
        curve: pair.curve(),
        wallet: WALLET,
        public_key: pair.public_key().to_bytes(),
        chain_code: *pair.chain_code(),
        client_point: pair.client_point().to_bytes(),
        custodian_point: pair.peer_point().to_bytes(),
    };
    Header::new(DEPLOYMENT, CLIENT, backup, generation, METHODS[method].clone(), vec![curve]).expect("a valid header")
}

fn statement<'a>(what: Proves, pair: PairRef, nonce: &'a [u8; 32], context: &'a [u8; 32]) -> Statement<'a> {
    let purpose = match what {
        Proves::Possession => proof::Purpose::Possession,
        Proves::Drill => proof::Purpose::Verify,
    };
    Statement { purpose, context, pair: pair_id(pair), nonce }
}

fn row<K: Kind>(pair: PairRef) -> HalfContext {
    let purpose = match pair {
        PairRef::Signing(_) => HalfPurpose::Signing,
        PairRef::Backup(_) => HalfPurpose::Backup,
    };
    HalfContext {
        deployment: DEPLOYMENT,
        client: CLIENT,
        wallet: WALLET,
        curve: K::CURVE,
        pair: pair_id(pair),
        purpose,
    }
}

fn data_key() -> DataKey {
    DataKey::from_bytes(Zeroizing::new([5; 32]))
}

fn shred_key(bytes: [u8; 32]) -> ShredKey {
    ShredKey::from_bytes(Zeroizing::new(bytes))
}

impl Entropy for Rng {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes()[..chunk.len()]);
        }
    }
}
