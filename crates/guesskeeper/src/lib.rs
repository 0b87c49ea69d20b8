//! The password door: every guess is counted before it is evaluated (METHODS.md B).
//!
//! A process of its own, with its own data folder, key file, database and shred store. The server relays clients'
//! sealed messages in frames; it never sees a password, a tag or a record. [`guess`] has the rules as one pure
//! function, [`Keeper`] runs them over the stores, [`run`] puts a socket in front.

mod anchor;
mod clock;
mod config;
mod database;
pub mod guess;
mod keeper;
mod keys;
mod restore;
mod serve;
mod shred;
mod store;

pub use clock::{Clock, SystemClock};
pub use config::{Config, Listen};
pub use guess::Rules;
pub use keeper::Keeper;
pub use restore::{GUESSES_LEFT, Report, restore};
pub use serve::run;

/// Why a guesskeeper does not start, or cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(&'static str),
    /// An old copy of the database: answering from it would give guesses back.
    #[error("the database (generation {database}) is behind its anchor ({anchor}): an old copy; see `restore`")]
    Behind {
        /// How far the database has come.
        database: u64,
        /// How far it must have come.
        anchor: u64,
    },
    /// The anchor is gone: nothing tells whether the database is an old copy.
    #[error("the anchor of a database that was in use is missing; see `restore`")]
    AnchorMissing,
    /// The anchor belongs to another database.
    #[error("the anchor belongs to another database")]
    OtherDatabase,
    /// Registrations exist, but not the key that opens them. A new one would not help.
    #[error("the key file of a database that was in use is missing")]
    KeyLost,
    /// A registration does not open under this key.
    #[error("a stored registration does not open under this key")]
    Damaged,
    /// The database is not behind its anchor.
    #[error("nothing to restore: the database is not behind its anchor")]
    NothingToRestore,
    /// A restore was made after this copy: accepting it would give guesses back.
    #[error("this copy (generation {copy}) is older than an earlier restore ({through})")]
    AlreadyRestored {
        /// How far the copy had come.
        copy: u64,
        /// Copies up to here are refused.
        through: u64,
    },
    /// This machine's clock and the database's differ by more than five seconds.
    #[error("the database's clock differs by {0} ms")]
    ClockSkew(i64),
    /// The process is stopping.
    #[error("stopping")]
    Stopping,
}
