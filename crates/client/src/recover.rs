//! `recover_wallet`: policy, the method opens, proof of possession, reshare into a fresh signing pair, test signature,
//! commit, fresh backup (METHODS.md G, PROTOCOL.md 4.2 and 4.3).

use halfkey_api::{
    bytes::Hex,
    ceremony::Op,
    chain::Addresses,
    context::possession,
    message::{
        BeginRecovery, CipherText, DoorContext, OldDevices, PendingRecoveryPair, PossessionProven, ProvePossession,
        Recovery, RecoveryPurpose, RecoveryState, StepUp,
    },
    route::{self, path},
};
use halfkey_envelope::{
    entropy::random,
    hpke::SecretKey,
    id::{ClientId, RecoveryId},
    wallet::{Curve, Method},
};
use halfkey_protocol::{Ceremony, DeviceKey, Signs, proof::Purpose};

use crate::{
    backup,
    call::Call,
    ceremony::{Renewal, Session},
    command::{Backup, Cancelled, Identity, Recovered, Recovering, RecoveryMethod},
    create,
    device::{self, Device, Underway},
    eject,
    error::{Error, Result, StorageReason},
    host::BlobSlot,
    opening::{self, Holder, Opened},
    passkey::PasskeySet,
    port::Port,
    progress::Stage,
    renew::{self, Deal},
    resume, status, verify,
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
    eject::must_not_be_underway(port).await?;
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
pub(crate) fn must_be_own(current: Option<Device>, client: ClientId) -> Result<Option<Device>> {
    match current {
        Some(current) if current.client != client => Err(Error::Storage(StorageReason::OtherOwner)),
        current => Ok(current),
    }
}

fn begin_progress(port: &Port) {
    port.begin(8);
}

pub(crate) async fn cancel_recovery(port: &Port, id: RecoveryId) -> Result<Cancelled> {
    let device = device::current(port).await?;
    let path = path(route::RECOVERY_CANCEL, &[&id.to_string()]);
    let recovery: Recovery = Call::new(port, "POST", path).signed(&device.key).fetch().await?;
    Ok(if is_over(recovery.state) { Cancelled::Over } else { Cancelled::OperatorDecides })
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

pub(crate) const fn is_over(state: RecoveryState) -> bool {
    matches!(state, RecoveryState::Cancelled | RecoveryState::Expired | RecoveryState::Denied)
}

/// The recovery as its own device sees it.
pub(crate) async fn read(port: &Port, device: &Device, id: RecoveryId) -> Result<Recovery> {
    let path = path(route::RECOVERY, &[&id.to_string()]);
    Call::get(port, &path).signed(&device.key).fetch().await
}

/// A device that is about to ask, with all that this one knew: its key and its one-time key are stored before the server
/// hears of them.
pub(crate) async fn new_device(
    port: &Port,
    client: ClientId,
    current: Option<Device>,
    underway: Underway,
) -> Result<Device> {
    let mut device = Device::new(client, DeviceKey::generate(&mut port.entropy()), underway);
    device.one_time = Some(random::<32>(&mut port.entropy()));
    if let Some(current) = current {
        device.backups = current.backups;
        device.passkeys = current.passkeys;
        device.evidence = current.evidence;
        device.clouds = current.clouds;
    }
    device::replace_lost_key(port).await?;
    device::save(port, BlobSlot::Pending, &device).await?;
    Ok(device)
}

/// The new device, and then the request.
async fn begin(
    port: &Port,
    client: ClientId,
    current: Option<Device>,
    method: &Method,
    old_devices: OldDevices,
) -> Result<(Device, Recovery)> {
    let revoke = old_devices == OldDevices::Revoke;
    let underway = Underway::Recovery(None, method.clone(), revoke);
    let mut device = new_device(port, client, current, underway).await?;
    let recovery = ask(port, &mut device, method, revoke).await?;
    Ok((device, recovery))
}

/// The request itself; its id is stored.
async fn ask(port: &Port, device: &mut Device, method: &Method, revoke: bool) -> Result<Recovery> {
    let body = BeginRecovery {
        purpose: RecoveryPurpose::Recover,
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
        RecoveryState::StepUpRequired => {
            let (recovery_id, step_up) = (recovery.id, step_up(recovery)?);
            Ok(Recovering::StepUpRequired { recovery_id, step_up })
        }
        RecoveryState::Requested => Ok(Recovering::Undecided { recovery_id: recovery.id }),
        RecoveryState::Completed => complete(port, device, method, expected).await,
        RecoveryState::Denied | RecoveryState::Cancelled | RecoveryState::Expired => {
            Err(given_up(port, recovery.state).await?)
        }
    }
}

/// What the user has to do, if it can be shown to one.
pub(crate) fn step_up(recovery: Recovery) -> Result<StepUp> {
    let sound = |step_up: &StepUp| StepUp::is_sound(&step_up.prompt, step_up.url.as_deref());
    recovery.step_up.filter(sound).ok_or(Error::PeerMisbehaved { what: "STEP_UP" })
}

/// It came to nothing: what this device kept for it goes.
pub(crate) async fn given_up(port: &Port, state: RecoveryState) -> Result<Error> {
    port.delete_blob(BlobSlot::Pending).await?;
    Ok(if state == RecoveryState::Denied { Error::Denied } else { Error::RecoveryOver })
}

/// The answer to the last step was lost: the shares are here and the server has committed.
async fn complete(
    port: &Port,
    device: Device,
    method: RecoveryMethod,
    expected: Option<Addresses>,
) -> Result<Recovering> {
    if device.shares.is_empty() {
        port.delete_blob(BlobSlot::Pending).await?;
        return Err(Error::RecoveryOver);
    }
    let addresses = status::addresses_of(port, &device)?;
    let identity = identify(&addresses, expected)?;
    device::promote(port, device).await?;
    let fresh_backup = renew_backup(port, &method).await;
    port.all_done().await?;
    Ok(Recovering::Recovered(Box::new(Recovered { addresses, identity, fresh_backup })))
}

/// A fresh backup by a method whose backup was opened: the secret is proven in a drill, and the wallet backed up anew
/// under it.
pub(crate) async fn renew_backup(port: &Port, method: &RecoveryMethod) -> Result<Backup> {
    let (_, holder) = verify::drill(port, method).await?;
    backup::make(port, &holder, false).await
}

/// A backup that its method has opened, inside a recovery that the policy has let through.
pub(crate) struct Unlocked {
    /// The caller's addresses, or those of the wallet that this device has.
    pub(crate) expected: Option<Addresses>,
    pub(crate) stored: CipherText,
    pub(crate) holder: Holder,
    pub(crate) passkeys: Option<PasskeySet>,
    pub(crate) opened: Opened,
}

pub(crate) async fn unlock(
    port: &Port,
    device: &Device,
    recovery: &Recovery,
    method: &RecoveryMethod,
    expected: Option<Addresses>,
) -> Result<Unlocked> {
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
    let opening = opening::record(port, &device.key, within, device.client, &stored, method).await?;
    let opening::FromMethod { record, holder, passkeys } = opening;
    let opened = opening::open(&record, &stored)?;
    port.part_done();
    Ok(Unlocked { expected, stored, holder, passkeys, opened })
}

async fn execute(
    port: &Port,
    device: Device,
    recovery: Recovery,
    method: RecoveryMethod,
    expected: Option<Addresses>,
) -> Result<Recovered> {
    let Unlocked { expected, stored, holder, passkeys, opened } =
        unlock(port, &device, &recovery, &method, expected).await?;
    let mut device = device;
    passkeys.into_iter().for_each(|set| device.remember_passkeys(set));

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

    let device = reshare(port, &device, &recovery, &opened).await?;
    device::promote(port, device).await?;
    port.part_done();
    // The wallet is recovered, whatever becomes of this: the used backup was opened, so it gets a successor at once.
    let fresh_backup = backup::make(port, &holder, false).await;
    port.all_done().await?;
    Ok(Recovered { addresses, identity, fresh_backup })
}

pub(crate) fn identify(addresses: &Addresses, expected: Option<Addresses>) -> Result<Identity> {
    match expected {
        Some(expected) if expected == *addresses => Ok(Identity::Confirmed),
        Some(_) => Err(Error::IdentityMismatch),
        None => Ok(Identity::Unconfirmed),
    }
}

pub(crate) fn addresses(port: &Port, opened: &Opened) -> Result<Addresses> {
    let key = |curve| {
        let half = opened.halves.iter().find(|half| half.curve == curve).ok_or(Error::Internal)?;
        Ok::<_, Error>(half.public.public_key().to_bytes())
    };
    status::addresses_of_keys(port, &key(Curve::Secp256k1)?, &key(Curve::Ed25519)?)
}

/// The pairs that the server is about to make belong to the wallets and the backup in the envelope.
pub(crate) fn must_fit(recovery: &Recovery, opened: &Opened) -> Result<()> {
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

pub(crate) fn one_time(device: &Device) -> Result<SecretKey> {
    let seed = device.one_time.as_ref().ok_or(Error::Storage(StorageReason::Damaged))?;
    Ok(SecretKey::from_seed(seed))
}

pub(crate) fn server_nonce(recovery: &Recovery) -> Result<[u8; 32]> {
    recovery.nonce.map(|nonce| nonce.0).ok_or(Error::PeerMisbehaved { what: "nonce" })
}

/// The ceremony, for the pairs that the server has begun: every client half deals to this device and the server.
async fn reshare(port: &Port, device: &Device, recovery: &Recovery, opened: &Opened) -> Result<Device> {
    let nonce = server_nonce(recovery)?;
    let mut deals = Vec::new();
    for (pair, half) in recovery.pairs.iter().zip(&opened.halves) {
        let context = context(port, device, recovery, pair)?;
        let (old, one_time) = (half.public, one_time(device)?);
        deals.push(Deal { context, old, half: &half.half, one_time });
    }
    let session = Session::new(port, device.client, &device.key, Op::Recover, *recovery.id.as_bytes());
    renew::run(port, device, session, &nonce, deals).await
}

fn context(port: &Port, device: &Device, recovery: &Recovery, pair: &PendingRecoveryPair) -> Result<Ceremony> {
    let op = halfkey_protocol::Op::Recover;
    let renewal = Renewal {
        from: pair.from_pair_id,
        to: pair.pair_id,
        generation: pair.generation,
        server_nonce: server_nonce(recovery)?,
    };
    Ok(renewal.context(port, op, device, pair.curve, pair.wallet_id))
}
