//! The server: a main database, a shred store of its own, kept state that a crash forgets, and the rules.

use std::collections::{BTreeMap, BTreeSet};

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId, WalletId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{
    Event, Evidence, Force, Pair, PairRef, PairState, Refusal, RetireReason, Slot, SlotKey, Tombstone, WalletState,
    WalletView, may_recover, may_remove,
};

use super::{
    arithmetic::Group,
    message::{Answer, Envelope, Proof, Purpose, Request, Split, commitment, signature_holds, tag},
    rng::Rng,
    store::{SlotStore, with_erased},
};

pub(super) const WALLET: WalletId = WalletId::from_bytes([0xAA; 16]);
pub(super) const CLIENT: ClientId = ClientId::from_bytes([0xCC; 16]);
/// The methods of the simulation, by index.
pub(super) const METHODS: [Method; 2] = [Method::Password, Method::GoogleDrive];

pub(super) fn signing_key(device: DeviceId) -> SlotKey {
    SlotKey::Signing { wallet: WALLET, device }
}

pub(super) fn backup_key(method: usize) -> SlotKey {
    SlotKey::Backup { client: CLIENT, method: METHODS[method].clone() }
}

/// What decides. The simulation can be run with a broken one, to see that it notices.
#[derive(Clone, Copy)]
pub struct Rules {
    /// The life of a slot.
    pub apply: fn(&Slot, &Event, u64) -> Result<Slot, Refusal>,
    /// Whether a pair signs.
    pub may_sign: fn(&Pair) -> Result<(), Refusal>,
    /// Whether the server checks that the dealt points add up to what it knows (PROTOCOL.md 4.2, step 4).
    pub checks_points: bool,
    /// Whether a device forgets its older keys as soon as a newer backup is committed.
    pub forgets_early: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            apply: halfkey_protocol::lifecycle::apply,
            may_sign: halfkey_protocol::lifecycle::may_sign,
            checks_points: true,
            forgets_early: false,
        }
    }
}

/// The rows of the main database. A copy of it is what a restore brings back.
#[derive(Clone)]
pub(super) struct Main<G: Group> {
    pub public_key: Option<G::Point>,
    pub slots: BTreeMap<SlotKey, Slot>,
    /// Halves under the pair's shred key.
    pub halves: BTreeMap<PairRef, G::Scalar>,
    /// The public points: the device's, ours.
    pub points: BTreeMap<PairRef, (G::Point, G::Point)>,
    pub envelopes: BTreeMap<PairRef, Envelope<G>>,
    /// What the transaction at hand applies, for a real store to repeat.
    changes: Vec<(SlotKey, Vec<Event>)>,
}

/// A slot as it will be, and why.
struct Change {
    slot: Slot,
    events: Vec<Event>,
}

/// The shred store: never restored from an older copy.
pub(super) struct Shred<G: Group> {
    pub keys: BTreeMap<PairRef, G::Scalar>,
    pub tombstones: BTreeSet<(PairRef, Tombstone)>,
    pub generations: BTreeMap<SlotKey, u64>,
}

/// Why a request ended early.
pub(super) enum Stop {
    /// The process died here.
    Crash,
    /// A rule said no.
    Refused,
    /// A ceremony message that does not fit. No state was changed and nobody is banned.
    Bad,
}

impl From<Refusal> for Stop {
    fn from(_: Refusal) -> Self {
        Self::Refused
    }
}

pub(super) struct Server<G: Group> {
    pub rules: Rules,
    pub up: bool,
    /// Durable writes left before the process dies.
    pub fuse: Option<u8>,
    pub main: Main<G>,
    pub shred: Shred<G>,
    /// Splits and commitments between two messages; a crash forgets them, a use deletes them first.
    kept: BTreeMap<PairRef, (Split<G>, u64)>,
    pub store: Option<Box<dyn SlotStore>>,
    /// Which pairs took part in a signature since the last look.
    pub signed: Vec<PairRef>,
    pub rng: Rng,
}

type Done<T> = Result<T, Stop>;

impl<G: Group> Server<G> {
    pub(super) fn new(rules: Rules, store: Option<Box<dyn SlotStore>>, rng: Rng) -> Self {
        let main = Main {
            public_key: None,
            slots: BTreeMap::new(),
            halves: BTreeMap::new(),
            points: BTreeMap::new(),
            envelopes: BTreeMap::new(),
            changes: vec![],
        };
        let shred = Shred { keys: BTreeMap::new(), tombstones: BTreeSet::new(), generations: BTreeMap::new() };
        Self { rules, up: true, fuse: None, main, shred, kept: BTreeMap::new(), store, signed: vec![], rng }
    }

    /// One request. `None`: the process died before it could answer.
    pub(super) fn handle(&mut self, by: DeviceId, request: &Request<G>, now: u64) -> Option<Answer<G>> {
        let result = match *request {
            Request::CreateBegin { pair } => self.create_begin(by, pair, now),
            Request::CreateOpen { pair, point } => self.create_open(by, pair, point, now),
            Request::RecoverBegin { method, pair } => self.recover_begin(by, method, pair, now),
            Request::Deal { purpose, pair, commitment, possession } => {
                self.deal(by, purpose, pair, commitment, possession, now)
            }
            Request::Open { purpose, pair, p1, p2, salt, s2 } => self.open(by, purpose, pair, (p1, p2, salt), s2, now),
            Request::KeepEnvelope { method, backup, envelope } => self.keep_envelope(by, method, backup, envelope, now),
            Request::KeyStored { method, backup, digest } => self.key_stored(by, method, backup, digest, now),
            Request::CommitBackup { method, backup, digest, proof } => {
                self.commit_backup(by, method, backup, digest, proof, now)
            }
            Request::Sign { pair, message, r } => self.sign(by, pair, message, r),
            Request::CommitSigning { pair, r, z, recovered } => self.commit_signing(by, pair, r, z, recovered, now),
            Request::Drill { method, backup } => self.drill(method, backup),
            Request::Verify { method, backup, proof } => self.verify(method, backup, proof, now),
            Request::Cancel { pair } => self.cancel(by, pair, now),
            Request::Revoke { device } if device == by => Err(Stop::Bad),
            Request::Revoke { device } => self.remove(by, &signing_key(device), RetireReason::Revoked, now),
            Request::RemoveMethod { method } => self.remove(by, &backup_key(method), RetireReason::Removed, now),
            Request::Garbage { pair } => self.ban(by, pair, now),
            Request::Status => Ok(self.status()),
        };
        let answer = match result {
            Ok(answer) => answer,
            Err(Stop::Refused) => Answer::Refused,
            Err(Stop::Bad) => Answer::Bad,
            Err(Stop::Crash) => return None,
        };
        self.burn().ok().map(|()| answer)
    }

    fn create_begin(&mut self, by: DeviceId, pair: PairRef, now: u64) -> Done<Answer<G>> {
        if self.main.public_key.is_some() {
            return Err(Stop::Bad);
        }
        let slot = self.next(&signing_key(by), &[Event::Begin { pair, by }], now)?;
        let split = Split::of(G::random(&mut self.rng), &mut self.rng);
        let point = G::point(G::add(split.s1, split.s2));
        self.write(now, |main| save(main, slot))?;
        self.kept.insert(pair, (split, 0));
        Ok(Answer::CreateDealt { pair, point })
    }

    fn create_open(&mut self, by: DeviceId, pair: PairRef, point: G::Point, now: u64) -> Done<Answer<G>> {
        let (split, _) = self.kept.remove(&pair).ok_or(Stop::Bad)?;
        self.store_server_half(by, pair, point, G::add(split.s1, split.s2), now)
    }

    fn recover_begin(&mut self, by: DeviceId, method: usize, pair: PairRef, now: u64) -> Done<Answer<G>> {
        let from = self.slot(&backup_key(method));
        let backup = from.active().or(from.standing()).ok_or(Refusal::NotActive)?;
        may_recover(backup)?;
        let PairRef::Backup(id) = backup.id else { return Err(Stop::Bad) };
        let (mine, peer) = self.main.points[&backup.id];
        let envelope = self.main.envelopes[&backup.id];
        let held = self.next(&backup_key(method), &[Event::Hold { by }], now)?;
        let slot = self.next(&signing_key(by), &[Event::Begin { pair, by }], now)?;
        self.write(now, |main| {
            save(main, held);
            save(main, slot);
        })?;
        Ok(Answer::RecoverReady { pair, backup: id, envelope, mine, peer })
    }

    /// Steps 1 and 2 of `reshare`: we deal second, bound by the device's commitment.
    fn deal(
        &mut self,
        by: DeviceId,
        purpose: Purpose,
        pair: PairRef,
        commitment: u64,
        possession: Option<Proof<G>>,
        now: u64,
    ) -> Done<Answer<G>> {
        let (dealer, slot) = match purpose {
            Purpose::Backup { method } => {
                let signing = self.slot(&signing_key(by));
                let dealer = signing.active().ok_or(Refusal::NotActive)?.id;
                (dealer, self.next(&backup_key(method), &[Event::Begin { pair, by }], now)?)
            }
            Purpose::Recover { method, from, .. } => {
                let from = PairRef::Backup(from);
                may_recover(self.slot(&backup_key(method)).pair(from).ok_or(Refusal::UnknownPair)?)?;
                let (mine, _) = *self.main.points.get(&from).ok_or(Stop::Bad)?;
                if !possession.ok_or(Stop::Bad)?.holds(mine, from) {
                    return Err(Stop::Bad);
                }
                (from, self.next(&backup_key(method), &[Event::Hold { by }], now)?)
            }
            Purpose::Heal { from } => (from, self.next(&signing_key(by), &[Event::HealBegin { pair, by }], now)?),
        };
        let split = Split::<G>::of(self.half(dealer)?, &mut self.rng);
        self.write(now, |main| save(main, slot))?;
        self.kept.insert(pair, (split, commitment));
        Ok(Answer::Dealt { pair, s1: split.s1, p1: G::point(split.s1), p2: G::point(split.s2) })
    }

    /// Steps 3 to 5: the device opens; we check everything and store the half we receive.
    fn open(
        &mut self,
        by: DeviceId,
        purpose: Purpose,
        pair: PairRef,
        (p1, p2, salt): (G::Point, G::Point, u64),
        s2: G::Scalar,
        now: u64,
    ) -> Done<Answer<G>> {
        let (split, committed) = self.kept.remove(&pair).ok_or(Stop::Bad)?;
        let dealer = match purpose {
            Purpose::Backup { .. } => self.slot(&signing_key(by)).active().ok_or(Refusal::NotActive)?.id,
            Purpose::Recover { from, .. } => PairRef::Backup(from),
            Purpose::Heal { from } => from,
        };
        let (theirs, _) = self.main.points[&dealer];
        if commitment::<G>(p1, p2, salt) != committed || G::point(s2) != p2 {
            return Err(Stop::Bad);
        }
        if self.rules.checks_points && G::join(p1, p2) != theirs {
            return Err(Stop::Bad);
        }
        let half = G::add(s2, split.s2);
        let client_point = G::join(p1, G::point(split.s1));
        match purpose {
            Purpose::Backup { method } => self.store_custodian_half(by, method, pair, client_point, half, now),
            _ => self.store_server_half(by, pair, client_point, half, now),
        }
    }

    fn store_server_half(
        &mut self,
        by: DeviceId,
        pair: PairRef,
        client_point: G::Point,
        half: G::Scalar,
        now: u64,
    ) -> Done<Answer<G>> {
        let key = signing_key(by);
        let event = Event::Evidence { pair, by, what: Evidence::ServerHalf };
        self.next(&key, std::slice::from_ref(&event), now)?;
        let point = self.write_half(pair, client_point, half, now)?;
        let slot = self.next(&key, &[event], now)?;
        self.write(now, |main| save(main, slot))?;
        Ok(Answer::Stored { pair, point })
    }

    fn store_custodian_half(
        &mut self,
        by: DeviceId,
        method: usize,
        pair: PairRef,
        client_point: G::Point,
        half: G::Scalar,
        now: u64,
    ) -> Done<Answer<G>> {
        let event = Event::Evidence { pair, by, what: Evidence::CustodianAck };
        let slot = self.next(&backup_key(method), &[event], now)?;
        let point = self.write_half(pair, client_point, half, now)?;
        self.write(now, |main| save(main, slot))?;
        Ok(Answer::Stored { pair, point })
    }

    /// The shred key first: a half without one never exists.
    fn write_half(&mut self, pair: PairRef, client_point: G::Point, half: G::Scalar, now: u64) -> Done<G::Point> {
        let key = G::random(&mut self.rng);
        self.burn()?;
        self.shred.keys.insert(pair, key);
        let point = G::point(half);
        self.write(now, |main| {
            main.halves.insert(pair, G::add(half, key));
            main.points.insert(pair, (client_point, point));
        })?;
        Ok(point)
    }

    fn keep_envelope(
        &mut self,
        by: DeviceId,
        method: usize,
        backup: BackupId,
        envelope: Envelope<G>,
        now: u64,
    ) -> Done<Answer<G>> {
        let pair = PairRef::Backup(backup);
        let what = Evidence::EnvelopeStored { digest: envelope.digest() };
        let slot = self.next(&backup_key(method), &[Event::Evidence { pair, by, what }], now)?;
        self.write(now, |main| {
            main.envelopes.insert(pair, envelope);
            save(main, slot);
        })?;
        Ok(Answer::EnvelopeKept { backup })
    }

    fn key_stored(
        &mut self,
        by: DeviceId,
        method: usize,
        backup: BackupId,
        digest: [u8; 32],
        now: u64,
    ) -> Done<Answer<G>> {
        let pair = PairRef::Backup(backup);
        let event = Event::Evidence { pair, by, what: Evidence::KeyAsserted { digest } };
        let slot = self.next(&backup_key(method), &[event], now)?;
        let envelope = *self.main.envelopes.get(&pair).ok_or(Stop::Bad)?;
        self.write(now, |main| save(main, slot))?;
        Ok(Answer::Envelope { backup, envelope })
    }

    /// Both proofs, from what both sides read back, and the commit: one transaction.
    fn commit_backup(
        &mut self,
        by: DeviceId,
        method: usize,
        backup: BackupId,
        digest: [u8; 32],
        proof: Proof<G>,
        now: u64,
    ) -> Done<Answer<G>> {
        let pair = PairRef::Backup(backup);
        let (theirs, ours) = *self.main.points.get(&pair).ok_or(Stop::Bad)?;
        if !proof.holds(theirs, pair) || G::point(self.half(pair)?) != ours {
            return Err(Stop::Bad);
        }
        if self.rules.checks_points && Some(G::join(theirs, ours)) != self.main.public_key {
            return Err(Stop::Bad);
        }
        let commit = Event::Commit { pair, by };
        let key = backup_key(method);
        let pending = self.slot(&key).pair(pair).is_some_and(|pair| pair.state == PairState::Pending);
        let events = match pending {
            true => vec![Event::Evidence { pair, by, what: Evidence::Proven { digest } }, commit],
            false => vec![commit],
        };
        let slot = self.next(&key, &events, now)?;
        self.write(now, |main| save(main, slot))?;
        Ok(Answer::Committed { pair })
    }

    fn sign(&mut self, by: DeviceId, pair: PairRef, message: u64, r: G::Point) -> Done<Answer<G>> {
        let slot = self.slot(&signing_key(by));
        let found = slot.pair(pair).ok_or(Refusal::UnknownPair)?;
        // A pending pair makes its one test signature and nothing else.
        if !(found.state == PairState::Pending && found.checked.server_half && message == tag(pair)) {
            (self.rules.may_sign)(found)?;
            self.signed.push(pair);
        }
        let half = self.half(pair)?;
        let (theirs, ours) = self.main.points[&pair];
        let key = self.main.public_key.unwrap_or_else(|| G::join(theirs, ours));
        let nonce = G::random(&mut self.rng);
        let sum = G::join(r, G::point(nonce));
        let z = G::add(nonce, G::mul(super::message::challenge::<G>(sum, key, message), half));
        Ok(Answer::Part { pair, r: sum, z })
    }

    fn commit_signing(
        &mut self,
        by: DeviceId,
        pair: PairRef,
        r: G::Point,
        z: G::Scalar,
        recovered: Option<(usize, BackupId, bool)>,
        now: u64,
    ) -> Done<Answer<G>> {
        let (theirs, ours) = *self.main.points.get(&pair).ok_or(Stop::Bad)?;
        let key = self.main.public_key.unwrap_or_else(|| G::join(theirs, ours));
        if !signature_holds::<G>(r, z, key, tag(pair)) {
            return Err(Stop::Bad);
        }
        let commit = Event::Commit { pair, by };
        let found = self.slot(&signing_key(by));
        let pending = found.pair(pair).is_some_and(|pair| pair.state == PairState::Pending);
        let events = match pending {
            true => vec![Event::Evidence { pair, by, what: Evidence::TestSignature }, commit],
            false => vec![commit],
        };
        let mut changed = vec![self.next(&signing_key(by), &events, now)?];
        let mut revoked = vec![];
        if let (true, Some((method, backup, revoke_old))) = (pending, recovered) {
            let id = PairRef::Backup(backup);
            let from = self.slot(&backup_key(method));
            may_recover(from.pair(id).ok_or(Refusal::UnknownPair)?)?;
            changed.push(self.next(&backup_key(method), &[Event::Opened { pair: id }, Event::Release { by }], now)?);
            if revoke_old {
                for slot in self.main.slots.values().filter(|slot| slot.key.is_signing()) {
                    if slot.key != signing_key(by) && slot.standing().is_some() {
                        let event = Event::Remove { reason: RetireReason::Revoked };
                        revoked.extend(slot.standing().map(|pair| pair.id));
                        changed.push(self.next(&slot.key, &[event], now)?);
                    }
                }
            }
        }
        self.bury(&revoked, Tombstone::Removed)?;
        self.write(now, |main| {
            main.public_key.get_or_insert(key);
            changed.into_iter().for_each(|slot| save(main, slot));
        })?;
        Ok(Answer::Committed { pair })
    }

    fn drill(&self, method: usize, backup: BackupId) -> Done<Answer<G>> {
        let pair = PairRef::Backup(backup);
        may_recover(self.slot(&backup_key(method)).pair(pair).ok_or(Refusal::UnknownPair)?)?;
        let envelope = *self.main.envelopes.get(&pair).ok_or(Stop::Bad)?;
        Ok(Answer::Envelope { backup, envelope })
    }

    fn verify(&mut self, method: usize, backup: BackupId, proof: Proof<G>, now: u64) -> Done<Answer<G>> {
        let pair = PairRef::Backup(backup);
        let (theirs, ours) = *self.main.points.get(&pair).ok_or(Stop::Bad)?;
        let slot = self.next(&backup_key(method), &[Event::Opened { pair }], now)?;
        if !proof.holds(theirs, pair) || G::point(self.half(pair)?) != ours {
            return Err(Stop::Bad);
        }
        self.write(now, |main| save(main, slot))?;
        Ok(self.status())
    }

    fn cancel(&mut self, by: DeviceId, pair: PairRef, now: u64) -> Done<Answer<G>> {
        let key = self.key_of(pair).ok_or(Refusal::UnknownPair)?;
        let slot = self.next(&key, &[Event::Cancel { pair, by }], now)?;
        self.write(now, |main| save(main, slot))?;
        Ok(self.status())
    }

    fn remove(&mut self, by: DeviceId, key: &SlotKey, reason: RetireReason, now: u64) -> Done<Answer<G>> {
        // Only an enrolled device may remove anything (METHODS.md G).
        self.slot(&signing_key(by)).active().ok_or(Refusal::NotActive)?;
        let of = |signing| self.main.slots.values().filter(move |slot| slot.key.is_signing() == signing).cloned();
        let (signing, backups): (Vec<_>, Vec<_>) = (of(true).collect(), of(false).collect());
        let view = WalletView { state: WalletState::Open, signing: &signing, backups: &backups };
        may_remove(&view, &[key], Force { last_device: true, last_backup: true })?;
        let gone: Vec<_> = self.slot(key).standing().map(|pair| pair.id).into_iter().collect();
        let slot = self.next(key, &[Event::Remove { reason }], now)?;
        self.bury(&gone, Tombstone::Removed)?;
        self.write(now, |main| save(main, slot))?;
        Ok(self.status())
    }

    /// Something only a tampering peer sends. The ban is durable before the answer.
    fn ban(&mut self, by: DeviceId, pair: PairRef, now: u64) -> Done<Answer<G>> {
        let slot = self.next(&signing_key(by), &[Event::Ban { pair }], now)?;
        if slot.slot.pair(pair).is_some_and(|pair| pair.state == PairState::Banned) {
            self.bury(&[pair], Tombstone::Banned)?;
        }
        self.write(now, |main| save(main, slot))?;
        Err(Stop::Refused)
    }

    fn status(&self) -> Answer<G> {
        let pairs = self.main.slots.values().flat_map(|slot| &slot.pairs);
        Answer::Status { pairs: pairs.map(|pair| (pair.id, pair.state)).collect() }
    }

    /// An event that no device sends: an operator's, or housekeeping's.
    pub(super) fn operate(&mut self, key: &SlotKey, event: &Event, now: u64) -> Done<()> {
        let slot = self.next(key, std::slice::from_ref(event), now)?;
        if let Event::Freeze { pair } = event {
            self.bury(&[*pair], Tombstone::Removed)?;
        }
        if let Event::Thaw { pair } = event {
            self.burn()?;
            self.shred.tombstones.remove(&(*pair, Tombstone::Removed));
        }
        self.write(now, |main| save(main, slot))
    }

    /// Expired pairs are retired; erased pairs lose their shred key, again after a crash in between.
    pub(super) fn housekeep(&mut self, now: u64) -> Done<()> {
        for key in self.main.slots.keys().cloned().collect::<Vec<_>>() {
            let slot = self.next(&key, &[Event::Expire, Event::Sweep], now)?;
            if slot.slot != self.slot(&key) {
                self.write(now, |main| save(main, slot))?;
            }
        }
        let pairs = self.main.slots.values().flat_map(|slot| &slot.pairs);
        let erased: Vec<_> = pairs.filter(|pair| pair.state == PairState::Erased).map(|pair| pair.id).collect();
        for pair in erased {
            if self.shred.keys.contains_key(&pair) {
                self.burn()?;
                self.shred.tombstones.insert((pair, Tombstone::Erased));
                self.shred.keys.remove(&pair);
            }
        }
        Ok(())
    }

    /// Main database from a copy, shred store as it is. A real store finds out by itself that it is older.
    pub(super) fn restore(&mut self, copy: &Main<G>, now: u64) -> Result<(), Refusal> {
        self.main = copy.clone();
        self.kept.clear();
        if let Some(store) = &mut self.store {
            store.restore(now);
            self.reload();
            return Ok(());
        }
        for key in self.main.slots.keys().cloned().collect::<Vec<_>>() {
            let mine = |id: &PairRef| self.main.slots[&key].pair(*id).is_some();
            let tombstones = self.shred.tombstones.iter().filter(|(id, _)| mine(id)).copied().collect();
            let generation = self.shred.generations.get(&key).copied().unwrap_or(0);
            let restored = self.next(&key, &[Event::Restored { tombstones, generation }], now)?;
            self.main.slots.insert(key, restored.slot);
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, now: u64) {
        self.up = true;
        self.fuse = None;
        self.kept.clear();
        if let Some(store) = &mut self.store {
            store.reopen(now);
            self.reload();
        }
    }

    fn reload(&mut self) {
        let stored = self.store.as_mut().map(|store| store.slots()).unwrap_or_default();
        let known: Vec<_> = self.main.slots.values().filter(|slot| !slot.pairs.is_empty()).map(|s| &s.key).collect();
        assert!(known.iter().all(|key| stored.iter().any(|slot| slot.key == **key)), "the store lost a slot");
        for slot in stored {
            let slot = with_erased(self.main.slots.get(&slot.key), slot);
            self.main.slots.insert(slot.key.clone(), slot);
        }
    }

    pub(super) fn slot(&self, key: &SlotKey) -> Slot {
        self.main.slots.get(key).cloned().unwrap_or_else(|| Slot::new(key.clone()))
    }

    /// The half of a pair, if main database and shred store still make one.
    pub(super) fn half_of(&self, pair: PairRef) -> Option<G::Scalar> {
        Some(G::sub(*self.main.halves.get(&pair)?, *self.shred.keys.get(&pair)?))
    }

    fn half(&self, pair: PairRef) -> Done<G::Scalar> {
        self.half_of(pair).ok_or(Stop::Bad)
    }

    fn key_of(&self, pair: PairRef) -> Option<SlotKey> {
        self.main.slots.values().find(|slot| slot.pair(pair).is_some()).map(|slot| slot.key.clone())
    }

    fn next(&self, key: &SlotKey, events: &[Event], now: u64) -> Result<Change, Refusal> {
        let slot = events.iter().try_fold(self.slot(key), |slot, event| (self.rules.apply)(&slot, event, now))?;
        Ok(Change { slot, events: events.to_vec() })
    }

    /// One durable step. An armed fuse ends the process before it.
    fn burn(&mut self) -> Done<()> {
        match &mut self.fuse {
            None => Ok(()),
            Some(0) => {
                self.fuse = None;
                self.up = false;
                Err(Stop::Crash)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn bury(&mut self, pairs: &[PairRef], stone: Tombstone) -> Done<()> {
        for pair in pairs {
            self.burn()?;
            self.shred.tombstones.insert((*pair, stone));
        }
        Ok(())
    }

    /// One transaction of the main database. A real store repeats it and must come to the same result.
    fn write(&mut self, now: u64, change: impl FnOnce(&mut Main<G>)) -> Done<()> {
        self.burn()?;
        change(&mut self.main);
        let changes = std::mem::take(&mut self.main.changes);
        for (key, _) in &changes {
            let highest = self.shred.generations.entry(key.clone()).or_default();
            *highest = self.main.slots[key].generation.max(*highest);
        }
        if let (Some(store), false) = (&mut self.store, changes.is_empty()) {
            for stored in store.apply(&changes, now) {
                let mine = &self.main.slots[&stored.key];
                assert_eq!(&with_erased(Some(mine), stored), mine, "the store and the model disagree");
            }
        }
        Ok(())
    }
}

fn save<G: Group>(main: &mut Main<G>, change: Change) {
    main.changes.push((change.slot.key.clone(), change.events));
    main.slots.insert(change.slot.key.clone(), change.slot);
}
