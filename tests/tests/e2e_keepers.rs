//! The keepers are processes of their own: killed, they come back by themselves, and no count is forgotten.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use halfkey_client::{BackupMethod, Error, Password, PasswordKind, RecoveryMethod, Verified};
use halfkey_tests::{
    deployment::{Backing, Deployment},
    phone::Phone,
    spend::signs,
};

const PASSWORD: &str = "seven otters juggle amber lanterns";
const WRONG: &str = "seven otters juggle umber lanterns";

/// Asks again for as long as the advice is to try again.
async fn verify(phone: &Phone, password: &str) -> Result<Verified, Error> {
    for _ in 0..300 {
        match phone.app.verify_backup(RecoveryMethod::Password(Password::new(password))).await {
            Err(Error::Retry { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => return other,
        }
    }
    panic!("the guesskeeper does not come back");
}

const fn remaining(left: u32) -> Error {
    Error::WrongSecret { remaining: Some(left), retry_after: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_keeper_comes_back_and_has_forgotten_no_guess() {
    let mut deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let phone = Phone::new(&deployment, &client).unwrap();
    let wallet = phone.app.create_wallet().await.unwrap();
    let backup = BackupMethod::Password { password: Password::new(PASSWORD), kind: PasswordKind::Password };
    phone.app.backup_wallet(backup).await.unwrap();

    assert_eq!(verify(&phone, WRONG).await, Err(remaining(9)));
    for kind in ["guesskeeper", "keeper"] {
        let before = deployment.process(kind).unwrap();
        deployment.kill_keeper(kind).unwrap();
        // The server itself lives on, and signing needs no keeper.
        signs(&phone.app, &wallet).await.unwrap();
        assert_ne!(deployment.process(kind).ok(), Some(before), "{kind} was killed");
    }
    assert_eq!(verify(&phone, WRONG).await, Err(remaining(8)));
    verify(&phone, PASSWORD).await.unwrap();

    // The right password set the count back; the whole deployment dies, and starts again at once.
    assert_eq!(verify(&phone, WRONG).await, Err(remaining(9)));
    deployment.kill().unwrap();
    deployment.restart().unwrap();
    assert_eq!(verify(&phone, WRONG).await, Err(remaining(8)));
    verify(&phone, PASSWORD).await.unwrap();
    let mut kinds: Vec<_> = deployment.processes().unwrap().into_iter().map(|(_, words)| words[1].clone()).collect();
    kinds.sort();
    assert_eq!(kinds, ["guesskeeper", "keeper", "serve"], "each once, and none left over");
}
