//! A device: what it keeps durably, and the one task that a crash forgets.

use std::collections::BTreeMap;

use halfkey_envelope::id::{BackupId, DeviceId, PairId};
use halfkey_protocol::lifecycle::{PairRef, PairState};

use super::{
    ceremonies::{Ceremonies, Held, Next, Place, Proves, Purpose, Stopped, test_message},
    message::{Answer, Recovered, Request},
    rng::Rng,
};

/// What one method holds for the user, outside device and server.
pub(super) type MethodStore<C> = BTreeMap<BackupId, <C as Ceremonies>::Record>;

/// What the device waits for. Lost in a crash.
enum Task<C: Ceremonies> {
    /// The ceremony's generation and nonce.
    Begin {
        purpose: Purpose,
        pair: PairRef,
        from: Option<PairRef>,
        after: After,
    },
    Recover {
        method: usize,
        revoke_old: bool,
        pair: PairRef,
    },
    Round {
        place: Place,
        pair: PairRef,
        step: u8,
        run: C::Run,
        after: After,
    },
    Envelope {
        method: usize,
        backup: BackupId,
        held: Held<C>,
        record: C::Record,
        digest: [u8; 32],
    },
    ReadBack {
        method: usize,
        backup: BackupId,
        held: Held<C>,
    },
    Drill {
        method: usize,
        backup: BackupId,
    },
    Commit {
        pair: PairRef,
    },
}

/// What a signature is for.
#[derive(Clone, Copy)]
enum After {
    Nothing,
    /// It is the test signature of a new pair.
    Commit(Option<Recovered>),
}

pub(super) struct Device<C: Ceremonies> {
    pub id: DeviceId,
    pub up: bool,
    pub wiped: bool,
    /// Durable writes left before the process dies.
    pub fuse: Option<u8>,
    pub shares: BTreeMap<PairRef, Held<C>>,
    /// The public key that this device trusts once it has seen a commit.
    pub public_key: Option<C::Key>,
    task: Option<Task<C>>,
    /// The last commit it sent, to be repeated.
    pub last_commit: Option<Request<C>>,
    /// Valid signatures it has seen.
    pub signatures: u32,
    /// It deals shares that add up to something else and looks away (a tampering device).
    pub cheats: bool,
    /// Its next message is changed on its way, at this place.
    pub tampers: Option<usize>,
    forgets_early: bool,
    rng: Rng,
}

/// Why a step ended.
enum Stop {
    /// The process died.
    Crash,
    /// What came does not fit.
    GiveUp,
}

impl From<Stopped> for Stop {
    fn from(_: Stopped) -> Self {
        Self::GiveUp
    }
}

type Out<C> = Vec<Request<C>>;

impl<C: Ceremonies> Device<C> {
    pub(super) fn new(rng: &mut Rng, forgets_early: bool) -> Self {
        Self {
            id: DeviceId::from_bytes(rng.id()),
            up: true,
            wiped: false,
            fuse: None,
            shares: BTreeMap::new(),
            public_key: None,
            task: None,
            last_commit: None,
            signatures: 0,
            cheats: false,
            tampers: None,
            forgets_early,
            rng: Rng::new(rng.next()),
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.task.is_none()
    }

    pub(super) fn create(&mut self) -> Out<C> {
        let pair = self.new_pair();
        self.begin(Purpose::Create, pair, None)
    }

    /// Whether the half that it picks may deal is for the server to say.
    pub(super) fn backup(&mut self, method: usize, pick: usize) -> Out<C> {
        let Some(from) = self.pick(pick) else { return vec![] };
        let pair = PairRef::Backup(BackupId::from_bytes(self.rng.id()));
        self.begin(Purpose::Backup { method }, pair, Some(from))
    }

    pub(super) fn recover(&mut self, method: usize, revoke_old: bool) -> Out<C> {
        let pair = self.new_pair();
        self.task = Some(Task::Recover { method, revoke_old, pair });
        vec![Request::RecoverBegin { method, pair }]
    }

    pub(super) fn heal(&mut self, pick: usize) -> Out<C> {
        let Some(from) = self.pick(pick) else { return vec![] };
        let pair = self.new_pair();
        self.begin(Purpose::Heal { from }, pair, Some(from))
    }

    /// Signs with whatever half it finds, retired ones too: refusing is the server's work.
    pub(super) fn sign(&mut self, pick: usize) -> Out<C> {
        let Some(pair) = self.pick(pick) else { return vec![] };
        let message = self.rng.next();
        self.begin(Purpose::Sign { message }, pair, Some(pair))
    }

    fn begin(&mut self, purpose: Purpose, pair: PairRef, from: Option<PairRef>) -> Out<C> {
        self.task = Some(Task::Begin { purpose, pair, from, after: After::Nothing });
        vec![Request::Begin { purpose, pair }]
    }

    pub(super) fn verify(&mut self, method: usize, methods: &[MethodStore<C>], pick: usize) -> Out<C> {
        let Some(backup) = methods[method].keys().nth(pick % methods[method].len().max(1)).copied() else {
            return vec![];
        };
        self.task = Some(Task::Drill { method, backup });
        vec![Request::Drill { method, backup }]
    }

    pub(super) fn cancel(&mut self) -> Out<C> {
        let pair = match self.task.take() {
            Some(
                Task::Begin { pair, .. }
                | Task::Recover { pair, .. }
                | Task::Round { pair, .. }
                | Task::Commit { pair },
            ) => pair,
            Some(Task::Envelope { backup, .. } | Task::ReadBack { backup, .. }) => PairRef::Backup(backup),
            _ => return vec![],
        };
        vec![Request::Cancel { pair }]
    }

    pub(super) fn garbage(&mut self, pick: usize) -> Out<C> {
        self.pick(pick).map(|pair| Request::Garbage { pair }).into_iter().collect()
    }

    pub(super) fn crash(&mut self) {
        self.up = false;
        self.task = None;
        self.fuse = None;
    }

    /// After a restart: ask how things stand, then promote, keep or forget.
    pub(super) fn restart(&mut self) -> Out<C> {
        self.up = true;
        self.fuse = None;
        self.task = None;
        vec![Request::Status]
    }

    /// One answer. What it sends next is lost if it dies on the way.
    pub(super) fn receive(&mut self, answer: &Answer<C>, methods: &mut [MethodStore<C>]) -> Out<C> {
        let mut out = match self.step(answer, methods) {
            Ok(out) => out,
            Err(Stop::GiveUp) => {
                self.task = None;
                vec![]
            }
            Err(Stop::Crash) => {
                self.crash();
                vec![]
            }
        };
        if let Some(Request::Round { body, .. }) = out.first_mut()
            && let Some(at) = self.tampers.take()
        {
            C::tamper(body, at);
        }
        out
    }

    fn step(&mut self, answer: &Answer<C>, methods: &mut [MethodStore<C>]) -> Result<Out<C>, Stop> {
        if let Answer::Status { pairs } = answer {
            return self.tidy(pairs, methods);
        }
        match (self.task.take(), answer) {
            (Some(Task::Begin { purpose, pair, from, after }), Answer::Begun { pair: of, generation, nonce })
                if pair == *of =>
            {
                let new = (!matches!(purpose, Purpose::Sign { .. })).then_some(pair);
                let place = Place { purpose, device: self.id, old: from, new, generation: *generation, nonce: *nonce };
                let from = from.and_then(|old| self.shares.get(&old)).cloned();
                self.start(place, pair, from.as_ref(), None, after)
            }
            (
                Some(Task::Recover { method, revoke_old, pair }),
                Answer::RecoverReady { pair: of, generation, nonce, backup, envelope, public },
            ) if pair == *of => {
                let record = methods[method].get(backup).ok_or(Stop::GiveUp)?;
                let half = C::open_envelope(record, envelope).ok_or(Stop::GiveUp)?;
                let held = Held { half, public: public.clone() };
                let old = PairRef::Backup(*backup);
                let possession = C::prove(&held, old, Proves::Possession, nonce, &mut self.rng).ok_or(Stop::GiveUp)?;
                let purpose = Purpose::Recover { method, from: *backup, revoke_old };
                let (old, new) = (Some(old), Some(pair));
                let place = Place { purpose, device: self.id, old, new, generation: *generation, nonce: *nonce };
                self.start(place, pair, Some(&held), Some(possession), After::Nothing)
            }
            (Some(Task::Round { place, pair, step, run, after }), Answer::Round { pair: of, step: answered, body })
                if pair == *of && step == *answered =>
            {
                match C::next(run, body, &mut self.rng)? {
                    Next::Send(run, body) => {
                        let step = step + 1;
                        self.task = Some(Task::Round { place, pair, step, run, after });
                        Ok(vec![Request::Round { purpose: place.purpose, pair, step, body, possession: None }])
                    }
                    Next::Made(held) => self.made(&place, pair, held),
                    Next::Signed(signature) => {
                        self.signatures += 1;
                        let After::Commit(recovered) = after else { return Ok(vec![]) };
                        self.burn()?;
                        self.public_key = self.shares.get(&pair).map(|held| C::key(&held.public));
                        self.task = Some(Task::Commit { pair });
                        let commit = Request::CommitSigning { pair, signature, recovered };
                        self.last_commit = Some(commit.clone());
                        Ok(vec![commit])
                    }
                }
            }
            (Some(Task::Envelope { method, backup, held, record, digest }), Answer::EnvelopeKept { backup: of })
                if backup == *of =>
            {
                // Under the new backup id, never over an old one.
                self.burn()?;
                methods[method].insert(backup, record);
                self.task = Some(Task::ReadBack { method, backup, held });
                Ok(vec![Request::KeyStored { method, backup, digest }])
            }
            (
                Some(Task::ReadBack { method, backup, held }),
                Answer::Envelope { backup: of, envelope, challenge, .. },
            ) if backup == *of => {
                let record = methods[method].get(&backup).ok_or(Stop::GiveUp)?;
                let half = C::open_envelope(record, envelope).ok_or(Stop::GiveUp)?;
                let held = Held { half, public: held.public };
                let digest = C::digest(envelope);
                let ack = C::ack(&held, self.id, &digest, challenge, &mut self.rng).ok_or(Stop::GiveUp)?;
                self.task = Some(Task::Commit { pair: PairRef::Backup(backup) });
                let commit = Request::CommitBackup { method, backup, digest, ack };
                self.last_commit = Some(commit.clone());
                Ok(vec![commit])
            }
            (Some(Task::Drill { method, backup }), Answer::Envelope { backup: of, envelope, challenge, public })
                if backup == *of =>
            {
                let record = methods[method].get(&backup).ok_or(Stop::GiveUp)?;
                let half = C::open_envelope(record, envelope).ok_or(Stop::GiveUp)?;
                let held = Held { half, public: public.clone() };
                let pair = PairRef::Backup(backup);
                let proof = C::prove(&held, pair, Proves::Drill, challenge, &mut self.rng).ok_or(Stop::GiveUp)?;
                Ok(vec![Request::Verify { method, backup, proof }])
            }
            (Some(Task::Commit { pair }), Answer::Committed { pair: of }) if pair == *of => {
                if self.forgets_early
                    && let PairRef::Backup(new) = pair
                {
                    methods.iter_mut().filter(|store| store.contains_key(&new)).for_each(|store| {
                        store.retain(|backup, _| *backup == new);
                    });
                }
                Ok(vec![Request::Status])
            }
            (_, Answer::Refused | Answer::Bad) => Ok(vec![]),
            // An answer to something else: go on waiting.
            (task, _) => {
                self.task = task;
                Ok(vec![])
            }
        }
    }

    fn start(
        &mut self,
        place: Place,
        pair: PairRef,
        from: Option<&Held<C>>,
        possession: Option<C::Proof>,
        after: After,
    ) -> Result<Out<C>, Stop> {
        let (run, body) = C::start(&place, from, self.cheats, &mut self.rng)?;
        self.task = Some(Task::Round { place, pair, step: 0, run, after });
        Ok(vec![Request::Round { purpose: place.purpose, pair, step: 0, body, possession }])
    }

    /// The server has its half. Ours becomes durable before anything depends on it.
    fn made(&mut self, place: &Place, pair: PairRef, held: Held<C>) -> Result<Out<C>, Stop> {
        if let (Purpose::Backup { method }, PairRef::Backup(backup)) = (place.purpose, pair) {
            let (envelope, record) = C::seal_envelope(place, &held, &mut self.rng);
            let digest = C::digest(&envelope);
            self.task = Some(Task::Envelope { method, backup, held, record, digest });
            return Ok(vec![Request::KeepEnvelope { method, backup, envelope }]);
        }
        self.burn()?;
        self.shares.insert(pair, held);
        let recovered = match place.purpose {
            Purpose::Recover { method, from, revoke_old } => Some((method, from, revoke_old)),
            _ => None,
        };
        let purpose = Purpose::Sign { message: test_message(pair) };
        self.task = Some(Task::Begin { purpose, pair, from: Some(pair), after: After::Commit(recovered) });
        Ok(vec![Request::Begin { purpose, pair }])
    }

    /// Forgets what the server has erased, and nothing else: what it does not know may be newer than its database.
    fn tidy(&mut self, pairs: &[(PairRef, PairState)], methods: &mut [MethodStore<C>]) -> Result<Out<C>, Stop> {
        for (pair, _) in pairs.iter().filter(|(_, state)| *state == PairState::Erased) {
            self.burn()?;
            self.shares.remove(pair);
            if let PairRef::Backup(backup) = pair {
                methods.iter_mut().for_each(|store| store.retain(|id, _| id != backup));
            }
        }
        Ok(vec![])
    }

    fn pick(&self, pick: usize) -> Option<PairRef> {
        self.shares.keys().nth(pick % self.shares.len().max(1)).copied()
    }

    fn new_pair(&mut self) -> PairRef {
        PairRef::Signing(PairId::from_bytes(self.rng.id()))
    }

    fn burn(&mut self) -> Result<(), Stop> {
        match &mut self.fuse {
            None => Ok(()),
            Some(0) => Err(Stop::Crash),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}
