//! A backup that somebody opened, and whose recovery was cancelled, is frozen: every way to it stays shut, for whoever
//! knows its secret, until an operator thaws it. The owner's other methods work (METHODS.md G).

use halfkey_api::{
    bytes::Base64,
    message::{DoorContext, DoorRequest, PasskeyDoorRequest, RecoveryPurpose, RecoveryState},
    route::{self, path},
};
use halfkey_client::{BackupMethod, Cancelled, Error, OldDevices, PasskeyMode, RecoveryMethod};
use halfkey_envelope::{
    Record, client_share,
    door::{KeeperId, Request, Sealed},
    keeper::{self, encode_request},
    recovery_code::{self, RecoveryCode},
    wallet::Method,
};
use halfkey_protocol::proof::Purpose;
use halfkey_server::{admin, store::FrozenPlace};
use halfkey_tests::authenticator::Authenticator;

use super::{
    passkeys::passkey,
    raw::Thief,
    signs,
    world::{ORIGIN, PASSWORD, Phone, World, backup_with, recover, with, with_code},
};

const METHODS: [Method; 3] = [Method::Password, Method::Passkey, Method::RecoveryCode];
const FROZEN: &str = "PAIR_FROZEN";

/// Whoever knows every secret of the owner.
struct Owner<'a> {
    world: &'a World,
    token: String,
    phone: Phone,
    passkeys: Authenticator,
    code: String,
}

impl Owner<'_> {
    fn secret(&self, method: &Method) -> RecoveryMethod {
        match method {
            Method::Password => with(PASSWORD),
            Method::Passkey => RecoveryMethod::Passkey,
            _ => with_code(&self.code),
        }
    }

    fn new_phone(&self) -> Phone {
        self.world.phone_of(&self.token, &self.passkeys)
    }

    /// Opens the backup, proves possession, and gets no further; then the owner cancels.
    async fn is_robbed_by(&self, method: &Method) {
        let thief = self.new_phone();
        thief.network.tamper(|path, body| if path == route::CEREMONIES { Vec::new() } else { body });
        let stopped = recover(&thief, self.secret(method), OldDevices::Revoke, None).await;
        assert!(matches!(stopped, Err(Error::PeerMisbehaved { .. })), "{method}: {stopped:?}");
        let open = self.phone.halfkey.recoveries().await.unwrap().remove(0);
        assert_eq!(open.state, RecoveryState::Executing, "{method}");
        assert_eq!(self.phone.halfkey.cancel_recovery(open.id).await, Ok(Cancelled::Over), "{method}");
    }
}

/// Every message that could bring somebody nearer to a half, inside one context.
async fn every_door_says(thief: &Thief<'_>, within: DoorContext, backup: halfkey_envelope::id::BackupId, said: &str) {
    let sealed = || Sealed { keeper: KeeperId::from_bytes([5; 8]), message: vec![7; 64].into() };
    let start = Request::Start { backup, sealed: sealed() };
    let evaluate = Request::Evaluate { backup, sealed: sealed() };
    let unlock = Request::Unlock { backup, sealed: sealed() };
    for request in [start, evaluate, unlock] {
        let body = DoorRequest { within, frame: Base64(request.to_bytes()) };
        let answer = thief.send("POST", route::PASSWORD_DOOR, serde_json::to_vec(&body).unwrap()).await;
        assert_eq!(answer.unwrap_err(), said, "{within:?}");
    }
}

async fn the_keepers_door_says(thief: &Thief<'_>, within: DoorContext, stanza: &[u8], said: &str) {
    let evidence = keeper::Request::Evidence { nonce: [3; 32] };
    let release = keeper::Request::Release { key_id: 1, stanza: stanza.to_vec(), sealed: vec![7; 100] };
    for request in [evidence, release] {
        let body = PasskeyDoorRequest { within: Some(within), frame: Base64(encode_request(&request)) };
        let answer = thief.send("POST", route::PASSKEY_DOOR, serde_json::to_vec(&body).unwrap()).await;
        assert_eq!(answer.unwrap_err(), said, "{within:?}");
    }
}

async fn robbed(world: &World, seed: u64) -> (Owner<'_>, halfkey_client::Addresses) {
    let token = world.client_key().await;
    let passkeys = Authenticator::new(seed, ORIGIN);
    let phone = world.phone_of(&token, &passkeys);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let code = phone.paper.code.lock().unwrap().clone().unwrap();
    (Owner { world, token, phone, passkeys, code }, addresses)
}

#[tokio::test]
async fn after_a_cancelled_theft_every_door_stays_shut_until_it_is_thawed() {
    let world = World::start().await;
    for (nth, method) in METHODS.iter().enumerate() {
        let (owner, addresses) = robbed(&world, 80 + nth as u64).await;
        let backups = owner.phone.halfkey.backup_status().await.unwrap().methods;
        let backup = backups.iter().find(|known| known.method == *method).unwrap().backup_id.unwrap();
        // Begun while all was well: a second recovery, and an eject in a window that stays open.
        let second = Thief::asks(&world, &owner.token, method.clone(), RecoveryPurpose::Recover).await;
        world.enable_eject(&owner.token, r#"{"windowSeconds":3600}"#).await;
        let ejects = Thief::asks(&world, &owner.token, method.clone(), RecoveryPurpose::Eject).await;
        let told = [second.cipher_text().await, ejects.cipher_text().await];
        owner.is_robbed_by(method).await;

        // With the right secret: recover, verify, renew, eject.
        let again = owner.new_phone();
        let recovered = recover(&again, owner.secret(method), OldDevices::Revoke, None).await;
        assert_eq!(recovered.unwrap_err(), Error::Frozen, "{method}");
        let verified = owner.phone.halfkey.verify_backup(owner.secret(method)).await;
        assert_eq!(verified.unwrap_err(), Error::Frozen, "{method}");
        let renewed = owner.phone.halfkey.renew_backup(owner.secret(method)).await;
        assert_eq!(renewed.unwrap_err(), Error::Frozen, "{method}");
        let ejected = again.halfkey.eject_private_keys(owner.secret(method), None).await;
        assert_eq!(ejected.unwrap_err(), Error::Frozen, "{method}");

        // What was begun before: no envelope, no door, no keeper.
        for thief in [&second, &ejects] {
            let id = thief.recovery.as_ref().unwrap().id;
            let read = path(route::RECOVERY_CIPHER_TEXT, &[&id.to_string()]);
            assert_eq!(thief.send("GET", &read, Vec::new()).await.unwrap_err(), FROZEN, "{method}");
            let within = DoorContext::Recovery { id };
            match method {
                Method::Password => every_door_says(thief, within, backup, FROZEN).await,
                Method::Passkey => {
                    let stanza = world.stored(backup).await.1;
                    the_keepers_door_says(thief, within, &stanza, FROZEN).await;
                }
                _ => {
                    // The halves themselves, in the thief's hands since the first time, prove nothing any more.
                    let (envelope, sealed) = world.stored(backup).await;
                    let client = world.client_of(&owner.token).await.id;
                    let place = recovery_code::Place { deployment: world.deployment.id(), client, backup };
                    let code = RecoveryCode::parse(&owner.code).unwrap();
                    let record = recovery_code::open_record(&code, place, &sealed).unwrap();
                    let record = Record::from_bytes(&record).unwrap();
                    let (header, contents) = client_share::open_with_record(&record, &envelope).unwrap();
                    let [first, other] = told.clone();
                    let (purpose, route, told) = match thief.recovery.as_ref().unwrap().purpose {
                        RecoveryPurpose::Recover => (Purpose::Possession, route::RECOVERY_POSSESSION, first),
                        RecoveryPurpose::Eject => (Purpose::Eject, route::RECOVERY_EJECT, other),
                    };
                    let proven = thief.prove_with(&header, &contents, purpose, route, told).await;
                    assert_eq!(proven.unwrap_err(), FROZEN, "{method}");
                }
            }
        }
        let listed = world.client_of(&owner.token).await;
        assert!(listed.wallets.iter().all(|wallet| wallet.state == "active"), "{method}: nothing is ejecting");

        // The owner signs, and recovers and proves by every other method.
        signs(&owner.phone, &addresses).await.unwrap();
        for other in METHODS.iter().filter(|other| *other != method) {
            owner.phone.halfkey.verify_backup(owner.secret(other)).await.unwrap();
            let new = owner.new_phone();
            recover(&new, owner.secret(other), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
            signs(&new, &addresses).await.unwrap();
        }

        // An operator thaws it: it is what it was.
        let client = world.client_of(&owner.token).await.id;
        let frozen = admin::waiting(&world.state).await.unwrap().frozen;
        let FrozenPlace::Backup { backup: held, .. } = &frozen[0].place else { panic!("{frozen:?}") };
        assert_eq!((frozen.len(), *held), (1, backup), "{method}");
        admin::thaw_backup(&world.state, client, backup).await.unwrap();
        owner.phone.halfkey.verify_backup(owner.secret(method)).await.unwrap();
        let new = owner.new_phone();
        recover(&new, owner.secret(method), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
        signs(&new, &addresses).await.unwrap();
    }
}
