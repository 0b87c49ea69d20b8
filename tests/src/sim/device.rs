//! A device: what it keeps durably, and the one task that a crash forgets.

use std::collections::BTreeMap;

use halfkey_envelope::id::{BackupId, DeviceId, PairId};
use halfkey_protocol::lifecycle::{PairRef, PairState};

use super::{
    arithmetic::Group,
    message::{Answer, Envelope, Proof, Purpose, Record, Request, Split, challenge, signature_holds, tag},
    rng::Rng,
};

/// What one method holds for the user, outside device and server.
pub(super) type MethodStore<G> = BTreeMap<BackupId, Record<G>>;

/// A signing half as the device keeps it: with both public points, from its own computation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share<G: Group> {
    pub half: G::Scalar,
    pub mine: G::Point,
    pub peer: G::Point,
}

/// What the device waits for. Lost in a crash.
#[derive(Debug, Clone, Copy)]
enum Task<G: Group> {
    Create { pair: PairRef, half: G::Scalar },
    Recover { method: usize, revoke_old: bool, pair: PairRef },
    Deal { purpose: Purpose, pair: PairRef, split: Split<G>, mine: G::Point, peer: G::Point },
    Open { purpose: Option<Purpose>, pair: PairRef, half: G::Scalar, key: G::Point },
    Envelope { method: usize, backup: BackupId, file_key: G::Scalar, digest: [u8; 32] },
    ReadBack { method: usize, backup: BackupId },
    Drill { method: usize, backup: BackupId },
    Test { pair: PairRef, nonce: G::Scalar, recovered: Option<(usize, BackupId, bool)> },
    Sign { pair: PairRef, nonce: G::Scalar, message: u64 },
    Commit { pair: PairRef },
}

pub(super) struct Device<G: Group> {
    pub id: DeviceId,
    pub up: bool,
    pub wiped: bool,
    /// Durable writes left before the process dies.
    pub fuse: Option<u8>,
    pub shares: BTreeMap<PairRef, Share<G>>,
    /// The public key that this device trusts once it has seen a commit.
    pub public_key: Option<G::Point>,
    task: Option<Task<G>>,
    /// The last commit it sent, to be repeated.
    pub last_commit: Option<Request<G>>,
    /// Valid signatures it has seen.
    pub signatures: u32,
    /// It deals shares that add up to something else and looks away (a tampering device).
    pub cheats: bool,
    forgets_early: bool,
    rng: Rng,
}

/// The process died.
struct Crash;

type Out<G> = Vec<Request<G>>;

impl<G: Group> Device<G> {
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
            forgets_early,
            rng: Rng::new(rng.next()),
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.task.is_none()
    }

    pub(super) fn create(&mut self) -> Out<G> {
        let pair = self.new_pair();
        self.task = Some(Task::Create { pair, half: G::random(&mut self.rng) });
        vec![Request::CreateBegin { pair }]
    }

    pub(super) fn backup(&mut self, method: usize, pick: usize) -> Out<G> {
        let Some((_, share)) = self.pick(pick) else { return vec![] };
        let pair = PairRef::Backup(BackupId::from_bytes(self.rng.id()));
        self.deal(Purpose::Backup { method }, pair, share, None)
    }

    pub(super) fn recover(&mut self, method: usize, revoke_old: bool) -> Out<G> {
        let pair = self.new_pair();
        self.task = Some(Task::Recover { method, revoke_old, pair });
        vec![Request::RecoverBegin { method, pair }]
    }

    pub(super) fn heal(&mut self, pick: usize) -> Out<G> {
        let Some((from, share)) = self.pick(pick) else { return vec![] };
        let pair = self.new_pair();
        self.deal(Purpose::Heal { from }, pair, share, None)
    }

    /// Signs with whatever half it finds, retired ones too: refusing is the server's work.
    pub(super) fn sign(&mut self, pick: usize) -> Out<G> {
        let Some((pair, _)) = self.pick(pick) else { return vec![] };
        let (nonce, message) = (G::random(&mut self.rng), self.rng.next());
        self.task = Some(Task::Sign { pair, nonce, message });
        vec![Request::Sign { pair, message, r: G::point(nonce) }]
    }

    pub(super) fn verify(&mut self, method: usize, methods: &[MethodStore<G>], pick: usize) -> Out<G> {
        let Some(backup) = methods[method].keys().nth(pick % methods[method].len().max(1)).copied() else {
            return vec![];
        };
        self.task = Some(Task::Drill { method, backup });
        vec![Request::Drill { method, backup }]
    }

    pub(super) fn cancel(&mut self) -> Out<G> {
        let pair = match self.task.take() {
            Some(
                Task::Create { pair, .. }
                | Task::Recover { pair, .. }
                | Task::Deal { pair, .. }
                | Task::Open { pair, .. }
                | Task::Test { pair, .. }
                | Task::Commit { pair },
            ) => pair,
            Some(Task::Envelope { backup, .. } | Task::ReadBack { backup, .. }) => PairRef::Backup(backup),
            _ => return vec![],
        };
        vec![Request::Cancel { pair }]
    }

    pub(super) fn garbage(&mut self, pick: usize) -> Out<G> {
        self.pick(pick).map(|(pair, _)| Request::Garbage { pair }).into_iter().collect()
    }

    pub(super) fn crash(&mut self) {
        self.up = false;
        self.task = None;
        self.fuse = None;
    }

    /// After a restart: ask how things stand, then promote, keep or forget.
    pub(super) fn restart(&mut self) -> Out<G> {
        self.up = true;
        self.fuse = None;
        self.task = None;
        vec![Request::Status]
    }

    /// One answer. What it sends next is lost if it dies on the way.
    pub(super) fn receive(&mut self, answer: &Answer<G>, methods: &mut [MethodStore<G>]) -> Out<G> {
        match self.step(answer, methods) {
            Ok(out) => out,
            Err(Crash) => {
                self.crash();
                vec![]
            }
        }
    }

    fn step(&mut self, answer: &Answer<G>, methods: &mut [MethodStore<G>]) -> Result<Out<G>, Crash> {
        if let Answer::Status { pairs } = answer {
            return self.tidy(pairs, methods);
        }
        let Some(task) = self.task else { return Ok(vec![]) };
        match (task, answer) {
            (Task::Create { pair, half }, Answer::CreateDealt { pair: of, point }) if pair == *of => {
                let key = G::join(G::point(half), *point);
                self.task = Some(Task::Open { purpose: None, pair, half, key });
                Ok(vec![Request::CreateOpen { pair, point: G::point(half) }])
            }
            (
                Task::Recover { method, revoke_old, pair },
                Answer::RecoverReady { pair: of, backup, envelope, mine, peer },
            ) if pair == *of => {
                let Some(record) = methods[method].get(backup) else { return Ok(self.give_up()) };
                let half = G::sub(envelope.sealed, record.file_key);
                if record.digest != envelope.digest() || G::point(half) != *mine {
                    return Ok(self.give_up());
                }
                let from = PairRef::Backup(*backup);
                let possession = Some(Proof::new(half, from, &mut self.rng));
                let purpose = Purpose::Recover { method, from: *backup, revoke_old };
                Ok(self.deal(purpose, pair, Share { half, mine: *mine, peer: *peer }, possession))
            }
            (Task::Deal { purpose, pair, split, mine, peer }, Answer::Dealt { pair: of, s1, p1, p2 })
                if pair == *of =>
            {
                if G::join(*p1, *p2) != peer || G::point(*s1) != *p1 {
                    return Ok(self.give_up());
                }
                let half = G::add(split.s1, *s1);
                self.task = Some(Task::Open { purpose: Some(purpose), pair, half, key: G::join(mine, peer) });
                let (p1, p2) = (G::point(split.s1), G::point(split.s2));
                Ok(vec![Request::Open { purpose, pair, p1, p2, salt: split.salt, s2: split.s2 }])
            }
            (Task::Open { purpose, pair, half, key }, Answer::Stored { pair: of, point }) if pair == *of => {
                if G::join(G::point(half), *point) != key && !self.cheats {
                    return Ok(self.give_up());
                }
                self.stored(purpose, pair, half, *point)
            }
            (Task::Envelope { method, backup, file_key, digest }, Answer::EnvelopeKept { backup: of })
                if backup == *of =>
            {
                // Under the new backup id, never over an old one.
                self.burn()?;
                methods[method].insert(backup, Record { file_key, digest });
                self.task = Some(Task::ReadBack { method, backup });
                Ok(vec![Request::KeyStored { method, backup, digest }])
            }
            (
                Task::ReadBack { method, backup } | Task::Drill { method, backup },
                Answer::Envelope { backup: of, envelope },
            ) if backup == *of => {
                let Some(record) = methods[method].get(&backup) else { return Ok(self.give_up()) };
                if record.digest != envelope.digest() {
                    return Ok(self.give_up());
                }
                let half = G::sub(envelope.sealed, record.file_key);
                let pair = PairRef::Backup(backup);
                let proof = Proof::new(half, pair, &mut self.rng);
                if matches!(task, Task::Drill { .. }) {
                    self.task = None;
                    return Ok(vec![Request::Verify { method, backup, proof }]);
                }
                self.task = Some(Task::Commit { pair });
                let commit = Request::CommitBackup { method, backup, digest: record.digest, proof };
                self.last_commit = Some(commit);
                Ok(vec![commit])
            }
            (Task::Test { pair, nonce, recovered }, Answer::Part { pair: of, r, z }) if pair == *of => {
                let Some((share, z)) = self.finish(pair, nonce, tag(pair), *r, *z) else {
                    return Ok(self.give_up());
                };
                self.burn()?;
                self.public_key = Some(G::join(share.mine, share.peer));
                self.task = Some(Task::Commit { pair });
                let commit = Request::CommitSigning { pair, r: *r, z, recovered };
                self.last_commit = Some(commit);
                Ok(vec![commit])
            }
            (Task::Sign { pair, nonce, message }, Answer::Part { pair: of, r, z }) if pair == *of => {
                self.signatures += u32::from(self.finish(pair, nonce, message, *r, *z).is_some());
                self.task = None;
                Ok(vec![])
            }
            (Task::Commit { pair }, Answer::Committed { pair: of }) if pair == *of => {
                self.task = None;
                if self.forgets_early
                    && let PairRef::Backup(new) = pair
                {
                    methods.iter_mut().filter(|store| store.contains_key(&new)).for_each(|store| {
                        store.retain(|backup, _| *backup == new);
                    });
                }
                Ok(vec![Request::Status])
            }
            (_, Answer::Refused | Answer::Bad) => Ok(self.give_up()),
            _ => Ok(vec![]),
        }
    }

    /// The server has its half. Ours becomes durable before anything depends on it.
    fn stored(
        &mut self,
        purpose: Option<Purpose>,
        pair: PairRef,
        half: G::Scalar,
        peer: G::Point,
    ) -> Result<Out<G>, Crash> {
        if let (Some(Purpose::Backup { method }), PairRef::Backup(backup)) = (purpose, pair) {
            let file_key = G::random(&mut self.rng);
            let envelope = Envelope { sealed: G::add(half, file_key) };
            self.task = Some(Task::Envelope { method, backup, file_key, digest: envelope.digest() });
            return Ok(vec![Request::KeepEnvelope { method, backup, envelope }]);
        }
        self.burn()?;
        self.shares.insert(pair, Share { half, mine: G::point(half), peer });
        let nonce = G::random(&mut self.rng);
        let recovered = match purpose {
            Some(Purpose::Recover { method, from, revoke_old }) => Some((method, from, revoke_old)),
            _ => None,
        };
        self.task = Some(Task::Test { pair, nonce, recovered });
        Ok(vec![Request::Sign { pair, message: tag(pair), r: G::point(nonce) }])
    }

    /// Forgets what the server has erased, and nothing else: what it does not know may be newer than its database.
    fn tidy(&mut self, pairs: &[(PairRef, PairState)], methods: &mut [MethodStore<G>]) -> Result<Out<G>, Crash> {
        for (pair, _) in pairs.iter().filter(|(_, state)| *state == PairState::Erased) {
            self.burn()?;
            self.shares.remove(pair);
            if let PairRef::Backup(backup) = pair {
                methods.iter_mut().for_each(|store| store.retain(|id, _| id != backup));
            }
        }
        Ok(vec![])
    }

    fn deal(&mut self, purpose: Purpose, pair: PairRef, share: Share<G>, possession: Option<Proof<G>>) -> Out<G> {
        let mut split = Split::of(share.half, &mut self.rng);
        if self.cheats {
            split.s2 = G::add(split.s2, G::scalar(1));
        }
        let commitment = split.commitment();
        self.task = Some(Task::Deal { purpose, pair, split, mine: share.mine, peer: share.peer });
        vec![Request::Deal { purpose, pair, commitment, possession }]
    }

    /// The whole signature, if it verifies under the key of our own record.
    fn finish(
        &self,
        pair: PairRef,
        nonce: G::Scalar,
        message: u64,
        r: G::Point,
        z: G::Scalar,
    ) -> Option<(Share<G>, G::Scalar)> {
        let share = *self.shares.get(&pair)?;
        let key = G::join(share.mine, share.peer);
        let z = G::add(z, G::add(nonce, G::mul(challenge::<G>(r, key, message), share.half)));
        signature_holds::<G>(r, z, key, message).then_some((share, z))
    }

    fn pick(&self, pick: usize) -> Option<(PairRef, Share<G>)> {
        self.shares.iter().nth(pick % self.shares.len().max(1)).map(|(pair, share)| (*pair, *share))
    }

    fn new_pair(&mut self) -> PairRef {
        PairRef::Signing(PairId::from_bytes(self.rng.id()))
    }

    fn give_up(&mut self) -> Out<G> {
        self.task = None;
        vec![]
    }

    fn burn(&mut self) -> Result<(), Crash> {
        match &mut self.fuse {
            None => Ok(()),
            Some(0) => Err(Crash),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}
