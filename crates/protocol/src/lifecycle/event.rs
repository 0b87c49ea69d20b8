//! What can happen to a slot.

use halfkey_envelope::id::DeviceId;

use super::pair::{PairRef, RetireReason};

/// What the server has just verified about a pending pair. No request carries a status: the caller of [`apply`](super::apply)
/// makes these only from its own checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Signing: the server's half is stored and was read back.
    ServerHalf,
    /// Signing: the test signature, made from the stored copies of both sides, verified.
    TestSignature,
    /// Backup: the custodian's acknowledgement on every curve verified.
    CustodianAck,
    /// Backup: the sealed envelope is stored under this SHA-256.
    EnvelopeStored {
        /// SHA-256 of the envelope.
        digest: [u8; 32],
    },
    /// Backup: the device's signed statement that the method holds the key to this envelope.
    KeyAsserted {
        /// SHA-256 of the envelope.
        digest: [u8; 32],
    },
    /// Backup: the proofs for both halves, bound to this envelope, verified on every curve.
    Proven {
        /// SHA-256 of the envelope.
        digest: [u8; 32],
    },
}

/// What the shred store knows of a pair that an older main database may not (PROTOCOL.md 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tombstone {
    /// It was frozen, or retired by a security removal; its shred key still exists.
    Removed,
    /// It was banned. Outranks a removal: a thaw must not lift a ban.
    Banned,
    /// Its shred key is destroyed.
    Erased,
}

/// Something that happened to a slot. `by` is the device whose key signed the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device takes or renews the lease, as for a recovery that deals from this slot.
    Hold {
        /// The device.
        by: DeviceId,
    },
    /// A device gives the lease back.
    Release {
        /// The device.
        by: DeviceId,
    },
    /// A new pair is begun. A pending one of the same device, or of one whose lease has ended, is abandoned.
    Begin {
        /// Its fresh id.
        pair: PairRef,
        /// The device.
        by: DeviceId,
    },
    /// A new pair is begun from the banned one (PROTOCOL.md 4.9).
    HealBegin {
        /// Its fresh id.
        pair: PairRef,
        /// The device.
        by: DeviceId,
    },
    /// The server has verified something about a pending pair.
    Evidence {
        /// The pair.
        pair: PairRef,
        /// The device.
        by: DeviceId,
        /// What it verified.
        what: Evidence,
    },
    /// The pair becomes active and its predecessor retired. Repeating it for the active pair changes nothing.
    Commit {
        /// The pair.
        pair: PairRef,
        /// The device.
        by: DeviceId,
    },
    /// A pending pair is given up.
    Cancel {
        /// The pair.
        pair: PairRef,
        /// The device.
        by: DeviceId,
    },
    /// Housekeeping: a pending pair past its deadline is retired, a lease past its end forgotten.
    Expire,
    /// Security removal, at once and whatever the lease: the method is removed or the device revoked. Ask
    /// [`may_remove`](super::may_remove) first.
    Remove {
        /// One of the security reasons.
        reason: RetireReason,
    },
    /// The peer misbehaved (signing slots). Persist the result before answering.
    Ban {
        /// The pair.
        pair: PairRef,
    },
    /// An operator has reviewed the ban: the pair may deal once.
    Review {
        /// The banned pair.
        pair: PairRef,
        /// The operator names the slot in spite of [`MAX_HEALS`](super::MAX_HEALS).
        beyond_limit: bool,
    },
    /// An operator lets the ban stand: an earlier review of it counts no more, and a pair that heals it is given up.
    Uphold {
        /// The banned pair.
        pair: PairRef,
    },
    /// A recovery from this backup was cancelled or denied after a proof of possession (METHODS.md G).
    Freeze {
        /// The pair.
        pair: PairRef,
    },
    /// An operator lifts the freeze.
    Thaw {
        /// The pair.
        pair: PairRef,
    },
    /// The halves were opened together (a recovery, the read-back of a method) or verified by a drill.
    Opened {
        /// The pair.
        pair: PairRef,
    },
    /// Every row written at or before `as_of_ms` is on a synchronous standby or in a completed off-machine copy,
    /// and no restore will go back to before `as_of_ms`.
    ReplicaSafe {
        /// The moment, in milliseconds since the Unix epoch.
        as_of_ms: u64,
    },
    /// Housekeeping: what meets PROTOCOL.md 4.4 becomes erased. When that is durable, destroy the shred keys of every
    /// erased pair; a crash in between repeats the destruction, which changes nothing.
    Sweep,
    /// The main database was restored from a copy and meets the newest shred store.
    Restored {
        /// What the shred store knows of pairs in this slot.
        tombstones: Vec<(PairRef, Tombstone)>,
        /// The highest generation that the shred store has seen in this slot.
        generation: u64,
    },
}
