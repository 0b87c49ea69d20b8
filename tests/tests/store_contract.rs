//! The store's contract, run on SQLite and on a real PostgreSQL: what is promised is promised on both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "store_contract/access.rs"]
mod access;
#[path = "store_contract/cloud.rs"]
mod cloud;
#[path = "store_contract/eject.rs"]
mod eject;
#[path = "store_contract/kept.rs"]
mod kept;
#[path = "store_contract/life.rs"]
mod life;
#[path = "store_contract/operator.rs"]
mod operator;
#[path = "store_contract/restore.rs"]
mod restore;
#[path = "store_contract/world.rs"]
mod world;

use std::sync::Arc;

use halfkey_envelope::{
    entropy::{DangerSeededEntropy, Entropy, random},
    id::{ApiKeyId, ClientId, CustodianId, DeviceId},
};
use halfkey_server::store::{KeyOwner, NewDevice, Store};
use halfkey_tests::postgres::Postgres;
use tempfile::TempDir;

/// A Tuesday.
pub const NOW: u64 = 1_763_800_000_000;

/// A private, empty database.
pub struct Ground {
    pub url: String,
    pub store: Store,
    pub entropy: DangerSeededEntropy,
    pub folder: TempDir,
    cluster: Option<(Arc<Postgres>, String)>,
}

impl Ground {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("main.db").display());
        Self::open(url, folder, None).await
    }

    async fn postgres(cluster: Arc<Postgres>, name: &str) -> Self {
        let url = cluster.create_database(name).unwrap();
        Self::open(url, tempfile::tempdir().unwrap(), Some((cluster, name.to_owned()))).await
    }

    async fn open(url: String, folder: TempDir, cluster: Option<(Arc<Postgres>, String)>) -> Self {
        let store = Store::connect(&url).await.unwrap();
        Self { store, url, entropy: DangerSeededEntropy::new(1), folder, cluster }
    }

    /// The address of another, empty database on the same back end.
    pub fn beside(&self, name: &str) -> String {
        match &self.cluster {
            Some((cluster, own)) => cluster.create_database(&format!("{own}_{name}")).unwrap(),
            None => self.file(name),
        }
    }

    /// The address of a SQLite file, on either back end.
    pub fn file(&self, name: &str) -> String {
        format!("sqlite:{}", self.folder.path().join(name).display())
    }

    /// Copies the main database as it is at this moment; returns the copy's address.
    pub async fn snapshot(&mut self, name: &str) -> String {
        self.store.close().await;
        let copy = match &self.cluster {
            Some((cluster, own)) => cluster.copy_database(own, &format!("{own}_{name}")).unwrap(),
            None => {
                let copy = self.file(name);
                let path = |url: &str| url.strip_prefix("sqlite:").unwrap().to_owned();
                std::fs::copy(path(&self.url), path(&copy)).unwrap();
                copy
            }
        };
        self.store = Store::connect(&self.url).await.unwrap();
        copy
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
                super::$module::$name(super::Ground::sqlite().await).await;
            })*
        }

        /// One cluster for all of them: starting it costs more than most of the tests.
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn postgres() {
            let cluster = Arc::new(Postgres::start().unwrap());
            let mut failed: Vec<&str> = Vec::new();
            $(
                let ground = Ground::postgres(Arc::clone(&cluster), stringify!($name)).await;
                let run = async move { $module::$name(ground).await };
                if tokio::spawn(run).await.is_err() {
                    failed.push(stringify!($name));
                }
            )*
            assert!(failed.is_empty(), "on PostgreSQL: {failed:?}");
        }
    };
}

contract! {
    access::relying_parties_fit_together_or_not_at_all;
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
    cloud::a_record_keeps_its_root_and_account_and_belongs_to_its_client;
    cloud::pepper_roots_are_numbered_and_never_replaced;
    cloud::a_reader_is_another_device_and_a_confirmation_is_of_the_active_backup;
    life::a_wallet_becomes_active_only_with_all_its_evidence;
    life::a_backup_commits_on_every_curve_at_once;
    life::racing_commits_complete_a_backup_once;
    life::a_device_that_was_revoked_on_the_way_commits_nothing;
    life::racing_devices_on_one_slot_get_one_backup;
    life::a_recovery_makes_a_new_device_and_revokes_the_old;
    life::a_recovery_waits_and_expires;
    life::a_theft_that_is_cancelled_freezes_the_backup;
    life::another_clients_pairs_look_unknown;
    life::the_last_protection_is_not_removed;
    life::a_ban_is_durable_and_leaves_recovery_open;
    life::a_pair_that_stays_pending_expires;
    life::events_are_delivered_at_least_once_and_then_no_more;
    life::a_drill_counts_only_when_it_passed;
    operator::a_reviewed_ban_is_healed_once_and_the_old_half_signs_nothing;
    operator::a_ban_that_is_upheld_waits_no_more_and_heals_nothing;
    operator::an_operator_lifts_the_limit_of_heals_by_name;
    operator::a_ban_while_a_recovery_makes_the_pair_ends_it_and_freezes_nothing;
    operator::a_second_cancel_by_the_same_device_goes_to_the_operator;
    operator::an_expiry_after_possession_freezes_where_another_device_lives;
    operator::a_device_revoked_in_the_middle_of_its_recovery_freezes_the_backup;
    operator::a_frozen_signing_pair_is_thawed_by_name;
    eject::t21_a_window_is_one_clients_and_ends;
    eject::t21_the_halves_leave_only_when_the_wallets_are_ejecting;
    eject::t21_both_halves_stay_for_thirty_days_after_the_acknowledgement;
    eject::t21_an_eject_that_has_begun_survives_a_restore;
    kept::state_is_taken_once_by_its_device_at_its_step;
    kept::t15_racing_takers_of_one_state_get_it_once;
    kept::the_same_device_takes_its_session_over;
    kept::t22_session_flooding_is_bounded;
    kept::t15_a_session_opened_ahead_is_replaced_and_taken_once;
    kept::an_edited_or_swapped_row_does_not_open;
    kept::t15_a_restart_forgets_every_session;
    restore::a_half_opens_in_its_own_row_alone;
    restore::a_removed_method_stays_removed_in_an_older_database;
    restore::a_removal_that_the_shred_store_missed_succeeds_only_with_it;
    restore::t15_an_older_database_revives_no_epoch;
    restore::a_ban_survives_an_older_database;
    restore::a_superseded_backup_is_of_use_after_a_restore;
    restore::one_copy_of_the_shred_store_is_refused;
    restore::copies_of_the_shred_store_heal_each_other;
    restore::an_outage_of_the_key_service_loses_nothing;
    restore::rewrapping_goes_on_where_it_was_killed;
}
