//! Runs a schedule; shrinks one that fails and prints what replays it.

use std::fmt;

use super::{
    ceremonies::Ceremonies,
    invariants::{self, Violation},
    schedule::{Word, draw},
    server::Rules,
    store::SlotStore,
    world::{Seen, World},
};

/// Events in one schedule.
const LENGTH: usize = 320;

/// A schedule that broke an invariant, as short as it got.
pub struct Failure {
    /// The seed that replays it.
    pub seed: u64,
    /// The invariant.
    pub violation: Violation,
    /// The events that are left after shrinking.
    pub events: Vec<Word>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invariant broken: {}\n{}", self.violation.invariant, self.violation.detail)?;
        writeln!(f, "replay: HALFKEY_SIM_SEED={} cargo nextest run -p halfkey-tests simulation", self.seed)?;
        writeln!(f, "shrunk to {} events (HALFKEY_SIM_EVENTS replays these with the seed):", self.events.len())?;
        self.events.iter().try_for_each(|word| writeln!(f, "  {word:?}"))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The schedule of a seed, on slots in memory.
///
/// # Errors
/// The first broken invariant, shrunk.
pub fn run<C: Ceremonies>(seed: u64, rules: Rules) -> Result<Seen, Box<Failure>> {
    let events = draw(seed, LENGTH);
    replay::<C>(seed, &events, rules).map_err(|violation| {
        let events = shrink::<C>(seed, events, rules, violation.invariant);
        let violation = replay::<C>(seed, &events, rules).err().unwrap_or(violation);
        Box::new(Failure { seed, violation, events })
    })
}

/// What the schedule of a seed breaks, not shrunk.
#[must_use]
pub fn violation<C: Ceremonies>(seed: u64, rules: Rules) -> Option<Violation> {
    replay::<C>(seed, &draw(seed, LENGTH), rules).err()
}

/// The schedule of a seed, on slots in a real store or with ceremonies that are too dear to repeat. Not shrunk.
///
/// # Errors
/// The first broken invariant.
pub fn run_with<C: Ceremonies>(
    seed: u64,
    rules: Rules,
    store: Option<Box<dyn SlotStore>>,
) -> Result<Seen, Box<Failure>> {
    let events = draw(seed, LENGTH);
    let mut world = World::<C>::new(seed, rules, store);
    play(&mut world, &events).map_err(|violation| Box::new(Failure { seed, violation, events }))
}

/// These events with the random numbers of the seed.
///
/// # Errors
/// The first broken invariant.
pub fn replay<C: Ceremonies>(seed: u64, events: &[Word], rules: Rules) -> Result<Seen, Violation> {
    play(&mut World::<C>::new(seed, rules, None), events)
}

fn play<C: Ceremonies>(world: &mut World<C>, events: &[Word]) -> Result<Seen, Violation> {
    for word in events {
        world.step(*word);
        invariants::all(world)?;
    }
    invariants::after_all(world)?;
    Ok(world.seen())
}

/// Leaves out ever smaller pieces as long as the same invariant breaks.
fn shrink<C: Ceremonies>(seed: u64, mut events: Vec<Word>, rules: Rules, invariant: &str) -> Vec<Word> {
    let fails = |events: &[Word]| replay::<C>(seed, events, rules).is_err_and(|v| v.invariant == invariant);
    let mut piece = events.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < events.len() {
            let mut shorter = events.clone();
            shorter.drain(at..(at + piece).min(events.len()));
            if fails(&shorter) {
                events = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    events
}
