//! The policy of recoveries (METHODS.md G): who waits how long, what is shown to whom, and the proof of possession that
//! alone enrols a new device.

use halfkey_api::{
    bytes::Hex,
    bytes::HexBytes,
    context::possession,
    error::ErrorId,
    message::{self, BeginRecovery, CancelledByLink, PendingRecoveryPair, PossessionProven, ProvePossession},
    route,
};
use halfkey_envelope::{
    entropy::{OsEntropy, random},
    hash::h,
    id::{ClientId, DeviceId, PairId, RecoveryId},
    seal::SealKey,
    wallet::Curve,
};
use halfkey_protocol::proof::{self, Statement};
use subtle::ConstantTimeEq;

use crate::{
    app::Inner,
    challenge,
    config::RecoveryPolicy,
    fault::Fault,
    http::auth::{AsClient, AsCustodian},
    policy_hook::{Asked, Decision, MAX_DELAY_MS, Question},
    signer,
    store::{self, Device, EndedBy, NewDevice, NewRecovery, OldDevices, Purpose, Recovery, RecoveryState},
};

/// When to ask again for what an operator has to decide.
const OPERATOR_RETRY_MS: u64 = 60_000;

/// When to ask again while a step-up is not confirmed.
const STEP_UP_RETRY_MS: u64 = 5_000;

/// When to ask again while the policy hook does not answer.
const HOOK_RETRY_MS: u64 = 30_000;

/// From when on the method may be opened: at once, unless another device was seen lately (DECISIONS.md D33).
fn ready_ms(policy: &RecoveryPolicy, devices: &[Device], now_ms: u64) -> u64 {
    let lately = |device: &Device| now_ms.saturating_sub(device.seen_ms) < policy.seen_within_ms;
    let another = devices.iter().any(|device| device.revoked_ms.is_none() && lately(device));
    if another { now_ms.saturating_add(policy.delay_ms) } else { now_ms }
}

/// What cancels this recovery, for whoever reads the user's mail. It is derived, so that no node has to store it.
fn link_token(app: &Inner, recovery: RecoveryId) -> [u8; 32] {
    let context = h("halfkey/server/v1/recovery-link", &[app.deployment.as_bytes(), recovery.as_bytes()]);
    *SealKey::derive(&context, app.keys.links.as_ref(), "halfkey/server/v1/recovery-link").expose()
}

/// The link that cancels this recovery. The token stands behind the `#`: it is sent only by the page's button.
pub(crate) fn cancel_link(app: &Inner, recovery: RecoveryId) -> String {
    let server = app.config.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
    let path = route::path(route::RECOVERY_LINK, &[&recovery.to_string()]);
    format!("{server}{path}#{}", hex::encode(link_token(app, recovery)))
}

/// Cancels by link. A wrong token and an unknown recovery look the same.
pub(crate) async fn cancel_by_link(
    app: &Inner,
    id: RecoveryId,
    token: &[u8; 32],
    now_ms: u64,
) -> Result<CancelledByLink, Fault> {
    if !bool::from(link_token(app, id).ct_eq(token)) {
        return Err(Fault::not_found());
    }
    let client = app.store.client_of_recovery(id).await?;
    let recovery = app.store.end_recovery(client, id, EndedBy::Link, now_ms).await?;
    tracing::info!(%client, recovery = %id, state = ?recovery.state, "a recovery was cancelled by link");
    Ok(CancelledByLink { held: recovery.state == RecoveryState::Contested })
}

/// Opens a recovery, or gives the one that this device key has open already.
pub(crate) async fn begin(
    app: &Inner,
    caller: &AsClient,
    key: &[u8; 32],
    wanted: BeginRecovery,
) -> Result<message::Recovery, Fault> {
    let (client, now_ms) = (caller.client, caller.now_ms);
    if wanted.purpose == message::RecoveryPurpose::Eject && wanted.old_devices != message::OldDevices::Keep {
        return Err(Fault::field("oldDevices", "KEEP in an eject"));
    }
    let limits = &app.config.limits;
    app.limit(&format!("recoveries:{client}"), limits.recoveries, now_ms).await?;
    if let Some(from) = caller.address {
        app.limit(&format!("recoveries-address:{from}"), limits.recoveries_address, now_ms).await?;
    }
    app.limit("recoveries", limits.recoveries_deployment, now_ms).await?;
    let policy = &app.config.recovery;
    let devices = app.store.devices(client).await?;
    let id = RecoveryId::generate(&mut OsEntropy, now_ms);
    let own_ms = ready_ms(policy, &devices, now_ms);
    let terms = match &app.policy_hook {
        // Asked once: the recovery that this key has open already was decided about when it began.
        Some(hook) if app.store.open_recovery(client, key, now_ms).await?.is_none() => {
            let question = Question {
                client,
                recovery: id,
                is_eject: wanted.purpose == message::RecoveryPurpose::Eject,
                method: &wanted.method,
                revokes_old_devices: wanted.old_devices == message::OldDevices::Revoke,
                platform: &wanted.new_device.platform,
                device_name: &wanted.new_device.name,
                address: caller.address,
                delay_ms: own_ms.saturating_sub(now_ms),
                devices: devices.iter().filter(|device| device.revoked_ms.is_none()).count(),
            };
            decided(hook, &question, own_ms, now_ms).await?
        }
        _ => Some(Terms { ready_ms: own_ms, step_up: None }),
    };
    let (ready_ms, step_up) = terms.map_or((None, None), |terms| (Some(terms.ready_ms), terms.step_up));
    let open_until_ms = ready_ms.unwrap_or(now_ms).saturating_add(policy.open_ms);
    let new = NewRecovery {
        id,
        purpose: match wanted.purpose {
            message::RecoveryPurpose::Recover => Purpose::Recover,
            message::RecoveryPurpose::Eject => Purpose::Eject,
        },
        method: wanted.method,
        device: NewDevice {
            id: DeviceId::generate(&mut OsEntropy, now_ms),
            public_key: *key,
            platform: wanted.new_device.platform,
            name: wanted.new_device.name,
        },
        old_devices: match wanted.old_devices {
            message::OldDevices::Revoke => OldDevices::Revoke,
            message::OldDevices::Keep => OldDevices::Keep,
        },
        nonce: *random::<32>(&mut OsEntropy),
        pairs: Curve::ALL.map(|curve| (curve, PairId::generate(&mut OsEntropy, now_ms))).to_vec(),
        ready_ms,
        // One whose step-up nobody confirms is over then; a confirmed one gets its time.
        expires_ms: step_up.as_ref().map_or(open_until_ms, |step_up| step_up.until_ms),
        step_up,
    };
    let begun = app.store.begin_recovery(client, &new, now_ms).await.map_err(|error| match error {
        store::Error::Unknown(store::What::Backup | store::What::Wallet) => {
            Fault::new(ErrorId::NotBackedUp, "no committed backup by this method")
        }
        error => error.into(),
    })?;
    tracing::info!(%client, recovery = %begun.id, state = ?begun.state, "recovery asked for");
    shown_to_its_device(app, client, begun).await
}

/// On what terms a recovery is let through.
struct Terms {
    /// From when on it may be used.
    ready_ms: u64,
    /// And not before this is confirmed.
    step_up: Option<store::StepUp>,
}

/// The terms by the hook's word; `None` for never.
async fn decided(hook: &Asked, question: &Question<'_>, own_ms: u64, now_ms: u64) -> Result<Option<Terms>, Fault> {
    let after = |seconds: u64| now_ms.saturating_add(seconds.saturating_mul(1000).min(MAX_DELAY_MS));
    match hook.decide(question, now_ms).await {
        Ok(Decision::Allow) => Ok(Some(Terms { ready_ms: own_ms, step_up: None })),
        Ok(Decision::Deny) => Ok(None),
        Ok(Decision::Delay { delay_seconds }) => {
            Ok(Some(Terms { ready_ms: own_ms.max(after(delay_seconds)), step_up: None }))
        }
        Ok(Decision::StepUp { prompt, url, within_seconds }) => {
            let step_up = store::StepUp { prompt, url, until_ms: after(within_seconds), confirmed_ms: None };
            Ok(Some(Terms { ready_ms: own_ms, step_up: Some(step_up) }))
        }
        Err(error) => {
            tracing::error!(client = %question.client, %error, "the policy hook does not decide; nothing was begun");
            Err(Fault::unavailable("the policy does not answer; nothing was begun", HOOK_RETRY_MS))
        }
    }
}

/// The recovery as everybody may see it who acts for the client.
pub(crate) fn shown(recovery: &Recovery) -> message::Recovery {
    message::Recovery {
        id: recovery.id,
        purpose: match recovery.purpose {
            Purpose::Recover => message::RecoveryPurpose::Recover,
            Purpose::Eject => message::RecoveryPurpose::Eject,
        },
        state: match recovery.state {
            RecoveryState::StepUp => message::RecoveryState::StepUpRequired,
            RecoveryState::Waiting => message::RecoveryState::Waiting,
            RecoveryState::Ready => message::RecoveryState::Ready,
            RecoveryState::Executing => message::RecoveryState::Executing,
            RecoveryState::Contested => message::RecoveryState::Requested,
            RecoveryState::Completed => message::RecoveryState::Completed,
            RecoveryState::Cancelled => message::RecoveryState::Cancelled,
            RecoveryState::Expired => message::RecoveryState::Expired,
            RecoveryState::Denied => message::RecoveryState::Denied,
        },
        method: recovery.method.clone(),
        backup_id: recovery.backup,
        waiting_until: (recovery.state == RecoveryState::Waiting).then_some(recovery.ready_ms),
        expires_at: recovery.expires_ms,
        created_at: recovery.created_ms,
        device_name: recovery.device.name.clone(),
        step_up: None,
        nonce: None,
        pairs: Vec::new(),
    }
}

/// With what only the device that asks gets to know.
pub(crate) async fn shown_to_its_device(
    app: &Inner,
    client: ClientId,
    recovery: Recovery,
) -> Result<message::Recovery, Fault> {
    let mut shown = shown(&recovery);
    let wallets = app.store.wallets(client).await?;
    for pair in &recovery.pairs {
        let wallet = wallets.iter().find(|wallet| wallet.id == pair.wallet);
        let public_key = wallet.and_then(|wallet| wallet.public_key.clone());
        shown.pairs.push(PendingRecoveryPair {
            wallet_id: pair.wallet,
            curve: pair.curve,
            pair_id: pair.pair,
            // The slot of a new device has never had a pair before.
            generation: 1,
            from_pair_id: pair.from,
            public_key: HexBytes(public_key.ok_or_else(|| Fault::internal(&"a wallet without a public key"))?),
        });
    }
    shown.nonce = Some(Hex(recovery.nonce));
    if recovery.state == RecoveryState::StepUp {
        let asked =
            |asked: store::StepUp| message::StepUp { prompt: asked.prompt, url: asked.url, until: asked.until_ms };
        shown.step_up = recovery.step_up.map(asked);
    }
    Ok(shown)
}

/// The custodian's backend says how the step-up that its policy asked for has gone. For an eject it needs a key that could
/// have opened the window.
pub(crate) async fn finish_step_up(
    app: &Inner,
    caller: &AsCustodian,
    id: RecoveryId,
    confirmed: bool,
) -> Result<message::Recovery, Fault> {
    let now_ms = caller.now_ms;
    let client = app.store.client_of_recovery(id).await?;
    app.store.client(caller.custodian, client).await?;
    if app.store.recovery(client, id, now_ms).await?.purpose == Purpose::Eject {
        caller.must_open_ejects()?;
    }
    let recovery = match confirmed {
        true => app.store.confirm_step_up(client, id, app.config.recovery.open_ms, now_ms).await?,
        false => app.store.fail_step_up(client, id, now_ms).await?,
    };
    tracing::info!(%client, recovery = %id, confirmed, "the custodian has finished a step-up");
    Ok(shown(&recovery))
}

/// Why a recovery may not be used now; `None` if it may.
pub(crate) fn refused(recovery: &Recovery, now_ms: u64) -> Option<Fault> {
    match recovery.state {
        RecoveryState::Ready | RecoveryState::Executing => None,
        // An acknowledged eject may be repeated for as long as its backup counts.
        RecoveryState::Completed if recovery.purpose == Purpose::Eject => None,
        RecoveryState::Waiting => Some(
            Fault::new(ErrorId::RecoveryWaiting, "the recovery waits")
                .retry_after(recovery.ready_ms.saturating_sub(now_ms)),
        ),
        RecoveryState::Contested => {
            let fault = Fault::new(ErrorId::RecoveryWaiting, "a device has cancelled it, and the operator decides");
            Some(fault.retry_after(OPERATOR_RETRY_MS))
        }
        RecoveryState::StepUp => {
            let fault = Fault::new(ErrorId::RecoveryWaiting, "the custodian has not confirmed its own step yet");
            Some(fault.retry_after(STEP_UP_RETRY_MS))
        }
        RecoveryState::Denied => Some(Fault::new(ErrorId::RecoveryDenied, "the policy denied the recovery")),
        _ => Some(Fault::new(ErrorId::ShareState, "the recovery is over")),
    }
}

/// A recovery of this very device key that the policy has let through.
pub(crate) async fn must_be_open(
    app: &Inner,
    caller: &AsClient,
    key: &[u8; 32],
    id: RecoveryId,
) -> Result<Recovery, Fault> {
    let recovery = app.store.recovery(caller.client, id, caller.now_ms).await?;
    if recovery.device.public_key != *key {
        return Err(Fault::not_found());
    }
    if recovery.purpose == Purpose::Eject && recovery.state == RecoveryState::Ready {
        let window = app.store.eject_window(caller.client).await?;
        if !window.is_some_and(|window| window.is_open(caller.now_ms)) {
            return Err(store::Error::EjectClosed.into());
        }
    }
    refused(&recovery, caller.now_ms).map_or(Ok(recovery), Err)
}

/// Verifies the proof of knowledge of every client half, and enrols the new device.
pub(crate) async fn prove_possession(
    app: &Inner,
    caller: &AsClient,
    key: &[u8; 32],
    id: RecoveryId,
    proven: ProvePossession,
) -> Result<PossessionProven, Fault> {
    let (client, now_ms) = (caller.client, caller.now_ms);
    let recovery = must_be_open(app, caller, key, id).await?;
    if recovery.purpose != Purpose::Recover {
        return Err(Fault::not_found());
    }
    let challenge = proven.challenge.0;
    challenge::take(app, client, key, challenge::Purpose::Possession(id), &challenge, now_ms).await?;
    let backup = app.store.backup(client, recovery.backup).await?;
    let context = possession(app.deployment, client, id, &recovery.nonce, key, &proven.one_time_key.0);
    if !proven.proofs.iter().map(|proof| proof.curve).eq(Curve::ALL) {
        return Err(Fault::field("proofs", "one for each curve, in their order"));
    }
    for (share, proof) in backup.shares.iter().zip(&proven.proofs) {
        let public = share.public.as_ref().ok_or_else(|| Fault::internal(&"a backup without its public side"))?;
        let public = signer::record(share.curve, public)?;
        let statement =
            Statement { purpose: proof::Purpose::Possession, context: &context, pair: share.id, nonce: &challenge };
        proof::verify(&statement, &public.client_point(), &proof.proof.0)?;
    }
    let (recovery, _) = app.store.prove_possession(client, id, &proven.one_time_key.0, now_ms).await?;
    tracing::info!(%client, recovery = %id, device = %recovery.device.id, "possession proven");
    let device_id = recovery.device.id;
    Ok(PossessionProven { device_id, recovery: shown_to_its_device(app, client, recovery).await? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Profile;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn device(seen_ms: u64, revoked_ms: Option<u64>) -> Device {
        Device {
            id: DeviceId::from_bytes([1; 16]),
            client: ClientId::from_bytes([2; 16]),
            public_key: [3; 32],
            platform: "linux".to_owned(),
            name: "x".to_owned(),
            recovery: None,
            created_ms: 0,
            seen_ms,
            revoked_ms,
        }
    }

    #[test]
    fn a_recovery_waits_while_another_device_is_in_use() {
        let (production, now) = (RecoveryPolicy::of(Profile::Production), 100 * DAY_MS);
        let ready = |devices: &[Device]| ready_ms(&production, devices, now);
        assert_eq!(ready(&[]), now);
        assert_eq!(ready(&[device(now, None)]), now + DAY_MS);
        assert_eq!(ready(&[device(now - 30 * DAY_MS + 1, None)]), now + DAY_MS);
        assert_eq!(ready(&[device(now - 30 * DAY_MS, None)]), now);
        assert_eq!(ready(&[device(now, Some(now))]), now, "a revoked device does not count");
        let development = RecoveryPolicy::of(Profile::Development);
        assert_eq!(ready_ms(&development, &[device(now, None)], now), now);
    }
}
