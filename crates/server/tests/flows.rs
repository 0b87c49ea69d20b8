//! Whole ceremonies against the router, and what becomes of those that are spoiled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use halfkey_api::{
    ceremony::{CeremonyAnswer, Op},
    message::{BackupStatus, CommitBackup, OldDevices},
    route::{self, path},
    signing::Payload,
};
use halfkey_envelope::{
    cbor,
    entropy::OsEntropy,
    hpke::SecretKey,
    wallet::{Curve, Method},
};
use halfkey_protocol::{ClientBackupShare, Half};
use halfkey_server::config::Rate;
use harness::{
    Server,
    phone::{Phone, Session},
};

const CODE: Method = Method::RecoveryCode;

fn completed(status: &BackupStatus) -> bool {
    status.backed_up || status.methods.iter().any(|method| method.status == "completed")
}

#[tokio::test]
async fn a_wallet_is_created_backed_up_lost_recovered_and_signs() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let before: Vec<_> = phone.me().await.wallets.into_iter().map(|wallet| wallet.public_key.unwrap()).collect();
    let hello = Payload::EthMessage(b"hello".to_vec());
    phone.sign(&hello).await.unwrap();
    assert!(!completed(&phone.status().await));
    let kept = phone.back_up(&CODE).await;
    let status = phone.status().await;
    assert!(status.backed_up);
    assert_eq!(status.methods[0].status, "completed");
    assert!(status.methods[0].curves.iter().all(|curve| curve.proven && curve.status == "STORED_CLIENT_BACKUP_SHARE"));

    let mut new = phone.new_device(1);
    new.recover(&kept, OldDevices::Revoke).await;
    new.sign(&hello).await.unwrap();
    let after: Vec<_> = new.me().await.wallets.into_iter().map(|wallet| wallet.public_key.unwrap()).collect();
    assert_eq!(before, after);
    assert_eq!(phone.sign(&hello).await.unwrap_err(), "DEVICE_REVOKED");
    assert_eq!(new.begin_recovery(&CODE, OldDevices::Keep).await.unwrap_err(), "DEVICE_ALREADY_ENROLLED");
}

/// No request carries a status: everything but the two proofs under this server's challenge leaves it `incomplete`
/// (DECISIONS.md D31).
#[tokio::test]
async fn a_backup_is_completed_by_verified_proofs_and_by_nothing_else() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let other_client = Phone::with_wallet(&server).await;
    let other = phone.reshare(&Method::Custom("OTHER".to_owned())).await;
    let other_kept = phone.seal(&other);
    phone.upload(&other_kept).await;
    let foreign = other_client.reshare(&CODE).await;
    let foreign_kept = other_client.seal(&foreign);
    other_client.upload(&foreign_kept).await;

    let resharing = phone.reshare(&CODE).await;
    let kept = phone.seal(&resharing);
    assert!(!completed(&phone.status().await), "after the ceremony");
    assert_eq!(phone.upload_with(&kept, None).await.refusal(), "INVALID_REQUEST", "a recovery code without its record");
    assert_eq!(phone.upload(&other_kept).await.status, 204, "the same envelope again changes nothing");
    assert_eq!(phone.upload(&kept).await.status, 204);
    assert!(!completed(&phone.status().await), "after the upload");
    let second = phone.seal(&resharing);
    assert_eq!(phone.upload(&second).await.refusal(), "ENVELOPE_MISMATCH", "write-once");

    let spoil = async |what: &str, wanted: &str, change: &dyn Fn(&mut CommitBackup, &CommitBackup)| {
        let good = phone.commitment(&resharing, &phone.read_back(kept.backup).await);
        let elsewhere = phone.commitment(&other, &phone.read_back(other.begun.backup_id).await);
        let mut bad = good.clone();
        change(&mut bad, &elsewhere);
        assert_eq!(phone.commit(kept.backup, &bad).await.unwrap_err(), wanted, "{what}");
        assert!(!completed(&phone.status().await), "{what}");
        bad
    };
    spoil("no ack", "INVALID_REQUEST", &|bad, _| bad.acks.clear()).await;
    spoil("one curve only", "INVALID_REQUEST", &|bad, _| drop(bad.acks.pop())).await;
    spoil("one curve twice", "INVALID_REQUEST", &|bad, _| bad.acks[1] = bad.acks[0].clone()).await;
    spoil("swapped curves", "INVALID_REQUEST", &|bad, _| bad.acks.swap(0, 1)).await;
    spoil("empty acks", "PROOF_INVALID", &|bad, _| bad.acks.iter_mut().for_each(|ack| ack.proof.0.clear())).await;
    for curve in 0..2 {
        spoil("an ack of another backup", "PROOF_INVALID", &|bad, other| bad.acks[curve] = other.acks[curve].clone())
            .await;
        spoil("a spoilt ack", "PROOF_INVALID", &|bad, _| *bad.acks[curve].proof.0.last_mut().unwrap() ^= 1).await;
    }
    spoil("a challenge of another backup", "PROOF_INVALID", &|bad, other| bad.challenge = other.challenge).await;
    spoil("a challenge of one's own", "PROOF_INVALID", &|bad, _| bad.challenge.0 = [7; 32]).await;
    spoil("a digest of another envelope", "ENVELOPE_MISMATCH", &|bad, other| {
        bad.envelope_digest = other.envelope_digest
    })
    .await;
    let other_digest = phone.read_back(other.begun.backup_id).await.digest;
    let mut stored = phone.read_back(kept.backup).await;
    stored.digest = other_digest;
    let mut signed_over_other = phone.commitment(&resharing, &stored);
    signed_over_other.envelope_digest.0 = halfkey_envelope::client_share::digest(&kept.envelope);
    assert_eq!(phone.commit(kept.backup, &signed_over_other).await.unwrap_err(), "PROOF_INVALID");

    // An acknowledgement under an older challenge, with the newer one named, and a challenge that was used.
    let old = phone.commitment(&resharing, &phone.read_back(kept.backup).await);
    let mut stale = old.clone();
    stale.challenge = phone.read_back(kept.backup).await.challenge;
    assert_eq!(phone.commit(kept.backup, &stale).await.unwrap_err(), "PROOF_INVALID");
    let mut spent = old.clone();
    spent.acks.swap(0, 1);
    phone.commit(kept.backup, &spent).await.unwrap_err();
    assert_eq!(phone.commit(kept.backup, &old).await.unwrap_err(), "PROOF_INVALID", "the attempt spent the challenge");
    server.pass_ms(60_000);
    let expired = phone.commitment(&resharing, &phone.read_back(kept.backup).await);
    server.pass_ms(11 * 60_000);
    assert_eq!(phone.commit(kept.backup, &expired).await.unwrap_err(), "PROOF_INVALID", "a stale challenge");
    assert_eq!(phone.commit(other.begun.backup_id, &expired).await.unwrap_err(), "PROOF_INVALID");
    assert_eq!(phone.commit(foreign.begun.backup_id, &expired).await.unwrap_err(), "NOT_FOUND");
    assert!(!completed(&phone.status().await));

    let good = phone.commitment(&resharing, &phone.read_back(kept.backup).await);
    let receipt = phone.commit(kept.backup, &good).await.unwrap();
    assert!(phone.status().await.backed_up);
    assert_eq!(phone.commit(kept.backup, &good).await.unwrap(), receipt, "repeated, the same receipt");
    let status = phone.status().await;
    let shown = status.methods.iter().find(|method| method.method != CODE).unwrap();
    assert_eq!(shown.status, "incomplete", "the other backup is not completed by it");
    assert!(!completed(&other_client.status().await));
}

/// The bytes of a column with another last byte, for SQLite.
fn other_end(column: &str) -> String {
    let last = format!("CASE substr({column}, -1) WHEN x'2a' THEN x'2b' ELSE x'2a' END");
    format!("CAST(substr({column}, 1, length({column}) - 1) || {last} AS BLOB)")
}

/// What was damaged in the store after the device read it back is found by the server's own read-back, so that the
/// backup is not called complete (PROTOCOL.md 5, T8).
#[tokio::test]
async fn t08_a_backup_whose_stored_copies_are_damaged_is_never_complete() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let resharing = phone.reshare(&CODE).await;
    let kept = phone.seal(&resharing);
    assert_eq!(phone.upload(&kept).await.status, 204);
    let pairs: Vec<String> =
        resharing.begun.pairs.iter().map(|pair| format!("x'{}'", hex::encode(pair.pair_id.as_bytes()))).collect();
    let backup = format!("x'{}'", hex::encode(kept.backup.as_bytes()));
    let mut damages = vec![("envelopes", "backup", &backup, "envelope", other_end("envelope"), "INTERNAL")];
    for pair in &pairs {
        damages.push(("pair_shares", "id", pair, "half", other_end("half"), "CUSTODIAN_SHARE_BROKEN"));
        damages.push(("pair_shares", "id", pair, "peer_point", "client_point".to_owned(), "INTERNAL"));
        damages.push(("pair_shares", "id", pair, "client_point", "peer_point".to_owned(), "INTERNAL"));
    }
    for (table, key, row, column, damaged, refusal) in damages {
        let ready = phone.commitment(&resharing, &phone.read_back(kept.backup).await);
        server.tamper(&format!("CREATE TABLE whole AS SELECT {column} AS was FROM {table} WHERE {key} = {row}")).await;
        let changed = server.tamper(&format!("UPDATE {table} SET {column} = {damaged} WHERE {key} = {row}")).await;
        assert_eq!(changed, 1, "{table}.{column}");
        assert_eq!(phone.commit(kept.backup, &ready).await.unwrap_err(), refusal, "{table}.{column}");
        assert!(!completed(&phone.status().await), "{table}.{column}");
        server.tamper(&format!("UPDATE {table} SET {column} = (SELECT was FROM whole) WHERE {key} = {row}")).await;
        server.tamper("DROP TABLE whole").await;
    }
    // Points that still add up to the wallet's key, but of which the half is the other one.
    for pair in &pairs {
        let ready = phone.commitment(&resharing, &phone.read_back(kept.backup).await);
        let swap =
            format!("UPDATE pair_shares SET client_point = peer_point, peer_point = client_point WHERE id = {pair}");
        assert_eq!(server.tamper(&swap).await, 1);
        assert_eq!(phone.commit(kept.backup, &ready).await.unwrap_err(), "CUSTODIAN_SHARE_BROKEN");
        assert!(!completed(&phone.status().await));
        assert_eq!(server.tamper(&swap).await, 1);
    }
    let ready = phone.commitment(&resharing, &phone.read_back(kept.backup).await);
    phone.commit(kept.backup, &ready).await.unwrap();
    assert!(phone.status().await.backed_up);
}

/// The same of a wallet that comes to be: damaged between the two rounds and the device's proof, the server's half is
/// found before anything could be paid to an address that nobody can sign for.
#[tokio::test]
async fn t08_a_wallet_whose_stored_halves_are_damaged_never_comes_to_be() {
    let server = Server::start().await;
    let mut phone = Phone::new(&server).await;
    for damaged in 0..2 {
        let begun = phone.begin_wallets().await;
        let pair = format!("x'{}'", hex::encode(begun.wallets[damaged].pair_id.as_bytes()));
        let half = other_end("half");
        let spoil = async || {
            assert_eq!(server.tamper(&format!("UPDATE pair_shares SET half = {half} WHERE id = {pair}")).await, 1);
        };
        assert_eq!(phone.create_with(begun, spoil).await.unwrap_err(), "INTERNAL", "curve {damaged}");
        assert!(phone.me().await.wallets.iter().all(|wallet| wallet.public_key.is_none()), "curve {damaged}");
    }
    phone.create().await;
    phone.sign(&Payload::EthMessage(b"hello".to_vec())).await.unwrap();
}

#[tokio::test]
async fn one_backup_at_a_time_and_the_same_device_takes_over() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let kept = phone.back_up(&CODE).await;
    let mut second = phone.new_device(2);
    second.recover(&kept, OldDevices::Keep).await;
    let first = phone.reshare(&CODE).await;
    let body = serde_json::json!({ "method": "RECOVERY_CODE" });
    let answer = server.signed(&second.user, "POST", route::BACKUPS, &body).await;
    assert_eq!(answer.refusal(), "OPERATION_IN_PROGRESS");
    let again = phone.reshare(&CODE).await;
    assert_ne!(first.begun.backup_id, again.begun.backup_id);
    let superseded = phone.upload(&phone.seal(&first)).await.refusal();
    assert_eq!(superseded, "SHARE_STATE", "the pending pair was superseded");
    server.pass_ms(61_000);
    second.back_up(&CODE).await;
    assert!(second.status().await.backed_up);
}

#[tokio::test]
async fn foreign_ids_look_unknown() {
    let server = Server::start().await;
    let (phone, other) = (Phone::with_wallet(&server).await, Phone::with_wallet(&server).await);
    let kept = phone.back_up(&CODE).await;
    let pending = phone.reshare(&CODE).await;
    let backup = pending.begun.backup_id.to_string();
    for (method, route) in [("DELETE", route::BACKUP), ("GET", route::BACKUP_CIPHER_TEXT)] {
        let answer = server.signed_empty(&other.user, method, &path(route, &[&backup])).await;
        assert_eq!(answer.refusal(), "NOT_FOUND", "{method} {route}");
    }
    let device = phone.me().await.devices[0].id.to_string();
    let answer = server.signed_empty(&other.user, "DELETE", &path(route::DEVICE, &[&device])).await;
    assert_eq!(answer.refusal(), "NOT_FOUND");
    for (op, subject) in [
        (Op::Sign, *phone.share(Curve::Secp256k1).pair.as_bytes()),
        (Op::Backup, *pending.begun.backup_id.as_bytes()),
        (Op::CreateWallet, *phone.user.client.id.as_bytes()),
        (Op::Recover, *kept.backup.as_bytes()),
    ] {
        let mut session = Session::new(op, subject);
        let parts = if op == Op::Sign { Vec::new() } else { Curve::ALL.map(|curve| (curve, vec![1])).to_vec() };
        let step = u8::from(op != Op::Sign);
        assert_eq!(other.step(&mut session, step, None, parts).await.unwrap_err(), "NOT_FOUND", "{op:?}");
    }
    let new = phone.new_device(3);
    let recovery = new.begin_recovery(&CODE, OldDevices::Keep).await.unwrap();
    assert_eq!(other.recovery_cipher_text(&recovery).await.unwrap_err(), "NOT_FOUND");
    assert_eq!(phone.recovery_cipher_text(&recovery).await.unwrap_err(), "NOT_FOUND", "another device of the client");
    assert_eq!(new.new_device(4).recovery_cipher_text(&recovery).await.unwrap_err(), "NOT_FOUND");
}

#[tokio::test]
async fn replayed_reordered_and_malformed_steps_change_nothing() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let share = phone.share(Curve::Secp256k1);
    let mut session = Session::new(Op::Sign, *share.pair.as_bytes());
    phone.step(&mut session, 0, None, Vec::new()).await.unwrap();
    session.payload = Some(Payload::EthMessage(b"hello".to_vec()).to_cbor());
    let kept_for_step_1 = session.next;
    let part = vec![(Curve::Secp256k1, vec![1, 2, 3])];
    assert_eq!(
        phone.step(&mut session, 2, None, part.clone()).await.unwrap_err(),
        "CEREMONY_MISMATCH",
        "step left out"
    );
    session.next = kept_for_step_1;
    assert_eq!(phone.step(&mut session, 1, None, part.clone()).await.unwrap_err(), "INVALID_REQUEST", "not a message");
    session.next = kept_for_step_1;
    assert_eq!(phone.step(&mut session, 1, None, part.clone()).await.unwrap_err(), "CEREMONY_MISMATCH", "used up");
    session.next = None;
    assert_eq!(phone.step(&mut session, 1, None, part).await.unwrap_err(), "CEREMONY_MISMATCH", "no session");

    let good = phone.request(&Session::new(Op::Sign, *share.pair.as_bytes()), 0, None, &[]);
    let mut newer = good.clone();
    newer.version = 2;
    assert_eq!(phone.exchange(&cbor::to_vec(&newer)).await.unwrap_err(), "UNSUPPORTED_VERSION");
    let mut trailing = cbor::to_vec(&good);
    trailing.push(0);
    for bytes in [Vec::new(), vec![0xff], trailing, vec![0xbf, 0xff], vec![0xa0]] {
        assert_eq!(phone.exchange(&bytes).await.unwrap_err(), "INVALID_REQUEST", "{bytes:?}");
    }
    let mut unknown = good.clone();
    unknown.step = 9;
    assert_eq!(phone.exchange(&cbor::to_vec(&unknown)).await.unwrap_err(), "CEREMONY_MISMATCH");
    for (kind, body, wanted) in [
        ("application/cbor", vec![1u8; 100], "INVALID_REQUEST"),
        ("application/cbor", vec![2u8; 100], "UNSUPPORTED_VERSION"),
        ("application/cbor", vec![1u8; 512 * 1024 + 1], "BODY_TOO_LARGE"),
        ("application/json", vec![1u8; 100], "UNSUPPORTED_MEDIA_TYPE"),
    ] {
        let request = server.signed_request(&phone.user, "POST", route::CEREMONIES, kind, body);
        assert_eq!(server.send(request).await.refusal(), wanted);
    }
    phone.sign(&Payload::EthMessage(b"hello".to_vec())).await.unwrap();
}

fn opens(answer: &CeremonyAnswer) -> bool {
    answer.resume.is_some() && answer.nonce.is_some()
}

/// The last answer of each ceremony that leaves a secp256k1 pair ready opens the session of the next signature.
#[tokio::test]
async fn the_next_session_comes_with_the_last_answer() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let hello = Payload::EthMessage(b"hello".to_vec());
    let mut opened = phone.last();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        assert_eq!(opened.parts.iter().map(|part| part.curve).next(), (opened.step == 2).then_some(Curve::Secp256k1));
        assert!(
            opens(&opened) && seen.insert((opened.session, *opened.nonce.unwrap())),
            "a session and n_S of its own"
        );
        phone.sign_in(&opened, &hello).await.unwrap();
        opened = phone.last();
    }

    let kept = phone.back_up(&CODE).await;
    let mut new = phone.new_device(1);
    new.recover(&kept, OldDevices::Keep).await;
    let recovered = new.last();
    assert!(opens(&recovered));
    new.sign_in(&recovered, &hello).await.unwrap();
    phone.sign_in(&opened, &hello).await.unwrap();
}

/// Two runs never share a session's id: n_S is used once, whoever brings it (PROTOCOL.md 2 trap 6).
#[tokio::test]
async fn t15_a_session_opened_ahead_is_used_once_by_its_device_for_its_pair() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let hello = Payload::EthMessage(b"hello".to_vec());
    let first = phone.last();
    phone.sign_in(&first, &hello).await.unwrap();
    let second = phone.last();
    assert_eq!(phone.sign_in(&first, &hello).await.unwrap_err(), "CEREMONY_MISMATCH", "used");

    phone.sign(&hello).await.unwrap();
    let third = phone.last();
    assert_ne!((second.session, second.nonce), (third.session, third.nonce));
    assert_eq!(phone.sign_in(&second, &hello).await.unwrap_err(), "CEREMONY_MISMATCH", "replaced by a newer one");

    let other = Phone::with_wallet(&server).await;
    assert_eq!(other.sign_in(&third, &hello).await.unwrap_err(), "CEREMONY_MISMATCH", "of another client's pair");
    // Another n_S than the server's gives another id, which the other party's first message does not fit.
    let mut chosen = third.clone();
    chosen.nonce = Some([7; 32].into());
    assert_eq!(phone.sign_in(&chosen, &hello).await.unwrap_err(), "CEREMONY_MISMATCH", "n_S is the server's");
    assert_eq!(phone.sign_in(&third, &hello).await.unwrap_err(), "CEREMONY_MISMATCH", "and was used up with it");

    phone.sign(&hello).await.unwrap();
    let last = phone.last();
    let (one, two) = tokio::join!(phone.sign_in(&last, &hello), phone.sign_in(&last, &hello));
    let won = u8::from(one.is_ok()) + u8::from(two.is_ok());
    assert_eq!(won, 1, "two at once in one session: {:?} {:?}", one.err(), two.err());
    assert_eq!(phone.sign_in(&last, &hello).await.unwrap_err(), "CEREMONY_MISMATCH");
    phone.sign(&hello).await.unwrap();
}

/// A session that was opened ahead is counted when it is used, so nobody gets signatures past the limit with it.
#[tokio::test]
async fn a_session_opened_ahead_counts_against_the_limit() {
    let server = Server::with(|config| config.limits.signatures = Rate { count: 2, window_ms: 60_000 }).await;
    let phone = Phone::with_wallet(&server).await;
    let hello = Payload::EthMessage(b"hello".to_vec());
    phone.sign_in(&phone.last(), &hello).await.unwrap();
    phone.sign_in(&phone.last(), &hello).await.unwrap();
    assert_eq!(phone.sign_in(&phone.last(), &hello).await.unwrap_err(), "RATE_LIMITED");
}

#[tokio::test]
async fn only_decoded_payloads_are_signed_and_the_same_one_in_every_step() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let share = phone.share(Curve::Secp256k1);
    let attempt = async |payload: Vec<u8>| {
        let mut session = Session::new(Op::Sign, *share.pair.as_bytes());
        phone.step(&mut session, 0, None, Vec::new()).await.unwrap();
        session.payload = Some(payload);
        phone.step(&mut session, 1, None, vec![(Curve::Secp256k1, vec![1])]).await.unwrap_err()
    };
    let digest = Payload::Digest32 { curve: Curve::Secp256k1, digest: [7; 32] };
    assert_eq!(attempt(digest.to_cbor()).await, "DIGEST_SIGNING_DISABLED");
    assert_eq!(attempt(Payload::EthTransaction(vec![2, 0xc0]).to_cbor()).await, "INVALID_PAYLOAD");
    assert_eq!(attempt(Payload::SolanaMessage(vec![1]).to_cbor()).await, "INVALID_PAYLOAD", "another curve");
    assert_eq!(attempt(vec![0xff]).await, "INVALID_PAYLOAD");
    let (one, two) = (Payload::EthMessage(b"one".to_vec()), Payload::EthMessage(b"two".to_vec()));
    let changed = phone.sign_swapped(&one, &two).await.unwrap_err();
    assert_eq!(changed, "CEREMONY_MISMATCH", "another payload in the second step");
}

#[tokio::test]
async fn a_recovery_waits_in_production_and_a_device_cancels_it() {
    let server = Server::with(|config| config.recovery.delay_ms = 24 * 60 * 60 * 1000).await;
    let phone = Phone::with_wallet(&server).await;
    phone.back_up(&CODE).await;
    assert_eq!(
        phone.new_device(4).begin_recovery(&Method::Password, OldDevices::Keep).await.unwrap_err(),
        "NOT_BACKED_UP"
    );
    let thief = phone.new_device(5);
    let recovery = thief.begin_recovery(&CODE, OldDevices::Revoke).await.unwrap();
    assert_eq!(recovery.waiting_until, Some(server.now_ms() + 24 * 60 * 60 * 1000));
    assert_eq!(thief.recovery_cipher_text(&recovery).await.unwrap_err(), "RECOVERY_WAITING");
    let cancel = path(route::RECOVERY_CANCEL, &[&recovery.id.to_string()]);
    let stranger = phone.new_device(6);
    assert_eq!(server.signed_empty(&stranger.user, "POST", &cancel).await.refusal(), "DEVICE_SIGNATURE_INVALID");
    assert_eq!(server.signed_empty(&phone.user, "POST", &cancel).await.status, 200);
    server.pass_ms(60_000);
    assert_eq!(thief.recovery_cipher_text(&recovery).await.unwrap_err(), "SHARE_STATE");
    phone.sign(&Payload::EthMessage(b"still mine".to_vec())).await.unwrap();
}

#[tokio::test]
async fn a_cancel_after_the_proof_of_possession_freezes_the_backup() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let kept = phone.back_up(&CODE).await;
    let thief = phone.new_device(7);
    let recovery = thief.begin_recovery(&CODE, OldDevices::Revoke).await.unwrap();
    let stored = thief.recovery_cipher_text(&recovery).await.unwrap();
    let halves = thief.open(&kept, &stored);
    let one_time = SecretKey::generate(&mut OsEntropy);
    let mut spoilt = stored.clone();
    spoilt.challenge.0 = [9; 32];
    assert_eq!(thief.prove_possession(&recovery, &spoilt, &halves, &one_time).await.unwrap_err(), "PROOF_INVALID");
    let guessed = Curve::ALL.map(|curve| ClientBackupShare::from_bytes(curve, &[1; 32]).unwrap());
    assert_eq!(thief.prove_possession(&recovery, &stored, &guessed, &one_time).await.unwrap_err(), "PROOF_INVALID");
    let spent = thief.prove_possession(&recovery, &stored, &halves, &one_time).await.unwrap_err();
    assert_eq!(spent, "PROOF_INVALID", "the attempt spent the challenge");
    let stored = thief.recovery_cipher_text(&recovery).await.unwrap();
    thief.prove_possession(&recovery, &stored, &halves, &one_time).await.unwrap();
    let cancel = path(route::RECOVERY_CANCEL, &[&recovery.id.to_string()]);
    assert_eq!(server.signed_empty(&phone.user, "POST", &cancel).await.status, 200);
    assert!(!phone.status().await.backed_up, "a frozen backup protects nothing");
    let again = phone.new_device(8);
    assert_eq!(again.begin_recovery(&CODE, OldDevices::Keep).await.unwrap_err(), "PAIR_FROZEN");
    assert_eq!(server.signed_empty(&thief.user, "POST", &cancel).await.refusal(), "DEVICE_REVOKED");
    phone.back_up(&Method::Custom("OTHER".to_owned())).await;
    assert!(phone.status().await.backed_up);
}

/// What has no door here would be called completed and open to nobody.
#[tokio::test]
async fn methods_that_this_version_cannot_open_are_refused_before_anything_begins() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    for method in ["EXIT", "PASSWORD"] {
        let body = serde_json::json!({ "method": method });
        let answer = server.signed(&phone.user, "POST", route::BACKUPS, &body).await;
        assert_eq!(answer.refusal(), "INVALID_REQUEST", "{method}: no such door, and this server has no guesskeeper");
    }
    assert!(phone.status().await.methods.is_empty());
}
