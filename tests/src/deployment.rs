//! A whole deployment as processes of their own: `halfkey serve` and the two keepers that it starts, on real sockets,
//! with a folder of its own on SQLite or on a real PostgreSQL. It can be stopped, killed, copied and started again.

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use halfkey_envelope::{keeper::Request, wallet::Curve};
use halfkey_protocol::lifecycle::PairState;
use halfkey_server::{
    clock::{Clock, SystemClock},
    store::{SigningPair, Store},
};
use serde_json::Value;

use crate::{
    keeper,
    postgres::Postgres,
    tpm_keeper::{Sealed, spawn_ready},
};

/// The relying party of deployments with passkeys, unless they host it.
pub const RELYING_PARTY: &str = "wallet.example";
/// Where its passkeys are made and used.
pub const ORIGIN: &str = "https://wallet.example";

/// The relying party that a deployment hosts: browsers on this machine take it without a certificate.
pub const HOSTED: &str = "localhost";

/// The data folder of a keeper with a TPM, in the deployment's.
const KEEPER: &str = "keeper";

/// Where the server and the guesskeeper keep their tables.
#[derive(Clone)]
pub enum Backing {
    /// Files in the deployment's folder.
    Sqlite,
    /// Three databases of this cluster: the server's, the shred store's, the guesskeeper's.
    Postgres(Arc<Postgres>),
}

/// The `halfkey` program that `cargo build --bins` made beside this test.
///
/// # Panics
/// When it is not there: a test that used another one, or none, would prove nothing.
#[must_use]
#[allow(clippy::panic, reason = "nothing that a test could do about it")]
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let program = test.ancestors().nth(2).unwrap_or(Path::new("")).join("halfkey");
    if !program.is_file() {
        panic!(
            "{} is not built: run `cargo build --workspace --bins --tests` first, as ./check does",
            program.display()
        );
    }
    program
}

/// A command of the `halfkey` program that inherits no setting of the environment.
#[must_use]
pub fn halfkey(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALFKEY_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// The three databases' addresses, where they are not files of the folder.
#[derive(Clone)]
struct Databases {
    main: String,
    shred: String,
    guesses: String,
}

/// A deployment; its processes end with it.
pub struct Deployment {
    root: tempfile::TempDir,
    backing: Backing,
    databases: Option<Databases>,
    log: &'static str,
    passkeys: Option<Passkeys>,
    keeper: Option<PasskeyKeeper>,
    server: Option<Server>,
    address: SocketAddr,
    /// The file that apps trust.
    pub descriptor: String,
    custodian_key: String,
    logged: Arc<Mutex<Vec<u8>>>,
}

/// Whose passkeys a deployment takes, and the machine of its keeper.
#[derive(Clone)]
struct Passkeys {
    relying_party: &'static str,
    machine: Arc<Sealed>,
}

/// A keeper of the passkey door with evidence that apps accept.
struct PasskeyKeeper {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl PasskeyKeeper {
    /// Ends as an operator would end it, or at once.
    fn end(mut self, kill: bool) -> io::Result<()> {
        if kill {
            self.child.kill()?;
        }
        drop(self.stdin.take());
        self.child.wait().map(drop)
    }
}

struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    log: thread::JoinHandle<()>,
}

/// A stopped deployment's whole state, to be started from any number of times.
pub struct Snapshot {
    root: tempfile::TempDir,
    backing: Backing,
    databases: Option<Databases>,
    descriptor: String,
    custodian_key: String,
    passkeys: Option<Passkeys>,
}

/// A client's credentials.
#[derive(Clone)]
pub struct Client {
    /// The client.
    pub id: String,
    /// For tests: never ends.
    pub api_key: String,
    /// As an app's backend would hand it on.
    pub session_token: String,
}

impl Deployment {
    /// Starts a new deployment and gives it a custodian and a descriptor.
    ///
    /// # Errors
    /// When a process does not start; its log is in the message.
    pub fn start(backing: &Backing) -> io::Result<Self> {
        Self::start_logging(backing, "info")
    }

    /// The same with another level of logging, in every process.
    ///
    /// # Errors
    /// See [`Deployment::start`].
    pub fn start_logging(backing: &Backing, log: &'static str) -> io::Result<Self> {
        Self::start_with(backing, log, None)
    }

    /// One whose passkey keeper has a TPM and shows its evidence, for passkeys of [`RELYING_PARTY`].
    ///
    /// # Errors
    /// See [`Deployment::start`].
    pub fn start_with_passkeys(backing: &Backing) -> io::Result<Self> {
        Self::start_with(backing, "info", Some(RELYING_PARTY))
    }

    /// The same, for passkeys of [`HOSTED`], whose files and page the server hosts.
    ///
    /// # Errors
    /// See [`Deployment::start`].
    pub fn start_with_passkey_page(backing: &Backing) -> io::Result<Self> {
        Self::start_with(backing, "info", Some(HOSTED))
    }

    fn start_with(backing: &Backing, log: &'static str, relying_party: Option<&'static str>) -> io::Result<Self> {
        let databases = databases(backing)?;
        let root = tempfile::Builder::new().prefix("halfkey-e2e-").tempdir()?;
        let passkeys = match relying_party {
            Some(relying_party) => {
                Some(Passkeys { relying_party, machine: Arc::new(Sealed::new(&root.path().join(KEEPER))?) })
            }
            None => None,
        };
        let mut deployment = Self {
            root,
            backing: backing.clone(),
            databases,
            log,
            passkeys,
            keeper: None,
            server: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            descriptor: String::new(),
            custodian_key: String::new(),
            logged: Arc::default(),
        };
        deployment.restart()?;
        let key = deployment.admin(&["create-custodian", "--name", "Tests", "--json"])?;
        deployment.custodian_key = text(&key, "key")?;
        let file = deployment.root.path().join("descriptor.json");
        let url = format!("http://{}", deployment.address);
        let out = file.display().to_string();
        let mut words = ["descriptor", "--url", &url, "--out", &out, "--json"].map(str::to_owned).to_vec();
        if let Some(passkeys) = &deployment.passkeys {
            words.extend(["--for-relying-party", passkeys.relying_party].map(str::to_owned));
            words.extend(passkeys.machine.policy_arguments());
        }
        deployment.admin(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        deployment.descriptor = fs::read_to_string(file)?;
        Ok(deployment)
    }

    /// Opens the window in which this client may eject, as an operator does.
    ///
    /// # Errors
    /// When the command fails.
    pub fn enable_eject(&self, client: &Client) -> io::Result<()> {
        self.operator(&["enable-eject", "--client", &client.id]).map(drop)
    }

    /// Registers the public half of the custodian's export key and gives apps from then on a descriptor that names it.
    ///
    /// # Errors
    /// When a command fails.
    pub fn register_export_key(&mut self, public: &str) -> io::Result<()> {
        self.operator(&["export-key", "--register", public])?;
        let file = self.root.path().join("descriptor.json");
        let (url, out) = (self.url(), file.display().to_string());
        self.admin(&["descriptor", "--url", &url, "--out", &out, "--json"])?;
        self.descriptor = fs::read_to_string(file)?;
        Ok(())
    }

    /// Starts a copy of a stopped deployment. It listens on a port of its own: see [`crate::wire::Wire`]. The keeper's
    /// machine is the same for all copies, so one at a time may run.
    ///
    /// # Errors
    /// See [`Deployment::start`].
    pub fn from_snapshot(snapshot: &Snapshot) -> io::Result<Self> {
        let root = tempfile::Builder::new().prefix("halfkey-e2e-").tempdir()?;
        copy_folder(snapshot.root.path(), root.path())?;
        let databases = match (&snapshot.backing, &snapshot.databases) {
            (Backing::Postgres(cluster), Some(from)) => Some(copy_databases(cluster, from)?),
            _ => None,
        };
        let mut deployment = Self {
            root,
            backing: snapshot.backing.clone(),
            databases,
            log: "info",
            passkeys: snapshot.passkeys.clone(),
            keeper: None,
            server: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            descriptor: snapshot.descriptor.clone(),
            custodian_key: snapshot.custodian_key.clone(),
            logged: Arc::default(),
        };
        deployment.restart()?;
        Ok(deployment)
    }

    /// Stops everything and copies it; the deployment is running again when this returns.
    ///
    /// # Errors
    /// See [`Deployment::start`].
    pub fn snapshot(&mut self) -> io::Result<Snapshot> {
        self.stop()?;
        let root = tempfile::Builder::new().prefix("halfkey-e2e-").tempdir()?;
        copy_folder(self.root.path(), root.path())?;
        let databases = match (&self.backing, &self.databases) {
            (Backing::Postgres(cluster), Some(from)) => Some(copy_databases(cluster, from)?),
            _ => None,
        };
        self.restart()?;
        Ok(Snapshot {
            root,
            backing: self.backing.clone(),
            databases,
            descriptor: self.descriptor.clone(),
            custodian_key: self.custodian_key.clone(),
            passkeys: self.passkeys.clone(),
        })
    }

    /// Starts the server (again), on the port that it had.
    ///
    /// # Errors
    /// See [`Deployment::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        let (data, listen) = (self.data().display().to_string(), self.address.to_string());
        let mut serve = self.command(&["serve", "--listen", &listen, "--stop-on-stdin-close", "--log", self.log]);
        serve.args(["--data", &data]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(passkeys) = self.passkeys.clone() {
            self.start_keeper()?;
            serve.args(["--keeper", &format!("unix:{}", self.keeper_socket().display())]);
            if passkeys.relying_party == HOSTED {
                serve.args(["--relying-party", HOSTED]);
            }
        }
        let mut child = serve.spawn()?;
        let stdin = child.stdin.take();
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("a pipe was asked for"))?;
        let logged = Arc::clone(&self.logged);
        let log = thread::spawn(move || collect(stderr, &logged));
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("a pipe was asked for"))?;
        BufReader::new(stdout).read_line(&mut line)?;
        self.server = Some(Server { child, stdin, log });
        let ready = serde_json::from_str::<Value>(&line).ok();
        let address = ready.and_then(|ready| ready["address"].as_str().and_then(|address| address.parse().ok()));
        let Some(address) = address else {
            self.kill()?;
            return Err(io::Error::other(format!("halfkey serve did not start: {line}\n{}", self.log_text())));
        };
        self.address = address;
        Ok(())
    }

    /// Starts the keeper of the passkey door (again), if it does not run.
    ///
    /// # Errors
    /// See [`Deployment::start`].
    pub fn start_keeper(&mut self) -> io::Result<()> {
        // One that was killed a moment ago may not have ended yet, but answers no more.
        if self.keeper.is_some() && keeper::ask(&self.keeper_socket(), &Request::Info).is_ok() {
            return Ok(());
        }
        if let Some(ended) = self.keeper.take() {
            ended.end(true)?;
        }
        let Some(passkeys) = &self.passkeys else { return Ok(()) };
        let mut command = passkeys.machine.keeper(&self.root.path().join(KEEPER), &self.keeper_socket());
        let (child, stdin, _) = spawn_ready(command.stderr(Stdio::inherit()))?;
        self.keeper = Some(PasskeyKeeper { child, stdin: Some(stdin) });
        Ok(())
    }

    /// Where `halfkey serve` would put the socket of a keeper of its own, and `halfkey admin` looks for one.
    fn keeper_socket(&self) -> PathBuf {
        self.root.path().join("server.keeper.sock")
    }

    /// `kill -9` of the server. Its keepers end by themselves when they notice.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut server) = self.server.take() {
            server.child.kill()?;
            server.child.wait()?;
        }
        Ok(())
    }

    /// `kill -9` of the keeper of this kind: `keeper` or `guesskeeper`. The server starts it again.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill_keeper(&self, kind: &str) -> io::Result<()> {
        let pid = self.process(kind)?;
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        if killed.success() { Ok(()) } else { Err(io::Error::other(format!("kill -9 {pid}: {killed}"))) }
    }

    /// Ends everything as an operator would, and waits for it.
    ///
    /// # Errors
    /// When the server ends with an error.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(keeper) = self.keeper.take() {
            keeper.end(false)?;
        }
        let Some(mut server) = self.server.take() else { return Ok(()) };
        drop(server.stdin.take());
        let status = server.child.wait()?;
        let _ = server.log.join();
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("{status}\n{}", self.log_text()))) }
    }

    /// The process of this kind: `serve`, `keeper` or `guesskeeper`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self, kind: &str) -> io::Result<u32> {
        let mut found =
            self.processes()?.into_iter().filter(|(_, words)| words.get(1).is_some_and(|word| word == kind));
        found.next().map(|(pid, _)| pid).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, kind.to_owned()))
    }

    /// Every running process of this deployment with its command line.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn processes(&self) -> io::Result<Vec<(u32, Vec<String>)>> {
        processes_in(self.root.path())
    }

    /// Where the server listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder of everything: the server's folder, each keeper's, and the guesskeeper's anchor.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The server's data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.path().join("server")
    }

    /// The folder of a keeper: `keeper` or `guesskeeper`.
    #[must_use]
    pub fn keeper_data(&self, kind: &str) -> PathBuf {
        self.root.path().join(format!("server.{kind}"))
    }

    /// What all processes have logged, from the first start on.
    #[must_use]
    pub fn log_bytes(&self) -> Vec<u8> {
        self.logged.lock().map(|logged| logged.clone()).unwrap_or_default()
    }

    fn log_text(&self) -> String {
        let log = self.log_bytes();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }

    /// Addresses of the databases, where they are not files: the server's, the shred store's, the guesskeeper's.
    #[must_use]
    pub fn database_urls(&self) -> Option<[&str; 3]> {
        self.databases.as_ref().map(|urls| [urls.main.as_str(), urls.shred.as_str(), urls.guesses.as_str()])
    }

    /// A command of the program with this deployment's settings.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = halfkey(arguments);
        command.current_dir(self.root.path());
        if let Some(urls) = &self.databases {
            command.env("HALFKEY_DATABASE", &urls.main);
            command.env("HALFKEY_SHRED_STORE", &urls.shred);
            command.env("HALFKEY_GUESSKEEPER_DATABASE", &urls.guesses);
        }
        command
    }

    /// Runs `halfkey admin …` and gives the object that it printed.
    ///
    /// # Errors
    /// What it said on standard error.
    pub fn admin(&self, arguments: &[&str]) -> io::Result<Value> {
        let mut words = vec!["admin", arguments.first().copied().unwrap_or_default()];
        let data = self.data().display().to_string();
        words.extend(["--data", &data]);
        words.extend(arguments.iter().skip(1));
        let done = self.command(&words).stdin(Stdio::null()).output()?;
        if !done.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()));
        }
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    /// Runs `halfkey admin …` and gives what it printed, which need not be an object.
    ///
    /// # Errors
    /// What it said on standard error.
    pub fn operator(&self, arguments: &[&str]) -> io::Result<String> {
        let data = self.data().display().to_string();
        let mut words = vec!["admin", arguments.first().copied().unwrap_or_default(), "--data", &data];
        words.extend(arguments.iter().skip(1));
        let done = self.command(&words).stdin(Stdio::null()).output()?;
        if !done.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Bans the newest active signing pair of a client on secp256k1, as a caught cheat would, beside the running server.
    /// Returns the pair.
    ///
    /// # Errors
    /// When the client has no such pair.
    pub async fn ban(&self, client: &Client) -> io::Result<String> {
        let file = format!("sqlite:{}", self.data().join("halfkey.db").display());
        let url = self.database_urls().map_or(file.as_str(), |urls| urls[0]);
        let store = Store::connect(url).await.map_err(io::Error::other)?;
        let client = client.id.parse().map_err(|_| io::Error::other("not a client's id"))?;
        let pairs = store.signing_pairs(client).await.map_err(io::Error::other)?;
        let active = |pair: &&SigningPair| pair.share.curve == Curve::Secp256k1 && pair.pair.state == PairState::Active;
        let newest = pairs.iter().filter(active).max_by_key(|pair| pair.pair.created_ms);
        let pair = newest.ok_or_else(|| io::Error::other("no active pair"))?.share.id;
        store.ban_pair(client, pair, "BY_A_TEST", SystemClock.now_ms()).await.map_err(io::Error::other)?;
        store.close().await;
        Ok(pair.to_string())
    }

    /// What an app's backend does for a new user.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn new_client(&self) -> io::Result<Client> {
        let url = format!("http://{}{}", self.address, halfkey_api::route::CUSTODIAN_CLIENTS);
        let http = reqwest::Client::builder().no_proxy().build().map_err(io::Error::other)?;
        let request = http.post(url).bearer_auth(&self.custodian_key).header("content-type", "application/json");
        let answer = request.body("{}").send().await.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(io::Error::other)?.bytes().await.map_err(io::Error::other)?;
        let value: Value = serde_json::from_slice(&answer)?;
        let [id, api_key, session_token] =
            ["id", "clientApiKey", "clientSessionToken"].map(|field| text(&value, field));
        Ok(Client { id: id?, api_key: api_key?, session_token: session_token? })
    }

    /// Where the server is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The custodian's API key.
    #[must_use]
    pub fn custodian_key(&self) -> &str {
        &self.custodian_key
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let _ = self.kill();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.end(true);
        }
        // The keepers notice by themselves; the folder must not go away under them.
        for _ in 0..200 {
            if self.processes().is_ok_and(|left| left.is_empty()) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if let (Backing::Postgres(cluster), Some(urls)) = (&self.backing, &self.databases) {
            for url in [&urls.main, &urls.shred, &urls.guesses] {
                let _ = cluster.drop_database(name_in(url));
            }
        }
    }
}

fn collect(mut from: impl Read, into: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Ok(mut into) = into.lock() {
            into.extend_from_slice(&buffer[..count]);
        }
    }
}

fn text(value: &Value, field: &str) -> io::Result<String> {
    let text = value[field].as_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::other(format!("no {field} in {value}")))
}

/// Names no database twice, in whichever process.
fn fresh_name(kind: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{kind}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn databases(backing: &Backing) -> io::Result<Option<Databases>> {
    let Backing::Postgres(cluster) = backing else { return Ok(None) };
    let make = |kind| cluster.create_database(&fresh_name(kind));
    Ok(Some(Databases { main: make("main")?, shred: make("shred")?, guesses: make("guesses")? }))
}

fn copy_databases(cluster: &Postgres, from: &Databases) -> io::Result<Databases> {
    let copy = |url: &str, kind| cluster.copy_database(name_in(url), &fresh_name(kind));
    Ok(Databases {
        main: copy(&from.main, "main")?,
        shred: copy(&from.shred, "shred")?,
        guesses: copy(&from.guesses, "guesses")?,
    })
}

fn name_in(url: &str) -> &str {
    url.split(['/', '?']).nth(3).unwrap_or_default()
}

/// Copies files and folders; sockets are left out.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Running processes whose command line names something below `folder`.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn processes_in(folder: &Path) -> io::Result<Vec<(u32, Vec<String>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if pid != std::process::id() && words.iter().any(|word| Path::new(word).starts_with(folder)) {
            found.push((pid, words));
        }
    }
    Ok(found)
}
