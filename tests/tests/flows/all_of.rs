//! Several methods that are needed together (METHODS.md C, "AllOf"): every pair that makes sense, and what each member's own
//! protections still do.

use std::sync::Arc;

use halfkey_client::{
    Addresses, BackupMethod, Ejecting, Error, Held, ICloudConfig, Identity, MethodSet, OldDevices, PasskeyBackup,
    PasskeyMode, Password, PasswordKind, RecoveryMethod, Resumed,
    host::{CustomMethod, SyncedSecretStore},
    memory::{MemoryCustomStore, MemorySyncedStore},
};
use halfkey_envelope::wallet::{Curve, Method};
use halfkey_tests::authenticator::{Asked, Authenticator};

use crate::{
    clouds::{UsersCloud, a_backup_survives_the_loss_of_any_message, contract, recovers, shown},
    custom::Vault,
    drive::Google,
    signs,
    world::{Clouds, ORIGIN, OTHER_PASSWORD, PASSWORD, Phone, World, backup_with, recover, with, with_code},
};

fn of(member: &str, error: Error) -> Error {
    Error::Member { member: member.parse().unwrap(), error: Box::new(error) }
}

/// A cloud together with a password: what opens it needs both.
pub struct WithPassword<C>(pub C);

impl<C: UsersCloud> UsersCloud for WithPassword<C> {
    fn method(&self) -> Method {
        Method::AllOf(MethodSet::new([Method::Password, self.0.method()]).unwrap())
    }

    fn backup(&self) -> BackupMethod {
        BackupMethod::all_of([backup_with(PASSWORD), self.0.backup()]).unwrap()
    }

    fn recovery(&self) -> RecoveryMethod {
        self.recovery_with(PASSWORD)
    }

    fn as_reached_anew(&self) -> Clouds {
        self.0.as_reached_anew()
    }

    fn items(&self) -> Vec<(String, Vec<u8>)> {
        self.0.items()
    }

    fn plant(&self, name: &str, content: &[u8]) {
        self.0.plant(name, content);
    }

    fn wipe(&self) {
        self.0.wipe();
    }

    fn damage(&self, change: &dyn Fn(&mut Vec<u8>)) {
        self.0.damage(change);
    }

    fn says(&self, error: Error) -> Error {
        Error::Member { member: self.0.method(), error: Box::new(error) }
    }
}

impl<C: UsersCloud> WithPassword<C> {
    fn recovery_with(&self, password: &str) -> RecoveryMethod {
        RecoveryMethod::all_of([self.0.recovery(), with(password)]).unwrap()
    }
}

#[tokio::test]
async fn google_drive_and_a_password_keep_the_contract() {
    let google = Google::new().await;
    contract(|| WithPassword(google.fresh())).await;
}

#[tokio::test]
async fn the_apps_own_method_and_a_password_keep_the_contract() {
    contract(|| WithPassword(Vault::new())).await;
}

#[tokio::test]
async fn a_backup_by_drive_and_password_survives_the_loss_of_any_message() {
    a_backup_survives_the_loss_of_any_message(&WithPassword(Google::new().await), 16).await;
}

/// A user who has everything.
struct User {
    token: String,
    vault: MemoryCustomStore,
    keychain: MemorySyncedStore,
    passkeys: Authenticator,
}

impl User {
    async fn new(world: &World, seed: u64) -> Self {
        let (vault, keychain) = (MemoryCustomStore::new(), MemorySyncedStore::new());
        Self { token: world.client_key().await, vault, keychain, passkeys: Authenticator::new(seed, ORIGIN) }
    }

    /// A phone of this user, new out of the box.
    fn phone(&self, world: &World) -> Phone {
        let vault: Arc<dyn CustomMethod> = Arc::new(self.vault.clone());
        let synced: Arc<dyn SyncedSecretStore> = Arc::new(self.keychain.another_device());
        let icloud = ICloudConfig::default();
        let clouds = Clouds { custom: vec![("VAULT", vault)], synced: Some(synced), icloud, ..Clouds::default() };
        world.phone_with(&self.token, &self.passkeys, &clouds)
    }
}

const MEMBERS: [&str; 5] = ["CUSTOM:VAULT", "ICLOUD", "PASSKEY", "PASSWORD", "RECOVERY_CODE"];

fn backup_by(member: &str) -> BackupMethod {
    match member {
        "CUSTOM:VAULT" => BackupMethod::Custom("VAULT".to_owned()),
        "ICLOUD" => BackupMethod::ICloud,
        "PASSKEY" => BackupMethod::Passkey(PasskeyBackup::default()),
        "PASSWORD" => backup_with(PASSWORD),
        _ => BackupMethod::RecoveryCode,
    }
}

fn recovery_by(member: &str, code: &str) -> RecoveryMethod {
    match member {
        "CUSTOM:VAULT" => RecoveryMethod::Custom("VAULT".to_owned()),
        "ICLOUD" => RecoveryMethod::ICloud,
        "PASSKEY" => RecoveryMethod::Passkey,
        "PASSWORD" => with(PASSWORD),
        _ => with_code(code),
    }
}

fn code_of(phone: &Phone) -> String {
    phone.paper.code.lock().unwrap().clone().unwrap_or_default()
}

fn pairs() -> Vec<[&'static str; 2]> {
    let both = |(index, one): (usize, &&'static str)| MEMBERS[index + 1..].iter().map(|two| [*one, *two]).collect();
    MEMBERS.iter().enumerate().flat_map(|pair| -> Vec<_> { both(pair) }).collect()
}

#[tokio::test]
async fn every_pair_backs_up_is_lost_recovered_and_renewed_without_another_prompt() {
    let world = World::start().await;
    for (seed, pair) in pairs().into_iter().enumerate() {
        let all = BackupMethod::all_of(pair.map(backup_by));
        if pair == ["PASSKEY", "RECOVERY_CODE"] {
            assert_eq!(all.err(), Some(Error::InvalidMethod { code: "TWO_BESIDE_THE_ENVELOPE" }));
            continue;
        }
        let user = User::new(&world, seed as u64).await;
        let old = user.phone(&world);
        let addresses = old.halfkey.create_wallet().await.unwrap();
        let backup = old.halfkey.backup_wallet(all.unwrap()).await.unwrap();
        let name = format!("ALL_OF({},{})", pair[0], pair[1]);
        assert_eq!(backup.method.to_string(), name);
        user.passkeys.asked();
        let code = code_of(&old);
        let recovery =
            || RecoveryMethod::all_of(pair.map(|member| recovery_by(member, &code)).into_iter().rev()).unwrap();
        let guesses = shown(&old, &backup.method).await.guesses_left;
        assert_eq!(guesses, pair.contains(&"PASSWORD").then_some(10), "{name}");

        // Twice: the fresh backup that a recovery leaves behind opens too.
        let mut before = backup.backup_id;
        for _ in 0..2 {
            let new = user.phone(&world);
            let recovered = recover(&new, recovery(), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
            assert_eq!((&recovered.addresses, recovered.identity), (&addresses, Identity::Confirmed), "{name}");
            let fresh = recovered.fresh_backup.unwrap();
            assert_eq!((&fresh.method, fresh.backup_id == before), (&backup.method, false), "{name}");
            before = fresh.backup_id;
            assert_eq!(code_of(&new), "", "{name}: no code is shown again");
            let prompts = if pair.contains(&"PASSKEY") { vec![Asked::Get(1)] } else { Vec::new() };
            assert_eq!(user.passkeys.asked(), prompts, "{name}: only for the recovery itself");
            signs(&new, &addresses).await.unwrap();
            let verified = new.halfkey.verify_backup(recovery()).await.unwrap();
            assert_eq!((verified.method, verified.backup_id), (fresh.method, before), "{name}");
            user.passkeys.asked();
            assert_eq!(new.halfkey.resume().await, Ok(Resumed::Nothing), "{name}");
        }
        let one_alone = recover(&user.phone(&world), recovery_by(pair[0], &code), OldDevices::Keep, None).await;
        assert_eq!(one_alone.map(drop), Err(Error::NotBackedUp), "{name}");
        assert_eq!(user.vault.records().len(), usize::from(pair.contains(&"CUSTOM:VAULT")), "{name}: no litter");
        assert_eq!(user.keychain.items().len(), usize::from(pair.contains(&"ICLOUD")), "{name}: no litter");
    }
}

#[tokio::test]
async fn four_methods_together_need_all_four() {
    let world = World::start().await;
    let user = User::new(&world, 50).await;
    let phone = user.phone(&world);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    let members = ["PASSWORD", "CUSTOM:VAULT", "ICLOUD", "PASSKEY"];
    let made = phone.halfkey.backup_wallet(BackupMethod::all_of(members.map(backup_by)).unwrap()).await.unwrap();
    assert_eq!(made.method.to_string(), "ALL_OF(CUSTOM:VAULT,ICLOUD,PASSKEY,PASSWORD)");
    for left_out in 0..4 {
        let three = members.iter().enumerate().filter(|(index, _)| *index != left_out).map(|(_, member)| *member);
        let three = RecoveryMethod::all_of(three.map(|member| recovery_by(member, ""))).unwrap();
        let refused = recover(&user.phone(&world), three, OldDevices::Keep, None).await;
        assert_eq!(refused.map(drop), Err(Error::NotBackedUp), "another set is another backup");
    }
    let all = RecoveryMethod::all_of(members.map(|member| recovery_by(member, ""))).unwrap();
    recover(&user.phone(&world), all, OldDevices::Keep, Some(addresses)).await.unwrap().fresh_backup.unwrap();
}

/// The registration at the password door goes with the backup that it was made for, as that of a password alone does.
#[tokio::test]
async fn the_door_of_an_abandoned_set_is_closed() {
    let world = World::start().await;
    let both = WithPassword(Vault::new());
    let (_, phone, _, _) = crate::clouds::start(&world, &both).await;
    phone.network.block("/commit");
    phone.halfkey.backup_wallet(both.backup()).await.unwrap_err();
    phone.network.honest();
    assert_eq!(phone.restarted().halfkey.resume().await, Ok(Resumed::BackupDiscarded(both.method())));
    world.keeper.abort();
    world.state.housekeep().await;
    assert_eq!(world.store().await.doors_to_close(9).await.unwrap().len(), 1);
}

/// A phone with a wallet and a backup by the app's own store and a password.
async fn vault_and_password(world: &World) -> (WithPassword<Vault>, String, Phone, Addresses) {
    let both = WithPassword(Vault::new());
    let (token, phone, addresses, _) = crate::clouds::start(world, &both).await;
    (both, token, phone, addresses)
}

async fn guesses(phone: &Phone, both: &dyn UsersCloud) -> Option<u32> {
    shown(phone, &both.method()).await.guesses_left
}

#[tokio::test]
async fn a_wrong_password_beside_the_right_record_is_one_counted_guess() {
    let world = World::start().await;
    let (both, token, phone, addresses) = vault_and_password(&world).await;
    let new = both.phone(&world, &token);
    let wrong = recover(&new, both.recovery_with(OTHER_PASSWORD), OldDevices::Keep, None).await;
    assert_eq!(wrong.map(drop), Err(of("PASSWORD", Error::WrongSecret { remaining: Some(9), retry_after: None })));
    assert_eq!(guesses(&phone, &both).await, Some(9));
    assert!(!new.halfkey.is_wallet_on_device().await.unwrap());
    let wrong = phone.halfkey.verify_backup(both.recovery_with(OTHER_PASSWORD)).await;
    assert_eq!(wrong.map(drop), Err(of("PASSWORD", Error::WrongSecret { remaining: Some(8), retry_after: None })));
    assert_eq!(shown(&phone, &both.method()).await.verification_failed_at, None, "a typing error breaks no backup");
    recovers(&both, &new, &addresses).await.unwrap();
    assert_eq!(guesses(&phone, &both).await, Some(10), "the fresh backup's");
}

#[tokio::test]
async fn a_record_that_is_gone_or_damaged_names_its_member_and_costs_no_guess() {
    let world = World::start().await;
    let (both, token, phone, addresses) = vault_and_password(&world).await;
    for (word, harm) in [("CLOUD_RECORD_DAMAGED", false), ("CLOUD_RECORD_NOT_FOUND", true)] {
        match harm {
            true => both.wipe(),
            false => both.damage(&|record| *record.last_mut().unwrap() ^= 1),
        }
        let expected = if harm { Error::CloudRecordNotFound } else { Error::CloudRecordDamaged };
        let refused = recovers(&both, &both.phone(&world, &token), &addresses).await;
        assert_eq!(refused.map(drop), Err(of("CUSTOM:VAULT_1", expected)));
        let Err(Error::BackupBroken(broken)) = phone.halfkey.verify_backup(both.recovery()).await else {
            panic!("{word}: not found broken")
        };
        assert_eq!((broken.member, broken.method), (Some("CUSTOM:VAULT_1".parse().unwrap()), both.method()));
        assert!(broken.curves.iter().all(|drill| drill.method_key == Held::Failed(word)), "{word}");
        assert_eq!(broken.curves.len(), Curve::ALL.len());
        assert_eq!(guesses(&phone, &both).await, Some(10), "{word}: no guess was spent");
        assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap(), "{word}: the worst part counts");
    }
    phone.halfkey.backup_wallet(both.backup()).await.unwrap();
    assert!(phone.halfkey.is_wallet_backed_up().await.unwrap());
    recovers(&both, &both.phone(&world, &token), &addresses).await.unwrap();
}

#[tokio::test]
async fn a_wrong_recovery_code_is_found_before_a_guess_is_spent() {
    let world = World::start().await;
    let phone = world.phone(&world.client_key().await);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    let both = ["RECOVERY_CODE", "PASSWORD"];
    phone.halfkey.backup_wallet(BackupMethod::all_of(both.map(backup_by)).unwrap()).await.unwrap();
    let code = code_of(&phone);
    phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let other_code = code_of(&phone);
    let with_both = |code: &str| RecoveryMethod::all_of(both.map(|member| recovery_by(member, code))).unwrap();
    let new = world.phone(phone.token());
    let wrong = recover(&new, with_both(&other_code), OldDevices::Keep, None).await;
    assert_eq!(wrong.map(drop), Err(of("RECOVERY_CODE", Error::WrongSecret { remaining: None, retry_after: None })));
    let mistyped = recover(&new, with_both("0000"), OldDevices::Keep, None).await;
    assert_eq!(mistyped.map(drop), Err(of("RECOVERY_CODE", Error::NotACode)));
    let method = with_both(&code).method();
    assert_eq!(shown(&phone, &method).await.guesses_left, Some(10));
    recover(&new, with_both(&code), OldDevices::Keep, Some(addresses)).await.unwrap();
}

#[tokio::test]
async fn a_password_that_is_locked_out_makes_the_whole_no_protection() {
    let world = World::start().await;
    let (both, token, phone, addresses) = vault_and_password(&world).await;
    let new = both.phone(&world, &token);
    for left in (1..10).rev() {
        let wrong = recover(&new, both.recovery_with(OTHER_PASSWORD), OldDevices::Keep, None).await;
        let expected = Error::WrongSecret { remaining: Some(left), retry_after: None };
        assert_eq!(wrong.map(drop), Err(of("PASSWORD", expected)));
    }
    let wrong = recover(&new, both.recovery_with(OTHER_PASSWORD), OldDevices::Keep, None).await;
    assert_eq!(wrong.map(drop), Err(of("PASSWORD", Error::LockedOut)));
    let status = shown(&phone, &both.method()).await;
    assert_eq!((status.guesses_left, status.status.as_str()), (Some(0), "incomplete"));
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap());
    assert_eq!(recovers(&both, &new, &addresses).await.map(drop), Err(of("PASSWORD", Error::LockedOut)));
    phone.halfkey.backup_wallet(both.backup()).await.unwrap();
    assert!(phone.halfkey.is_wallet_backed_up().await.unwrap());
    recovers(&both, &both.phone(&world, &token), &addresses).await.unwrap();
}

#[tokio::test]
async fn a_set_and_its_members_alone_are_independent_backups() {
    let world = World::start().await;
    let (both, token, phone, addresses) = vault_and_password(&world).await;
    phone.halfkey.backup_wallet(both.0.backup()).await.unwrap();
    phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap();
    assert_eq!(both.names().len(), 2);
    // A fresh backup of one leaves the record of the other.
    phone.halfkey.backup_wallet(both.0.backup()).await.unwrap();
    phone.halfkey.backup_wallet(both.backup()).await.unwrap();
    assert_eq!(both.names().len(), 2);
    let recovery = || RecoveryMethod::all_of([both.0.recovery(), with(PASSWORD)]).unwrap();
    for method in [both.0.recovery(), with(OTHER_PASSWORD), recovery()] {
        phone.halfkey.verify_backup(method).await.unwrap();
    }
    let named = |method: &Method| method.to_string();
    let mut methods: Vec<_> = phone.halfkey.available_recovery_methods().await.unwrap().iter().map(named).collect();
    methods.sort();
    assert_eq!(methods, ["ALL_OF(CUSTOM:VAULT_1,PASSWORD)", "CUSTOM:VAULT_1", "PASSWORD"]);
    let new = both.phone(&world, &token);
    recovers(&both, &new, &addresses).await.unwrap().fresh_backup.unwrap();
    assert_eq!(both.names().len(), 2);
    // Removing the set leaves the others, and the other way round.
    new.halfkey.remove_backup_method(both.method()).await.unwrap();
    assert_eq!(both.names().len(), 1);
    assert_eq!(phone.halfkey.verify_backup(recovery()).await.map(drop), Err(Error::NotBackedUp));
    phone.halfkey.verify_backup(both.0.recovery()).await.unwrap();
    phone.halfkey.backup_wallet(both.backup()).await.unwrap();
    phone.halfkey.remove_backup_method(both.0.method()).await.unwrap();
    phone.halfkey.remove_backup_method(Method::Password).await.unwrap();
    assert_eq!(both.names().len(), 1);
    phone.halfkey.verify_backup(recovery()).await.unwrap();
    assert_eq!(phone.halfkey.remove_backup_method(both.method()).await, Err(Error::LastProtection));
}

#[tokio::test]
async fn the_private_keys_come_out_through_a_set() {
    let world = World::start().await;
    let (both, token, phone, addresses) = vault_and_password(&world).await;
    world.enable_eject(&token, "{}").await;
    let wrong = phone.halfkey.eject_private_keys(both.recovery_with(OTHER_PASSWORD), None).await;
    let expected = Error::WrongSecret { remaining: Some(9), retry_after: None };
    assert_eq!(wrong.map(drop), Err(of("PASSWORD", expected)));
    let ejected = phone.halfkey.eject_private_keys(both.recovery(), Some(addresses.clone())).await.unwrap();
    let Ejecting::Keys(keys) = ejected else { panic!("{ejected:?}") };
    assert_eq!(keys.addresses, addresses);
    phone.halfkey.acknowledge_eject().await.unwrap();
}

#[tokio::test]
async fn the_worst_member_is_what_the_status_says() {
    let world = World::start().await;
    let user = User::new(&world, 60).await;
    let phone = user.phone(&world);
    phone.halfkey.create_wallet().await.unwrap();
    // Nobody but this device has read what lies in the keychain.
    let set = |other: &str| BackupMethod::all_of([backup_by("ICLOUD"), backup_by(other)]).unwrap();
    let with_password = phone.halfkey.backup_wallet(set("PASSWORD")).await.unwrap().method;
    assert!(shown(&phone, &with_password).await.pending_sync);
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap());
    phone.halfkey.confirm_icloud_sync().await.unwrap();
    assert!(shown(&phone, &with_password).await.sync_confirmed_at.is_some());
    assert!(phone.halfkey.is_wallet_backed_up().await.unwrap());
    phone.halfkey.remove_backup_method(with_password.clone()).await.unwrap_err();

    // A passkey that is not synchronised, together with a password.
    user.passkeys.synced(false);
    let other = phone.halfkey.backup_wallet(BackupMethod::all_of(["PASSKEY", "PASSWORD"].map(backup_by)).unwrap());
    let bound = other.await.unwrap();
    assert!(bound.device_bound && shown(&phone, &bound.method).await.asserted_device_bound);
    let new = user.phone(&world);
    let both = || RecoveryMethod::all_of(["PASSWORD", "ICLOUD"].map(|member| recovery_by(member, ""))).unwrap();
    recover(&new, both(), OldDevices::Keep, None).await.unwrap().fresh_backup.unwrap();
    phone.halfkey.verify_backup(both()).await.unwrap();
    assert!(!shown(&phone, &with_password).await.pending_sync, "another device than the one that made it has read it");
}

#[tokio::test]
async fn a_passkey_member_is_the_sets_own_beside_the_single_passkey_backup() {
    let world = World::start().await;
    let user = User::new(&world, 70).await;
    let phone = user.phone(&world);
    phone.halfkey.create_wallet().await.unwrap();
    let keeper = BackupMethod::Passkey(PasskeyBackup { mode: Some(PasskeyMode::Keeper), ..PasskeyBackup::default() });
    phone.halfkey.backup_wallet(keeper).await.unwrap();
    let set = || BackupMethod::all_of(["PASSKEY", "CUSTOM:VAULT"].map(backup_by)).unwrap();
    let recovery = || RecoveryMethod::all_of(["PASSKEY", "CUSTOM:VAULT"].map(|one| recovery_by(one, ""))).unwrap();
    phone.halfkey.backup_wallet(set()).await.unwrap();
    // Each again, with the passkey that it has.
    user.passkeys.asked();
    phone.halfkey.backup_wallet(set()).await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::Passkey(PasskeyBackup::default())).await.unwrap();
    assert!(user.passkeys.asked().iter().all(|asked| matches!(asked, Asked::Get(_))), "no passkey is made anew");
    phone.halfkey.verify_backup(recovery()).await.unwrap();
    phone.halfkey.verify_backup(RecoveryMethod::Passkey).await.unwrap();
    let phone = phone.restarted();
    assert_eq!(phone.halfkey.passkeys().await.unwrap().passkeys.len(), 1);
    phone.halfkey.verify_backup(recovery()).await.unwrap();
}

#[tokio::test]
async fn what_makes_no_set_is_refused_before_anything_is_asked() {
    let code = |members: Vec<BackupMethod>| match BackupMethod::all_of(members).err() {
        Some(Error::InvalidMethod { code }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(vec![]), "MEMBER_COUNT");
    assert_eq!(code(vec![backup_with(PASSWORD)]), "MEMBER_COUNT");
    let pin = BackupMethod::Password { password: Password::new("271828"), kind: PasswordKind::Pin };
    assert_eq!(code(vec![backup_with(PASSWORD), pin]), "MEMBER_TWICE");
    let nested = BackupMethod::all_of([backup_with(PASSWORD), BackupMethod::ICloud]).unwrap();
    assert_eq!(code(vec![nested, BackupMethod::GoogleDrive]), "NOT_A_MEMBER");
    assert_eq!(code(vec![BackupMethod::Custom("a,b".to_owned()), BackupMethod::ICloud]), "NOT_A_MEMBER");
    let nested = RecoveryMethod::all_of([with(PASSWORD), RecoveryMethod::ICloud]).unwrap();
    assert!(RecoveryMethod::all_of([nested, RecoveryMethod::GoogleDrive]).is_err());

    // A member that this app is not set up for: before the other member is asked, and before anything is begun.
    let world = World::start().await;
    let phone = world.phone(&world.client_key().await);
    phone.halfkey.create_wallet().await.unwrap();
    let before = phone.network.sent();
    let set = |other| BackupMethod::all_of([backup_with(PASSWORD), other]).unwrap();
    for (other, expected) in [
        (BackupMethod::GoogleDrive, Error::HostIncomplete { what: "CloudTokenProvider" }),
        (
            BackupMethod::Custom("VAULT".to_owned()),
            Error::MethodNotRegistered { method: Method::custom("VAULT").unwrap() },
        ),
        (
            BackupMethod::ICloud,
            Error::UnsupportedPlatform {
                method: Method::ICloud,
                platform: halfkey_client::Platform::Linux,
                alternatives: vec![Method::Password, Method::GoogleDrive, Method::RecoveryCode],
            },
        ),
    ] {
        assert_eq!(phone.halfkey.backup_wallet(set(other)).await.map(drop), Err(expected));
    }
    // A weak password of a set is as weak as alone.
    let weak = BackupMethod::all_of([backup_with("password"), BackupMethod::RecoveryCode]).unwrap();
    assert!(matches!(phone.halfkey.backup_wallet(weak).await, Err(Error::WeakSecret(_))));
    assert_eq!(phone.network.sent(), before, "nobody was asked");
    assert_eq!(code_of(&phone), "");
}
