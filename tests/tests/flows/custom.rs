//! Backup methods of the app's own. They keep the contract of every cloud; what is peculiar to them stands here.

use std::sync::Arc;

use halfkey_client::{
    BackupMethod, Error, OldDevices, RecoveryMethod,
    host::{CustomError, CustomMethod},
    memory::MemoryCustomStore,
};
use halfkey_envelope::wallet::Method;

use crate::{
    clouds::{UsersCloud, a_backup_survives_the_loss_of_any_message, contract, recovers},
    world::{Clouds, World},
};

/// A store of the app's own, under its name.
pub struct Vault {
    pub name: &'static str,
    pub store: MemoryCustomStore,
}

impl Vault {
    pub fn new() -> Self {
        Self { name: "VAULT_1", store: MemoryCustomStore::new() }
    }
}

impl UsersCloud for Vault {
    fn method(&self) -> Method {
        Method::custom(self.name).unwrap()
    }

    fn backup(&self) -> BackupMethod {
        BackupMethod::Custom(self.name.to_owned())
    }

    fn recovery(&self) -> RecoveryMethod {
        RecoveryMethod::Custom(self.name.to_owned())
    }

    fn as_reached_anew(&self) -> Clouds {
        let store: Arc<dyn CustomMethod> = Arc::new(self.store.clone());
        Clouds { custom: vec![(self.name, store)], ..Clouds::default() }
    }

    fn items(&self) -> Vec<(String, Vec<u8>)> {
        self.store.records()
    }

    fn plant(&self, name: &str, content: &[u8]) {
        self.store.plant(name, content);
    }

    fn wipe(&self) {
        self.store.wipe();
    }

    fn damage(&self, change: &dyn Fn(&mut Vec<u8>)) {
        self.store.damage(change);
    }
}

#[tokio::test]
async fn a_method_of_the_apps_own_keeps_the_contract() {
    contract(Vault::new).await;
}

#[tokio::test]
async fn a_backup_by_the_apps_own_method_survives_the_loss_of_any_message() {
    a_backup_survives_the_loss_of_any_message(&Vault::new(), 8).await;
}

#[tokio::test]
async fn a_store_that_fails_is_said_before_a_backup_is_begun_and_leaves_the_older_one() {
    let (world, vault) = (World::start().await, Vault::new());
    let token = world.client_key().await;
    let phone = vault.phone(&world, &token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(vault.backup()).await.unwrap();
    let kept = vault.names();
    for (fault, expected) in [
        (CustomError::Unreachable, Error::CloudUnreachable),
        (CustomError::Locked, Error::CloudLocked),
        (CustomError::Cancelled, Error::Cancelled),
        (CustomError::Full, Error::QuotaExceeded),
    ] {
        let before = phone.network.sent();
        vault.store.script([Some(fault)]);
        assert_eq!(phone.halfkey.backup_wallet(vault.backup()).await, Err(expected.clone()));
        assert_eq!(phone.network.sent(), before, "nothing was begun");
        // In the middle: at the putting, and at the reading back.
        for working in 1..3 {
            vault.store.script((0..working).map(|_| None).chain([Some(fault)]));
            assert_eq!(phone.halfkey.backup_wallet(vault.backup()).await, Err(expected.clone()), "{working}");
            assert_eq!(vault.names(), kept);
        }
        vault.store.script([Some(fault)]);
        assert_eq!(phone.halfkey.verify_backup(vault.recovery()).await, Err(expected.clone()));
        phone.halfkey.verify_backup(vault.recovery()).await.unwrap();
        vault.store.script([Some(fault)]);
        assert_eq!(recovers(&vault, &vault.phone(&world, &token), &addresses).await, Err(expected));
    }
    recovers(&vault, &vault.phone(&world, &token), &addresses).await.unwrap();
}

#[tokio::test]
async fn two_methods_of_the_apps_own_are_two_backups_and_a_name_is_strict() {
    let (world, one) = (World::start().await, Vault::new());
    let two = Vault { name: "CARD", store: one.store.clone() };
    let token = world.client_key().await;
    let phone = one.phone(&world, &token);
    phone.halfkey.register_backup_method(two.name, Arc::new(two.store.clone())).unwrap();
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(one.backup()).await.unwrap();
    phone.halfkey.backup_wallet(two.backup()).await.unwrap();
    assert_eq!(one.names().len(), 2, "in one store, under two names");
    phone.halfkey.backup_wallet(one.backup()).await.unwrap();
    let mut methods = phone.halfkey.available_recovery_methods().await.unwrap();
    methods.sort();
    assert_eq!(methods, [two.method(), one.method()], "CARD before VAULT_1");
    recovers(&one, &one.phone(&world, &token), &addresses).await.unwrap();
    recovers(&two, &two.phone(&world, &token), &addresses).await.unwrap();

    let long = "A".repeat(33);
    for bad in ["", "card", "A-B", "A B", "A,B", "A)", "É", &long] {
        let refused = phone.halfkey.register_backup_method(bad, Arc::new(MemoryCustomStore::new()));
        assert_eq!(refused, Err(Error::InvalidMethod { code: "NAME" }), "{bad:?}");
        let method = Method::Custom(bad.to_owned());
        let refused = phone.halfkey.backup_wallet(BackupMethod::Custom(bad.to_owned())).await;
        assert_eq!(refused, Err(Error::MethodNotRegistered { method }), "{bad:?}");
    }
    assert_eq!(Method::custom(&long[1..]).unwrap().to_string(), format!("CUSTOM:{}", &long[1..]));

    // Where nobody has registered it, the backup is not offered, and nothing is begun.
    let bare = world.phone(&token);
    let before = bare.network.sent();
    for refused in [
        bare.halfkey.recover_wallet(one.recovery(), OldDevices::Keep, None).await.map(drop),
        bare.halfkey.eject_private_keys(one.recovery(), None).await.map(drop),
        bare.halfkey.verify_backup(one.recovery()).await.map(drop),
        bare.halfkey.renew_backup(one.recovery()).await.map(drop),
    ] {
        assert_eq!(refused, Err(Error::MethodNotRegistered { method: one.method() }));
    }
    assert_eq!(bare.network.sent(), before, "nobody was asked");
    assert_eq!(bare.halfkey.available_recovery_methods().await.unwrap(), Vec::<Method>::new());
}
