//! Fresh OT state for a secp256k1 half: hollow parties, then `refresh_complete`, two round trips (PROTOCOL.md 4.3).
//!
//! Used after every `reshare` into a signing pair, and when the stored OT state was written by another library version
//! (DECISIONS.md D8). OT state is never carried over: a new device, epoch or library gets its own. The halves are
//! re-randomised once more on the way; the peer can shift them by an offset that it knows, which is harmless here
//! because the pair was independent before (PROTOCOL.md 4.2).

use halfkey_envelope::{
    entropy::{Entropy, random},
    hash::h,
    wallet::Curve,
};
use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};
use zeroize::Zeroize;

use crate::{
    backend::{Ecdsa, EcdsaBackend, Generated, Hollow},
    context::{Ceremony, Op},
    error::{Error, Result},
    half::Half,
    pair::{PairPublic, Role},
    party::SigningParty,
    wire::{Blob, Kept, Step, message, parse},
};

const CONTEXT: &str = "halfkey/rekey/v1/context";
const SESSION: &str = "halfkey/rekey/v1/session";
const PARTY: &str = "halfkey/rekey/v1/dkls";
const REFRESH: &str = "halfkey/rekey/v1/refresh";

#[derive(Encode, Decode)]
#[cbor(map)]
struct First {
    #[n(0)]
    nonce: ByteArray<32>,
    #[n(1)]
    blob: Blob,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Second {
    #[n(0)]
    blob: Blob,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeptRekey {
    #[n(0)]
    session: ByteArray<32>,
    #[n(1)]
    refresh: ByteArray<32>,
    #[n(2)]
    hollow: ByteVec,
    #[n(3)]
    state: Blob,
}

impl Drop for KeptRekey {
    fn drop(&mut self) {
        self.hollow.zeroize();
    }
}

/// What a rekey outside a `reshare` is bound to; after a `reshare`, its session id takes this place.
///
/// # Errors
/// [`Error::InvalidContext`] if the ceremony is no [`Op::Rekey`] of a secp256k1 pair.
pub fn context(ceremony: &Ceremony, public: &PairPublic) -> Result<[u8; 32]> {
    if ceremony.op != Op::Rekey || ceremony.curve != Curve::Secp256k1 {
        return Err(Error::InvalidContext);
    }
    ceremony.used_pair()?;
    Ok(ceremony.hash(
        CONTEXT,
        &[
            &public.public_key().to_bytes(),
            public.chain_code(),
            &public.client_point().to_bytes(),
            &public.peer_point().to_bytes(),
        ],
    ))
}

/// The device before the first answer.
pub struct Client {
    base: [u8; 32],
    nonce: [u8; 32],
    party: SigningParty,
    state: <Ecdsa as EcdsaBackend>::ClientRekey1,
}

/// The device before the second answer.
pub struct ClientSecond {
    session: [u8; 32],
    refresh: [u8; 32],
    base: [u8; 32],
    party: SigningParty,
    state: <Ecdsa as EcdsaBackend>::ClientRekey2,
}

impl Client {
    /// Starts; `base` is the `reshare` session id or [`context`].
    ///
    /// # Errors
    /// [`Error::InvalidContext`] unless `party` is a client's half on secp256k1.
    pub fn start(base: &[u8; 32], party: &SigningParty, entropy: &mut dyn Entropy) -> Result<(Self, Vec<u8>)> {
        let party = accept(party, Role::Client)?;
        let nonce = *random::<32>(entropy);
        let (state, blob) = Ecdsa::rekey_client_1()?;
        let request = message(Step::RekeyRequest1, base, &First { nonce: nonce.into(), blob })?;
        Ok((Self { base: *base, nonce, party, state }, request))
    }

    /// Takes the first answer; gives the second request.
    ///
    /// # Errors
    /// Any of [`Error`]; never a ban.
    pub fn next(self, answer: &[u8]) -> Result<(ClientSecond, Vec<u8>)> {
        let answer: First = parse(Step::RekeyAnswer1, &self.base, answer)?;
        let (session, refresh) = ids(&self.base, &self.nonce, &answer.nonce);
        let hollow = hollow(&self.base, &refresh, &self.party);
        let (state, blob) = Ecdsa::rekey_client_2(&hollow, self.state, &answer.blob)?;
        let request = message(Step::RekeyRequest2, &session, &Second { blob })?;
        Ok((ClientSecond { session, refresh, base: self.base, party: self.party, state }, request))
    }
}

impl ClientSecond {
    /// Takes the second answer; gives the party that can sign, with new halves and points of the same key.
    ///
    /// # Errors
    /// Any of [`Error`]; never a ban.
    pub fn finish(self, answer: &[u8]) -> Result<SigningParty> {
        let answer: Second = parse(Step::RekeyAnswer2, &self.session, answer)?;
        let hollow = hollow(&self.base, &self.refresh, &self.party);
        let generated = Ecdsa::rekey_client_3(&hollow, self.state, &answer.blob)?;
        renewed(&self.party, generated)
    }
}

/// The server's first step. The half travels in the kept state, so a hollow party is never stored by itself.
///
/// # Errors
/// Any of [`Error`]; never a ban.
pub fn server_1(
    base: &[u8; 32],
    party: &SigningParty,
    request: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, Kept)> {
    let party = accept(party, Role::Peer)?;
    let request: First = parse(Step::RekeyRequest1, base, request)?;
    let nonce = *random::<32>(entropy);
    let (session, refresh) = ids(base, &request.nonce, &nonce);
    let (state, blob) = Ecdsa::rekey_server_1(&hollow(base, &refresh, &party), &request.blob)?;
    let kept = KeptRekey {
        session: session.into(),
        refresh: refresh.into(),
        hollow: party.to_hollow_bytes().to_vec().into(),
        state: Blob::new(Ecdsa::LIBRARY, &state)?,
    };
    let answer = message(Step::RekeyAnswer1, base, &First { nonce: nonce.into(), blob })?;
    Ok((answer, Kept::new(Step::KeptRekey, base, &kept)?))
}

/// The server's second step. Store the party before the answer leaves, and sign from the copy read back.
///
/// # Errors
/// Any of [`Error`]; never a ban.
pub fn server_2(base: &[u8; 32], kept: Kept, request: &[u8]) -> Result<(Vec<u8>, SigningParty)> {
    let kept: KeptRekey = kept.open(Step::KeptRekey, base)?;
    let request: Second = parse(Step::RekeyRequest2, &kept.session, request)?;
    let party = SigningParty::from_bytes(&kept.hollow).map_err(|_| Error::InvalidState)?;
    let state = kept.state.open(Ecdsa::LIBRARY).map_err(|_| Error::InvalidState)?;
    let (generated, blob) = Ecdsa::rekey_server_2(&hollow(base, &kept.refresh, &party), state, &request.blob)?;
    Ok((message(Step::RekeyAnswer2, &kept.session, &Second { blob })?, renewed(&party, generated)?))
}

fn accept(party: &SigningParty, role: Role) -> Result<SigningParty> {
    let fits = party.role() == role && party.public().curve() == Curve::Secp256k1;
    if fits { Ok(party.hollow_copy()) } else { Err(Error::InvalidContext) }
}

fn ids(base: &[u8; 32], client: &[u8; 32], server: &[u8; 32]) -> ([u8; 32], [u8; 32]) {
    (h(SESSION, &[base, client, server]), h(REFRESH, &[base, client, server]))
}

fn hollow<'a>(base: &[u8; 32], refresh: &[u8; 32], party: &'a SigningParty) -> Hollow<'a> {
    Hollow {
        role: party.role(),
        share: party.share(),
        public: party.public(),
        session: h(PARTY, &[base]),
        refresh: *refresh,
    }
}

/// The key and the chain code must be the wallet's own; only halves and points move.
fn renewed(old: &SigningParty, generated: Generated<<Ecdsa as EcdsaBackend>::Ot>) -> Result<SigningParty> {
    let Generated { share, public_key, chain_code, peer_point, ot } = generated;
    if public_key != old.public().public_key() || chain_code != *old.public().chain_code() {
        return Err(Error::ShareMismatch);
    }
    let public = match old.role() {
        Role::Client => PairPublic::new(public_key, chain_code, share.point(), peer_point),
        Role::Peer => PairPublic::new(public_key, chain_code, peer_point, share.point()),
    }?;
    Ok(SigningParty::hollow(old.role(), share, public)?.with_ot(ot))
}
