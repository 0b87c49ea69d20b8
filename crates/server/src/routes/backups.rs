//! Making, reading back and removing backups. What makes one `completed` is in [`commit`]: proofs for both halves that
//! this server verified, and nothing that a request says.

use axum::{Json, extract::State, http::StatusCode};
use halfkey_api::{
    bytes::{Base64, Hex},
    error::ErrorId,
    message::{
        BackupBegun, BackupReceipt, BeginBackup, CipherText, CommitBackup, MethodStatus, PendingBackupPair,
        StoreCipherText,
    },
    route,
};
use halfkey_envelope::{
    entropy::OsEntropy,
    id::{BackupId, ClientId, DeviceId, PairId},
    passkey::{self, Stanza},
    wallet::{Curve, Method},
};
use halfkey_protocol::lifecycle::{Force, PairState, Refusal};

use crate::{
    app::{App, Inner},
    backup,
    ceremony::nonce,
    challenge, exit_kit,
    fault::Fault,
    http::{auth::Signed, body, path::Id},
    openapi::{DeviceHeaders, Refused},
    status,
    store::{Error as StoreError, What},
};

const MAX_ENVELOPE: usize = 16 * 1024;

/// Begin a backup: takes the slot's lease and makes a pending pair on every curve.
#[utoipa::path(
    post, path = route::BACKUPS, tag = "backups", security(("client" = [])), operation_id = "beginBackup",
    params(DeviceHeaders), request_body = BeginBackup, responses((status = 200, body = BackupBegun), Refused)
)]
pub(super) async fn begin(
    State(app): State<App>,
    call: Signed<body::Json<BeginBackup>>,
) -> Result<Json<BackupBegun>, Fault> {
    let body::Json(BeginBackup { method }) = call.body;
    let (client, now_ms) = (call.caller.client, call.caller.now_ms);
    must_be_offered(&app, &method)?;
    exit_kit::must_be_offered(&app, &method).await?;
    app.limit(&format!("backups:{client}"), app.config.limits.backups, now_ms).await?;
    let id = BackupId::generate(&mut OsEntropy, now_ms);
    let pairs = Curve::ALL.map(|curve| (curve, PairId::generate(&mut OsEntropy, now_ms)));
    let begun = match app.store.begin_backup(client, call.device.id, &method, id, &pairs, now_ms).await {
        Err(StoreError::Unknown(What::Pair)) => return Err(nothing_deals(&app, client, call.device.id).await?),
        begun => begun?,
    };
    Ok(Json(BackupBegun {
        backup_id: begun.backup,
        generation: begun.generation,
        nonce: Hex(nonce::of_backup(&app, client, &call.device.public_key, begun.backup)),
        expires_at: begun.deadline_ms,
        pairs: begun
            .shares
            .into_iter()
            .map(|share| PendingBackupPair {
                wallet_id: share.wallet,
                curve: share.curve,
                pair_id: share.pair,
                from_pair_id: share.from,
            })
            .collect(),
    }))
}

/// Why this device has no signing pair to deal from.
async fn nothing_deals(app: &Inner, client: ClientId, device: DeviceId) -> Result<Fault, Fault> {
    let pairs = app.store.signing_pairs(client).await?;
    let banned = pairs.iter().any(|pair| pair.device == device && pair.pair.state == PairState::Banned);
    let missing = Fault::new(ErrorId::ShareState, "this device has no active signing pair on every curve");
    Ok(if banned { Fault::banned() } else { missing })
}

/// A method whose door this version does not have would leave a backup that is called completed and opens to nobody.
fn must_be_offered(app: &App, method: &Method) -> Result<(), Fault> {
    let offered = |member: &Method| match member {
        Method::Password => app.guesskeeper.is_some(),
        // A stanza says whether it needs the keeper; see `record_must_fit`.
        Method::Passkey | Method::RecoveryCode => true,
        Method::GoogleDrive | Method::ICloud | Method::Custom(_) => true,
        // Where an export key is registered; see `exit_kit`.
        Method::Exit => true,
        // Never a member.
        Method::AllOf(_) => false,
    };
    if method.members().iter().all(offered) {
        Ok(())
    } else {
        Err(Fault::field("method", "not offered by this deployment"))
    }
}

/// The sealed record lies beside the envelope of a recovery code, the stanza beside that of a passkey; of a password
/// nothing does: its record is at its door. A stanza that needs a keeper is taken only where there is one.
fn record_must_fit(app: &App, method: &Method, record: Option<&[u8]>) -> Result<(), Fault> {
    let refused = |message| Err(Fault::field("sealedRecord", message));
    match (method, record) {
        (Method::AllOf(set), _) => match set.members().iter().find(|member| member.lies_beside()) {
            Some(member) => record_must_fit(app, member, record),
            None if record.is_some() => refused("no member of this set keeps its record here"),
            None => Ok(()),
        },
        (Method::RecoveryCode, None) => refused("a recovery code needs it"),
        (Method::Exit, Some(_)) => refused("an exit kit's record lies in its file"),
        (Method::Password, Some(_)) => refused("a password's record lies at its door"),
        (method, Some(_)) if method.is_in_a_cloud() => refused("a cloud's record lies there"),
        (Method::Passkey, None) => refused("a passkey needs its stanza"),
        (Method::Passkey, Some(bytes)) => match Stanza::parse(bytes) {
            Err(passkey::Error::UnknownVersion(_)) => {
                Err(Fault::new(ErrorId::UnsupportedVersion, "another version of the stanza"))
            }
            Err(_) => refused("not a stanza"),
            Ok(stanza) if stanza.header().mode.has_keeper() && app.keeper.is_none() => {
                refused("this deployment has no keeper for passkeys")
            }
            Ok(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Give up a pending backup.
#[utoipa::path(
    delete, path = route::BACKUP, tag = "backups", security(("client" = [])), operation_id = "cancelBackup",
    params(("backup_id" = String, Path, format = "uuid"), DeviceHeaders), responses((status = 204), Refused)
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Id(id): Id<BackupId>,
    call: Signed<body::Empty>,
) -> Result<StatusCode, Fault> {
    app.store.cancel_backup(call.caller.client, call.device.id, id, call.caller.now_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Upload the envelope, once, while the backup is pending.
#[utoipa::path(
    put, path = route::BACKUP_CIPHER_TEXT, tag = "backups", security(("client" = [])),
    operation_id = "storeCipherText", params(("backup_id" = String, Path, format = "uuid"), DeviceHeaders),
    request_body = StoreCipherText, responses((status = 204), Refused)
)]
pub(super) async fn store_cipher_text(
    State(app): State<App>,
    Id(id): Id<BackupId>,
    call: Signed<body::LargeJson<StoreCipherText>>,
) -> Result<StatusCode, Fault> {
    let body::LargeJson(StoreCipherText { cipher_text, sealed_record }) = call.body;
    for (name, bytes) in [("cipherText", Some(&cipher_text)), ("sealedRecord", sealed_record.as_ref())] {
        if bytes.is_some_and(|Base64(bytes)| bytes.is_empty() || bytes.len() > MAX_ENVELOPE) {
            return Err(Fault::field(name, "1 byte to 16 KiB"));
        }
    }
    let (client, now_ms) = (call.caller.client, call.caller.now_ms);
    let method = backup::check_header(&app, client, id, &cipher_text.0).await?;
    let record = sealed_record.as_ref().map(|Base64(bytes)| bytes.as_slice());
    record_must_fit(&app, &method, record)?;
    app.store.store_envelope(client, call.device.id, id, &cipher_text.0, record, now_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read the pending envelope back, with a challenge for the proofs made from it.
#[utoipa::path(
    get, path = route::BACKUP_CIPHER_TEXT, tag = "backups", security(("client" = [])),
    operation_id = "readCipherText", params(("backup_id" = String, Path, format = "uuid"), DeviceHeaders),
    responses((status = 200, body = CipherText), Refused)
)]
pub(super) async fn read_cipher_text(
    State(app): State<App>,
    Id(id): Id<BackupId>,
    call: Signed<body::Empty>,
) -> Result<Json<CipherText>, Fault> {
    backup::must_be_pending_of(&app, &call.caller, &call.device, id).await?;
    let purpose = challenge::Purpose::Commit(id);
    backup::cipher_text(&app, &call.caller, &call.device.public_key, id, purpose).await.map(Json)
}

/// The acknowledgements of both sides: the pairs become Active and the predecessor Retired, in one transaction.
#[utoipa::path(
    post, path = route::BACKUP_COMMIT, tag = "backups", security(("client" = [])), operation_id = "commitBackup",
    params(("backup_id" = String, Path, format = "uuid"), DeviceHeaders), request_body = CommitBackup,
    responses((status = 200, body = BackupReceipt), Refused)
)]
pub(super) async fn commit(
    State(app): State<App>,
    Id(id): Id<BackupId>,
    call: Signed<body::Json<CommitBackup>>,
) -> Result<Json<BackupReceipt>, Fault> {
    let body::Json(commit) = call.body;
    backup::commit(&app, &call.caller, &call.device, id, commit).await.map(Json)
}

/// Take the user's word that the method's cloud keeps its records on other devices too (iCloud Keychain is on).
#[utoipa::path(
    post, path = route::SYNC_CONFIRMATION, tag = "backups", security(("client" = [])), operation_id = "confirmSync",
    params(("method" = String, Path), DeviceHeaders), responses((status = 204), Refused)
)]
pub(super) async fn confirm_sync(
    State(app): State<App>,
    Id(method): Id<Method>,
    call: Signed<body::Empty>,
) -> Result<StatusCode, Fault> {
    let confirmed = app.store.confirm_sync(call.caller.client, call.device.id, &method, call.caller.now_ms).await;
    confirmed.map_err(|error| match error {
        StoreError::Unknown(What::Backup) => Fault::new(ErrorId::NotBackedUp, "no backup of this method in a cloud"),
        error => error.into(),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a method. Refused where it would leave the wallet without an active pair or the last proven backup.
#[utoipa::path(
    delete, path = route::BACKUP_METHOD, tag = "backups", security(("client" = [])), operation_id = "removeMethod",
    params(("method" = String, Path), DeviceHeaders), responses((status = 204), Refused)
)]
pub(super) async fn remove_method(
    State(app): State<App>,
    Id(method): Id<Method>,
    call: Signed<body::Empty>,
) -> Result<StatusCode, Fault> {
    let (client, now_ms) = (call.caller.client, call.caller.now_ms);
    app.store.must_live(client).await?;
    // The store's rule counts what is active; a backup whose password door is destroyed protects nothing, and one that
    // is bound to a device not enough.
    let completed = |one: &MethodStatus| one.status == "completed";
    let methods = status::backups(&app, client, now_ms).await?.methods;
    let last = !methods.iter().any(|one| one.method != method && status::protects(one));
    if last && methods.iter().any(|one| one.method == method && completed(one)) {
        return Err(Refusal::LastBackup.into());
    }
    app.store.remove_method(client, call.device.id, &method, Force::default(), now_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}
