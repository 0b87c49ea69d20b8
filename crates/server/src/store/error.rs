//! What can go wrong in the store.

use std::fmt;

use halfkey_protocol::lifecycle::Refusal;

/// What was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A custodian.
    Custodian,
    /// A client.
    Client,
    /// A credential.
    Credential,
    /// A device.
    Device,
    /// A wallet.
    Wallet,
    /// A share pair.
    Pair,
    /// A backup.
    Backup,
    /// An envelope.
    Envelope,
    /// A recovery.
    Recovery,
    /// A verification.
    Verification,
    /// A single-use nonce.
    Challenge,
    /// A half, or the key that opens it.
    Half,
    /// A kept step of a ceremony.
    Session,
    /// An address for events.
    Webhook,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Custodian => "custodian",
            Self::Client => "client",
            Self::Credential => "credential",
            Self::Device => "device",
            Self::Wallet => "wallet",
            Self::Pair => "share pair",
            Self::Backup => "backup",
            Self::Envelope => "envelope",
            Self::Recovery => "recovery",
            Self::Verification => "verification",
            Self::Challenge => "challenge",
            Self::Half => "half",
            Self::Session => "session",
            Self::Webhook => "webhook",
        })
    }
}

/// Why the store did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is none, it is another tenant's, or it is used up: the caller cannot tell which.
    #[error("unknown {0}")]
    Unknown(What),
    /// There is one already.
    #[error("the {0} exists already")]
    Exists(What),
    /// It was valid once.
    #[error("the {0} has expired")]
    Expired(What),
    /// It is not in a state in which this can be done to it.
    #[error("the {0} is not in a state for this")]
    State(What),
    /// It does not belong to what it was presented with.
    #[error("the {0} does not fit")]
    Mismatch(What),
    /// Another device works on this slot.
    #[error("another operation is in progress until {until_ms}")]
    OperationInProgress {
        /// When its lease ends at the latest.
        until_ms: u64,
    },
    /// The custodian has opened no window for an eject, or it is closed.
    #[error("no window for an eject is open")]
    EjectClosed,
    /// The life of a pair does not admit it.
    #[error(transparent)]
    Refused(Refusal),
    /// Its shred key is destroyed, or marked as never to be used again: nothing brings this half back.
    #[error("the {0} was destroyed")]
    Shredded(What),
    /// `production` wants the shred store in two copies.
    #[error("the shred store has one copy; two are needed")]
    OneCopy,
    /// Too many at once.
    #[error("too many at once; try again in {retry_after_ms} ms")]
    Busy {
        /// When it is worth trying again.
        retry_after_ms: u64,
    },
    /// Another request changed the same thing in between. Nothing was done; the caller may try again.
    #[error("another request was first")]
    Conflict,
    /// The database is not there or did not answer in time.
    #[error("the database does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused a statement: a bug.
    #[error("the database refused")]
    Database(#[source] sqlx::Error),
    /// What was read is not what was written.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(&'static str),
    /// A later version of Halfkey wrote this database.
    #[error("the database has schema {found}; this program knows {known}")]
    NewerSchema {
        /// The database's.
        found: u64,
        /// This program's.
        known: u64,
    },
    /// The clocks disagree.
    #[error("the clock is {skew_ms} ms off the database's")]
    ClockSkew {
        /// By how much.
        skew_ms: u64,
    },
    /// Neither `sqlite:PATH` nor `postgres://…`.
    #[error("not the address of a database: sqlite:PATH or postgres://…")]
    UnsupportedUrl,
    /// The database's file.
    #[error("the database's file")]
    File(#[source] std::io::Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OperationInProgress { retry_at_ms } => Self::OperationInProgress { until_ms: retry_at_ms },
            refusal => Self::Refused(refusal),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        match &error {
            sqlx::Error::Database(database) if database.is_unique_violation() => Self::Conflict,
            // PostgreSQL: serialization failure, deadlock.
            sqlx::Error::Database(_) if matches!(&*code, "40001" | "40P01") => Self::Conflict,
            // SQLite: busy, locked; PostgreSQL: shutting down, cannot connect now, too many connections, read-only.
            sqlx::Error::Database(_)
                if matches!(&*code, "5" | "6" | "261" | "517" | "57P01" | "57P02" | "57P03" | "53300" | "25006") =>
            {
                Self::Unavailable(error)
            }
            sqlx::Error::Database(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                Self::Database(error)
            }
            _ => Self::Unavailable(error),
        }
    }
}
