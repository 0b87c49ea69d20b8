//! The shred store: its own database, with a key per registration, and the tombstones. Destroying a key destroys
//! the registration in every copy of the other database (PROTOCOL.md 4.4).

use halfkey_envelope::{
    door::State,
    entropy::{OsEntropy, random},
    id::BackupId,
};
use zeroize::Zeroizing;

use crate::database::{Database, on};

const TABLES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS shred_key (
        backup BYTES PRIMARY KEY, shred BYTES NOT NULL, used BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS tombstone (
        backup BYTES PRIMARY KEY, state BIGINT NOT NULL, at BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS restored (
        id BIGINT PRIMARY KEY, through BIGINT NOT NULL, beginning BIGINT NOT NULL)",
];

/// A shred key.
pub type ShredKey = Zeroizing<[u8; 32]>;

/// The shred store.
#[derive(Clone)]
pub struct Shred {
    database: Database,
}

/// What earlier restores left behind: copies of the main database as old as this are never taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Every copy up to this generation is refused; 0 if there was no restore.
    pub through: u64,
    /// The generation of the copy that a restore began with and did not finish.
    pub beginning: Option<u64>,
}

impl Shred {
    /// Opens the database and makes what is missing.
    pub async fn open(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self { database: Database::open(url, "guesskeeper_shred", &TABLES).await? })
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// The key for a registration that is about to be kept: a new one, or the one that an attempt which did not
    /// get further left here. `None` if the id was used before: its registration may be missing from a restored
    /// database, and registering a recorded message again would give all its guesses back.
    pub async fn prepare(&self, backup: BackupId) -> Result<Option<ShredKey>, sqlx::Error> {
        let insert = "INSERT INTO shred_key (backup, shred, used) VALUES ($1, $2, 0) ON CONFLICT (backup) DO NOTHING";
        let fresh = random::<32>(&mut OsEntropy);
        on!(&self.database, pool => {
            sqlx::query(insert).bind(id(backup)).bind(fresh.as_slice()).execute(pool).await?;
        });
        let select = "SELECT shred FROM shred_key WHERE backup = $1 AND used = 0";
        self.select_key(select, backup).await
    }

    /// The registration is committed: from now on [`Self::prepare`] refuses its id.
    pub async fn confirm(&self, backup: BackupId) -> Result<(), sqlx::Error> {
        let update = "UPDATE shred_key SET used = 1 WHERE backup = $1 AND used = 0";
        on!(&self.database, pool => { sqlx::query(update).bind(id(backup)).execute(pool).await?; });
        Ok(())
    }

    /// The key of a registration; `None` once it was destroyed.
    pub async fn key(&self, backup: BackupId) -> Result<Option<ShredKey>, sqlx::Error> {
        self.select_key("SELECT shred FROM shred_key WHERE backup = $1", backup).await
    }

    async fn select_key(&self, query: &'static str, backup: BackupId) -> Result<Option<ShredKey>, sqlx::Error> {
        let key: Option<Vec<u8>> = on!(&self.database, pool => {
            sqlx::query_scalar(query).bind(id(backup)).fetch_optional(pool).await?
        });
        key.map(|key| {
            let key = Zeroizing::new(key);
            key.as_slice().try_into().map(Zeroizing::new).map_err(|_| damaged())
        })
        .transpose()
    }

    /// Destroys the key and leaves a tombstone. May be repeated; the first reason stays.
    pub async fn destroy(&self, backup: BackupId, state: State, now_ms: u64) -> Result<(), sqlx::Error> {
        let bury = "INSERT INTO tombstone (backup, state, at) VALUES ($1, $2, $3) ON CONFLICT (backup) DO NOTHING";
        let delete = "DELETE FROM shred_key WHERE backup = $1";
        on!(&self.database, pool => {
            let mut transaction = pool.begin().await?;
            let at = i64::try_from(now_ms).unwrap_or(i64::MAX);
            sqlx::query(bury).bind(id(backup)).bind(state as i64).bind(at).execute(&mut *transaction).await?;
            sqlx::query(delete).bind(id(backup)).execute(&mut *transaction).await?;
            transaction.commit().await?;
        });
        self.database.forget_deleted().await
    }

    /// Why a registration was destroyed, if it was.
    pub async fn tombstone(&self, backup: BackupId) -> Result<Option<State>, sqlx::Error> {
        let select = "SELECT state FROM tombstone WHERE backup = $1";
        let found: Option<i64> = on!(&self.database, pool => {
            sqlx::query_scalar(select).bind(id(backup)).fetch_optional(pool).await?
        });
        found.map(state).transpose()
    }

    /// All tombstones.
    pub async fn tombstones(&self) -> Result<Vec<(BackupId, State)>, sqlx::Error> {
        let select = "SELECT backup, state FROM tombstone";
        let rows: Vec<(Vec<u8>, i64)> = on!(&self.database, pool => sqlx::query_as(select).fetch_all(pool).await?);
        let one = |(backup, why): (Vec<u8>, i64)| {
            let backup = backup.try_into().map_err(|_| damaged())?;
            Ok((BackupId::from_bytes(backup), state(why)?))
        };
        rows.into_iter().map(one).collect()
    }

    /// What earlier restores left behind.
    pub async fn restored(&self) -> Result<Restored, sqlx::Error> {
        let select = "SELECT through, beginning FROM restored WHERE id = 1";
        let row: Option<(i64, i64)> = on!(&self.database, pool => sqlx::query_as(select).fetch_optional(pool).await?);
        let Some((through, beginning)) = row else {
            return Ok(Restored::default());
        };
        let through = u64::try_from(through).map_err(|_| damaged())?;
        Ok(Restored { through, beginning: u64::try_from(beginning).ok() })
    }

    /// Remembers a restore.
    pub async fn set_restored(&self, restored: Restored) -> Result<(), sqlx::Error> {
        let upsert = "INSERT INTO restored (id, through, beginning) VALUES (1, $1, $2)
            ON CONFLICT (id) DO UPDATE SET through = excluded.through, beginning = excluded.beginning";
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let beginning = restored.beginning.map_or(-1, number);
        on!(&self.database, pool => {
            sqlx::query(upsert).bind(number(restored.through)).bind(beginning).execute(pool).await?;
        });
        Ok(())
    }
}

fn id(backup: BackupId) -> Vec<u8> {
    backup.as_bytes().to_vec()
}

fn state(number: i64) -> Result<State, sqlx::Error> {
    match number {
        2 => Ok(State::LockedOut),
        3 => Ok(State::Erased),
        _ => Err(damaged()),
    }
}

fn damaged() -> sqlx::Error {
    sqlx::Error::Decode("the shred store is damaged".into())
}
