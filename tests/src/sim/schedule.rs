//! A schedule: one word per event, drawn from a seed. Any sub-list of a schedule is a schedule, which is what makes
//! shrinking simple: an event that makes no sense where it stands does nothing.

use std::fmt;

use super::rng::Rng;

/// One event, with two small numbers to choose by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(u32);

/// What a word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    DeliverToServer,
    DeliverToDevice,
    Drop,
    Duplicate,
    CrashServer,
    CrashDevice,
    RestartServer,
    RestartDevice,
    Backup,
    Recover,
    Sign,
    Cancel,
    Verify,
    RepeatCommit,
    Revoke,
    RemoveMethod,
    Tamper,
    Cheat,
    Rot,
    Review,
    Heal,
    Freeze,
    Thaw,
    Wipe,
    Advance,
    Housekeep,
    Status,
    Copy,
    Copied,
    Restore,
}

/// How often each event comes.
const WEIGHTS: &[(Kind, u32)] = &[
    (Kind::DeliverToServer, 420),
    (Kind::DeliverToDevice, 420),
    (Kind::Drop, 4),
    (Kind::Duplicate, 12),
    (Kind::CrashServer, 6),
    (Kind::CrashDevice, 4),
    (Kind::RestartServer, 50),
    (Kind::RestartDevice, 16),
    (Kind::Backup, 90),
    (Kind::Recover, 24),
    (Kind::Sign, 14),
    (Kind::Cancel, 2),
    (Kind::Verify, 20),
    (Kind::RepeatCommit, 8),
    (Kind::Revoke, 3),
    (Kind::RemoveMethod, 3),
    (Kind::Tamper, 2),
    (Kind::Cheat, 2),
    (Kind::Rot, 3),
    (Kind::Review, 14),
    (Kind::Heal, 16),
    (Kind::Freeze, 3),
    (Kind::Thaw, 6),
    (Kind::Wipe, 12),
    (Kind::Advance, 14),
    (Kind::Housekeep, 24),
    (Kind::Status, 10),
    (Kind::Copy, 16),
    (Kind::Copied, 30),
    (Kind::Restore, 6),
];

impl Word {
    pub(super) fn kind(self) -> Kind {
        let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = (self.0 >> 16) % total;
        for (kind, weight) in WEIGHTS {
            if left < *weight {
                return *kind;
            }
            left -= weight;
        }
        Kind::Status
    }

    pub(super) const fn a(self) -> usize {
        (self.0 >> 8 & 0xFF) as usize
    }

    pub(super) const fn b(self) -> usize {
        (self.0 & 0xFF) as usize
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x} {:?}({}, {})", self.0, self.kind(), self.a(), self.b())
    }
}

/// The events that belong to a seed.
pub(super) fn draw(seed: u64, length: usize) -> Vec<Word> {
    let mut rng = Rng::new(seed ^ 0x5EED);
    (0..length).map(|_| Word((rng.next() >> 32) as u32)).collect()
}

/// Words from text: hexadecimal numbers, anything else is skipped.
pub fn parse(text: &str) -> Vec<Word> {
    let hex = |token: &&str| token.len() == 8;
    text.split_whitespace().filter(hex).filter_map(|token| u32::from_str_radix(token, 16).ok()).map(Word).collect()
}
