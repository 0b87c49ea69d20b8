//! One style of SQL for SQLite and PostgreSQL (DECISIONS.md D17): the same text, `$1` parameters, `BIGINT` and
//! bytes, run through a small enum.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// An open database.
#[derive(Clone)]
pub enum Database {
    /// A file.
    Sqlite(SqlitePool),
    /// A server; the tables stand in a schema of their own.
    Postgres(PgPool),
}

/// Runs one expression on whichever pool it is.
macro_rules! on {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            $crate::database::Database::Sqlite($pool) => $body,
            $crate::database::Database::Postgres($pool) => $body,
        }
    };
}
pub(crate) use on;

impl Database {
    /// Opens `url` (`sqlite:…` or `postgres:…`) and makes the tables that are missing. `BYTES` in their text is the
    /// type of bytes.
    pub async fn open(url: &str, schema: &'static str, tables: &[&str]) -> Result<Self, sqlx::Error> {
        if url.starts_with("sqlite:") {
            open_sqlite(url, tables).await
        } else {
            open_postgres(url, schema, tables).await
        }
    }

    /// Overwrites what was deleted: empties SQLite's journal, where old pages would stay readable.
    pub async fn forget_deleted(&self) -> Result<(), sqlx::Error> {
        if let Self::Sqlite(pool) = self {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(pool).await?;
        }
        Ok(())
    }

    /// Closes every connection; the files are at rest when this returns.
    pub async fn close(&self) {
        on!(self, pool => pool.close().await);
    }

    /// How far the database's clock is ahead of `now_ms`, in milliseconds. A file has no clock.
    pub async fn clock_skew_ms(&self, now_ms: u64) -> Result<i64, sqlx::Error> {
        let Self::Postgres(pool) = self else {
            return Ok(0);
        };
        let theirs: i64 = sqlx::query_scalar("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)")
            .fetch_one(pool)
            .await?;
        Ok(theirs.saturating_sub(i64::try_from(now_ms).unwrap_or(i64::MAX)))
    }
}

/// Every count is on the disk before its answer leaves, and deleted pages are overwritten with zeros.
async fn open_sqlite(url: &str, tables: &[&str]) -> Result<Database, sqlx::Error> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(20))
        .pragma("secure_delete", "ON");
    // One connection: SQLite has one writer anyway, and nothing then waits for a lock.
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    for table in tables {
        let text = table.replace("BYTES", "BLOB");
        sqlx::query(sqlx::AssertSqlSafe(text)).execute(&pool).await?;
    }
    Ok(Database::Sqlite(pool))
}

async fn open_postgres(url: &str, schema: &'static str, tables: &[&str]) -> Result<Database, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.options([("search_path", schema), ("synchronous_commit", "on")]);
    let pool = PgPoolOptions::new().max_connections(16).connect_with(options).await?;
    let mut transaction = pool.begin().await?;
    // Nodes that start together make the tables one after the other.
    sqlx::query("SELECT pg_advisory_xact_lock(4917420017)").execute(&mut *transaction).await?;
    let text = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
    sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut *transaction).await?;
    for table in tables {
        let text = table.replace("BYTES", "BYTEA");
        sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(Database::Postgres(pool))
}
