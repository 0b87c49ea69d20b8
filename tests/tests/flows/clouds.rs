//! Backups whose record lies in the user's own cloud. [`contract`] is what every cloud has to pass; what is peculiar to
//! one of them stands below it.

use std::sync::Arc;

use halfkey_api::message::{MethodKeyStatement, MethodStatus};
use halfkey_client::{
    Addresses, BackupMethod, DrillLevel, Error, Held, ICloudConfig, Identity, OldDevices, Recovered, RecoveryMethod,
    Resumed,
    host::{SyncedError, SyncedSecretStore},
    memory::MemorySyncedStore,
};
use halfkey_envelope::{
    id::BackupId,
    wallet::{Curve, Method},
};

use crate::{
    losses, signs,
    world::{Clouds, PASSWORD, Phone, World, backup_with, recover, with},
};

/// The cloud of one user, as the contract sees it.
pub trait UsersCloud: Send + Sync {
    fn method(&self) -> Method;
    fn backup(&self) -> BackupMethod;
    fn recovery(&self) -> RecoveryMethod;
    /// How another phone of the user, new out of the box, reaches it.
    fn as_reached_anew(&self) -> Clouds;
    /// Names and contents of everything in it.
    fn items(&self) -> Vec<(String, Vec<u8>)>;
    /// Puts something in, past the SDK.
    fn plant(&self, name: &str, content: &[u8]);
    /// Somebody deletes everything.
    fn wipe(&self);
    /// Changes every content.
    fn damage(&self, change: &dyn Fn(&mut Vec<u8>));

    /// How the SDK says what this cloud came to.
    fn says(&self, error: Error) -> Error {
        error
    }

    fn phone(&self, world: &World, token: &str) -> Phone {
        world.phone_in(token, &self.as_reached_anew())
    }

    fn names(&self) -> Vec<String> {
        self.items().into_iter().map(|(name, _)| name).collect()
    }
}

pub async fn recovers(
    cloud: &dyn UsersCloud,
    phone: &Phone,
    addresses: &Addresses,
) -> halfkey_client::Result<Recovered> {
    recover(phone, cloud.recovery(), OldDevices::Keep, Some(addresses.clone())).await
}

pub async fn shown(phone: &Phone, method: &Method) -> MethodStatus {
    let methods = phone.halfkey.backup_status().await.unwrap().methods;
    methods.into_iter().find(|shown| shown.method == *method).unwrap()
}

/// A user with a wallet and a backup in the cloud.
pub async fn start(world: &World, cloud: &dyn UsersCloud) -> (String, Phone, Addresses, BackupId) {
    let token = world.client_key().await;
    let phone = cloud.phone(world, &token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    let backup = phone.halfkey.backup_wallet(cloud.backup()).await.unwrap();
    assert_eq!((backup.method, backup.share_ids.len()), (cloud.method(), 2));
    (token, phone, addresses, backup.backup_id)
}

/// What every cloud has to pass; each part with a fresh one of `cloud`.
pub async fn contract<C: UsersCloud>(cloud: impl Fn() -> C) {
    let world = World::start().await;
    a_wallet_is_backed_up_lost_recovered_and_signs_again(&world, &cloud()).await;
    what_is_missing_damaged_or_there_twice_is_told_apart(&world, &cloud()).await;
    nothing_of_others_is_touched(&world, &cloud()).await;
    a_failed_backup_leaves_the_older_one_and_no_litter(&world, &cloud()).await;
    a_removed_method_leaves_nothing_in_the_cloud(&world, &cloud()).await;
    an_outdated_backup_of_the_server_is_refused(&cloud()).await;
    what_is_not_set_up_is_said_before_anything_is_begun(&world, &cloud()).await;
}

async fn a_wallet_is_backed_up_lost_recovered_and_signs_again(world: &World, cloud: &dyn UsersCloud) {
    let (token, old, addresses, backup) = start(world, cloud).await;
    assert_eq!(old.halfkey.available_recovery_methods().await.unwrap(), [cloud.method()]);
    assert_eq!(shown(&old, &cloud.method()).await.asserted_method_key, Some(MethodKeyStatement::ReadBack));
    let [(name, content)] = &cloud.items()[..] else { panic!("one item") };
    assert!(name.starts_with("halfkey-1-") && name.len() == "halfkey-1-".len() + 64, "{name}");
    for id in [*backup.as_bytes(), *world.client_of(&token).await.id.as_bytes()] {
        assert!(!name.contains(&hex::encode(id)), "no identifier in a name");
        assert!(!content.windows(16).any(|window| window == id), "nor in the content");
    }
    drop(old);

    // Twice: the fresh backup that a recovery leaves behind opens too.
    let mut before = backup;
    for _ in 0..2 {
        let new = cloud.phone(world, &token);
        let recovered = recovers(cloud, &new, &addresses).await.unwrap();
        assert_eq!((&recovered.addresses, recovered.identity), (&addresses, Identity::Confirmed));
        let fresh = recovered.fresh_backup.unwrap();
        assert_ne!(fresh.backup_id, before);
        before = fresh.backup_id;
        signs(&new, &addresses).await.unwrap();
        let verified = new.halfkey.verify_backup(cloud.recovery()).await.unwrap();
        assert_eq!(verified.backup_id, before);
        assert_eq!(cloud.items().len(), 1, "the record of the backup that counts, and no other");
        assert_eq!(new.halfkey.resume().await, Ok(Resumed::Nothing));
    }
}

async fn what_is_missing_damaged_or_there_twice_is_told_apart(world: &World, cloud: &dyn UsersCloud) {
    let (token, phone, addresses, _) = start(world, cloud).await;
    let new = cloud.phone(world, &token);
    let kept = cloud.items();
    let [(name, content)] = &kept[..] else { panic!("one item") };

    // One of the same name that is not it, before it and after it; and the same twice.
    cloud.plant(name, b"not a record");
    cloud.plant(name, content);
    phone.halfkey.verify_backup(cloud.recovery()).await.unwrap();

    cloud.damage(&|content| *content.last_mut().unwrap() ^= 1);
    assert_eq!(recovers(cloud, &new, &addresses).await, Err(cloud.says(Error::CloudRecordDamaged)));
    finds(&phone, cloud, "CLOUD_RECORD_DAMAGED").await;
    cloud.damage(&|content| content[..4].copy_from_slice(b"HKL2"));
    assert_eq!(phone.halfkey.verify_backup(cloud.recovery()).await, Err(cloud.says(Error::UpgradeRequired)));
    cloud.wipe();
    assert_eq!(recovers(cloud, &new, &addresses).await, Err(cloud.says(Error::CloudRecordNotFound)));
    // What has not come to a keychain yet is not gone; a cloud's complete list tells.
    if cloud.method() == Method::ICloud {
        assert_eq!(phone.halfkey.verify_backup(cloud.recovery()).await, Err(Error::CloudRecordNotFound));
    } else {
        finds(&phone, cloud, "CLOUD_RECORD_NOT_FOUND").await;
    }
    assert!(!new.halfkey.is_wallet_on_device().await.unwrap());

    // A device that still signs puts it right.
    phone.halfkey.backup_wallet(cloud.backup()).await.unwrap();
    recovers(cloud, &cloud.phone(world, &token), &addresses).await.unwrap();
}

/// A drill finds that the method does not hold the key any more, and the backup counts as none.
async fn finds(phone: &Phone, cloud: &dyn UsersCloud, word: &'static str) {
    let Err(Error::BackupBroken(broken)) = phone.halfkey.verify_backup(cloud.recovery()).await else {
        panic!("{word}: not found broken")
    };
    assert_eq!(broken.first(), Some((DrillLevel::MethodKey, Curve::ALL.to_vec())), "{word}");
    assert!(broken.curves.iter().all(|drill| drill.method_key == Held::Failed(word)), "{broken:?}");
    assert!(shown(phone, &cloud.method()).await.verification_failed_at.is_some(), "{word}");
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap(), "{word}");
}

async fn nothing_of_others_is_touched(world: &World, cloud: &dyn UsersCloud) {
    // Another wallet of another client of the same app, in the same account; and what looks like ours.
    let (_, theirs, _, _) = start(world, cloud).await;
    cloud.plant(&format!("halfkey-1-{}", "0".repeat(64)), b"of somebody");
    cloud.plant("notes", b"of the user");
    let others = cloud.names();
    let (token, phone, addresses, _) = start(world, cloud).await;
    phone.halfkey.backup_wallet(cloud.backup()).await.unwrap();
    let new = cloud.phone(world, &token);
    recovers(cloud, &new, &addresses).await.unwrap().fresh_backup.unwrap();
    let names = cloud.names();
    assert_eq!(names.len(), others.len() + 1);
    assert!(others.iter().all(|name| names.contains(name)), "what others have there stays");
    theirs.halfkey.verify_backup(cloud.recovery()).await.unwrap();
}

async fn a_failed_backup_leaves_the_older_one_and_no_litter(world: &World, cloud: &dyn UsersCloud) {
    let (token, phone, addresses, _) = start(world, cloud).await;
    let kept = cloud.names();
    // The envelope cannot be read back: the record is in the cloud by then, and goes again.
    phone.network.tamper(|path, body| match path.ends_with("cipher-text") {
        true => b"{}".to_vec(),
        false => body,
    });
    let failed = phone.halfkey.backup_wallet(cloud.backup()).await;
    assert_eq!(failed, Err(Error::PeerMisbehaved { what: "answer" }));
    phone.network.honest();
    assert_eq!(cloud.names(), kept, "what was put there for nothing is gone");
    phone.halfkey.verify_backup(cloud.recovery()).await.unwrap();

    // The app is killed after the commit went out and before its answer came.
    phone.network.block("/commit");
    assert!(matches!(phone.halfkey.backup_wallet(cloud.backup()).await, Err(Error::Transport(_))));
    phone.network.honest();
    assert_eq!(cloud.names().len(), 2, "one of the two counts, and nobody here knows which");
    let phone = phone.restarted();
    assert_eq!(phone.halfkey.resume().await, Ok(Resumed::BackupDiscarded(cloud.method())));
    phone.halfkey.verify_backup(cloud.recovery()).await.unwrap();
    // The next backup clears up.
    phone.halfkey.backup_wallet(cloud.backup()).await.unwrap();
    assert_eq!(cloud.names().len(), 1);
    recovers(cloud, &cloud.phone(world, &token), &addresses).await.unwrap();
}

async fn a_removed_method_leaves_nothing_in_the_cloud(world: &World, cloud: &dyn UsersCloud) {
    let (token, phone, addresses, _) = start(world, cloud).await;
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    // Removed on a device that did not make the backup.
    let new = cloud.phone(world, &token);
    recover(&new, with(PASSWORD), OldDevices::Keep, None).await.unwrap();
    new.halfkey.remove_backup_method(cloud.method()).await.unwrap();
    assert_eq!(cloud.names(), Vec::<String>::new());
    assert_eq!(phone.halfkey.verify_backup(cloud.recovery()).await, Err(Error::NotBackedUp));
    assert_eq!(new.halfkey.available_recovery_methods().await.unwrap(), [Method::Password]);
    // And on the one that made it; the last protection stays, and with it its record.
    phone.halfkey.backup_wallet(cloud.backup()).await.unwrap();
    phone.halfkey.remove_backup_method(cloud.method()).await.unwrap();
    assert_eq!(cloud.names(), Vec::<String>::new());
    phone.halfkey.backup_wallet(cloud.backup()).await.unwrap();
    assert_eq!(
        phone.halfkey.remove_backup_method(Method::Password).await.err().is_some(),
        cloud.method() == Method::ICloud
    );
    let _ = phone.halfkey.confirm_icloud_sync().await;
    let _ = phone.halfkey.remove_backup_method(Method::Password).await;
    assert_eq!(phone.halfkey.remove_backup_method(cloud.method()).await, Err(Error::LastProtection));
    assert_eq!(cloud.names().len(), 1);
    recovers(cloud, &cloud.phone(world, &token), &addresses).await.unwrap();
}

/// The server's database is an older copy of itself, or it lies: the backup that it offers was replaced.
async fn an_outdated_backup_of_the_server_is_refused(cloud: &dyn UsersCloud) {
    let world = World::start().await;
    let (token, phone, addresses, old) = start(&world, cloud).await;
    let newer = phone.halfkey.backup_wallet(cloud.backup()).await.unwrap().backup_id;
    world.revive(old, newer).await;
    let new = cloud.phone(&world, &token);
    let refused = recovers(cloud, &new, &addresses).await;
    assert_eq!(refused, Err(cloud.says(Error::Rollback { have: old, want: newer })));
}

async fn what_is_not_set_up_is_said_before_anything_is_begun(world: &World, cloud: &dyn UsersCloud) {
    let (token, _, addresses, _) = start(world, cloud).await;
    let bare = world.phone(&token);
    recover(&cloud.phone(world, &token), cloud.recovery(), OldDevices::Keep, None).await.unwrap();
    let before = bare.network.sent();
    let refused = bare.halfkey.backup_wallet(cloud.backup()).await;
    let also = recovers(cloud, &bare, &addresses).await.map(drop);
    match cloud.method() {
        Method::ICloud => {
            let expected = Error::UnsupportedPlatform {
                method: Method::ICloud,
                platform: halfkey_client::Platform::Linux,
                alternatives: vec![Method::Password, Method::GoogleDrive, Method::RecoveryCode],
            };
            assert_eq!((refused.map(drop), also), (Err(expected.clone()), Err(expected)));
        }
        method if method.members().iter().any(|member| matches!(member, Method::Custom(_))) => {
            let method = method.members()[0].clone();
            let expected = Error::MethodNotRegistered { method };
            assert_eq!((refused.map(drop), also), (Err(expected.clone()), Err(expected)));
        }
        _ => {
            let expected = Error::HostIncomplete { what: "CloudTokenProvider" };
            assert_eq!((refused.map(drop), also), (Err(expected.clone()), Err(expected)));
        }
    }
    assert_eq!(bare.network.sent(), before, "nobody was asked");
}

/// The user's iCloud Keychain.
pub struct Keychain {
    first: MemorySyncedStore,
    config: ICloudConfig,
}

impl Keychain {
    fn new() -> Self {
        Self { first: MemorySyncedStore::new(), config: ICloudConfig::default() }
    }

    /// A phone, and its own view of the keychain.
    fn phone_and_view(&self, world: &World, token: &str) -> (Phone, Arc<MemorySyncedStore>) {
        let view = Arc::new(self.first.another_device());
        let synced = Some(Arc::clone(&view) as Arc<dyn SyncedSecretStore>);
        let clouds = Clouds { synced, icloud: self.config, ..Clouds::default() };
        (world.phone_in(token, &clouds), view)
    }
}

impl UsersCloud for Keychain {
    fn method(&self) -> Method {
        Method::ICloud
    }

    fn backup(&self) -> BackupMethod {
        BackupMethod::ICloud
    }

    fn recovery(&self) -> RecoveryMethod {
        RecoveryMethod::ICloud
    }

    fn as_reached_anew(&self) -> Clouds {
        Clouds { synced: Some(Arc::new(self.first.another_device())), icloud: self.config, ..Clouds::default() }
    }

    fn items(&self) -> Vec<(String, Vec<u8>)> {
        self.first.items()
    }

    fn plant(&self, name: &str, content: &[u8]) {
        self.first.plant(name, content);
    }

    fn wipe(&self) {
        self.first.delete_everywhere();
    }

    fn damage(&self, change: &dyn Fn(&mut Vec<u8>)) {
        self.first.damage(change);
    }
}

#[tokio::test]
async fn icloud_keeps_the_contract() {
    contract(Keychain::new).await;
}

#[tokio::test]
async fn icloud_is_pending_until_another_device_has_read_it() {
    let (world, keychain) = (World::start().await, Keychain::new());
    let token = world.client_key().await;
    let (phone, view) = keychain.phone_and_view(&world, &token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    view.hold_back(true);
    let backup = phone.halfkey.backup_wallet(BackupMethod::ICloud).await.unwrap();
    let verified = phone.halfkey.verify_backup(RecoveryMethod::ICloud).await.unwrap();
    assert_eq!(verified.backup_id, backup.backup_id);
    let pending = shown(&phone, &Method::ICloud).await;
    assert_eq!((pending.pending_sync, pending.verified_at, pending.sync_confirmed_at), (true, None, None));
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap(), "it may never leave this device");

    let (new, _) = keychain.phone_and_view(&world, &token);
    assert_eq!(recovers(&keychain, &new, &addresses).await, Err(Error::CloudRecordNotFound), "not yet here");
    assert!(shown(&phone, &Method::ICloud).await.pending_sync, "who found nothing has read nothing");
    view.synchronise();
    // The same recovery goes on.
    let recovered = recovers(&keychain, &new, &addresses).await.unwrap();
    signs(&new, &addresses).await.unwrap();
    // Its fresh backup is a new item of the new phone, and the old one reads it.
    let fresh = recovered.fresh_backup.unwrap().backup_id;
    assert!(shown(&phone, &Method::ICloud).await.pending_sync);
    let not_yet = phone.halfkey.verify_backup(RecoveryMethod::ICloud).await;
    assert_eq!(not_yet, Err(Error::CloudRecordNotFound), "it is held back still");
    view.synchronise();
    assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::ICloud).await.unwrap().backup_id, fresh);
    let read = shown(&phone, &Method::ICloud).await;
    assert_eq!((read.pending_sync, read.verified_at.is_some()), (false, true));
    assert!(phone.halfkey.is_wallet_backed_up().await.unwrap());
}

#[tokio::test]
async fn the_users_word_that_icloud_keychain_is_on_is_recorded_as_such() {
    let (world, mut keychain) = (World::start().await, Keychain::new());
    let token = world.client_key().await;
    let phone = keychain.phone(&world, &token);
    phone.halfkey.create_wallet().await.unwrap();
    assert_eq!(phone.halfkey.confirm_icloud_sync().await, Err(Error::NotBackedUp));
    phone.halfkey.backup_wallet(BackupMethod::ICloud).await.unwrap();
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap());
    phone.halfkey.confirm_icloud_sync().await.unwrap();
    let confirmed = shown(&phone, &Method::ICloud).await;
    assert!(confirmed.pending_sync && confirmed.sync_confirmed_at.is_some() && confirmed.verified_at.is_none());
    assert!(phone.halfkey.is_wallet_backed_up().await.unwrap());
    // A fresh item is confirmed anew; an app that has asked its user says so once.
    phone.halfkey.backup_wallet(BackupMethod::ICloud).await.unwrap();
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap());
    keychain.config.user_confirmed_sync = true;
    let new = keychain.phone(&world, &token);
    let recovered = recover(&new, RecoveryMethod::ICloud, OldDevices::Keep, None).await.unwrap();
    recovered.fresh_backup.unwrap();
    assert!(shown(&new, &Method::ICloud).await.sync_confirmed_at.is_some());
    assert!(new.halfkey.is_wallet_backed_up().await.unwrap());
}

#[tokio::test]
async fn a_locked_or_forbidden_keychain_is_said_before_a_backup_is_begun_and_leaves_the_older_one() {
    let (world, keychain) = (World::start().await, Keychain::new());
    let token = world.client_key().await;
    let (phone, view) = keychain.phone_and_view(&world, &token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::ICloud).await.unwrap();
    let kept = keychain.names();
    for (fault, expected) in [
        (SyncedError::Locked, Error::CloudLocked),
        (SyncedError::MissingEntitlement, Error::CloudNotEntitled),
        (SyncedError::Unavailable, Error::CloudUnreachable),
    ] {
        let before = phone.network.sent();
        view.script([Some(fault)]);
        assert_eq!(phone.halfkey.backup_wallet(BackupMethod::ICloud).await, Err(expected.clone()));
        assert_eq!(phone.network.sent(), before, "nothing was begun");
        // In the middle: at the putting, and at the reading back.
        for working in 1..3 {
            view.script((0..working).map(|_| None).chain([Some(fault)]));
            assert_eq!(phone.halfkey.backup_wallet(BackupMethod::ICloud).await, Err(expected.clone()), "{working}");
            assert_eq!(keychain.names(), kept);
        }
        view.script([Some(fault)]);
        assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::ICloud).await, Err(expected.clone()));
        phone.halfkey.verify_backup(RecoveryMethod::ICloud).await.unwrap();
        let (new, its) = keychain.phone_and_view(&world, &token);
        its.script([Some(fault)]);
        assert_eq!(recovers(&keychain, &new, &addresses).await, Err(expected));
    }
    recovers(&keychain, &keychain.phone(&world, &token), &addresses).await.unwrap();
}

/// What was read back is compared with what was put there.
#[tokio::test]
async fn a_keychain_that_keeps_something_else_holds_no_backup() {
    struct Forgetful(MemorySyncedStore);

    #[async_trait::async_trait]
    impl SyncedSecretStore for Forgetful {
        async fn put(&self, name: &str, value: &[u8]) -> Result<(), SyncedError> {
            self.0.put(name, &value[..value.len() - 1]).await
        }

        async fn get(&self, name: &str) -> Result<Vec<Vec<u8>>, SyncedError> {
            self.0.get(name).await
        }

        async fn delete(&self, name: &str) -> Result<(), SyncedError> {
            self.0.delete(name).await
        }

        async fn list(&self, prefix: &str) -> Result<Vec<String>, SyncedError> {
            self.0.list(prefix).await
        }
    }

    let world = World::start().await;
    let synced: Arc<dyn SyncedSecretStore> = Arc::new(Forgetful(MemorySyncedStore::new()));
    let clouds = Clouds { synced: Some(synced), ..Clouds::default() };
    let phone = world.phone_in(&world.client_key().await, &clouds);
    phone.halfkey.create_wallet().await.unwrap();
    assert_eq!(phone.halfkey.backup_wallet(BackupMethod::ICloud).await, Err(Error::CloudRecordDamaged));
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap());
}

/// Every request of a backup is lost, and every answer, to the server and to the cloud: what the server holds active
/// opens, and in the end nothing else lies in the cloud.
pub async fn a_backup_survives_the_loss_of_any_message(cloud: &dyn UsersCloud, at_least: usize) {
    let world = World::start().await;
    let (token, phone, addresses, _) = start(&world, cloud).await;
    let before = phone.network.sent();
    phone.halfkey.backup_wallet(cloud.backup()).await.unwrap();
    let total = phone.network.sent() - before;
    assert!(total >= at_least, "the number of messages has shrunk to {total}");
    for (nth, loss) in losses(total) {
        phone.network.lose(nth, loss);
        let result = phone.halfkey.backup_wallet(cloud.backup()).await.map(drop);
        assert!(phone.network.has_lost(), "{nth} {loss:?}: nothing was lost");
        let again = phone.restarted();
        again.halfkey.resume().await.unwrap();
        let opened = again.halfkey.verify_backup(cloud.recovery()).await;
        opened.unwrap_or_else(|error| panic!("{nth} {loss:?}, after {result:?}: {error:?}"));
        signs(&again, &addresses).await.unwrap();
        assert_eq!(again.halfkey.resume().await, Ok(Resumed::Nothing), "{nth} {loss:?}");
    }
    phone.halfkey.backup_wallet(cloud.backup()).await.unwrap();
    assert_eq!(cloud.names().len(), 1);
    recovers(cloud, &cloud.phone(&world, &token), &addresses).await.unwrap();
}

#[tokio::test]
async fn an_icloud_backup_survives_the_loss_of_any_message() {
    a_backup_survives_the_loss_of_any_message(&Keychain::new(), 8).await;
}
