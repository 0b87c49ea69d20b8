//! Backups whose record lies in the user's own cloud (METHODS.md D and E), or in a store of the app's own (CUSTOM). The
//! server gives the pepper that names and seals the record, where a backup may be opened and nowhere else; the record
//! itself it never sees.

use halfkey_api::{
    bytes::Base64,
    context::pepper_aad,
    error::ErrorId,
    message::{
        CloudAccount, CommitBackup, MAX_ACCOUNT_HINT, MethodKeyStatement, PEPPER_ANSWER, PEPPER_INFO, PEPPER_VERSION,
        PepperAccount, PepperContents, PepperGiven, PepperRequest,
    },
};
use halfkey_envelope::{entropy::OsEntropy, hpke, id::ClientId, wallet::Method};
use halfkey_protocol::lifecycle::PairState;

use crate::{
    app::Inner,
    door,
    fault::Fault,
    http::{auth::SignedByAnyKey, body},
    keys,
    store::{Backup, CloudRecord, Error as StoreError},
};

/// Gives the client's pepper: inside a pending backup of the calling device, a drill of it, or a recovery of the calling
/// key that the policy has let through. While a recovery waits, it is not given.
pub(crate) async fn give(app: &Inner, call: SignedByAnyKey<body::Json<PepperRequest>>) -> Result<PepperGiven, Fault> {
    let SignedByAnyKey { caller, key, device, body: body::Json(PepperRequest { within, request }) } = call;
    let limits = &app.config.limits;
    let rates = [limits.passkey_client, limits.passkey_address, limits.passkey_deployment];
    door::limit(app, &caller, "cloud-pepper", rates).await?;
    let aad = pepper_aad(app.deployment, caller.client, &key, within.subject());
    let opened = hpke::open_request(&app.keys.server.hpke, PEPPER_INFO, &aad, &request.0);
    let (_, answer_key) = opened.map_err(|error| match error {
        hpke::Error::UnknownVersion(_) => Fault::new(ErrorId::UnsupportedVersion, "another version of the request"),
        _ => Fault::field("request", "not sealed to this server for this call"),
    })?;
    let backup = door::admit(app, &caller, &key, device.as_ref(), within, Method::is_in_a_cloud).await?;
    let record = record_of(app, caller.client, &backup, caller.now_ms).await?;
    let root = keys::pepper_root(&app.store, app.kms.as_ref(), app.deployment, record.root).await?;
    let contents = PepperContents {
        version: PEPPER_VERSION,
        root: record.root,
        pepper: (*root.pepper(caller.client).expose()).into(),
        account: record.account.zip(record.hint).map(|(tag, hint)| PepperAccount { tag: tag.into(), hint }),
    };
    let sealed = answer_key.seal_answer(PEPPER_ANSWER, &contents.to_bytes(), &mut OsEntropy);
    Ok(PepperGiven { sealed: Base64(sealed) })
}

/// A backup keeps the root that was the newest when its record was made.
async fn record_of(app: &Inner, client: ClientId, backup: &Backup, now_ms: u64) -> Result<CloudRecord, Fault> {
    if backup.pair.state != PairState::Pending {
        return Ok(app.store.cloud_record(client, backup.id).await?);
    }
    let newest = keys::newest_pepper_root(&app.store, app.kms.as_ref(), app.deployment, now_ms).await?;
    Ok(app.store.begin_cloud_record(client, backup.id, newest, now_ms).await?)
}

/// What a commit says of the record at the method must fit the method. An account is noted before the commit makes the
/// backup count.
pub(crate) async fn check_commit(
    app: &Inner,
    client: ClientId,
    backup: &Backup,
    commit: &CommitBackup,
) -> Result<(), Fault> {
    let field = |message| Fault::field("cloudAccount", message);
    if !backup.method.members().iter().any(Method::is_in_a_cloud) {
        return if commit.cloud_account.is_none() { Ok(()) } else { Err(field("of a GDRIVE backup only")) };
    }
    // What is unread may be the stanza of a passkey beside it: that would prompt.
    if commit.method_key != MethodKeyStatement::ReadBack && !backup.method.needs(&Method::Passkey) {
        return Err(Fault::field("methodKey", "a record in a cloud is read back"));
    }
    match app.store.cloud_record(client, backup.id).await {
        Ok(_) => {}
        Err(StoreError::Unknown(_)) => {
            return Err(Fault::new(ErrorId::ProofInvalid, "no pepper was ever given for a record of this backup"));
        }
        Err(error) => return Err(error.into()),
    }
    match (backup.method.needs(&Method::GoogleDrive), &commit.cloud_account) {
        (true, Some(CloudAccount { tag, hint })) => {
            let length = hint.chars().count();
            if !(1..=MAX_ACCOUNT_HINT).contains(&length) || hint.chars().any(char::is_control) {
                return Err(field("its hint has 1 to 64 characters and no control characters"));
            }
            Ok(app.store.state_cloud_account(client, backup.id, &tag.0, hint).await?)
        }
        (true, None) => Err(field("a GDRIVE backup states it")),
        (false, Some(_)) => Err(field("of a GDRIVE backup only")),
        (false, None) => Ok(()),
    }
}
