//! The door itself: one request, one reply.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use halfkey_envelope::{
    cbor,
    door::{
        self, Answer, Body, Evaluate, KeeperId, MAX_WRAPPED, NORMALISER, Operation, Outcome, ReadBackToken, Refusal,
        Register, Reply, Request, Sealed, SealedAnswer, Standing, Start, State, Status, Ticket, Unlock, VERSION,
    },
    entropy::OsEntropy,
    hash::h,
    hpke::{AnswerKey, PublicKey},
    id::BackupId,
    oprf,
    seal::{self, Magic},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    Config, Error,
    anchor::{self, Anchor, Mark},
    clock::Clock,
    guess::{Event, MAX_GUESSES, Registration, Rules, apply},
    keys::{self, Keys},
    shred::Shred,
    store::{Counted, Loaded, Store},
};

const STORED: Magic = Magic(*b"HKG1");
/// How often a decision is made anew because another request was faster.
const RETRIES: usize = 1_000;

/// An open guesskeeper.
pub struct Keeper {
    keys: Keys,
    store: Store,
    shred: Shred,
    anchor: Arc<Anchor>,
    clock: Arc<dyn Clock>,
    rules: Rules,
    behind: AtomicBool,
}

/// A refusal that the client may read, or a failure that only the log may.
enum Stop {
    Refused(Refusal),
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Keeper {
    /// Opens stores, key file and anchor; makes them at the first start. Refuses a database behind its anchor.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        config.check()?;
        config.make_folder()?;
        let store = Store::open(&config.database_url(), fresh_id()).await?;
        let shred = Shred::open(&config.shred_url()).await?;
        let keys = open_keys(config, &store).await?;
        let anchor = open_anchor(config, &store).await?;
        finish_restore(&store, &shred).await?;
        let (anchor, behind) = (Arc::new(anchor), AtomicBool::new(false));
        Ok(Self { keys, store, shred, anchor, clock, rules: config.rules.clone(), behind })
    }

    /// The key to pin, the newest.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.keys.public().first().copied().unwrap_or(PublicKey::from_bytes([0; 32]))
    }

    /// How far the database's clock is ahead of this machine's, in milliseconds.
    pub async fn clock_skew_ms(&self) -> Result<i64, Error> {
        Ok(self.store.database().clock_skew_ms(self.clock.now_ms()).await?)
    }

    /// Answers one request of the server. Never fails: what cannot be answered is [`Refusal::Unavailable`].
    pub async fn handle(&self, request: Request) -> Reply {
        match request {
            Request::Info {} => Reply::Info { keys: self.keys.public() },
            Request::Register { backup, sealed } => self.relay::<Register>(backup, &sealed).await,
            Request::Start { backup, sealed } => self.relay::<Start>(backup, &sealed).await,
            Request::Evaluate { backup, sealed } => self.relay::<Evaluate>(backup, &sealed).await,
            Request::Unlock { backup, sealed } => self.relay::<Unlock>(backup, &sealed).await,
            Request::Activate { backup, ver } => status(self.change(backup, Event::Activate { ver }).await),
            Request::Erase { backup } => status(self.erase(backup).await),
            Request::Status { backup } => status(self.change(backup, Event::Tick).await),
        }
    }

    /// Closes both stores: their files are at rest when this returns.
    pub async fn close(&self) {
        self.store.database().close().await;
        self.shred.close().await;
    }

    /// Destroys every registration whose last tag did not come in time. Called by a timer, too.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let overdue = self.store.overdue(self.clock.now_ms(), &self.rules).await?;
        for backup in &overdue {
            if let Err(Stop::Failed(error)) = self.load(*backup, self.clock.now_ms()).await {
                return Err(error);
            }
        }
        Ok(overdue.len())
    }

    async fn relay<B: Op>(&self, backup: BackupId, sealed: &Sealed) -> Reply {
        let Some(secret) = self.keys.opening(sealed.keeper) else {
            return Reply::Refused { reason: Refusal::Malformed };
        };
        let Ok((body, answer_key)) = door::open_body::<B>(secret, backup, sealed) else {
            return Reply::Refused { reason: Refusal::Malformed };
        };
        let now_ms = self.clock.now_ms();
        let (standing, outcome) = match body.run(self, sealed, now_ms).await {
            Ok(done) => done,
            Err(Stop::Refused(reason)) => match self.standing_for(backup, reason, now_ms).await {
                Ok(standing) => (standing, Outcome::Refused { reason }),
                Err(error) => return unavailable(&error),
            },
            Err(Stop::Failed(error)) => return unavailable(&error),
        };
        answer(&answer_key, B::OPERATION, sealed.keeper, backup, standing, outcome)
    }

    /// What a refused client may know: nothing of a registration that it may not use.
    async fn standing_for(&self, backup: BackupId, reason: Refusal, now_ms: u64) -> Result<Standing, Error> {
        match reason {
            Refusal::TooEarly | Refusal::Exhausted | Refusal::Overloaded | Refusal::StaleTicket | Refusal::WrongTag => {
                match self.load(backup, now_ms).await {
                    Ok(Some(loaded)) => Ok(loaded.registration.standing(&self.rules)),
                    Ok(None) | Err(Stop::Refused(_)) => Ok(Standing::default()),
                    Err(Stop::Failed(error)) => Err(error),
                }
            }
            Refusal::LockedOut => Ok(Standing { locked: true, ..Standing::default() }),
            _ => Ok(Standing::default()),
        }
    }

    async fn register(&self, body: Register, sealed: &Sealed) -> Result<(Standing, Outcome), Stop> {
        check_registration(&body, sealed.keeper, &self.rules)?;
        let backup = body.context.backup;
        if self.shred.tombstone(backup).await?.is_some() {
            return Err(Refusal::LockedOut.into());
        }
        let digest = h("halfkey/guesskeeper/v1/registration", &[&cbor::to_secret_vec(&body)]);
        let fresh = fresh_registration(&body);
        let registered = (fresh.standing(&self.rules), Outcome::Registered {});
        if let Some(loaded) = self.load(backup, self.clock.now_ms()).await? {
            // A lost answer: the very same registration may be sent again while nothing has happened to it.
            let same = loaded.digest == digest && loaded.registration.version == 1;
            if !same {
                return Err(Refusal::Exists.into());
            }
            self.shred.confirm(backup).await?;
            return Ok(registered);
        }
        let shred_key = self.shred.prepare(backup).await?.ok_or(Refusal::Exists)?;
        let header = stored_header(&fresh);
        let plaintext = cbor::to_secret_vec(&body);
        let stored = seal::seal(&self.keys.storage(&shred_key), STORED, &header, &plaintext, &mut OsEntropy);
        let before = self.anchor.generation();
        let generation = self.store.insert(&fresh, &stored, &digest).await?.ok_or(Refusal::Exists)?;
        self.shred.confirm(backup).await?;
        self.raise(before, generation).await?;
        Ok(registered)
    }

    async fn start(&self, body: Start, now_ms: u64) -> Result<(Standing, Outcome), Stop> {
        let (loaded, secrets) = self.use_registration(body.backup, body.read_back.as_ref(), now_ms).await?;
        Ok((loaded.registration.standing(&self.rules), Outcome::Offer { context: secrets.context }))
    }

    async fn evaluate(&self, body: Evaluate, now_ms: u64) -> Result<(Standing, Outcome), Stop> {
        // Everything that can fail comes before the count: an outage costs no guess.
        let (loaded, secrets) = self.use_registration(body.backup, body.read_back.as_ref(), now_ms).await?;
        if loaded.registration.ver != body.ver {
            return Err(Refusal::NotFound.into());
        }
        oprf::check_element(&body.blinded).map_err(|_| Refusal::Malformed)?;
        let counted = self.count(loaded.registration, *body.blinded, now_ms).await?;
        let evaluated = oprf::evaluate_blinded(&secrets.oprf_key, &body.blinded).map_err(|_| Refusal::Malformed)?;
        let ticket = counted.ticket.ok_or(Refusal::LockedOut)?;
        let outcome = Outcome::Evaluated { evaluated: evaluated.into(), commitment: secrets.commitment, ticket };
        Ok((counted.standing(&self.rules), outcome))
    }

    /// Counts a guess durably, or finds that this very guess was counted already.
    async fn count(&self, mut old: Registration, blinded: [u8; 32], now_ms: u64) -> Result<Registration, Stop> {
        for _ in 0..RETRIES {
            let ticket = Ticket::generate(&mut OsEntropy);
            let decided = apply(&old, Event::Guess { blinded, ticket }, now_ms, &self.rules)?;
            if decided.version == old.version {
                return Ok(old);
            }
            let before = self.anchor.generation();
            match self.store.count(&old, &blinded, ticket, now_ms, &self.rules).await? {
                Counted::Yes(new, generation) => {
                    self.raise(before, generation).await?;
                    return Ok(new);
                }
                Counted::Overloaded => {
                    tracing::warn!(alarm = "wrong-guesses", "too many wrong guesses in this deployment");
                    return Err(Refusal::Overloaded.into());
                }
                Counted::No => old = self.load(old.backup, now_ms).await?.ok_or(Refusal::NotFound)?.registration,
            }
        }
        Err(Refusal::Unavailable.into())
    }

    async fn unlock(&self, body: Unlock, now_ms: u64) -> Result<(Standing, Outcome), Stop> {
        let (loaded, secrets) = self.use_registration(body.backup, body.read_back.as_ref(), now_ms).await?;
        if loaded.registration.ver != body.ver {
            return Err(Refusal::NotFound.into());
        }
        if !bool::from(secrets.tag.ct_eq(&body.tag)) {
            return Err(Refusal::WrongTag.into());
        }
        let opened = self.store_event(loaded.registration, Event::TagShown { ticket: body.ticket }, now_ms).await?;
        let Register { keeper_part, wrapped, .. } = secrets;
        Ok((opened.standing(&self.rules), Outcome::Unlocked { keeper_part, wrapped }))
    }

    /// A registration that the bearer of this token may use, with its secrets.
    async fn use_registration(
        &self,
        backup: BackupId,
        read_back: Option<&ReadBackToken>,
        now_ms: u64,
    ) -> Result<(Loaded, Register), Stop> {
        let Some(loaded) = self.load(backup, now_ms).await? else {
            let buried = self.shred.tombstone(backup).await?.is_some();
            return Err(if buried { Refusal::LockedOut } else { Refusal::NotFound }.into());
        };
        if !loaded.registration.is_live() {
            return Err(Refusal::LockedOut.into());
        }
        let secrets = self.open_secrets(&loaded).await?;
        let token_fits = || read_back.is_some_and(|token| bool::from(token.ct_eq(&secrets.read_back)));
        if loaded.registration.state == State::Pending && !token_fits() {
            return Err(Refusal::NotFound.into());
        }
        Ok((loaded, secrets))
    }

    async fn open_secrets(&self, loaded: &Loaded) -> Result<Register, Stop> {
        let (Some(shred_key), Some(sealed)) = (self.shred.key(loaded.registration.backup).await?, &loaded.sealed)
        else {
            return Err(Refusal::LockedOut.into());
        };
        let header = stored_header(&loaded.registration);
        let opened = seal::open(&self.keys.storage(&shred_key), STORED, &header, sealed);
        let opened = opened.map_err(|_| Error::Damaged)?;
        Ok(cbor::from_slice(&opened).map_err(|_| Error::Damaged)?)
    }

    /// Reads a registration, after what the passing of time does to it.
    async fn load(&self, backup: BackupId, now_ms: u64) -> Result<Option<Loaded>, Stop> {
        for _ in 0..RETRIES {
            self.check_generation().await?;
            let Some(loaded) = self.store.load(backup).await? else {
                return Ok(None);
            };
            let old = &loaded.registration;
            let ticked = apply(old, Event::Tick, now_ms, &self.rules)?;
            if ticked.version == old.version {
                return Ok(Some(loaded));
            }
            tracing::warn!(%backup, "locked out: destroyed");
            self.shred.destroy(backup, ticked.state, now_ms).await?;
            self.replace(old, &ticked).await?;
        }
        Err(Refusal::Unavailable.into())
    }

    /// An event of the server's own.
    async fn change(&self, backup: BackupId, event: Event) -> Result<Status, Stop> {
        let now_ms = self.clock.now_ms();
        let Some(loaded) = self.load(backup, now_ms).await? else {
            let state = self.shred.tombstone(backup).await?.ok_or(Refusal::NotFound)?;
            let standing = Standing { locked: true, ..Standing::default() };
            return Ok(Status { state, ver: None, proven: false, standing });
        };
        if matches!(event, Event::Activate { .. }) {
            self.shred.confirm(backup).await?;
        }
        let now = self.store_event(loaded.registration, event, now_ms).await?;
        Ok(now.status(&self.rules))
    }

    async fn erase(&self, backup: BackupId) -> Result<Status, Stop> {
        let now_ms = self.clock.now_ms();
        // The tombstone first: from here on the id is dead, whatever happens to the row.
        let loaded = self.load(backup, now_ms).await?;
        let state = loaded.as_ref().filter(|loaded| !loaded.registration.is_live());
        let state = state.map_or(State::Erased, |loaded| loaded.registration.state);
        self.shred.destroy(backup, state, now_ms).await?;
        self.change(backup, Event::Erase).await
    }

    async fn store_event(&self, mut old: Registration, event: Event, now_ms: u64) -> Result<Registration, Stop> {
        for _ in 0..RETRIES {
            let new = apply(&old, event, now_ms, &self.rules)?;
            if new.version == old.version || self.replace(&old, &new).await? {
                return Ok(new);
            }
            old = self.load(old.backup, now_ms).await?.ok_or(Refusal::NotFound)?.registration;
        }
        Err(Refusal::Unavailable.into())
    }

    async fn replace(&self, old: &Registration, new: &Registration) -> Result<bool, Stop> {
        let before = self.anchor.generation();
        let Some(generation) = self.store.replace(old, new).await? else {
            return Ok(false);
        };
        if !new.is_live() {
            self.store.database().forget_deleted().await?;
        }
        self.raise(before, generation).await?;
        Ok(true)
    }

    /// The database may be exchanged while the keeper runs; every read looks whether it went back.
    async fn check_generation(&self) -> Result<(), Stop> {
        let before = self.anchor.generation();
        let generation = self.store.generation().await?;
        if self.behind.load(Ordering::SeqCst) || generation < before {
            return Err(self.went_back(before, generation).into());
        }
        Ok(())
    }

    /// Committed → anchored → only then answered.
    async fn raise(&self, before: u64, generation: u64) -> Result<(), Stop> {
        if generation <= before {
            return Err(self.went_back(before, generation).into());
        }
        let anchor = Arc::clone(&self.anchor);
        let raised = tokio::task::spawn_blocking(move || anchor.raise(generation)).await;
        Ok(raised.map_err(|_| Error::Stopping)??)
    }

    fn went_back(&self, anchor: u64, database: u64) -> Error {
        self.behind.store(true, Ordering::SeqCst);
        Error::Behind { database, anchor }
    }
}

/// What each of the client's messages does.
trait Op: Body + Send + Sync {
    fn run(
        self,
        keeper: &Keeper,
        sealed: &Sealed,
        now_ms: u64,
    ) -> impl Future<Output = Result<(Standing, Outcome), Stop>> + Send;
}

impl Op for Register {
    async fn run(self, keeper: &Keeper, sealed: &Sealed, _: u64) -> Result<(Standing, Outcome), Stop> {
        keeper.register(self, sealed).await
    }
}

impl Op for Start {
    async fn run(self, keeper: &Keeper, _: &Sealed, now_ms: u64) -> Result<(Standing, Outcome), Stop> {
        keeper.start(self, now_ms).await
    }
}

impl Op for Evaluate {
    async fn run(self, keeper: &Keeper, _: &Sealed, now_ms: u64) -> Result<(Standing, Outcome), Stop> {
        keeper.evaluate(self, now_ms).await
    }
}

impl Op for Unlock {
    async fn run(self, keeper: &Keeper, _: &Sealed, now_ms: u64) -> Result<(Standing, Outcome), Stop> {
        keeper.unlock(self, now_ms).await
    }
}

/// The bounds of a registration. Its secrets are the client's business.
fn check_registration(body: &Register, keeper: KeeperId, rules: &Rules) -> Result<(), Refusal> {
    let context = &body.context;
    let acceptable = context.version == VERSION
        && context.normaliser == NORMALISER
        && context.keepers == [keeper]
        && (1..=rules.max_guesses.min(MAX_GUESSES)).contains(&body.max_guesses)
        && body.wrapped.len() <= MAX_WRAPPED
        && oprf::check_key(&body.oprf_key).is_ok();
    if acceptable { Ok(()) } else { Err(Refusal::Malformed) }
}

fn fresh_registration(body: &Register) -> Registration {
    Registration {
        backup: body.context.backup,
        ver: body.context.ver,
        state: State::Pending,
        version: 1,
        max_guesses: body.max_guesses,
        attempts: 0,
        wrong_before: 0,
        not_before_ms: 0,
        counted_at_ms: 0,
        last_blinded: None,
        ticket: None,
        proven: false,
    }
}

/// The header of the secrets at rest: a row's secrets open in that row only.
fn stored_header(registration: &Registration) -> [u8; 32] {
    h("halfkey/guesskeeper/v1/stored", &[registration.backup.as_bytes(), registration.ver.as_bytes()])
}

fn answer(
    key: &AnswerKey,
    operation: Operation,
    keeper: KeeperId,
    backup: BackupId,
    standing: Standing,
    outcome: Outcome,
) -> Reply {
    let answer = SealedAnswer { version: VERSION, backup, standing, outcome };
    let answer: Answer = door::seal_answer(key, operation, keeper, &answer, &mut OsEntropy);
    Reply::Answer { answer }
}

fn status(done: Result<Status, Stop>) -> Reply {
    match done {
        Ok(status) => Reply::Status { status },
        Err(Stop::Refused(reason)) => Reply::Refused { reason },
        Err(Stop::Failed(error)) => unavailable(&error),
    }
}

fn unavailable(error: &Error) -> Reply {
    tracing::error!(%error, "a request was not answered");
    Reply::Refused { reason: Refusal::Unavailable }
}

pub(crate) fn fresh_id() -> [u8; 16] {
    *halfkey_envelope::entropy::random::<16>(&mut OsEntropy)
}

/// Reads the root, or makes it if nothing was ever registered under another.
async fn open_keys(config: &Config, store: &Store) -> Result<Keys, Error> {
    let path = config.key_path();
    let root: Zeroizing<[u8; 32]> = match keys::read_root(&path) {
        Ok(root) => root,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if store.generation().await? > 0 {
                return Err(Error::KeyLost);
            }
            keys::create_root(&path)?
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Keys::derive(&root, config.opening_keys))
}

/// Compares the database with its anchor, and brings the anchor up if a crash left it behind.
async fn open_anchor(config: &Config, store: &Store) -> Result<Anchor, Error> {
    let path = config.anchor_path();
    let (database, generation) = (store.id().await?, store.generation().await?);
    match anchor::read(&path)? {
        None if generation > 0 => return Err(Error::AnchorMissing),
        Some(mark) if mark.database != database => return Err(Error::OtherDatabase),
        Some(mark) if generation < mark.generation => {
            return Err(Error::Behind { database: generation, anchor: mark.generation });
        }
        _ => {}
    }
    let mark = Mark { database, generation };
    anchor::write(&path, mark)?;
    Ok(Anchor::new(path, mark))
}

/// A restore that was interrupted after its transaction is finished here: its copy is never taken again.
async fn finish_restore(store: &Store, shred: &Shred) -> Result<(), Error> {
    let restored = shred.restored().await?;
    if restored.beginning.is_some() {
        let through = store.generation().await?.max(restored.through);
        shred.set_restored(crate::shred::Restored { through, beginning: None }).await?;
    }
    Ok(())
}
