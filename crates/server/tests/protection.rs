//! What must hold when a peer cheats, a caller hangs up, or somebody removes things.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::time::Duration;

use halfkey_api::{
    bytes::{Base64, Hex},
    ceremony::Op,
    context::{verification_client, verification_custodian},
    message::{
        CipherText, CurveProof, OldDevices, ProveVerification, RecoveryState, VerificationBegun, VerificationProven,
    },
    route::{self, path},
    signing::Payload,
};
use halfkey_envelope::{
    entropy::OsEntropy,
    hpke::SecretKey,
    wallet::{Curve, Method},
};
use halfkey_protocol::{
    Point,
    proof::{self, Purpose, Statement},
};
use harness::{
    Server,
    phone::{Phone, Session},
};

const CODE: Method = Method::RecoveryCode;

fn hello() -> Payload {
    Payload::EthMessage(b"hello".to_vec())
}

/// PROTOCOL.md 4.9: the ban is durable before the cheater is answered, and ends at the pair: the wallet recovers.
#[tokio::test]
async fn a_cheating_device_is_banned_for_good_and_the_wallet_recovers() {
    let mut server = Server::start().await;
    let (kept, hacked) = {
        let phone = Phone::with_wallet(&server).await;
        let kept = phone.back_up(&CODE).await;
        let mut refusals = Vec::new();
        for tenth in 1..10 {
            let spoil = |request: &mut Vec<u8>| {
                let at = request.len() * tenth / 10;
                request[at] ^= 1;
            };
            let refused = phone.sign_spoilt(&hello(), spoil).await.unwrap_err();
            let banned = refused == "PAIR_BANNED";
            refusals.push(refused);
            if banned {
                break;
            }
        }
        assert_eq!(refusals.last().unwrap(), "PAIR_BANNED", "{refusals:?}");
        assert_eq!(phone.sign(&hello()).await.unwrap_err(), "PAIR_BANNED");
        (kept, (phone.user, phone.descriptor, phone.shares))
    };
    server.restart().await;
    let (user, descriptor, shares) = hacked;
    let phone = Phone { server: &server, user, descriptor, shares, last: Default::default() };
    assert_eq!(phone.sign(&hello()).await.unwrap_err(), "PAIR_BANNED", "after a restart");
    let body = serde_json::json!({ "method": "RECOVERY_CODE" });
    let answer = server.signed(&phone.user, "POST", route::BACKUPS, &body).await;
    assert_eq!(answer.refusal(), "PAIR_BANNED", "a banned pair deals in no backup");
    let mut new = phone.new_device(1);
    new.recover(&kept, OldDevices::Keep).await;
    new.sign(&hello()).await.unwrap();
    assert_eq!(phone.sign(&hello()).await.unwrap_err(), "PAIR_BANNED", "a recovery elsewhere lifts nothing");
}

/// A recovery whose device cheats in the test signature can never complete: it ends with the ban, and the owner begins
/// anew without an operator.
#[tokio::test]
async fn a_ban_in_the_test_signature_ends_the_recovery_and_the_next_one_works() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let kept = phone.back_up(&CODE).await;
    let mut refusals = Vec::new();
    for tenth in 1..10 {
        let device = phone.new_device(tenth);
        let recovery = device.begin_recovery(&CODE, OldDevices::Keep).await.unwrap();
        let stored = device.recovery_cipher_text(&recovery).await.unwrap();
        let halves = device.open(&kept, &stored);
        let one_time = SecretKey::generate(&mut OsEntropy);
        let proven = device.prove_possession(&recovery, &stored, &halves, &one_time).await.unwrap();
        let spoil = |request: &mut Vec<u8>| {
            let at = request.len() * tenth as usize / 10;
            request[at] ^= 1;
        };
        let refused = device.take_over_spoilt(&proven.recovery, &kept, &halves, one_time, spoil).await.err().unwrap();
        let banned = refused == "PAIR_BANNED";
        refusals.push(refused);
        if !banned {
            continue;
        }
        let shown = server.call("GET", route::RECOVERIES, phone.user.token(), b"").await;
        let shown: halfkey_api::message::RecoveryList = shown.json();
        let ended = shown.results.iter().find(|one| one.id == recovery.id).unwrap();
        assert_eq!(ended.state, RecoveryState::Cancelled);
        assert_eq!(device.recovery_cipher_text(&recovery).await.unwrap_err(), "DEVICE_REVOKED");
        let devices = phone.me().await.devices;
        let own = devices.iter().find(|one| one.public_key.0 == device.user.public()).unwrap();
        assert!(own.revoked_at.is_some(), "the device was enrolled by that recovery alone");
        break;
    }
    assert_eq!(refusals.last().unwrap(), "PAIR_BANNED", "{refusals:?}");
    assert!(phone.status().await.backed_up, "not frozen");
    let mut new = phone.new_device(99);
    new.recover(&kept, OldDevices::Keep).await;
    new.sign(&hello()).await.unwrap();
    phone.sign(&hello()).await.unwrap();
}

/// METHODS.md G: the proof of possession names a one-time key, and the dealer's sub-shares are sealed to no other.
#[tokio::test]
async fn the_dealer_uses_the_one_time_key_that_possession_was_proven_with() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let kept = phone.back_up(&CODE).await;
    let device = phone.new_device(1);
    let recovery = device.begin_recovery(&CODE, OldDevices::Keep).await.unwrap();
    let stored = device.recovery_cipher_text(&recovery).await.unwrap();
    let halves = device.open(&kept, &stored);
    let one_time = SecretKey::from_seed(&[1; 32]);
    let proven = device.prove_possession(&recovery, &stored, &halves, &one_time).await.unwrap();
    let other = SecretKey::from_seed(&[2; 32]);
    let refused = device.take_over_spoilt(&proven.recovery, &kept, &halves, other, |_| {}).await;
    assert_eq!(
        refused.err().unwrap(),
        "CEREMONY_MISMATCH",
        "signed by the same device key, and another key all the same"
    );
    let stored = device.recovery_cipher_text(&recovery).await.unwrap();
    let again = device.prove_possession(&recovery, &stored, &halves, &SecretKey::from_seed(&[2; 32])).await;
    assert_eq!(again.unwrap_err(), "CEREMONY_MISMATCH", "a later proof names no other");
    let stored = device.recovery_cipher_text(&recovery).await.unwrap();
    device.prove_possession(&recovery, &stored, &halves, &one_time).await.unwrap();
    let shares = device.take_over(&proven.recovery, &kept, &halves, one_time).await;
    assert_eq!(shares.len(), 2);
}

/// The routes of PROTOCOL.md 4.9, refusal by refusal.
#[tokio::test]
async fn healing_is_refused_by_its_reason() {
    let server = Server::start().await;
    let (phone, other) = (Phone::with_wallet(&server).await, Phone::with_wallet(&server).await);
    let pair = phone.share(Curve::Secp256k1).pair;
    let heal = path(route::SIGNING_PAIR_HEAL, &[&pair.to_string()]);
    let ban = path(route::SIGNING_PAIR_BAN, &[&pair.to_string()]);
    let report = |reason: &str| serde_json::json!({ "reason": reason });
    assert_eq!(server.signed_empty(&phone.user, "POST", &heal).await.refusal(), "NOT_BANNED");
    assert_eq!(server.signed_empty(&other.user, "POST", &heal).await.refusal(), "NOT_FOUND");
    assert_eq!(server.signed(&other.user, "POST", &ban, &report("X")).await.refusal(), "NOT_FOUND");
    assert_eq!(server.call("POST", &heal, phone.user.token(), b"").await.refusal(), "DEVICE_SIGNATURE_INVALID");
    for reason in ["", "small", "A B", "\u{0}", &"X".repeat(65)] {
        let refused = server.signed(&phone.user, "POST", &ban, &report(reason)).await.refusal();
        assert_eq!(refused, "INVALID_REQUEST", "{reason:?}");
    }
    phone.sign(&hello()).await.unwrap();
    assert_eq!(server.signed(&phone.user, "POST", &ban, &report("PEER_CHEATED")).await.status, 204);
    assert_eq!(server.signed(&phone.user, "POST", &ban, &report("PEER_CHEATED")).await.status, 204, "said again");
    assert_eq!(phone.sign(&hello()).await.unwrap_err(), "PAIR_BANNED");
    assert_eq!(server.signed_empty(&phone.user, "POST", &heal).await.refusal(), "REVIEW_NEEDED");
    let shown = || async {
        let wallets = phone.me().await.wallets;
        let pairs = wallets.into_iter().flat_map(|wallet| wallet.signing_share_pairs);
        pairs.filter(|shown| shown.id == pair).map(|shown| (shown.state, shown.reviewed)).next().unwrap()
    };
    assert_eq!(shown().await, ("banned".to_owned(), false));
    let client = phone.user.client.id;
    halfkey_server::admin::lift_ban(&server.app, client, pair, false).await.unwrap();
    assert_eq!(shown().await, ("banned".to_owned(), true));
    let begun: halfkey_api::message::HealBegun = server.signed_empty(&phone.user, "POST", &heal).await.json();
    assert_eq!((begun.from_pair_id, begun.curve, begun.generation), (pair, Curve::Secp256k1, 2));
    let again: halfkey_api::message::HealBegun = server.signed_empty(&phone.user, "POST", &heal).await.json();
    assert_eq!(again, begun);
    // The ceremony is that device's alone, and belongs to its pair.
    let mut session = Session::new(Op::Heal, *begun.pair_id.as_bytes());
    let part = vec![(Curve::Secp256k1, vec![1])];
    assert_eq!(other.step(&mut session, 1, None, part.clone()).await.unwrap_err(), "NOT_FOUND");
    assert_eq!(phone.step(&mut session, 1, None, Vec::new()).await.unwrap_err(), "INVALID_REQUEST");
    assert_eq!(phone.step(&mut session, 1, None, part.clone()).await.unwrap_err(), "INVALID_REQUEST", "not a message");
    assert_eq!(phone.step(&mut session, 3, None, part.clone()).await.unwrap_err(), "CEREMONY_MISMATCH");
    let mut of_banned = Session::new(Op::Heal, *pair.as_bytes());
    assert_eq!(phone.step(&mut of_banned, 1, None, part).await.unwrap_err(), "SHARE_STATE");
    assert_eq!(phone.sign(&hello()).await.unwrap_err(), "PAIR_BANNED", "until it is committed, nothing signs");
}

/// PROTOCOL.md 5, T1: every answer to a cheat tells it something of one oblivious-transfer state. However many come at
/// once, the first is banned before the next is looked at.
#[tokio::test]
async fn t01_cheats_side_by_side_get_one_answer() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    for tenth in 1..10 {
        let mut cheats = Vec::new();
        for _ in 0..4 {
            let (session, mut request) = phone.last_message(&hello()).await;
            let at = request.len() * tenth / 10;
            request[at] ^= 1;
            cheats.push((session, request));
        }
        let send = |(mut session, request): (Session, Vec<u8>)| {
            let phone = &phone;
            async move { phone.step(&mut session, 2, None, vec![(Curve::Secp256k1, request)]).await.err() }
        };
        let refused = futures_util::future::join_all(cheats.into_iter().map(send)).await;
        if refused.contains(&Some("PAIR_BANNED".to_owned())) {
            break;
        }
    }
    assert_eq!(phone.sign(&hello()).await.unwrap_err(), "PAIR_BANNED");
    let database = format!("sqlite:{}", server.folder.path().join("halfkey.db").display());
    let store = halfkey_server::store::Store::connect(&database).await.unwrap();
    let log = store.audit(phone.user.client.id.as_bytes(), 0, 999).await.unwrap();
    assert_eq!(log.iter().filter(|entry| entry.kind == "pair.banned").count(), 1, "one cheat was computed");
}

/// What was removed opens for nobody, not even inside a recovery that was open before.
#[tokio::test]
async fn a_removed_backup_is_served_to_no_recovery() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    phone.back_up(&CODE).await;
    phone.back_up(&Method::Custom("OTHER".to_owned())).await;
    let new = phone.new_device(1);
    let recovery = new.begin_recovery(&CODE, OldDevices::Keep).await.unwrap();
    new.recovery_cipher_text(&recovery).await.unwrap();
    let method = path(route::BACKUP_METHOD, &["RECOVERY_CODE"]);
    assert_eq!(server.signed_empty(&phone.user, "DELETE", &method).await.status, 204);
    assert_eq!(new.recovery_cipher_text(&recovery).await.unwrap_err(), "SHARE_STATE");
}

/// A recoverable fault of one message bans nobody.
#[tokio::test]
async fn a_message_that_does_not_parse_bans_nobody() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    for spoil in [|request: &mut Vec<u8>| request.truncate(100), |request: &mut Vec<u8>| request[0] ^= 0xff] {
        let refused = phone.sign_spoilt(&hello(), spoil).await.unwrap_err();
        assert_eq!(refused, "INVALID_REQUEST");
    }
    phone.sign(&hello()).await.unwrap();
}

#[tokio::test]
async fn a_commit_survives_a_caller_who_hangs_up() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let resharing = phone.reshare(&CODE).await;
    let kept = phone.seal(&resharing);
    phone.upload(&kept).await;
    let stored = phone.read_back(kept.backup).await;
    let commit = phone.commitment(&resharing, &stored);
    {
        let sending = phone.commit(kept.backup, &commit);
        let hung_up = tokio::time::timeout(Duration::ZERO, sending).await;
        assert!(hung_up.is_err(), "it was dropped before it was answered");
    }
    for _ in 0..2_000 {
        if phone.status().await.backed_up {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the commit was lost with its caller");
}

#[tokio::test]
async fn a_drill_proves_both_sides_and_spends_nothing() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let kept = phone.back_up(&CODE).await;
    server.pass_ms(1_000);
    let begin = async || {
        let body = serde_json::json!({ "method": "RECOVERY_CODE" });
        let answer = server.signed(&phone.user, "POST", route::VERIFICATIONS, &body).await;
        let begun: VerificationBegun = answer.json();
        let path = path(route::VERIFICATION_CIPHER_TEXT, &[&begun.verification_id.to_string()]);
        let stored: CipherText = server.signed_empty(&phone.user, "GET", &path).await.json();
        (begun, stored)
    };
    let prove = async |begun: &VerificationBegun, stored: &CipherText, spoil: bool| {
        let context = verification_client(
            phone.descriptor.deployment,
            phone.user.client.id,
            begun.verification_id,
            begun.backup_id,
        );
        let halves = phone.open(&kept, stored);
        let proofs = stored.pairs.iter().zip(&halves).map(|(pair, half)| {
            let nonce = &stored.challenge.0;
            let statement = Statement { purpose: Purpose::Verify, context: &context, pair: pair.pair_id, nonce };
            let mut proof = proof::prove(&statement, half, &mut OsEntropy).unwrap();
            if spoil {
                *proof.last_mut().unwrap() ^= 1;
            }
            CurveProof { curve: pair.curve, proof: Base64(proof) }
        });
        let body = ProveVerification { challenge: stored.challenge, nonce: Hex([5; 32]), proofs: proofs.collect() };
        let path = path(route::VERIFICATION_PROOF, &[&begun.verification_id.to_string()]);
        server.signed(&phone.user, "POST", &path, &body).await
    };
    let made = phone.status().await.methods[0].verified_at;
    let (begun, stored) = begin().await;
    assert_eq!(prove(&begun, &stored, true).await.refusal(), "PROOF_INVALID");
    assert_eq!(phone.status().await.methods[0].verified_at, made, "a failed drill verifies nothing");
    let (begun, stored) = begin().await;
    let proven: VerificationProven = prove(&begun, &stored, false).await.json();
    assert_eq!(phone.status().await.methods[0].verified_at, Some(server.now_ms()));
    let context = verification_custodian(
        phone.descriptor.deployment,
        phone.user.client.id,
        begun.verification_id,
        begun.backup_id,
    );
    for (pair, proof) in stored.pairs.iter().zip(&proven.proofs) {
        let statement = Statement { purpose: Purpose::Verify, context: &context, pair: pair.pair_id, nonce: &[5; 32] };
        let point = Point::from_bytes(pair.curve, &pair.custodian_point.0).unwrap();
        proof::verify(&statement, &point, &proof.proof.0).unwrap();
    }
    phone.sign(&hello()).await.unwrap();
}

#[tokio::test]
async fn nobody_removes_the_last_protection() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let kept = phone.back_up(&CODE).await;
    let me = phone.me().await;
    let own = path(route::DEVICE, &[&me.devices[0].id.to_string()]);
    assert_eq!(server.signed_empty(&phone.user, "DELETE", &own).await.refusal(), "LAST_PROTECTION");
    let method = path(route::BACKUP_METHOD, &["RECOVERY_CODE"]);
    assert_eq!(server.signed_empty(&phone.user, "DELETE", &method).await.refusal(), "LAST_PROTECTION");

    let mut new = phone.new_device(1);
    new.recover(&kept, OldDevices::Keep).await;
    assert_eq!(server.signed_empty(&new.user, "DELETE", &own).await.status, 204);
    assert_eq!(phone.sign(&hello()).await.unwrap_err(), "DEVICE_REVOKED");
    new.back_up(&Method::Custom("OTHER".to_owned())).await;
    assert_eq!(server.signed_empty(&new.user, "DELETE", &method).await.status, 204);
    assert_eq!(phone.new_device(2).begin_recovery(&CODE, OldDevices::Keep).await.unwrap_err(), "NOT_BACKED_UP");
    assert!(new.status().await.backed_up);
}

#[tokio::test]
async fn a_custodian_sees_its_own_clients_page_by_page() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    phone.back_up(&CODE).await;
    for _ in 0..2 {
        server.pass_ms(1);
        server.create_client().await;
    }
    let mut seen = Vec::new();
    let mut query = "?take=2".to_owned();
    loop {
        let at = format!("{}{query}", route::CUSTODIAN_CLIENTS);
        let page: halfkey_api::message::ClientPage = server.call("GET", &at, &server.custodian_key, b"").await.json();
        assert!(page.results.len() <= 2);
        seen.extend(page.results);
        match page.cursor {
            Some(cursor) => query = format!("?take=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 3);
    let shown: Vec<_> = seen.iter().map(|client| (client.has_wallet, client.backup_status.backed_up)).collect();
    assert_eq!(shown, [(true, true), (false, false), (false, false)]);
    let (_, other) = halfkey_server::admin::create_custodian(&server.app, "other").await.unwrap();
    let theirs = path(route::CUSTODIAN_CLIENT, &[&phone.user.client.id.to_string()]);
    assert_eq!(server.call("GET", &theirs, &other.key, b"").await.refusal(), "NOT_FOUND");
}

/// What the policy asked for and nobody has confirmed opens nothing, whatever else is stored of the recovery.
#[tokio::test]
async fn nothing_opens_before_a_step_up_is_confirmed() {
    let server = Server::start().await;
    let phone = Phone::with_wallet(&server).await;
    let kept = phone.back_up(&CODE).await;
    let new = phone.new_device(1);
    let recovery = new.begin_recovery(&CODE, OldDevices::Keep).await.unwrap();
    let stored = new.recovery_cipher_text(&recovery).await.unwrap();
    let until_ms = server.now_ms() + 60_000;
    let asked = format!("UPDATE recoveries SET step_up_prompt = 'x', step_up_until_ms = {until_ms}");
    assert_eq!(server.tamper(&asked).await, 1);
    let one_time = SecretKey::generate(&mut OsEntropy);
    assert_eq!(new.recovery_cipher_text(&recovery).await.unwrap_err(), "RECOVERY_WAITING");
    let proven = new.prove_possession(&recovery, &stored, &new.open(&kept, &stored), &one_time).await;
    assert_eq!(proven.unwrap_err(), "RECOVERY_WAITING");
    let path = path(route::CUSTODIAN_STEP_UP, &[&recovery.id.to_string()]);
    let confirmed = server.call("POST", &path, &server.custodian_key, br#"{"confirmed":true}"#).await;
    assert_eq!(confirmed.status, 200, "{}", confirmed.text());
    let stored = new.recovery_cipher_text(&recovery).await.unwrap();
    new.prove_possession(&recovery, &stored, &new.open(&kept, &stored), &one_time).await.unwrap();
}
