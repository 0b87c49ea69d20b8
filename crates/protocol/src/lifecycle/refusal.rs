//! Why an event was refused. The codes are stable: they travel to every language and are stored in logs.

use thiserror::Error;

/// An event that the slot or the wallet does not admit. Nothing was changed.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Another device works on this slot; its lease ends at `retry_at_ms` unless it is renewed (DECISIONS.md D23).
    #[error("another operation is in progress")]
    OperationInProgress {
        /// When the lease ends, in milliseconds since the Unix epoch.
        retry_at_ms: u64,
    },
    /// The slot has no such pair.
    #[error("no such pair in this slot")]
    UnknownPair,
    /// A pair with this id was here before; every attempt has a fresh id.
    #[error("a pair with this id exists")]
    DuplicatePair,
    /// A signing event for a backup slot, or the other way round.
    #[error("the event does not fit this kind of slot")]
    WrongKind,
    /// The pair was begun by another device.
    #[error("the pair was begun by another device")]
    NotYours,
    /// An earlier piece of evidence is missing.
    #[error("evidence is missing")]
    EvidenceMissing,
    /// The evidence speaks of another envelope than the one that is stored.
    #[error("the evidence contradicts what is stored")]
    EvidenceConflict,
    /// The pair was pending for longer than [`PENDING_LIFE_MS`](super::PENDING_LIFE_MS).
    #[error("the pending pair has expired")]
    DeadlinePassed,
    /// The pair is not pending any more.
    #[error("the pair is not pending")]
    NotPending,
    /// The pair is not active.
    #[error("the pair is not active")]
    NotActive,
    /// The pair is retired or erased. This is final.
    #[error("the pair is retired")]
    Retired,
    /// The pair, or the slot it would renew, is banned (PROTOCOL.md 4.9).
    #[error("the pair is banned")]
    Banned,
    /// The pair is frozen after a cancelled theft or a restore; an operator may thaw it.
    #[error("the pair is frozen")]
    Frozen,
    /// The pair is not banned, so there is nothing to heal or review.
    #[error("the pair is not banned")]
    NotBanned,
    /// The pair is not frozen.
    #[error("the pair is not frozen")]
    NotFrozen,
    /// A banned pair deals only after an operator's review, once for each.
    #[error("an operator's review is needed")]
    ReviewNeeded,
    /// This slot was healed [`MAX_HEALS`](super::MAX_HEALS) times; an operator must lift the limit by name.
    #[error("the slot was healed too often")]
    HealLimit,
    /// The device was revoked: its slot never opens again.
    #[error("the device is revoked")]
    Revoked,
    /// The wallet would be left with neither an active signing pair nor an active backup. Nothing overrides this.
    #[error("the wallet would be lost")]
    LastPair,
    /// The last backup; needs [`Force::last_backup`](super::Force::last_backup).
    #[error("this is the last backup")]
    LastBackup,
    /// The last device that can sign; needs [`Force::last_device`](super::Force::last_device).
    #[error("this is the last device")]
    LastDevice,
    /// The wallet is being ejected; nothing else works.
    #[error("the wallet is being ejected")]
    Ejecting,
    /// The wallet was ejected.
    #[error("the wallet was ejected")]
    Ejected,
}

impl Refusal {
    /// The stable code, the same in every language.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::OperationInProgress { .. } => "OPERATION_IN_PROGRESS",
            Self::UnknownPair => "UNKNOWN_PAIR",
            Self::DuplicatePair => "DUPLICATE_PAIR",
            Self::WrongKind => "WRONG_KIND",
            Self::NotYours => "NOT_YOURS",
            Self::EvidenceMissing => "EVIDENCE_MISSING",
            Self::EvidenceConflict => "EVIDENCE_CONFLICT",
            Self::DeadlinePassed => "DEADLINE_PASSED",
            Self::NotPending => "NOT_PENDING",
            Self::NotActive => "NOT_ACTIVE",
            Self::Retired => "PAIR_RETIRED",
            Self::Banned => "PAIR_BANNED",
            Self::Frozen => "PAIR_FROZEN",
            Self::NotBanned => "NOT_BANNED",
            Self::NotFrozen => "NOT_FROZEN",
            Self::ReviewNeeded => "REVIEW_NEEDED",
            Self::HealLimit => "HEAL_LIMIT",
            Self::Revoked => "DEVICE_REVOKED",
            Self::LastPair => "LAST_PAIR",
            Self::LastBackup => "LAST_BACKUP",
            Self::LastDevice => "LAST_DEVICE",
            Self::Ejecting => "WALLET_EJECTING",
            Self::Ejected => "WALLET_EJECTED",
        }
    }
}
