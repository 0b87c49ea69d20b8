//! What an operator sets.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use halfkey_envelope::frame::LinkKey;

use crate::{
    Error,
    guess::{MAX_GUESSES, Rules},
};

/// Where the server connects.
#[derive(Debug)]
pub enum Listen {
    /// A Unix socket, 0600.
    Unix(PathBuf),
    /// A TCP address, with the key that both ends have.
    Tcp(String, LinkKey),
}

/// The configuration of one guesskeeper.
#[derive(Debug)]
pub struct Config {
    /// Its folder; made if missing, for its owner alone.
    pub data: PathBuf,
    /// Where the server connects.
    pub listen: Listen,
    /// `sqlite:…` or `postgres:…`; by default a file in the folder.
    pub database: Option<String>,
    /// The shred store: another database. By default a file in the folder, or with PostgreSQL a schema of its own.
    pub shred: Option<String>,
    /// The generation anchor, best on another volume. By default beside the folder, not in it: a restored folder
    /// must not bring its own anchor back. Every node has its own; a further node starts with a copy of another's.
    pub anchor: Option<PathBuf>,
    /// The root key; by default a file in the folder.
    pub key_file: Option<PathBuf>,
    /// How many keys are derived from the root. Clients pin the newest; all older ones still open.
    pub opening_keys: u32,
    /// Guesses, delays and limits.
    pub rules: Rules,
    /// Connections at once; more wait.
    pub max_connections: usize,
    /// Stop when standard input ends: a child that its parent's death must end.
    pub stop_with_stdin: bool,
}

impl Config {
    /// The defaults, for a folder and a socket.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, listen: Listen) -> Self {
        Self {
            data: data.into(),
            listen,
            database: None,
            shred: None,
            anchor: None,
            key_file: None,
            opening_keys: 1,
            rules: Rules::default(),
            max_connections: 64,
            stop_with_stdin: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let Rules { max_guesses, .. } = self.rules;
        if max_guesses == 0 || max_guesses > MAX_GUESSES {
            return Err(Error::Config("1 to 10 guesses"));
        }
        if self.max_connections == 0 || self.opening_keys == 0 {
            return Err(Error::Config("at least one connection and one key"));
        }
        let sqlite = |url: &str| url.starts_with("sqlite:");
        let same_file = sqlite(&self.database_url()) && self.database_url() == self.shred_url();
        if same_file { Err(Error::Config("the shred store needs a database of its own")) } else { Ok(()) }
    }

    pub(crate) fn database_url(&self) -> String {
        self.database.clone().unwrap_or_else(|| sqlite_url(&self.data.join("guesses.sqlite")))
    }

    pub(crate) fn shred_url(&self) -> String {
        let postgres = self.database.as_ref().filter(|url| !url.starts_with("sqlite:"));
        let default = || postgres.cloned().unwrap_or_else(|| sqlite_url(&self.data.join("shred.sqlite")));
        self.shred.clone().unwrap_or_else(default)
    }

    pub(crate) fn anchor_path(&self) -> PathBuf {
        self.anchor.clone().unwrap_or_else(|| self.data.with_added_extension("anchor"))
    }

    pub(crate) fn key_path(&self) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| self.data.join("root.key"))
    }

    /// Makes the folder, and refuses one that others can enter.
    pub(crate) fn make_folder(&self) -> Result<(), Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.data)?;
        if fs::metadata(&self.data)?.mode() & 0o077 != 0 {
            let problem = "others can enter the data folder; it must be 0700";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem).into());
        }
        Ok(())
    }
}

fn sqlite_url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anchor_is_not_in_the_folder_that_is_copied() {
        let config = Config::new("/var/lib/halfkey/guesskeeper", Listen::Unix("socket".into()));
        assert_eq!(config.anchor_path(), Path::new("/var/lib/halfkey/guesskeeper.anchor"));
        assert!(!config.anchor_path().starts_with(&config.data));
    }

    #[test]
    fn more_than_ten_guesses_and_a_shared_file_are_refused() {
        let rules = |max_guesses| Rules { max_guesses, ..Rules::default() };
        let new = || Config::new("/data", Listen::Unix("socket".into()));
        assert!(new().check().is_ok());
        assert!(Config { rules: rules(11), ..new() }.check().is_err());
        assert!(Config { rules: rules(0), ..new() }.check().is_err());
        let file = Some("sqlite:/data/one".to_owned());
        assert!(Config { database: file.clone(), shred: file, ..new() }.check().is_err());
    }
}
