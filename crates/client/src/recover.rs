//! `recover_wallet`: policy, the method opens, proof of possession, reshare into a fresh signing pair, test signature,
//! commit, fresh backup (METHODS.md G, PROTOCOL.md 4.2 and 4.3).

use halfkey_api::{
    bytes::Hex,
    ceremony::{Op, RecoverFinish, RecoverOpen},
    chain::Addresses,
    context::possession,
    message::{
        BeginRecovery, CipherText, DoorContext, OldDevices, PendingRecoveryPair, PossessionProven, ProvePossession,
        Recovery, RecoveryState,
    },
    route::{self, path},
};
use halfkey_envelope::{
    cbor,
    entropy::random,
    hpke::SecretKey,
    id::{ClientId, RecoveryId},
    wallet::{Curve, Method},
};
use halfkey_protocol::{
    Ceremony, DerivationPath, DeviceKey, Role, SigningParty, SigningShare, Signs,
    proof::Purpose,
    rekey,
    reshare::{Dealer, Opened as Dealt, Reshare},
    sign::{self, ClientStep, Message},
};
use minicbor::bytes::ByteVec;
use zeroize::Zeroizing;

use crate::{
    backup,
    call::Call,
    ceremony::{self, Session, part, peer},
    command::{Identity, Recovered, Recovering, RecoveryMethod},
    create,
    device::{self, Ahead, Device, Share, Underway},
    error::{Error, Result, StorageReason},
    host::BlobSlot,
    opening::{self, Opened, OpenedHalf},
    port::Port,
    progress::Stage,
    resume, status,
};

/// Begins a recovery, or goes on with this device's own one by the same method.
pub(crate) async fn recover_wallet(
    port: &Port,
    method: RecoveryMethod,
    old_devices: OldDevices,
    expected: Option<Addresses>,
) -> Result<Recovering> {
    port.setting.platform.check(&method.method())?;
    begin_progress(port);
    let detail = status::client(port).await?;
    let client = detail.id;
    must_be_own(device::load_readable(port, BlobSlot::Current).await?, client)?;
    let revoke = old_devices == OldDevices::Revoke;
    if let Some((device, recovery)) = open_recovery(port, client, &method.method(), Some(revoke)).await? {
        return proceed(port, device, recovery, method, expected).await;
    }
    resume::settle(port, &detail).await?;
    let current = must_be_own(device::load_readable(port, BlobSlot::Current).await?, client)?;
    let (device, recovery) = begin(port, client, current, &method.method(), old_devices).await?;
    proceed(port, device, recovery, method, expected).await
}

/// Goes on with what [`recover_wallet`] began, after a wait or a crash.
pub(crate) async fn resume_recovery(
    port: &Port,
    method: RecoveryMethod,
    expected: Option<Addresses>,
) -> Result<Recovering> {
    port.setting.platform.check(&method.method())?;
    begin_progress(port);
    let client = status::client(port).await?.id;
    must_be_own(device::load_readable(port, BlobSlot::Current).await?, client)?;
    let open = open_recovery(port, client, &method.method(), None).await?;
    let (device, recovery) = open.ok_or(Error::RecoveryOver)?;
    proceed(port, device, recovery, method, expected).await
}

/// The current slot is never given to another client while one has shares in it.
fn must_be_own(current: Option<Device>, client: ClientId) -> Result<Option<Device>> {
    match current {
        Some(current) if current.client != client => Err(Error::Storage(StorageReason::OtherOwner)),
        current => Ok(current),
    }
}

fn begin_progress(port: &Port) {
    port.begin(8);
}

pub(crate) async fn cancel_recovery(port: &Port, id: RecoveryId) -> Result<()> {
    let device = device::current(port).await?;
    let path = path(route::RECOVERY_CANCEL, &[&id.to_string()]);
    Call::new(port, "POST", path).signed(&device.key).send().await.map(|_| ())
}

/// This device's recovery by that method, if the server still has it open or completed it.
async fn open_recovery(
    port: &Port,
    client: ClientId,
    method: &Method,
    revoke: Option<bool>,
) -> Result<Option<(Device, Recovery)>> {
    let Some(mut device) = device::load_readable(port, BlobSlot::Pending).await? else { return Ok(None) };
    let Some(Underway::Recovery(id, by, revokes)) = device.underway.clone() else { return Ok(None) };
    if device.client != client || by != *method || revoke.is_some_and(|revoke| revoke != revokes) {
        return Ok(None);
    }
    if let Some(id) = id {
        match read(port, &device, id).await {
            Ok(recovery) if is_over(recovery.state) => return Ok(None),
            Ok(recovery) if recovery.state == RecoveryState::Completed => return Ok(Some((device, recovery))),
            Ok(_) => {}
            Err(error) if resume::is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    // Asked again with the same key, the server gives the recovery that this key has open, with its nonce and pairs.
    let recovery = ask(port, &mut device, method, revokes).await?;
    Ok(Some((device, recovery)))
}

const fn is_over(state: RecoveryState) -> bool {
    matches!(state, RecoveryState::Cancelled | RecoveryState::Expired | RecoveryState::Denied)
}

/// The recovery as its own device sees it.
pub(crate) async fn read(port: &Port, device: &Device, id: RecoveryId) -> Result<Recovery> {
    let path = path(route::RECOVERY, &[&id.to_string()]);
    Call::get(port, &path).signed(&device.key).fetch().await
}

/// A new device key, stored before the server hears of it; then the request.
async fn begin(
    port: &Port,
    client: ClientId,
    current: Option<Device>,
    method: &Method,
    old_devices: OldDevices,
) -> Result<(Device, Recovery)> {
    let revoke = old_devices == OldDevices::Revoke;
    let underway = Underway::Recovery(None, method.clone(), revoke);
    let mut device = Device::new(client, DeviceKey::generate(&mut port.entropy()), underway);
    device.one_time = Some(random::<32>(&mut port.entropy()));
    device.backups = current.map(|current| current.backups).unwrap_or_default();
    device::replace_lost_key(port).await?;
    device::save(port, BlobSlot::Pending, &device).await?;
    let recovery = ask(port, &mut device, method, revoke).await?;
    Ok((device, recovery))
}

/// The request itself; its id is stored.
async fn ask(port: &Port, device: &mut Device, method: &Method, revoke: bool) -> Result<Recovery> {
    let body = BeginRecovery {
        method: method.clone(),
        new_device: create::enrolment(port, &device.key),
        old_devices: if revoke { OldDevices::Revoke } else { OldDevices::Keep },
    };
    let call = Call::new(port, "POST", route::RECOVERIES.to_owned()).signed(&device.key);
    let recovery: Recovery = call.json(&body)?.fetch().await?;
    let underway = Some(Underway::Recovery(Some(recovery.id), method.clone(), revoke));
    if device.underway != underway {
        device.underway = underway;
        device::save(port, BlobSlot::Pending, device).await?;
    }
    Ok(recovery)
}

async fn proceed(
    port: &Port,
    device: Device,
    recovery: Recovery,
    method: RecoveryMethod,
    expected: Option<Addresses>,
) -> Result<Recovering> {
    match recovery.state {
        RecoveryState::Ready | RecoveryState::Executing => {
            execute(port, device, recovery, method, expected).await.map(|done| Recovering::Recovered(Box::new(done)))
        }
        RecoveryState::Waiting => {
            let until = recovery.waiting_until.unwrap_or(recovery.expires_at);
            Ok(Recovering::Waiting { recovery_id: recovery.id, until })
        }
        RecoveryState::Requested => Err(Error::Retry { after: None }),
        RecoveryState::Completed => complete(port, device, expected).await,
        RecoveryState::Denied => {
            port.delete_blob(BlobSlot::Pending).await?;
            Err(Error::Denied)
        }
        RecoveryState::Cancelled | RecoveryState::Expired => {
            port.delete_blob(BlobSlot::Pending).await?;
            Err(Error::RecoveryOver)
        }
    }
}

/// The answer to the last step was lost: the shares are here and the server has committed.
async fn complete(port: &Port, device: Device, expected: Option<Addresses>) -> Result<Recovering> {
    if device.shares.is_empty() {
        port.delete_blob(BlobSlot::Pending).await?;
        return Err(Error::RecoveryOver);
    }
    let addresses = status::addresses_of(port, &device)?;
    let identity = identify(&addresses, expected)?;
    device::promote(port, device).await?;
    let fresh_backup = Err(Error::Retry { after: None });
    port.all_done().await?;
    Ok(Recovering::Recovered(Box::new(Recovered { addresses, identity, fresh_backup })))
}

async fn execute(
    port: &Port,
    device: Device,
    recovery: Recovery,
    method: RecoveryMethod,
    expected: Option<Addresses>,
) -> Result<Recovered> {
    port.stage(Stage::ReadingShare, None).await?;
    let expected = match (expected, device::load_readable(port, BlobSlot::Current).await?) {
        (Some(expected), _) => Some(expected),
        (None, Some(current)) if !current.shares.is_empty() => Some(status::addresses_of(port, &current)?),
        (None, _) => None,
    };
    let read = path(route::RECOVERY_CIPHER_TEXT, &[&recovery.id.to_string()]);
    let stored: CipherText = Call::get(port, &read).signed(&device.key).fetch().await?;
    if stored.backup_id != recovery.backup_id {
        return Err(Error::PeerMisbehaved { what: "ENVELOPE" });
    }
    port.part_done();

    port.stage(Stage::DecryptingShare, None).await?;
    let within = DoorContext::Recovery { id: recovery.id };
    let (record, holder) = opening::record(port, &device.key, within, device.client, &stored, &method).await?;
    let opened = opening::open(&record, &stored)?;
    port.part_done();

    port.stage(Stage::ParsingShare, None).await?;
    opened.refuse_rollback(&device)?;
    must_fit(&recovery, &opened)?;
    let addresses = addresses(port, &opened)?;
    let identity = identify(&addresses, expected)?;
    let recovery = match recovery.state {
        RecoveryState::Executing => recovery,
        _ => prove_possession(port, &device, &recovery, &opened, &stored).await?,
    };
    must_fit(&recovery, &opened)?;
    port.part_done();

    let device = reshare(port, device, &recovery, &opened).await?;
    device::promote(port, device).await?;
    port.part_done();
    // The wallet is recovered, whatever becomes of this: the used backup was opened, so it gets a successor at once.
    let fresh_backup = backup::make(port, &holder, false).await;
    port.all_done().await?;
    Ok(Recovered { addresses, identity, fresh_backup })
}

fn identify(addresses: &Addresses, expected: Option<Addresses>) -> Result<Identity> {
    match expected {
        Some(expected) if expected == *addresses => Ok(Identity::Confirmed),
        Some(_) => Err(Error::IdentityMismatch),
        None => Ok(Identity::Unconfirmed),
    }
}

fn addresses(port: &Port, opened: &Opened) -> Result<Addresses> {
    let key = |curve| {
        let half = opened.halves.iter().find(|half| half.curve == curve).ok_or(Error::Internal)?;
        Ok::<_, Error>(half.public.public_key().to_bytes())
    };
    status::addresses_of_keys(port, &key(Curve::Secp256k1)?, &key(Curve::Ed25519)?)
}

/// The pairs that the server is about to make belong to the wallets and the backup in the envelope.
fn must_fit(recovery: &Recovery, opened: &Opened) -> Result<()> {
    let wrong = Err(Error::PeerMisbehaved { what: "PAIRS" });
    if recovery.nonce.is_none() || recovery.pairs.len() != opened.halves.len() {
        return wrong;
    }
    for (pair, half) in recovery.pairs.iter().zip(&opened.halves) {
        let same = pair.curve == half.curve
            && pair.wallet_id == half.wallet
            && pair.from_pair_id == half.pair
            && pair.public_key.0 == half.public.public_key().to_bytes();
        if !same {
            return wrong;
        }
    }
    Ok(())
}

/// It alone enrols the new device key.
async fn prove_possession(
    port: &Port,
    device: &Device,
    recovery: &Recovery,
    opened: &Opened,
    stored: &CipherText,
) -> Result<Recovery> {
    let one_time_key = *one_time(device)?.public_key().as_bytes();
    let nonce = server_nonce(recovery)?;
    let context = possession(
        port.setting.deployment.id(),
        device.client,
        recovery.id,
        &nonce,
        &device.key.public().to_bytes(),
        &one_time_key,
    );
    let proofs = opened.prove(port, Purpose::Possession, &context, &stored.challenge.0)?;
    let body = ProvePossession { challenge: stored.challenge, one_time_key: Hex(one_time_key), proofs };
    let path = path(route::RECOVERY_POSSESSION, &[&recovery.id.to_string()]);
    let proven: PossessionProven = Call::new(port, "POST", path).signed(&device.key).json(&body)?.fetch().await?;
    let same = proven.recovery.id == recovery.id && proven.recovery.nonce == recovery.nonce;
    if same { Ok(proven.recovery) } else { Err(Error::PeerMisbehaved { what: "RECOVERY" }) }
}

fn one_time(device: &Device) -> Result<SecretKey> {
    let seed = device.one_time.as_ref().ok_or(Error::Storage(StorageReason::Damaged))?;
    Ok(SecretKey::from_seed(seed))
}

fn server_nonce(recovery: &Recovery) -> Result<[u8; 32]> {
    recovery.nonce.map(|nonce| nonce.0).ok_or(Error::PeerMisbehaved { what: "nonce" })
}

/// One curve on its way from the backup pair to the new signing pair.
struct Curving {
    pair: PendingRecoveryPair,
    context: Ceremony,
    sid: [u8; 32],
    party: Option<SigningParty>,
    opening: Vec<u8>,
}

/// The ceremony: five steps, the shares stored after the third, the server's commit in the fifth.
async fn reshare(port: &Port, device: Device, recovery: &Recovery, opened: &Opened) -> Result<Device> {
    let nonce = server_nonce(recovery)?;
    let mut session = Session::new(port, device.client, &device.key, Op::Recover, *recovery.id.as_bytes());
    let mut curves = deal(port, &device, recovery, opened, &mut session).await?;
    port.part_done();
    refresh(port, &mut curves, &mut session).await?;
    port.part_done();

    port.stage(Stage::StoringShare, None).await?;
    let mut stored = store(port, &device, &curves).await?;
    port.part_done();
    stored.ahead = check(port, &stored, &curves, &nonce, &mut session).await?;
    Ok(stored)
}

/// Steps 1 and the openings of step 2: (C, K) → (C′, S).
async fn deal(
    port: &Port,
    device: &Device,
    recovery: &Recovery,
    opened: &Opened,
    session: &mut Session<'_>,
) -> Result<Vec<Curving>> {
    let (mut dealers, mut commitments) = (Vec::new(), Vec::new());
    for (pair, half) in recovery.pairs.iter().zip(&opened.halves) {
        port.stage(Stage::GeneratingShare, Some(pair.curve)).await?;
        let context = context(port, device, recovery, pair)?;
        let reshare = Reshare { ceremony: context.clone(), old: half.public };
        let (dealer, commitment) = start(port, device, &reshare, half)?;
        dealers.push((pair.clone(), context, dealer));
        commitments.push((pair.curve, commitment));
    }
    let answer = session.step(1, None, commitments).await?;
    let mut curves = Vec::new();
    for (pair, context, dealer) in dealers {
        let deal = part(&answer, pair.curve)?;
        let dealt: Dealt<SigningShare> = dealer.open(deal, &device.key, &mut port.entropy()).map_err(peer)?;
        let (sid, public) = (*dealt.transcript.sid(), *dealt.transcript.pair());
        let party = SigningParty::hollow(Role::Client, dealt.half, public).map_err(peer)?;
        curves.push(Curving { pair, context, sid, party: Some(party), opening: dealt.message });
    }
    Ok(curves)
}

fn start(port: &Port, device: &Device, reshare: &Reshare, half: &OpenedHalf) -> Result<(Dealer, Vec<u8>)> {
    Dealer::start(reshare, &half.half, &device.key, one_time(device)?, &mut port.entropy()).map_err(peer)
}

fn context(port: &Port, device: &Device, recovery: &Recovery, pair: &PendingRecoveryPair) -> Result<Ceremony> {
    let op = halfkey_protocol::Op::Recover;
    let mut context = ceremony::context(port, op, device.client, &device.key, pair.curve, pair.wallet_id);
    context.old_pair = Some(pair.from_pair_id);
    context.new_pair = Some(pair.pair_id);
    context.generation = pair.generation;
    context.server_nonce = server_nonce(recovery)?;
    Ok(context)
}

/// Steps 2 and 3: the openings, and fresh oblivious-transfer state for secp256k1.
async fn refresh(port: &Port, curves: &mut [Curving], session: &mut Session<'_>) -> Result<()> {
    let (mut refreshing, mut openings) = (None, Vec::new());
    for curving in &mut *curves {
        let mut first = None;
        if let (Curve::Secp256k1, Some(party)) = (curving.pair.curve, &curving.party) {
            let (state, request) = rekey::Client::start(&curving.sid, party, &mut port.entropy()).map_err(peer)?;
            refreshing = Some(state);
            first = Some(ByteVec::from(request));
        }
        let open = RecoverOpen { opening: std::mem::take(&mut curving.opening).into(), refresh: first };
        openings.push((curving.pair.curve, cbor::to_vec(&open)));
    }
    let answer = session.step(2, None, openings).await?;
    let state = refreshing.ok_or(Error::Internal)?;
    let (state, request) = state.next(part(&answer, Curve::Secp256k1)?).map_err(peer)?;
    let answer = session.step(3, None, vec![(Curve::Secp256k1, request)]).await?;
    let party = state.finish(part(&answer, Curve::Secp256k1)?).map_err(peer)?;
    let curving = curves.iter_mut().find(|curving| curving.pair.curve == Curve::Secp256k1).ok_or(Error::Internal)?;
    curving.party = Some(party);
    Ok(())
}

/// The new shares into the pending slot, and back: what follows is done with the copy that was read.
async fn store(port: &Port, device: &Device, curves: &[Curving]) -> Result<Device> {
    let share = |curving: &Curving| {
        let pair = &curving.pair;
        let party = curving.party.as_ref().ok_or(Error::Internal)?;
        Share::new(pair.curve, pair.wallet_id, pair.pair_id, pair.generation, party)
    };
    let stored = Device {
        client: device.client,
        key: DeviceKey::from_bytes(&device.key.to_bytes()),
        id: device.id,
        one_time: device.one_time.as_ref().map(|key| Zeroizing::new(**key)),
        shares: curves.iter().map(share).collect::<Result<_>>()?,
        backups: device.backups.clone(),
        underway: device.underway.clone(),
        ahead: None,
    };
    device::save(port, BlobSlot::Pending, &stored).await?;
    device::load(port, BlobSlot::Pending).await?.ok_or(Error::Storage(StorageReason::Damaged))
}

/// Steps 4 and 5: a test signature on every curve from the stored shares, and the proofs of them. The last answer opens
/// the session of the first signature.
async fn check(
    port: &Port,
    stored: &Device,
    curves: &[Curving],
    nonce: &[u8; 32],
    session: &mut Session<'_>,
) -> Result<Option<Ahead>> {
    let (mut signing, mut requests) = (Vec::new(), Vec::new());
    for curving in curves {
        let curve = curving.pair.curve;
        port.stage(Stage::Signing, Some(curve)).await?;
        let party = stored.share(curve)?.party()?;
        let message = Message::recovery_check(curve, &curving.sid);
        let path = DerivationPath::root();
        let started = sign::Client::start(&curving.context, &party, &message, &path, &mut port.entropy());
        let (client, request) = started.map_err(peer)?;
        requests.push((curve, request));
        signing.push((curving, party, client));
    }
    let answer = session.step(4, None, requests).await?;
    let verifier_nonce = ceremony::nonce(&answer)?;
    let (mut last, mut requests) = (None, Vec::new());
    for (curving, party, client) in signing {
        let curve = curving.pair.curve;
        let message = match client.next(part(&answer, curve)?).map_err(peer)? {
            ClientStep::Done(_) => None,
            ClientStep::Send { request, state } => {
                last = Some(state);
                Some(ByteVec::from(request))
            }
        };
        let pair = curving.pair.pair_id;
        let proof = ceremony::prove_stored(port, stored.client, &stored.key, nonce, pair, &party, &verifier_nonce)?;
        requests.push((curve, cbor::to_vec(&RecoverFinish { message, proof: proof.into() })));
    }
    let answer = session.step(5, None, requests).await?;
    let last = last.ok_or(Error::Internal)?;
    last.finish(part(&answer, Curve::Secp256k1)?).map_err(peer)?;
    Ok(ceremony::ahead(stored.share(Curve::Secp256k1)?.pair, &answer))
}
