//! What every ceremony is bound to.

use halfkey_envelope::{
    hash::h,
    id::{ClientId, DeploymentId, PairId, WalletId},
    wallet::Curve,
};

use crate::{
    error::{Error, Result},
    identity::IdentityPublic,
};

/// The operation that a ceremony or proof belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// Key generation: C, S.
    Create,
    /// A signature: C, S.
    Sign,
    /// `reshare` C, S → C, K.
    Backup,
    /// `reshare` C, K → C′, S, then fresh OT state and a test signature.
    Recover,
    /// `reshare` C, S → C, S in the same slot, after a ban (PROTOCOL.md 4.9).
    Heal,
    /// Fresh OT state for a share whose state no installed library can read (DECISIONS.md D8).
    Rekey,
    /// The drill of METHODS.md H.
    Verify,
    /// Eject.
    Eject,
}

impl Op {
    /// The one byte that stands for the operation in hashes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Create => 1,
            Self::Sign => 2,
            Self::Backup => 3,
            Self::Recover => 4,
            Self::Heal => 5,
            Self::Rekey => 6,
            Self::Verify => 7,
            Self::Eject => 8,
        }
    }
}

/// The keys of one party, from its own slot (device) or from the deployment descriptor (server, custodian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartyKeys {
    /// Signs acks and openings.
    pub identity: IdentityPublic,
    /// Sub-shares are sealed to it. A device has one per ceremony; `None` where the ceremony seals nothing to it.
    pub hpke: Option<[u8; 32]>,
}

/// The full context of one ceremony on one curve. Every party fills it from its **own** records; it goes, hashed, into
/// each message, each session id and each proof (PROTOCOL.md 4.2 `ctx`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceremony {
    /// The operation.
    pub op: Op,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The client.
    pub client: ClientId,
    /// The wallet.
    pub wallet: WalletId,
    /// The wallet's curve.
    pub curve: Curve,
    /// The pair that is used; `None` for a key generation.
    pub old_pair: Option<PairId>,
    /// The pair that is made; `None` for a signature or a drill.
    pub new_pair: Option<PairId>,
    /// The generation of the slot that changes (or is used).
    pub generation: u64,
    /// `n_S`: 32 fresh bytes from the server, issued with the session, backup or recovery id; single use.
    pub server_nonce: [u8; 32],
    /// The device.
    pub device: PartyKeys,
    /// The signing server.
    pub server: PartyKeys,
    /// The custodian, where it takes part.
    pub custodian: Option<PartyKeys>,
}

impl Ceremony {
    /// `H(tag, every field, extra…)`. An absent id or key is the empty string, so it never equals a present one.
    #[must_use]
    pub fn hash(&self, tag: &str, extra: &[&[u8]]) -> [u8; 32] {
        let generation = self.generation.to_be_bytes();
        let (op, curve) = ([self.op.code()], [self.curve.code()]);
        let device = keys(Some(&self.device));
        let server = keys(Some(&self.server));
        let custodian = keys(self.custodian.as_ref());
        let mut parts: Vec<&[u8]> = vec![
            &op,
            self.deployment.as_bytes(),
            self.client.as_bytes(),
            self.wallet.as_bytes(),
            &curve,
            self.old_pair.as_ref().map_or(&[], |id| id.as_bytes()),
            self.new_pair.as_ref().map_or(&[], |id| id.as_bytes()),
            &generation,
            &self.server_nonce,
            &device.0,
            &device.1,
            &server.0,
            &server.1,
            &custodian.0,
            &custodian.1,
        ];
        parts.extend_from_slice(extra);
        h(tag, &parts)
    }

    pub(crate) fn custodian(&self) -> Result<&PartyKeys> {
        self.custodian.as_ref().ok_or(Error::InvalidContext)
    }

    pub(crate) fn used_pair(&self) -> Result<PairId> {
        self.old_pair.ok_or(Error::InvalidContext)
    }

    pub(crate) fn made_pair(&self) -> Result<PairId> {
        self.new_pair.ok_or(Error::InvalidContext)
    }
}

fn keys(party: Option<&PartyKeys>) -> (Vec<u8>, Vec<u8>) {
    let identity = party.map_or_else(Vec::new, |keys| keys.identity.to_bytes().to_vec());
    let hpke = party.and_then(|keys| keys.hpke).map_or_else(Vec::new, |key| key.to_vec());
    (identity, hpke)
}
