//! Key generation between a device and the server, two round trips on either curve (PROTOCOL.md 4.5).
//!
//! secp256k1: the library's four phases. Ed25519: FROST's key generation behind a hash commitment of the client, because
//! FROST alone lets the last mover choose its polynomial after seeing the other's. The session id is
//! `H(context ‖ client's 32 bytes ‖ server's 32 bytes)`, so neither side chooses it alone (PROTOCOL.md 2 trap 6).

use halfkey_envelope::{
    entropy::{Entropy, random},
    hash::h,
    wallet::Curve,
};
use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};
use subtle::ConstantTimeEq;

use crate::{
    backend::{Ecdsa, EcdsaBackend, Eddsa, EddsaBackend, Generated},
    context::{Ceremony, Op},
    error::{Error, Result},
    half::Half,
    pair::{PairPublic, Role},
    party::SigningParty,
    proof::{self, Purpose, Statement},
    wire::{Blob, Kept, Step, message, parse},
};

const CONTEXT: &str = "halfkey/dkg/v1/context";
const SESSION: &str = "halfkey/dkg/v1/session";
const COMMITMENT: &str = "halfkey/dkg/v1/commitment";
const CONFIRM: &str = "halfkey/dkg/v1/confirm";

#[derive(Encode, Decode)]
#[cbor(map)]
struct Request1 {
    #[n(0)]
    nonce: ByteArray<32>,
    /// secp256k1: our fragment for the server.
    #[n(1)]
    fragment: Option<Blob>,
    /// Ed25519: the commitment to our package.
    #[n(2)]
    commitment: Option<ByteArray<32>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Answer1 {
    #[n(0)]
    nonce: ByteArray<32>,
    #[n(1)]
    blob: Blob,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Request2 {
    /// secp256k1: commitments, openings and OT initialisation. Ed25519: the package.
    #[n(0)]
    blob: Blob,
    /// Ed25519: our share for the server.
    #[n(1)]
    share: Option<Blob>,
    /// Ed25519: opens the commitment.
    #[n(2)]
    salt: Option<ByteArray<32>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Answer2 {
    #[n(0)]
    blob: Blob,
    /// The server's proof of its new half.
    #[n(1)]
    proof: ByteVec,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeptDkg {
    #[n(0)]
    session: ByteArray<32>,
    #[n(1)]
    client_nonce: ByteArray<32>,
    #[n(2)]
    commitment: Option<ByteArray<32>>,
    #[n(3)]
    state: Blob,
}

/// The device before the first answer.
pub struct Client {
    ceremony: Ceremony,
    context: [u8; 32],
    nonce: [u8; 32],
    state: First,
}

enum First {
    Ecdsa(<Ecdsa as EcdsaBackend>::ClientDkg1),
    Eddsa { state: <Eddsa as EddsaBackend>::ClientDkg1, package: Blob, salt: [u8; 32] },
}

/// The device before the second answer.
pub struct ClientSecond {
    ceremony: Ceremony,
    nonce: [u8; 32],
    session: [u8; 32],
    state: Second,
}

enum Second {
    Ecdsa(Box<<Ecdsa as EcdsaBackend>::ClientDkg2>),
    Eddsa(Box<<Eddsa as EddsaBackend>::ClientDkg2>),
}

impl Client {
    /// Starts; gives the first request.
    ///
    /// # Errors
    /// [`Error::InvalidContext`] if the ceremony is no [`Op::Create`] or names no new pair.
    pub fn start(ceremony: &Ceremony, entropy: &mut dyn Entropy) -> Result<(Self, Vec<u8>)> {
        let context = context(ceremony)?;
        let nonce = *random::<32>(entropy);
        let (state, fragment, commitment) = match ceremony.curve {
            Curve::Secp256k1 => {
                let (state, fragment) = Ecdsa::dkg_client_1()?;
                (First::Ecdsa(state), Some(fragment), None)
            }
            Curve::Ed25519 => {
                let (state, package) = Eddsa::dkg_client_1(entropy)?;
                let salt = *random::<32>(entropy);
                let commitment = commit(&context, &nonce, &package, &salt);
                (First::Eddsa { state, package, salt }, None, Some(commitment.into()))
            }
        };
        let request = message(Step::DkgRequest1, &context, &Request1 { nonce: nonce.into(), fragment, commitment })?;
        Ok((Self { ceremony: ceremony.clone(), context, nonce, state }, request))
    }

    /// Takes the first answer; gives the second request.
    ///
    /// # Errors
    /// Any of [`Error`]; never a ban.
    pub fn next(self, answer: &[u8]) -> Result<(ClientSecond, Vec<u8>)> {
        let answer: Answer1 = parse(Step::DkgAnswer1, &self.context, answer)?;
        let session = session(&self.context, &self.nonce, &answer.nonce);
        let (state, request) = match self.state {
            First::Ecdsa(state) => {
                let (state, blob) = Ecdsa::dkg_client_2(&session, state, &answer.blob)?;
                (Second::Ecdsa(Box::new(state)), Request2 { blob, share: None, salt: None })
            }
            First::Eddsa { state, package, salt } => {
                let (state, share) = Eddsa::dkg_client_2(state, &answer.blob)?;
                (
                    Second::Eddsa(Box::new(state)),
                    Request2 { blob: package, share: Some(share), salt: Some(salt.into()) },
                )
            }
        };
        let request = message(Step::DkgRequest2, &session, &request)?;
        Ok((ClientSecond { ceremony: self.ceremony, nonce: self.nonce, session, state }, request))
    }
}

impl ClientSecond {
    /// Takes the second answer and checks the server's proof of its half. Store the party, read it back, and prove it
    /// with [`confirm`] before anything counts on it.
    ///
    /// # Errors
    /// Any of [`Error`]; never a ban.
    pub fn finish(self, answer: &[u8]) -> Result<SigningParty> {
        let answer: Answer2 = parse(Step::DkgAnswer2, &self.session, answer)?;
        let party = match self.state {
            Second::Ecdsa(state) => {
                party(Role::Client, Ecdsa::dkg_client_3(&self.session, *state, &answer.blob)?, SigningParty::with_ot)
            }
            Second::Eddsa(state) => party(Role::Client, Eddsa::dkg_client_3(*state, &answer.blob)?, |party, ()| party),
        }?;
        verify_confirm(&self.ceremony, party.public(), Role::Peer, &self.nonce, &answer.proof)?;
        Ok(party)
    }
}

/// The server's first step.
///
/// # Errors
/// Any of [`Error`]; never a ban.
pub fn server_1(ceremony: &Ceremony, request: &[u8], entropy: &mut dyn Entropy) -> Result<(Vec<u8>, Kept)> {
    let context = context(ceremony)?;
    let request: Request1 = parse(Step::DkgRequest1, &context, request)?;
    let nonce = *random::<32>(entropy);
    let session = session(&context, &request.nonce, &nonce);
    let (state, blob) = match (ceremony.curve, &request.fragment, &request.commitment) {
        (Curve::Secp256k1, Some(fragment), None) => {
            let (state, blob) = Ecdsa::dkg_server_1(&session, fragment)?;
            (Blob::new(Ecdsa::LIBRARY, &state)?, blob)
        }
        (Curve::Ed25519, None, Some(_)) => {
            let (state, blob) = Eddsa::dkg_server_1(entropy)?;
            (Blob::new(Eddsa::LIBRARY, &state)?, blob)
        }
        _ => return Err(Error::Malformed),
    };
    let kept = KeptDkg { session: session.into(), client_nonce: request.nonce, commitment: request.commitment, state };
    let answer = message(Step::DkgAnswer1, &context, &Answer1 { nonce: nonce.into(), blob })?;
    Ok((answer, Kept::new(Step::KeptDkg, &context, &kept)?))
}

/// The server's second step. Store the party before the answer leaves.
///
/// # Errors
/// Any of [`Error`]; never a ban.
pub fn server_2(
    ceremony: &Ceremony,
    kept: Kept,
    request: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, SigningParty)> {
    let context = context(ceremony)?;
    let kept: KeptDkg = kept.open(Step::KeptDkg, &context)?;
    let request: Request2 = parse(Step::DkgRequest2, &kept.session, request)?;
    let (party, blob) = match ceremony.curve {
        Curve::Secp256k1 => {
            let state = kept.state.open(Ecdsa::LIBRARY).map_err(|_| Error::InvalidState)?;
            let (generated, blob) = Ecdsa::dkg_server_2(&kept.session, state, &request.blob)?;
            (party(Role::Peer, generated, SigningParty::with_ot)?, blob)
        }
        Curve::Ed25519 => server_2_eddsa(&context, &kept, &request)?,
    };
    let proof = confirm(ceremony, &party, &kept.client_nonce, entropy)?;
    Ok((message(Step::DkgAnswer2, &kept.session, &Answer2 { blob, proof: proof.into() })?, party))
}

fn server_2_eddsa(context: &[u8; 32], kept: &KeptDkg, request: &Request2) -> Result<(SigningParty, Blob)> {
    let salt = request.salt.as_ref().ok_or(Error::Malformed)?;
    let opened = commit(context, &kept.client_nonce, &request.blob, salt);
    let committed = kept.commitment.as_ref().ok_or(Error::InvalidState)?;
    if !bool::from(opened.ct_eq(&**committed)) {
        return Err(Error::CommitmentMismatch);
    }
    let share = request.share.as_ref().ok_or(Error::Malformed)?;
    let state = kept.state.open(Eddsa::LIBRARY).map_err(|_| Error::InvalidState)?;
    let (generated, blob) = Eddsa::dkg_server_2(state, &request.blob, share)?;
    Ok((party(Role::Peer, generated, |party, ()| party)?, blob))
}

/// Proves knowledge of a new half, **from the copy read back from storage**, under the verifier's fresh nonce.
///
/// # Errors
/// [`Error::InvalidContext`], [`Error::Internal`].
pub fn confirm(
    ceremony: &Ceremony,
    party: &SigningParty,
    nonce: &[u8; 32],
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>> {
    let context = confirm_context(ceremony, party.public());
    let statement = Statement { purpose: Purpose::Create, context: &context, pair: ceremony.made_pair()?, nonce };
    proof::prove(&statement, party.share(), entropy)
}

/// Verifies a [`confirm`] of the half of `role`, against one's own record.
///
/// # Errors
/// [`Error::InvalidProof`], [`Error::InvalidContext`].
pub fn verify_confirm(
    ceremony: &Ceremony,
    public: &PairPublic,
    role: Role,
    nonce: &[u8; 32],
    bytes: &[u8],
) -> Result<()> {
    let context = confirm_context(ceremony, public);
    let statement = Statement { purpose: Purpose::Create, context: &context, pair: ceremony.made_pair()?, nonce };
    proof::verify(&statement, &public.point_of(role), bytes)
}

fn confirm_context(ceremony: &Ceremony, public: &PairPublic) -> [u8; 32] {
    ceremony.hash(
        CONFIRM,
        &[
            &public.public_key().to_bytes(),
            public.chain_code(),
            &public.client_point().to_bytes(),
            &public.peer_point().to_bytes(),
        ],
    )
}

fn context(ceremony: &Ceremony) -> Result<[u8; 32]> {
    if ceremony.op != Op::Create || ceremony.new_pair.is_none() {
        return Err(Error::InvalidContext);
    }
    Ok(ceremony.hash(CONTEXT, &[]))
}

fn session(context: &[u8; 32], client: &[u8; 32], server: &[u8; 32]) -> [u8; 32] {
    h(SESSION, &[context, client, server])
}

fn commit(context: &[u8; 32], nonce: &[u8; 32], package: &Blob, salt: &[u8; 32]) -> [u8; 32] {
    h(COMMITMENT, &[context, nonce, package.library().as_bytes(), package.data(), salt])
}

fn party<Ot>(
    role: Role,
    generated: Generated<Ot>,
    with_ot: impl FnOnce(SigningParty, Ot) -> SigningParty,
) -> Result<SigningParty> {
    let Generated { share, public_key, chain_code, peer_point, ot } = generated;
    let public = match role {
        Role::Client => PairPublic::new(public_key, chain_code, share.point(), peer_point),
        Role::Peer => PairPublic::new(public_key, chain_code, peer_point, share.point()),
    }?;
    Ok(with_ot(SigningParty::hollow(role, share, public)?, ot))
}

#[cfg(test)]
mod tests;
