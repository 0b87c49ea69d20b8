//! Retired is not erased (PROTOCOL.md 4.4): a half is refused at once, and erased when the operator's copy allows it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use halfkey_client::{BackupMethod, Error, OldDevices, Password, PasswordKind, RecoveryMethod};
use halfkey_tests::{
    deployment::{Backing, Deployment},
    phone::Phone,
};

const OLD: &str = "seven otters juggle amber lanterns";
const NEW: &str = "eleven ravens polish copper kettles";

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_backup_is_erased_after_the_copy_and_the_drill_and_not_before() {
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let phone = Phone::new(&deployment, &client).unwrap();
    let before = phone.app.create_wallet().await.unwrap();
    let backup = BackupMethod::Password { password: Password::new(OLD), kind: PasswordKind::Password };
    phone.app.backup_wallet(backup).await.unwrap();
    phone.app.change_password(Password::new(NEW), PasswordKind::Password).await.unwrap();

    let erased = |minutes_ago: &str| {
        deployment.admin(&["copied", "--minutes-ago", minutes_ago, "--json"]).unwrap()["erasedHalves"].as_u64().unwrap()
    };
    let verify = || phone.app.verify_backup(RecoveryMethod::Password(Password::new(NEW)));
    assert_eq!(erased("0"), 0, "the successor was not opened since, and 7 days have not passed");
    verify().await.unwrap();
    assert_eq!(erased("60"), 2, "the successor was in the first copy: the old custodian half of each curve goes");
    phone.app.change_password(Password::new(NEW), PasswordKind::Password).await.unwrap();
    verify().await.unwrap();
    assert_eq!(erased("60"), 0, "the copy is older than the successor");
    assert_eq!(erased("0"), 2, "now it is in the copy");
    assert_eq!(erased("0"), 0, "once");

    let new_phone = Phone::new(&deployment, &client).unwrap();
    let stale =
        new_phone.app.recover_wallet(RecoveryMethod::Password(Password::new(OLD)), OldDevices::Keep, None).await;
    assert!(matches!(stale, Err(Error::WrongSecret { .. })), "{stale:?}");
    let fresh = RecoveryMethod::Password(Password::new(NEW));
    let recovered = new_phone.app.recover_wallet(fresh, OldDevices::Keep, Some(before)).await;
    assert!(matches!(recovered, Ok(halfkey_client::Recovering::Recovered(_))), "{recovered:?}");
}
