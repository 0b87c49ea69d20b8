//! One SQL text for SQLite and PostgreSQL (DECISIONS.md D17).
//!
//! Statements use `$1`, `RETURNING` and `ON CONFLICT`, which both understand. The differences are held in this file
//! alone: how a connection is made durable, how a transaction begins, and the column types of [`Pool::script`].

use std::{str::FromStr, time::Duration};

use halfkey_envelope::id::{
    ApiKeyId, BackupId, ClientId, CustodianId, DeploymentId, DeviceId, PairId, RecoveryId, SessionId, VerificationId,
    WalletId, WebhookId,
};
use sqlx::{
    AssertSqlSafe, Decode, PgPool, Postgres, Row as _, Sqlite, SqlitePool, Transaction, Type,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use super::Error;

/// How long a statement waits for another writer before it gives up.
const BUSY: Duration = Duration::from_secs(10);

/// A database: a SQLite file or a PostgreSQL server.
#[derive(Clone)]
pub(crate) enum Pool {
    /// One writer, so that nobody in this process waits in SQLite's busy loop; several readers beside it (WAL).
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    /// Any number of nodes on one server.
    Postgres(PgPool),
}

impl Pool {
    /// Opens `sqlite:PATH` (made if missing) or `postgres://…`.
    pub(crate) async fn connect(url: &str) -> Result<Self, Error> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Self::connect_sqlite(path).await;
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Error::UnsupportedUrl);
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| Error::UnsupportedUrl)?;
        let options = options.application_name("halfkey").options([("synchronous_commit", "on")]);
        let pool = PgPoolOptions::new().max_connections(16).acquire_timeout(BUSY).connect_with(options).await?;
        Ok(Self::Postgres(pool))
    }

    async fn connect_sqlite(path: &str) -> Result<Self, Error> {
        create_private(path).map_err(Error::File)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON");
        let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(BUSY);
        let writer = writer.connect_with(options.clone()).await?;
        let readers = SqlitePoolOptions::new().max_connections(4).min_connections(0).acquire_timeout(BUSY);
        Ok(Self::Sqlite { writer, readers: readers.connect_lazy_with(options.pragma("query_only", "ON")) })
    }

    /// Begins a transaction that may write. On SQLite it holds the write lock from its first moment on.
    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Whether this is PostgreSQL.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// After a secret was overwritten: leaves no copy of it in SQLite's log. (PostgreSQL recycles its log by itself.)
    pub(crate) async fn forget_freed(&self) -> Result<(), Error> {
        if let Self::Sqlite { writer, .. } = self {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(writer).await?;
        }
        Ok(())
    }

    /// Waits until every connection is closed.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }

    /// Runs a script of our own (never text from outside) in `tx`, with the column types of this back end:
    /// `BYTES`, `BIGINT`, `STRICT` at the end of a table, and `UNLOGGED` for what need not survive a crash.
    pub(crate) async fn script(&self, tx: &mut Tx, text: &str) -> Result<(), Error> {
        match tx {
            Tx::Sqlite(tx) => {
                let text = text.replace("BYTES", "BLOB").replace("BIGINT", "INTEGER").replace("UNLOGGED ", "");
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut **tx).await?;
            }
            Tx::Postgres(tx) => {
                let text = text.replace("BYTES", "BYTEA").replace(" STRICT;", ";");
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut **tx).await?;
            }
        }
        Ok(())
    }
}

/// The database's file is readable by its owner alone from its first byte on.
fn create_private(path: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if path.is_empty() || path.starts_with(':') {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path of a file is needed"));
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// One transaction; dropped without [`Tx::commit`], it changes nothing.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    /// Makes everything in this transaction durable, then returns.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// Where a statement runs: inside a transaction, or for a mere read on the pool.
pub(crate) enum On<'a> {
    Pool(&'a Pool),
    Tx(&'a mut Tx),
}

impl<'a> From<&'a Pool> for On<'a> {
    fn from(pool: &'a Pool) -> Self {
        Self::Pool(pool)
    }
}

impl<'a> From<&'a mut Tx> for On<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        Self::Tx(tx)
    }
}

/// A bound parameter; `None` is NULL of that type.
pub(crate) enum Value {
    Bytes(Option<Vec<u8>>),
    Text(Option<String>),
    Int(Option<i64>),
}

/// A statement with its parameters.
pub(crate) struct Statement {
    text: &'static str,
    values: Vec<Value>,
}

/// Starts a statement from its text.
pub(crate) const fn sql(text: &'static str) -> Statement {
    Statement { text, values: Vec::new() }
}

macro_rules! query {
    ($self:ident) => {{
        let mut query = sqlx::query($self.text);
        for value in $self.values {
            query = match value {
                Value::Bytes(bytes) => query.bind(bytes),
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
            };
        }
        query
    }};
}

impl Statement {
    /// Binds the next parameter.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it and says how many rows it changed.
    pub(crate) async fn execute(self, tx: &mut Tx) -> Result<u64, Error> {
        Ok(match tx {
            Tx::Sqlite(tx) => query!(self).execute(&mut **tx).await?.rows_affected(),
            Tx::Postgres(tx) => query!(self).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Every row.
    pub(crate) async fn all(self, on: impl Into<On<'_>>) -> Result<Vec<Row>, Error> {
        Ok(match on.into() {
            On::Tx(Tx::Sqlite(tx)) => wrap(query!(self).fetch_all(&mut **tx).await?, Row::Sqlite),
            On::Tx(Tx::Postgres(tx)) => wrap(query!(self).fetch_all(&mut **tx).await?, Row::Postgres),
            On::Pool(Pool::Sqlite { readers, .. }) => wrap(query!(self).fetch_all(readers).await?, Row::Sqlite),
            On::Pool(Pool::Postgres(pool)) => wrap(query!(self).fetch_all(pool).await?, Row::Postgres),
        })
    }

    /// The first row, if there is one. All rows are read, so that a changing statement has run to its end.
    pub(crate) async fn optional(self, on: impl Into<On<'_>>) -> Result<Option<Row>, Error> {
        Ok(self.all(on).await?.into_iter().next())
    }
}

fn wrap<R>(rows: Vec<R>, row: impl Fn(R) -> Row) -> Vec<Row> {
    rows.into_iter().map(row).collect()
}

/// One row of a result.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The column `name`.
    pub(crate) fn get<T>(&self, name: &str) -> Result<T, Error>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(name)?,
            Self::Postgres(row) => row.try_get(name)?,
        })
    }

    /// A column of exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&self, name: &str) -> Result<[u8; N], Error> {
        self.get::<Vec<u8>>(name)?.try_into().map_err(|_| Error::Corrupt("a column of fixed length"))
    }

    /// A column of exactly `N` bytes, or NULL.
    pub(crate) fn optional_array<const N: usize>(&self, name: &str) -> Result<Option<[u8; N]>, Error> {
        let bytes = self.get::<Option<Vec<u8>>>(name)?;
        bytes.map(|bytes| bytes.try_into().map_err(|_| Error::Corrupt("a column of fixed length"))).transpose()
    }

    /// An identifier.
    pub(crate) fn id<I: Id>(&self, name: &str) -> Result<I, Error> {
        self.array(name).map(I::of)
    }

    /// An identifier, or NULL.
    pub(crate) fn optional_id<I: Id>(&self, name: &str) -> Result<Option<I>, Error> {
        Ok(self.optional_array(name)?.map(I::of))
    }

    /// A count or a time in milliseconds.
    pub(crate) fn number(&self, name: &str) -> Result<u64, Error> {
        u64::try_from(self.get::<i64>(name)?).map_err(|_| Error::Corrupt("a negative count"))
    }

    /// A time in milliseconds, or NULL.
    pub(crate) fn optional_number(&self, name: &str) -> Result<Option<u64>, Error> {
        let number = self.get::<Option<i64>>(name)?;
        number.map(|number| u64::try_from(number).map_err(|_| Error::Corrupt("a negative count"))).transpose()
    }

    /// A name out of a closed list.
    pub(crate) fn parse<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        self.get::<String>(name)?.parse().map_err(|_| Error::Corrupt("a name out of a closed list"))
    }
}

/// An identifier of 16 bytes.
pub(crate) trait Id: Copy {
    fn of(bytes: [u8; 16]) -> Self;
}

macro_rules! ids {
    ($($name:ident)*) => {$(
        impl Id for $name {
            fn of(bytes: [u8; 16]) -> Self {
                Self::from_bytes(bytes)
            }
        }

        impl From<$name> for Value {
            fn from(id: $name) -> Self {
                Self::Bytes(Some(id.as_bytes().to_vec()))
            }
        }

        impl From<Option<$name>> for Value {
            fn from(id: Option<$name>) -> Self {
                Self::Bytes(id.map(|id| id.as_bytes().to_vec()))
            }
        }
    )*};
}

ids! { ApiKeyId BackupId ClientId CustodianId DeploymentId DeviceId PairId RecoveryId SessionId VerificationId WalletId WebhookId }

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Some(bytes.to_vec()))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(Some(bytes.to_vec()))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    /// SQL has no unsigned numbers. Times and counts never come near 2⁶³; a configured "for ever" saturates.
    fn from(number: u64) -> Self {
        Self::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<Option<u64>> for Value {
    fn from(number: Option<u64>) -> Self {
        Self::Int(number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)))
    }
}
