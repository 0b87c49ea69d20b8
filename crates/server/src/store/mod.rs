//! What the server remembers. Every method is one verb and one transaction; every transition is compare-and-set.
//!
//! The store decides nothing about the life of a pair: it loads the slot, lets `halfkey_protocol::lifecycle` apply the
//! event, and writes what came out. It runs on a SQLite file or on PostgreSQL with the same SQL text.
//!
//! Whatever belongs to a client is looked up *with* that client (and a client with its custodian), so another
//! tenant's identifier looks exactly like an unknown one.

mod audit;
mod backup;
mod ban;
mod clients;
pub(crate) mod cloud;
mod credentials;
mod devices;
mod eject;
mod error;
mod limits;
mod migrate;
mod operator;
mod outbox;
mod recovery;
mod relying_party;
mod removal;
mod restore;
mod shares;
pub(crate) mod slots;
pub(crate) mod sql;
mod status;
mod sweep;
mod verification;
mod wallets;
mod webhooks;

use std::sync::{Arc, atomic::AtomicBool};

use halfkey_envelope::{entropy::Entropy, id::DeploymentId};

pub(crate) use self::migrate::migrate;
use self::sql::{Pool, sql};
pub use self::{
    audit::{AuditEntry, AuditHead},
    backup::{Backup, CommittedBackup, Envelope, PendingBackup, PendingShare},
    clients::{Client, SESSION_IDLE_MS, SESSION_LIFE_MS},
    cloud::CloudRecord,
    credentials::{ApiKey, Authenticated, Custodian, KeyOwner},
    devices::{Device, NONCE_LIFE_MS, NewDevice},
    eject::{EJECTED_KEEP_MS, EjectWindow},
    error::{Error, What},
    limits::{Challenge, Limit},
    operator::{BannedPair, ContestedRecovery, FrozenPair, FrozenPlace, WaitingForOperator},
    outbox::Event,
    recovery::{EndedBy, NewRecovery, OPERATOR_MS, OldDevices, Purpose, Recovery, RecoveryPair, RecoveryState, StepUp},
    restore::Comparison,
    shares::{HalfPlace, HalfUse, NewHalf, SealedHalf, Share, SharePublic, StoredHalf, WrappedDataKey},
    status::SigningPair,
    sweep::Swept,
    verification::Verification,
    wallets::{NewWallet, PendingSigning, Wallet},
    webhooks::{Delivery, DeliveryState, MAX_WEBHOOKS, NewWebhook, Sending, Webhook},
};
use crate::shred::Shred;

/// A server refuses to start when its clock is further than this from the database's (DECISIONS.md D18).
pub const MAX_CLOCK_SKEW_MS: u64 = 5_000;

/// The store, cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    shred: Option<Shred>,
    /// A mark did not reach the shred store: everything is marked anew before the next verb succeeds.
    untold: Arc<AtomicBool>,
}

impl Store {
    /// Opens `sqlite:PATH` or `postgres://…` and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::NewerSchema`] when a later version wrote it; [`Error::UnsupportedUrl`]; or the database's own trouble.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let pool = Pool::connect(url).await?;
        migrate(&pool, "main", migrate::MAIN).await?;
        Ok(Self { pool, shred: None, untold: Arc::default() })
    }

    /// Compares `now_ms` with the database's clock. A SQLite file has the clock of this machine.
    ///
    /// # Errors
    /// [`Error::ClockSkew`] beyond [`MAX_CLOCK_SKEW_MS`].
    pub async fn check_clock(&self, now_ms: u64) -> Result<(), Error> {
        if !self.pool.is_postgres() {
            return Ok(());
        }
        let text = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms";
        let row = sql(text).optional(&self.pool).await?.ok_or(Error::Corrupt("no clock"))?;
        let skew_ms = row.number("now_ms")?.abs_diff(now_ms);
        if skew_ms > MAX_CLOCK_SKEW_MS { Err(Error::ClockSkew { skew_ms }) } else { Ok(()) }
    }

    /// The deployment's identifier, made at the first start.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn deployment(&self, entropy: &mut dyn Entropy, now_ms: u64) -> Result<DeploymentId, Error> {
        let fresh = DeploymentId::generate(entropy, now_ms);
        let mut tx = self.pool.begin().await?;
        sql("INSERT INTO deployment (singleton, id, created_ms) VALUES (1, $1, $2) ON CONFLICT DO NOTHING")
            .bind(fresh)
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        let row = sql("SELECT id FROM deployment").optional(&mut tx).await?;
        let id = row.ok_or(Error::Corrupt("no deployment"))?.id("id")?;
        tx.commit().await?;
        Ok(id)
    }

    /// Stores a wrapped key of the server under `name` unless there is one; returns the one that counts.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn server_key(&self, name: &str, wrapped: &[u8], now_ms: u64) -> Result<Vec<u8>, Error> {
        let mut tx = self.pool.begin().await?;
        sql("INSERT INTO server_keys (name, wrapped, created_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(wrapped)
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        let row = sql("SELECT wrapped FROM server_keys WHERE name = $1").bind(name).optional(&mut tx).await?;
        let wrapped = row.ok_or(Error::Corrupt("no server key"))?.get("wrapped")?;
        tx.commit().await?;
        Ok(wrapped)
    }

    /// The wrapped key of the server under `name`, if one was ever stored.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn find_server_key(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let row = sql("SELECT wrapped FROM server_keys WHERE name = $1").bind(name).optional(&self.pool).await?;
        row.map(|row| row.get("wrapped")).transpose()
    }

    /// Whether the database answers; for readiness probes.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn ping(&self) -> Result<(), Error> {
        sql("SELECT version FROM halfkey_schema").optional(&self.pool).await.map(drop)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
