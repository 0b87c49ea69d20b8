//! The other recipient, and S as a witness: step 4 of PROTOCOL.md 4.2.

use halfkey_envelope::hpke::SecretKey;

use super::{
    OPEN_SIGNATURE, Open, Opening, Reshare, Session, Transcript,
    deal::{Dealt, kept_session},
    open_parts, unseal,
};
use crate::{
    error::{Error, Result},
    half::Half,
    pair::Role,
    wire::{Kept, Step, parse_any},
};

/// R2: all the checks, and its new half. Store it sealed, read it back, and only then make the ack.
///
/// # Errors
/// Any of [`Error`]; never a ban.
pub fn receive<H: Half>(reshare: &Reshare, hpke: &SecretKey, open: &[u8]) -> Result<(H, Transcript)> {
    let ours = H::KIND == reshare.gets(Role::Peer) && hpke.public_key() == reshare.recipient_key()?;
    if !ours {
        return Err(Error::InvalidContext);
    }
    let (sid, open) = authentic(reshare, open, None)?;
    let curve = reshare.ceremony.curve;
    let from_client = unseal(hpke, &sid, Role::Client, Role::Peer, curve, &open.client_sealed)?;
    let from_peer = unseal(hpke, &sid, Role::Peer, Role::Peer, curve, &open.peer_sealed)?;
    let client = open.client_points.of_part(&reshare.old.client_point(), Role::Peer, &from_client)?;
    let peer = open.peer_points.of_part(&reshare.old.peer_point(), Role::Peer, &from_peer)?;
    let transcript = reshare.accept(sid, &client, &peer)?;
    Ok((H::wrap(from_client.add(&from_peer)?), transcript))
}

/// S as P2 of a backup or healing: the same checks on points, and that the opening belongs to its **own** deal.
///
/// # Errors
/// [`Error::WrongSession`] for an opening of another deal, else any of [`Error`]; never a ban.
pub fn verify_opening(reshare: &Reshare, kept: Kept, open: &[u8]) -> Result<Transcript> {
    let dealt: Dealt = kept.open(Step::KeptDeal, &kept_session(reshare))?;
    let reshare = reshare.with_device_key(&dealt.hpke)?;
    let (sid, open) = authentic(&reshare, open, Some(&dealt))?;
    let client = open.client_points.of_half(&reshare.old.client_point())?;
    let peer = open.peer_points.of_own_half(&reshare.old.peer_point())?;
    reshare.accept(sid, &client, &peer)
}

fn authentic(reshare: &Reshare, bytes: &[u8], own_deal: Option<&Dealt>) -> Result<([u8; 32], Open)> {
    reshare.check()?;
    let (claimed, open) = parse_any::<Open>(Step::Open, bytes)?;
    let reshare = reshare.with_device_key(&open.hpke)?;
    let session = Session {
        context: reshare.context()?,
        client_nonce: &open.client_nonce,
        peer_nonce: &open.peer_nonce,
        commitment: &open.commitment,
        peer_points: &open.peer_points,
    };
    let sid = session.sid();
    if claimed != sid {
        return Err(Error::WrongSession);
    }
    reshare.ceremony.device.identity.verify(OPEN_SIGNATURE, &open_parts(&sid, &open), open.signature.as_slice())?;
    let opening = Opening {
        peer_signature: open.peer_signature.as_slice(),
        client_points: &open.client_points,
        salt: &open.salt,
        own_deal,
    };
    let sid = reshare.authentic(&session, &opening)?;
    Ok((sid, open))
}
