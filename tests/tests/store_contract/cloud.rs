//! Records in users' clouds.

use super::{world::World, *};
use halfkey_envelope::{
    id::{BackupId, VerificationId},
    wallet::Method,
};
use halfkey_server::store::{Error, OldDevices, What};

fn unknown<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(&result, Err(Error::Unknown(_))), "{result:?}");
}

pub async fn a_record_keeps_its_root_and_account_and_belongs_to_its_client(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client) = (world.store(), world.client);
    let (_, stranger) = world.ground.client().await;
    let (begun, digest) = world.prepare_backup(&Method::GoogleDrive, NOW).await;
    let id = begun.backup;
    unknown(store.cloud_record(client, id).await);
    unknown(store.state_cloud_account(client, id, &[1; 32], "a…").await);
    unknown(store.begin_cloud_record(stranger, id, 1, NOW).await);
    unknown(store.begin_cloud_record(client, BackupId::from_bytes([9; 16]), 1, NOW).await);
    assert_eq!(store.begin_cloud_record(client, id, 3, NOW).await.unwrap().root, 3);
    assert_eq!(store.begin_cloud_record(client, id, 4, NOW + 1).await.unwrap().root, 3, "the first one stays");
    unknown(store.cloud_record(stranger, id).await);
    unknown(store.state_cloud_account(stranger, id, &[1; 32], "a…").await);
    store.state_cloud_account(client, id, &[1; 32], "a…").await.unwrap();
    store.state_cloud_account(client, id, &[2; 32], "b…").await.unwrap();
    store.commit_backup(client, world.device, id, digest, "read_back", NOW + 2).await.unwrap();
    unknown(store.state_cloud_account(client, id, &[3; 32], "c…").await);
    let known = store.backup(client, id).await.unwrap().cloud.unwrap();
    assert_eq!((known.root, known.account, known.hint.as_deref()), (3, Some([2; 32]), Some("b…")));
    assert_eq!((known.read_ms, known.confirmed_ms), (None, None));
    assert_eq!(store.backups(client).await.unwrap()[0].cloud.as_ref(), Some(&known));
}

pub async fn pepper_roots_are_numbered_and_never_replaced(ground: Ground) {
    let store = ground.store.clone();
    assert_eq!(store.newest_pepper_root().await.unwrap(), None);
    store.server_key("pepper-root-9", b"nine", NOW).await.unwrap();
    store.server_key("pepper-root-10", b"ten", NOW).await.unwrap();
    store.server_key("another", b"key", NOW).await.unwrap();
    assert_eq!(store.newest_pepper_root().await.unwrap(), Some(10), "by number, not by name");
    assert_eq!(store.server_key("pepper-root-9", b"other", NOW).await.unwrap(), b"nine");
    store.server_key("pepper-root-x", b"?", NOW).await.unwrap();
    assert!(matches!(store.newest_pepper_root().await, Err(Error::Corrupt(_))));
}

pub async fn a_reader_is_another_device_and_a_confirmation_is_of_the_active_backup(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let icloud = Method::ICloud;
    unknown(store.confirm_sync(client, device, &icloud, NOW).await);
    let (begun, digest) = world.prepare_backup(&icloud, NOW).await;
    store.begin_cloud_record(client, begun.backup, 1, NOW).await.unwrap();
    unknown(store.confirm_sync(client, device, &icloud, NOW).await);
    store.commit_backup(client, device, begun.backup, digest, "read_back", NOW).await.unwrap();
    let record = async |backup| store.cloud_record(client, backup).await.unwrap();

    let drill = async |device, passed, now_ms| {
        let id = VerificationId::from_bytes([u8::try_from(now_ms - NOW).unwrap(); 16]);
        store.begin_verification(client, device, &icloud, id, NOW + 1_000, now_ms).await.unwrap();
        store.finish_verification(client, device, id, passed, now_ms).await.unwrap();
    };
    drill(device, true, NOW + 1).await;
    assert_eq!(record(begun.backup).await.read_ms, None, "its own maker");
    let second = world.recover(&icloud, OldDevices::Keep, NOW + 2).await;
    assert_eq!(record(begun.backup).await.read_ms, Some(NOW + 2), "the recovery proved possession");

    let (next, digest) = world.prepare_backup(&icloud, NOW + 3).await;
    store.begin_cloud_record(client, next.backup, 1, NOW + 3).await.unwrap();
    store.commit_backup(client, device, next.backup, digest, "read_back", NOW + 3).await.unwrap();
    drill(second, false, NOW + 4).await;
    assert_eq!(record(next.backup).await.read_ms, None, "the drill failed");
    store.confirm_sync(client, second, &icloud, NOW + 5).await.unwrap();
    store.confirm_sync(client, device, &icloud, NOW + 6).await.unwrap();
    assert_eq!(record(next.backup).await.confirmed_ms, Some(NOW + 5), "once");
    assert_eq!(record(begun.backup).await.confirmed_ms, None, "not of the retired one");
    drill(second, true, NOW + 7).await;
    assert_eq!(record(next.backup).await.read_ms, Some(NOW + 7));
    let told = store.audit(client.as_bytes(), 0, 99).await.unwrap();
    assert_eq!(told.iter().filter(|entry| entry.kind == "backup.sync-confirmed").count(), 1);
    store.revoke_device(client, Some(device), second, Default::default(), NOW + 8).await.unwrap();
    let revoked = store.confirm_sync(client, second, &icloud, NOW + 9).await;
    assert!(matches!(revoked, Err(Error::Unknown(What::Device))), "{revoked:?}");
}
