//! What the command line says when it cannot go on.

use std::path::PathBuf;

/// An error of the command line; [`Error::exit_code`] is what scripts act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The SDK's advice.
    #[error("{0}")]
    Sdk(#[from] halfkey_client::Error),
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read what should be private.
    #[error("{0} can be read by others: chmod 0600 (files) or 0700 (folders)")]
    NotPrivate(PathBuf),
    /// The profile has no descriptor or credential yet.
    #[error("{0} is not set up: run `halfkey wallet init` first")]
    NoProfile(PathBuf),
    /// The profile trusts another descriptor.
    #[error("this profile already trusts another deployment descriptor; nothing was changed")]
    DescriptorChanged,
    /// The device passphrase does not open the profile.
    #[error("wrong device passphrase")]
    WrongPassphrase,
    /// Another command works on this profile.
    #[error("another command is using this profile")]
    ProfileBusy,
    /// A secret was needed and none could be read.
    #[error("cannot read {0}: give it at a prompt, or one per line on --secrets-fd")]
    NoSecret(&'static str),
    /// The Google account cannot be used.
    #[error("{0}")]
    Google(#[from] crate::google::GoogleError),
    /// An argument does not fit.
    #[error("{0}")]
    Usage(String),
    /// A child process or a check of the demo failed.
    #[error("{0}")]
    Failed(String),
    /// HTTP could not be set up, or an administrative call was refused.
    #[error("{0}")]
    Http(#[from] reqwest::Error),
}

/// Result of every command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// 1 a failure, 2 wrong usage, 3 a wrong secret, 4 try again later.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        use crate::google::GoogleError;
        use halfkey_client::Error as Sdk;
        if let Self::Sdk(error @ Sdk::Member { .. }) = self {
            return Self::Sdk(error.cause().clone()).exit_code();
        }
        match self {
            Self::Usage(_) | Self::NoProfile(_) | Self::NoSecret(_) => 2,
            Self::WrongPassphrase | Self::Sdk(Sdk::WrongSecret { .. } | Sdk::NotACode) => 3,
            Self::Google(GoogleError::NotSignedIn) => 2,
            Self::Google(GoogleError::Unreachable) => 4,
            Self::ProfileBusy | Self::Sdk(Sdk::Retry { .. } | Sdk::OperationInProgress | Sdk::Transport(_)) => 4,
            _ => 1,
        }
    }

    /// The stable code for `--json`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sdk(error) => error.code(),
            Self::File { .. } => "FILE",
            Self::NotPrivate(_) => "NOT_PRIVATE",
            Self::NoProfile(_) => "NO_PROFILE",
            Self::DescriptorChanged => "DESCRIPTOR_CHANGED",
            Self::WrongPassphrase => "WRONG_PASSPHRASE",
            Self::ProfileBusy => "PROFILE_BUSY",
            Self::NoSecret(_) => "NO_SECRET",
            Self::Google(error) => error.code(),
            Self::Usage(_) => "USAGE",
            Self::Failed(_) => "FAILED",
            Self::Http(_) => "HTTP",
        }
    }

    /// What to do now.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Sdk(error) => Some(error.advice()),
            Self::Google(error) => Some(error.advice()),
            _ => None,
        }
    }
}

/// Attaches the path to an I/O error.
pub(crate) trait AtPath<T> {
    fn at(self, path: &std::path::Path) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: &std::path::Path) -> Result<T> {
        self.map_err(|source| Error::File { path: path.to_owned(), source })
    }
}
