//! A real PostgreSQL for the length of one test.
//!
//! The server listens on a Unix socket inside its own temporary folder and on nothing else, so that tests that run
//! side by side never race for a port. A small shell around it holds the read end of a pipe from the test: when the
//! test ends in any way, `kill -9` included, the pipe closes, the shell stops the server and removes the folder.

use std::{
    io,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

/// A running PostgreSQL cluster, stopped and removed on drop.
pub struct Postgres {
    folder: PathBuf,
    bin: PathBuf,
    account: Option<(u32, u32)>,
    keeper: Child,
    pipe: Option<ChildStdin>,
}

impl Postgres {
    /// Makes a cluster in a temporary folder and starts it.
    ///
    /// # Errors
    /// When no PostgreSQL is installed, or it does not start.
    pub fn start() -> io::Result<Self> {
        let bin = binaries()?;
        let account = account()?;
        let folder = tempfile::Builder::new().prefix("halfkey-pg-").tempdir()?.keep();
        if let Some((user, group)) = account {
            chown(&folder, Some(user), Some(group))?;
        }
        let data = folder.join("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"]);
        let made = as_account(initdb.arg(&data), account, &folder).stdin(Stdio::null()).output()?;
        if !made.status.success() {
            let _ = std::fs::remove_dir_all(&folder);
            return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        let (keeper, pipe) = launch(&bin, &folder, &data, account)?;
        let mut cluster = Self { folder, bin, account, keeper, pipe: Some(pipe) };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// The address of the database that every cluster has.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The address of another database of this cluster.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder.display())
    }

    /// Makes an empty database of its own and gives its address.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self, name: &str) -> io::Result<String> {
        self.run(&["createdb", "-U", "postgres", name])?;
        Ok(self.url_of(name))
    }

    /// Copies a database as it is now: the restored old snapshot of the tests. Nobody may be connected to `from`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn copy_database(&self, from: &str, to: &str) -> io::Result<String> {
        self.run(&["createdb", "-U", "postgres", "-T", from, to])?;
        Ok(self.url_of(to))
    }

    /// Drops a database, whoever is still connected.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn drop_database(&self, name: &str) -> io::Result<()> {
        self.run(&["dropdb", "-U", "postgres", "--force", "--if-exists", name])
    }

    fn run(&self, words: &[&str]) -> io::Result<()> {
        let mut command = Command::new(self.bin.join(words[0]));
        command.arg("-h").arg(&self.folder).args(&words[1..]);
        let done = as_account(&mut command, self.account, &self.folder).stdin(Stdio::null()).output()?;
        if done.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        for _ in 0..600 {
            if self.run(&["pg_isready", "-q"]).is_ok() {
                return Ok(());
            }
            if self.keeper.try_wait()?.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        Err(io::Error::other(format!("PostgreSQL did not start: {log}")))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.keeper.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Stops the server with SIGQUIT (immediate) as soon as standard input ends.
const WATCH: &str = r#""$1" -D "$2" -k "$3" -c listen_addresses= -c fsync=off -c max_connections=200 >"$3/log" 2>&1 </dev/null &
server=$!
read -r _ended
kill -QUIT "$server"
wait "$server"
rm -rf "$3""#;

fn launch(bin: &Path, folder: &Path, data: &Path, account: Option<(u32, u32)>) -> io::Result<(Child, ChildStdin)> {
    let mut shell = Command::new("sh");
    shell.args(["-c", WATCH, "sh"]).arg(bin.join("postgres")).arg(data).arg(folder);
    let shell = as_account(&mut shell, account, folder).stdin(Stdio::piped()).stdout(Stdio::null());
    // A group of its own: an interrupt at the terminal ends the test, and the closed pipe then ends the server.
    let mut child = shell.process_group(0).spawn()?;
    let pipe = child.stdin.take().ok_or_else(|| io::Error::other("a pipe was asked for"))?;
    Ok((child, pipe))
}

fn as_account<'a>(command: &'a mut Command, account: Option<(u32, u32)>, folder: &Path) -> &'a mut Command {
    command.current_dir(folder).env_remove("PGHOST").env_remove("PGPORT").env_remove("PGDATA");
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    command
}

/// The folder of the newest installed PostgreSQL.
fn binaries() -> io::Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        found.push((version, entry.path().join("bin")));
    }
    found.sort();
    let installed = found.into_iter().rev().map(|(_, folder)| folder);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = installed.chain(std::env::split_paths(&path)).collect();
    let complete = |folder: &&PathBuf| ["initdb", "postgres", "createdb"].iter().all(|tool| folder.join(tool).exists());
    folders.iter().find(complete).cloned().ok_or_else(|| io::Error::other("no PostgreSQL server is installed"))
}

/// PostgreSQL refuses to run as root: then the account `postgres` (user, group) is used.
fn account() -> io::Result<Option<(u32, u32)>> {
    if number(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((number(&["-u", "postgres"])?, number(&["-g", "postgres"])?)))
}

fn number(arguments: &[&str]) -> io::Result<u32> {
    let output = Command::new("id").args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| io::Error::other("no account named postgres"))
}
