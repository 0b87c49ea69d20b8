//! The relay to the keeper of the passkey door: who may say what when. The keeper here says nothing of worth; what a real
//! one answers is tested elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use halfkey_api::{
    bytes::Base64,
    message::{DoorAnswer, DoorContext, MethodKeyStatement, OldDevices, PasskeyDoorRequest, VerificationBegun},
    route,
};
use halfkey_envelope::{
    entropy::OsEntropy,
    frame::{self, Decoder},
    hpke::{PublicKey, SecretKey},
    id::{BackupId, RecoveryId},
    keeper::{self, Answer, Request},
    passkey::{Context, Credential, CredentialKey, Mode, Prf, PrfOutput, SealParams, seal},
    wallet::Method,
};
use halfkey_server::config::{KeeperAddress, Rate};
use harness::{
    Server,
    phone::{Kept, Phone},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

const RELEASED: [u8; 3] = [7, 8, 9];

/// Notes what it is asked, and answers.
struct Keeper {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Keeper {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let asked = Arc::<Mutex<Vec<Request>>>::default();
        let (listener, notes) = (UnixListener::bind(folder.path().join("socket")).unwrap(), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(attend(stream, Arc::clone(&notes)));
            }
        });
        Self { folder, asked }
    }

    fn address(&self) -> KeeperAddress {
        KeeperAddress::Unix(self.folder.path().join("socket"))
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn attend(mut stream: UnixStream, asked: Arc<Mutex<Vec<Request>>>) {
    let (mut decoder, mut buffer) = (Decoder::new(), [0; 4096]);
    loop {
        while let Some(message) = decoder.next_frame().unwrap() {
            asked.lock().unwrap().push(keeper::decode_request(&message).unwrap());
            let answer = keeper::encode_answer(&Answer::Released(RELEASED.to_vec()));
            stream.write_all(&frame::encode(&answer).unwrap()).await.unwrap();
        }
        match stream.read(&mut buffer).await {
            Ok(count @ 1..) => decoder.push(&buffer[..count]),
            _ => return,
        }
    }
}

async fn with_keeper(keeper: &Keeper) -> Server {
    let address = keeper.address();
    Server::with(|config| config.keeper = Some(address)).await
}

async fn say(phone: &Phone<'_>, within: Option<DoorContext>, request: &Request) -> Result<Vec<u8>, String> {
    say_bytes(phone, within, keeper::encode_request(request)).await
}

async fn say_bytes(phone: &Phone<'_>, within: Option<DoorContext>, frame: Vec<u8>) -> Result<Vec<u8>, String> {
    let body = PasskeyDoorRequest { within, frame: Base64(frame) };
    let answer = phone.server.signed(&phone.user, "POST", route::PASSKEY_DOOR, &body).await;
    if !answer.status.is_success() {
        return Err(answer.refusal());
    }
    let answer: DoorAnswer = answer.json();
    Ok(answer.frame.0)
}

fn evidence() -> Request {
    Request::Evidence { nonce: [3; 32] }
}

fn release(stanza: &[u8]) -> Request {
    Request::Release { key_id: 1, stanza: stanza.to_vec(), sealed: vec![5; 100] }
}

/// A stanza as the SDK would store it for this backup.
fn stanza(phone: &Phone<'_>, backup: BackupId, mode: Mode) -> Vec<u8> {
    let key: PublicKey = SecretKey::from_seed(&[1; 32]).public_key();
    let credential = Credential {
        id: vec![2; 16],
        key: CredentialKey::EdDsa { x: [3; 32] },
        backup_eligible: true,
        transports: Vec::new(),
    };
    let output = PrfOutput::new(&[4; 32]).unwrap();
    let outputs = [(&[2; 16][..], &output)];
    let params = SealParams {
        mode,
        context: Context { deployment: phone.descriptor.deployment, client: phone.user.client.id, backup },
        rp_id: "wallet.example",
        origins: &["https://wallet.example".to_owned()],
        credentials: &[credential],
        keeper: mode.has_keeper().then_some((1, key)),
        prf: mode.has_prf().then_some(Prf { salt: [5; 32], outputs: &outputs }),
    };
    seal(&params, b"a record", &mut OsEntropy).unwrap()
}

/// A committed passkey backup, as this server sees one, and its stanza.
async fn back_up(phone: &Phone<'_>) -> (Kept, Vec<u8>) {
    let resharing = phone.reshare(&Method::Passkey).await;
    let kept = phone.seal(&resharing);
    let stanza = stanza(phone, kept.backup, Mode::Keeper);
    assert_eq!(phone.upload_with(&kept, Some(Base64(stanza.clone()))).await.status, 204);
    let stored = phone.read_back(kept.backup).await;
    assert_eq!(stored.sealed_record, Some(Base64(stanza.clone())));
    phone.commit(kept.backup, &phone.commitment(&resharing, &stored)).await.unwrap();
    (kept, stanza)
}

#[tokio::test]
async fn a_release_passes_where_its_backup_is_open_to_the_caller_and_nowhere_else() {
    let keeper = Keeper::start();
    let server = with_keeper(&keeper).await;
    let phone = Phone::with_wallet(&server).await;
    let other = Phone::with_wallet(&server).await;
    let released = keeper::encode_answer(&Answer::Released(RELEASED.to_vec()));

    // Within the caller's own pending backup, once its stanza is stored.
    let resharing = phone.reshare(&Method::Passkey).await;
    let kept = phone.seal(&resharing);
    let own = stanza(&phone, kept.backup, Mode::Keeper);
    let within = Some(DoorContext::Backup { id: kept.backup });
    assert_eq!(say(&phone, within, &release(&own)).await.unwrap_err(), "NOT_FOUND", "nothing is stored yet");
    assert_eq!(phone.upload_with(&kept, Some(Base64(own.clone()))).await.status, 204);
    assert_eq!(say(&phone, within, &release(&own)).await.unwrap(), released);
    assert_eq!(say(&phone, within, &evidence()).await.unwrap(), released, "whatever the keeper said");
    assert_eq!(keeper.asked(), [release(&own), evidence()], "and nothing before");
    let foreign = stanza(&phone, kept.backup, Mode::Keeper);
    assert_eq!(say(&phone, within, &release(&foreign)).await.unwrap_err(), "NOT_FOUND", "another stanza");
    assert_eq!(say(&other, within, &release(&own)).await.unwrap_err(), "NOT_FOUND", "another client");
    assert_eq!(say(&other, within, &evidence()).await.unwrap_err(), "NOT_FOUND");
    assert_eq!(say(&phone, None, &release(&own)).await.unwrap_err(), "INVALID_REQUEST", "nowhere");

    let stored = phone.read_back(kept.backup).await;
    phone.commit(kept.backup, &phone.commitment(&resharing, &stored)).await.unwrap();
    assert_eq!(say(&phone, within, &release(&own)).await.unwrap_err(), "SHARE_STATE", "not pending any more");

    // Within a drill of the caller's own device.
    let begin = serde_json::json!({ "method": "PASSKEY" });
    let begun: VerificationBegun = server.signed(&phone.user, "POST", route::VERIFICATIONS, &begin).await.json();
    let drill = Some(DoorContext::Verification { id: begun.verification_id });
    assert_eq!(say(&phone, drill, &release(&own)).await.unwrap(), released);
    assert_eq!(say(&other, drill, &release(&own)).await.unwrap_err(), "NOT_FOUND");

    // Within a recovery, by the device that asked for it, although it is not enrolled yet.
    let new = phone.new_device(1);
    let recovery = new.begin_recovery(&Method::Passkey, OldDevices::Keep).await.unwrap();
    let recovering = Some(DoorContext::Recovery { id: recovery.id });
    assert_eq!(say(&new, recovering, &release(&own)).await.unwrap(), released);
    assert_eq!(say(&phone, recovering, &release(&own)).await.unwrap_err(), "NOT_FOUND", "another device's recovery");
    let unknown = Some(DoorContext::Recovery { id: RecoveryId::from_bytes([9; 16]) });
    assert_eq!(say(&new, unknown, &release(&own)).await.unwrap_err(), "NOT_FOUND");
    assert_eq!(keeper.asked(), [release(&own), release(&own)], "what was refused never reached the keeper");
}

#[tokio::test]
async fn a_release_of_another_method_or_of_what_does_not_count_is_refused() {
    let keeper = Keeper::start();
    let server = with_keeper(&keeper).await;
    let phone = Phone::with_wallet(&server).await;
    phone.back_up(&Method::RecoveryCode).await;
    let new = phone.new_device(1);
    let by_code = new.begin_recovery(&Method::RecoveryCode, OldDevices::Keep).await.unwrap();
    let within = Some(DoorContext::Recovery { id: by_code.id });
    assert_eq!(say(&new, within, &release(&[7; 64])).await.unwrap_err(), "NOT_FOUND", "a recovery by a code");

    let (_, old) = back_up(&phone).await;
    let third = phone.new_device(2);
    let recovery = third.begin_recovery(&Method::Passkey, OldDevices::Keep).await.unwrap();
    let within = Some(DoorContext::Recovery { id: recovery.id });
    say(&third, within, &release(&old)).await.unwrap();
    let (_, newer) = back_up(&phone).await;
    assert_eq!(say(&third, within, &release(&old)).await.unwrap_err(), "SHARE_STATE", "its pair is retired");
    assert_eq!(say(&third, within, &release(&newer)).await.unwrap_err(), "SHARE_STATE");
    assert_eq!(keeper.asked(), [release(&old)]);
}

#[tokio::test]
async fn evidence_is_for_enrolled_devices_and_other_frames_are_for_nobody() {
    let keeper = Keeper::start();
    let server = with_keeper(&keeper).await;
    let phone = Phone::with_wallet(&server).await;
    say(&phone, None, &evidence()).await.unwrap();
    assert_eq!(say(&phone.new_device(1), None, &evidence()).await.unwrap_err(), "NOT_FOUND", "not enrolled");
    assert_eq!(keeper.asked(), [evidence()]);
    assert_eq!(say(&phone, None, &Request::Info).await.unwrap_err(), "INVALID_REQUEST");
    let too_long = release(&[0; frame::MAX_FRAME]);
    assert_eq!(say(&phone, None, &too_long).await.unwrap_err(), "INVALID_REQUEST");
    for junk in [&b""[..], b"\xff", &[0xa2, 1, 1, 2, 0x82, 4, 0x80], &[0xa2, 1, 2, 2, 0x82, 1, 0x80]] {
        assert_eq!(say_bytes(&phone, None, junk.to_vec()).await.unwrap_err(), "INVALID_REQUEST", "{junk:02x?}");
    }
    let body = PasskeyDoorRequest { within: None, frame: Base64(keeper::encode_request(&evidence())) };
    let unsigned = serde_json::to_vec(&body).unwrap();
    let answer = server.call("POST", route::PASSKEY_DOOR, phone.user.token(), &unsigned).await;
    assert_eq!(answer.refusal(), "DEVICE_SIGNATURE_INVALID");
    assert_eq!(keeper.asked(), []);
}

#[tokio::test]
async fn a_keeper_that_is_away_is_said_to_be_and_the_door_is_limited() {
    let nowhere = KeeperAddress::Unix(Path::new("/nonexistent/socket").to_owned());
    let away = Server::with(|config| config.keeper = Some(nowhere)).await;
    let phone = Phone::with_wallet(&away).await;
    assert_eq!(say(&phone, None, &evidence()).await.unwrap_err(), "UNAVAILABLE");
    assert_eq!(away.call("GET", route::READYZ, "", b"").await.refusal(), "UNAVAILABLE");

    let keeper = Keeper::start();
    let address = keeper.address();
    let limited = Server::with(|config| {
        config.keeper = Some(address);
        config.limits.passkey_client = Rate::per_hour(2);
    })
    .await;
    let (phone, other) = (Phone::with_wallet(&limited).await, Phone::with_wallet(&limited).await);
    for _ in 0..2 {
        say(&phone, None, &evidence()).await.unwrap();
    }
    assert_eq!(say(&phone, None, &evidence()).await.unwrap_err(), "RATE_LIMITED");
    say(&other, None, &evidence()).await.unwrap();
    assert_eq!(keeper.asked().len(), 3);
}

#[tokio::test]
async fn a_stanza_is_stored_where_its_keeper_is() {
    let without = Server::start().await;
    let phone = Phone::with_wallet(&without).await;
    let resharing = phone.reshare(&Method::Passkey).await;
    let kept = phone.seal(&resharing);
    for (record, why) in [(None, "no stanza"), (Some(vec![7; 64]), "not a stanza")] {
        let refused = phone.upload_with(&kept, record.map(Base64)).await.refusal();
        assert_eq!(refused, "INVALID_REQUEST", "{why}");
    }
    for mode in [Mode::Keeper, Mode::KeeperAndPrf] {
        let stanza = stanza(&phone, kept.backup, mode);
        assert_eq!(phone.upload_with(&kept, Some(Base64(stanza))).await.refusal(), "INVALID_REQUEST", "{mode}");
    }
    let mut newer = stanza(&phone, kept.backup, Mode::Prf);
    assert_eq!(newer[..3], [0xa4, 1, 1], "the version is the first value");
    newer[2] = 2;
    assert_eq!(phone.upload_with(&kept, Some(Base64(newer))).await.refusal(), "UNSUPPORTED_VERSION");
    let prf = stanza(&phone, kept.backup, Mode::Prf);
    assert_eq!(phone.upload_with(&kept, Some(Base64(prf))).await.status, 204, "it needs no keeper");
}

/// DECISIONS.md D31: what the device says of the method's key is shown as said by it, and protects no less than it says.
#[tokio::test]
async fn a_key_on_one_device_only_is_no_protection() {
    let keeper = Keeper::start();
    let server = with_keeper(&keeper).await;
    let phone = Phone::with_wallet(&server).await;
    for (method_key, device_bound) in [
        (MethodKeyStatement::ReadBack, true),
        (MethodKeyStatement::Unread, true),
        (MethodKeyStatement::Unread, false),
        (MethodKeyStatement::ReadBack, false),
    ] {
        let resharing = phone.reshare(&Method::Passkey).await;
        let kept = phone.seal(&resharing);
        let stanza = stanza(&phone, kept.backup, Mode::Keeper);
        assert_eq!(phone.upload_with(&kept, Some(Base64(stanza))).await.status, 204);
        let stored = phone.read_back(kept.backup).await;
        let mut commit = phone.commitment(&resharing, &stored);
        (commit.method_key, commit.device_bound) = (method_key, device_bound);
        phone.commit(kept.backup, &commit).await.unwrap();
        let status = phone.status().await;
        let shown = &status.methods[0];
        assert_eq!(shown.status, "completed", "both halves are proven all the same");
        assert_eq!((shown.asserted_method_key, shown.asserted_device_bound), (Some(method_key), device_bound));
        assert_eq!(status.backed_up, !device_bound);
    }
    // What protects is not removed as long as only a device-bound backup would be left.
    let resharing = phone.reshare(&Method::Passkey).await;
    let kept = phone.seal(&resharing);
    let stanza = stanza(&phone, kept.backup, Mode::Keeper);
    assert_eq!(phone.upload_with(&kept, Some(Base64(stanza))).await.status, 204);
    let stored = phone.read_back(kept.backup).await;
    let mut commit = phone.commitment(&resharing, &stored);
    commit.device_bound = true;
    phone.commit(kept.backup, &commit).await.unwrap();
    phone.back_up(&Method::RecoveryCode).await;
    let code = route::path(route::BACKUP_METHOD, &["RECOVERY_CODE"]);
    assert_eq!(server.signed_empty(&phone.user, "DELETE", &code).await.refusal(), "LAST_PROTECTION");
    let passkey = route::path(route::BACKUP_METHOD, &["PASSKEY"]);
    assert_eq!(server.signed_empty(&phone.user, "DELETE", &passkey).await.status, 204);
}
