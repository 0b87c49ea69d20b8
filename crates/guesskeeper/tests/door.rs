//! The door on SQLite, in one process: what a client, a server and a thief can and cannot do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;

use halfkey_envelope::{
    cbor,
    door::{self, Outcome, Refusal, Register, Reply, Request, Standing, State},
    entropy::OsEntropy,
    oprf, password,
};
use halfkey_guesskeeper::{Keeper, Rules};
use support::*;

const RIGHT: &str = "correct horse battery staple";

fn wrong(result: Result<Vec<u8>, password::Error>) -> Standing {
    match result {
        Err(password::Error::WrongSecret { standing }) => standing,
        other => panic!("not a wrong password: {other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, password::Error>) -> Refusal {
    match result {
        Err(password::Error::Refused { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn the_right_password_opens_and_resets_the_count() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules::default()).await;
    let door = Door::here(&keeper);
    let registered = door.register(1, RIGHT).await;
    assert_eq!(door.recover(1, RIGHT, Some(&registered.token)).await.unwrap(), RECORD, "read back before the commit");
    assert!(door.status(registered.place.backup).await.proven);
    door.activate(&registered).await;
    for left in [9, 8] {
        let standing = wrong(door.recover(1, "something else", None).await);
        assert_eq!((standing.remaining, standing.wrong, standing.locked), (left, 10 - left, false));
    }
    assert_eq!(door.recover(1, RIGHT, None).await.unwrap(), RECORD);
    let standing = door.status(registered.place.backup).await.standing;
    assert_eq!((standing.remaining, standing.wrong), (10, 0));
}

#[tokio::test]
async fn a_pending_registration_answers_only_with_the_read_back_token() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules::default()).await;
    let door = Door::here(&keeper);
    let registered = door.register(1, RIGHT).await;
    assert_eq!(refused(door.offer(1, None).await), Refusal::NotFound);
    let other = door::ReadBackToken::generate(&mut OsEntropy);
    assert_eq!(refused(door.offer(1, Some(&other)).await), Refusal::NotFound);
    let (reason, standing) = door.cheap_guess(&registered).await.unwrap_err();
    assert_eq!((reason, standing), (Some(Refusal::NotFound), Standing::default()));
    assert!(door.offer(1, Some(&registered.token)).await.is_ok());
    assert_eq!(door.status(registered.place.backup).await.standing.wrong, 0, "nothing was counted");
    door.activate(&registered).await;
    assert!(door.offer(1, None).await.is_ok());
}

#[tokio::test]
async fn a_lost_answer_is_not_a_guess_but_another_element_is() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules::default()).await;
    let door = Door::here(&keeper);
    let registered = door.register_active(1, RIGHT).await;
    let guess = door.guess(1, RIGHT).await;
    let first = door.evaluate(1, guess.message()).await;
    for _ in 0..5 {
        let again = door.evaluate(1, guess.message()).await;
        assert_eq!(again.standing, first.standing);
    }
    assert_eq!(first.standing.remaining, 9);
    let unlocking = guess.finish(&first, &mut OsEntropy).unwrap();
    for _ in 0..2 {
        let answer = door.unlock(1, unlocking.message()).await;
        assert_eq!(
            unlocking.finish(&answer).unwrap().as_slice(),
            RECORD,
            "a lost unlock answer may be asked for again"
        );
    }
    for left in [9, 8] {
        door.cheap_guess(&registered).await.unwrap();
        assert_eq!(door.status(registered.place.backup).await.standing.remaining, left);
    }
    // The server kept the unlock message. It opens no later count.
    let (_, replayed) = (0, door.unlock(1, unlocking.message()).await);
    assert_eq!(refused(unlocking.finish(&replayed)), Refusal::StaleTicket);
    assert_eq!(door.status(registered.place.backup).await.standing.remaining, 8);
}

#[tokio::test]
async fn waiting_is_told_and_kept() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules::default()).await;
    let door = Door::here(&keeper);
    let registered = door.register_active(1, RIGHT).await;
    for _ in 0..3 {
        door.cheap_guess(&registered).await.unwrap();
    }
    let (reason, standing) = door.cheap_guess(&registered).await.unwrap_err();
    assert_eq!(reason, Some(Refusal::TooEarly));
    assert_eq!((standing.remaining, standing.not_before_ms), (7, START + 60_000));
    clock.pass(59_999);
    assert!(door.cheap_guess(&registered).await.is_err());
    clock.pass(1);
    assert_eq!(door.recover(1, RIGHT, None).await.unwrap(), RECORD);
}

#[tokio::test]
async fn a_server_that_changes_the_clear_part_is_seen() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules::default()).await;
    let door = Door::here(&keeper);
    door.register_active(1, RIGHT).await;
    let guess = door.guess(1, RIGHT).await;
    let mut answer = door.evaluate(1, guess.message()).await;
    answer.standing.remaining = 3;
    assert_eq!(guess.finish(&answer, &mut OsEntropy).err(), Some(password::Error::NotGenuine));
    answer.standing.remaining = 9;
    assert!(guess.finish(&answer, &mut OsEntropy).is_ok(), "and the true answer still serves");
}

#[tokio::test]
async fn a_message_serves_its_own_backup_and_operation_only() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules::default()).await;
    let door = Door::here(&keeper);
    let registered = door.register_active(1, RIGHT).await;
    door.register_active(2, RIGHT).await;
    let (sealed, _) = door.cheap_message(&registered);
    let malformed = Reply::Refused { reason: Refusal::Malformed };
    let elsewhere = Request::Evaluate { backup: place(2).backup, sealed: sealed.clone() };
    assert_eq!(door.ask(elsewhere).await, malformed);
    let as_unlock = Request::Unlock { backup: place(1).backup, sealed: sealed.clone() };
    assert_eq!(door.ask(as_unlock).await, malformed);
    let mut changed = sealed.clone();
    changed.message[40] ^= 1;
    assert_eq!(door.ask(Request::Evaluate { backup: place(1).backup, sealed: changed }).await, malformed);
    for n in [1, 2] {
        assert_eq!(door.status(place(n).backup).await.standing.wrong, 0);
    }
}

#[tokio::test]
async fn a_registration_is_written_once() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules::default()).await;
    let door = Door::here(&keeper);
    let registered = door.register(1, RIGHT).await;
    let again = || Request::Register { backup: place(1).backup, sealed: registered.message.clone() };
    let answered = |reply: Reply| matches!(reply, Reply::Answer { answer } if answer.standing.remaining == 10);
    assert!(answered(door.ask(again()).await), "a lost answer: the same message again");
    let (sealed, key, _) = known_registration(&door, 1);
    let Reply::Answer { answer } = door.ask(Request::Register { backup: place(1).backup, sealed }).await else {
        panic!("no answer");
    };
    let (_, outcome) = door.opened(&key, door::Operation::Register, place(1).backup, &answer);
    assert!(matches!(outcome, Outcome::Refused { reason: Refusal::Exists }));
    // After the first guess the recorded message gives no guess back.
    door.activate(&registered).await;
    door.cheap_guess(&registered).await.unwrap();
    door.ask(again()).await;
    assert_eq!(door.status(place(1).backup).await.standing.remaining, 9);
    // Erased stays erased.
    let erased = status(door.ask(Request::Erase { backup: place(1).backup }).await);
    assert_eq!((erased.state, erased.standing.locked), (State::Erased, true));
    door.ask(again()).await;
    assert_eq!(door.status(place(1).backup).await.state, State::Erased);
    assert_eq!(refused(door.offer(1, None).await), Refusal::LockedOut);
    // An id that was erased before it was registered is dead, too.
    status(door.ask(Request::Erase { backup: place(9).backup }).await);
    let (sealed, key, _) = known_registration(&door, 9);
    let Reply::Answer { answer } = door.ask(Request::Register { backup: place(9).backup, sealed }).await else {
        panic!("no answer");
    };
    let (_, outcome) = door.opened(&key, door::Operation::Register, place(9).backup, &answer);
    assert!(matches!(outcome, Outcome::Refused { reason: Refusal::LockedOut }));
}

/// A registration whose secrets the test knows.
fn known_registration(door: &Door<'_>, n: u8) -> (door::Sealed, halfkey_envelope::hpke::AnswerKey, [Vec<u8>; 4]) {
    let entropy = &mut OsEntropy;
    let context = password::new_context(place(n), door::Mode::Password, door::KdfParams::FLOOR, &door.key, entropy);
    let body = Register {
        version: door::VERSION,
        context,
        oprf_key: oprf::generate_key(entropy).unwrap(),
        commitment: [7; 32].into(),
        tag: door::UnlockTag::generate(entropy),
        keeper_part: door::KeeperPart::generate(entropy),
        wrapped: b"wrapped record, thirty-two bytes or more".to_vec().into(),
        max_guesses: 10,
        read_back: door::ReadBackToken::generate(entropy),
    };
    let secrets = [
        body.oprf_key.expose().to_vec(),
        body.tag.expose().to_vec(),
        body.keeper_part.expose().to_vec(),
        body.wrapped.to_vec(),
    ];
    let (sealed, key) = door::seal_body(&door.key, &body, entropy).unwrap();
    (sealed, key, secrets)
}

#[tokio::test]
async fn lock_out_is_crypto_erasure() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, no_delays()).await;
    let door = Door::here(&keeper);
    let (sealed, _, secrets) = known_registration(&door, 1);
    let ver = {
        door.ask(Request::Register { backup: place(1).backup, sealed: sealed.clone() }).await;
        door.status(place(1).backup).await.ver.unwrap()
    };
    status(door.ask(Request::Activate { backup: place(1).backup, ver }).await);
    let shred_key = query_bytes(folder.path(), "shred", "SELECT shred FROM shred_key").await;
    let at_rest = query_bytes(folder.path(), "guesses", "SELECT sealed FROM registration").await;
    assert!(holds(folder.path(), &shred_key) && holds(folder.path(), &at_rest), "the search finds what is there");
    let registered =
        Registered { place: place(1), ver, token: door::ReadBackToken::generate(&mut OsEntropy), message: sealed };
    for _ in 0..10 {
        door.cheap_guess(&registered).await.unwrap();
    }
    let (reason, standing) = door.cheap_guess(&registered).await.unwrap_err();
    assert_eq!((reason, standing.remaining, standing.locked), (Some(Refusal::Exhausted), 0, false));
    clock.pass(10 * 60_000);
    assert_eq!(keeper.sweep().await.unwrap(), 1, "the timer destroys it; nobody has to ask");
    assert_eq!(door.status(place(1).backup).await.state, State::LockedOut);
    assert_eq!(door.cheap_guess(&registered).await.unwrap_err().0, Some(Refusal::LockedOut));
    for (what, gone) in [("shred key", &shred_key), ("sealed secrets", &at_rest)] {
        assert!(!holds(folder.path(), gone), "{what} is still on the disk");
    }
    for secret in &secrets {
        assert!(!holds(folder.path(), secret), "a secret in the clear");
    }
}

async fn query_bytes(folder: &std::path::Path, file: &str, query: &'static str) -> Vec<u8> {
    let url = format!("sqlite:{}", folder.join("data").join(file).with_extension("sqlite").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let bytes = sqlx::query_scalar(query).fetch_one(&pool).await.unwrap();
    pool.close().await;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_hundred_parallel_guesses_give_ten_evaluations() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper: Arc<Keeper> = Arc::new(open(folder.path(), &clock, no_delays()).await);
    let registered = Arc::new(Door::here(&keeper).register_active(1, RIGHT).await);
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let (keeper, registered) = (Arc::clone(&keeper), Arc::clone(&registered));
        guesses.spawn(async move { Door::here(&keeper).cheap_guess(&registered).await });
    }
    let results = guesses.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    let exhausted = results.iter().filter(|result| matches!(result, Err((Some(Refusal::Exhausted), _)))).count();
    assert_eq!(exhausted, 390);
}

#[tokio::test]
async fn a_flood_of_wrong_guesses_is_refused_before_it_is_counted() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules { wrong_per_hour: 5, ..no_delays() }).await;
    let door = Door::here(&keeper);
    let (one, two) = (door.register_active(1, RIGHT).await, door.register_active(2, RIGHT).await);
    for _ in 0..5 {
        door.cheap_guess(&one).await.unwrap();
    }
    assert_eq!(door.cheap_guess(&two).await.unwrap_err().0, Some(Refusal::Overloaded));
    assert_eq!(door.status(place(2).backup).await.standing.remaining, 10, "not counted");
    clock.pass(3_600_000);
    for _ in 0..10 {
        assert_eq!(door.recover(2, RIGHT, None).await.unwrap(), RECORD, "right guesses do not fill the budget");
    }
}

/// What a thief of the folder gets: with everything in it, no record and no file key in the clear; without the key
/// file, not even a keeper that starts.
#[tokio::test]
async fn the_keepers_folder_alone_opens_nothing() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, Rules::default()).await;
    let door = Door::here(&keeper);
    door.register_active(1, RIGHT).await;
    assert_eq!(door.recover(1, RIGHT, None).await.unwrap(), RECORD);
    assert!(!holds(folder.path(), RECORD) && !holds(folder.path(), RIGHT.as_bytes()));
    drop(keeper);
    std::fs::remove_file(folder.path().join("data/root.key")).unwrap();
    let opened = try_open(folder.path(), &clock, Rules::default()).await;
    assert!(matches!(opened, Err(halfkey_guesskeeper::Error::KeyLost)));
    assert!(!folder.path().join("data/root.key").exists(), "no new root is made over old registrations");
}

/// A server that recorded every message of a user replays them all, in any order: it gets answers that it cannot
/// read, and no guess back.
#[tokio::test]
async fn a_servers_recording_gives_no_guess() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = open(folder.path(), &clock, no_delays()).await;
    let door = Door::here(&keeper);
    let registered = door.register_active(1, RIGHT).await;
    let mut recorded = vec![Request::Register { backup: place(1).backup, sealed: registered.message.clone() }];
    for _ in 0..3 {
        let guess = door.guess(1, RIGHT).await;
        let unlocking = guess.finish(&door.evaluate(1, guess.message()).await, &mut OsEntropy).unwrap();
        unlocking.finish(&door.unlock(1, unlocking.message()).await).unwrap();
        recorded.push(Request::Evaluate { backup: place(1).backup, sealed: guess.message().clone() });
        recorded.push(Request::Unlock { backup: place(1).backup, sealed: unlocking.message().clone() });
    }
    let mut evaluated = 0;
    for round in 0..40 {
        evaluated += usize::from(door.cheap_guess(&registered).await.is_ok());
        for step in 0..recorded.len() {
            door.ask(recorded[(round + step) % recorded.len()].clone()).await;
        }
    }
    assert!(evaluated <= 10, "{evaluated}");
    assert!(door.status(place(1).backup).await.standing.remaining == 0);
}

#[test]
fn messages_of_other_versions_and_forms_are_refused() {
    let bytes = Request::Info {}.to_bytes();
    assert!(Request::from_bytes(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(Request::from_bytes(&bytes[..end]).is_err());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Request::from_bytes(&longer), Err(Refusal::Malformed));
    let position = bytes.iter().position(|byte| *byte == door::VERSION).unwrap();
    let mut newer = bytes;
    newer[position] = 2;
    assert_eq!(Request::from_bytes(&newer), Err(Refusal::Malformed));
    assert_eq!(cbor::to_vec(&Standing::default()).len(), 11);
}
