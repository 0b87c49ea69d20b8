//! Shows an address to the user's browser.
//!
//! The address holds the one-time state, and a process' arguments can be read by every user of the machine. So the
//! browser is given the name of a private file that leads it on, and the file is removed with [`Opening`].

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// Holds the file until the browser had time to read it.
pub(crate) struct Opening {
    _folder: TempDir,
}

const OPENERS: &[&str] = if cfg!(target_os = "macos") { &["open"] } else { &["xdg-open", "sensible-browser"] };

/// Opens `url` in the user's browser.
///
/// # Errors
/// When no browser can be started, or the file cannot be written.
pub(crate) fn open(url: &str) -> std::io::Result<Opening> {
    let folder = tempfile::Builder::new().prefix("halfkey-").tempdir()?;
    let file = write(folder.path(), url)?;
    for opener in OPENERS {
        let quiet = Stdio::null;
        let started = Command::new(opener).arg(&file).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
        if let Ok(mut child) = started {
            // Openers return at once; one that does not is the browser itself and lives on.
            std::thread::spawn(move || child.wait());
            return Ok(Opening { _folder: folder });
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no browser can be started"))
}

fn write(folder: &Path, url: &str) -> std::io::Result<PathBuf> {
    let path = folder.join("go-on.html");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    // The address is ours: a configured page and what was encoded for it. Only `&` needs escaping, and this makes sure.
    let safe = |c: char| c.is_ascii_alphanumeric() || "-._~:/#[]@=%?&+".contains(c);
    if !url.chars().all(safe) {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not an address"));
    }
    let url = url.replace('&', "&amp;");
    writeln!(
        file,
        "<!doctype html><meta charset=utf-8><meta name=referrer content=no-referrer>\
         <meta http-equiv=refresh content=\"0;url={url}\"><title>Halfkey</title><a href=\"{url}\">Go on</a>"
    )?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_address_lies_in_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "https://example.com/passkey#abc").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains("content=\"0;url=https://example.com/passkey#abc\""));
        let other = tempfile::tempdir().unwrap();
        let path = write(other.path(), "https://example.com/auth?a=b+c&d=e%20f").unwrap();
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .contains("content=\"0;url=https://example.com/auth?a=b+c&amp;d=e%20f\"")
        );
        let other = tempfile::tempdir().unwrap();
        assert!(write(other.path(), "https://example.com/\"><script>").is_err());
    }
}
