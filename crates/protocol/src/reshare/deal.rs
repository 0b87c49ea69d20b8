//! The two dealers: steps 1 to 3 of PROTOCOL.md 4.2.

use halfkey_envelope::{
    entropy::{Entropy, random},
    hpke::{self, SecretKey},
};
use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};

use super::{
    COMMIT_SIGNATURE, Commit, DEAL_SIGNATURE, Deal, HPKE_INFO, OPEN_SIGNATURE, Open, Opening, Points, Reshare, Session,
    Transcript, commitment, open_parts, seal_aad, split, split_points, unseal,
};
use crate::{
    error::{Error, Result},
    field::Scalar,
    half::Half,
    identity::{DeviceKey, Signs},
    pair::Role,
    point::Point,
    wire::{Kept, Step, message, parse, parse_any},
};

/// P1, the device, bound to its split and waiting for P2's deal.
pub struct Dealer {
    reshare: Reshare,
    context: [u8; 32],
    nonce: [u8; 32],
    commitment: [u8; 32],
    salt: [u8; 32],
    split: [Scalar; 2],
    points: [Point; 2],
    hpke: SecretKey,
    hpke_public: [u8; 32],
}

/// P1 after it accepted the deal.
pub struct Opened<H> {
    /// Message 3: for R2, and for S in any case.
    pub message: Vec<u8>,
    /// The device's new half. Store it, read it back, and only then make the ack.
    pub half: H,
    /// What was agreed.
    pub transcript: Transcript,
}

impl Dealer {
    /// Step 1. `hpke` is the device's one-time key for this ceremony: fresh for a backup, in a recovery the one that the
    /// proof of possession named.
    ///
    /// # Errors
    /// [`Error::InvalidContext`], [`Error::WrongSession`] if the context names another one-time key, or
    /// [`Error::ShareMismatch`] if `half` is not the device's half of the record.
    pub fn start(
        reshare: &Reshare,
        half: &impl Half,
        device: &DeviceKey,
        hpke: SecretKey,
        entropy: &mut dyn Entropy,
    ) -> Result<(Self, Vec<u8>)> {
        reshare.check_dealt(Role::Client, half)?;
        if device.public() != reshare.ceremony.device.identity {
            return Err(Error::InvalidContext);
        }
        let hpke_public = *hpke.public_key().as_bytes();
        let reshare = reshare.with_device_key(&hpke_public)?;
        let context = reshare.context()?;
        let split = split(half.scalar(), entropy);
        let (nonce, salt) = (*random::<32>(entropy), *random::<32>(entropy));
        let points = split_points(&split, &reshare.old.client_point())?;
        let commitment = commitment(&context, &Points::of(&points), &salt);
        let signature = device.sign(COMMIT_SIGNATURE, &[&context, &nonce, &commitment]);
        let commit = Commit {
            nonce: nonce.into(),
            commitment: commitment.into(),
            hpke: hpke_public.into(),
            signature: signature.into(),
        };
        let bytes = message(Step::Commit, &context, &commit)?;
        Ok((Self { reshare, context, nonce, commitment, salt, split, points, hpke, hpke_public }, bytes))
    }

    /// Step 3, after all the checks of step 4 on P2's deal.
    ///
    /// # Errors
    /// Any of [`Error`]; never a ban.
    pub fn open<H: Half>(self, deal: &[u8], device: &DeviceKey, entropy: &mut dyn Entropy) -> Result<Opened<H>> {
        if H::KIND != self.reshare.gets(Role::Client) {
            return Err(Error::InvalidContext);
        }
        let deal: Deal = parse(Step::Deal, &self.context, deal)?;
        let client_points = Points::of(&self.points);
        let session = self.session(&deal);
        let opening = Opening {
            peer_signature: deal.signature.as_slice(),
            client_points: &client_points,
            salt: &self.salt,
            own_deal: None,
        };
        let sid = self.reshare.authentic(&session, &opening)?;
        let curve = self.reshare.ceremony.curve;
        let from_peer = unseal(&self.hpke, &sid, Role::Peer, Role::Client, curve, &deal.sealed_client)?;
        let peer = deal.points.of_part(&self.reshare.old.peer_point(), Role::Client, &from_peer)?;
        // Our own points were made from our split, of our half.
        let transcript = self.reshare.accept(sid, &self.points, &peer)?;
        let half = self.split[0].add(&from_peer)?;
        let client_sealed = seal(&self.reshare, &sid, Role::Client, Role::Peer, &self.split[1], entropy)?;
        let open = self.message(deal, client_points, client_sealed, &sid, device);
        Ok(Opened { message: message(Step::Open, &sid, &open)?, half: H::wrap(half), transcript })
    }

    fn session<'a>(&'a self, deal: &'a Deal) -> Session<'a> {
        Session {
            context: self.context,
            client_nonce: &self.nonce,
            peer_nonce: &deal.nonce,
            commitment: &self.commitment,
            peer_points: &deal.points,
        }
    }

    fn message(
        &self,
        deal: Deal,
        client_points: Points,
        client_sealed: Vec<u8>,
        sid: &[u8; 32],
        device: &DeviceKey,
    ) -> Open {
        let mut open = Open {
            client_nonce: self.nonce.into(),
            commitment: self.commitment.into(),
            hpke: self.hpke_public.into(),
            peer_nonce: deal.nonce,
            peer_points: deal.points,
            peer_signature: deal.signature,
            peer_sealed: deal.sealed_peer,
            client_points,
            salt: self.salt.into(),
            client_sealed: client_sealed.into(),
            signature: [0; 64].into(),
        };
        open.signature = device.sign(OPEN_SIGNATURE, &open_parts(sid, &open)).into();
        open
    }
}

/// What P2 remembers of its own deal: public, single use.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct Dealt {
    #[n(0)]
    pub(super) hpke: ByteArray<32>,
    #[n(1)]
    pub(super) sid: ByteArray<32>,
    /// Its own, over the sid.
    #[n(2)]
    pub(super) signature: ByteArray<64>,
}

/// Step 2, by P2: deals after a hiding commitment and nothing else. The sub-shares are dropped in this call; what is
/// kept lets S check, in a backup or healing, that the opening belongs to *this* deal.
///
/// # Errors
/// Any of [`Error`]; never a ban.
pub fn deal(
    reshare: &Reshare,
    half: &impl Half,
    identity: &impl Signs,
    commit: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, Kept)> {
    reshare.check()?;
    reshare.check_dealt(Role::Peer, half)?;
    if identity.public() != reshare.dealer()?.identity {
        return Err(Error::InvalidContext);
    }
    let (claimed, commit) = parse_any::<Commit>(Step::Commit, commit)?;
    let reshare = reshare.with_device_key(&commit.hpke)?;
    let context = reshare.context()?;
    if claimed != context {
        return Err(Error::WrongSession);
    }
    let signed: [&[u8]; 3] = [&context, commit.nonce.as_slice(), commit.commitment.as_slice()];
    reshare.ceremony.device.identity.verify(COMMIT_SIGNATURE, &signed, commit.signature.as_slice())?;

    let split = split(half.scalar(), entropy);
    let points = Points::of(&split_points(&split, &reshare.old.peer_point())?);
    let nonce = *random::<32>(entropy);
    let sid = Session {
        context,
        client_nonce: &commit.nonce,
        peer_nonce: &nonce,
        commitment: &commit.commitment,
        peer_points: &points,
    }
    .sid();
    let deal = Deal {
        nonce: nonce.into(),
        points,
        sealed_client: ByteVec::from(seal(&reshare, &sid, Role::Peer, Role::Client, &split[0], entropy)?),
        sealed_peer: ByteVec::from(seal(&reshare, &sid, Role::Peer, Role::Peer, &split[1], entropy)?),
        signature: identity.sign(DEAL_SIGNATURE, &[&sid]).into(),
    };
    let kept = Dealt { hpke: commit.hpke, sid: sid.into(), signature: deal.signature };
    Ok((message(Step::Deal, &context, &deal)?, Kept::new(Step::KeptDeal, &kept_session(&reshare), &kept)?))
}

/// The kept state is bound to the context without the device's one-time key, which its owner learns only from it.
pub(super) fn kept_session(reshare: &Reshare) -> [u8; 32] {
    let mut ceremony = reshare.ceremony.clone();
    ceremony.device.hpke = None;
    ceremony.hash("halfkey/reshare/v1/kept", &[])
}

fn seal(
    reshare: &Reshare,
    sid: &[u8; 32],
    dealer: Role,
    recipient: Role,
    part: &Scalar,
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>> {
    let key = match recipient {
        Role::Client => reshare.device_key()?,
        Role::Peer => reshare.recipient_key()?,
    };
    hpke::seal_to(&key, HPKE_INFO, &seal_aad(sid, dealer, recipient), part.to_bytes().as_ref(), entropy)
        .map_err(|_| Error::InvalidPoint)
}
