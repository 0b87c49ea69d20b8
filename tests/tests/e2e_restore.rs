//! T15 on real processes: yesterday's main database under today's shred store and today's guesskeeper. No wallet is
//! lost, and nothing that was removed or revoked since comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use halfkey_client::{
    Addresses, BackupMethod, CodeText, Error, OldDevices, Password, PasswordKind, Recovering, RecoveryMethod,
};
use halfkey_envelope::wallet::Method;
use halfkey_tests::{
    deployment::{Backing, Client, Deployment},
    phone::{Failed, Phone},
    spend::signs,
};

const PASSWORD: &str = "seven otters juggle amber lanterns";

fn open() -> RecoveryMethod {
    RecoveryMethod::Password(Password::new(PASSWORD))
}

async fn new_wallet(deployment: &Deployment) -> (Client, Phone, Addresses) {
    let client = deployment.new_client().await.unwrap();
    let phone = Phone::new(deployment, &client).unwrap();
    let wallet = phone.app.create_wallet().await.unwrap();
    let backup = BackupMethod::Password { password: Password::new(PASSWORD), kind: PasswordKind::Password };
    phone.app.backup_wallet(backup).await.unwrap();
    (client, phone, wallet)
}

/// The main database alone, with what SQLite keeps beside it.
fn main_database(from: &Path, to: &Path) {
    for name in ["halfkey.db", "halfkey.db-wal", "halfkey.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

async fn recovers(
    deployment: &Deployment,
    client: &Client,
    wallet: &Addresses,
    method: RecoveryMethod,
    old_devices: OldDevices,
) -> Result<Phone, Failed> {
    let fresh = Phone::new(deployment, client)?;
    match fresh.app.recover_wallet(method, old_devices, Some(wallet.clone())).await? {
        Recovering::Recovered(_) => signs(&fresh.app, wallet).await?,
        waiting => return Err(format!("{waiting:?}").into()),
    }
    Ok(fresh)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t15_an_older_database_under_the_newest_shred_store_loses_nothing_and_revives_nothing() {
    let mut deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let yesterday = tempfile::tempdir().unwrap();

    // Three wallets on the day of the copy.
    let (first, stolen_phone, first_wallet) = new_wallet(&deployment).await;
    let (second, second_phone, second_wallet) = new_wallet(&deployment).await;
    second_phone.app.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let code = second_phone.paper.code().unwrap();
    let (third, third_phone, third_wallet) = new_wallet(&deployment).await;
    deployment.stop().unwrap();
    main_database(&deployment.data(), yesterday.path());
    deployment.restart().unwrap();

    // Since then: the first phone was stolen and revoked in a recovery, the second removed its password backup.
    let tablet = recovers(&deployment, &first, &first_wallet, open(), OldDevices::Revoke).await.unwrap();
    second_phone.app.remove_backup_method(Method::Password).await.unwrap();
    let revoked = signs(&stolen_phone.app, &first_wallet).await.unwrap_err();
    assert_eq!(revoked.downcast_ref(), Some(&Error::DeviceRevoked));

    // The disaster, and what every operator does then: the newest copy there is.
    deployment.kill().unwrap();
    main_database(yesterday.path(), &deployment.data());
    deployment.restart().unwrap();
    let log = String::from_utf8_lossy(&deployment.log_bytes()).into_owned();
    assert!(log.contains("the main database is an older copy"), "the server says so: {log}");

    // Nothing comes back: not the stolen phone, not the removed backup.
    let revoked = signs(&stolen_phone.app, &first_wallet).await.unwrap_err();
    assert_eq!(revoked.downcast_ref(), Some(&Error::DeviceRevoked));
    let fresh = Phone::new(&deployment, &second).unwrap();
    let removed = fresh.app.recover_wallet(open(), OldDevices::Keep, None).await.unwrap_err();
    // The shred store's mark does not say whether the pair was removed or frozen; it stays shut either way.
    assert!(matches!(removed, Error::Frozen | Error::NotBackedUp), "{removed:?}");

    // No wallet is lost. The tablet's share is younger than the copy: it recovers again, and so does the first wallet on
    // any device. The other two never noticed.
    assert!(signs(&tablet.app, &first_wallet).await.is_err(), "the copy knows nothing of the tablet");
    recovers(&deployment, &first, &first_wallet, open(), OldDevices::Keep).await.unwrap();
    signs(&second_phone.app, &second_wallet).await.unwrap();
    let code = RecoveryMethod::RecoveryCode(CodeText::new(code));
    recovers(&deployment, &second, &second_wallet, code, OldDevices::Keep).await.unwrap();
    signs(&third_phone.app, &third_wallet).await.unwrap();
    recovers(&deployment, &third, &third_wallet, open(), OldDevices::Keep).await.unwrap();
}
