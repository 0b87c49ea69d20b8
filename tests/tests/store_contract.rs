//! The store's contract, run on SQLite and on a real PostgreSQL: what is promised is promised on both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "store_contract/access.rs"]
mod access;

use halfkey_envelope::{
    entropy::{DangerSeededEntropy, Entropy, random},
    id::{ApiKeyId, ClientId, CustodianId, DeviceId},
};
use halfkey_server::store::{KeyOwner, NewDevice, Store};
use halfkey_tests::postgres::Postgres;

/// A Tuesday.
pub const NOW: u64 = 1_763_800_000_000;

/// A private, empty database.
pub struct Ground {
    pub url: String,
    pub store: Store,
    pub entropy: DangerSeededEntropy,
}

impl Ground {
    async fn open(url: String) -> Self {
        Self { store: Store::connect(&url).await.unwrap(), url, entropy: DangerSeededEntropy::new(1) }
    }

    pub fn bytes(&mut self) -> [u8; 32] {
        *random(&mut self.entropy)
    }

    pub fn entropy(&mut self) -> &mut dyn Entropy {
        &mut self.entropy
    }

    pub async fn custodian(&mut self) -> CustodianId {
        let id = CustodianId::generate(&mut self.entropy, NOW);
        self.store.create_custodian(id, "Acme", NOW).await.unwrap();
        id
    }

    pub async fn client(&mut self) -> (CustodianId, ClientId) {
        let custodian = self.custodian().await;
        let id = ClientId::generate(&mut self.entropy, NOW);
        self.store.create_client(custodian, id, None, NOW).await.unwrap();
        (custodian, id)
    }

    pub fn new_device(&mut self) -> NewDevice {
        let id = DeviceId::generate(&mut self.entropy, NOW);
        NewDevice { id, public_key: self.bytes(), platform: "linux".into(), name: "laptop".into() }
    }

    pub async fn key(&mut self, owner: KeyOwner) -> (ApiKeyId, [u8; 32]) {
        let (id, digest) = (ApiKeyId::generate(&mut self.entropy, NOW), self.bytes());
        self.store.create_key(id, &digest, owner, "all", NOW).await.unwrap();
        (id, digest)
    }
}

/// Runs every test of the contract on both back ends, each in a database of its own.
macro_rules! contract {
    ($($module:ident::$name:ident;)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", folder.path().join("main.db").display());
                super::$module::$name(super::Ground::open(url).await).await;
            })*
        }

        /// One cluster for all of them: starting it costs more than most of the tests.
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn postgres() {
            let cluster = Postgres::start().unwrap();
            let mut failed: Vec<&str> = Vec::new();
            $(
                let url = cluster.create_database(stringify!($name)).unwrap();
                let run = async move { $module::$name(Ground::open(url).await).await };
                if tokio::spawn(run).await.is_err() {
                    failed.push(stringify!($name));
                }
            )*
            assert!(failed.is_empty(), "on PostgreSQL: {failed:?}");
        }
    };
}

contract! {
    access::keys_open_only_what_they_are_for;
    access::another_custodians_ids_look_unknown;
    access::sessions_slide_for_a_day_and_end_after_a_week;
    access::clients_are_listed_page_by_page;
    access::only_the_first_device_is_enrolled_on_trust;
    access::a_request_nonce_is_accepted_once;
    access::a_challenge_is_taken_once_and_only_for_its_purpose;
    access::racing_takers_of_one_challenge_get_it_once;
    access::limits_hold_under_a_race;
    access::the_audit_chain_has_no_gap_under_a_race;
    access::the_deployment_is_made_once;
    access::a_newer_schema_is_refused;
}
