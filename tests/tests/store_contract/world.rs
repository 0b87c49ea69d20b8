//! A client that gets as far as a test needs it.

use super::*;
use halfkey_envelope::{
    id::{BackupId, PairId, RecoveryId, WalletId},
    wallet::{Curve, Method},
};
use halfkey_server::store::{
    CommittedBackup, NewHalf, NewRecovery, NewWallet, OldDevices, PendingBackup, Purpose, SealedHalf, SharePublic,
};

/// One client with an enrolled device.
pub struct World {
    pub ground: Ground,
    pub custodian: CustodianId,
    pub client: ClientId,
    pub device: DeviceId,
}

impl World {
    pub async fn enrolled(mut ground: Ground) -> Self {
        let (custodian, client) = ground.client().await;
        let device = ground.new_device();
        ground.store.enrol_first_device(client, &device, NOW).await.unwrap();
        Self { ground, custodian, client, device: device.id }
    }

    /// With active wallets on both curves.
    pub async fn with_wallets(ground: Ground) -> Self {
        let mut world = Self::enrolled(ground).await;
        let new = world.new_wallets();
        let begun = world.store().begin_wallets(world.client, world.device, &new, NOW).await.unwrap();
        let pairs: Vec<PairId> = begun.iter().map(|begun| begun.pair).collect();
        let halves: Vec<NewHalf> = begun.iter().map(|begun| half(begun.pair, begun.curve)).collect();
        world.store().store_signing_halves(world.client, world.device, &halves, NOW).await.unwrap();
        world.store().activate_signing(world.client, world.device, &pairs, NOW).await.unwrap();
        world
    }

    pub fn store(&self) -> Store {
        self.ground.store.clone()
    }

    pub fn new_wallets(&mut self) -> Vec<NewWallet> {
        let entropy = &mut self.ground.entropy;
        let new =
            |curve| NewWallet { curve, wallet: WalletId::generate(entropy, NOW), pair: PairId::generate(entropy, NOW) };
        Curve::ALL.map(new).to_vec()
    }

    pub fn new_pairs(&mut self) -> Vec<(Curve, PairId)> {
        Curve::ALL.map(|curve| (curve, PairId::generate(&mut self.ground.entropy, NOW))).to_vec()
    }

    pub fn new_backup(&mut self) -> BackupId {
        BackupId::generate(&mut self.ground.entropy, NOW)
    }

    pub async fn begin_backup(&mut self, method: &Method, now_ms: u64) -> PendingBackup {
        let (backup, pairs) = (self.new_backup(), self.new_pairs());
        self.store().begin_backup(self.client, self.device, method, backup, &pairs, now_ms).await.unwrap()
    }

    /// Everything up to the commit, with fake halves; returns the envelope's digest too.
    pub async fn prepare_backup(&mut self, method: &Method, now_ms: u64) -> (PendingBackup, [u8; 32]) {
        let begun = self.begin_backup(method, now_ms).await;
        let (store, client, device) = (self.store(), self.client, self.device);
        let halves: Vec<NewHalf> = begun.shares.iter().map(|share| half(share.pair, share.curve)).collect();
        store.store_custodian_halves(client, device, begun.backup, &halves, now_ms).await.unwrap();
        let envelope = self.ground.bytes();
        let digest = store.store_envelope(client, device, begun.backup, &envelope, None, now_ms).await.unwrap();
        (begun, digest)
    }

    pub async fn back_up(&mut self, method: &Method, now_ms: u64) -> CommittedBackup {
        let (begun, digest) = self.prepare_backup(method, now_ms).await;
        let commit = self.store();
        commit.commit_backup(self.client, self.device, begun.backup, digest, "read_back", now_ms).await.unwrap()
    }

    pub fn new_recovery(&mut self, method: &Method, old_devices: OldDevices, ready_ms: u64) -> NewRecovery {
        NewRecovery {
            step_up: None,
            id: RecoveryId::generate(&mut self.ground.entropy, NOW),
            purpose: Purpose::Recover,
            method: method.clone(),
            device: self.ground.new_device(),
            old_devices,
            nonce: self.ground.bytes(),
            pairs: self.new_pairs(),
            ready_ms: Some(ready_ms),
            expires_ms: ready_ms + 24 * HOUR,
        }
    }

    /// A second device, through a recovery that keeps the first.
    pub async fn recover(&mut self, method: &Method, old_devices: OldDevices, now_ms: u64) -> DeviceId {
        let new = self.new_recovery(method, old_devices, now_ms);
        let (store, client) = (self.store(), self.client);
        let recovery = store.begin_recovery(client, &new, now_ms).await.unwrap();
        let (_, pending) = store.prove_possession(client, recovery.id, &ONE_TIME, now_ms).await.unwrap();
        let halves: Vec<NewHalf> = pending.iter().map(|begun| half(begun.pair, begun.curve)).collect();
        store.store_signing_halves(client, new.device.id, &halves, now_ms).await.unwrap();
        store.commit_recovery(client, recovery.id, now_ms).await.unwrap();
        new.device.id
    }
}

/// The key that every proof of possession names.
pub const ONE_TIME: [u8; 32] = [7; 32];
pub const HOUR: u64 = 60 * 60 * 1000;
pub const DAY: u64 = 24 * HOUR;

/// The public side that every pair of a curve has; the store believes whoever verified it.
pub fn public(curve: Curve) -> SharePublic {
    SharePublic {
        public_key: vec![curve.code(); 33],
        chain_code: [curve.code(); 32],
        client_point: vec![2; 33],
        peer_point: vec![3; 33],
    }
}

pub fn half(pair: PairId, curve: Curve) -> NewHalf {
    let sealed = SealedHalf { half: pair.as_bytes().to_vec(), data_key: vec![9; 4] };
    NewHalf { pair, public: public(curve), sealed }
}
