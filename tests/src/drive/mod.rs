//! Google Drive for tests: the part of Drive API v3 that backups use, over real HTTP on a loopback port of its own
//! choosing, with Google's paths, parameters and error bodies. Google's own clients accept it (`tests/drive`).
//!
//! It checks what Google checks: bearer tokens and their scopes, generated ids, field masks, query parameters. What it
//! does not do it refuses with 501 and its own name, never with an invented answer. It fails on demand: see [`Drive`].

mod answer;
mod call;
mod control;
mod fields;
mod files;
mod http;
mod multipart;
mod query;
mod state;

use std::{
    io,
    net::Ipv4Addr,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{net::TcpListener, task::JoinHandle};

pub use answer::Refusal;
pub use call::Call;
pub use control::Command;
pub use state::{Drive, Entry, Fault, Grant, Introspection, Stored};

/// The scope of a client's own hidden folder.
pub const SCOPE_APPDATA: &str = "https://www.googleapis.com/auth/drive.appdata";
/// The scope of the files that a client itself made in the user's visible Drive.
pub const SCOPE_FILE: &str = "https://www.googleapis.com/auth/drive.file";
/// The scope of the user's whole visible Drive.
pub const SCOPE_DRIVE: &str = "https://www.googleapis.com/auth/drive";

/// The folder of what runs against it, with everything of it installed.
///
/// # Errors
/// Says what to do when something is not.
pub fn installed() -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("drive");
    if folder.join("node_modules/.installed").is_file() {
        return Ok(folder);
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "Google's clients are not installed: run tests/drive/install.sh (or ./check install)",
    ))
}

/// A running emulator; it stops on drop. What it can be told is in [`Drive`].
pub struct DriveEmulator {
    drive: Arc<Drive>,
    url: String,
    serving: JoinHandle<()>,
}

impl DriveEmulator {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let drive = Arc::new(Drive::default());
        let router = http::router(Arc::clone(&drive));
        let serving = tokio::spawn(async move {
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self { drive, url, serving })
    }

    /// The address that stands for `https://www.googleapis.com`; no slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Deref for DriveEmulator {
    type Target = Drive;

    fn deref(&self) -> &Drive {
        &self.drive
    }
}

impl Drop for DriveEmulator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
