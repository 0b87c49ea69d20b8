//! A device's profile folder: what it trusts, who it is, and its sealed share.
//!
//! | file | content |
//! |---|---|
//! | `descriptor.json` | the deployment descriptor, trusted on first use; a change is refused |
//! | `credential` | the client's API key or session token |
//! | `device.key` | the wrapping key, sealed under the device passphrase |
//! | `google` | the Google account that is signed in, sealed under the device passphrase |
//! | `current.blob`, `pending.blob` | the device's share, sealed under the wrapping key |

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
};

use async_trait::async_trait;
use halfkey_client::host::{BlobSlot, BlobStore, MAX_BLOB, SecretStore, StoreError};
use halfkey_envelope::entropy::OsEntropy;
use zeroize::Zeroizing;

use crate::{
    error::{AtPath, Error, Result},
    google::Account,
    passphrase,
};

const DESCRIPTOR: &str = "descriptor.json";
const CREDENTIAL: &str = "credential";
const KEY: &str = "device.key";
const GOOGLE: &str = "google";
const GOOGLE_HEADER: &[u8] = b"halfkey/cli/v1/google-account";

/// A profile folder, held by this process alone.
pub struct Profile {
    folder: PathBuf,
    _lock: File,
}

impl Profile {
    /// Opens the folder, making it (0700) if it is not there.
    ///
    /// # Errors
    /// [`Error::NotPrivate`], [`Error::ProfileBusy`] or [`Error::File`].
    pub fn open(folder: &Path) -> Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).at(folder)?;
        refuse_if_open_to_others(folder)?;
        let path = folder.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).at(&path)?;
        lock.try_lock().map_err(|_| Error::ProfileBusy)?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// The default folder: `$HALFKEY_PROFILE`, or `~/.halfkey`.
    #[must_use]
    pub fn default_folder() -> PathBuf {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        std::env::var_os("HALFKEY_PROFILE").map_or_else(|| home.join(".halfkey"), PathBuf::from)
    }

    /// Trusts a descriptor and keeps a credential. The same again changes nothing; another descriptor is refused.
    ///
    /// # Errors
    /// [`Error::DescriptorChanged`] or [`Error::File`].
    pub fn init(&self, descriptor: &[u8], credential: &str) -> Result<()> {
        match self.read(DESCRIPTOR)? {
            Some(trusted) if trusted != descriptor => return Err(Error::DescriptorChanged),
            Some(_) => {}
            None => replace(&self.folder, DESCRIPTOR, descriptor)?,
        }
        replace(&self.folder, CREDENTIAL, credential.as_bytes())
    }

    /// The trusted descriptor and the credential.
    ///
    /// # Errors
    /// [`Error::NoProfile`] before `init`.
    pub fn trusted(&self) -> Result<(String, Zeroizing<String>)> {
        let missing = || Error::NoProfile(self.folder.clone());
        let descriptor = String::from_utf8(self.read(DESCRIPTOR)?.ok_or_else(missing)?).map_err(|_| missing())?;
        let credential = Zeroizing::new(self.read(CREDENTIAL)?.ok_or_else(missing)?);
        let credential = String::from_utf8(credential.to_vec()).map_err(|_| missing())?;
        Ok((descriptor, Zeroizing::new(credential.trim().to_owned())))
    }

    /// Whether a device passphrase was chosen already.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn has_passphrase(&self) -> Result<bool> {
        Ok(self.read(KEY)?.is_some() || self.read(GOOGLE)?.is_some())
    }

    /// The two stores of the SDK, opened with the device passphrase. Wrong ones are found here, before anything runs.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`].
    pub fn stores(&self, passphrase: Zeroizing<String>) -> Result<(KeyStore, BlobFolder)> {
        let key = match self.read(KEY)? {
            Some(file) => Some(passphrase::open_key(&file, &passphrase)?),
            None => {
                // One passphrase for all of the profile, whichever file was there first.
                self.google(passphrase.clone()).read()?;
                None
            }
        };
        let folder = self.folder.clone();
        Ok((KeyStore { folder: folder.clone(), passphrase, key: Mutex::new(key) }, BlobFolder { folder }))
    }

    /// The file of the Google account, under the device passphrase. Wrong ones are found when it is read.
    #[must_use]
    pub fn google(&self, passphrase: Zeroizing<String>) -> GoogleFile {
        GoogleFile { folder: self.folder.clone(), passphrase }
    }

    /// Fails if this is not the passphrase that was chosen.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`].
    pub fn check(&self, passphrase: &Zeroizing<String>) -> Result<()> {
        self.stores(passphrase.clone()).map(drop)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read_private_file(&self.folder, name)
    }
}

/// The Google account under the device passphrase.
pub struct GoogleFile {
    folder: PathBuf,
    passphrase: Zeroizing<String>,
}

impl GoogleFile {
    /// The account that is signed in.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`], or [`Error::Failed`] when the file is damaged.
    pub fn read(&self) -> Result<Option<Account>> {
        let Some(file) = read_private_file(&self.folder, GOOGLE)? else { return Ok(None) };
        let bytes = passphrase::open(GOOGLE_HEADER, &file, &self.passphrase)?;
        Account::from_bytes(&bytes).map(Some)
    }

    /// Keeps an account in the place of the one before.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, account: &Account) -> Result<()> {
        let file = passphrase::seal(GOOGLE_HEADER, &account.to_bytes(), &self.passphrase, &mut OsEntropy)?;
        replace(&self.folder, GOOGLE, &file)
    }

    /// Forgets the account. Nothing happens at Google.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(&self) -> Result<()> {
        let path = self.folder.join(GOOGLE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at(&path),
            _ => sync_folder(&self.folder).at(&self.folder),
        }
    }
}

/// The wrapping key under the device passphrase.
pub struct KeyStore {
    folder: PathBuf,
    passphrase: Zeroizing<String>,
    key: Mutex<Option<Zeroizing<[u8; 32]>>>,
}

#[async_trait]
impl SecretStore for KeyStore {
    async fn read(&self) -> std::result::Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        let key = self.key.lock().map_err(|_| StoreError::Unavailable)?;
        Ok(key.clone())
    }

    async fn write(&self, key: &[u8; 32]) -> std::result::Result<(), StoreError> {
        let file = passphrase::seal_key(key, &self.passphrase, &mut OsEntropy).map_err(|_| StoreError::Unavailable)?;
        replace(&self.folder, KEY, &file).map_err(|_| StoreError::Unavailable)?;
        *self.key.lock().map_err(|_| StoreError::Unavailable)? = Some(Zeroizing::new(*key));
        Ok(())
    }
}

/// The sealed blobs as files.
pub struct BlobFolder {
    folder: PathBuf,
}

#[async_trait]
impl BlobStore for BlobFolder {
    async fn read(&self, slot: BlobSlot) -> std::result::Result<Option<Vec<u8>>, StoreError> {
        read_private(&self.folder.join(file_name(slot))).map_err(|_| StoreError::Unavailable)
    }

    async fn write(&self, slot: BlobSlot, bytes: &[u8]) -> std::result::Result<(), StoreError> {
        replace(&self.folder, &file_name(slot), bytes).map_err(|_| StoreError::Unavailable)
    }

    async fn delete(&self, slot: BlobSlot) -> std::result::Result<(), StoreError> {
        match fs::remove_file(self.folder.join(file_name(slot))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Unavailable),
            _ => sync_folder(&self.folder).map_err(|_| StoreError::Unavailable),
        }
    }
}

fn file_name(slot: BlobSlot) -> String {
    format!("{}.blob", slot.name())
}

enum ReadError {
    Open,
    Io(std::io::Error),
}

/// A file of a private folder; `None` if it is not there.
pub(crate) fn read_private_file(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    read_private(&path).map_err(|error| match error {
        ReadError::Open => Error::NotPrivate(path.clone()),
        ReadError::Io(source) => Error::File { path: path.clone(), source },
    })
}

/// The file's bytes, `None` if it is not there; refused if others can read it.
fn read_private(path: &Path) -> std::result::Result<Option<Vec<u8>>, ReadError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(ReadError::Io)?,
    };
    let mode = file.metadata().map_err(ReadError::Io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(ReadError::Open);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BLOB as u64 + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    Ok(Some(bytes))
}

fn refuse_if_open_to_others(path: &Path) -> Result<()> {
    let mode = fs::metadata(path).at(path)?.permissions().mode();
    if mode & 0o077 != 0 { Err(Error::NotPrivate(path.to_owned())) } else { Ok(()) }
}

/// Replaces a file so that after a crash it holds the old or the new bytes, whole: write beside it, flush, rename,
/// flush the folder.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, beside) = (folder.join(name), folder.join(format!(".{name}.new")));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside).at(&beside)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).at(&beside)?;
    fs::rename(&beside, &path).at(&path)?;
    sync_folder(folder).at(folder)
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_trusted_on_first_use_and_a_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile::open(&folder.path().join("p")).unwrap();
        assert!(matches!(profile.trusted(), Err(Error::NoProfile(_))));
        profile.init(b"{1}", "hk_client_a\n").unwrap();
        profile.init(b"{1}", "hk_client_b").unwrap();
        assert!(matches!(profile.init(b"{2}", "hk_client_c"), Err(Error::DescriptorChanged)));
        let (descriptor, credential) = profile.trusted().unwrap();
        assert_eq!((descriptor.as_str(), credential.as_str()), ("{1}", "hk_client_b"));
    }

    #[test]
    fn a_profile_belongs_to_one_process_and_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        let held = Profile::open(&path).unwrap();
        assert!(matches!(Profile::open(&path), Err(Error::ProfileBusy)));
        drop(held);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(Profile::open(&path), Err(Error::NotPrivate(_))));
    }

    /// `HALFKEY_BLESS=1` writes the file where there is none; one that was released is never changed.
    #[test]
    fn a_google_account_that_was_ever_kept_still_opens() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/google-account-v1.bin");
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile::open(&folder.path().join("p")).unwrap();
        let file = profile.google(Zeroizing::new("the passphrase of v1".to_owned()));
        if std::env::var_os("HALFKEY_BLESS").is_some() && !golden.exists() {
            file.write(&Account::of_the_golden_file()).unwrap();
            fs::copy(folder.path().join("p").join(GOOGLE), &golden).unwrap();
        }
        replace(&folder.path().join("p"), GOOGLE, &fs::read(&golden).unwrap()).unwrap();
        assert_eq!(file.read().unwrap().unwrap().to_bytes(), Account::of_the_golden_file().to_bytes());
    }

    #[tokio::test]
    async fn the_share_is_kept_under_the_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile::open(&folder.path().join("p")).unwrap();
        let typed = |text: &str| Zeroizing::new(text.to_owned());
        let (keys, blobs) = profile.stores(typed("one")).unwrap();
        assert!(keys.read().await.unwrap().is_none());
        keys.write(&[3; 32]).await.unwrap();
        blobs.write(BlobSlot::Current, b"sealed").await.unwrap();
        assert!(matches!(profile.stores(typed("two")), Err(Error::WrongPassphrase)));
        let (keys, blobs) = profile.stores(typed("one")).unwrap();
        assert_eq!(*keys.read().await.unwrap().unwrap(), [3; 32]);
        assert_eq!(blobs.read(BlobSlot::Current).await.unwrap().unwrap(), b"sealed");
        blobs.delete(BlobSlot::Current).await.unwrap();
        blobs.delete(BlobSlot::Current).await.unwrap();
        assert_eq!(blobs.read(BlobSlot::Current).await.unwrap(), None);
        let mode = fs::metadata(folder.path().join("p/device.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
