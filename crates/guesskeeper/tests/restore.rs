//! Old copies of the database, lost anchors and restores: no guess is ever given back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::Path;

use halfkey_envelope::{
    door::{Refusal, Reply, Request, State},
    password,
};
use halfkey_guesskeeper::{Error, GUESSES_LEFT, restore};
use support::*;

const RIGHT: &str = "correct horse battery staple";

/// A keeper's folder with one registration and `wrong` guesses, and a copy of it from before the last `after` ones.
async fn used_folder(folder: &Path, before: usize, after: usize) -> Registered {
    let clock = TestClock::new();
    let registered = {
        let keeper = open(folder, &clock, no_delays()).await;
        let door = Door::here(&keeper);
        let registered = door.register_active(1, RIGHT).await;
        for _ in 0..before {
            door.cheap_guess(&registered).await.unwrap();
        }
        keeper.close().await;
        registered
    };
    copy_folder(&folder.join("data"), &folder.join("copy"));
    let keeper = open(folder, &clock, no_delays()).await;
    for _ in 0..after {
        Door::here(&keeper).cheap_guess(&registered).await.unwrap();
    }
    keeper.close().await;
    registered
}

/// The old copy comes back; the shred store stays the newest.
fn bring_back(folder: &Path) {
    for file in ["guesses.sqlite", "guesses.sqlite-wal", "guesses.sqlite-shm"] {
        let _ = std::fs::remove_file(folder.join("data").join(file));
        let copy = folder.join("copy").join(file);
        if copy.exists() {
            std::fs::copy(copy, folder.join("data").join(file)).unwrap();
        }
    }
}

async fn evaluations(door: &Door<'_>, registered: &Registered) -> usize {
    let mut count = 0;
    for _ in 0..20 {
        count += usize::from(door.cheap_guess(registered).await.is_ok());
    }
    count
}

#[tokio::test]
async fn an_old_copy_is_refused_until_it_is_restored_and_then_leaves_three_guesses() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let registered = used_folder(folder.path(), 1, 5).await;
    bring_back(folder.path());
    let refused = try_open(folder.path(), &clock, no_delays()).await;
    assert!(matches!(refused, Err(Error::Behind { .. })));
    let report = restore(&config(folder.path())).await.unwrap();
    assert_eq!((report.registrations, report.tombstones), (1, 0));
    assert!(report.anchor.unwrap() > report.copy);
    let keeper = open(folder.path(), &clock, no_delays()).await;
    let door = Door::here(&keeper);
    assert_eq!(door.status(registered.place.backup).await.standing.remaining, GUESSES_LEFT);
    assert_eq!(door.recover(1, RIGHT, None).await.unwrap(), RECORD, "the right password still opens");
    assert_eq!(evaluations(&door, &registered).await, 10, "and resets the count, as always");
}

#[tokio::test]
async fn a_copy_is_restored_once() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let registered = used_folder(folder.path(), 1, 5).await;
    bring_back(folder.path());
    restore(&config(folder.path())).await.unwrap();
    let mut given = {
        let keeper = open(folder.path(), &clock, no_delays()).await;
        let given = evaluations(&Door::here(&keeper), &registered).await;
        keeper.close().await;
        given
    };
    assert_eq!(given, 3);
    for _ in 0..3 {
        bring_back(folder.path());
        assert!(matches!(restore(&config(folder.path())).await, Err(Error::AlreadyRestored { .. })));
        // Without its anchor, too: the shred store remembers.
        let _ = std::fs::remove_file(folder.path().join("elsewhere/anchor"));
        assert!(matches!(restore(&config(folder.path())).await, Err(Error::AlreadyRestored { .. })));
        if let Ok(keeper) = try_open(folder.path(), &clock, no_delays()).await {
            given += evaluations(&Door::here(&keeper), &registered).await;
            keeper.close().await;
        }
    }
    assert_eq!(given, 3, "however often it is brought back");
}

#[tokio::test]
async fn a_lost_anchor_is_refused_and_a_healthy_database_is_not_restored() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    used_folder(folder.path(), 1, 1).await;
    assert!(matches!(restore(&config(folder.path())).await, Err(Error::NothingToRestore)));
    assert!(try_open(folder.path(), &clock, no_delays()).await.is_ok());
    std::fs::remove_file(folder.path().join("elsewhere/anchor")).unwrap();
    assert!(matches!(try_open(folder.path(), &clock, no_delays()).await, Err(Error::AnchorMissing)));
    restore(&config(folder.path())).await.unwrap();
    assert!(try_open(folder.path(), &clock, no_delays()).await.is_ok());
}

#[tokio::test]
async fn the_anchor_of_another_database_is_refused() {
    let (one, two, clock) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), TestClock::new());
    used_folder(one.path(), 1, 1).await;
    used_folder(two.path(), 1, 1).await;
    std::fs::copy(one.path().join("elsewhere/anchor"), two.path().join("elsewhere/anchor")).unwrap();
    assert!(matches!(try_open(two.path(), &clock, no_delays()).await, Err(Error::OtherDatabase)));
    assert!(matches!(restore(&config(two.path())).await, Err(Error::OtherDatabase)));
}

#[tokio::test]
async fn what_was_erased_after_the_copy_stays_erased() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let registered = used_folder(folder.path(), 1, 1).await;
    {
        let keeper = open(folder.path(), &clock, no_delays()).await;
        status(Door::here(&keeper).ask(Request::Erase { backup: registered.place.backup }).await);
        keeper.close().await;
    }
    bring_back(folder.path());
    let report = restore(&config(folder.path())).await.unwrap();
    assert_eq!(report.tombstones, 1);
    let keeper = open(folder.path(), &clock, no_delays()).await;
    let door = Door::here(&keeper);
    assert_eq!(door.status(registered.place.backup).await.state, State::Erased);
    let refused = door.offer(1, None).await;
    assert!(matches!(refused, Err(password::Error::Refused { reason: Refusal::LockedOut, .. })));
}

/// A registration that is younger than the copy is lost. Its recorded message must not bring ten guesses back.
#[tokio::test]
async fn a_lost_registration_is_not_replayed() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    used_folder(folder.path(), 1, 0).await;
    let younger = {
        let keeper = open(folder.path(), &clock, no_delays()).await;
        let door = Door::here(&keeper);
        let younger = door.register_active(2, RIGHT).await;
        door.cheap_guess(&younger).await.unwrap();
        keeper.close().await;
        younger
    };
    bring_back(folder.path());
    restore(&config(folder.path())).await.unwrap();
    let keeper = open(folder.path(), &clock, no_delays()).await;
    let door = Door::here(&keeper);
    let replay = Request::Register { backup: younger.place.backup, sealed: younger.message.clone() };
    assert!(matches!(door.ask(replay).await, Reply::Answer { .. }));
    let status = door.ask(Request::Status { backup: younger.place.backup }).await;
    assert_eq!(status, Reply::Refused { reason: Refusal::NotFound });
}

/// The database is exchanged under a running keeper: the next request sees it.
#[tokio::test]
async fn a_copy_under_a_running_keeper_is_seen() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let registered = used_folder(folder.path(), 1, 3).await;
    let keeper = open(folder.path(), &clock, no_delays()).await;
    let door = Door::here(&keeper);
    let url = format!("sqlite:{}", folder.path().join("data/guesses.sqlite").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("UPDATE meta SET generation = 2").execute(&pool).await.unwrap();
    sqlx::query("UPDATE registration SET attempts = 0").execute(&pool).await.unwrap();
    for _ in 0..2 {
        let (reason, _) = door.cheap_guess(&registered).await.unwrap_err();
        assert_eq!(reason, Some(Refusal::Unavailable));
    }
}

/// The crash between a count and its anchor: the database is ahead, which is fine, and nothing is forgotten.
#[tokio::test]
async fn a_database_ahead_of_its_anchor_is_fine() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let anchor = folder.path().join("elsewhere/anchor");
    let registered = used_folder(folder.path(), 1, 1).await;
    let old = std::fs::read(&anchor).unwrap();
    {
        let keeper = open(folder.path(), &clock, no_delays()).await;
        Door::here(&keeper).cheap_guess(&registered).await.unwrap();
        keeper.close().await;
    }
    std::fs::write(&anchor, old).unwrap();
    let keeper = open(folder.path(), &clock, no_delays()).await;
    assert_eq!(evaluations(&Door::here(&keeper), &registered).await, 7);
}
