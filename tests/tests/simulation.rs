//! The life of a wallet, simulated: see `halfkey_tests::sim`.
//!
//! `HALFKEY_SIM_SEED` replays one seed; with it, `HALFKEY_SIM_EVENTS` names the file that a failing run has written
//! and replays its shrunk events. The number of schedules:
//!
//! | ceremonies | slots | setting |
//! |---|---|---|
//! | arithmetic | in memory | `HALFKEY_SIM_SCHEDULES` |
//! | arithmetic | the server's store on SQLite | `HALFKEY_SIM_STORE_SCHEDULES` |
//! | `reshare`, envelopes, proofs; FROST, and secp256k1 without oblivious transfer | in memory | `HALFKEY_SIM_REAL_SCHEDULES`, each |
//! | the same | the server's store on SQLite | a tenth of it |
//! | all of it with DKLs23 | in memory | `HALFKEY_SIM_DKLS_SCHEDULES` |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::{
    env, fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use halfkey_protocol::lifecycle::{Event, Pair, PairState, Refusal, RetireReason, Slot, apply, may_sign};
use halfkey_tests::sim::{
    Ceremonies, Dkls, Failure, Frost, OtFree, Real, Rules, Seen, Small, SqliteSlots, invariants, parse, replay, run,
    run_with, violation,
};

/// How many schedules a normal run tries.
const COUNT: u64 = 20_000;
/// The same on files of the server's own store.
const STORE_COUNT: u64 = 120;
/// The same with the real protocol, on each curve.
const REAL_COUNT: u64 = 300;
/// Each costs three seconds.
const DKLS_COUNT: u64 = 5;
/// A seed says what it runs on: replaying needs nothing else.
const SECP256K1: u64 = 1 << 40;
const ED25519: u64 = 2 << 40;
const STORE: u64 = 3 << 40;
const DKLS: u64 = 4 << 40;
const REAL_STORE: u64 = 5 << 40;
/// When a simulated deployment begins, milliseconds since the epoch.
const START_MS: u64 = 1_763_800_000_000;

#[test]
fn simulation_in_memory() {
    let count = number("HALFKEY_SIM_SCHEDULES").unwrap_or(COUNT);
    if let Some(seed) = number("HALFKEY_SIM_SEED") {
        return replay_one(seed);
    }
    let seen = many::<Small>(0..count);
    println!("{count} schedules: {seen:?}");
    // A simulation in which nothing happens proves nothing.
    if count >= COUNT {
        assert!(seen.backups > count && seen.signing_pairs > count && seen.signatures > count, "{seen:?}");
        assert!(seen.restores > count / 10 && seen.crashes > count / 10 && seen.wiped > count / 10, "{seen:?}");
        assert!(seen.erased > count / 50 && seen.bans > count / 50, "{seen:?}");
    }
}

/// Every message is one of `halfkey-protocol`; key and signatures without oblivious transfer.
#[test]
fn simulation_of_the_protocol_on_secp256k1() {
    real::<Real<OtFree>>(SECP256K1);
}

/// Every message is one of `halfkey-protocol`.
#[test]
fn simulation_of_the_protocol_on_ed25519() {
    real::<Real<Frost>>(ED25519);
}

fn real<C: Ceremonies>(first: u64) {
    let count = number("HALFKEY_SIM_REAL_SCHEDULES").unwrap_or(REAL_COUNT);
    let seen = many::<C>(first..first + count);
    println!("{count} schedules: {seen:?}");
    assert!(seen.backups > count && seen.signing_pairs > count && seen.signatures > count, "{seen:?}");
    assert!(seen.restores > count / 10 && seen.crashes > count / 10 && seen.wiped > count / 20, "{seen:?}");
}

/// The same with the ECDSA library: key generation, fresh oblivious transfer for each new pair, signatures.
#[test]
fn simulation_of_the_protocol_with_dkls23() {
    let count = number("HALFKEY_SIM_DKLS_SCHEDULES").unwrap_or(DKLS_COUNT);
    let seen = in_parallel(DKLS..DKLS + count, |seed| run_with::<Real<Dkls>>(seed, Rules::default(), None));
    println!("{count} schedules: {seen:?}");
    // So few schedules do not show every kind of event; these they do, with room for what the library draws by itself.
    assert!(seen.signing_pairs >= count && seen.signatures >= count && seen.backups > count / 8, "{seen:?}");
}

/// Real messages, and the slots in the server's own store.
#[test]
fn simulation_of_the_protocol_on_the_real_store() {
    let count = number("HALFKEY_SIM_REAL_SCHEDULES").unwrap_or(REAL_COUNT) / 10;
    let seen = in_parallel(REAL_STORE..REAL_STORE + count, |seed| {
        run_with::<Real<Frost>>(seed, Rules::default(), Some(Box::new(SqliteSlots::new(START_MS))))
    });
    println!("{count} schedules: {seen:?}");
    assert!(seen.restores > 0 && seen.backups > count / 2, "{seen:?}");
}

/// The slots live in the server's own store: SQLite files, restarts, restores, its own shred store.
#[test]
fn simulation_on_the_real_store() {
    let count = number("HALFKEY_SIM_STORE_SCHEDULES").unwrap_or(STORE_COUNT);
    let mut seen = Seen::default();
    for seed in STORE..STORE + count {
        seen += on_the_store(seed);
    }
    println!("{count} schedules: {seen:?}");
    assert!(count < STORE_COUNT || seen.restores > count / 10 && seen.backups > count / 2, "{seen:?}");
}

/// A model whose rules differ from the store's is told so: the comparison after each transaction is one.
#[test]
fn simulation_on_the_real_store_compares() {
    let rules = Rules { apply: retire_before_commit, ..Rules::default() };
    let differs = |seed: &u64| {
        let store = Box::new(SqliteSlots::new(START_MS));
        let run = std::panic::AssertUnwindSafe(|| run_with::<Small>(*seed, rules, Some(store)));
        let panic = std::panic::catch_unwind(run).err();
        panic.and_then(|panic| panic.downcast::<String>().ok()).is_some_and(|text| text.contains("disagree"))
    };
    assert!((STORE..STORE + 50).any(|seed| differs(&seed)), "no schedule showed a difference");
}

/// Each rule that is broken on purpose is noticed, under the invariant's name, and the shrunk events replay it.
#[test]
fn simulation_notices_broken_rules() {
    let good = Rules::default();
    let broken: [(&str, Rules); 11] = [
        (invariants::PER_SLOT_NEVER_TWO_ACTIVE, Rules { apply: commit_without_retiring, ..good }),
        (invariants::A_COMMIT_IS_IDEMPOTENT, Rules { apply: commit_only_once, ..good }),
        (invariants::A_RETIRED_PAIR_NEVER_SIGNS, Rules { may_sign: always, ..good }),
        (invariants::THE_PUBLIC_KEY_NEVER_CHANGES, Rules { checks_points: false, ..good }),
        (invariants::THE_PUBLIC_KEY_NEVER_CHANGES, Rules { checks_acks: false, ..good }),
        (invariants::A_RESTORE_LOSES_NO_WALLET, Rules { apply: erase_without_a_replica, ..good }),
        (invariants::A_METHOD_NEVER_LOSES_THE_KEY_OF_AN_ACTIVE_BACKUP, Rules { forgets_early: true, ..good }),
        (invariants::PER_WALLET_NEVER_NONE, Rules { apply: retire_before_commit, ..good }),
        (invariants::AN_ACTIVE_BACKUP_OPENS, Rules { apply: retire_before_commit, ..good }),
        (invariants::AN_ACTIVE_BACKUP_OPENS, Rules { checks_acks: false, ..good }),
        (invariants::AFTER_ALL_IT_STILL_WORKS, Rules { may_sign: never, ..good }),
    ];
    let named: Vec<_> = broken.iter().map(|(name, _)| *name).collect();
    assert!(invariants::NAMES.iter().all(|name| named.contains(name)), "every invariant is broken once");
    for (name, rules) in broken {
        let trips = |seed: &u64| violation::<Small>(*seed, rules).is_some_and(|found| found.invariant == name);
        let seed = (0..COUNT).find(trips).unwrap_or_else(|| panic!("nothing trips: {name}"));
        let failure = run::<Small>(seed, rules).unwrap_err();
        assert_eq!(failure.violation.invariant, name);
        let again = replay::<Small>(seed, &parse(&failure.to_string()), rules).unwrap_err();
        assert_eq!(again, failure.violation, "the printed events replay it");
        println!("{name}: seed {seed}, {} events", failure.events.len());
    }
}

/// The same where every message is one of the protocol; its seeds replay, too.
#[test]
fn simulation_of_the_protocol_notices_broken_rules() {
    let good = Rules::default();
    let broken: [(&str, Rules); 5] = [
        (invariants::PER_SLOT_NEVER_TWO_ACTIVE, Rules { apply: commit_without_retiring, ..good }),
        (invariants::A_RETIRED_PAIR_NEVER_SIGNS, Rules { may_sign: always, ..good }),
        (invariants::A_METHOD_NEVER_LOSES_THE_KEY_OF_AN_ACTIVE_BACKUP, Rules { forgets_early: true, ..good }),
        (invariants::AN_ACTIVE_BACKUP_OPENS, Rules { apply: retire_before_commit, ..good }),
        (invariants::AFTER_ALL_IT_STILL_WORKS, Rules { may_sign: never, ..good }),
    ];
    for (name, rules) in broken {
        let trips = |seed: &u64| violation::<Real<OtFree>>(*seed, rules).filter(|found| found.invariant == name);
        let found = (SECP256K1..SECP256K1 + REAL_COUNT).find_map(|seed| Some((seed, trips(&seed)?)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("nothing trips: {name}"));
        assert_eq!(trips(&seed), Some(violation), "the seed replays it");
        println!("{name}: seed {seed}");
    }
}

fn commit_without_retiring(slot: &Slot, event: &Event, now: u64) -> Result<Slot, Refusal> {
    let mut next = apply(slot, event, now)?;
    if let Event::Commit { .. } = event {
        for (pair, before) in next.pairs.iter_mut().zip(&slot.pairs) {
            if before.state == PairState::Active {
                *pair = before.clone();
            }
        }
    }
    Ok(next)
}

fn commit_only_once(slot: &Slot, event: &Event, now: u64) -> Result<Slot, Refusal> {
    match event {
        Event::Commit { pair, .. } if slot.active().is_some_and(|active| active.id == *pair) => {
            Err(Refusal::NotPending)
        }
        _ => apply(slot, event, now),
    }
}

fn erase_without_a_replica(slot: &Slot, event: &Event, now: u64) -> Result<Slot, Refusal> {
    match event {
        Event::Sweep => apply(&apply(slot, &Event::ReplicaSafe { as_of_ms: u64::MAX }, now)?, event, now),
        _ => apply(slot, event, now),
    }
}

fn retire_before_commit(slot: &Slot, event: &Event, now: u64) -> Result<Slot, Refusal> {
    let mut next = apply(slot, event, now)?;
    if let Event::Begin { .. } = event {
        for pair in next.pairs.iter_mut().filter(|pair| pair.state == PairState::Active) {
            pair.state = PairState::Retired;
            pair.retired_ms = Some(now);
            pair.retired_because = Some(RetireReason::Superseded);
        }
    }
    Ok(next)
}

const fn always(_: &Pair) -> Result<(), Refusal> {
    Ok(())
}

fn never(pair: &Pair) -> Result<(), Refusal> {
    may_sign(pair).and(Err(Refusal::NotActive))
}

fn many<C: Ceremonies>(seeds: std::ops::Range<u64>) -> Seen {
    in_parallel(seeds, |seed| run::<C>(seed, Rules::default()))
}

/// All seeds of the range, on every processor. The first failure ends the run and is written to a file.
fn in_parallel(seeds: std::ops::Range<u64>, run: impl Fn(u64) -> Result<Seen, Box<Failure>> + Sync) -> Seen {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut seen = Seen::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok::<_, Box<Failure>>(seen);
            }
            seen += named(seed, || run(seed))?;
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut seen = Seen::default();
        for thread in running {
            match thread.join().unwrap() {
                Ok(one) => seen += one,
                Err(failure) => report(&failure),
            }
        }
        seen
    })
}

fn report(failure: &Failure) -> ! {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("simulation-{}.txt", failure.seed));
    fs::write(&path, failure.to_string()).unwrap();
    panic!("{failure}\nwritten to {}", path.display());
}

fn on_the_store(seed: u64) -> Seen {
    let store = Box::new(SqliteSlots::new(START_MS));
    named(seed, || run_with::<Small>(seed, Rules::default(), Some(store))).unwrap_or_else(|failure| report(&failure))
}

/// A panic inside a run has its seed beside it.
fn named<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        println!("replay: HALFKEY_SIM_SEED={seed} cargo nextest run -p halfkey-tests simulation");
        std::panic::resume_unwind(panic)
    })
}

fn replay_one(seed: u64) {
    match seed >> 40 {
        0 => replay_on::<Small>(seed),
        1 => replay_on::<Real<OtFree>>(seed),
        2 => replay_on::<Real<Frost>>(seed),
        3 => drop(on_the_store(seed)),
        4 => replay_on::<Real<Dkls>>(seed),
        _ => {
            let store = Some(Box::new(SqliteSlots::new(START_MS)) as Box<_>);
            run_with::<Real<Frost>>(seed, Rules::default(), store).unwrap_or_else(|failure| report(&failure));
        }
    }
}

fn replay_on<C: Ceremonies>(seed: u64) {
    match env::var("HALFKEY_SIM_EVENTS") {
        Ok(path) => {
            let events = parse(&fs::read_to_string(path).unwrap());
            replay::<C>(seed, &events, Rules::default()).unwrap_or_else(|broken| panic!("{broken:?}"));
        }
        Err(_) => {
            run::<C>(seed, Rules::default()).unwrap_or_else(|failure| report(&failure));
        }
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}
