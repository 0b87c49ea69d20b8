//! Records in users' clouds: who is given a pepper when, what a commit must state, and when iCloud counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use halfkey_api::{
    bytes::{Base64, Hex},
    context::{pepper_aad, verification_client},
    message::{
        CipherText, CloudAccount, DoorContext, MethodKeyStatement, MethodStatus, OldDevices, PEPPER_INFO,
        PepperContents, PepperRequest, VerificationBegun,
    },
    route::{self, path},
};
use halfkey_envelope::{
    entropy::{OsEntropy, random},
    hpke::{self, PublicKey, SecretKey},
    id::RecoveryId,
    wallet::Method,
};
use halfkey_protocol::proof::{self, Purpose, Statement};
use halfkey_server::{
    admin,
    config::{Profile, Rate, RecoveryPolicy},
};
use harness::{
    Server,
    phone::{Kept, Phone, Resharing},
};

const HOUR_MS: u64 = 60 * 60 * 1000;

async fn pepper(phone: &Phone<'_>, within: DoorContext) -> Result<PepperContents, String> {
    phone.pepper(within).await
}

fn account() -> CloudAccount {
    CloudAccount { tag: Hex([7; 32]), hint: "a…@example.com".to_owned() }
}

/// A backup up to its commit, whose pepper was given.
async fn prepare(phone: &Phone<'_>, method: &Method) -> (Resharing, Kept, PepperContents) {
    let resharing = phone.reshare(method).await;
    let kept = phone.seal(&resharing);
    assert_eq!(phone.upload(&kept).await.status, 204);
    let given = pepper(phone, DoorContext::Backup { id: kept.backup }).await.unwrap();
    (resharing, kept, given)
}

async fn back_up(phone: &Phone<'_>, method: &Method) -> (Kept, PepperContents) {
    let (resharing, kept, given) = prepare(phone, method).await;
    let stored = phone.read_back(kept.backup).await;
    let mut commit = phone.commitment(&resharing, &stored);
    commit.cloud_account = (*method == Method::GoogleDrive).then(account);
    phone.commit(kept.backup, &commit).await.unwrap();
    (kept, given)
}

async fn begin_drill(phone: &Phone<'_>, method: &Method) -> DoorContext {
    let begin = serde_json::json!({ "method": method.name() });
    let begun: VerificationBegun = phone.server.signed(&phone.user, "POST", route::VERIFICATIONS, &begin).await.json();
    DoorContext::Verification { id: begun.verification_id }
}

async fn shown(phone: &Phone<'_>, method: &Method) -> MethodStatus {
    phone.status().await.methods.into_iter().find(|shown| shown.method == *method).unwrap()
}

#[tokio::test]
async fn a_pepper_is_given_where_its_backup_is_open_to_the_caller_and_nowhere_else() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let other = Phone::with_wallet(&server).await;
    let (resharing, kept, given) = prepare(&phone, &Method::GoogleDrive).await;
    let within = DoorContext::Backup { id: kept.backup };
    assert_eq!((given.version, given.root, given.account.is_none()), (1, 1, true));
    assert_eq!(pepper(&phone, within).await.unwrap(), given, "asked again, the same");
    assert_eq!(pepper(&other, within).await.unwrap_err(), "NOT_FOUND", "another client");
    assert_eq!(pepper(&phone.new_device(9), within).await.unwrap_err(), "NOT_FOUND", "a key that is not enrolled");
    let theirs = prepare(&other, &Method::GoogleDrive).await.2;
    assert_eq!(theirs.root, given.root);
    assert_ne!(theirs.pepper, given.pepper, "each client has its own");

    let stored = phone.read_back(kept.backup).await;
    let mut commit = phone.commitment(&resharing, &stored);
    commit.cloud_account = Some(account());
    phone.commit(kept.backup, &commit).await.unwrap();
    assert_eq!(pepper(&phone, within).await.unwrap_err(), "SHARE_STATE", "not pending any more");

    // Within a drill of the caller's own device, with what was stated of the account.
    let drill = begin_drill(&phone, &Method::GoogleDrive).await;
    let again = pepper(&phone, drill).await.unwrap();
    assert_eq!((again.root, again.pepper), (given.root, given.pepper));
    let known = again.account.clone().unwrap();
    assert_eq!((*known.tag, known.hint.as_str()), (account().tag.0, "a…@example.com"));
    assert_eq!(pepper(&other, drill).await.unwrap_err(), "NOT_FOUND");

    // Within a recovery, by the device that asked for it, although it is not enrolled yet.
    let new = phone.new_device(1);
    let recovery = new.begin_recovery(&Method::GoogleDrive, OldDevices::Keep).await.unwrap();
    let recovering = DoorContext::Recovery { id: recovery.id };
    assert_eq!(pepper(&new, recovering).await.unwrap().pepper, given.pepper);
    assert_eq!(pepper(&phone, recovering).await.unwrap_err(), "NOT_FOUND", "another device's recovery");
    let unknown = DoorContext::Recovery { id: RecoveryId::from_bytes([9; 16]) };
    assert_eq!(pepper(&new, unknown).await.unwrap_err(), "NOT_FOUND");

    // Once a newer backup has taken its place, the older one is open to nobody.
    back_up(&phone, &Method::GoogleDrive).await;
    assert_eq!(pepper(&new, recovering).await.unwrap_err(), "SHARE_STATE");
    assert_eq!(pepper(&phone, drill).await.unwrap_err(), "SHARE_STATE");
}

#[tokio::test]
async fn a_pepper_is_given_for_clouds_only_and_to_the_sealer_of_the_request_only() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    phone.back_up(&Method::RecoveryCode).await;
    let drill = begin_drill(&phone, &Method::RecoveryCode).await;
    assert_eq!(pepper(&phone, drill).await.unwrap_err(), "NOT_FOUND", "a recovery code has none");
    let (_, kept, _) = prepare(&phone, &Method::ICloud).await;
    let within = DoorContext::Backup { id: kept.backup };

    let to = PublicKey::from_bytes(phone.descriptor.server.hpke.0);
    let (deployment, client, key) = (phone.descriptor.deployment, phone.user.client.id, phone.user.public());
    let good = pepper_aad(deployment, client, &key, within.subject());
    let elsewhere = pepper_aad(deployment, client, &key, [9; 16]);
    let (own, someone) = (SecretKey::generate(&mut OsEntropy), phone.new_device(3).user.public());
    let others = pepper_aad(deployment, client, &someone, within.subject());
    for (to, aad, why) in [
        (own.public_key(), good, "sealed to another key"),
        (to, elsewhere, "for another backup"),
        (to, others, "by another device"),
    ] {
        let (request, _) = hpke::Request::seal(&to, PEPPER_INFO, &aad, b"", &mut OsEntropy).unwrap();
        assert_eq!(phone.pepper_for(within, request).await.unwrap_err(), "INVALID_REQUEST", "{why}");
    }
    let (mut request, _) = hpke::Request::seal(&to, PEPPER_INFO, &good, b"", &mut OsEntropy).unwrap();
    request[0] = 2;
    assert_eq!(phone.pepper_for(within, request).await.unwrap_err(), "UNSUPPORTED_VERSION");
    let body = serde_json::to_vec(&PepperRequest { within, request: Base64(vec![1; 80]) }).unwrap();
    let unsigned = server.call("POST", route::CLOUD_PEPPER, phone.user.token(), &body).await;
    assert_eq!(unsigned.refusal(), "DEVICE_SIGNATURE_INVALID");
}

/// DECISIONS.md D11: no pepper before the policy has let the recovery through.
#[tokio::test]
async fn while_a_recovery_waits_no_pepper_is_given() {
    let policy = RecoveryPolicy { delay_ms: HOUR_MS, ..RecoveryPolicy::of(Profile::Production) };
    let server = Server::with(|config| config.recovery = policy).await;
    let phone = Phone::with_wallet(&server).await;
    let (_, given) = back_up(&phone, &Method::GoogleDrive).await;
    let new = phone.new_device(1);
    let recovery = new.begin_recovery(&Method::GoogleDrive, OldDevices::Keep).await.unwrap();
    let within = DoorContext::Recovery { id: recovery.id };
    assert_eq!(pepper(&new, within).await.unwrap_err(), "RECOVERY_WAITING");
    server.pass_ms(HOUR_MS);
    assert_eq!(pepper(&new, within).await.unwrap().pepper, given.pepper);
    let cancel = path(route::RECOVERY_CANCEL, &[&recovery.id.to_string()]);
    assert_eq!(server.signed_empty(&phone.user, "POST", &cancel).await.status, 200);
    assert_eq!(pepper(&new, within).await.unwrap_err(), "SHARE_STATE");
}

#[tokio::test]
async fn a_backup_keeps_the_root_that_it_was_made_with_and_a_lost_root_is_not_made_anew() {
    let mut server = Server::start().await;
    let (client, first) = {
        let phone = Phone::with_wallet(&server).await;
        let (_, first) = back_up(&phone, &Method::GoogleDrive).await;
        (phone.user.client.id, first)
    };
    server.restart().await;
    assert_eq!(admin::add_pepper_root(&server.app).await.unwrap(), 2);
    let phone = Phone::with_wallet(&server).await;
    assert_ne!(phone.user.client.id, client);
    let (_, newer) = back_up(&phone, &Method::GoogleDrive).await;
    assert_eq!((first.root, newer.root), (1, 2));
    let drill = begin_drill(&phone, &Method::GoogleDrive).await;
    assert_eq!(pepper(&phone, drill).await.unwrap().pepper, newer.pepper);
    assert_eq!(admin::add_pepper_root(&server.app).await.unwrap(), 3);
    assert_eq!(pepper(&phone, drill).await.unwrap().pepper, newer.pepper, "a newer root changes nothing that is there");

    assert_eq!(server.tamper("DELETE FROM server_keys WHERE name = 'pepper-root-2'").await, 1);
    assert_eq!(pepper(&phone, drill).await.unwrap_err(), "INTERNAL");
    let anew = server.tamper("UPDATE server_keys SET created_ms = 0 WHERE name = 'pepper-root-2'").await;
    assert_eq!(anew, 0, "not made anew");
    server.tamper("UPDATE cloud_records SET root = 3").await;
    assert_ne!(pepper(&phone, drill).await.unwrap().pepper, newer.pepper);
    let swapped = "UPDATE server_keys SET wrapped = (SELECT wrapped FROM server_keys WHERE name = 'pepper-root-1') \
                   WHERE name = 'pepper-root-3'";
    assert_eq!(server.tamper(swapped).await, 1);
    assert_eq!(pepper(&phone, drill).await.unwrap_err(), "INTERNAL", "a swapped root is refused by the key service");
}

#[tokio::test]
async fn a_commit_states_what_fits_its_method() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let refused =
        async |method: &Method, with_pepper: bool, change: &dyn Fn(&mut halfkey_api::message::CommitBackup)| {
            let resharing = phone.reshare(method).await;
            let kept = phone.seal(&resharing);
            assert_eq!(phone.upload(&kept).await.status, 204);
            if with_pepper {
                pepper(&phone, DoorContext::Backup { id: kept.backup }).await.unwrap();
            }
            let stored = phone.read_back(kept.backup).await;
            let mut commit = phone.commitment(&resharing, &stored);
            change(&mut commit);
            phone.commit(kept.backup, &commit).await.unwrap_err()
        };
    let (drive, icloud, custom) = (Method::GoogleDrive, Method::ICloud, Method::custom("VAULT").unwrap());
    let stated = |commit: &mut halfkey_api::message::CommitBackup| commit.cloud_account = Some(account());
    let hint = |hint: &str| {
        let hint = hint.to_owned();
        move |commit: &mut halfkey_api::message::CommitBackup| {
            commit.cloud_account = Some(CloudAccount { hint: hint.clone(), ..account() });
        }
    };
    assert_eq!(refused(&drive, false, &stated).await, "PROOF_INVALID", "no pepper, no record");
    assert_eq!(refused(&icloud, false, &|_| ()).await, "PROOF_INVALID");
    assert_eq!(refused(&custom, false, &|_| ()).await, "PROOF_INVALID");
    assert_eq!(refused(&custom, true, &stated).await, "INVALID_REQUEST", "nor does the app's own store");
    assert_eq!(refused(&drive, true, &|_| ()).await, "INVALID_REQUEST", "no account");
    assert_eq!(refused(&icloud, true, &stated).await, "INVALID_REQUEST", "iCloud tells no account");
    assert_eq!(refused(&Method::RecoveryCode, false, &stated).await, "INVALID_REQUEST");
    let pin = |commit: &mut halfkey_api::message::CommitBackup| commit.pin = true;
    assert_eq!(refused(&Method::RecoveryCode, false, &pin).await, "INVALID_REQUEST", "a PIN is a password's matter");
    for bad in ["", "a\nb", &"x".repeat(65)] {
        assert_eq!(refused(&drive, true, &hint(bad)).await, "INVALID_REQUEST", "{bad:?}");
    }
    for method in [&drive, &icloud, &custom] {
        let unread = |commit: &mut halfkey_api::message::CommitBackup| {
            commit.cloud_account = (*method == drive).then(account);
            commit.method_key = MethodKeyStatement::Unread;
        };
        assert_eq!(refused(method, true, &unread).await, "INVALID_REQUEST", "{method}: not read back");
    }
    assert!(!phone.status().await.backed_up, "nothing of it counted");

    for method in [&drive, &custom] {
        let kept = phone.seal(&phone.reshare(method).await);
        let with_record = phone.upload_with(&kept, Some(Base64(vec![7; 64]))).await;
        assert_eq!(with_record.refusal(), "INVALID_REQUEST", "{method}: the record lies in the cloud");
    }

    back_up(&phone, &drive).await;
    let status = shown(&phone, &drive).await;
    assert_eq!(status.asserted_method_key, Some(MethodKeyStatement::ReadBack));
    assert_eq!(status.asserted_account.as_deref(), Some("a…@example.com"));
    assert_eq!((status.pending_sync, status.sync_confirmed_at), (false, None));
    assert!(phone.status().await.backed_up);
}

async fn confirm(phone: &Phone<'_>, method: &str) -> Result<(), String> {
    let path = path(route::SYNC_CONFIRMATION, &[method]);
    let answer = phone.server.signed_empty(&phone.user, "POST", &path).await;
    if answer.status == 204 { Ok(()) } else { Err(answer.refusal()) }
}

/// Runs the drill's proofs of this device with the opened halves.
async fn drill(phone: &Phone<'_>, kept: &Kept) {
    let DoorContext::Verification { id } = begin_drill(phone, &kept.header.method).await else { panic!("a drill") };
    let read = path(route::VERIFICATION_CIPHER_TEXT, &[&id.to_string()]);
    let stored: CipherText = phone.server.signed_empty(&phone.user, "GET", &read).await.json();
    let halves = phone.open(kept, &stored);
    let context = verification_client(phone.descriptor.deployment, phone.user.client.id, id, kept.backup);
    let proofs: Vec<_> = stored
        .pairs
        .iter()
        .zip(&halves)
        .map(|(pair, half)| {
            let nonce = &stored.challenge.0;
            let statement = Statement { purpose: Purpose::Verify, context: &context, pair: pair.pair_id, nonce };
            let proof = proof::prove(&statement, half, &mut OsEntropy).unwrap();
            serde_json::json!({ "curve": pair.curve, "proof": Base64(proof) })
        })
        .collect();
    let nonce = Hex(*random::<32>(&mut OsEntropy));
    let body = serde_json::json!({ "challenge": stored.challenge, "nonce": nonce, "proofs": proofs });
    let prove = path(route::VERIFICATION_PROOF, &[&id.to_string()]);
    let answer = phone.server.signed(&phone.user, "POST", &prove, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn icloud_counts_once_another_device_has_read_it_or_the_user_has_confirmed_it() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    assert_eq!(confirm(&phone, "ICLOUD").await.unwrap_err(), "NOT_BACKED_UP");
    let (kept, _) = back_up(&phone, &Method::ICloud).await;
    let state = async || {
        let shown = shown(&phone, &Method::ICloud).await;
        (shown.status.clone(), shown.pending_sync, shown.verified_at, phone.status().await.backed_up)
    };
    let pending = ("completed".to_owned(), true, None, false);
    assert_eq!(state().await, pending);
    server.pass_ms(5);
    drill(&phone, &kept).await;
    assert_eq!(state().await, pending, "the device that made it proves nothing of other devices");

    // What only pends does not let the last protection go.
    phone.back_up(&Method::RecoveryCode).await;
    let code = path(route::BACKUP_METHOD, &["RECOVERY_CODE"]);
    assert_eq!(server.signed_empty(&phone.user, "DELETE", &code).await.refusal(), "LAST_PROTECTION");

    // The user's word counts, and is recorded as such.
    assert_eq!(confirm(&phone, "RECOVERY_CODE").await.unwrap_err(), "NOT_BACKED_UP", "in no cloud");
    assert_eq!(confirm(&phone, "NONSENSE").await.unwrap_err(), "NOT_FOUND");
    let unsigned = server.call("POST", &path(route::SYNC_CONFIRMATION, &["ICLOUD"]), phone.user.token(), b"").await;
    assert_eq!(unsigned.refusal(), "DEVICE_SIGNATURE_INVALID");
    server.pass_ms(5);
    let at = server.now_ms();
    confirm(&phone, "ICLOUD").await.unwrap();
    server.pass_ms(5);
    confirm(&phone, "ICLOUD").await.unwrap();
    let confirmed = shown(&phone, &Method::ICloud).await;
    assert_eq!((confirmed.pending_sync, confirmed.sync_confirmed_at, confirmed.verified_at), (true, Some(at), None));
    assert_eq!(server.signed_empty(&phone.user, "DELETE", &code).await.status, 204, "it protects now");

    // Another device proves that it has it: by its recovery, whatever becomes of that.
    let (kept, _) = back_up(&phone, &Method::ICloud).await;
    assert_eq!(state().await, pending, "a fresh backup is a fresh item");
    let new = phone.new_device(1);
    let recovery = new.begin_recovery(&Method::ICloud, OldDevices::Keep).await.unwrap();
    pepper(&new, DoorContext::Recovery { id: recovery.id }).await.unwrap();
    let stored = new.recovery_cipher_text(&recovery).await.unwrap();
    assert!(state().await.1, "asking is not reading");
    let one_time = SecretKey::generate(&mut OsEntropy);
    new.prove_possession(&recovery, &stored, &new.open(&kept, &stored), &one_time).await.unwrap();
    let read = state().await;
    assert_eq!((read.0.as_str(), read.1, read.2.is_some(), read.3), ("completed", false, true, true));
}

#[tokio::test]
async fn a_drill_by_another_enrolled_device_ends_the_waiting_for_icloud() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let code = phone.back_up(&Method::RecoveryCode).await;
    let mut second = phone.new_device(1);
    second.recover(&code, OldDevices::Keep).await;
    let (kept, _) = back_up(&phone, &Method::ICloud).await;
    assert!(shown(&phone, &Method::ICloud).await.pending_sync);
    server.pass_ms(5);
    let at = server.now_ms();
    drill(&second, &kept).await;
    let read = shown(&phone, &Method::ICloud).await;
    assert_eq!((read.pending_sync, read.verified_at), (false, Some(at)));
    assert!(phone.status().await.backed_up);
}

#[tokio::test]
async fn peppers_are_limited() {
    let server = Server::with(|config| config.limits.passkey_client = Rate::per_hour(2)).await;
    let phone = Phone::with_wallet(&server).await;
    let (_, kept, _) = prepare(&phone, &Method::GoogleDrive).await;
    let within = DoorContext::Backup { id: kept.backup };
    pepper(&phone, within).await.unwrap();
    assert_eq!(pepper(&phone, within).await.unwrap_err(), "RATE_LIMITED");
}

#[tokio::test]
async fn a_set_is_taken_with_what_each_of_its_members_needs() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let set: Method = "ALL_OF(CUSTOM:VAULT,RECOVERY_CODE)".parse().unwrap();
    let resharing = phone.reshare(&set).await;
    let kept = phone.seal(&resharing);
    assert_eq!(phone.upload_with(&kept, None).await.refusal(), "INVALID_REQUEST", "the code's record is missing");
    assert_eq!(phone.upload_with(&kept, Some(Base64(vec![7; 64]))).await.status, 204);
    let commit = async |change: &dyn Fn(&mut halfkey_api::message::CommitBackup)| {
        let stored = phone.read_back(kept.backup).await;
        let mut commit = phone.commitment(&resharing, &stored);
        change(&mut commit);
        phone.commit(kept.backup, &commit).await.map(drop)
    };
    assert_eq!(commit(&|_| ()).await, Err("PROOF_INVALID".to_owned()), "no pepper, no record in the app's store");
    pepper(&phone, DoorContext::Backup { id: kept.backup }).await.unwrap();
    let unread = |commit: &mut halfkey_api::message::CommitBackup| commit.method_key = MethodKeyStatement::Unread;
    assert_eq!(commit(&unread).await, Err("INVALID_REQUEST".to_owned()), "there is nothing that would prompt");
    let stated = |commit: &mut halfkey_api::message::CommitBackup| commit.cloud_account = Some(account());
    assert_eq!(commit(&stated).await, Err("INVALID_REQUEST".to_owned()), "no member tells an account");
    assert!(!phone.status().await.backed_up);
    commit(&|_| ()).await.unwrap();
    assert!(phone.status().await.backed_up);
    assert_eq!(shown(&phone, &set).await.status, "completed");

    let drive: Method = "ALL_OF(CUSTOM:VAULT,GDRIVE)".parse().unwrap();
    let kept = phone.seal(&phone.reshare(&drive).await);
    let beside = phone.upload_with(&kept, Some(Base64(vec![7; 64]))).await;
    assert_eq!(beside.refusal(), "INVALID_REQUEST", "no member's record lies beside the envelope");
    let passkey: Method = "ALL_OF(CUSTOM:VAULT,PASSKEY)".parse().unwrap();
    let kept = phone.seal(&phone.reshare(&passkey).await);
    assert_eq!(phone.upload_with(&kept, Some(Base64(vec![7; 64]))).await.refusal(), "INVALID_REQUEST", "no stanza");
    for (method, why) in [
        ("ALL_OF(CUSTOM:VAULT,PASSWORD)", "this deployment has no guesskeeper"),
        ("ALL_OF(PASSKEY,RECOVERY_CODE)", "both beside the envelope"),
        ("ALL_OF(RECOVERY_CODE,CUSTOM:VAULT)", "another order is no name"),
        ("ALL_OF(EXIT,GDRIVE)", "an exit kit is no member"),
    ] {
        let body = serde_json::json!({ "method": method });
        let refused = server.signed(&phone.user, "POST", route::BACKUPS, &body).await;
        assert_eq!(refused.refusal(), "INVALID_REQUEST", "{why}");
    }
}
