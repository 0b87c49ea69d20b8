//! Backup methods of the application's own (DECISIONS.md D21): a store that the SDK knows nothing about. What is kept there
//! is sealed under a key that it does not have.

use async_trait::async_trait;

/// Why a store of the application's own did not do what was asked. None of them says that a record is not there: that is
/// an answer, and an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CustomError {
    /// No connection, or no answer in time.
    #[error("the store cannot be reached")]
    Unreachable,
    /// The user has to unlock it first, or to sign in.
    #[error("the store is locked")]
    Locked,
    /// The user closed what the store showed.
    #[error("cancelled by the user")]
    Cancelled,
    /// There is no space left.
    #[error("the store is full")]
    Full,
}

/// A backup method of the application's own: where the sealed record of a backup lies. Registered under its name with
/// [`crate::Halfkey::register_backup_method`].
///
/// Names of records are of `a-z`, `0-9` and `-`, at most 90 characters; records have at most 5 KB. A name is put once and
/// never overwritten. Several methods may share one store: no two of their records have the same name.
#[async_trait]
pub trait CustomMethod: Send + Sync {
    /// Keeps a record, durably, before it returns. The same record under the same name again is success.
    async fn put(&self, name: &str, record: &[u8]) -> Result<(), CustomError>;
    /// Every record of that name, and none only where that is certain: a drill that finds none calls the backup broken.
    async fn get(&self, name: &str) -> Result<Vec<Vec<u8>>, CustomError>;
    /// Deletes the records of that name. Deleting none is no error.
    async fn delete(&self, name: &str) -> Result<(), CustomError>;
    /// The names that begin with `prefix`. Among them the SDK finds whether the server offers an outdated backup; a store
    /// that cannot list gives none.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, CustomError>;
}
