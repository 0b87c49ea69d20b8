//! Devices, server, two queues, the methods' stores and a clock, moved by one event at a time.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use halfkey_protocol::lifecycle::{Event, PairRef, PairState, SlotKey};

use super::{
    ceremonies::Ceremonies,
    device::{Device, MethodStore},
    message::{Answer, Mail, Request},
    rng::Rng,
    schedule::{Kind, Word},
    server::{METHODS, Main, Rules, Server, backup_key, signing_key},
    store::SlotStore,
};

/// More devices than this teach nothing new.
const MAX_DEVICES: usize = 6;

/// What the observer has seen. It knows the key, which nobody else does.
pub(super) struct Ledger<C: Ceremonies> {
    pub secret: Option<C::Whole>,
    /// Its public key.
    pub key: Option<C::Key>,
    /// Methods with a backup that was committed and never removed by a user.
    pub expected: BTreeSet<usize>,
    /// Pairs that were refused, before the event at hand.
    pub refused: BTreeSet<PairRef>,
    /// The event at hand was a restore.
    pub restored: bool,
    /// A rule refused a restored slot.
    pub restore_failed: bool,
}

pub(super) struct World<C: Ceremonies> {
    pub server: Server<C>,
    pub devices: Vec<Device<C>>,
    pub methods: Vec<MethodStore<C>>,
    pub to_server: Vec<Mail<Request<C>>>,
    pub to_device: Vec<Mail<Answer<C>>>,
    pub now: u64,
    pub ledger: Ledger<C>,
    copying: Option<(Main<C>, u64)>,
    pub copy: Option<Main<C>>,
    rules: Rules,
    rng: Rng,
    /// What came to pass, so that a run can say whether it tried anything.
    seen: Seen,
    /// Pairs that the observer has opened, and what it opened: again only when something about them has changed.
    opened: RefCell<BTreeMap<PairRef, Opened<C>>>,
}

/// What a pair was opened from, and its key.
type Opened<C> = (Parts<C>, Option<<C as Ceremonies>::Whole>);

/// All that a pair's key is made from: the device's half, or envelope and record; the server's half and its shred key.
type Parts<C> = (
    Option<<C as Ceremonies>::Half>,
    Option<(<C as Ceremonies>::Envelope, <C as Ceremonies>::Record)>,
    <C as Ceremonies>::Sealed,
    <C as Ceremonies>::Shred,
);

/// How often the interesting things happened.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    /// Backups that became active.
    pub backups: u64,
    /// Signing pairs that became active.
    pub signing_pairs: u64,
    /// Signatures that a device verified.
    pub signatures: u64,
    /// Databases restored.
    pub restores: u64,
    /// Pairs erased.
    pub erased: u64,
    /// Pairs banned.
    pub bans: u64,
    /// Server processes that died in the middle of a request.
    pub crashes: u64,
    /// Devices lost.
    pub wiped: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.backups += other.backups;
        self.signing_pairs += other.signing_pairs;
        self.signatures += other.signatures;
        self.restores += other.restores;
        self.erased += other.erased;
        self.bans += other.bans;
        self.crashes += other.crashes;
        self.wiped += other.wiped;
    }
}

impl<C: Ceremonies> World<C> {
    pub(super) fn new(seed: u64, rules: Rules, store: Option<Box<dyn SlotStore>>) -> Self {
        let mut rng = Rng::new(seed);
        let mut device = Device::new(&mut rng, rules.forgets_early);
        let first = device.create();
        let id = device.id;
        let ledger = Ledger {
            secret: None,
            key: None,
            expected: BTreeSet::new(),
            refused: BTreeSet::new(),
            restored: false,
            restore_failed: false,
        };
        Self {
            server: Server::new(rules, store, Rng::new(rng.next())),
            devices: vec![device],
            methods: METHODS.iter().map(|_| BTreeMap::new()).collect(),
            to_server: first.into_iter().map(|body| Mail { device: id, body }).collect(),
            to_device: vec![],
            now: 1_763_800_000_000,
            ledger,
            copying: None,
            copy: None,
            rules,
            rng,
            seen: Seen::default(),
            opened: RefCell::default(),
        }
    }

    /// One event. It may turn out to mean nothing here.
    pub(super) fn step(&mut self, word: Word) {
        self.now += 1;
        self.ledger.restored = false;
        let (a, b) = (word.a(), word.b());
        let method = usize::from(b.is_multiple_of(4));
        match word.kind() {
            Kind::DeliverToServer if self.to_server.is_empty() => self.deliver_to_device(a),
            Kind::DeliverToServer => self.deliver_to_server(a),
            Kind::DeliverToDevice if self.to_device.is_empty() => self.deliver_to_server(a),
            Kind::DeliverToDevice => self.deliver_to_device(a),
            Kind::Drop if b % 2 == 0 => drop(take(&mut self.to_server, a)),
            Kind::Drop => drop(take(&mut self.to_device, a)),
            Kind::Duplicate if b % 2 == 0 => duplicate(&mut self.to_server, a),
            Kind::Duplicate => duplicate(&mut self.to_device, a),
            Kind::CrashServer if a % 3 == 0 => self.server.up = false,
            Kind::CrashServer => self.server.fuse = Some((b % 5) as u8),
            Kind::CrashDevice => self.crash_device(a, b),
            Kind::RestartServer => self.restart_server(),
            Kind::RestartDevice => self.restart_device(a),
            Kind::Backup => self.begin(a, b, |device, _| device.backup(method, b / 4)),
            Kind::Recover => self.recover(method, a % 2 == 0),
            Kind::Sign => self.begin(a, b, |device, _| device.sign(b)),
            Kind::Cancel => self.act(a, |device, _| device.cancel()),
            Kind::Verify => self.begin(a, b, |device, methods| device.verify(method, methods, b / 4)),
            Kind::RepeatCommit => self.act(a, |device, _| device.last_commit.clone().into_iter().collect()),
            Kind::Revoke => self.revoke(a, b),
            Kind::RemoveMethod => self.act(a, |_, _| vec![Request::RemoveMethod { method }]),
            Kind::Tamper if b.is_multiple_of(2) => self.act(a, |device, _| device.garbage(b)),
            Kind::Tamper => {
                let at = a % self.devices.len();
                self.devices[at].tampers = Some(b);
            }
            Kind::Cheat => {
                let at = a % self.devices.len();
                self.devices[at].cheats ^= true;
            }
            Kind::Rot => self.rot(a),
            Kind::Heal => self.begin(a, b, |device, _| device.heal(b)),
            Kind::Review => {
                self.operate_on(PairState::Banned, a, |pair| Event::Review { pair, beyond_limit: b.is_multiple_of(2) })
            }
            Kind::Freeze if b.is_multiple_of(2) => {
                self.operate_on(PairState::Active, a, |pair| Event::Freeze { pair });
            }
            Kind::Freeze => {}
            Kind::Thaw => self.operate_on(PairState::Frozen, a, |pair| Event::Thaw { pair }),
            Kind::Wipe => self.wipe(a),
            Kind::Advance => self.advance(a, b),
            Kind::Housekeep => self.housekeep(),
            Kind::Status => self.act(a, |_, _| vec![Request::Status]),
            Kind::Copy => self.start_copy(),
            Kind::Copied => self.finish_copy(),
            Kind::Restore => self.restore(),
        }
    }

    fn deliver_to_server(&mut self, nth: usize) {
        if !self.server.up {
            return;
        }
        let Some(mail) = take(&mut self.to_server, nth) else { return };
        let answer = self.server.handle(mail.device, &mail.body, self.now);
        self.seen.crashes += u64::from(answer.is_none());
        self.to_device.extend(answer.map(|body| Mail { device: mail.device, body }));
    }

    fn deliver_to_device(&mut self, nth: usize) {
        let Some(mail) = take(&mut self.to_device, nth) else { return };
        let Some(at) = self.devices.iter().position(|device| device.id == mail.device) else { return };
        let device = &mut self.devices[at];
        if !device.up || device.wiped {
            return;
        }
        let before = device.signatures;
        let out = device.receive(&mail.body, &mut self.methods);
        self.seen.signatures += u64::from(device.signatures - before);
        self.send(at, out);
    }

    /// A device mostly finishes what it is at; one time in four it drops it for something new.
    fn begin(
        &mut self,
        pick: usize,
        impatience: usize,
        what: impl FnOnce(&mut Device<C>, &[MethodStore<C>]) -> Vec<Request<C>>,
    ) {
        let impatient = (impatience >> 5).is_multiple_of(4);
        self.act(pick, |device, methods| if device.is_idle() || impatient { what(device, methods) } else { vec![] });
    }

    fn act(&mut self, pick: usize, what: impl FnOnce(&mut Device<C>, &[MethodStore<C>]) -> Vec<Request<C>>) {
        let alive: Vec<_> =
            (0..self.devices.len()).filter(|n| self.devices[*n].up && !self.devices[*n].wiped).collect();
        let Some(&at) = alive.get(pick % alive.len().max(1)) else { return };
        let out = what(&mut self.devices[at], &self.methods);
        self.send(at, out);
    }

    pub(super) fn send(&mut self, at: usize, out: Vec<Request<C>>) {
        let device = self.devices[at].id;
        self.to_server.extend(out.into_iter().map(|body| Mail { device, body }));
    }

    fn crash_device(&mut self, pick: usize, after: usize) {
        let at = pick % self.devices.len();
        if after.is_multiple_of(2) {
            self.devices[at].crash();
        } else {
            self.devices[at].fuse = Some((after / 2 % 3) as u8);
        }
    }

    fn restart_device(&mut self, pick: usize) {
        let at = pick % self.devices.len();
        if self.devices[at].wiped {
            return;
        }
        let mut out = self.devices[at].restart();
        // `resume()` of a half-made wallet begins again; the server refuses it when the commit had gone through.
        if at == 0 && self.server.main.public_key.is_none() && self.devices[at].public_key.is_none() {
            out.extend(self.devices[at].create());
        }
        self.send(at, out);
    }

    pub(super) fn recover(&mut self, method: usize, revoke_old: bool) {
        let busy = self.devices.last().is_some_and(|device| !device.is_idle());
        if self.ledger.secret.is_none() || self.devices.len() >= MAX_DEVICES || busy {
            return;
        }
        self.recover_on_new_device(method, revoke_old);
    }

    pub(super) fn recover_on_new_device(&mut self, method: usize, revoke_old: bool) {
        let mut device = Device::new(&mut self.rng, self.rules.forgets_early);
        let out = device.recover(method, revoke_old);
        self.devices.push(device);
        self.send(self.devices.len() - 1, out);
    }

    fn revoke(&mut self, by: usize, which: usize) {
        let device = self.devices[which % self.devices.len()].id;
        self.act(by, |_, _| vec![Request::Revoke { device }]);
    }

    fn operate_on(&mut self, state: PairState, pick: usize, event: impl FnOnce(PairRef) -> Event) {
        let found: Vec<(SlotKey, PairRef)> = self
            .server
            .main
            .slots
            .values()
            .flat_map(|slot| slot.pairs.iter().map(move |pair| (slot, pair)))
            .filter(|(slot, pair)| pair.state == state && (state != PairState::Active || !slot.key.is_signing()))
            .map(|(slot, pair)| (slot.key.clone(), pair.id))
            .collect();
        if let (true, Some((key, pair))) = (self.server.up, found.get(pick % found.len().max(1))) {
            let _ = self.server.operate(key, &event(*pair), self.now);
        }
    }

    /// The user loses a device, but never the last thing that could bring the wallet back, today or after a restore:
    /// what the user loses between two copies is the operator's recovery point objective, not a fault of the rules.
    fn wipe(&mut self, pick: usize) {
        let spared = |main: &Main<C>| {
            (0..METHODS.len()).any(|method| {
                let pair = main.slots.get(&backup_key(method)).and_then(|slot| slot.active());
                pair.is_some_and(|pair| self.backup_half(method, pair.id).is_some())
            })
        };
        let coming = self.copying.as_ref().map(|(copy, _)| copy);
        if !spared(&self.server.main) || ![self.copy.as_ref(), coming].into_iter().flatten().all(spared) {
            return;
        }
        let at = pick % self.devices.len();
        if !self.devices[at].wiped {
            self.devices[at].crash();
            self.devices[at].wiped = true;
            self.devices[at].shares.clear();
            // What its user had asked to be removed a moment before is the user's own loss, too.
            let lost = self.devices[at].id;
            let removes =
                |request: &Request<C>| matches!(request, Request::Revoke { .. } | Request::RemoveMethod { .. });
            self.to_server.retain(|mail| mail.device != lost || !removes(&mail.body));
            self.seen.wiped += 1;
        }
    }

    /// The stored half of a pair that does not count yet is damaged: it must never come to count.
    fn rot(&mut self, pick: usize) {
        let main = &mut self.server.main;
        let pairs = main.slots.values().flat_map(|slot| &slot.pairs);
        let pending: Vec<_> = pairs.filter(|pair| pair.state == PairState::Pending).map(|pair| pair.id).collect();
        let stored: Vec<_> = pending.into_iter().filter(|pair| main.halves.contains_key(pair)).collect();
        if let Some(pair) = stored.get(pick % stored.len().max(1)) {
            main.halves.entry(*pair).and_modify(C::rot);
        }
    }

    fn advance(&mut self, a: usize, b: usize) {
        let (second, hour) = (1000, 3_600_000);
        self.now += match a % 4 {
            0 => 10 * second,
            1 => 61 * second,
            2 => hour * (1 + b as u64 % 26),
            _ => hour * 24 * (b as u64 % 9),
        };
    }

    fn housekeep(&mut self) {
        if self.server.up {
            let _ = self.server.housekeep(self.now);
        }
    }

    fn start_copy(&mut self) {
        if self.server.up && self.ledger.secret.is_some() {
            self.copying = Some((self.server.main.clone(), self.now));
            if let Some(store) = &mut self.server.store {
                store.copy();
            }
        }
    }

    fn finish_copy(&mut self) {
        if !self.server.up {
            return;
        }
        let Some((copy, as_of_ms)) = self.copying.take() else { return };
        self.copy = Some(copy);
        if let Some(store) = &mut self.server.store {
            store.copied();
        }
        for key in self.server.main.slots.keys().cloned().collect::<Vec<_>>() {
            let _ = self.server.operate(&key, &Event::ReplicaSafe { as_of_ms }, self.now);
        }
    }

    fn restore(&mut self) {
        let Some(copy) = self.copy.take() else { return };
        self.server.restart(self.now);
        self.ledger.restore_failed |= self.server.restore(&copy, self.now).is_err();
        self.ledger.restored = true;
        // What the copy never knew of is not expected of it; the devices back up again.
        let standing =
            |method: &usize| copy.slots.get(&backup_key(*method)).is_some_and(|slot| slot.standing().is_some());
        self.ledger.expected = (0..METHODS.len()).filter(standing).collect();
        self.seen.restores += 1;
        self.copy = Some(copy);
        self.copying = None;
    }

    fn restart_server(&mut self) {
        if !self.server.up {
            self.server.restart(self.now);
        }
    }

    /// Everything runs again and every message arrives: nothing may be stuck.
    pub(super) fn settle(&mut self) {
        self.restart_server();
        self.server.fuse = None;
        for at in 0..self.devices.len() {
            self.devices[at].fuse = None;
            self.devices[at].cheats = false;
            self.devices[at].tampers = None;
            self.restart_device(at);
        }
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        for _ in 0..400 {
            if self.to_server.is_empty() && self.to_device.is_empty() {
                return;
            }
            self.now += 1;
            self.deliver_to_server(0);
            self.deliver_to_device(0);
        }
    }

    /// Both halves of an active or kept backup, opened as a recovery would and added up.
    pub(super) fn backup_half(&self, method: usize, pair: PairRef) -> Option<C::Whole> {
        let PairRef::Backup(backup) = pair else { return None };
        let record = self.methods[method].get(&backup)?;
        let envelope = self.server.main.envelopes.get(&pair)?;
        self.whole(pair, None, Some((envelope, record)))
    }

    /// Both halves of a signing pair, added up.
    pub(super) fn signing_halves(&self, pair: PairRef) -> Option<C::Whole> {
        let holder = self.devices.iter().filter(|device| !device.wiped).find_map(|device| device.shares.get(&pair))?;
        self.whole(pair, Some(&holder.half), None)
    }

    fn whole(
        &self,
        pair: PairRef,
        half: Option<&C::Half>,
        sealed: Option<(&C::Envelope, &C::Record)>,
    ) -> Option<C::Whole> {
        let (server, shred) = (self.server.main.halves.get(&pair)?, *self.server.shred.keys.get(&pair)?);
        let parts = (half.cloned(), sealed.map(|(a, b)| (a.clone(), b.clone())), server.clone(), shred);
        if let Some((before, whole)) = self.opened.borrow().get(&pair)
            && *before == parts
        {
            return *whole;
        }
        let opened = sealed.and_then(|(envelope, record)| C::open_envelope(record, envelope));
        let whole = half.or(opened.as_ref()).and_then(|half| C::whole(half, &self.server.half_of(pair)?));
        self.opened.borrow_mut().insert(pair, (parts, whole));
        whole
    }

    /// What came to pass, with what the tables say.
    pub(super) fn seen(&self) -> Seen {
        let pairs = || self.server.main.slots.values().flat_map(|slot| &slot.pairs);
        let count =
            |test: &dyn Fn(&halfkey_protocol::lifecycle::Pair) -> bool| pairs().filter(|p| test(p)).count() as u64;
        let signing = |pair: &halfkey_protocol::lifecycle::Pair| matches!(pair.id, PairRef::Signing(_));
        Seen {
            backups: count(&|pair| !signing(pair) && pair.activated_ms.is_some()),
            signing_pairs: count(&|pair| signing(pair) && pair.activated_ms.is_some()),
            erased: count(&|pair| pair.state == PairState::Erased && pair.activated_ms.is_some()),
            bans: count(&|pair| pair.state == PairState::Banned),
            ..self.seen
        }
    }

    pub(super) fn device_slot(&self, at: usize) -> SlotKey {
        signing_key(self.devices[at].id)
    }
}

fn take<T>(queue: &mut Vec<T>, nth: usize) -> Option<T> {
    // Mostly in order: three times of four the oldest message.
    let at = if nth.is_multiple_of(4) { nth / 4 % queue.len().max(1) } else { 0 };
    (at < queue.len()).then(|| queue.remove(at))
}

fn duplicate<T: Clone>(queue: &mut Vec<T>, nth: usize) {
    if let Some(mail) = queue.get(nth % queue.len().max(1)).cloned() {
        queue.push(mail);
    }
}
