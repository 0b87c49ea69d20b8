//! A guesskeeper as a process of its own, killed between a count and its answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::Command,
    time::Duration,
};

use support::*;

const RIGHT: &str = "correct horse battery staple";

#[test]
fn the_process_itself() {
    be_a_process();
}

fn start(folder: &Path) -> Process {
    Process::start("the_process_itself", folder, None)
}

async fn attempts(folder: &Path) -> i64 {
    let url = format!("sqlite:{}", folder.join("data/guesses.sqlite").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query_scalar("SELECT attempts FROM registration").fetch_one(&pool).await.unwrap()
}

/// The anchor is made to wait (its next file is a pipe that nobody reads), so that the process stands exactly between
/// the committed count and the answer; there it is killed. Over and over: never more than ten evaluations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_between_count_and_answer_gives_no_guess_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let registered = {
        let process = start(folder);
        Door::at(&process).register_active(1, RIGHT).await
    };
    let pipe = folder.join("elsewhere/anchor.next");
    let mut answered = 0;
    for round in 1..=10 {
        let process = start(folder);
        let door = Door::at(&process);
        let before = attempts(folder).await;
        if round % 3 == 0 {
            answered += usize::from(door.cheap_guess(&registered).await.is_ok());
        } else {
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            let guess = tokio::spawn({
                let registered =
                    Registered { token: again(&registered), message: registered.message.clone(), ..registered };
                let door = Door::at(&process);
                async move { door.cheap_guess(&registered).await }
            });
            while attempts(folder).await == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(!guess.is_finished(), "no answer before the anchor");
            process.kill();
            assert_eq!(guess.await.unwrap().unwrap_err().0, None, "the line broke");
            std::fs::remove_file(&pipe).unwrap();
        }
        assert_eq!(attempts(folder).await, before + 1, "round {round}");
    }
    let process = start(folder);
    let door = Door::at(&process);
    for _ in 0..5 {
        answered += usize::from(door.cheap_guess(&registered).await.is_ok());
    }
    assert_eq!(answered, 3, "seven of ten guesses were lost with their process, none came back");
}

fn again(registered: &Registered) -> halfkey_envelope::door::ReadBackToken {
    halfkey_envelope::door::ReadBackToken::from_bytes((*registered.token.expose()).into())
}

#[tokio::test]
async fn the_whole_way_over_the_socket_and_a_clean_stop() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(folder.path());
    let door = Door::at(&process);
    let registered = door.register(1, RIGHT).await;
    assert_eq!(door.recover(1, RIGHT, Some(&registered.token)).await.unwrap(), RECORD);
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("socket"), mode("data"), mode("data/root.key")), (0o600, 0o700, 0o600));
    drop(door);
    assert!(process.stop(), "it ends with its standard input");
}

#[tokio::test]
async fn garbage_on_the_socket_closes_that_connection_only() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(folder.path());
    for garbage in [&[0u8, 0, 0, 0][..], &[0xff; 64], &[0, 0, 0, 3, 1, 2, 3]] {
        let mut stream = UnixStream::connect(folder.path().join("socket")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(garbage).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.len() < 64, "a refusal at most, then the end");
    }
    Door::at(&process).register(1, RIGHT).await;
}
