//! The rules of the door as one pure function: a registration, an event and a time give the next registration or
//! a refusal. SQL only stores the result.

use halfkey_envelope::{
    door::{Refusal, Standing, State, Status, Ticket, Ver},
    id::BackupId,
};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// The most guesses in a row that any registration may ask for.
pub const MAX_GUESSES: u32 = 10;
/// The guess after which the first delay comes.
pub const FIRST_DELAYED: u32 = 3;

/// What the operator may set. The defaults are METHODS.md B's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Guesses in a row before a registration is destroyed, at most; 10 or less.
    pub max_guesses: u32,
    /// How long to wait after the third, fourth, … ninth wrong guess, in milliseconds.
    pub delays_ms: [u64; 7],
    /// How long the tag of the last guess is waited for.
    pub last_tag_ms: u64,
    /// Wrong guesses in the life of a registration that ask for a new backup.
    pub back_up_anew_after: u32,
    /// Wrong guesses in one hour, over all registrations, beyond which none is evaluated.
    pub wrong_per_hour: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_guesses: MAX_GUESSES,
            delays_ms: [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR],
            last_tag_ms: 10 * MINUTE,
            back_up_anew_after: 50,
            wrong_per_hour: 1_000,
        }
    }
}

impl Rules {
    fn delay_after(&self, attempts: u32) -> u64 {
        let index = attempts.checked_sub(FIRST_DELAYED);
        index.and_then(|index| self.delays_ms.get(index as usize)).copied().unwrap_or(0)
    }
}

/// One registration as it is counted. Its secrets are kept sealed, apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The backup.
    pub backup: BackupId,
    /// This registration.
    pub ver: Ver,
    /// Where it is in its life.
    pub state: State,
    /// Raised with every change: what compare-and-set compares.
    pub version: u64,
    /// Guesses in a row before it is destroyed.
    pub max_guesses: u32,
    /// Guesses counted since the last right one.
    pub attempts: u32,
    /// Wrong guesses before the last right one.
    pub wrong_before: u32,
    /// No guess before this time.
    pub not_before_ms: u64,
    /// When the last guess was counted.
    pub counted_at_ms: u64,
    /// The element that was counted last.
    pub last_blinded: Option<[u8; 32]>,
    /// Names the last counted evaluation.
    pub ticket: Option<Ticket>,
    /// Whether the tag was ever shown.
    pub proven: bool,
}

/// What may happen to a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A guess. If it is counted, `ticket` names it.
    Guess {
        /// The blinded element.
        blinded: [u8; 32],
        /// A fresh one.
        ticket: Ticket,
    },
    /// The right tag came, with the ticket of its evaluation.
    TagShown {
        /// As given with the evaluation.
        ticket: Ticket,
    },
    /// The server committed the backup.
    Activate {
        /// Which registration.
        ver: Ver,
    },
    /// The server wants it gone.
    Erase,
    /// Nothing, but time passed.
    Tick,
}

impl Registration {
    /// Whether it has not been destroyed.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.state, State::Pending | State::Active)
    }

    /// What server and client may know.
    #[must_use]
    pub fn standing(&self, rules: &Rules) -> Standing {
        let wrong = self.attempts;
        let life = self.wrong_before.saturating_add(wrong);
        Standing {
            remaining: if self.is_live() { self.max_guesses.saturating_sub(self.attempts) } else { 0 },
            not_before_ms: if self.is_live() { self.not_before_ms } else { 0 },
            locked: !self.is_live(),
            wrong,
            back_up_anew: life >= rules.back_up_anew_after,
        }
    }

    /// What the server may know.
    #[must_use]
    pub fn status(&self, rules: &Rules) -> Status {
        Status { state: self.state, ver: Some(self.ver), proven: self.proven, standing: self.standing(rules) }
    }
}

/// Decides. An unchanged registration (same `version`) means that there is nothing to store: a repeated guess, a
/// repeated tag, a repeated activation.
pub fn apply(old: &Registration, event: Event, now_ms: u64, rules: &Rules) -> Result<Registration, Refusal> {
    if !old.is_live() {
        return if matches!(event, Event::Tick | Event::Erase) { Ok(old.clone()) } else { Err(Refusal::LockedOut) };
    }
    if old.attempts >= old.max_guesses && now_ms >= old.counted_at_ms.saturating_add(rules.last_tag_ms) {
        return match event {
            Event::Tick | Event::Erase => Ok(destroyed(old, State::LockedOut)),
            _ => Err(Refusal::LockedOut),
        };
    }
    match event {
        Event::Guess { blinded, ticket } => guess(old, blinded, ticket, now_ms, rules),
        Event::TagShown { ticket } if old.ticket != Some(ticket) => Err(Refusal::StaleTicket),
        Event::TagShown { .. } if old.attempts == 0 => Ok(old.clone()),
        Event::TagShown { .. } => Ok(Registration {
            version: old.version + 1,
            wrong_before: old.wrong_before.saturating_add(old.attempts - 1),
            attempts: 0,
            not_before_ms: 0,
            proven: true,
            ..old.clone()
        }),
        Event::Activate { ver } if ver != old.ver => Err(Refusal::NotFound),
        Event::Activate { .. } if old.state == State::Active => Ok(old.clone()),
        Event::Activate { .. } => Ok(Registration { version: old.version + 1, state: State::Active, ..old.clone() }),
        Event::Erase => Ok(destroyed(old, State::Erased)),
        Event::Tick => Ok(old.clone()),
    }
}

fn guess(
    old: &Registration,
    blinded: [u8; 32],
    ticket: Ticket,
    now_ms: u64,
    rules: &Rules,
) -> Result<Registration, Refusal> {
    // A lost answer is not a guess: the same element gets the same answer again.
    if old.last_blinded == Some(blinded) {
        return Ok(old.clone());
    }
    if old.attempts >= old.max_guesses {
        return Err(Refusal::Exhausted);
    }
    if now_ms < old.not_before_ms {
        return Err(Refusal::TooEarly);
    }
    let attempts = old.attempts + 1;
    let delay = rules.delay_after(attempts);
    Ok(Registration {
        version: old.version + 1,
        attempts,
        not_before_ms: if delay == 0 { 0 } else { now_ms.saturating_add(delay) },
        counted_at_ms: now_ms,
        last_blinded: Some(blinded),
        ticket: Some(ticket),
        ..old.clone()
    })
}

fn destroyed(old: &Registration, state: State) -> Registration {
    Registration { version: old.version + 1, state, last_blinded: None, ticket: None, ..old.clone() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn fresh() -> Registration {
        Registration {
            backup: BackupId::from_bytes([1; 16]),
            ver: Ver::from_bytes([2; 16]),
            state: State::Active,
            version: 1,
            max_guesses: 10,
            attempts: 0,
            wrong_before: 0,
            not_before_ms: 0,
            counted_at_ms: 0,
            last_blinded: None,
            ticket: None,
            proven: false,
        }
    }

    fn a_guess(number: u8) -> Event {
        Event::Guess { blinded: [number; 32], ticket: Ticket::from_bytes([number; 16]) }
    }

    #[test]
    fn delays_follow_the_third_guess_and_the_tenth_is_the_last() {
        let rules = Rules::default();
        let (mut registration, mut now) = (fresh(), 1_000_000);
        let minutes = [0, 0, 1, 5, 15, 60, 240, 720, 1440, 0];
        for (index, minutes) in minutes.into_iter().enumerate() {
            let number = index as u8;
            registration = apply(&registration, a_guess(number), now, &rules).unwrap();
            let wait = registration.not_before_ms.saturating_sub(now);
            assert_eq!(wait, minutes * MINUTE, "after guess {}", index + 1);
            if minutes > 0 {
                let early = apply(&registration, a_guess(number + 1), now + wait - 1, &rules);
                assert_eq!(early, Err(Refusal::TooEarly));
            }
            now += wait;
        }
        assert_eq!(apply(&registration, a_guess(77), now, &rules), Err(Refusal::Exhausted));
        assert_eq!(apply(&registration, a_guess(9), now, &rules), Ok(registration.clone()), "the last answer again");
        let ticket = Ticket::from_bytes([9; 16]);
        let in_time = apply(&registration, Event::TagShown { ticket }, now + 10 * MINUTE - 1, &rules).unwrap();
        assert_eq!((in_time.attempts, in_time.wrong_before, in_time.proven), (0, 9, true));
        let late = apply(&registration, Event::TagShown { ticket }, now + 10 * MINUTE, &rules);
        assert_eq!(late, Err(Refusal::LockedOut));
        let gone = apply(&registration, Event::Tick, now + 10 * MINUTE, &rules).unwrap();
        assert_eq!(gone.state, State::LockedOut);
        assert!(gone.standing(&rules).locked);
    }

    #[test]
    fn a_recorded_tag_does_not_reset_a_later_count() {
        let rules = Rules::default();
        let one = apply(&fresh(), a_guess(1), 5, &rules).unwrap();
        let tag = Event::TagShown { ticket: Ticket::from_bytes([1; 16]) };
        let opened = apply(&one, tag, 6, &rules).unwrap();
        assert_eq!(apply(&opened, tag, 7, &rules), Ok(opened.clone()), "a lost answer may be asked for again");
        let later = apply(&opened, a_guess(2), 8, &rules).unwrap();
        assert_eq!(apply(&later, tag, 9, &rules), Err(Refusal::StaleTicket));
    }

    #[test]
    fn fifty_wrong_guesses_in_a_life_ask_for_a_new_backup() {
        let rules = Rules { delays_ms: [0; 7], ..Rules::default() };
        let mut registration = fresh();
        for round in 0..7u8 {
            for number in 0..9 {
                assert_eq!(registration.standing(&rules).back_up_anew, 8 * round + number >= 50);
                registration = apply(&registration, a_guess(10 * round + number), 5, &rules).unwrap();
            }
            let ticket = registration.ticket.unwrap();
            registration = apply(&registration, Event::TagShown { ticket }, 6, &rules).unwrap();
        }
        assert_eq!(registration.wrong_before, 56);
        assert!(registration.standing(&rules).back_up_anew);
    }

    proptest! {
        /// Whatever is asked in whatever order: between two right tags at most `max` guesses are ever counted, and
        /// what is destroyed stays so.
        #[test]
        fn never_more_than_max_between_two_right_tags(
            max in 1u32..=10,
            steps in prop::collection::vec((0u8..5, 0u8..20, 0u64..100_000_000), 0..200),
        ) {
            let rules = Rules::default();
            let mut registration = Registration { max_guesses: max, ..fresh() };
            let (mut now, mut counted) = (0, 0);
            for (kind, number, passed) in steps {
                now += passed;
                let event = match kind {
                    0 => Event::TagShown { ticket: Ticket::from_bytes([number; 16]) },
                    1 => Event::Tick,
                    2 => Event::Activate { ver: Ver::from_bytes([2; 16]) },
                    _ => a_guess(number),
                };
                let was_live = registration.is_live();
                let Ok(next) = apply(&registration, event, now, &rules) else { continue };
                if next.attempts > registration.attempts {
                    counted += 1;
                }
                if matches!(event, Event::TagShown { .. }) && next.attempts == 0 {
                    counted = 0;
                }
                prop_assert!(counted <= max);
                prop_assert!(was_live || !next.is_live());
                registration = next;
            }
        }
    }
}
