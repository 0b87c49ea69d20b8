//! Small CBOR files: written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use halfkey_envelope::cbor;
use minicbor::{Decode, Encode};

use super::{Result, Tpm2Error, unknown};
use crate::seal_root::RootError;

/// No file here is longer.
const MAX: u64 = 64 * 1024;

/// The strict decoding of a file; `None` where there is none.
pub fn read<T: for<'b> Decode<'b, ()> + Encode<()>>(path: &Path) -> Result<Option<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| failed(path, error))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(path, error))?;
    if bytes.len() as u64 > MAX {
        return Err(unknown(path));
    }
    cbor::from_slice(&bytes).map(Some).map_err(|_| unknown(path))
}

/// Writes a file that must not be there yet.
pub fn create(path: &Path, value: &impl Encode<()>) -> Result<()> {
    write(path, value, |temporary| fs::hard_link(temporary, path)).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Tpm2Error::AlreadySealed(path.to_owned()),
        _ => failed(path, error),
    })
}

/// Writes a file, in place of the one that may be there.
pub fn replace(path: &Path, value: &impl Encode<()>) -> Result<()> {
    write(path, value, |temporary| fs::rename(temporary, path)).map_err(|error| failed(path, error))
}

fn write(path: &Path, value: &impl Encode<()>, put: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = path.with_added_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&cbor::to_vec(value))?;
        file.sync_all()?;
        put(&temporary)?;
        File::open(folder)?.sync_all()
    })();
    let _ = fs::remove_file(&temporary);
    written
}

pub fn failed(path: &Path, error: io::Error) -> Tpm2Error {
    RootError::Io(path.to_owned(), error).into()
}
