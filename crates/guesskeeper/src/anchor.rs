//! The generation anchor (METHODS.md B, DECISIONS.md D16): a file outside the database that remembers how far the
//! database had come. An old copy of the database is behind it, and is refused.
//!
//! Order at every count: the row with its generation is committed → the anchor is on the disk → the answer leaves.
//! A crash between the first two leaves the database ahead, which is fine.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

const HEADING: &str = "halfkey guesskeeper anchor v1";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Of which database.
    pub database: [u8; 16],
    /// The highest generation that was ever answered from.
    pub generation: u64,
}

/// One node's anchor.
pub struct Anchor {
    path: PathBuf,
    database: [u8; 16],
    durable: AtomicU64,
    wanted: AtomicU64,
    writing: Mutex<()>,
}

/// Reads the anchor; `None` if there is none.
pub fn read(path: &Path) -> io::Result<Option<Mark>> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| io::Error::other("the anchor file is damaged")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Option<Mark> {
    let mut lines = text.lines();
    let heading = lines.next()? == HEADING;
    let database = hex::decode(lines.next()?.strip_prefix("database ")?).ok()?.try_into().ok()?;
    let generation = lines.next()?.strip_prefix("generation ")?.parse().ok()?;
    (heading && lines.next().is_none()).then_some(Mark { database, generation })
}

/// Replaces the anchor; on the disk when this returns.
pub fn write(path: &Path, mark: Mark) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    let Mark { database, generation } = mark;
    write!(file, "{HEADING}\ndatabase {}\ngeneration {generation}\n", hex::encode(database))?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    File::open(folder)?.sync_all()
}

impl Anchor {
    /// Starts from a mark that is on the disk.
    #[must_use]
    pub const fn new(path: PathBuf, mark: Mark) -> Self {
        let Mark { database, generation } = mark;
        let (durable, wanted) = (AtomicU64::new(generation), AtomicU64::new(generation));
        Self { path, database, durable, wanted, writing: Mutex::new(()) }
    }

    /// The generation on the disk.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }

    /// Makes `generation`, which is committed, durable here too. Callers that wait while another writes find
    /// their generation written with his.
    pub fn raise(&self, generation: u64) -> io::Result<()> {
        self.wanted.fetch_max(generation, Ordering::SeqCst);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.generation() >= generation {
            return Ok(());
        }
        let highest = self.wanted.load(Ordering::SeqCst);
        write(&self.path, Mark { database: self.database, generation: highest })?;
        self.durable.store(highest, Ordering::SeqCst);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_rises_and_a_damaged_file_is_no_anchor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("elsewhere/anchor");
        assert_eq!(read(&path).unwrap(), None);
        let mark = Mark { database: [7; 16], generation: 5 };
        write(&path, mark).unwrap();
        let anchor = Anchor::new(path.clone(), mark);
        anchor.raise(9).unwrap();
        anchor.raise(8).unwrap();
        assert_eq!(read(&path).unwrap(), Some(Mark { generation: 9, ..mark }));
        for bad in ["", HEADING, "halfkey guesskeeper anchor v2\ndatabase 00\ngeneration 1\n"] {
            fs::write(&path, bad).unwrap();
            assert!(read(&path).is_err(), "{bad}");
        }
    }
}
