//! The life of a share pair, decided by one pure function (DESIGN.md 4, PROTOCOL.md 4.4 and 4.9).
//!
//! ```text
//!            Commit            Commit of a successor, Remove            Sweep
//! Pending ───────────► Active ───────────────────────────────► Retired ──────► Erased
//!    │                 │    ▲                                   ▲  ▲
//!    │             Ban │    │ Freeze, Thaw (backups)            │  │
//!    │                 ▼    ▼                                   │  │
//!    │               Banned Frozen ─────────────────────────────┘  │
//!    └── Cancel, Expire, Ban, a newer Begin ───────────────────────┘
//! ```
//!
//! Commit and retire are one result: the store writes a [`Slot`] in one transaction. The old pair stays active
//! until the new one is proven, nothing is deleted first, and retired is not erased.

mod event;
mod pair;
mod refusal;
mod wallet;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use event::{Event, Evidence, Tombstone};
pub use pair::{Checked, Lease, Pair, PairRef, PairState, RetireReason, Slot, SlotKey, Status};
pub use refusal::Refusal;
pub use wallet::{Force, WalletState, WalletView, may_deal, may_recover, may_remove, may_sign};

use halfkey_envelope::id::DeviceId;

/// How long a pending pair may wait for its commit: 24 hours.
pub const PENDING_LIFE_MS: u64 = 24 * 60 * 60 * 1000;
/// How long a lease lasts after the last message: 60 seconds (DECISIONS.md D23).
pub const LEASE_MS: u64 = 60 * 1000;
/// How long a superseded pair is kept when its successor was never opened: 7 days.
pub const KEEP_UNOPENED_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// How often a slot is healed before an operator must lift the limit by name (PROTOCOL.md 4.9).
pub const MAX_HEALS: u32 = 3;

/// What becomes of `slot` when `event` happens at `now_ms`.
///
/// # Errors
/// A [`Refusal`]; the slot stays as it is.
pub fn apply(slot: &Slot, event: &Event, now_ms: u64) -> Result<Slot, Refusal> {
    let mut next = slot.clone();
    match event {
        Event::Hold { by } => take_lease(&mut next, *by, now_ms)?,
        Event::Release { by } => release(&mut next, *by),
        Event::Begin { pair, by } => begin(&mut next, *pair, *by, now_ms)?,
        Event::HealBegin { pair, by } => heal_begin(&mut next, *pair, *by, now_ms)?,
        Event::Evidence { pair, by, what } => evidence(&mut next, *pair, *by, *what, now_ms)?,
        Event::Commit { pair, by } => commit(&mut next, *pair, *by, now_ms)?,
        Event::Cancel { pair, by } => cancel(&mut next, *pair, *by, now_ms)?,
        Event::Expire => expire(&mut next, now_ms),
        Event::Remove { reason } => remove(&mut next, *reason, now_ms)?,
        Event::Ban { pair } => ban(&mut next, *pair, now_ms)?,
        Event::Review { pair, beyond_limit } => review(&mut next, *pair, *beyond_limit)?,
        Event::Uphold { pair } => uphold(&mut next, *pair, now_ms)?,
        Event::Freeze { pair } => freeze(&mut next, *pair, now_ms)?,
        Event::Thaw { pair } => thaw(&mut next, *pair, now_ms)?,
        Event::Opened { pair } => opened(&mut next, *pair, now_ms)?,
        Event::ReplicaSafe { as_of_ms } => replica_safe(&mut next, *as_of_ms),
        Event::Sweep => sweep(&mut next, now_ms),
        Event::Restored { tombstones, generation } => restored(&mut next, tombstones, *generation, now_ms),
    }
    Ok(next)
}

/// Several events of one transaction, in order, all or none.
///
/// # Errors
/// The first [`Refusal`].
pub fn apply_all(slot: &Slot, events: &[Event], now_ms: u64) -> Result<Slot, Refusal> {
    events.iter().try_fold(slot.clone(), |slot, event| apply(&slot, event, now_ms))
}

fn begin(slot: &mut Slot, id: PairRef, by: DeviceId, now_ms: u64) -> Result<(), Refusal> {
    if slot.key.is_signing() {
        match slot.standing().map(|pair| pair.state) {
            Some(PairState::Banned) => return Err(Refusal::Banned),
            Some(PairState::Frozen) => return Err(Refusal::Frozen),
            _ => {}
        }
    }
    insert_pending(slot, id, by, false, now_ms)
}

fn heal_begin(slot: &mut Slot, id: PairRef, by: DeviceId, now_ms: u64) -> Result<(), Refusal> {
    let banned = slot.pairs.iter().position(|pair| pair.state == PairState::Banned).ok_or(Refusal::NotBanned)?;
    if !slot.pairs[banned].reviewed {
        return Err(Refusal::ReviewNeeded);
    }
    insert_pending(slot, id, by, true, now_ms)?;
    slot.pairs[banned].reviewed = false;
    slot.heals = slot.heals.saturating_add(1);
    Ok(())
}

fn insert_pending(slot: &mut Slot, id: PairRef, by: DeviceId, heals: bool, now_ms: u64) -> Result<(), Refusal> {
    must_fit(slot, id)?;
    if let SlotKey::Signing { device, .. } = slot.key
        && device != by
    {
        return Err(Refusal::NotYours);
    }
    if slot.pair(id).is_some() {
        return Err(Refusal::DuplicatePair);
    }
    take_lease(slot, by, now_ms)?;
    for pair in slot.pairs.iter_mut().filter(|pair| pair.state == PairState::Pending) {
        retire(pair, RetireReason::Abandoned, now_ms);
    }
    slot.generation += 1;
    slot.pairs.push(Pair {
        id,
        generation: slot.generation,
        state: PairState::Pending,
        begun_by: by,
        heals,
        reviewed: false,
        checked: Checked::default(),
        created_ms: now_ms,
        changed_ms: now_ms,
        deadline_ms: now_ms.saturating_add(PENDING_LIFE_MS),
        activated_ms: None,
        retired_ms: None,
        retired_because: None,
        opened_ms: None,
        replica_safe: false,
    });
    Ok(())
}

fn evidence(slot: &mut Slot, id: PairRef, by: DeviceId, what: Evidence, now_ms: u64) -> Result<(), Refusal> {
    must_fit(slot, id)?;
    let at = pending_of(slot, id, by, now_ms)?;
    take_lease(slot, by, now_ms)?;
    let checked = &mut slot.pairs[at].checked;
    let signing = matches!(id, PairRef::Signing(_));
    match what {
        Evidence::ServerHalf if signing => checked.server_half = true,
        Evidence::TestSignature if signing => {
            need(checked.server_half)?;
            checked.test_signature = true;
        }
        // An envelope is sealed for the halves of its time: from here on others would make it open to nothing.
        Evidence::CustodianAck if !signing => {
            if checked.envelope.is_some() {
                return Err(Refusal::EvidenceConflict);
            }
            checked.custodian_ack = true;
        }
        Evidence::EnvelopeStored { digest } if !signing => {
            need(checked.custodian_ack)?;
            same(*checked.envelope.get_or_insert(digest), digest)?;
        }
        Evidence::KeyAsserted { digest } if !signing => {
            same(checked.envelope.ok_or(Refusal::EvidenceMissing)?, digest)?;
            checked.asserted = true;
        }
        Evidence::Proven { digest } if !signing => {
            same(checked.envelope.ok_or(Refusal::EvidenceMissing)?, digest)?;
            need(checked.asserted)?;
            checked.proven = true;
        }
        _ => return Err(Refusal::WrongKind),
    }
    Ok(())
}

fn commit(slot: &mut Slot, id: PairRef, by: DeviceId, now_ms: u64) -> Result<(), Refusal> {
    let pair = slot.pair(id).ok_or(Refusal::UnknownPair)?;
    if pair.state == PairState::Active && pair.begun_by == by {
        return Ok(());
    }
    let at = pending_of(slot, id, by, now_ms)?;
    take_lease(slot, by, now_ms)?;
    need(slot.pairs[at].is_complete())?;
    for pair in slot.pairs.iter_mut().filter(|pair| pair.state.is_standing()) {
        let reason = if pair.state == PairState::Frozen { RetireReason::Frozen } else { RetireReason::Superseded };
        retire(pair, reason, now_ms);
    }
    let pair = &mut slot.pairs[at];
    enter(pair, PairState::Active, now_ms);
    pair.activated_ms = Some(now_ms);
    if pair.checked.test_signature {
        pair.opened_ms = Some(now_ms);
    }
    slot.lease = None;
    Ok(())
}

fn cancel(slot: &mut Slot, id: PairRef, by: DeviceId, now_ms: u64) -> Result<(), Refusal> {
    let pair = slot.pair(id).ok_or(Refusal::UnknownPair)?;
    match pair.state {
        PairState::Pending => {}
        PairState::Retired | PairState::Erased if pair.activated_ms.is_none() => return Ok(()),
        _ => return Err(Refusal::NotPending),
    }
    take_lease(slot, by, now_ms)?;
    let at = index(slot, id)?;
    retire(&mut slot.pairs[at], RetireReason::Cancelled, now_ms);
    slot.lease = None;
    Ok(())
}

fn expire(slot: &mut Slot, now_ms: u64) {
    let late = |pair: &&mut Pair| pair.state == PairState::Pending && now_ms >= pair.deadline_ms;
    for pair in slot.pairs.iter_mut().filter(late) {
        retire(pair, RetireReason::Expired, now_ms);
    }
    slot.lease = slot.lease.filter(|lease| now_ms < lease.until_ms);
}

fn remove(slot: &mut Slot, reason: RetireReason, now_ms: u64) -> Result<(), Refusal> {
    if !reason.is_security() {
        return Err(Refusal::WrongKind);
    }
    // What was superseded earlier goes with it: its halves must not outlive the removal by a week.
    let old = |pair: &&mut Pair| {
        pair.state != PairState::Erased && !pair.retired_because.is_some_and(RetireReason::is_security)
    };
    for pair in slot.pairs.iter_mut().filter(old) {
        retire(pair, reason, now_ms);
    }
    slot.revoked |= slot.key.is_signing();
    slot.lease = None;
    Ok(())
}

fn ban(slot: &mut Slot, id: PairRef, now_ms: u64) -> Result<(), Refusal> {
    must_be_signing(id)?;
    let at = index(slot, id)?;
    let pair = &mut slot.pairs[at];
    match pair.state {
        PairState::Active | PairState::Frozen => enter(pair, PairState::Banned, now_ms),
        PairState::Pending => retire(pair, RetireReason::Banned, now_ms),
        PairState::Banned => {}
        PairState::Retired | PairState::Erased => return Err(Refusal::Retired),
    }
    Ok(())
}

fn review(slot: &mut Slot, id: PairRef, beyond_limit: bool) -> Result<(), Refusal> {
    let at = index(slot, id)?;
    if slot.pairs[at].state != PairState::Banned {
        return Err(Refusal::NotBanned);
    }
    if slot.heals >= MAX_HEALS && !beyond_limit {
        return Err(Refusal::HealLimit);
    }
    slot.pairs[at].reviewed = true;
    Ok(())
}

fn uphold(slot: &mut Slot, id: PairRef, now_ms: u64) -> Result<(), Refusal> {
    let at = index(slot, id)?;
    if slot.pairs[at].state != PairState::Banned {
        return Err(Refusal::NotBanned);
    }
    slot.pairs[at].reviewed = false;
    let healing = |pair: &&mut Pair| pair.state == PairState::Pending && pair.heals;
    for pair in slot.pairs.iter_mut().filter(healing) {
        retire(pair, RetireReason::Cancelled, now_ms);
    }
    Ok(())
}

fn freeze(slot: &mut Slot, id: PairRef, now_ms: u64) -> Result<(), Refusal> {
    if matches!(id, PairRef::Signing(_)) {
        return Err(Refusal::WrongKind);
    }
    let at = index(slot, id)?;
    let pair = &mut slot.pairs[at];
    match pair.state {
        PairState::Active => enter(pair, PairState::Frozen, now_ms),
        PairState::Frozen => {}
        PairState::Retired | PairState::Erased => return Err(Refusal::Retired),
        PairState::Pending | PairState::Banned => return Err(Refusal::NotActive),
    }
    Ok(())
}

fn thaw(slot: &mut Slot, id: PairRef, now_ms: u64) -> Result<(), Refusal> {
    let at = index(slot, id)?;
    let pair = &mut slot.pairs[at];
    if pair.state != PairState::Frozen {
        return Err(Refusal::NotFrozen);
    }
    enter(pair, PairState::Active, now_ms);
    Ok(())
}

fn opened(slot: &mut Slot, id: PairRef, now_ms: u64) -> Result<(), Refusal> {
    let at = index(slot, id)?;
    let pair = &mut slot.pairs[at];
    match pair.state {
        // A method may be opened once before it counts (DECISIONS.md D32).
        PairState::Active | PairState::Pending => pair.opened_ms = Some(now_ms),
        PairState::Retired | PairState::Erased => return Err(Refusal::Retired),
        PairState::Banned => return Err(Refusal::Banned),
        PairState::Frozen => return Err(Refusal::Frozen),
    }
    Ok(())
}

fn replica_safe(slot: &mut Slot, as_of_ms: u64) {
    for pair in &mut slot.pairs {
        pair.replica_safe |= pair.changed_ms <= as_of_ms;
    }
}

fn sweep(slot: &mut Slot, now_ms: u64) {
    let due: Vec<_> = slot.pairs.iter().filter(|pair| may_erase(slot, pair, now_ms)).map(|pair| pair.id).collect();
    for pair in slot.pairs.iter_mut().filter(|pair| due.contains(&pair.id)) {
        enter(pair, PairState::Erased, now_ms);
    }
}

/// PROTOCOL.md 4.4: (a) a replica knows of the retirement, and so of the successor, which is written in the same
/// transaction; and (b) a successor was opened or verified once, or 7 days passed. A security removal waits for (a)
/// only; a pair that never became active carries nothing and waits for neither.
fn may_erase(slot: &Slot, pair: &Pair, now_ms: u64) -> bool {
    let (PairState::Retired, Some(reason), Some(retired_ms)) = (pair.state, pair.retired_because, pair.retired_ms)
    else {
        return false;
    };
    if pair.activated_ms.is_none() {
        return true;
    }
    let successor_opened = || {
        slot.pairs.iter().any(|later| {
            later.generation > pair.generation && later.activated_ms.is_some() && later.opened_ms.is_some()
        })
    };
    let kept_long_enough = now_ms >= retired_ms.saturating_add(KEEP_UNOPENED_MS);
    pair.replica_safe && (reason.is_security() || successor_opened() || kept_long_enough)
}

fn restored(slot: &mut Slot, tombstones: &[(PairRef, Tombstone)], generation: u64, now_ms: u64) {
    slot.generation = slot.generation.max(generation);
    slot.lease = None;
    for pair in &mut slot.pairs {
        if pair.state == PairState::Pending {
            retire(pair, RetireReason::Restored, now_ms);
        }
        let newest = tombstones.iter().filter(|(id, _)| *id == pair.id).map(|(_, stone)| *stone).max();
        match (newest, pair.state) {
            (Some(Tombstone::Erased), PairState::Erased) => {}
            (Some(Tombstone::Erased), _) => {
                retire(pair, pair.retired_because.unwrap_or(RetireReason::Restored), now_ms);
                enter(pair, PairState::Erased, now_ms);
            }
            // Its successor may have been lost with the newer database: an operator decides, nothing is gone.
            (Some(Tombstone::Removed), PairState::Active) => {
                enter(pair, PairState::Frozen, now_ms);
            }
            (Some(Tombstone::Banned), PairState::Active) => enter(pair, PairState::Banned, now_ms),
            _ => {}
        }
    }
}

fn retire(pair: &mut Pair, reason: RetireReason, now_ms: u64) {
    enter(pair, PairState::Retired, now_ms);
    pair.retired_ms.get_or_insert(now_ms);
    pair.retired_because = Some(reason);
}

/// The only place where a state changes: what a replica knew of the pair is out of date from here on.
fn enter(pair: &mut Pair, state: PairState, now_ms: u64) {
    pair.state = state;
    pair.changed_ms = now_ms;
    pair.replica_safe = false;
}

/// Takes or renews the lease for `by`. The same device takes over at once; another one only after the end.
fn take_lease(slot: &mut Slot, by: DeviceId, now_ms: u64) -> Result<(), Refusal> {
    if slot.revoked {
        return Err(Refusal::Revoked);
    }
    if let Some(lease) = slot.lease
        && lease.device != by
        && now_ms < lease.until_ms
    {
        return Err(Refusal::OperationInProgress { retry_at_ms: lease.until_ms });
    }
    slot.lease = Some(Lease { device: by, until_ms: now_ms.saturating_add(LEASE_MS) });
    Ok(())
}

fn release(slot: &mut Slot, by: DeviceId) {
    slot.lease = slot.lease.filter(|lease| lease.device != by);
}

fn pending_of(slot: &Slot, id: PairRef, by: DeviceId, now_ms: u64) -> Result<usize, Refusal> {
    let at = index(slot, id)?;
    let pair = &slot.pairs[at];
    match pair.state {
        PairState::Pending => {}
        PairState::Active => return Err(Refusal::NotPending),
        PairState::Retired | PairState::Erased => return Err(Refusal::Retired),
        PairState::Banned => return Err(Refusal::Banned),
        PairState::Frozen => return Err(Refusal::Frozen),
    }
    if pair.begun_by != by {
        return Err(Refusal::NotYours);
    }
    if now_ms >= pair.deadline_ms {
        return Err(Refusal::DeadlinePassed);
    }
    Ok(at)
}

fn index(slot: &Slot, id: PairRef) -> Result<usize, Refusal> {
    slot.pairs.iter().position(|pair| pair.id == id).ok_or(Refusal::UnknownPair)
}

fn must_fit(slot: &Slot, id: PairRef) -> Result<(), Refusal> {
    if slot.key.is_signing() == matches!(id, PairRef::Signing(_)) { Ok(()) } else { Err(Refusal::WrongKind) }
}

const fn must_be_signing(id: PairRef) -> Result<(), Refusal> {
    match id {
        PairRef::Signing(_) => Ok(()),
        PairRef::Backup(_) => Err(Refusal::WrongKind),
    }
}

const fn need(there: bool) -> Result<(), Refusal> {
    if there { Ok(()) } else { Err(Refusal::EvidenceMissing) }
}

fn same(stored: [u8; 32], told: [u8; 32]) -> Result<(), Refusal> {
    if stored == told { Ok(()) } else { Err(Refusal::EvidenceConflict) }
}
