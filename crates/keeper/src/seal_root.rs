//! Where the keeper's secrets come from (DECISIONS.md D13): one sealing root, from which every long-term key is derived.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use halfkey_envelope::{entropy::Entropy, hpke::PublicKey, keeper::SealRootKey};
use zeroize::Zeroizing;

use crate::tpm2::Tpm2Error;

/// What guards a keeper's sealing root.
pub trait SealRoot: Send {
    /// The root.
    fn open(&self, entropy: &mut dyn Entropy) -> Result<SealRootKey, RootError>;

    /// In how many places, independent of each other, the root lies that has this first long-term key. With one, the
    /// loss of one machine loses every passkey backup: the profile `production` wants two or more.
    fn sealings(&self, first_key: &PublicKey) -> Result<u32, RootError>;
}

/// Why the sealing root cannot be had. The keeper does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Somebody else than the owner can read the file or change its folder.
    #[error("{0}: others than its owner have access; mode 0600 for the file and 0700 for its folder are needed")]
    Exposed(PathBuf),
    /// Not a sealing root, or of a version that this program does not know.
    #[error("{0}: not a sealing root of a known version")]
    Unknown(PathBuf),
    /// The file system.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// A root that a TPM guards.
    #[error("{0}")]
    Tpm2(#[source] Box<Tpm2Error>),
    /// A root that KMS guards.
    #[cfg(feature = "nitro")]
    #[error("{0}")]
    Nitro(#[source] Box<crate::nitro::NitroError>),
}

const NAME: &str = "sealing-root";
/// The file is this line start, and 64 hexadecimal digits.
const PREFIX: &str = "halfkey-sealing-root-v1 ";
const LENGTH: usize = PREFIX.len() + 64 + 1;

/// A root in a file of the keeper's data folder, mode 0600. Whoever can read the disk has it: for development, and for
/// deployments that trust the keeper's host.
pub struct FileRoot {
    folder: PathBuf,
}

impl FileRoot {
    /// The root in this data folder.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// Writes a whole new file beside and links it into place, so that a crash leaves all of it or nothing, and an
    /// existing root is never replaced.
    fn create(&self, root: &SealRootKey, temporary: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        let line = Zeroizing::new(format!("{PREFIX}{}\n", *Zeroizing::new(hex::encode(root.expose()))));
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(temporary, self.path()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(&self.folder)?.sync_all()
    }

    fn read(&self) -> Result<Option<SealRootKey>, RootError> {
        let path = self.path();
        let io_error = |error| RootError::Io(path.clone(), error);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io_error)?,
        };
        let metadata = file.metadata().map_err(io_error)?;
        if !metadata.is_file() {
            return Err(RootError::Unknown(path));
        }
        refuse_if_exposed(metadata.mode(), 0o077, &path)?;
        let mut text = Zeroizing::new(String::with_capacity(LENGTH + 1));
        file.take(LENGTH as u64 + 1).read_to_string(&mut text).map_err(io_error)?;
        parse(&text).map(Some).ok_or(RootError::Unknown(path))
    }
}

impl SealRoot for FileRoot {
    fn open(&self, entropy: &mut dyn Entropy) -> Result<SealRootKey, RootError> {
        let io_error = |error| RootError::Io(self.folder.clone(), error);
        private_folder(&self.folder)?;
        if let Some(root) = self.read()? {
            return Ok(root);
        }
        tracing::warn!(path = %self.path().display(), "no sealing root yet: making one");
        let temporary = self.folder.join(format!("{NAME}.{}.new", std::process::id()));
        let created = self.create(&SealRootKey::generate(entropy), &temporary);
        let removed = fs::remove_file(&temporary);
        created.and(removed).map_err(io_error)?;
        self.read()?.ok_or_else(|| RootError::Unknown(self.path()))
    }

    /// Copies of the file are its owner's affair; nothing here can see them.
    fn sealings(&self, _: &PublicKey) -> Result<u32, RootError> {
        Ok(1)
    }
}

/// Makes the folder, 0700, where there is none; one that others can change is refused.
pub(crate) fn private_folder(folder: &Path) -> Result<(), RootError> {
    let io_error = |error| RootError::Io(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error)?;
    refuse_if_exposed(fs::metadata(folder).map_err(io_error)?.mode(), 0o022, folder)
}

fn refuse_if_exposed(mode: u32, forbidden: u32, path: &Path) -> Result<(), RootError> {
    if mode & forbidden == 0 { Ok(()) } else { Err(RootError::Exposed(path.to_owned())) }
}

fn parse(text: &str) -> Option<SealRootKey> {
    let digits = text.strip_prefix(PREFIX)?.strip_suffix('\n')?;
    let mut root = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(digits, root.as_mut()).ok()?;
    Some(SealRootKey::from_bytes(root))
}
