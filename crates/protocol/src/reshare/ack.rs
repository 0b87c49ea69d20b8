//! Acknowledgements: step 5 of PROTOCOL.md 4.2. C and S each verify both; only then can the new pair become Active.

use halfkey_envelope::{entropy::Entropy, hash::h};
use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};

use super::{Reshare, Transcript};
use crate::{
    error::{Error, Result},
    half::Half,
    identity::{IdentityPublic, Signs},
    pair::Role,
    proof::{self, Purpose, Statement},
    wire::{Step, message, parse},
};

const SIGNATURE: &str = "halfkey/reshare/v1/ack-signature";
const PROOF: &str = "halfkey/reshare/v1/ack-proof";

#[derive(Encode, Decode)]
#[cbor(map)]
struct Ack {
    #[n(0)]
    role: u8,
    /// The recipient's, over sid, role, B₁, B₂, X and the envelope's digest.
    #[n(1)]
    signature: ByteArray<64>,
    /// Of its new half, bound to (sid, role) and the verifier's nonce.
    #[n(2)]
    proof: ByteVec,
}

/// What an ack is about, beside the transcript.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Whose half.
    pub role: Role,
    /// The digest of the stored envelope: given by the device for a backup, and by nobody else.
    pub envelope: Option<&'a [u8; 32]>,
    /// 32 fresh bytes of the verifier, single use.
    pub nonce: &'a [u8; 32],
}

/// The ack of the recipient in `claim.role`. `half` is **the copy read back from storage**.
///
/// # Errors
/// [`Error::ShareMismatch`] if the copy is not the half that was agreed on.
pub fn ack(
    reshare: &Reshare,
    transcript: &Transcript,
    claim: &Claim<'_>,
    identity: &impl Signs,
    half: &impl Half,
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>> {
    if identity.public() != signer(reshare, claim.role)? {
        return Err(Error::InvalidContext);
    }
    let point = transcript.pair.point_of(claim.role);
    if half.curve() != point.curve() || half.point() != point {
        return Err(Error::ShareMismatch);
    }
    let context = proof_context(transcript, claim.role);
    let proof = proof::prove_for(&statement(reshare, &context, claim.nonce)?, half, &point, entropy)?;
    let signature = with_signed(transcript, claim, |parts| Ok(identity.sign(SIGNATURE, parts)))?;
    let ack = Ack { role: claim.role.code(), signature: signature.into(), proof: proof.into() };
    message(Step::Ack, transcript.sid(), &ack)
}

/// Verifies an ack against the pinned key of that recipient and one's **own** transcript.
///
/// # Errors
/// [`Error::WrongSession`], [`Error::InvalidIdentitySignature`], [`Error::InvalidProof`].
pub fn verify_ack(reshare: &Reshare, transcript: &Transcript, claim: &Claim<'_>, bytes: &[u8]) -> Result<()> {
    let ack: Ack = parse(Step::Ack, transcript.sid(), bytes)?;
    if ack.role != claim.role.code() {
        return Err(Error::WrongSession);
    }
    let signer = signer(reshare, claim.role)?;
    with_signed(transcript, claim, |parts| signer.verify(SIGNATURE, parts, ack.signature.as_slice()))?;
    let context = proof_context(transcript, claim.role);
    proof::verify(&statement(reshare, &context, claim.nonce)?, &transcript.pair.point_of(claim.role), &ack.proof)
}

fn signer(reshare: &Reshare, role: Role) -> Result<IdentityPublic> {
    match role {
        Role::Client => Ok(reshare.ceremony.device.identity),
        Role::Peer => reshare.recipient().map(|keys| keys.identity),
    }
}

fn proof_context(transcript: &Transcript, role: Role) -> [u8; 32] {
    h(PROOF, &[&transcript.sid, &[role.code()]])
}

fn statement<'a>(reshare: &Reshare, context: &'a [u8; 32], nonce: &'a [u8; 32]) -> Result<Statement<'a>> {
    Ok(Statement { purpose: Purpose::Ack, context, pair: reshare.ceremony.made_pair()?, nonce })
}

fn with_signed<T>(transcript: &Transcript, claim: &Claim<'_>, f: impl FnOnce(&[&[u8]]) -> Result<T>) -> Result<T> {
    let pair = &transcript.pair;
    f(&[
        &transcript.sid,
        &[claim.role.code()],
        &pair.client_point().to_bytes(),
        &pair.peer_point().to_bytes(),
        &pair.public_key().to_bytes(),
        claim.envelope.map_or(&[], |digest| digest.as_slice()),
    ])
}
