//! A real server with its keepers, as processes of their own, from a `dist` build of the `halfkey` binary.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use halfkey_api::route;
use halfkey_cli::{
    transport::{HttpTransport, install_tls_provider},
    wallet::SystemClock,
};
use halfkey_client::{
    Credentials, Deployment as Trusted, Halfkey,
    memory::{MemoryBlobStore, MemorySecretStore},
};
use halfkey_envelope::{door::KdfParams, entropy::OsEntropy};
use serde_json::Value;
use tempfile::TempDir;

/// Clock ticks per second in `/proc`: 100 on every Linux that this project knows.
const TICK_MS: f64 = 10.0;

/// A running deployment; stops with the value.
pub struct Deployment {
    server: Child,
    address: String,
    custodian_key: String,
    descriptor: String,
    _folder: TempDir,
}

/// What a process holds in memory, in MB (10⁶ bytes).
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident now.
    pub now: f64,
    /// Of it, memory of its own, and not pages of the program's file.
    pub own: f64,
    /// The most so far.
    pub most: f64,
}

/// The binary that `HALFKEY_BENCH_BINARY` names; otherwise a `dist` build, made now unless it is there, in the
/// same target folder as the benchmark that asks.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("HALFKEY_BENCH_BINARY") {
        return named.into();
    }
    let status = Command::new(env!("CARGO"))
        .args(["build", "--profile", "dist", "--quiet", "--package", "halfkey", "--bin", "halfkey"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .status();
    assert!(status.unwrap().success(), "halfkey does not build");
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().join("dist/halfkey")
}

impl Deployment {
    /// A new deployment on a new SQLite file: server, keeper, guesskeeper, one custodian.
    #[must_use]
    pub fn start(binary: &Path) -> Self {
        install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("server").display().to_string();
        let mut server = Command::new(binary)
            .args(["serve", "--data", &data, "--listen", "127.0.0.1:0", "--stop-on-stdin-close", "--log", "warn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = text(&serde_json::from_str(&line).unwrap(), "address");
        let custodian_key = text(&admin(binary, &["create-custodian", "--data", &data, "--name", "bench"]), "key");
        let file = folder.path().join("descriptor.json").display().to_string();
        let url = format!("http://{address}");
        admin(binary, &["descriptor", "--data", &data, "--url", &url, "--out", &file]);
        let descriptor = fs::read_to_string(&file).unwrap();
        Self { server, address, custodian_key, descriptor, _folder: folder }
    }

    /// A new client's API key, made over a connection that stays open.
    #[must_use]
    pub fn client(&self, connection: &mut TcpStream) -> String {
        let answer = self.request(connection, "POST", route::CUSTODIAN_CLIENTS, &self.custodian_key, "{}");
        text(&serde_json::from_str(&answer).unwrap(), "clientApiKey")
    }

    /// A connection to the server.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    /// One HTTP/1.1 request over a connection that stays open; the answer's body.
    #[must_use]
    pub fn request(&self, connection: &mut TcpStream, method: &str, path: &str, token: &str, body: &str) -> String {
        let (host, length) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        connection.write_all(head.as_bytes()).unwrap();
        answer_body(connection)
    }

    /// The SDK on a new device with nothing on it.
    #[must_use]
    pub fn device(&self, client_key: &str) -> Halfkey {
        Halfkey::builder(Trusted::from_json(&self.descriptor).unwrap(), Credentials::token(client_key))
            .share_store(Arc::new(MemorySecretStore::new()), Arc::new(MemoryBlobStore::new()))
            .transport(Arc::new(HttpTransport::new().unwrap()))
            .clock(Arc::new(SystemClock))
            .entropy(Box::new(OsEntropy))
            .key_derivation(KdfParams::FLOOR)
            .device_name("bench")
            .build()
            .unwrap()
    }

    /// The server's process id.
    #[must_use]
    pub fn server(&self) -> u32 {
        self.server.id()
    }

    /// The process id of the keeper that the server started: `keeper` or `guesskeeper`.
    #[must_use]
    pub fn keeper(&self, kind: &str) -> u32 {
        let server = self.server.id().to_string();
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let is_it = |pid: &String| {
            let child = stat(pid).is_some_and(|stat| stat[1] == server);
            let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            child && arguments.split('\0').nth(1) == Some(kind)
        };
        processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).find(is_it).unwrap().parse().unwrap()
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

/// CPU milliseconds that a process has used, in steps of ten.
#[must_use]
pub fn cpu_ms(pid: u32) -> f64 {
    let stat = stat(&pid.to_string()).unwrap();
    let ticks = |index: usize| stat[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) * TICK_MS
}

/// The memory of a process.
#[must_use]
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ', '\t']).strip_suffix(" kB").unwrap().trim().parse::<f64>().unwrap() * 1024.0 / 1e6
    };
    Memory { now: mb("VmRSS"), own: mb("RssAnon"), most: mb("VmHWM") }
}

/// `/proc/PID/stat` from its third field on.
fn stat(pid: &str) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat[stat.rfind(')')? + 1..].split_whitespace().map(str::to_owned).collect())
}

fn answer_body(connection: &mut TcpStream) -> String {
    let mut reader = BufReader::new(connection);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 2"), "{line}");
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn admin(binary: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(binary).arg("admin").args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "halfkey admin: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}
