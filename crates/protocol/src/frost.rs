//! The one file that names `frost-ed25519`: threshold EdDSA (RFC 9591, eprint 2020/852).
//!
//! Its key generation has no commitment round, so the last mover could choose its polynomial after seeing ours; the
//! caller therefore sends a hash of the client's package first (`dkg.rs`). Its refresh is not used at all
//! (PROTOCOL.md 3).

use std::collections::BTreeMap;

use curve25519_dalek::{Scalar as DalekScalar, edwards::EdwardsPoint};
use frost_core::{compute_binding_factor_list, compute_group_commitment};
use frost_ed25519::{
    CheaterDetection, Identifier, SigningPackage, VerifyingKey, aggregate_custom,
    keys::{
        KeyPackage, PublicKeyPackage, SigningShare as FrostShare, VerifyingShare,
        dkg::{self, round1, round2},
    },
    round1::{SigningCommitments, SigningNonces, commit},
    round2 as signing,
};
use halfkey_envelope::{
    entropy::{Entropy, Rng06},
    wallet::Curve,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    backend::{EddsaBackend, Generated, Signer},
    error::{Error, Result},
    field::{Scalar, Secret},
    half::SigningShare,
    pair::Role,
    point::{Group2, Point},
    wire::Blob,
};

/// The back end.
pub(crate) struct Frost;

const LIBRARY: &str = "frost-ed25519/3.0.0";

/// The library's own canonical encoding of one of its structures.
#[derive(Serialize, Deserialize)]
struct Encoded(Vec<u8>);

impl Drop for Encoded {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

pub(crate) struct ClientDkg1(round1::SecretPackage);

pub(crate) struct ClientDkg2 {
    secret: round2::SecretPackage,
    theirs: round1::Package,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ServerDkg(Encoded);

/// The client's nonces: in memory, used by value, never serialised.
pub(crate) struct ClientSign {
    nonces: SigningNonces,
    /// Our commitments as they were sent.
    encoded: Encoded,
    key: KeyPackage,
    public: PublicKeyPackage,
    message: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct ServerPart {
    commitments: Encoded,
    share: Encoded,
}

impl EddsaBackend for Frost {
    const LIBRARY: &'static str = LIBRARY;
    type ClientDkg1 = ClientDkg1;
    type ClientDkg2 = ClientDkg2;
    type ServerDkg = ServerDkg;
    type ClientSign = ClientSign;

    fn dkg_client_1(entropy: &mut dyn Entropy) -> Result<(ClientDkg1, Blob)> {
        let (secret, package) = dkg::part1(identifier(Role::Client)?, 2, 2, Rng06(entropy)).map_err(ours)?;
        Ok((ClientDkg1(secret), encode(package.serialize())?))
    }

    fn dkg_server_1(entropy: &mut dyn Entropy) -> Result<(ServerDkg, Blob)> {
        let (secret, package) = dkg::part1(identifier(Role::Peer)?, 2, 2, Rng06(entropy)).map_err(ours)?;
        let kept = Encoded(secret.serialize().map_err(ours)?);
        Ok((ServerDkg(kept), encode(package.serialize())?))
    }

    fn dkg_client_2(state: ClientDkg1, package: &Blob) -> Result<(ClientDkg2, Blob)> {
        let theirs = decode(package, round1::Package::deserialize)?;
        let (secret, share) = round2_of(state.0, Role::Client, &theirs)?;
        Ok((ClientDkg2 { secret, theirs }, encode(share.serialize())?))
    }

    fn dkg_server_2(state: ServerDkg, package: &Blob, share: &Blob) -> Result<(Generated<()>, Blob)> {
        let secret = round1::SecretPackage::deserialize(&state.0.0).map_err(|_| Error::InvalidState)?;
        let theirs = decode(package, round1::Package::deserialize)?;
        let (secret, answer) = round2_of(secret, Role::Peer, &theirs)?;
        let generated = finish(Role::Peer, &secret, theirs, share)?;
        Ok((generated, encode(answer.serialize())?))
    }

    fn dkg_client_3(state: ClientDkg2, share: &Blob) -> Result<Generated<()>> {
        finish(Role::Client, &state.secret, state.theirs, share)
    }

    fn sign_client_1(signer: &Signer<'_, ()>, message: &[u8], entropy: &mut dyn Entropy) -> Result<(ClientSign, Blob)> {
        let key = key_package(signer)?;
        let public = public_package(signer, &key)?;
        let (nonces, commitments) = commit(key.signing_share(), &mut Rng06(entropy));
        let encoded = Encoded(commitments.serialize().map_err(ours)?);
        let request = Blob::new(LIBRARY, &encoded)?;
        Ok((ClientSign { nonces, encoded, key, public, message: message.to_vec() }, request))
    }

    fn sign_server(signer: &Signer<'_, ()>, message: &[u8], request: &Blob, entropy: &mut dyn Entropy) -> Result<Blob> {
        let key = key_package(signer)?;
        // Drawn, used and dropped in this call (PROTOCOL.md 4.6).
        let (nonces, commitments) = commit(key.signing_share(), &mut Rng06(entropy));
        let encoded = Encoded(commitments.serialize().map_err(ours)?);
        let theirs = peer_commitments(&request.open(LIBRARY)?, &encoded)?;
        let package = signing_package(Role::Peer, commitments, theirs, message)?;
        let share = signing::sign(&package, &nonces, &key).map_err(theirs_fault)?;
        Blob::new(LIBRARY, &ServerPart { commitments: encoded, share: Encoded(share.serialize()) })
    }

    fn sign_client_2<T>(state: ClientSign, answer: &Blob, verified: impl FnOnce([u8; 64]) -> Result<T>) -> Result<T> {
        let part = answer.open::<ServerPart>(LIBRARY)?;
        let theirs = peer_commitments(&part.commitments, &state.encoded)?;
        let their_share = signing::SignatureShare::deserialize(&part.share.0).map_err(theirs_fault)?;
        let package = signing_package(Role::Client, *state.nonces.commitments(), theirs, &state.message)?;
        let our_share = signing::sign(&package, &state.nonces, &state.key).map_err(theirs_fault)?;
        verified(aggregate(&package, state.key.verifying_key(), [&our_share, &their_share])?).or_else(|error| {
            // The library's own aggregation verifies share by share (PROTOCOL.md 4.6).
            let shares =
                BTreeMap::from([(identifier(Role::Client)?, our_share), (identifier(Role::Peer)?, their_share)]);
            match aggregate_custom(&package, &shares, &state.public, CheaterDetection::AllCheaters) {
                Err(cheated) => Err(theirs_fault(cheated)),
                Ok(_) => Err(error),
            }
        })
    }
}

fn identifier(role: Role) -> Result<Identifier> {
    Identifier::try_from(u16::from(role.code())).map_err(ours)
}

fn ours(_: frost_ed25519::Error) -> Error {
    Error::Internal
}

/// No failure of FROST spends state: it is never a ban.
fn theirs_fault(_: frost_ed25519::Error) -> Error {
    Error::PeerInvalid
}

fn encode(bytes: core::result::Result<Vec<u8>, frost_ed25519::Error>) -> Result<Blob> {
    Blob::new(LIBRARY, &Encoded(bytes.map_err(ours)?))
}

/// The library's decoders check points and scalars, but ignore trailing bytes: so the strict encoding is compared.
fn decode<T: Reencode>(
    blob: &Blob,
    from: impl Fn(&[u8]) -> core::result::Result<T, frost_ed25519::Error>,
) -> Result<T> {
    let encoded = blob.open::<Encoded>(LIBRARY)?;
    let value = from(&encoded.0).map_err(theirs_fault)?;
    let again = Zeroizing::new(value.reencode().map_err(theirs_fault)?);
    if *again == encoded.0 { Ok(value) } else { Err(Error::Malformed) }
}

trait Reencode {
    fn reencode(&self) -> core::result::Result<Vec<u8>, frost_ed25519::Error>;
}

macro_rules! reencode {
    ($($name:ty),*) => {$(
        impl Reencode for $name {
            fn reencode(&self) -> core::result::Result<Vec<u8>, frost_ed25519::Error> {
                self.serialize()
            }
        }
    )*};
}
reencode!(round1::Package, round2::Package);

/// The library's header of a structure: format version and ciphersuite.
const HEADER: usize = 5;

/// The peer's nonce commitments. The library refuses points that are not canonical, of prime order and other than the
/// identity; header and length are compared with those of our own, so there is one encoding only.
fn peer_commitments(theirs: &Encoded, ours: &Encoded) -> Result<SigningCommitments> {
    let decoded = SigningCommitments::deserialize(&theirs.0).map_err(theirs_fault)?;
    let same = theirs.0.len() == ours.0.len() && theirs.0.get(..HEADER) == ours.0.get(..HEADER);
    if same { Ok(decoded) } else { Err(Error::Malformed) }
}

fn round2_of(
    secret: round1::SecretPackage,
    role: Role,
    theirs: &round1::Package,
) -> Result<(round2::SecretPackage, round2::Package)> {
    let other = identifier(role.other())?;
    let (secret, mut packages) =
        dkg::part2(secret, &BTreeMap::from([(other, theirs.clone())])).map_err(theirs_fault)?;
    Ok((secret, packages.remove(&other).ok_or(Error::Internal)?))
}

fn finish(role: Role, secret: &round2::SecretPackage, theirs: round1::Package, share: &Blob) -> Result<Generated<()>> {
    let other = identifier(role.other())?;
    let share = decode(share, round2::Package::deserialize)?;
    let (key, public) = dkg::part3(secret, &BTreeMap::from([(other, theirs)]), &BTreeMap::from([(other, share)]))
        .map_err(theirs_fault)?;
    let peer = public.verifying_shares().get(&other).ok_or(Error::Internal)?.serialize().map_err(ours)?;
    let peer_point = additive_point(role.other(), &Point::from_bytes(Curve::Ed25519, &peer)?)?;
    let public_key = Point::from_bytes(Curve::Ed25519, &public.verifying_key().serialize().map_err(ours)?)?;
    let mut bytes = key.signing_share().serialize();
    let scalar = Scalar::from_bytes(Curve::Ed25519, &bytes);
    bytes.zeroize();
    let share = additive(role, &scalar?)?;
    // SLIP-10 has no non-hardened children on Ed25519, so there is no chain code (PROTOCOL.md 4.1).
    Ok(Generated { share, public_key, chain_code: [0; 32], peer_point, ot: () })
}

fn signing_package(
    role: Role,
    ours: SigningCommitments,
    theirs: SigningCommitments,
    message: &[u8],
) -> Result<SigningPackage> {
    let commitments = BTreeMap::from([(identifier(role)?, ours), (identifier(role.other())?, theirs)]);
    Ok(SigningPackage::new(commitments, message))
}

// As in `dkls.rs`: c_C = 2·p₁, c_S = −p₂.

fn additive(role: Role, poly_point: &Scalar) -> Result<SigningShare> {
    let factor = match role {
        Role::Client => DalekScalar::from(2u64),
        Role::Peer => -DalekScalar::ONE,
    };
    poly_point.mul(&Scalar::Ed25519(factor)).map(SigningShare::wrap)
}

fn additive_point(role: Role, poly: &Point) -> Result<Point> {
    let Group2::Ed25519(poly) = poly.group() else { return Err(Error::Internal) };
    Point::new(Group2::Ed25519(match role {
        Role::Client => poly + poly,
        Role::Peer => -poly,
    }))
}

fn poly_factor(role: Role) -> DalekScalar {
    match role {
        Role::Client => DalekScalar::from(2u64).invert(),
        Role::Peer => -DalekScalar::ONE,
    }
}

/// The two shares as one signature, **not verified** (RFC 9591 section 5.3): R is the group commitment, z the sum. The
/// library's own aggregation would verify it a second time, with the same curve arithmetic and at three times the cost
/// of the strict verification that follows.
fn aggregate(package: &SigningPackage, key: &VerifyingKey, shares: [&signing::SignatureShare; 2]) -> Result<[u8; 64]> {
    let factors = compute_binding_factor_list(package, key, &[]).map_err(ours)?;
    let r = compute_group_commitment(package, &factors).map_err(theirs_fault)?.to_element();
    let mut z = DalekScalar::ZERO;
    for share in shares {
        let bytes = share.serialize().try_into().map_err(|_| Error::Internal)?;
        z += Option::<DalekScalar>::from(DalekScalar::from_canonical_bytes(bytes)).ok_or(Error::Internal)?;
    }
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(r.compress().as_bytes());
    signature[32..].copy_from_slice(z.as_bytes());
    Ok(signature)
}

/// Our own polynomial share and its point. The points of the record were checked when it was read, and of what was
/// checked only combinations are made, so none of them is checked again: this is what `internals` is for.
fn key_package(signer: &Signer<'_, ()>) -> Result<KeyPackage> {
    let poly = signer.share.scalar().mul(&Scalar::Ed25519(poly_factor(signer.role)))?;
    let Scalar::Ed25519(scalar) = &poly else { return Err(Error::InvalidContext) };
    let own = VerifyingShare::new(*edwards(&Point::of(&poly))?);
    let key = VerifyingKey::new(*edwards(&signer.public.public_key())?);
    Ok(KeyPackage::new(identifier(signer.role)?, FrostShare::new(*scalar), own, key, 2))
}

/// What the aggregator checks the signature against; only the peer's point has to be made from the record.
fn public_package(signer: &Signer<'_, ()>, own: &KeyPackage) -> Result<PublicKeyPackage> {
    let other = signer.role.other();
    let additive = signer.public.point_of(other);
    let additive = edwards(&additive)?;
    let poly = match other {
        Role::Client => additive * poly_factor(other),
        Role::Peer => -additive,
    };
    let shares =
        BTreeMap::from([(*own.identifier(), *own.verifying_share()), (identifier(other)?, VerifyingShare::new(poly))]);
    Ok(PublicKeyPackage::new(shares, *own.verifying_key(), Some(2)))
}

fn edwards(point: &Point) -> Result<&EdwardsPoint> {
    match point.group() {
        Group2::Ed25519(point) => Ok(point),
        Group2::Secp256k1(_) => Err(Error::InvalidContext),
    }
}

#[cfg(test)]
mod tests;
