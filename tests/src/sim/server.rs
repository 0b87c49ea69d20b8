//! The server: a main database, a shred store of its own, kept state that a crash forgets, and the rules.

use std::collections::{BTreeMap, BTreeSet};

use halfkey_envelope::{
    hash::h,
    id::{BackupId, ClientId, DeviceId, WalletId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{
    Event, Evidence, Force, Pair, PairRef, PairState, Refusal, RetireReason, Slot, SlotKey, Tombstone, WalletState,
    WalletView, may_deal, may_recover, may_remove,
};

use super::{
    ceremonies::{Ceremonies, Held, Place, Proves, Purpose, Served, Stopped, test_message},
    message::{Answer, Recovered, Request},
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
    /// Whether a commit waits for both acknowledgements from the copies read back (step 5), and that of a signing pair
    /// for the server's own half, read back once more.
    pub checks_acks: bool,
    /// Whether a device forgets its older keys as soon as a newer backup is committed.
    pub forgets_early: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            apply: halfkey_protocol::lifecycle::apply,
            may_sign: halfkey_protocol::lifecycle::may_sign,
            checks_points: true,
            checks_acks: true,
            forgets_early: false,
        }
    }
}

/// The rows of the main database. A copy of it is what a restore brings back.
#[derive(Clone)]
pub(super) struct Main<C: Ceremonies> {
    pub public_key: Option<C::Key>,
    pub slots: BTreeMap<SlotKey, Slot>,
    /// Halves under the pair's shred key.
    pub halves: BTreeMap<PairRef, C::Sealed>,
    /// The public records.
    pub points: BTreeMap<PairRef, C::Public>,
    pub envelopes: BTreeMap<PairRef, C::Envelope>,
    /// What the transaction at hand applies, for a real store to repeat.
    changes: Vec<(SlotKey, Vec<Event>)>,
}

/// A slot as it will be, and why.
struct Change {
    slot: Slot,
    events: Vec<Event>,
}

/// The shred store: never restored from an older copy.
pub(super) struct Shred<C: Ceremonies> {
    pub keys: BTreeMap<PairRef, C::Shred>,
    pub tombstones: BTreeSet<(PairRef, Tombstone)>,
    pub generations: BTreeMap<SlotKey, u64>,
}

/// One round of one device.
struct Turn {
    by: DeviceId,
    purpose: Purpose,
    pair: PairRef,
    step: u8,
}

/// Why a request ended early.
pub(super) enum Stop {
    /// The process died here.
    Crash,
    /// A rule said no.
    Refused,
    /// A ceremony message that does not fit. No state was changed and nobody is banned.
    Bad,
    /// A ceremony message that only a cheating peer sends.
    Ban,
}

impl From<Stopped> for Stop {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Bad => Self::Bad,
            Stopped::Ban => Self::Ban,
        }
    }
}

impl From<Refusal> for Stop {
    fn from(_: Refusal) -> Self {
        Self::Refused
    }
}

pub(super) struct Server<C: Ceremonies> {
    pub rules: Rules,
    pub up: bool,
    /// Durable writes left before the process dies.
    pub fuse: Option<u8>,
    pub main: Main<C>,
    pub shred: Shred<C>,
    /// What a ceremony keeps for its next step; a crash forgets it, a use deletes it first.
    kept: BTreeMap<PairRef, (u8, C::Kept)>,
    /// Nonces of announced signatures. Those of everything else follow from the pair.
    announced: BTreeMap<PairRef, [u8; 32]>,
    pub store: Option<Box<dyn SlotStore>>,
    /// Which pairs took part in a signature since the last look.
    pub signed: Vec<PairRef>,
    secret: [u8; 32],
    rng: Rng,
}

type Done<T> = Result<T, Stop>;

impl<C: Ceremonies> Server<C> {
    pub(super) fn new(rules: Rules, store: Option<Box<dyn SlotStore>>, mut rng: Rng) -> Self {
        let secret = h("halfkey/simulation/v1/secret", &[&rng.id()]);
        let main = Main {
            public_key: None,
            slots: BTreeMap::new(),
            halves: BTreeMap::new(),
            points: BTreeMap::new(),
            envelopes: BTreeMap::new(),
            changes: vec![],
        };
        let shred = Shred { keys: BTreeMap::new(), tombstones: BTreeSet::new(), generations: BTreeMap::new() };
        Self {
            rules,
            up: true,
            fuse: None,
            main,
            shred,
            kept: BTreeMap::new(),
            announced: BTreeMap::new(),
            store,
            signed: vec![],
            secret,
            rng,
        }
    }

    /// One request. `None`: the process died before it could answer.
    pub(super) fn handle(&mut self, by: DeviceId, request: &Request<C>, now: u64) -> Option<Answer<C>> {
        let result = match request {
            Request::Begin { purpose, pair } => self.begin(by, *purpose, *pair, now),
            Request::RecoverBegin { method, pair } => self.recover_begin(by, *method, *pair, now),
            Request::Round { purpose, pair, step, body, possession } => {
                let turn = Turn { by, purpose: *purpose, pair: *pair, step: *step };
                self.round(&turn, body, possession.as_ref(), now)
            }
            Request::KeepEnvelope { method, backup, envelope } => {
                self.keep_envelope(by, *method, *backup, envelope, now)
            }
            Request::KeyStored { method, backup, digest } => self.key_stored(by, *method, *backup, *digest, now),
            Request::CommitBackup { method, backup, digest, ack } => {
                self.commit_backup(by, *method, *backup, *digest, ack, now)
            }
            Request::CommitSigning { pair, signature, recovered } => {
                self.commit_signing(by, *pair, signature, *recovered, now)
            }
            Request::Drill { method, backup } => self.drill(*method, *backup),
            Request::Verify { method, backup, proof } => self.verify(*method, *backup, proof, now),
            Request::Cancel { pair } => self.cancel(by, *pair, now),
            Request::Revoke { device } if *device == by => Err(Stop::Bad),
            Request::Revoke { device } => self.remove(by, &signing_key(*device), RetireReason::Revoked, now),
            Request::RemoveMethod { method } => self.remove(by, &backup_key(*method), RetireReason::Removed, now),
            Request::Garbage { pair } => self.ban(by, *pair, now),
            Request::Status => Ok(self.status()),
        };
        let answer = match result {
            Ok(answer) => answer,
            Err(Stop::Refused) => Answer::Refused,
            Err(Stop::Bad | Stop::Ban) => Answer::Bad,
            Err(Stop::Crash) => return None,
        };
        self.burn().ok().map(|()| answer)
    }

    /// The pair becomes pending; the device learns what the ceremony is bound to. A signature is only announced.
    fn begin(&mut self, by: DeviceId, purpose: Purpose, pair: PairRef, now: u64) -> Done<Answer<C>> {
        let slot = match purpose {
            Purpose::Create if self.main.public_key.is_some() => return Err(Stop::Bad),
            Purpose::Create => self.next(&signing_key(by), &[Event::Begin { pair, by }], now)?,
            Purpose::Backup { method } => {
                self.slot(&signing_key(by)).active().ok_or(Refusal::NotActive)?;
                self.next(&backup_key(method), &[Event::Begin { pair, by }], now)?
            }
            Purpose::Heal { .. } => self.next(&signing_key(by), &[Event::HealBegin { pair, by }], now)?,
            Purpose::Sign { message } => {
                let generation = self.may_sign(by, pair, message)?;
                let nonce = self.fresh_nonce();
                self.announced.insert(pair, nonce);
                return Ok(Answer::Begun { pair, generation, nonce });
            }
            Purpose::Recover { .. } => return Err(Stop::Bad),
        };
        let generation = slot.slot.generation;
        self.write(now, |main| save(main, slot))?;
        Ok(Answer::Begun { pair, generation, nonce: self.nonce_of(pair) })
    }

    fn recover_begin(&mut self, by: DeviceId, method: usize, pair: PairRef, now: u64) -> Done<Answer<C>> {
        let from = self.slot(&backup_key(method));
        let backup = from.active().or(from.standing()).ok_or(Refusal::NotActive)?;
        may_recover(backup)?;
        let PairRef::Backup(id) = backup.id else { return Err(Stop::Bad) };
        let public = self.main.points.get(&backup.id).ok_or(Stop::Bad)?.clone();
        let envelope = self.main.envelopes.get(&backup.id).ok_or(Stop::Bad)?.clone();
        let held = self.next(&backup_key(method), &[Event::Hold { by }], now)?;
        let slot = self.next(&signing_key(by), &[Event::Begin { pair, by }], now)?;
        let generation = slot.slot.generation;
        self.write(now, |main| {
            save(main, held);
            save(main, slot);
        })?;
        Ok(Answer::RecoverReady { pair, generation, nonce: self.nonce_of(pair), backup: id, envelope, public })
    }

    /// One round. What was kept for it is gone before anything is computed from it.
    fn round(&mut self, turn: &Turn, body: &C::Body, possession: Option<&C::Proof>, now: u64) -> Done<Answer<C>> {
        let Turn { by, purpose, pair, step } = *turn;
        let kept = match (step, self.kept.remove(&pair)) {
            (0, _) => None,
            (_, Some((waits, kept))) if waits == step => Some(kept),
            _ => return Err(Stop::Bad),
        };
        let (place, from) = self.place(turn, now)?;
        if let (Purpose::Recover { method, from: backup, .. }, 0) = (purpose, step) {
            let old = PairRef::Backup(backup);
            let public = self.main.points.get(&old).ok_or(Stop::Bad)?;
            if !C::proven(public, old, Proves::Possession, &place.nonce, possession.ok_or(Stop::Bad)?) {
                return Err(Stop::Bad);
            }
            let slot = self.next(&backup_key(method), &[Event::Hold { by }], now)?;
            self.write(now, |main| save(main, slot))?;
        }
        match C::serve(&place, from.as_ref(), kept, body, self.rules.checks_points, &mut self.rng) {
            Ok(Served::Go(body, kept)) => {
                self.kept.insert(pair, (step + 1, kept));
                Ok(Answer::Round { pair, step, body })
            }
            Ok(Served::Signed(body)) => {
                if !self.is_test(by, purpose, pair) {
                    self.signed.push(pair);
                }
                Ok(Answer::Round { pair, step, body })
            }
            Ok(Served::Store(held, answer)) => {
                let stored = self.store_half(turn, held, now)?;
                let body = match answer {
                    Some(body) => body,
                    None => C::acknowledge(&stored, body, &mut self.rng)?,
                };
                Ok(Answer::Round { pair, step, body })
            }
            Err(Stopped::Ban) => self.ban(by, place.old.unwrap_or(pair), now),
            Err(Stopped::Bad) => Err(Stop::Bad),
        }
    }

    /// What the round is bound to, from our own records, and the half that it needs.
    fn place(&mut self, turn: &Turn, now: u64) -> Done<(Place, Option<Held<C>>)> {
        let Turn { by, purpose, pair, step } = *turn;
        let (slot, old) = match purpose {
            Purpose::Create => (self.slot(&signing_key(by)), None),
            Purpose::Backup { method } => {
                let signing = self.slot(&signing_key(by));
                let dealer = signing.active().ok_or(Refusal::NotActive)?.id;
                may_deal(&signing, dealer)?;
                (self.slot(&backup_key(method)), Some(dealer))
            }
            Purpose::Recover { method, from, .. } => {
                let from = PairRef::Backup(from);
                may_recover(self.slot(&backup_key(method)).pair(from).ok_or(Refusal::UnknownPair)?)?;
                (self.slot(&signing_key(by)), Some(from))
            }
            Purpose::Heal { from } => {
                let signing = self.slot(&signing_key(by));
                may_deal(&signing, from)?;
                (signing, Some(from))
            }
            Purpose::Sign { message } => {
                let generation = self.may_sign(by, pair, message)?;
                let nonce = *self.announced.get(&pair).ok_or(Stop::Bad)?;
                if step > 0 {
                    self.announced.remove(&pair);
                }
                let place = Place { purpose, device: by, old: Some(pair), new: None, generation, nonce };
                return Ok((place, Some(self.held(pair)?)));
            }
        };
        let pending = slot.pair(pair).ok_or(Refusal::UnknownPair)?;
        if pending.state != PairState::Pending || pending.begun_by != by || now >= pending.deadline_ms {
            return Err(Stop::Refused);
        }
        let generation = pending.generation;
        let place = Place { purpose, device: by, old, new: Some(pair), generation, nonce: self.nonce_of(pair) };
        let held = old.map(|old| self.held(old)).transpose()?;
        Ok((place, held))
    }

    /// The generation of a pair that may sign this now. A pending pair makes its one test signature and nothing else.
    fn may_sign(&self, by: DeviceId, pair: PairRef, message: u64) -> Done<u64> {
        let slot = self.slot(&signing_key(by));
        let found = slot.pair(pair).ok_or(Refusal::UnknownPair)?;
        if !self.is_test(by, Purpose::Sign { message }, pair) {
            (self.rules.may_sign)(found)?;
        }
        Ok(found.generation)
    }

    fn is_test(&self, by: DeviceId, purpose: Purpose, pair: PairRef) -> bool {
        let slot = self.slot(&signing_key(by));
        let pending = |found: &Pair| found.state == PairState::Pending && found.checked.server_half;
        let test = matches!(purpose, Purpose::Sign { message } if message == test_message(pair));
        test && slot.pair(pair).is_some_and(pending)
    }

    /// Our half becomes durable, is read back, and counts from then on.
    fn store_half(&mut self, turn: &Turn, held: Held<C>, now: u64) -> Done<Held<C>> {
        let Turn { by, purpose, pair, .. } = *turn;
        let (key, what) = match purpose {
            Purpose::Backup { method } => (backup_key(method), Evidence::CustodianAck),
            _ => (signing_key(by), Evidence::ServerHalf),
        };
        let event = Event::Evidence { pair, by, what };
        self.next(&key, std::slice::from_ref(&event), now)?;
        // The shred key first: a half without one never exists.
        let (sealed, shred) = C::seal_half(&held.half, pair, &mut self.rng);
        self.burn()?;
        self.shred.keys.insert(pair, shred);
        self.write(now, |main| {
            main.halves.insert(pair, sealed);
            main.points.insert(pair, held.public);
        })?;
        let stored = self.held(pair)?;
        if !C::fits(&stored, &mut self.rng) {
            return Err(Stop::Bad);
        }
        let slot = self.next(&key, &[event], now)?;
        self.write(now, |main| save(main, slot))?;
        Ok(stored)
    }

    fn keep_envelope(
        &mut self,
        by: DeviceId,
        method: usize,
        backup: BackupId,
        envelope: &C::Envelope,
        now: u64,
    ) -> Done<Answer<C>> {
        let pair = PairRef::Backup(backup);
        let what = Evidence::EnvelopeStored { digest: C::digest(envelope) };
        let slot = self.next(&backup_key(method), &[Event::Evidence { pair, by, what }], now)?;
        self.write(now, |main| {
            main.envelopes.insert(pair, envelope.clone());
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
    ) -> Done<Answer<C>> {
        let pair = PairRef::Backup(backup);
        let event = Event::Evidence { pair, by, what: Evidence::KeyAsserted { digest } };
        let slot = self.next(&backup_key(method), &[event], now)?;
        self.write(now, |main| save(main, slot))?;
        self.envelope(backup)
    }

    /// The envelope as stored, and a challenge.
    fn envelope(&self, backup: BackupId) -> Done<Answer<C>> {
        let pair = PairRef::Backup(backup);
        let envelope = self.main.envelopes.get(&pair).ok_or(Stop::Bad)?.clone();
        let public = self.main.points.get(&pair).ok_or(Stop::Bad)?.clone();
        Ok(Answer::Envelope { backup, envelope, challenge: self.nonce_of(pair), public })
    }

    /// Both acknowledgements, from what both sides read back, and the commit: one transaction.
    fn commit_backup(
        &mut self,
        by: DeviceId,
        method: usize,
        backup: BackupId,
        digest: [u8; 32],
        ack: &C::Proof,
        now: u64,
    ) -> Done<Answer<C>> {
        let pair = PairRef::Backup(backup);
        let stored = self.held(pair)?;
        let acked = C::acked(&stored.public, &digest, &self.nonce_of(pair), ack);
        if self.rules.checks_acks && !(acked && C::fits(&stored, &mut self.rng)) {
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

    fn commit_signing(
        &mut self,
        by: DeviceId,
        pair: PairRef,
        signature: &C::Signature,
        recovered: Option<Recovered>,
        now: u64,
    ) -> Done<Answer<C>> {
        let own = C::key(self.main.points.get(&pair).ok_or(Stop::Bad)?);
        let key = self.main.public_key.unwrap_or(own);
        if !C::signed(key, pair, test_message(pair), signature) {
            return Err(Stop::Bad);
        }
        let commit = Event::Commit { pair, by };
        let found = self.slot(&signing_key(by));
        let pending = found.pair(pair).is_some_and(|pair| pair.state == PairState::Pending);
        // The signature may be older than the damage: what counts from here on is what is stored now.
        if pending && self.rules.checks_acks && !C::fits(&self.held(pair)?, &mut self.rng) {
            return Err(Stop::Bad);
        }
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

    fn drill(&self, method: usize, backup: BackupId) -> Done<Answer<C>> {
        let pair = PairRef::Backup(backup);
        may_recover(self.slot(&backup_key(method)).pair(pair).ok_or(Refusal::UnknownPair)?)?;
        self.envelope(backup)
    }

    fn verify(&mut self, method: usize, backup: BackupId, proof: &C::Proof, now: u64) -> Done<Answer<C>> {
        let pair = PairRef::Backup(backup);
        let stored = self.held(pair)?;
        let slot = self.next(&backup_key(method), &[Event::Opened { pair }], now)?;
        let proven = C::proven(&stored.public, pair, Proves::Drill, &self.nonce_of(pair), proof);
        if !proven || !C::fits(&stored, &mut self.rng) {
            return Err(Stop::Bad);
        }
        self.write(now, |main| save(main, slot))?;
        Ok(self.status())
    }

    fn cancel(&mut self, by: DeviceId, pair: PairRef, now: u64) -> Done<Answer<C>> {
        let key = self.key_of(pair).ok_or(Refusal::UnknownPair)?;
        let slot = self.next(&key, &[Event::Cancel { pair, by }], now)?;
        self.write(now, |main| save(main, slot))?;
        Ok(self.status())
    }

    fn remove(&mut self, by: DeviceId, key: &SlotKey, reason: RetireReason, now: u64) -> Done<Answer<C>> {
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
    fn ban(&mut self, by: DeviceId, pair: PairRef, now: u64) -> Done<Answer<C>> {
        let slot = self.next(&signing_key(by), &[Event::Ban { pair }], now)?;
        if slot.slot.pair(pair).is_some_and(|pair| pair.state == PairState::Banned) {
            self.bury(&[pair], Tombstone::Banned)?;
        }
        self.write(now, |main| save(main, slot))?;
        Err(Stop::Refused)
    }

    fn status(&self) -> Answer<C> {
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
    pub(super) fn restore(&mut self, copy: &Main<C>, now: u64) -> Result<(), Refusal> {
        self.main = copy.clone();
        self.kept.clear();
        self.announced.clear();
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
        self.announced.clear();
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
    pub(super) fn half_of(&self, pair: PairRef) -> Option<C::Half> {
        C::open_half(self.main.halves.get(&pair)?, *self.shred.keys.get(&pair)?, pair)
    }

    /// The same with its record.
    fn held(&self, pair: PairRef) -> Done<Held<C>> {
        let public = self.main.points.get(&pair).ok_or(Stop::Bad)?.clone();
        Ok(Held { half: self.half_of(pair).ok_or(Stop::Bad)?, public })
    }

    /// Nobody can foresee it, every node knows it, and none has to be stored.
    fn nonce_of(&self, pair: PairRef) -> [u8; 32] {
        h("halfkey/simulation/v1/nonce", &[&self.secret, pair.as_bytes()])
    }

    fn fresh_nonce(&mut self) -> [u8; 32] {
        h("halfkey/simulation/v1/announced", &[&self.secret, &self.rng.next().to_be_bytes()])
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
    fn write(&mut self, now: u64, change: impl FnOnce(&mut Main<C>)) -> Done<()> {
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

fn save<C: Ceremonies>(main: &mut Main<C>, change: Change) {
    main.changes.push((change.slot.key.clone(), change.events));
    main.slots.insert(change.slot.key.clone(), change.slot);
}
