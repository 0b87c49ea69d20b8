//! The device's secrets in files, each sealed under the device passphrase: its wrapping key, and what else it keeps.
//!
//! File = strict CBOR {version, salt, memory KiB, passes, sealed}; key = Argon2id(passphrase, salt); sealed as every
//! other thing is (METHODS.md A). The cost is chosen when writing and capped when reading.

use halfkey_envelope::{
    cbor,
    entropy::{Entropy, random},
    seal::{self, Magic, SealKey},
};
use minicbor::{Decode, Encode, bytes::ByteArray, bytes::ByteVec};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

const VERSION: u8 = 1;
const MAGIC: Magic = Magic(*b"hkpp");
const DEVICE_KEY: &[u8] = b"halfkey/cli/v1/device-key";
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 10;

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeyFile {
    #[n(0)]
    version: u8,
    #[n(1)]
    salt: ByteArray<16>,
    #[n(2)]
    memory_kib: u32,
    #[n(3)]
    passes: u32,
    #[n(4)]
    sealed: ByteVec,
}

/// The file's bytes for `key` under `passphrase`.
///
/// # Errors
/// When the machine has not enough memory for the key derivation.
pub fn seal_key(key: &[u8; 32], passphrase: &str, entropy: &mut dyn Entropy) -> Result<Vec<u8>> {
    seal(DEVICE_KEY, key, passphrase, entropy)
}

/// The file's bytes for any secret; `header` says what it is, and must be the same when it is opened.
///
/// # Errors
/// When the machine has not enough memory for the key derivation.
pub fn seal(header: &[u8], secret: &[u8], passphrase: &str, entropy: &mut dyn Entropy) -> Result<Vec<u8>> {
    let salt = *random::<16>(entropy);
    let wrapping = derive(passphrase, &salt, MEMORY_KIB, PASSES)?;
    let sealed = seal::seal(&wrapping, MAGIC, header, secret, entropy);
    let (memory_kib, passes) = (MEMORY_KIB, PASSES);
    Ok(cbor::to_vec(&KeyFile { version: VERSION, salt: salt.into(), memory_kib, passes, sealed: sealed.into() }))
}

/// The key in the file's bytes.
///
/// # Errors
/// [`Error::WrongPassphrase`]; [`Error::Failed`] when the file is damaged or of a newer version.
pub fn open_key(file: &[u8], passphrase: &str) -> Result<Zeroizing<[u8; 32]>> {
    let key = open(DEVICE_KEY, file, passphrase)?;
    <[u8; 32]>::try_from(key.as_slice()).map(Zeroizing::new).map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::Failed("a sealed file of the profile is damaged, or of a newer version".to_owned())
}

/// The secret in the bytes of [`seal()`].
///
/// # Errors
/// As [`open_key`].
pub fn open(header: &[u8], file: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>> {
    let file: KeyFile = cbor::from_slice(file).map_err(|_| damaged())?;
    let affordable = (1..=MAX_MEMORY_KIB).contains(&file.memory_kib) && (1..=MAX_PASSES).contains(&file.passes);
    if file.version != VERSION || !affordable {
        return Err(damaged());
    }
    let wrapping = derive(passphrase, &file.salt, file.memory_kib, file.passes)?;
    let sealed = seal::Sealed::parse(MAGIC, &file.sealed).map_err(|_| damaged())?;
    if sealed.header() != header {
        return Err(damaged());
    }
    sealed.open(&wrapping).map_err(|_| Error::WrongPassphrase)
}

fn derive(passphrase: &str, salt: &[u8; 16], memory_kib: u32, passes: u32) -> Result<SealKey> {
    let failed = |_| Error::Failed("not enough memory for the key derivation".to_owned());
    let params = argon2::Params::new(memory_kib, passes, 1, Some(32)).map_err(failed)?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0u8; 32]);
    argon2.hash_password_into(passphrase.as_bytes(), salt, key.as_mut()).map_err(failed)?;
    Ok(SealKey::derive(salt, key.as_ref(), "halfkey/cli/v1/passphrase"))
}

#[cfg(test)]
mod tests {
    use halfkey_envelope::entropy::DangerSeededEntropy;

    use super::*;

    #[test]
    fn only_the_passphrase_opens_it() {
        let mut entropy = DangerSeededEntropy::new(7);
        let file = seal_key(&[9; 32], "correct horse", &mut entropy).unwrap();
        assert_eq!(*open_key(&file, "correct horse").unwrap(), [9; 32]);
        assert!(matches!(open_key(&file, "correct horsf"), Err(Error::WrongPassphrase)));
        let mut greedy: KeyFile = cbor::from_slice(&file).unwrap();
        greedy.memory_kib = u32::MAX;
        assert!(matches!(open_key(&cbor::to_vec(&greedy), "correct horse"), Err(Error::Failed(_))));
        assert!(matches!(open_key(&file[..file.len() - 1], "correct horse"), Err(Error::Failed(_))));
        assert!(matches!(open(b"another kind", &file, "correct horse"), Err(Error::Failed(_))));
    }
}
