//! What an operator does, as functions: the command line calls them on an opened [`App`].

use halfkey_api::{auth::prefix, message::CreatedKey};
use halfkey_envelope::{
    entropy::OsEntropy,
    id::{ApiKeyId, CustodianId},
};

use crate::{
    app::App,
    error::Error,
    http::auth::new_credential,
    store::{self, Custodian, KeyOwner},
};

/// What a custodian's first key may do: everything that this version has.
const ALL_SCOPES: &str = "all";

/// Makes a custodian with its first API key, which is shown once.
///
/// # Errors
/// The database's own trouble.
pub async fn create_custodian(app: &App, name: &str) -> Result<(CustodianId, CreatedKey), Error> {
    let now_ms = app.now_ms();
    let id = CustodianId::generate(&mut OsEntropy, now_ms);
    app.store.create_custodian(id, name, now_ms).await?;
    Ok((id, create_key(app, id).await?))
}

/// Makes another API key of a custodian, shown once.
///
/// # Errors
/// When there is no such custodian, or the database's own trouble.
pub async fn create_key(app: &App, custodian: CustodianId) -> Result<CreatedKey, Error> {
    let now_ms = app.now_ms();
    let (key, digest) = new_credential(prefix::CUSTODIAN_KEY, &mut OsEntropy);
    let id = ApiKeyId::generate(&mut OsEntropy, now_ms);
    app.store.create_key(id, &digest, KeyOwner::Custodian(custodian), ALL_SCOPES, now_ms).await?;
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

/// Revokes an API key at once.
///
/// # Errors
/// When the custodian has no such key, or the database's own trouble.
pub async fn revoke_key(app: &App, custodian: CustodianId, key: ApiKeyId) -> Result<(), Error> {
    Ok(app.store.revoke_key(custodian, key, app.now_ms()).await?)
}
