//! Versioned migrations. A database with a schema newer than this program is refused, never guessed at.

use super::{
    Error,
    sql::{Pool, Tx, sql},
};

/// The migrations of the main database, oldest first. Never edit one that was released: add the next.
pub(super) const MAIN: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
    include_str!("migrations/0010.sql"),
];

/// Brings the schema called `name` up to the last of `migrations`, in one transaction.
pub(crate) async fn migrate(pool: &Pool, name: &'static str, migrations: &[&str]) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    if pool.is_postgres() {
        // Nodes that start together wait for the first of them. The number is "halfkey" in ASCII.
        sql("SELECT pg_advisory_xact_lock(29380515780584825)::text AS locked").all(&mut tx).await?;
    }
    let table = "CREATE TABLE IF NOT EXISTS halfkey_schema \
                 (name TEXT NOT NULL PRIMARY KEY, version BIGINT NOT NULL) STRICT;";
    pool.script(&mut tx, table).await?;
    let known = migrations.len() as u64;
    let found = version(&mut tx, name).await?;
    if found > known {
        return Err(Error::NewerSchema { found, known });
    }
    for migration in migrations.iter().skip(found as usize) {
        pool.script(&mut tx, migration).await?;
    }
    sql("INSERT INTO halfkey_schema (name, version) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET version = excluded.version")
    .bind(name)
    .bind(known)
    .execute(&mut tx)
    .await?;
    tx.commit().await
}

async fn version(tx: &mut Tx, name: &'static str) -> Result<u64, Error> {
    let row = sql("SELECT version FROM halfkey_schema WHERE name = $1").bind(name).optional(tx).await?;
    row.map_or(Ok(0), |row| row.number("version"))
}
