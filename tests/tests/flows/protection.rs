//! What a client's backups are worth together, as the SDK tells it, and whether a recovery could be begun (DECISIONS.md D31).

use std::sync::Arc;

use halfkey_client::{
    BackupMethod, Error, Password, PasswordKind, Protection, ProtectionReason as Reason, RecoveryMethod,
    host::SyncedSecretStore, memory::MemorySyncedStore,
};
use halfkey_envelope::wallet::Method;

use super::world::{Clouds, OTHER_PASSWORD, PASSWORD, Phone, World, backup_with, recover, with, with_code};

const PIN: &str = "739105";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn pin(digits: &str) -> BackupMethod {
    BackupMethod::Password { password: Password::new(digits), kind: PasswordKind::Pin }
}

fn at_risk(reasons: &[Reason]) -> Protection {
    Protection::AtRisk { reasons: reasons.to_vec() }
}

/// Protection, warnings, whether it counts as backed up, and whether a recovery could be begun.
async fn told(phone: &Phone) -> (Protection, Vec<Reason>, bool, bool) {
    let status = phone.halfkey.backup_status().await.unwrap();
    assert_eq!(phone.halfkey.is_wallet_backed_up().await, Ok(status.backed_up));
    let recoverable = phone.halfkey.is_wallet_recoverable().await.unwrap();
    (status.protection, status.warnings, status.backed_up, recoverable)
}

async fn owner(world: &World) -> (String, Phone) {
    let token = world.client_key().await;
    let phone = world.phone(&token);
    phone.halfkey.create_wallet().await.unwrap();
    (token, phone)
}

#[tokio::test]
async fn a_pin_alone_is_a_risk_that_the_backup_itself_reports() {
    let world = World::start().await;
    let token = world.client_key().await;
    let phone = world.phone(&token);
    let nothing = (Protection::Unprotected, vec![], false, false);
    assert_eq!(told(&phone).await, nothing);
    phone.halfkey.create_wallet().await.unwrap();
    assert_eq!(told(&phone).await, nothing);

    let made = phone.halfkey.backup_wallet(pin(PIN)).await.unwrap();
    assert_eq!(made.protection, Some(at_risk(&[Reason::PinAlone])));
    assert_eq!(told(&phone).await, (at_risk(&[Reason::PinAlone]), vec![Reason::OneMethod], true, true));
    assert!(phone.halfkey.backup_status().await.unwrap().methods[0].asserted_pin);

    // The fresh backup after a recovery is one by the same PIN.
    let new = world.phone(&token);
    let recovered = recover(&new, with(PIN), halfkey_client::OldDevices::Keep, None).await.unwrap();
    assert_eq!(recovered.fresh_backup.unwrap().protection, Some(at_risk(&[Reason::PinAlone])));

    // A second method is what helps; and so does a password in the place of the PIN.
    let code = new.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    assert_eq!(code.protection, Some(Protection::Protected));
    assert_eq!(told(&new).await, (Protection::Protected, vec![], true, true));
    new.halfkey.remove_backup_method(Method::RecoveryCode).await.unwrap();
    assert_eq!(told(&new).await.0, at_risk(&[Reason::PinAlone]));
    let password = Password::new(PASSWORD);
    let changed = new.halfkey.change_password(password, PasswordKind::Password).await.unwrap();
    assert_eq!(changed.protection, Some(Protection::Protected));
    assert_eq!(told(&new).await, (Protection::Protected, vec![Reason::OneMethod], true, true));
    assert!(!new.halfkey.backup_status().await.unwrap().methods[0].asserted_pin);
}

#[tokio::test]
async fn guesses_that_run_out_are_a_risk_before_they_are_a_loss() {
    let world = World::start().await;
    let (token, phone) = owner(&world).await;
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let thief = world.phone(&token);
    let guess = async |guesses: u32| {
        for _ in 0..guesses {
            let wrong = recover(&thief, with(OTHER_PASSWORD), halfkey_client::OldDevices::Keep, None).await;
            assert!(matches!(wrong, Err(Error::WrongSecret { .. } | Error::LockedOut)), "{wrong:?}");
        }
    };
    guess(6).await;
    assert_eq!(told(&phone).await, (Protection::Protected, vec![Reason::OneMethod], true, true));
    guess(1).await;
    assert_eq!(told(&phone).await, (at_risk(&[Reason::FewGuessesLeft]), vec![Reason::OneMethod], true, true));
    guess(3).await;
    assert_eq!(told(&phone).await, (Protection::Unprotected, vec![Reason::LockedOut], false, false));
    assert!(phone.halfkey.available_recovery_methods().await.unwrap().is_empty());
    phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let warnings = vec![Reason::LockedOut, Reason::OneMethod];
    assert_eq!(told(&phone).await, (Protection::Protected, warnings, true, true));
}

#[tokio::test]
async fn what_was_not_verified_for_long_or_does_not_hold_is_told_apart() {
    let world =
        World::start_with(|config| config.verification_after = std::time::Duration::from_secs(10 * 86_400)).await;
    let (_, phone) = owner(&world).await;
    let backup = phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let code = phone.paper.code.lock().unwrap().clone().unwrap();
    world.clock.pass_ms(10 * DAY_MS);
    assert_eq!(told(&phone).await, (at_risk(&[Reason::VerificationDue]), vec![Reason::OneMethod], true, true));
    phone.halfkey.verify_backup(with_code(&code)).await.unwrap();
    assert_eq!(told(&phone).await.0, Protection::Protected);

    let path = format!("sqlite:{}", world.folder.path().join("server/halfkey.db").display());
    let database = sqlx::SqlitePool::connect(&path).await.unwrap();
    let lose = sqlx::query("UPDATE envelopes SET record = NULL WHERE backup = $1");
    lose.bind(&backup.backup_id.as_bytes()[..]).execute(&database).await.unwrap();
    assert!(matches!(phone.halfkey.verify_backup(with_code(&code)).await, Err(Error::BackupBroken(_))));
    let broken = (Protection::Unprotected, vec![Reason::VerificationFailed], false, false);
    assert_eq!(told(&phone).await, broken, "completed, and no recovery is worth beginning");
}

#[tokio::test]
async fn a_cloud_alone_is_a_risk_and_one_that_only_pends_is_no_backup() {
    let world = World::start().await;
    let token = world.client_key().await;
    let synced: Arc<dyn SyncedSecretStore> = Arc::new(MemorySyncedStore::new());
    let phone = world.phone_in(&token, &Clouds { synced: Some(synced), ..Clouds::default() });
    phone.halfkey.create_wallet().await.unwrap();
    let made = phone.halfkey.backup_wallet(BackupMethod::ICloud).await.unwrap();
    assert_eq!(made.protection, Some(at_risk(&[Reason::PendingSync])));
    assert_eq!(told(&phone).await, (at_risk(&[Reason::PendingSync]), vec![], false, true));
    phone.halfkey.confirm_icloud_sync().await.unwrap();
    assert_eq!(told(&phone).await, (at_risk(&[Reason::CloudAlone]), vec![Reason::OneMethod], true, true));
    // A phone without the keychain cannot begin what another could.
    let elsewhere = world.phone(&token);
    assert!(!elsewhere.halfkey.is_wallet_recoverable().await.unwrap());
    assert!(elsewhere.halfkey.available_recovery_methods().await.unwrap().is_empty());
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    assert_eq!(told(&phone).await, (Protection::Protected, vec![], true, true));
    assert!(elsewhere.halfkey.is_wallet_recoverable().await.unwrap());
}

/// The wallet is there still, and its backup is completed: no recovery can be begun once an eject has.
#[tokio::test]
async fn an_ejecting_wallet_is_not_recoverable() {
    let world = World::start().await;
    let (token, phone) = owner(&world).await;
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    assert!(phone.halfkey.is_wallet_recoverable().await.unwrap());
    world.enable_eject(&token, "{}").await;
    let ejected = phone.halfkey.eject_private_keys(RecoveryMethod::Password(Password::new(PASSWORD)), None).await;
    ejected.unwrap();
    assert!(phone.halfkey.does_wallet_exist().await.unwrap());
    assert!(!phone.halfkey.is_wallet_recoverable().await.unwrap());
}
