//! The keeper's root secret: one file, readable by its owner alone, and every key derived from it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use halfkey_envelope::{
    door::KeeperId,
    entropy::{OsEntropy, random},
    hpke::{PublicKey, SecretKey},
    seal::SealKey,
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Everything that is derived from the root.
pub struct Keys {
    /// The newest first.
    opening: Vec<(KeeperId, PublicKey, SecretKey)>,
    storage: Zeroizing<[u8; 32]>,
}

impl core::fmt::Debug for Keys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// `count` opening keys `sk_i = HKDF(root, i)`; older ones stay openable (DECISIONS.md D13).
    #[must_use]
    pub fn derive(root: &[u8; 32], count: u32) -> Self {
        let opening = (0..count.max(1)).rev().map(|index| {
            let seed = expand(root, &[b"halfkey/guesskeeper/v1/opening", &index.to_be_bytes()]);
            let secret = SecretKey::from_seed(&seed);
            let public = secret.public_key();
            (KeeperId::of(&public), public, secret)
        });
        Self { opening: opening.collect(), storage: expand(root, &[b"halfkey/guesskeeper/v1/storage"]) }
    }

    /// The public keys, the newest first.
    #[must_use]
    pub fn public(&self) -> Vec<PublicKey> {
        self.opening.iter().map(|(_, public, _)| *public).collect()
    }

    /// The key that a message names.
    #[must_use]
    pub fn opening(&self, id: KeeperId) -> Option<&SecretKey> {
        self.opening.iter().find(|(known, _, _)| *known == id).map(|(_, _, secret)| secret)
    }

    /// The key of one registration at rest: needs the root *and* its shred key.
    #[must_use]
    pub fn storage(&self, shred_key: &[u8; 32]) -> SealKey {
        SealKey::derive(shred_key, self.storage.as_ref(), "halfkey/guesskeeper/v1/registration")
    }
}

#[allow(clippy::expect_used, reason = "HKDF-Expand fails only beyond 255 hash lengths")]
fn expand(root: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0u8; 32]);
    Hkdf::<Sha256>::new(None, root).expand_multi_info(info, out.as_mut()).expect("32 bytes");
    out
}

/// Reads the root, refusing a file that others can read.
pub fn read_root(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can read the key file; it must be 0600"));
    }
    let mut root = Zeroizing::new([0u8; 32]);
    let mut rest = [0u8; 1];
    file.read_exact(root.as_mut())?;
    if file.read(&mut rest)? != 0 {
        return Err(io::Error::other("a key file has 32 bytes"));
    }
    Ok(root)
}

/// Makes the root at the first start; never over an existing file.
pub fn create_root(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let root = random::<32>(&mut OsEntropy);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(root.as_ref())?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(root)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let made = create_root(&path).unwrap();
        assert_eq!(read_root(&path).unwrap(), made);
        assert!(create_root(&path).is_err(), "never over an existing one");
        for mode in [0o640, 0o604, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_root(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
        }
    }

    #[test]
    fn old_keys_stay_openable() {
        let (one, two) = (Keys::derive(&[1; 32], 1), Keys::derive(&[1; 32], 2));
        assert_eq!(one.public(), two.public()[1..]);
        assert!(two.opening(KeeperId::of(&one.public()[0])).is_some());
        assert!(one.opening(KeeperId::of(&two.public()[0])).is_none());
    }
}
