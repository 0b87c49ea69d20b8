//! Halves, the key service, the shred store, and what an older main database must not bring back.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    world::{DAY, World, public},
    *,
};
use halfkey_envelope::{
    custodian::DataKey,
    entropy::OsEntropy,
    id::{BackupId, DeploymentId, PairId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{Force, KEEP_UNOPENED_MS, PairState};
use halfkey_server::{
    kms::{EncryptionContext, Health, KeyWrapper, KmsError, LocalKeys, Missing, Vault, VaultError},
    shred::{Copies, Shred},
    store::{Comparison, Error, HalfUse, NewHalf, OldDevices, StoredHalf, What},
};

const PASSWORD: Method = Method::Password;
const CODE: Method = Method::RecoveryCode;
const SIGNING_LIFE: u64 = 300_000;

/// A key service that can be switched off.
struct Switch {
    keys: LocalKeys,
    off: AtomicBool,
}

impl Switch {
    fn answer(&self) -> Result<(), KmsError> {
        if self.off.load(Ordering::SeqCst) { Err(KmsError::Unavailable { retry_after_ms: 5_000 }) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl KeyWrapper for Switch {
    async fn wrap(&self, key: &DataKey, context: &EncryptionContext) -> Result<Vec<u8>, KmsError> {
        self.answer()?;
        self.keys.wrap(key, context).await
    }

    async fn unwrap(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<DataKey, KmsError> {
        self.answer()?;
        self.keys.unwrap(wrapped, context).await
    }

    async fn rewrap(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<Option<Vec<u8>>, KmsError> {
        self.answer()?;
        self.keys.rewrap(wrapped, context).await
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.answer()?;
        self.keys.health().await
    }
}

/// A client whose halves are really sealed.
struct House {
    world: World,
    shred: Shred,
    shred_urls: [String; 2],
    kms: Arc<Switch>,
    vault: Vault,
}

impl House {
    async fn build(mut ground: Ground) -> Self {
        let shred_urls = [ground.beside("shred"), ground.file("shred-copy")];
        let shred = Shred::connect(&[&shred_urls[0], &shred_urls[1]], Copies::AtLeastTwo).await.unwrap();
        let (store, comparison) = ground.store.clone().attach(shred.clone(), NOW).await.unwrap();
        assert_eq!(comparison, Comparison::default(), "a first start");
        ground.store = store;
        let keys = LocalKeys::open(&ground.folder.path().join("kms.key"), Missing::Create).unwrap();
        let kms = Arc::new(Switch { keys, off: AtomicBool::new(false) });
        let world = World::enrolled(ground).await;
        let vault = vault(&world, &shred, &kms);
        Self { world, shred, shred_urls, kms, vault }
    }

    async fn with_wallets(ground: Ground) -> Self {
        let mut house = Self::build(ground).await;
        let new = house.world.new_wallets();
        let (store, client, device) = (house.world.store(), house.world.client, house.world.device);
        let begun = store.begin_wallets(client, device, &new, NOW).await.unwrap();
        let pairs: Vec<PairId> = begun.iter().map(|begun| begun.pair).collect();
        let mut halves = Vec::new();
        for begun in &begun {
            halves.push(house.half(begun.pair, begun.curve, NOW).await);
        }
        store.store_signing_halves(client, device, &halves, NOW).await.unwrap();
        store.activate_signing(client, device, &pairs, NOW).await.unwrap();
        house
    }

    /// The secret of a pair is its own id.
    async fn half(&self, pair: PairId, curve: halfkey_envelope::wallet::Curve, now_ms: u64) -> NewHalf {
        let client = self.world.client;
        let sealed = self.vault.seal(client, pair, pair.as_bytes(), &mut OsEntropy, now_ms).await.unwrap();
        NewHalf { pair, public: public(curve), sealed }
    }

    async fn back_up(&mut self, method: &Method, now_ms: u64) -> BackupId {
        let begun = self.world.begin_backup(method, now_ms).await;
        let (store, client, device) = (self.world.store(), self.world.client, self.world.device);
        let mut halves = Vec::new();
        for share in &begun.shares {
            halves.push(self.half(share.pair, share.curve, now_ms).await);
        }
        store.store_custodian_halves(client, device, begun.backup, &halves, now_ms).await.unwrap();
        let envelope = self.world.ground.bytes();
        let digest = store.store_envelope(client, device, begun.backup, &envelope, None, now_ms).await.unwrap();
        store.commit_backup(client, device, begun.backup, digest, "read_back", now_ms).await.unwrap();
        begun.backup
    }

    async fn signing_half(&self) -> StoredHalf {
        let (store, client) = (self.world.store(), self.world.client);
        let pair = store.signing_pairs(client).await.unwrap()[0].share.id;
        store.signing_half(client, self.world.device, pair, HalfUse::Sign).await.unwrap()
    }

    /// The snapshot takes the place of the main database and meets the newest shred store.
    async fn restore(&mut self, snapshot: &str, now_ms: u64) -> Comparison {
        let store = Store::connect(snapshot).await.unwrap();
        let (store, comparison) = store.attach(self.shred.clone(), now_ms).await.unwrap();
        self.world.ground.store = store;
        self.vault = vault(&self.world, &self.shred, &self.kms);
        comparison
    }

    /// A copy of the main database as it is now.
    async fn snapshot(&mut self, name: &str) -> String {
        let copy = self.world.ground.snapshot(name).await;
        let store = self.world.store();
        let (store, comparison) = store.attach(self.shred.clone(), NOW).await.unwrap();
        assert!(!comparison.restored, "a restart is no restore");
        self.world.ground.store = store;
        self.vault = vault(&self.world, &self.shred, &self.kms);
        copy
    }
}

fn vault(world: &World, shred: &Shred, kms: &Arc<Switch>) -> Vault {
    let kms: Arc<dyn KeyWrapper> = Arc::clone(kms) as Arc<dyn KeyWrapper>;
    Vault::new(world.store(), shred.clone(), kms, DeploymentId::from_bytes([1; 16]), SIGNING_LIFE)
}

pub async fn a_half_opens_in_its_own_row_alone(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    let backup = house.back_up(&PASSWORD, NOW).await;
    let (store, client) = (house.world.store(), house.world.client);
    let halves = store.custodian_halves(client, backup, HalfUse::Recover).await.unwrap();
    for half in &halves {
        let opened = house.vault.open(client, half, NOW).await.unwrap();
        assert_eq!(opened.as_slice(), half.share.id.as_bytes());
        assert!(!half.sealed.half.windows(16).skip(200).any(|window| window == opened.as_slice()), "not in the clear");
    }
    let swapped = StoredHalf { sealed: halves[1].sealed.clone(), ..halves[0].clone() };
    assert!(matches!(house.vault.open(client, &swapped, NOW).await, Err(VaultError::Kms(KmsError::Refused))));
    let mut data_key_only = halves[0].clone();
    data_key_only.sealed.half = halves[1].sealed.half.clone();
    assert!(matches!(house.vault.open(client, &data_key_only, NOW).await, Err(VaultError::Half(_))));
    let (_, stranger) = house.world.ground.client().await;
    assert!(house.vault.open(stranger, &halves[0], NOW).await.is_err());
    let again = house.vault.seal(client, halves[0].share.id, b"stored anew", &mut OsEntropy, NOW).await.unwrap();
    let anew = StoredHalf { sealed: again, ..halves[0].clone() };
    assert_eq!(house.vault.open(client, &anew, NOW).await.unwrap().as_slice(), b"stored anew");
    assert!(house.vault.open(client, &halves[0], NOW).await.is_ok(), "the same shred key");
}

pub async fn a_removed_method_stays_removed_in_an_older_database(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    let backup = house.back_up(&PASSWORD, NOW).await;
    house.back_up(&CODE, NOW).await;
    let (client, device) = (house.world.client, house.world.device);
    let half = house.world.store().custodian_halves(client, backup, HalfUse::Recover).await.unwrap().remove(0);
    let yesterday = house.snapshot("yesterday").await;
    let store = house.world.store();
    let removed = store.remove_method(client, device, &PASSWORD, Force::default(), NOW + 1).await.unwrap();
    assert_eq!(removed, Some(backup));
    assert_eq!(store.sweep(None, NOW + 2).await.unwrap().shredded, 0, "no replica knows of it yet");
    assert!(house.vault.open(client, &half, NOW).await.is_ok(), "retired is not erased");
    assert_eq!(store.sweep(Some(NOW + 1), NOW + 3).await.unwrap().shredded, 2);
    let gone = house.vault.open(client, &half, NOW).await;
    assert!(matches!(gone, Err(VaultError::Store(Error::Shredded(What::Half)))), "{gone:?}");
    assert_eq!(store.backup(client, backup).await.unwrap().pair.state, PairState::Erased);
    assert_eq!(store.sweep(Some(NOW + 1), NOW + 4).await.unwrap().shredded, 0, "once");

    let comparison = house.restore(&yesterday, NOW + DAY).await;
    assert!(comparison.restored);
    assert_eq!((comparison.corrected, comparison.back_up_again.len()), (1, 0));
    let store = house.world.store();
    assert_eq!(store.backup(client, backup).await.unwrap().pair.state, PairState::Erased, "not revived");
    assert!(store.custodian_halves(client, backup, HalfUse::Recover).await.is_err());
    let gone = house.vault.open(client, &half, NOW).await;
    assert!(matches!(gone, Err(VaultError::Store(Error::Shredded(What::Half)))), "even the sealed row is of no use");
    let resealed = house.vault.seal(client, half.share.id, b"x", &mut OsEntropy, NOW).await;
    assert!(matches!(resealed, Err(VaultError::Store(Error::Shredded(What::Half)))), "and gets no new key");
}

pub async fn a_removal_that_the_shred_store_missed_succeeds_only_with_it(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    house.back_up(&PASSWORD, NOW).await;
    let (store, client, device) = (house.world.store(), house.world.client, house.world.device);
    let copy = sqlx::SqlitePool::connect(&house.shred_urls[1]).await.unwrap();
    sqlx::query("ALTER TABLE shred_devices RENAME TO away").execute(&copy).await.unwrap();
    let revoke = async || {
        let force = Force { last_device: true, last_backup: false };
        store.revoke_device(client, None, device, force, NOW + 1).await
    };
    revoke().await.unwrap_err();
    revoke().await.expect_err("the main database has it, but the shred store still does not");
    sqlx::query("ALTER TABLE away RENAME TO shred_devices").execute(&copy).await.unwrap();
    revoke().await.unwrap();
    let told = sqlx::query("SELECT device FROM shred_devices").fetch_all(&copy).await.unwrap();
    assert_eq!(told.len(), 1);
}

pub async fn t15_an_older_database_revives_no_epoch(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    let first = house.back_up(&PASSWORD, NOW).await;
    let (client, device) = (house.world.client, house.world.device);
    let custodian = house.world.store().custodians().await.unwrap()[0].id;
    house.world.store().open_session(custodian, client, &[1; 32], NOW).await.unwrap();
    let pending = house.world.begin_backup(&CODE, NOW).await;
    let yesterday = house.snapshot("yesterday").await;

    let second = house.back_up(&PASSWORD, NOW + 1).await;
    let other = house.world.recover(&PASSWORD, OldDevices::Revoke, NOW + 2).await;
    let store = house.world.store();
    assert_eq!(
        store.sweep(Some(NOW + 2), NOW + 3).await.unwrap().shredded,
        4,
        "the old device's halves, the old backup"
    );
    assert!(
        matches!(store.backup(client, first).await.unwrap().pair.state, PairState::Erased),
        "opened by the recovery"
    );

    let comparison = house.restore(&yesterday, NOW + DAY).await;
    assert!(comparison.restored);
    assert_eq!(comparison.back_up_again.len(), 2, "both wallets lost their newest pairs");
    let store = house.world.store();
    let states: Vec<PairState> =
        store.slots(client).await.unwrap().iter().flat_map(|s| s.pairs.clone()).map(|p| p.state).collect();
    assert!(states.iter().all(|state| !matches!(state, PairState::Active | PairState::Pending)), "{states:?}");
    assert!(store.custodian_halves(client, first, HalfUse::Recover).await.is_err(), "the old epoch");
    assert!(matches!(store.backup(client, second).await, Err(Error::Unknown(_))));
    assert!(store.cancel_backup(client, device, pending.backup, NOW).await.is_ok(), "given up already");
    assert!(matches!(store.touch_session(&[1; 32], NOW).await, Err(Error::Unknown(_))), "no old session goes on");
    let devices = store.devices(client).await.unwrap();
    assert!(devices.iter().all(|device| device.id != other), "the new device was lost with the newer database");
    assert_eq!(devices[0].revoked_ms, Some(NOW + DAY), "but the revoked one does not come back");
}

pub async fn a_ban_survives_an_older_database(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    let backup = house.back_up(&PASSWORD, NOW).await;
    let yesterday = house.snapshot("yesterday").await;
    let (store, client) = (house.world.store(), house.world.client);
    let pair = house.signing_half().await.share.id;
    store.ban_pair(client, pair, "", NOW).await.unwrap();
    let comparison = house.restore(&yesterday, NOW + DAY).await;
    assert!(comparison.restored && comparison.back_up_again.is_empty());
    let store = house.world.store();
    assert_eq!(store.signing_pair(client, pair).await.unwrap().pair.state, PairState::Banned);
    assert!(store.signing_half(client, house.world.device, pair, HalfUse::Sign).await.is_err());
    assert!(store.custodian_halves(client, backup, HalfUse::Recover).await.is_ok(), "recovery is allowed");
}

pub async fn a_superseded_backup_is_of_use_after_a_restore(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    let backup = house.back_up(&PASSWORD, NOW).await;
    let yesterday = house.snapshot("yesterday").await;
    let next = house.back_up(&PASSWORD, NOW + DAY).await;
    assert_eq!(house.world.store().sweep(Some(NOW + DAY), NOW + 2 * DAY).await.unwrap().shredded, 0, "not opened yet");
    let comparison = house.restore(&yesterday, NOW + 2 * DAY).await;
    assert!(comparison.restored);
    assert_eq!(comparison.back_up_again.len(), 2, "both wallets lost their newest pairs");
    let (store, client) = (house.world.store(), house.world.client);
    assert!(matches!(store.backup(client, next).await, Err(Error::Unknown(_))));
    let halves = store.custodian_halves(client, backup, HalfUse::Recover).await.unwrap();
    assert!(house.vault.open(client, &halves[0], NOW).await.is_ok(), "no wallet is lost");
    let begun = house.world.begin_backup(&PASSWORD, NOW + 2 * DAY).await;
    assert_eq!(begun.generation, 3, "no generation comes twice");
}

pub async fn one_copy_of_the_shred_store_is_refused(ground: Ground) {
    let (one, two) = (ground.beside("one"), ground.file("two"));
    let connect = async |urls: &[&str], wanted| Shred::connect(urls, wanted).await.map(|shred| shred.copies());
    assert!(matches!(connect(&[&one], Copies::AtLeastTwo).await, Err(Error::OneCopy)));
    assert!(matches!(connect(&[&one, &one], Copies::AtLeastTwo).await, Err(Error::OneCopy)), "twice the same is one");
    assert!(matches!(connect(&[], Copies::DangerOne).await, Err(Error::OneCopy)));
    assert_eq!(connect(&[&one, &two], Copies::AtLeastTwo).await.unwrap(), 2);
    assert_eq!(connect(&[&one], Copies::DangerOne).await.unwrap(), 1);
}

pub async fn copies_of_the_shred_store_heal_each_other(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    let backup = house.back_up(&PASSWORD, NOW).await;
    let client = house.world.client;
    let half = house.world.store().custodian_halves(client, backup, HalfUse::Recover).await.unwrap().remove(0);
    let signing = house.signing_half().await;
    let (first, second) = (house.shred_urls[0].clone(), house.shred_urls[1].clone());

    // A crash between two copies: one destroyed the key, the other did not yet.
    let alone = Shred::connect(&[&second], Copies::DangerOne).await.unwrap();
    let place = house.world.store().half_place(client, half.share.id).await.unwrap();
    alone.destroy(half.share.id, place.pair.as_bytes(), "backup", NOW).await.unwrap();
    assert!(house.shred.key(half.share.id).await.is_ok());
    let healed = Shred::connect(&[&first, &second], Copies::AtLeastTwo).await.unwrap();
    assert!(matches!(healed.key(half.share.id).await, Err(Error::Shredded(_))), "destroyed in one is destroyed in all");

    // A copy that is lost is made again from the other.
    let lost = house.world.ground.file("a-new-disk");
    let moved = Shred::connect(&[&lost, &second], Copies::AtLeastTwo).await.unwrap();
    let alone = Shred::connect(&[&lost], Copies::DangerOne).await.unwrap();
    for shred in [&moved, &alone] {
        let (known, found) = (healed.key(signing.share.id).await.unwrap(), shred.key(signing.share.id).await.unwrap());
        assert_eq!(known.expose(), found.expose());
        assert!(matches!(shred.key(half.share.id).await, Err(Error::Shredded(_))));
    }
    let wrong = Shred::connect(&[&house.world.ground.file("empty")], Copies::DangerOne).await.unwrap();
    let store = Store::connect(&house.world.ground.url).await.unwrap();
    let (_, comparison) = store.attach(wrong, NOW).await.unwrap();
    assert_eq!(comparison.without_shred_key, 4, "the wrong shred store is told from the right one");
}

pub async fn an_outage_of_the_key_service_loses_nothing(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    let backup = house.back_up(&PASSWORD, NOW).await;
    let client = house.world.client;
    let signing = house.signing_half().await;
    let custodian = house.world.store().custodian_halves(client, backup, HalfUse::Recover).await.unwrap().remove(0);
    house.vault.open(client, &signing, NOW).await.unwrap();
    house.vault.open(client, &custodian, NOW).await.unwrap();

    house.kms.off.store(true, Ordering::SeqCst);
    let away = |result| matches!(result, Err(VaultError::Kms(KmsError::Unavailable { .. })));
    assert!(house.vault.open(client, &signing, NOW + SIGNING_LIFE - 1).await.is_ok(), "within its lifetime");
    assert!(away(house.vault.open(client, &signing, NOW + SIGNING_LIFE).await));
    assert!(away(house.vault.open(client, &custodian, NOW).await), "custodian halves are never cached");
    let sealed = house.vault.seal(client, custodian.share.id, b"x", &mut OsEntropy, NOW).await;
    assert!(matches!(sealed, Err(VaultError::Kms(KmsError::Unavailable { .. }))));

    house.kms.off.store(false, Ordering::SeqCst);
    assert_eq!(house.vault.open(client, &custodian, NOW).await.unwrap().as_slice(), custodian.share.id.as_bytes());
}

pub async fn rewrapping_goes_on_where_it_was_killed(ground: Ground) {
    let mut house = House::with_wallets(ground).await;
    let backup = house.back_up(&PASSWORD, NOW).await;
    let (store, client) = (house.world.store(), house.world.client);
    house.kms.keys.rotate(&mut OsEntropy).unwrap();
    let first = house.vault.rewrap(None, 3).await.unwrap();
    assert_eq!((first.seen, first.changed), (3, 3));
    let repeated = house.vault.rewrap(None, 3).await.unwrap();
    assert_eq!((repeated.seen, repeated.changed, repeated.after), (3, 0, first.after), "idempotent");
    let rest = house.vault.rewrap(first.after, 3).await.unwrap();
    assert_eq!((rest.seen, rest.changed), (1, 1));
    assert_eq!(house.vault.rewrap(rest.after, 3).await.unwrap().after, None);
    for half in store.custodian_halves(client, backup, HalfUse::Recover).await.unwrap() {
        assert_eq!(house.vault.open(client, &half, NOW).await.unwrap().as_slice(), half.share.id.as_bytes());
    }
    assert!(store.sweep(Some(NOW), NOW + KEEP_UNOPENED_MS).await.is_ok());
}
