//! What an operator does, as functions: the command line calls them on an opened [`App`].

use halfkey_api::{auth::prefix, message::CreatedKey};
use halfkey_envelope::{
    entropy::OsEntropy,
    id::{ApiKeyId, BackupId, ClientId, CustodianId, PairId, RecoveryId},
};

use crate::{
    app::App,
    eject,
    error::Error,
    http::auth::new_credential,
    store::{self, Custodian, EndedBy, KeyOwner, WaitingForOperator},
};

/// What a custodian's API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// Everything but opening windows for ejects.
    Clients,
}

impl Scope {
    /// As stored with the key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Clients => "clients",
        }
    }
}

/// Makes a custodian with its first API key, which is shown once.
///
/// # Errors
/// The database's own trouble.
pub async fn create_custodian(app: &App, name: &str) -> Result<(CustodianId, CreatedKey), Error> {
    let now_ms = app.now_ms();
    let id = CustodianId::generate(&mut OsEntropy, now_ms);
    app.store.create_custodian(id, name, now_ms).await?;
    Ok((id, create_key(app, id, Scope::All).await?))
}

/// Makes another API key of a custodian, shown once.
///
/// # Errors
/// When there is no such custodian, or the database's own trouble.
pub async fn create_key(app: &App, custodian: CustodianId, scope: Scope) -> Result<CreatedKey, Error> {
    let now_ms = app.now_ms();
    let (key, digest) = new_credential(prefix::CUSTODIAN_KEY, &mut OsEntropy);
    let id = ApiKeyId::generate(&mut OsEntropy, now_ms);
    app.store.create_key(id, &digest, KeyOwner::Custodian(custodian), scope.as_str(), now_ms).await?;
    Ok(CreatedKey { id, key })
}

/// Every custodian.
///
/// # Errors
/// The database's own trouble.
pub async fn custodians(app: &App) -> Result<Vec<Custodian>, store::Error> {
    app.store.custodians().await
}

/// Takes the operator's word that everything committed up to `as_of_ms` is in a completed off-machine copy and that no
/// older copy will ever be restored. Erases the retired halves that this lets go (PROTOCOL.md 4.4).
///
/// # Errors
/// The database's own trouble. What was erased before it stays erased.
pub async fn copied(app: &App, as_of_ms: u64) -> Result<store::Swept, Error> {
    let now_ms = app.now_ms();
    Ok(app.store.sweep(Some(as_of_ms.min(now_ms)), now_ms).await?)
}

/// What waits for the operator: bans, frozen pairs, recoveries that a device has cancelled for the second time.
///
/// # Errors
/// The database's own trouble.
pub async fn waiting(app: &App) -> Result<WaitingForOperator, Error> {
    Ok(app.store.waiting_for_operator(app.now_ms()).await?)
}

/// Lifts a ban after a review: the pair may deal once, so that its device can heal it (PROTOCOL.md 4.9).
///
/// # Errors
/// When there is no such pair, it is not banned, or was healed too often and `beyond_limit` is not given.
pub async fn lift_ban(app: &App, client: ClientId, pair: PairId, beyond_limit: bool) -> Result<(), Error> {
    Ok(app.store.review_ban(client, pair, beyond_limit, app.now_ms()).await?)
}

/// Lets a ban stand: its device cannot heal the pair. May be lifted later all the same.
///
/// # Errors
/// When there is no such pair, or it is not banned.
pub async fn uphold_ban(app: &App, client: ClientId, pair: PairId) -> Result<(), Error> {
    Ok(app.store.uphold_ban(client, pair, app.now_ms()).await?)
}

/// Thaws a frozen backup: it recovers again.
///
/// # Errors
/// When there is no such backup, or it is not frozen.
pub async fn thaw_backup(app: &App, client: ClientId, backup: BackupId) -> Result<(), Error> {
    Ok(app.store.thaw_backup(client, backup, app.now_ms()).await?)
}

/// Thaws a signing pair that a restore froze: it signs again.
///
/// # Errors
/// When there is no such pair, or it is not frozen.
pub async fn thaw_pair(app: &App, client: ClientId, pair: PairId) -> Result<(), Error> {
    Ok(app.store.thaw_pair(client, pair, app.now_ms()).await?)
}

/// Cancels an open recovery, contested or not. If its method was opened already, that backup is frozen.
///
/// # Errors
/// When there is no such recovery, or it is completed.
pub async fn cancel_recovery(app: &App, client: ClientId, recovery: RecoveryId) -> Result<(), Error> {
    app.store.end_recovery(client, recovery, EndedBy::Operator, app.now_ms()).await?;
    Ok(())
}

/// Lets a contested recovery go on; no device can cancel it any more.
///
/// # Errors
/// When there is no such recovery, or it is not contested.
pub async fn continue_recovery(app: &App, client: ClientId, recovery: RecoveryId) -> Result<(), Error> {
    app.store.continue_recovery(client, recovery, app.config.recovery.open_ms, app.now_ms()).await?;
    Ok(())
}

/// Opens the window in which one client may eject, in the custodian's place: for so many seconds, 300 by default and at
/// most 3600. Returns when it closes, in milliseconds.
///
/// # Errors
/// When there is no such client, or its wallet was ejected.
pub async fn enable_eject(app: &App, client: ClientId, seconds: Option<u32>) -> Result<u64, Error> {
    let now_ms = app.now_ms();
    let seconds = seconds.unwrap_or(eject::DEFAULT_WINDOW_S).clamp(1, eject::MAX_WINDOW_S);
    let window = eject::window(seconds, now_ms);
    app.store.open_eject_window(None, client, window, now_ms).await?;
    Ok(window.until_ms)
}

/// Makes a new pepper root: backups from now on name and seal their records in clouds with it. Those made before keep
/// theirs. Gives its number.
///
/// # Errors
/// The database's or the key service's own trouble.
pub async fn add_pepper_root(app: &App) -> Result<u32, Error> {
    let next = app.store.newest_pepper_root().await?.map_or(1, |newest| newest.saturating_add(1));
    crate::keys::make_pepper_root(&app.store, app.kms.as_ref(), app.deployment, next, app.now_ms()).await
}

/// Registers the public half of the custodian's offline export key, once. Whether it is the one that counts now.
///
/// # Errors
/// The database's own trouble.
pub async fn register_export_key(app: &App, key: &[u8; 32]) -> Result<bool, Error> {
    app.register_export_key(key, app.now_ms()).await
}

/// The export key that is registered.
///
/// # Errors
/// The database's own trouble.
pub async fn export_key(app: &App) -> Result<Option<[u8; 32]>, Error> {
    app.export_key().await
}

/// Revokes an API key at once.
///
/// # Errors
/// When the custodian has no such key, or the database's own trouble.
pub async fn revoke_key(app: &App, custodian: CustodianId, key: ApiKeyId) -> Result<(), Error> {
    Ok(app.store.revoke_key(custodian, key, app.now_ms()).await?)
}
