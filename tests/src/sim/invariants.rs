//! What holds after every event. The observer sees all halves; no process of the simulation does.

use halfkey_protocol::lifecycle::{Event, PairRef, PairState, SlotKey};

use super::{
    ceremonies::Ceremonies,
    server::{METHODS, backup_key},
    world::World,
};

/// A broken invariant, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

/// Every invariant, by name. The order is the order of checking.
pub const NAMES: &[&str] = &[
    PER_SLOT_NEVER_TWO_ACTIVE,
    A_COMMIT_IS_IDEMPOTENT,
    A_RETIRED_PAIR_NEVER_SIGNS,
    THE_PUBLIC_KEY_NEVER_CHANGES,
    A_RESTORE_LOSES_NO_WALLET,
    A_METHOD_NEVER_LOSES_THE_KEY_OF_AN_ACTIVE_BACKUP,
    PER_WALLET_NEVER_NONE,
    AN_ACTIVE_BACKUP_OPENS,
    AFTER_ALL_IT_STILL_WORKS,
];
#[allow(missing_docs)]
pub const PER_SLOT_NEVER_TWO_ACTIVE: &str = "per slot never two active";
#[allow(missing_docs)]
pub const A_COMMIT_IS_IDEMPOTENT: &str = "a commit is idempotent";
#[allow(missing_docs)]
pub const A_RETIRED_PAIR_NEVER_SIGNS: &str = "a retired pair never signs";
#[allow(missing_docs)]
pub const THE_PUBLIC_KEY_NEVER_CHANGES: &str = "the public key never changes";
#[allow(missing_docs)]
pub const A_RESTORE_LOSES_NO_WALLET: &str = "a restore loses no wallet";
#[allow(missing_docs)]
pub const A_METHOD_NEVER_LOSES_THE_KEY_OF_AN_ACTIVE_BACKUP: &str = "a method never loses the key of an active backup";
#[allow(missing_docs)]
pub const PER_WALLET_NEVER_NONE: &str = "per wallet never none";
#[allow(missing_docs)]
pub const AN_ACTIVE_BACKUP_OPENS: &str = "an active backup opens if any was ever committed";
#[allow(missing_docs)]
pub const AFTER_ALL_IT_STILL_WORKS: &str = "after all the wallet still signs and recovers";

type Check = Result<(), Violation>;

fn check(holds: bool, invariant: &'static str, detail: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// Every invariant, after one event.
pub(super) fn all<C: Ceremonies>(world: &mut World<C>) -> Check {
    observe(world);
    per_slot_never_two_active(world)?;
    a_commit_is_idempotent(world)?;
    a_retired_pair_never_signs(world)?;
    if world.ledger.secret.is_some() {
        the_public_key_never_changes(world)?;
        if world.ledger.restored {
            a_restore_loses_no_wallet(world)?;
        }
        a_method_never_loses_the_key_of_an_active_backup(world)?;
        per_wallet_never_none(world)?;
        an_active_backup_opens(world)?;
    }
    remember(world);
    Ok(())
}

/// The wallet comes to be with its first active pair; a committed backup is expected from then on.
fn observe<C: Ceremonies>(world: &mut World<C>) {
    let active = |world: &World<C>, signing: bool| -> Vec<(SlotKey, PairRef)> {
        let slots = world.server.main.slots.values().filter(|slot| slot.key.is_signing() == signing);
        slots.filter_map(|slot| Some((slot.key.clone(), slot.active()?.id))).collect()
    };
    if world.ledger.secret.is_none()
        && let Some((_, pair)) = active(world, true).first()
    {
        world.ledger.secret = world.signing_halves(*pair);
        world.ledger.key = world.ledger.secret.and_then(C::key_of);
    }
    for method in 0..METHODS.len() {
        let slot = world.server.slot(&backup_key(method));
        if slot.active().is_some() {
            world.ledger.expected.insert(method);
        }
        let newest = slot.pairs.iter().rfind(|pair| pair.activated_ms.is_some());
        if newest.and_then(|pair| pair.retired_because).is_some_and(|reason| reason.is_security()) {
            world.ledger.expected.remove(&method);
        }
    }
}

fn per_slot_never_two_active<C: Ceremonies>(world: &World<C>) -> Check {
    for slot in world.server.main.slots.values() {
        let count = |test: fn(PairState) -> bool| slot.pairs.iter().filter(|pair| test(pair.state)).count();
        let (standing, pending) = (count(PairState::is_standing), count(|state| state == PairState::Pending));
        check(standing <= 1 && pending <= 1, PER_SLOT_NEVER_TWO_ACTIVE, || {
            format!("{:?}: {standing} standing, {pending} pending", slot.key)
        })?;
    }
    Ok(())
}

fn a_commit_is_idempotent<C: Ceremonies>(world: &World<C>) -> Check {
    for slot in world.server.main.slots.values() {
        let Some(pair) = slot.active() else { continue };
        let again = Event::Commit { pair: pair.id, by: pair.begun_by };
        let after = (world.server.rules.apply)(slot, &again, world.now);
        check(after.as_ref() == Ok(slot), A_COMMIT_IS_IDEMPOTENT, || format!("{:?}: {after:?}", slot.key))?;
    }
    Ok(())
}

fn a_retired_pair_never_signs<C: Ceremonies>(world: &World<C>) -> Check {
    let wrong = world.server.signed.iter().find(|pair| world.ledger.refused.contains(pair));
    check(wrong.is_none(), A_RETIRED_PAIR_NEVER_SIGNS, || format!("{wrong:?} signed"))
}

fn the_public_key_never_changes<C: Ceremonies>(world: &World<C>) -> Check {
    let key = world.ledger.key;
    check(key.is_some(), THE_PUBLIC_KEY_NEVER_CHANGES, || "no key at all".to_owned())?;
    let same = world.server.main.public_key.is_none_or(|stored| Some(stored) == key);
    check(same, THE_PUBLIC_KEY_NEVER_CHANGES, || "the server's record".to_owned())?;
    for slot in world.server.main.slots.values() {
        let Some((pair, public)) = slot.active().and_then(|p| Some((p, world.server.main.points.get(&p.id)?))) else {
            continue;
        };
        let same = C::sum_of_points(public) == key;
        check(same, THE_PUBLIC_KEY_NEVER_CHANGES, || format!("{:?}", pair.id))?;
    }
    let other = |device: &super::device::Device<C>| device.public_key.is_some_and(|seen| Some(seen) != key);
    check(!world.devices.iter().any(other), THE_PUBLIC_KEY_NEVER_CHANGES, || "a device's record".to_owned())
}

fn a_restore_loses_no_wallet<C: Ceremonies>(world: &World<C>) -> Check {
    check(!world.ledger.restore_failed, A_RESTORE_LOSES_NO_WALLET, || "a slot could not be restored".to_owned())?;
    check(a_way_is_left(world), A_RESTORE_LOSES_NO_WALLET, || describe(world))
}

fn a_method_never_loses_the_key_of_an_active_backup<C: Ceremonies>(world: &World<C>) -> Check {
    for (method, name) in METHODS.iter().enumerate() {
        let slot = world.server.slot(&backup_key(method));
        let Some(PairRef::Backup(backup)) = slot.standing().map(|pair| pair.id) else { continue };
        let there = world.methods[method].contains_key(&backup);
        check(there, A_METHOD_NEVER_LOSES_THE_KEY_OF_AN_ACTIVE_BACKUP, || format!("{backup} of {name}"))?;
    }
    Ok(())
}

/// Banned and frozen pairs count: an operator brings them back, and their halves are there.
fn per_wallet_never_none<C: Ceremonies>(world: &World<C>) -> Check {
    check(a_way_is_left(world), PER_WALLET_NEVER_NONE, || describe(world))
}

fn a_way_is_left<C: Ceremonies>(world: &World<C>) -> bool {
    let signing = || {
        let slots = world.server.main.slots.values().filter(|slot| slot.key.is_signing());
        slots.filter_map(|slot| slot.standing()).any(|pair| world.signing_halves(pair.id) == world.ledger.secret)
    };
    let backup = |method: usize| {
        let slot = world.server.slot(&backup_key(method));
        slot.standing().is_some_and(|pair| world.backup_half(method, pair.id) == world.ledger.secret)
    };
    signing() || (0..METHODS.len()).any(backup)
}

fn an_active_backup_opens<C: Ceremonies>(world: &World<C>) -> Check {
    for &method in &world.ledger.expected {
        let slot = world.server.slot(&backup_key(method));
        let opens = slot.standing().is_some_and(|pair| world.backup_half(method, pair.id) == world.ledger.secret);
        check(opens, AN_ACTIVE_BACKUP_OPENS, || format!("{}: {:#?}", METHODS[method], slot.pairs))?;
    }
    Ok(())
}

fn remember<C: Ceremonies>(world: &mut World<C>) {
    world.server.signed.clear();
    world.ledger.refused.clear();
    for pair in world.server.main.slots.values().flat_map(|slot| &slot.pairs) {
        if !matches!(pair.state, PairState::Active | PairState::Pending) {
            world.ledger.refused.insert(pair.id);
        }
    }
}

/// With everything running and every message delivered: each device with an active pair signs, and each active
/// backup recovers onto a new device, which signs too.
pub(super) fn after_all<C: Ceremonies>(world: &mut World<C>) -> Check {
    world.settle();
    all(world)?;
    for at in 0..world.devices.len() {
        let active = world.server.slot(&world.device_slot(at)).active().map(|pair| pair.id);
        if let (false, Some(pair)) = (world.devices[at].wiped, active) {
            signs(world, at, pair)?;
        }
    }
    for (method, name) in METHODS.iter().enumerate() {
        // Whoever was at work is gone for good; the lease ends by itself.
        world.now += halfkey_protocol::lifecycle::LEASE_MS;
        if world.server.slot(&backup_key(method)).active().is_none() {
            continue;
        }
        world.recover_on_new_device(method, false);
        world.drain();
        all(world)?;
        let at = world.devices.len() - 1;
        let active = world.server.slot(&world.device_slot(at)).active().map(|pair| pair.id);
        check(active.is_some(), AFTER_ALL_IT_STILL_WORKS, || format!("{name} does not recover"))?;
        if let Some(pair) = active {
            signs(world, at, pair)?;
        }
    }
    Ok(())
}

fn signs<C: Ceremonies>(world: &mut World<C>, at: usize, pair: PairRef) -> Check {
    let before = world.devices[at].signatures;
    let nth = world.devices[at].shares.keys().position(|id| *id == pair);
    check(nth.is_some(), AFTER_ALL_IT_STILL_WORKS, || format!("device {at} has no half of {pair:?}"))?;
    let out = world.devices[at].sign(nth.unwrap_or(0));
    world.send(at, out);
    world.drain();
    check(world.devices[at].signatures > before, AFTER_ALL_IT_STILL_WORKS, || format!("device {at} does not sign"))
}

fn describe<C: Ceremonies>(world: &World<C>) -> String {
    let slots = world.server.main.slots.values();
    let lines = slots.flat_map(|slot| {
        slot.pairs.iter().map(move |pair| {
            format!("{:?} {} {:?} {:?}\n", slot.key, pair.generation, pair.state, pair.retired_because)
        })
    });
    lines.collect()
}
