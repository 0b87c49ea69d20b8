//! What travels in the two queues.

use halfkey_envelope::id::{BackupId, DeviceId};
use halfkey_protocol::lifecycle::{PairRef, PairState};

use super::ceremonies::{Ceremonies, Purpose};

/// From the recovered backup: method, backup, and whether the other devices go.
pub(super) type Recovered = (usize, BackupId, bool);

#[derive(Debug, Clone)]
pub(super) enum Request<C: Ceremonies> {
    /// Opens a ceremony: makes the pair pending, or announces a signature.
    Begin {
        purpose: Purpose,
        pair: PairRef,
    },
    RecoverBegin {
        method: usize,
        pair: PairRef,
    },
    /// One round of a ceremony.
    Round {
        purpose: Purpose,
        pair: PairRef,
        step: u8,
        body: C::Body,
        possession: Option<C::Proof>,
    },
    KeepEnvelope {
        method: usize,
        backup: BackupId,
        envelope: C::Envelope,
    },
    KeyStored {
        method: usize,
        backup: BackupId,
        digest: [u8; 32],
    },
    CommitBackup {
        method: usize,
        backup: BackupId,
        digest: [u8; 32],
        ack: C::Proof,
    },
    CommitSigning {
        pair: PairRef,
        signature: C::Signature,
        recovered: Option<Recovered>,
    },
    Drill {
        method: usize,
        backup: BackupId,
    },
    Verify {
        method: usize,
        backup: BackupId,
        proof: C::Proof,
    },
    Cancel {
        pair: PairRef,
    },
    Revoke {
        device: DeviceId,
    },
    RemoveMethod {
        method: usize,
    },
    Garbage {
        pair: PairRef,
    },
    Status,
}

#[derive(Debug, Clone)]
pub(super) enum Answer<C: Ceremonies> {
    Begun {
        pair: PairRef,
        generation: u64,
        nonce: [u8; 32],
    },
    RecoverReady {
        pair: PairRef,
        generation: u64,
        nonce: [u8; 32],
        backup: BackupId,
        envelope: C::Envelope,
        /// The points of the backup pair.
        public: C::Public,
    },
    Round {
        pair: PairRef,
        step: u8,
        body: C::Body,
    },
    EnvelopeKept {
        backup: BackupId,
    },
    /// The envelope as stored, and a challenge for what is proven from it.
    Envelope {
        backup: BackupId,
        envelope: C::Envelope,
        challenge: [u8; 32],
        public: C::Public,
    },
    Committed {
        pair: PairRef,
    },
    Status {
        pairs: Vec<(PairRef, PairState)>,
    },
    Refused,
    Bad,
}

/// One message on its way.
#[derive(Debug, Clone)]
pub(super) struct Mail<B> {
    pub device: DeviceId,
    pub body: B,
}
