//! Exit kits: made online, opened with every server off; and what they do not open (METHODS.md G).

use halfkey_api::{
    bytes::Hex,
    chain::bitcoin::Network,
    error::ErrorId,
    message::{BeginRecovery, EnrolDevice, OldDevices, RecoveryPurpose},
    route,
};
use halfkey_client::{BackupMethod, CodeText, Deployment, Error, offline_recover};
use halfkey_envelope::{entropy::DangerSeededEntropy, exit_kit::ExitCode, hpke::SecretKey, wallet::Method};
use halfkey_protocol::descriptor::HpkePublic;
use halfkey_server::admin::{self, Scope};
use halfkey_tests::authenticator::Authenticator;

use super::{
    eject::keys_fit,
    raw::Thief,
    signs,
    world::{ORIGIN, World},
};

const EXPORT: [u8; 32] = [0x5e; 32];

fn public(secret: &[u8; 32]) -> [u8; 32] {
    *SecretKey::from_seed(secret).public_key().as_bytes()
}

async fn trusting(world: &World) -> Deployment {
    world.trusts(|details| details.export_key = Some(HpkePublic(public(&EXPORT)))).await
}

#[tokio::test]
async fn a_kit_gives_the_keys_with_every_server_off_and_opens_nothing_online() {
    let world = World::start().await;
    let token = world.client_key().await;
    let provider = Authenticator::new(91, ORIGIN);
    let unaware = world.phone(&token);
    assert_eq!(unaware.halfkey.make_exit_kit().await, Err(Error::NoExportKey));
    let phone = world.phone_trusting(&token, &provider, trusting(&world).await);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    let unregistered = phone.halfkey.make_exit_kit().await;
    assert_eq!(unregistered, Err(Error::Refused { id: ErrorId::InvalidRequest.as_str().into() }));
    assert!(admin::register_export_key(&world.state, &public(&EXPORT)).await.unwrap());
    assert!(admin::register_export_key(&world.state, &public(&EXPORT)).await.unwrap(), "the same again");
    assert!(!admin::register_export_key(&world.state, &public(&[1; 32])).await.unwrap(), "another is not taken");

    phone.paper.typos.store(3, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(phone.halfkey.make_exit_kit().await, Err(Error::NotConfirmed));
    let kit = phone.halfkey.make_exit_kit().await.unwrap();
    let code = phone.paper.code.lock().unwrap().clone().unwrap();
    signs(&phone, &addresses).await.unwrap();

    // It is no backup: it recovers nothing, and protects nothing.
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap());
    assert!(phone.halfkey.available_recovery_methods().await.unwrap().is_empty());
    world.enable_eject(&token, "{}").await;
    let somebody = Thief::new(&world, &token).await;
    for purpose in [RecoveryPurpose::Recover, RecoveryPurpose::Eject] {
        let new_device =
            EnrolDevice { public_key: Hex(somebody.public_key()), platform: "linux".into(), name: "x".into() };
        let body = BeginRecovery { method: Method::Exit, new_device, old_devices: OldDevices::Keep, purpose };
        let begun = somebody.send("POST", route::RECOVERIES, serde_json::to_vec(&body).unwrap()).await;
        assert_eq!(begun.unwrap_err(), "NOT_BACKED_UP", "{purpose:?}");
    }
    // With a real backup beside it, that is still the last protection.
    phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    assert_eq!(phone.halfkey.remove_backup_method(Method::RecoveryCode).await, Err(Error::LastProtection));

    // The custodian fetches its file: with its own key of the full scope, and nobody else.
    let client = world.client_of(&token).await;
    let path = route::path(route::CUSTODIAN_EXIT_KIT, &[&client.id.to_string()]);
    let (status, theirs) = world.custodian_gets(None, &path).await;
    assert_eq!(status, 200);
    let (_, foreign) = admin::create_custodian(&world.state, "another").await.unwrap();
    assert_eq!(world.custodian_gets(Some(&foreign.key), &path).await.0, 404);
    let own = admin::custodians(&world.state).await.unwrap()[0].id;
    let narrow = admin::create_key(&world.state, own, Scope::Clients).await.unwrap();
    assert_eq!(world.custodian_gets(Some(&narrow.key), &path).await.0, 403);
    // A second kit of the same wallet: other halves.
    let second = phone.halfkey.make_exit_kit().await.unwrap();
    assert_ne!(second.backup_id, kit.backup_id);
    let (_, second_theirs) = world.custodian_gets(None, &path).await;

    // Every server is off from here on.
    let public_key = client.wallets[0].public_key.clone().unwrap().0;
    drop((phone, unaware, world));
    let open = |user: &[u8], code: &str, theirs: &[u8], key: &[u8; 32]| {
        offline_recover(user, &CodeText::new(code), theirs, key, Network::Mainnet)
    };
    keys_fit(&open(&kit.file, &code, &theirs, &EXPORT).unwrap(), &addresses, &public_key);
    let lower = code.to_lowercase().replace('-', " ");
    assert!(open(&kit.file, &lower, &theirs, &EXPORT).is_ok(), "as people write it");

    let other = ExitCode::generate(&mut DangerSeededEntropy::new(92));
    let wrong = Error::WrongSecret { remaining: None, retry_after: None };
    assert_eq!(open(&kit.file, &other.display(), &theirs, &EXPORT).unwrap_err(), wrong);
    assert_eq!(open(&kit.file, "rubbish", &theirs, &EXPORT).unwrap_err(), Error::NotACode);
    assert_eq!(open(&second.file, &code, &theirs, &EXPORT).unwrap_err(), wrong, "each kit has its own code");
    let refused = |code| Error::ExitKit { code };
    assert_eq!(open(&kit.file, &code, &theirs, &[1; 32]).unwrap_err(), refused("EXPORT_KEY"));
    assert_eq!(open(&kit.file, &code, &second_theirs, &EXPORT).unwrap_err(), refused("OTHER_BACKUP"));
    assert_eq!(open(&theirs, &code, &kit.file, &EXPORT).unwrap_err(), refused("USER_FILE"));
    assert_eq!(open(&kit.file, &code, &kit.file, &EXPORT).unwrap_err(), refused("CUSTODIAN_FILE"));
    let mut spoilt = theirs.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    assert_eq!(open(&kit.file, &code, &spoilt, &EXPORT).unwrap_err(), refused("CUSTODIAN_FILE"));
    let mut newer = kit.file.clone();
    newer[6] += 1;
    assert_eq!(open(&newer, &code, &theirs, &EXPORT).unwrap_err(), Error::UpgradeRequired);
}
