//! The `local` key service: keys in a file that its owner alone may read. `production` refuses it unless told.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::RwLock,
};

use async_trait::async_trait;
use halfkey_envelope::{
    cbor,
    custodian::DataKey,
    entropy::{Entropy, OsEntropy, random},
    seal::{self, Magic, OpenError, SealKey, Sealed},
};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{EncryptionContext, Health, KeyWrapper, KmsError};

const MAGIC: Magic = Magic(*b"HKL1");
const VERSION: u16 = 1;
const FIRST_LINE: &str = "halfkey-local-keys-v1";
const KEY_TAG: &str = "halfkey/kms-local/v1/key";

/// What to do when the key file is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The first start: make it.
    Create,
    /// There are halves already: refuse, or every one of them would silently be lost.
    Refuse,
}

/// The keys of a file, newest last.
pub struct LocalKeys {
    path: PathBuf,
    keys: RwLock<Vec<Zeroizing<[u8; 32]>>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Header {
    #[n(1)]
    version: u16,
    #[n(2)]
    key_version: u32,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    context: [u8; 32],
}

impl LocalKeys {
    /// Opens a key file.
    ///
    /// # Errors
    /// [`KmsError::KeyFile`] when others than its owner may read it, it is not there, or not a key file.
    pub fn open(path: &Path, missing: Missing) -> Result<Self, KmsError> {
        let keys = match read(path) {
            Err(KmsError::Io(error)) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Create => {
                let first = vec![random::<32>(&mut OsEntropy)];
                write_new(path, &first)?;
                first
            }
            Err(KmsError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KmsError::KeyFile("it is missing, and there are halves that need it"));
            }
            other => other?,
        };
        Ok(Self { path: path.to_owned(), keys: RwLock::new(keys) })
    }

    /// Adds a key version under which everything is wrapped from now on. The older ones stay for opening.
    ///
    /// # Errors
    /// [`KmsError::Io`]; the old file is untouched then.
    pub fn rotate(&self, entropy: &mut dyn Entropy) -> Result<u32, KmsError> {
        let mut keys = self.keys.write().map_err(|_| KmsError::Unavailable { retry_after_ms: 1_000 })?;
        let mut next: Vec<_> = keys.iter().map(|key| Zeroizing::new(**key)).collect();
        next.push(random::<32>(entropy));
        let beside = self.path.with_extension("new");
        let _ = fs::remove_file(&beside);
        write_new(&beside, &next)?;
        fs::rename(&beside, &self.path).map_err(KmsError::Io)?;
        sync_folder(&self.path)?;
        *keys = next;
        Ok(keys.len() as u32)
    }

    fn newest(&self) -> Result<(u32, SealKey), KmsError> {
        let keys = self.keys.read().map_err(|_| KmsError::Unavailable { retry_after_ms: 1_000 })?;
        let key = keys.last().ok_or(KmsError::KeyFile("it has no key"))?;
        Ok((keys.len() as u32, SealKey::derive(b"", key.as_slice(), KEY_TAG)))
    }

    fn version(&self, version: u32) -> Result<SealKey, KmsError> {
        let keys = self.keys.read().map_err(|_| KmsError::Unavailable { retry_after_ms: 1_000 })?;
        let at = (version as usize).checked_sub(1).ok_or(KmsError::UnknownKeyVersion(version))?;
        let key = keys.get(at).ok_or(KmsError::UnknownKeyVersion(version))?;
        Ok(SealKey::derive(b"", key.as_slice(), KEY_TAG))
    }

    fn open_key(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<(u32, DataKey), KmsError> {
        let sealed = Sealed::parse(MAGIC, wrapped).map_err(refused)?;
        let header: Header = cbor::from_slice(sealed.header()).map_err(|_| KmsError::Refused)?;
        if header.version != VERSION || header.context != context.digest() {
            return Err(KmsError::Refused);
        }
        let opened = sealed.open(&self.version(header.key_version)?).map_err(refused)?;
        let key: [u8; 32] = opened.as_slice().try_into().map_err(|_| KmsError::Refused)?;
        Ok((header.key_version, DataKey::from_bytes(Zeroizing::new(key))))
    }
}

#[async_trait]
impl KeyWrapper for LocalKeys {
    async fn wrap(&self, key: &DataKey, context: &EncryptionContext) -> Result<Vec<u8>, KmsError> {
        let (key_version, sealer) = self.newest()?;
        let header = cbor::to_vec(&Header { version: VERSION, key_version, context: context.digest() });
        Ok(seal::seal(&sealer, MAGIC, &header, key.expose(), &mut OsEntropy))
    }

    async fn unwrap(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<DataKey, KmsError> {
        Ok(self.open_key(wrapped, context)?.1)
    }

    async fn rewrap(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<Option<Vec<u8>>, KmsError> {
        let (version, key) = self.open_key(wrapped, context)?;
        if version == self.newest()?.0 {
            return Ok(None);
        }
        self.wrap(&key, context).await.map(Some)
    }

    async fn health(&self) -> Result<Health, KmsError> {
        Ok(Health { name: "local", version: self.newest()?.0 })
    }
}

const fn refused(_: OpenError) -> KmsError {
    KmsError::Refused
}

fn read(path: &Path) -> Result<Vec<Zeroizing<[u8; 32]>>, KmsError> {
    let mut file = File::open(path).map_err(KmsError::Io)?;
    let metadata = file.metadata().map_err(KmsError::Io)?;
    if !metadata.is_file() {
        return Err(KmsError::KeyFile("it is not a file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(KmsError::KeyFile("others may read it; chmod 600"));
    }
    let mut text = Zeroizing::new(String::with_capacity(metadata.size() as usize + 1));
    file.read_to_string(&mut text).map_err(|_| KmsError::KeyFile("it is not text"))?;
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(KmsError::KeyFile("an unknown version of it"));
    }
    let keys = lines.map(key_of).collect::<Option<Vec<_>>>().ok_or(KmsError::KeyFile("a line is not a key"))?;
    if keys.is_empty() { Err(KmsError::KeyFile("it has no key")) } else { Ok(keys) }
}

fn key_of(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(line, key.as_mut()).ok()?;
    Some(key)
}

/// Durable before it returns; never over an existing file.
fn write_new(path: &Path, keys: &[Zeroizing<[u8; 32]>]) -> Result<(), KmsError> {
    let mut text = Zeroizing::new(String::with_capacity(64 + keys.len() * 65));
    text.push_str(FIRST_LINE);
    text.push('\n');
    for key in keys {
        let line = Zeroizing::new(hex::encode(key.as_slice()));
        text.push_str(&line);
        text.push('\n');
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(KmsError::Io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(KmsError::Io)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), KmsError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(KmsError::Io)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn keys(folder: &tempfile::TempDir) -> LocalKeys {
        LocalKeys::open(&folder.path().join("kms.key"), Missing::Create).unwrap()
    }

    #[tokio::test]
    async fn passes_the_conformance_suite() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        super::super::conformance::every_key_service(&keys(&folder), &keys(&other)).await;
    }

    #[tokio::test]
    async fn rotation_keeps_old_keys_openable_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let service = keys(&folder);
        let context = super::super::conformance::context("a");
        let key = DataKey::generate(&mut OsEntropy);
        let old = service.wrap(&key, &context).await.unwrap();
        assert_eq!(service.rewrap(&old, &context).await.unwrap(), None, "it is under the newest already");
        assert_eq!(service.rotate(&mut OsEntropy).unwrap(), 2);

        let service = LocalKeys::open(&folder.path().join("kms.key"), Missing::Refuse).unwrap();
        assert_eq!(service.health().await.unwrap(), Health { name: "local", version: 2 });
        assert_eq!(service.unwrap(&old, &context).await.unwrap().expose(), key.expose());
        let new = service.rewrap(&old, &context).await.unwrap().expect("a newer version");
        assert_eq!(service.unwrap(&new, &context).await.unwrap().expose(), key.expose());
        assert_eq!(service.rewrap(&new, &context).await.unwrap(), None, "idempotent");
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.key");
        drop(keys(&folder));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(LocalKeys::open(&path, Missing::Create), Err(KmsError::KeyFile(_))), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(LocalKeys::open(&path, Missing::Refuse).is_ok());
    }

    #[test]
    fn a_missing_or_foreign_key_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.key");
        assert!(matches!(LocalKeys::open(&path, Missing::Refuse), Err(KmsError::KeyFile(_))));
        assert!(!path.exists(), "nothing was made");
        let key = "00".repeat(32);
        for text in ["", "halfkey-local-keys-v2\n", "halfkey-local-keys-v1\n", "halfkey-local-keys-v1\nzz\n", &key] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(LocalKeys::open(&path, Missing::Create), Err(KmsError::KeyFile(_))), "{text:?}");
        }
    }
}
