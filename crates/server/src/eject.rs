//! Ejects (METHODS.md G): the custodian's window, the proof of possession under its own purpose, and the custodian's
//! halves, which are opened only after the wallets are `ejecting` and leave sealed to the key that the proof named.

use halfkey_api::{
    bytes::Base64,
    context::{EJECTED_HALF, ejected_half, ejection},
    message::{
        self, EjectReleased, EjectableBackup, EjectableBackupShares, EjectedShare, EnableEject, ProvePossession,
    },
};
use halfkey_envelope::{
    entropy::OsEntropy,
    hpke::{PublicKey, seal_to},
    id::{ApiKeyId, ClientId, CustodianId, RecoveryId},
    wallet::Curve,
};
use halfkey_protocol::{
    Half,
    lifecycle::may_recover,
    proof::{self, Purpose, Statement},
};

use crate::{
    app::Inner,
    challenge, custodian,
    fault::Fault,
    http::auth::AsClient,
    recovery::must_be_open,
    signer,
    store::{self, EjectWindow, HalfUse, Recovery},
};

/// How long a window is where the custodian says nothing: 5 minutes.
pub(crate) const DEFAULT_WINDOW_S: u32 = 5 * 60;
/// The longest window: an hour.
pub(crate) const MAX_WINDOW_S: u32 = 60 * 60;

/// Opens the window of one client.
pub(crate) async fn enable(
    app: &Inner,
    asks: (CustodianId, ApiKeyId),
    client: ClientId,
    wanted: EnableEject,
    now_ms: u64,
) -> Result<message::EjectWindow, Fault> {
    let seconds = wanted.window_seconds.unwrap_or(DEFAULT_WINDOW_S);
    if !(1..=MAX_WINDOW_S).contains(&seconds) {
        return Err(Fault::field("windowSeconds", "1 to 3600"));
    }
    let window = window(seconds, now_ms);
    app.store.open_eject_window(Some(asks), client, window, now_ms).await?;
    tracing::info!(%client, "a window for an eject is open");
    Ok(shown(window))
}

/// So many seconds from now on.
pub(crate) fn window(seconds: u32, now_ms: u64) -> EjectWindow {
    EjectWindow { opened_ms: now_ms, until_ms: now_ms.saturating_add(u64::from(seconds) * 1000) }
}

const fn shown(window: EjectWindow) -> message::EjectWindow {
    message::EjectWindow { opened_at: window.opened_ms, enabled_until: window.until_ms }
}

/// Identifiers and windows; the type has no room for a share.
pub(crate) async fn ejectable(
    app: &Inner,
    custodian: CustodianId,
    client: ClientId,
    now_ms: u64,
) -> Result<EjectableBackupShares, Fault> {
    app.store.client(custodian, client).await?;
    let window = app.store.eject_window(client).await?.filter(|window| window.is_open(now_ms));
    let backups = app.store.backups(client).await?;
    let results =
        backups.into_iter().filter(|backup| may_recover(&backup.pair).is_ok()).map(|backup| EjectableBackup {
            backup_id: backup.id,
            pair_ids: backup.shares.iter().map(|share| share.id).collect(),
            method: backup.method,
        });
    Ok(EjectableBackupShares { window: window.map(shown), results: results.collect() })
}

/// Verifies the proof of every client half, makes the wallets `ejecting`, and only then opens the custodian's halves. The
/// same device may repeat it, with the same one-time key, until 30 days after its acknowledgement.
pub(crate) async fn release(
    app: &Inner,
    caller: &AsClient,
    key: &[u8; 32],
    id: RecoveryId,
    proven: ProvePossession,
) -> Result<EjectReleased, Fault> {
    let (client, now_ms) = (caller.client, caller.now_ms);
    let eject = must_be_open(app, caller, key, id).await?;
    if eject.purpose != store::Purpose::Eject {
        return Err(Fault::not_found());
    }
    verify(app, caller, key, &eject, &proven).await?;
    let one_time_key = proven.one_time_key.0;
    let recipient = PublicKey::from_bytes(one_time_key);
    let eject = app.store.release_ejection(client, id, &one_time_key, now_ms).await?;
    let mut shares = Vec::new();
    for opened in custodian::open(app, client, eject.backup, HalfUse::Eject, now_ms).await? {
        let public_key = opened.transcript.pair().public_key().to_bytes();
        let aad = ejected_half(app.deployment, client, id, opened.pair, &public_key, &one_time_key);
        let sealed = seal_to(&recipient, EJECTED_HALF, &aad, opened.half.to_bytes().as_ref(), &mut OsEntropy)
            .map_err(|_| Fault::field("oneTimeKey", "not an HPKE public key"))?;
        shares.push(EjectedShare { curve: opened.curve, pair_id: opened.pair, sealed: Base64(sealed) });
    }
    tracing::warn!(%client, eject = %id, "the custodian's halves have left, sealed");
    Ok(EjectReleased { id, shares })
}

async fn verify(
    app: &Inner,
    caller: &AsClient,
    key: &[u8; 32],
    eject: &Recovery,
    proven: &ProvePossession,
) -> Result<(), Fault> {
    let (client, challenge) = (caller.client, proven.challenge.0);
    challenge::take(app, client, key, challenge::Purpose::Possession(eject.id), &challenge, caller.now_ms).await?;
    let backup = app.store.backup(client, eject.backup).await?;
    let context = ejection(app.deployment, client, eject.id, &eject.nonce, key, &proven.one_time_key.0);
    if !proven.proofs.iter().map(|proof| proof.curve).eq(Curve::ALL) {
        return Err(Fault::field("proofs", "one for each curve, in their order"));
    }
    for (share, proof) in backup.shares.iter().zip(&proven.proofs) {
        let public = share.public.as_ref().ok_or_else(|| Fault::internal(&"a backup without its public side"))?;
        let public = signer::record(share.curve, public)?;
        let statement = Statement { purpose: Purpose::Eject, context: &context, pair: share.id, nonce: &challenge };
        proof::verify(&statement, &public.client_point(), &proof.proof.0)?;
    }
    Ok(())
}
