//! What we ask of an MPC library. The rest of the crate knows these traits and two aliases, so a library can be
//! replaced in one file (PROTOCOL.md 1).
//!
//! Each client state is consumed by the next step and stays in memory; each server state is serialisable, secret and
//! single use. Messages are library structures inside a version-tagged [`Blob`].

use halfkey_envelope::entropy::Entropy;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::Result,
    half::SigningShare,
    pair::{PairPublic, Role},
    point::Point,
    wire::Blob,
};

/// The ECDSA library.
pub(crate) type Ecdsa = crate::dkls::Dkls;
/// The EdDSA library.
pub(crate) type Eddsa = crate::frost::Frost;

/// What a key generation gives one party; the share is in additive form.
pub(crate) struct Generated<Ot> {
    pub share: SigningShare,
    pub public_key: Point,
    pub chain_code: [u8; 32],
    /// Our own copy of the peer's point, checked by the library's proofs.
    pub peer_point: Point,
    pub ot: Ot,
}

/// A half with what two-party multiplication needs.
pub(crate) struct Signer<'a, Ot> {
    pub role: Role,
    pub share: &'a SigningShare,
    pub public: &'a PairPublic,
    pub ot: &'a Ot,
}

/// An ECDSA signature, before anybody checked it.
pub(crate) struct RawEcdsa {
    pub r: [u8; 32],
    pub s: [u8; 32],
    pub recovery_id: u8,
}

/// What is signed, on both sides.
pub(crate) struct EcdsaJob<'a> {
    /// Jointly random id of the session.
    pub id: [u8; 32],
    pub digest: [u8; 32],
    /// Non-hardened BIP-32 indices below the wallet's key.
    pub path: &'a [u32],
}

/// Threshold ECDSA in the schedules of PROTOCOL.md 4.5: every operation in two round trips, the client first.
pub(crate) trait EcdsaBackend {
    /// Name and version; tags every blob.
    const LIBRARY: &'static str;
    /// OT state between a device and the server; never shared between pairs or epochs.
    type Ot: Serialize + DeserializeOwned;
    type ClientDkg1: Send;
    type ClientDkg2: Send;
    type ServerDkg: Serialize + DeserializeOwned;
    type ClientRekey1: Send;
    type ClientRekey2: Send;
    type ServerRekey: Serialize + DeserializeOwned;
    type ClientSign1: Send;
    type ClientSign2: Send;
    type ServerSign: Serialize + DeserializeOwned;

    fn dkg_client_1() -> Result<(Self::ClientDkg1, Blob)>;
    fn dkg_server_1(session: &[u8; 32], request: &Blob) -> Result<(Self::ServerDkg, Blob)>;
    fn dkg_client_2(session: &[u8; 32], state: Self::ClientDkg1, answer: &Blob) -> Result<(Self::ClientDkg2, Blob)>;
    fn dkg_server_2(session: &[u8; 32], state: Self::ServerDkg, request: &Blob) -> Result<(Generated<Self::Ot>, Blob)>;
    fn dkg_client_3(session: &[u8; 32], state: Self::ClientDkg2, answer: &Blob) -> Result<Generated<Self::Ot>>;

    fn rekey_client_1() -> Result<(Self::ClientRekey1, Blob)>;
    fn rekey_server_1(hollow: &Hollow<'_>, request: &Blob) -> Result<(Self::ServerRekey, Blob)>;
    fn rekey_client_2(
        hollow: &Hollow<'_>,
        state: Self::ClientRekey1,
        answer: &Blob,
    ) -> Result<(Self::ClientRekey2, Blob)>;
    fn rekey_server_2(
        hollow: &Hollow<'_>,
        state: Self::ServerRekey,
        request: &Blob,
    ) -> Result<(Generated<Self::Ot>, Blob)>;
    fn rekey_client_3(hollow: &Hollow<'_>, state: Self::ClientRekey2, answer: &Blob) -> Result<Generated<Self::Ot>>;

    fn sign_client_1(signer: &Signer<'_, Self::Ot>, job: &EcdsaJob<'_>) -> Result<(Self::ClientSign1, Blob)>;
    fn sign_server_1(
        signer: &Signer<'_, Self::Ot>,
        job: &EcdsaJob<'_>,
        request: &Blob,
    ) -> Result<(Self::ServerSign, Blob)>;
    fn sign_client_2(state: Self::ClientSign1, answer: &Blob) -> Result<(Self::ClientSign2, Blob)>;
    /// Nothing leaves before `verified` has accepted the signature.
    fn sign_server_2<T>(
        signer: &Signer<'_, Self::Ot>,
        job: &EcdsaJob<'_>,
        state: Self::ServerSign,
        request: &Blob,
        verified: impl Fn(&RawEcdsa) -> Result<T>,
    ) -> Result<(T, Blob)>;
    fn sign_client_3<T>(
        state: Self::ClientSign2,
        answer: &Blob,
        verified: impl Fn(&RawEcdsa) -> Result<T>,
    ) -> Result<T>;

    /// The public key at `path` below `public`.
    fn derive(public: &PairPublic, path: &[u32]) -> Result<Point>;
}

/// A half without OT state, and the session that gives it one (PROTOCOL.md 4.3).
pub(crate) struct Hollow<'a> {
    pub role: Role,
    pub share: &'a SigningShare,
    pub public: &'a PairPublic,
    /// `H(sid ‖ "dkls")`.
    pub session: [u8; 32],
    /// `H(sid ‖ "refresh" ‖ fresh nonces)`.
    pub refresh: [u8; 32],
}

/// Threshold EdDSA: key generation in two round trips, signing in one.
///
/// There is no server state type for signing: [`Self::sign_server`] draws its nonces, uses them and drops them inside
/// one call, so they cannot be stored or used twice (PROTOCOL.md 4.6).
pub(crate) trait EddsaBackend {
    const LIBRARY: &'static str;
    type ClientDkg1: Send;
    type ClientDkg2: Send;
    type ServerDkg: Serialize + DeserializeOwned;
    type ClientSign: Send;

    /// The client's round-1 package; the caller sends a commitment to it first.
    fn dkg_client_1(entropy: &mut dyn Entropy) -> Result<(Self::ClientDkg1, Blob)>;
    fn dkg_server_1(entropy: &mut dyn Entropy) -> Result<(Self::ServerDkg, Blob)>;
    fn dkg_client_2(state: Self::ClientDkg1, package: &Blob) -> Result<(Self::ClientDkg2, Blob)>;
    fn dkg_server_2(state: Self::ServerDkg, package: &Blob, share: &Blob) -> Result<(Generated<()>, Blob)>;
    fn dkg_client_3(state: Self::ClientDkg2, share: &Blob) -> Result<Generated<()>>;

    fn sign_client_1(
        signer: &Signer<'_, ()>,
        message: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<(Self::ClientSign, Blob)>;
    /// Nonces, share, and nothing kept.
    fn sign_server(signer: &Signer<'_, ()>, message: &[u8], request: &Blob, entropy: &mut dyn Entropy) -> Result<Blob>;
    /// The signature, once `verified` has accepted it; otherwise it is found out whose share was false.
    fn sign_client_2<T>(
        state: Self::ClientSign,
        answer: &Blob,
        verified: impl FnOnce([u8; 64]) -> Result<T>,
    ) -> Result<T>;
}
