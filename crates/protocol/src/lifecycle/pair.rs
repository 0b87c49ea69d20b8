//! A share pair and the slot it lives in: plain data that the store reads and writes column by column.

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId, PairId, WalletId},
    wallet::{Method, UnknownName},
};

/// Declares an enum whose names are stored and sent: `as_str`, `parse` and `ALL` from one table.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stored name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// From the stored name.
            ///
            /// # Errors
            /// [`UnknownName`]: an unknown name is refused, never guessed.
            pub fn parse(text: &str) -> Result<Self, UnknownName> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownName) }
            }
        }
    };
}
pub(super) use named;

/// Where a pair lives: at most one standing and one pending pair each (PROTOCOL.md 4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotKey {
    /// The signing pair of one wallet on one device.
    Signing {
        /// The wallet, so one curve.
        wallet: WalletId,
        /// The device that holds the other half.
        device: DeviceId,
    },
    /// The backup of one client by one method; its pair stands for every curve of the backup (METHODS.md A).
    Backup {
        /// The client whose wallets the backup holds.
        client: ClientId,
        /// The method instance (DECISIONS.md D21).
        method: Method,
    },
}

impl SlotKey {
    /// Whether this is a signing slot.
    #[must_use]
    pub const fn is_signing(&self) -> bool {
        matches!(self, Self::Signing { .. })
    }
}

/// The id of a pair: a signing pair on one curve, or one backup with its pairs on every curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PairRef {
    /// A signing pair.
    Signing(PairId),
    /// A backup.
    Backup(BackupId),
}

impl PairRef {
    /// The 16 raw bytes, as hashed and stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        match self {
            Self::Signing(id) => id.as_bytes(),
            Self::Backup(id) => id.as_bytes(),
        }
    }
}

named! {
    /// Where a pair is in its life.
    PairState {
        /// Being made; nothing depends on it yet.
        Pending = "PENDING",
        /// Proven and in use.
        Active = "ACTIVE",
        /// Refused by every ceremony; its halves still exist.
        Retired = "RETIRED",
        /// Its shred key is destroyed. The record stays.
        Erased = "ERASED",
        /// A peer misbehaved (PROTOCOL.md 4.9): never signs, may be healed after an operator's review.
        Banned = "BANNED",
        /// A theft was cancelled, or a restore met a removed pair: unusable until an operator thaws it.
        Frozen = "FROZEN",
    }
}

impl PairState {
    /// The slot's one pair that still carries the wallet: active, or kept for an operator's decision.
    #[must_use]
    pub const fn is_standing(self) -> bool {
        matches!(self, Self::Active | Self::Banned | Self::Frozen)
    }
}

named! {
    /// Why a pair was retired. Decides when its halves may be erased.
    RetireReason {
        /// A newer pair of the slot was committed.
        Superseded = "SUPERSEDED",
        /// A newer attempt in the slot began before this one was committed.
        Abandoned = "ABANDONED",
        /// Cancelled before its commit.
        Cancelled = "CANCELLED",
        /// Still pending after its deadline.
        Expired = "EXPIRED",
        /// The peer misbehaved while the pair was being made.
        Banned = "BANNED",
        /// It was pending in a database that was restored.
        Restored = "RESTORED",
        /// Security removal: the method was removed.
        Removed = "REMOVED",
        /// Security removal: the device was revoked.
        Revoked = "REVOKED",
        /// Security removal: somebody else once opened the half, and another pair took its place.
        Frozen = "FROZEN",
        /// Security removal: the wallet was ejected, acknowledged, and the time to repeat is over.
        Ejected = "EJECTED",
    }
}

impl RetireReason {
    /// Whether the halves go as soon as a replica knows of it, without waiting for a proven successor.
    #[must_use]
    pub const fn is_security(self) -> bool {
        matches!(self, Self::Removed | Self::Revoked | Self::Frozen | Self::Ejected)
    }
}

named! {
    /// How far a pair has come, by what the server has checked itself (DESIGN.md 4). The names are public.
    Status {
        /// The server's signing half is stored.
        StoredDatabase = "STORED_DATABASE",
        /// Both signing halves are stored: the test signature was made from the copies read back.
        StoredClient = "STORED_CLIENT",
        /// The custodian's acknowledgement was verified.
        StoredCustodianBackupShare = "STORED_CUSTODIAN_BACKUP_SHARE",
        /// The envelope is stored and the device states, signed, that the method holds the key.
        StoredClientBackupShareKey = "STORED_CLIENT_BACKUP_SHARE_KEY",
        /// The proofs for both halves, made from the copies read back, were verified.
        StoredClientBackupShare = "STORED_CLIENT_BACKUP_SHARE",
    }
}

impl Status {
    /// Whether nothing is missing: outwardly `completed`, before that `incomplete`.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::StoredClient | Self::StoredClientBackupShare)
    }
}

/// What the server has checked for a pair. Only evidence events set these, and nothing unsets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Signing: the server's half is stored and was read back.
    pub server_half: bool,
    /// Signing: both parties verified a test signature made from their stored copies.
    pub test_signature: bool,
    /// Backup: the custodian's acknowledgement over every curve was verified.
    pub custodian_ack: bool,
    /// Backup: SHA-256 of the stored envelope.
    pub envelope: Option<[u8; 32]>,
    /// Backup: the device's signed statement that the method holds the key (`asserted` of DECISIONS.md D31).
    pub asserted: bool,
    /// Backup: both proofs, from the re-opened envelope and the read-back half, hold (`proven` of D31).
    pub proven: bool,
}

impl Checked {
    fn status(&self, signing: bool) -> Option<Status> {
        if signing {
            match (self.server_half, self.test_signature) {
                (false, _) => None,
                (true, false) => Some(Status::StoredDatabase),
                (true, true) => Some(Status::StoredClient),
            }
        } else {
            match (self.custodian_ack, self.envelope.is_some() && self.asserted, self.proven) {
                (false, ..) => None,
                (true, false, _) => Some(Status::StoredCustodianBackupShare),
                (true, true, false) => Some(Status::StoredClientBackupShareKey),
                (true, true, true) => Some(Status::StoredClientBackupShare),
            }
        }
    }
}

/// One share pair. All times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Its id.
    pub id: PairRef,
    /// Its number in the slot, from 1; part of every ceremony's context.
    pub generation: u64,
    /// Where it is in its life.
    pub state: PairState,
    /// The device that makes it.
    pub begun_by: DeviceId,
    /// It renews a banned pair (PROTOCOL.md 4.9).
    pub heals: bool,
    /// A banned pair: an operator's review allows it to deal once.
    pub reviewed: bool,
    /// What was checked.
    pub checked: Checked,
    /// When it was begun.
    pub created_ms: u64,
    /// When its state last changed.
    pub changed_ms: u64,
    /// Until when it may be committed.
    pub deadline_ms: u64,
    /// When it was committed.
    pub activated_ms: Option<u64>,
    /// When it was retired.
    pub retired_ms: Option<u64>,
    /// Why it was retired.
    pub retired_because: Option<RetireReason>,
    /// When its halves were last opened or verified together.
    pub opened_ms: Option<u64>,
    /// The pair's row, as it stands, is on a synchronous standby or in a completed off-machine copy, and with it
    /// everything that was committed before. Every change of state clears it.
    pub replica_safe: bool,
}

impl Pair {
    /// How far it has come; `None` before the first evidence.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.checked.status(matches!(self.id, PairRef::Signing(_)))
    }

    /// Whether all evidence is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.status().is_some_and(Status::is_complete)
    }
}

/// Who works on a slot, and until when (DECISIONS.md D23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The device.
    pub device: DeviceId,
    /// The end, in milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// A slot with its pairs, oldest first. Erased pairs may be left out: no rule needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Which slot.
    pub key: SlotKey,
    /// The generation of the newest pair that was ever begun here.
    pub generation: u64,
    /// How often a banned pair has dealt here.
    pub heals: u32,
    /// The device was revoked; nothing begins here again.
    pub revoked: bool,
    /// Who works on it.
    pub lease: Option<Lease>,
    /// The pairs.
    pub pairs: Vec<Pair>,
}

impl Slot {
    /// An empty slot.
    #[must_use]
    pub const fn new(key: SlotKey) -> Self {
        Self { key, generation: 0, heals: 0, revoked: false, lease: None, pairs: Vec::new() }
    }

    /// The pair with this id.
    #[must_use]
    pub fn pair(&self, id: PairRef) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.id == id)
    }

    /// The pair in use.
    #[must_use]
    pub fn active(&self) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.state == PairState::Active)
    }

    /// The pair that is being made.
    #[must_use]
    pub fn pending(&self) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.state == PairState::Pending)
    }

    /// The active, banned or frozen pair.
    #[must_use]
    pub fn standing(&self) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.state.is_standing())
    }
}
