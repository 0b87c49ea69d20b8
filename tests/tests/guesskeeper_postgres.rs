//! Two guesskeeper processes on one real PostgreSQL: the limit is one limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../crates/guesskeeper/tests/support/mod.rs"]
mod support;

use std::{path::Path, sync::Arc};

use halfkey_envelope::door::{Refusal, State};
use halfkey_guesskeeper::{Error, Keeper, restore};
use halfkey_tests::postgres::Postgres;
use support::*;

const RIGHT: &str = "correct horse battery staple";

#[test]
fn the_process_itself() {
    be_a_process();
}

/// The second node gets the first one's key file, as an operator would copy it.
fn node(folder: &Path, first: Option<&Path>, url: &str) -> Process {
    if let Some(first) = first {
        copy_folder(&first.join("data"), &folder.join("data"));
        std::fs::create_dir_all(folder.join("elsewhere")).unwrap();
        std::fs::copy(first.join("elsewhere/anchor"), folder.join("elsewhere/anchor")).unwrap();
    }
    Process::start("the_process_itself", folder, Some(url))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_parallel_guesses_at_two_processes_give_ten_evaluations() {
    let postgres = Postgres::start().unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Arc::new(node(one.path(), None, &postgres.url()));
    let second = Arc::new(node(two.path(), Some(one.path()), &postgres.url()));
    assert_eq!(first.key, second.key);
    let registered = Arc::new(Door::at(&first).register_active(1, RIGHT).await);
    let mut guesses = tokio::task::JoinSet::new();
    for index in 0..40 {
        let (process, registered) =
            (Arc::clone(if index % 2 == 0 { &first } else { &second }), Arc::clone(&registered));
        guesses.spawn(async move {
            let door = Door::at(&process);
            let mut results = Vec::new();
            for _ in 0..10 {
                results.push(door.cheap_guess(&registered).await);
            }
            results
        });
    }
    let results: Vec<_> = guesses.join_all().await.into_iter().flatten().collect();
    assert_eq!(results.len(), 400);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    let exhausted = results.iter().filter(|result| matches!(result, Err((Some(Refusal::Exhausted), _)))).count();
    assert_eq!(exhausted, 390);
}

async fn keeper(folder: &Path, url: &str, clock: &Arc<TestClock>) -> Result<Keeper, Error> {
    let mut config = config(folder);
    config.rules = no_delays();
    config.database = Some(url.to_owned());
    let clock: Arc<dyn halfkey_guesskeeper::Clock> = Arc::<TestClock>::clone(clock);
    Keeper::open(&config, clock).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_on_postgresql_counts_delays_and_destroys() {
    let postgres = Postgres::start().unwrap();
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let keeper = keeper(folder.path(), &postgres.url(), &clock).await.unwrap();
    let door = Door::here(&keeper);
    let registered = door.register_active(1, RIGHT).await;
    assert_eq!(door.recover(1, RIGHT, None).await.unwrap(), RECORD);
    for left in (0..10).rev() {
        door.cheap_guess(&registered).await.unwrap();
        assert_eq!(door.status(registered.place.backup).await.standing.remaining, left);
    }
    clock.pass(10 * 60_000);
    assert_eq!(keeper.sweep().await.unwrap(), 1);
    assert_eq!(door.status(registered.place.backup).await.state, State::LockedOut);
    assert!(keeper.clock_skew_ms().await.unwrap().abs() > 5_000, "the test's clock is far from the database's");
}

/// A copy of the whole database, main tables and shred store, of the same age: the anchor outside sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_of_the_database_is_refused() {
    let postgres = Postgres::start().unwrap();
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let live = postgres.create_database("live").unwrap();
    let shred = postgres.create_database("shred").unwrap();
    let with_shred = |url: &str| {
        let mut config = config(folder.path());
        config.rules = no_delays();
        (config.database, config.shred) = (Some(url.to_owned()), Some(shred.clone()));
        config
    };
    let open = async |url: &str| {
        let clock: Arc<dyn halfkey_guesskeeper::Clock> = Arc::<TestClock>::clone(&clock);
        Keeper::open(&with_shred(url), clock).await
    };
    let registered = {
        let keeper = open(&live).await.unwrap();
        let registered = Door::here(&keeper).register_active(1, RIGHT).await;
        keeper.close().await;
        registered
    };
    let copy = copy_when_idle(&postgres, "live", "copy").await;
    {
        let keeper = open(&live).await.unwrap();
        for _ in 0..5 {
            Door::here(&keeper).cheap_guess(&registered).await.unwrap();
        }
    }
    assert!(matches!(open(&copy).await, Err(Error::Behind { .. })));
    restore(&with_shred(&copy)).await.unwrap();
    let keeper = open(&copy).await.unwrap();
    let door = Door::here(&keeper);
    let mut given = 0;
    for _ in 0..10 {
        given += usize::from(door.cheap_guess(&registered).await.is_ok());
    }
    assert_eq!(given, 3);
}

/// PostgreSQL copies a database only when nobody is connected; a dropped pool closes its connections soon.
async fn copy_when_idle(postgres: &Postgres, from: &str, to: &str) -> String {
    for _ in 0..200 {
        if let Ok(url) = postgres.copy_database(from, to) {
            return url;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("somebody stays connected");
}

async fn attempts(url: &str) -> i64 {
    let pool = sqlx::PgPool::connect(url).await.unwrap();
    let attempts = sqlx::query_scalar("SELECT attempts FROM guesskeeper.registration").fetch_one(&pool).await.unwrap();
    pool.close().await;
    attempts
}

/// As `kill_9_between_count_and_answer_gives_no_guess_back` of the crate, on PostgreSQL: the anchor's next file is a pipe
/// that nobody reads, and the process is killed while it waits there, its count committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_between_count_and_answer_on_postgresql() {
    let postgres = Postgres::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = postgres.url();
    let registered = {
        let process = node(folder.path(), None, &url);
        Arc::new(Door::at(&process).register_active(1, RIGHT).await)
    };
    let pipe = folder.path().join("elsewhere/anchor.next");
    for round in 1..=8 {
        let process = node(folder.path(), None, &url);
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let guess = tokio::spawn({
            let (registered, door) = (Arc::clone(&registered), Door::at(&process));
            async move { door.cheap_guess(&registered).await }
        });
        while attempts(&url).await < round {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(!guess.is_finished(), "no answer before the anchor");
        process.kill();
        assert_eq!(guess.await.unwrap().unwrap_err().0, None, "the line broke");
        std::fs::remove_file(&pipe).unwrap();
        assert_eq!(attempts(&url).await, round);
    }
    let process = node(folder.path(), None, &url);
    let mut answered = 0;
    for _ in 0..5 {
        answered += usize::from(Door::at(&process).cheap_guess(&registered).await.is_ok());
    }
    assert_eq!(answered, 2, "eight of ten were lost with their process, none came back");
}
