//! The public record of a share pair.

use halfkey_envelope::wallet::Curve;

use crate::{
    error::{Error, Result},
    point::Point,
};

/// Which half of a pair somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The client device (party 1 of the libraries).
    Client,
    /// The signing server, or the custodian of a backup pair (party 2).
    Peer,
}

impl Role {
    /// The one byte that stands for the role in hashes, and the libraries' party index.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Peer => 2,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Peer,
            Self::Peer => Self::Client,
        }
    }
}

/// What all parties know of a pair, each from its **own** record (PROTOCOL.md 4): `client_point + peer_point = public_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairPublic {
    curve: Curve,
    public_key: Point,
    chain_code: [u8; 32],
    client_point: Point,
    peer_point: Point,
}

impl PairPublic {
    /// Checks that all points lie on one curve and that the two halves' points add up to the public key.
    /// `chain_code` is the BIP-32 chain code on secp256k1 and zero on Ed25519.
    ///
    /// # Errors
    /// [`Error::ShareMismatch`].
    pub fn new(public_key: Point, chain_code: [u8; 32], client_point: Point, peer_point: Point) -> Result<Self> {
        let sum = client_point.add(&peer_point).map_err(|_| Error::ShareMismatch)?;
        if sum != public_key {
            return Err(Error::ShareMismatch);
        }
        Ok(Self { curve: public_key.curve(), public_key, chain_code, client_point, peer_point })
    }

    /// From one's own point alone: the peer's is `X − own`.
    ///
    /// # Errors
    /// [`Error::ShareMismatch`] if the peer's point would be the identity.
    pub fn from_own(public_key: Point, chain_code: [u8; 32], role: Role, own: Point) -> Result<Self> {
        let peer = public_key.sub(&own).map_err(|_| Error::ShareMismatch)?;
        match role {
            Role::Client => Self::new(public_key, chain_code, own, peer),
            Role::Peer => Self::new(public_key, chain_code, peer, own),
        }
    }

    /// From the bytes of a stored record.
    ///
    /// # Errors
    /// [`Error::InvalidPoint`] or [`Error::ShareMismatch`].
    pub fn from_bytes(
        curve: Curve,
        public_key: &[u8],
        chain_code: [u8; 32],
        client_point: &[u8],
        peer_point: &[u8],
    ) -> Result<Self> {
        let point = |bytes| Point::from_bytes(curve, bytes);
        Self::new(point(public_key)?, chain_code, point(client_point)?, point(peer_point)?)
    }

    /// The wallet's curve.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        self.curve
    }

    /// The wallet's public key X.
    #[must_use]
    pub const fn public_key(&self) -> Point {
        self.public_key
    }

    /// The BIP-32 chain code; zero on Ed25519.
    #[must_use]
    pub const fn chain_code(&self) -> &[u8; 32] {
        &self.chain_code
    }

    /// The public point of the client's half.
    #[must_use]
    pub const fn client_point(&self) -> Point {
        self.client_point
    }

    /// The public point of the server's or custodian's half.
    #[must_use]
    pub const fn peer_point(&self) -> Point {
        self.peer_point
    }

    /// The point of the half that `role` holds.
    #[must_use]
    pub const fn point_of(&self, role: Role) -> Point {
        match role {
            Role::Client => self.client_point,
            Role::Peer => self.peer_point,
        }
    }
}
