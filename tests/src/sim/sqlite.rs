//! The server's real store on SQLite files, for a few hundred schedules.
#![allow(clippy::expect_used, reason = "trouble with the store fails the run")]

use std::path::PathBuf;

use halfkey_envelope::{
    id::{CustodianId, DeviceId},
    wallet::Curve,
};
use halfkey_protocol::lifecycle::{Event, Slot, SlotKey};
use halfkey_server::{
    shred::{Copies, Shred},
    store::Store,
};
use sqlx::{Connection, SqliteConnection};
use tokio::runtime::Runtime;

use super::{
    server::{CLIENT, WALLET},
    store::SlotStore,
};

const CUSTODIAN: CustodianId = CustodianId::from_bytes([0xDD; 16]);

/// Slots in the server's own store, with its own shred store, restarts and restores.
pub struct SqliteSlots {
    runtime: Runtime,
    folder: tempfile::TempDir,
    store: Option<Store>,
    devices: Vec<DeviceId>,
}

impl SqliteSlots {
    /// A fresh database with the rows that slots point to.
    ///
    /// # Panics
    /// When the files cannot be made.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let mut slots = Self { runtime, folder: folder.expect("a folder"), store: None, devices: vec![] };
        slots.open(now_ms);
        let store = slots.store.clone().expect("open");
        slots.runtime.block_on(async {
            store.create_custodian(CUSTODIAN, "simulation", now_ms).await.expect("a custodian");
            store.create_client(CUSTODIAN, CLIENT, None, now_ms).await.expect("a client");
        });
        let wallet = "INSERT INTO wallets (id, client, curve, state, created_ms, version) \
                      VALUES ($1, $2, $3, 'CREATING', 0, 0)";
        slots.raw(|mut file| async move {
            sqlx::query(wallet)
                .bind(WALLET.as_bytes().as_slice())
                .bind(CLIENT.as_bytes().as_slice())
                .bind(Curve::Secp256k1.as_str())
                .execute(&mut file)
                .await
                .expect("a wallet");
            file
        });
        slots
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("sqlite:{}", self.path(name).display())
    }

    fn open(&mut self, now_ms: u64) {
        let (main, shred) = (self.url("main.db"), self.url("shred.db"));
        let store = self.runtime.block_on(async {
            let shred = Shred::connect(&[&shred], Copies::DangerOne).await.expect("the shred store");
            Store::connect(&main).await.expect("the store").attach(shred, now_ms).await.expect("attached").0
        });
        self.store = Some(store);
    }

    fn close(&mut self) {
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
    }

    /// A connection beside the store's, for rows that its verbs would make.
    fn raw<F: Future<Output = SqliteConnection>>(&self, work: impl FnOnce(SqliteConnection) -> F) {
        let path = self.path("main.db");
        self.runtime.block_on(async {
            let file = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("a connection");
            work(file).await.close().await.expect("closed");
        });
    }

    fn enrol(&mut self, changes: &[(SlotKey, Vec<Event>)]) {
        for (key, _) in changes {
            let SlotKey::Signing { device, .. } = *key else { continue };
            if self.devices.contains(&device) {
                continue;
            }
            let row = "INSERT INTO devices (id, client, public_key, platform, name, created_ms, seen_ms) \
                       VALUES ($1, $2, $1, 'simulated', '', 0, 0) ON CONFLICT DO NOTHING";
            self.raw(|mut file| async move {
                let query = sqlx::query(row).bind(device.as_bytes().as_slice()).bind(CLIENT.as_bytes().as_slice());
                query.execute(&mut file).await.expect("a device");
                file
            });
            self.devices.push(device);
        }
    }
}

impl SlotStore for SqliteSlots {
    fn apply(&mut self, changes: &[(SlotKey, Vec<Event>)], now_ms: u64) -> Vec<Slot> {
        self.enrol(changes);
        let store = self.store.as_ref().expect("open");
        self.runtime.block_on(store.danger_apply(CLIENT, changes, now_ms)).expect("what the model could do");
        let stored = self.slots();
        changes.iter().filter_map(|(key, _)| stored.iter().find(|slot| slot.key == *key).cloned()).collect()
    }

    fn reopen(&mut self, now_ms: u64) {
        self.close();
        self.open(now_ms);
    }

    fn slots(&mut self) -> Vec<Slot> {
        let store = self.store.as_ref().expect("open");
        self.runtime.block_on(store.slots(CLIENT)).expect("slots")
    }

    fn copy(&mut self) {
        let copy = self.path("copying.db");
        let _ = std::fs::remove_file(&copy);
        let into = format!("VACUUM INTO '{}'", copy.display());
        self.raw(|mut file| async move {
            sqlx::raw_sql(sqlx::AssertSqlSafe(into)).execute(&mut file).await.expect("a copy");
            file
        });
    }

    fn copied(&mut self) {
        std::fs::rename(self.path("copying.db"), self.path("copy.db")).expect("a completed copy");
    }

    fn restore(&mut self, now_ms: u64) {
        self.close();
        for name in ["main.db-wal", "main.db-shm"] {
            let _ = std::fs::remove_file(self.path(name));
        }
        std::fs::copy(self.path("copy.db"), self.path("main.db")).expect("a restored copy");
        self.devices.clear();
        self.open(now_ms);
    }
}
