//! A client of the door, in this process or over its socket, for the tests of this crate and of `tests/`.
#![allow(dead_code, missing_docs, reason = "each test file uses a part")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use halfkey_envelope::{
    door::{
        self, Answer, Evaluate, KdfParams, Mode, Operation, Outcome, ReadBackToken, Refusal, Reply, Request, Sealed,
        Standing, State, Status, VERSION, Ver,
    },
    entropy::{OsEntropy, random},
    frame,
    hpke::{AnswerKey, PublicKey},
    id::{BackupId, ClientId, DeploymentId},
    oprf::Blinding,
    password::{self, Guess, Offer, Place, Registration, Starting},
    text::Password,
};
use halfkey_guesskeeper::{Clock, Config, Keeper, Listen, Rules};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Mutex,
};

pub const RECORD: &[u8] = b"the record of a backup, with its file key in it";
pub const START: u64 = 1_763_800_000_000;

/// A clock that the test moves.
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(START)))
    }

    pub fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn no_delays() -> Rules {
    Rules { delays_ms: [0; 7], ..Rules::default() }
}

/// Data, anchor and socket under one folder, each where a restore of the others leaves it alone.
pub fn config(folder: &Path) -> Config {
    let mut config = Config::new(folder.join("data"), Listen::Unix(folder.join("socket")));
    config.anchor = Some(folder.join("elsewhere/anchor"));
    config
}

pub async fn open(folder: &Path, clock: &Arc<TestClock>, rules: Rules) -> Keeper {
    try_open(folder, clock, rules).await.expect("the keeper opens")
}

pub async fn try_open(
    folder: &Path,
    clock: &Arc<TestClock>,
    rules: Rules,
) -> Result<Keeper, halfkey_guesskeeper::Error> {
    let mut config = config(folder);
    config.rules = rules;
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
    Keeper::open(&config, clock).await
}

/// How the test reaches the door.
pub enum Line<'a> {
    Here(&'a Keeper),
    Socket(PathBuf, Mutex<Option<UnixStream>>),
}

/// A client with the keeper's key pinned, and a server that relays.
pub struct Door<'a> {
    line: Line<'a>,
    pub key: PublicKey,
}

pub struct Registered {
    pub place: Place,
    pub ver: Ver,
    pub token: ReadBackToken,
    pub message: Sealed,
}

impl<'a> Door<'a> {
    pub fn here(keeper: &'a Keeper) -> Self {
        Self { line: Line::Here(keeper), key: keeper.public_key() }
    }

    pub fn at(process: &Process) -> Door<'static> {
        Door { line: Line::Socket(process.socket.clone(), Mutex::new(None)), key: process.key }
    }

    /// `None` when the line breaks.
    pub async fn try_ask(&self, request: Request) -> Option<Reply> {
        match &self.line {
            Line::Here(keeper) => Some(keeper.handle(request).await),
            Line::Socket(path, stream) => {
                let mut stream = stream.lock().await;
                if stream.is_none() {
                    *stream = Some(UnixStream::connect(path).await.ok()?);
                }
                let stream = stream.as_mut()?;
                stream.write_all(&frame::encode(&request.to_bytes()).ok()?).await.ok()?;
                let length = stream.read_u32().await.ok()?;
                let mut bytes = vec![0; length as usize];
                stream.read_exact(&mut bytes).await.ok()?;
                Reply::from_bytes(&bytes).ok()
            }
        }
    }

    pub async fn ask(&self, request: Request) -> Reply {
        self.try_ask(request).await.expect("the keeper replies")
    }

    async fn answer(&self, request: Request) -> Answer {
        match self.ask(request).await {
            Reply::Answer { answer } => answer,
            other => panic!("not an answer: {other:?}"),
        }
    }

    pub async fn status(&self, backup: BackupId) -> Status {
        status(self.ask(Request::Status { backup }).await)
    }

    pub async fn activate(&self, registered: &Registered) -> Status {
        let (backup, ver) = (registered.place.backup, registered.ver);
        status(self.ask(Request::Activate { backup, ver }).await)
    }

    /// Registers `text` for backup number `n`, pending.
    pub async fn register(&self, n: u8, text: &str) -> Registered {
        let entropy = &mut OsEntropy;
        let context = password::new_context(place(n), Mode::Password, KdfParams::FLOOR, &self.key, entropy);
        let stretched = password::stretch(&Password::text(text).unwrap(), &context).unwrap();
        let registration = Registration::new(&context, &stretched, RECORD, 10, &self.key, entropy).unwrap();
        let message = registration.message().clone();
        let (ver, request) =
            (registration.ver(), Request::Register { backup: place(n).backup, sealed: message.clone() });
        let token = registration.finish(&self.answer(request).await).unwrap();
        Registered { place: place(n), ver, token, message }
    }

    pub async fn register_active(&self, n: u8, text: &str) -> Registered {
        let registered = self.register(n, text).await;
        assert_eq!(self.activate(&registered).await.state, State::Active);
        registered
    }

    pub async fn offer(&self, n: u8, token: Option<&ReadBackToken>) -> Result<Offer, password::Error> {
        let starting = Starting::new(place(n), &self.key, token, &mut OsEntropy).unwrap();
        let sealed = starting.message().clone();
        starting.finish(&self.answer(Request::Start { backup: place(n).backup, sealed }).await)
    }

    /// The whole way from a typed password to the record.
    pub async fn recover(&self, n: u8, text: &str, token: Option<&ReadBackToken>) -> Result<Vec<u8>, password::Error> {
        let offer = self.offer(n, token).await?;
        let stretched = password::stretch(&Password::text(text).unwrap(), offer.context()).unwrap();
        let guess = Guess::new(offer, stretched, &mut OsEntropy).unwrap();
        let answer = self.evaluate(n, guess.message()).await;
        let unlocking = guess.finish(&answer, &mut OsEntropy)?;
        let answer = self.unlock(n, unlocking.message()).await;
        unlocking.finish(&answer).map(|record| record.to_vec())
    }

    /// A guess that has been blinded, not yet sent.
    pub async fn guess(&self, n: u8, text: &str) -> Guess {
        let offer = self.offer(n, None).await.unwrap();
        let stretched = password::stretch(&Password::text(text).unwrap(), offer.context()).unwrap();
        Guess::new(offer, stretched, &mut OsEntropy).unwrap()
    }

    pub async fn evaluate(&self, n: u8, sealed: &Sealed) -> Answer {
        self.answer(Request::Evaluate { backup: place(n).backup, sealed: sealed.clone() }).await
    }

    pub async fn unlock(&self, n: u8, sealed: &Sealed) -> Answer {
        self.answer(Request::Unlock { backup: place(n).backup, sealed: sealed.clone() }).await
    }

    /// A guess without the cost of a key derivation: some element. True if it was evaluated.
    pub async fn cheap_guess(&self, registered: &Registered) -> Result<(), (Option<Refusal>, Standing)> {
        let (sealed, key) = self.cheap_message(registered);
        let backup = registered.place.backup;
        match self.try_ask(Request::Evaluate { backup, sealed }).await {
            Some(Reply::Answer { answer }) => match self.opened(&key, Operation::Evaluate, backup, &answer) {
                (_, Outcome::Evaluated { .. }) => Ok(()),
                (standing, Outcome::Refused { reason }) => Err((Some(reason), standing)),
                other => panic!("{other:?}"),
            },
            Some(Reply::Refused { reason }) => Err((Some(reason), Standing::default())),
            Some(other) => panic!("{other:?}"),
            None => Err((None, Standing::default())),
        }
    }

    pub fn cheap_message(&self, registered: &Registered) -> (Sealed, AnswerKey) {
        let blinding = Blinding::new(random::<32>(&mut OsEntropy).as_ref(), &mut OsEntropy).unwrap();
        let body = Evaluate {
            version: VERSION,
            backup: registered.place.backup,
            ver: registered.ver,
            blinded: (*blinding.blinded()).into(),
            read_back: None,
        };
        door::seal_body(&self.key, &body, &mut OsEntropy).unwrap()
    }

    pub fn opened(
        &self,
        key: &AnswerKey,
        operation: Operation,
        backup: BackupId,
        answer: &Answer,
    ) -> (Standing, Outcome) {
        door::open_answer(key, operation, door::KeeperId::of(&self.key), backup, answer).unwrap()
    }
}

pub fn place(n: u8) -> Place {
    Place {
        deployment: DeploymentId::from_bytes([0xd0; 16]),
        client: ClientId::from_bytes([0xc0; 16]),
        backup: BackupId::from_bytes([n; 16]),
    }
}

pub fn status(reply: Reply) -> Status {
    match reply {
        Reply::Status { status } => status,
        other => panic!("not a status: {other:?}"),
    }
}

/// Every file under `folder`, with its bytes.
pub fn all_bytes(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_bytes(&path));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

pub fn holds(folder: &Path, needle: &[u8]) -> bool {
    all_bytes(folder).iter().any(|(_, bytes)| bytes.windows(needle.len()).any(|window| window == needle))
}

pub fn copy_folder(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// A guesskeeper in a process of its own: this very test program, started again as [`be_a_process`].
pub struct Process {
    child: Child,
    socket: PathBuf,
    pub key: PublicKey,
}

const FOLDER: &str = "HALFKEY_TEST_GUESSKEEPER_FOLDER";
const DATABASE: &str = "HALFKEY_TEST_GUESSKEEPER_DATABASE";

impl Process {
    /// `entry` is the name of the test that calls [`be_a_process`].
    pub fn start(entry: &str, folder: &Path, database: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([entry, "--exact", "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
        if let Some(database) = database {
            command.env(DATABASE, database);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map(Result::unwrap).find_map(|line| Some(line[line.find('{')?..].to_owned()));
        let ready: serde_json::Value = serde_json::from_str(&ready.expect("the process is ready")).unwrap();
        let key = hex::decode(ready["public_key"].as_str().unwrap()).unwrap().try_into().unwrap();
        let socket = PathBuf::from(ready["listen"].as_str().unwrap());
        Self { child, socket, key: PublicKey::from_bytes(key) }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its standard input, and waits for it to end by itself.
    pub fn stop(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves, if this program was started by [`Process::start`]; otherwise does nothing.
pub fn be_a_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let mut config = config(Path::new(&folder));
    config.rules = no_delays();
    config.stop_with_stdin = true;
    config.database = std::env::var(DATABASE).ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(halfkey_guesskeeper::run(config)).unwrap();
    std::process::exit(0);
}
