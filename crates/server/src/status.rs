//! What the server shows of its records. Statuses are derived from what it has checked itself; no request carries one
//! (DESIGN.md 4, DECISIONS.md D31).

use std::time::Duration;

use halfkey_api::{
    bytes::{Hex, HexBytes},
    message::{
        self, BackupStatus, CommitBackup, CurveStatus, MethodKeyStatement, MethodStatus, SigningSharePair, Wallet,
    },
};
use halfkey_envelope::{
    id::ClientId,
    wallet::{Curve, Method},
};
use halfkey_protocol::lifecycle::{PairState, Status, WalletState};

use crate::{
    app::Inner,
    fault::Fault,
    protection::{Judged, judge},
    store::{self, Backup, SigningPair},
};

pub(crate) const COMPLETED: &str = "completed";

/// A device as its client sees it.
pub(crate) fn device(device: store::Device) -> message::Device {
    message::Device {
        id: device.id,
        public_key: Hex(device.public_key),
        platform: device.platform,
        name: device.name,
        created_at: device.created_ms,
        last_seen_at: Some(device.seen_ms),
        revoked_at: device.revoked_ms,
    }
}

/// Whether the client has a wallet on every curve.
pub(crate) async fn has_wallet(app: &Inner, client: ClientId) -> Result<bool, Fault> {
    let wallets = app.store.wallets(client).await?;
    let made = |curve| wallets.iter().any(|wallet| wallet.curve == curve && wallet.state.is_some());
    Ok(Curve::ALL.into_iter().all(made))
}

/// The client's wallets with their signing pairs.
pub(crate) async fn wallets(app: &Inner, client: ClientId) -> Result<Vec<Wallet>, Fault> {
    let pairs = app.store.signing_pairs(client).await?;
    let wallets = app.store.wallets(client).await?.into_iter();
    Ok(wallets.map(|wallet| shown_wallet(wallet, &pairs)).collect())
}

fn shown_wallet(wallet: store::Wallet, pairs: &[SigningPair]) -> Wallet {
    let state = match wallet.state {
        None => "creating",
        Some(WalletState::Open) => "active",
        Some(WalletState::Ejecting) => "ejecting",
        Some(WalletState::Ejected) => "ejected",
    };
    let own = pairs.iter().filter(|pair| pair.share.wallet == wallet.id);
    Wallet {
        id: wallet.id,
        curve: wallet.curve,
        public_key: wallet.public_key.map(HexBytes),
        state: state.to_owned(),
        signing_share_pairs: own.filter_map(shown_pair).collect(),
    }
}

/// A pair of which the server has not even stored its own half has no status, and is not shown.
fn shown_pair(pair: &SigningPair) -> Option<SigningSharePair> {
    let status = pair.pair.status()?;
    Some(SigningSharePair {
        id: pair.share.id,
        device_id: pair.device,
        status: status.as_str().to_owned(),
        state: pair.pair.state.as_str().to_ascii_lowercase(),
        reviewed: pair.pair.reviewed,
        generation: pair.pair.generation,
        created_at: pair.pair.created_ms,
    })
}

/// The client's backups, method by method: the active one, or a pending one where there is no active one.
pub(crate) async fn backups(app: &Inner, client: ClientId, now_ms: u64) -> Result<BackupStatus, Fault> {
    let backups = app.store.backups(client).await?;
    let mut methods: Vec<MethodStatus> = Vec::new();
    for backup in backups.iter().filter(|backup| backup.pair.state.is_standing()) {
        let guesses = match backup.method.needs(&Method::Password) {
            true => app.password_guesses(backup.id).await,
            false => None,
        };
        let mut shown = shown_backup(backup, is_completed(backup) && guesses != Some(0));
        shown.guesses_left = guesses;
        shown.verification_due = shown.status == COMPLETED && is_due(backup, app.config.verification_after, now_ms);
        methods.push(shown);
    }
    for backup in backups.iter().filter(|backup| backup.pair.state == PairState::Pending) {
        if !methods.iter().any(|shown| shown.method == backup.method) {
            methods.push(shown_backup(backup, false));
        }
    }
    if !has_wallet(app, client).await? {
        return Ok(BackupStatus { methods, ..BackupStatus::default() });
    }
    let Judged { protection, warnings } = judge(&methods);
    Ok(BackupStatus { backed_up: methods.iter().any(protects), protection, warnings, methods })
}

/// Completed means: active, on every curve, with both halves proven to this server (DECISIONS.md D31).
fn is_completed(backup: &Backup) -> bool {
    let every_curve = Curve::ALL.into_iter().all(|curve| backup.shares.iter().any(|share| share.curve == curve));
    backup.pair.state == PairState::Active && backup.pair.is_complete() && backup.pair.checked.proven && every_curve
}

/// Whether it was neither made nor verified for so long; a drill that failed is no verification.
fn is_due(backup: &Backup, after: Duration, now_ms: u64) -> bool {
    let last_ms = backup.verified_ms.max(backup.pair.activated_ms).unwrap_or_default();
    backup.failed_ms.is_some() || u128::from(now_ms.saturating_sub(last_ms)) >= after.as_millis()
}

fn shown_backup(backup: &Backup, completed: bool) -> MethodStatus {
    let status = backup.pair.status().map_or("", Status::as_str);
    let curve = |share: &store::Share| CurveStatus {
        curve: share.curve,
        pair_id: share.id,
        status: status.to_owned(),
        proven: backup.pair.checked.proven,
    };
    let cloud = backup.cloud.as_ref();
    let says = |word: &str| backup.statement.iter().flat_map(|statement| statement.split(' ')).any(|said| said == word);
    let asserted_method_key = match (says(READ_BACK), says(UNREAD)) {
        (true, false) => Some(MethodKeyStatement::ReadBack),
        (false, true) => Some(MethodKeyStatement::Unread),
        _ => None,
    };
    let pending_sync = backup.method.needs(&Method::ICloud) && cloud.and_then(|cloud| cloud.read_ms).is_none();
    MethodStatus {
        method: backup.method.clone(),
        status: if completed { COMPLETED } else { "incomplete" }.to_owned(),
        backup_id: Some(backup.id),
        curves: backup.shares.iter().map(curve).collect(),
        completed_at: backup.pair.activated_ms,
        verified_at: backup.verified_ms.filter(|_| !pending_sync),
        verification_failed_at: backup.failed_ms,
        verification_due: false,
        guesses_left: None,
        asserted_method_key,
        asserted_device_bound: says(DEVICE_BOUND),
        asserted_pin: says(PIN),
        pending_sync,
        sync_confirmed_at: cloud.and_then(|cloud| cloud.confirmed_ms),
        asserted_account: cloud.and_then(|cloud| cloud.hint.clone()),
    }
}

const READ_BACK: &str = "read_back";
const UNREAD: &str = "unread";
const DEVICE_BOUND: &str = "device_bound";
const PIN: &str = "pin";

/// The stored form of what a device states about its backup: words.
pub(crate) fn statement(commit: &CommitBackup) -> String {
    let key = match commit.method_key {
        MethodKeyStatement::ReadBack => READ_BACK,
        MethodKeyStatement::Unread => UNREAD,
    };
    let said = [Some(key), commit.device_bound.then_some(DEVICE_BOUND), commit.pin.then_some(PIN)];
    said.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Whether a backup survives the loss of any one device, as far as anybody knows: completed, its method's key is not on
/// one device only, and no drill has found that it does not hold; of iCloud Keychain, another device has read it, or the
/// user has confirmed that it is on (DECISIONS.md D31). An exit kit recovers nothing.
pub(crate) fn protects(shown: &MethodStatus) -> bool {
    let reaches_others = !shown.pending_sync || shown.sync_confirmed_at.is_some();
    let holds = shown.verification_failed_at.is_none();
    let recovers = shown.method != Method::Exit;
    shown.status == COMPLETED && !shown.asserted_device_bound && reaches_others && holds && recovers
}
