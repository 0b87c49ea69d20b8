//! A new signing share out of an old half: reshare, fresh oblivious-transfer state, stored, and a test signature from
//! the copy read back (PROTOCOL.md 4.2 and 4.3). A recovery deals the opened backup, a healing the banned share.

use halfkey_api::ceremony::{RecoverFinish, RecoverOpen};
use halfkey_envelope::{cbor, hpke::SecretKey, id::PairId, wallet::Curve};
use halfkey_protocol::{
    Ceremony, DerivationPath, Half, PairPublic, Role, SigningParty, SigningShare, rekey,
    reshare::{Dealer, Opened, Reshare},
    sign::{self, ClientStep, Message},
};
use minicbor::bytes::ByteVec;

use crate::{
    ceremony::{self, Session, part, peer},
    device::{self, Ahead, Device, Share},
    error::{Error, Result, StorageReason},
    host::BlobSlot,
    port::Port,
    progress::Stage,
};

/// What this device deals on one curve.
pub(crate) struct Deal<'a, H> {
    /// With both pairs, generation and n_S.
    pub(crate) context: Ceremony,
    /// The pair that is dealt.
    pub(crate) old: PairPublic,
    /// This device's half of it.
    pub(crate) half: &'a H,
    /// The device's HPKE key for this ceremony.
    pub(crate) one_time: SecretKey,
}

/// One curve on its way to the new signing pair.
struct Curving {
    context: Ceremony,
    pair: PairId,
    sid: [u8; 32],
    party: Option<SigningParty>,
    opening: Vec<u8>,
}

impl Curving {
    const fn curve(&self) -> Curve {
        self.context.curve
    }
}

/// The ceremony: five steps, the shares stored in the pending slot after the third, the server's commit in the fifth.
/// Returns the device as it is stored there.
pub(crate) async fn run<H: Half>(
    port: &Port,
    device: &Device,
    mut session: Session<'_>,
    nonce: &[u8; 32],
    deals: Vec<Deal<'_, H>>,
) -> Result<Device> {
    let mut curves = deal(port, device, deals, &mut session).await?;
    port.part_done();
    refresh(port, &mut curves, &mut session).await?;
    port.part_done();

    port.stage(Stage::StoringShare, None).await?;
    let mut stored = store(port, device, &curves).await?;
    port.part_done();
    match check(port, &stored, &curves, nonce, &mut session).await {
        Ok(ahead) => {
            stored.ahead = ahead;
            Ok(stored)
        }
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Cheated(pair)) => {
            // Whatever becomes of the share, it signs nothing here.
            stored.ban(pair);
            device::save(port, BlobSlot::Pending, &stored).await?;
            Err(Error::PeerMisbehaved { what: "PEER_CHEATED" })
        }
    }
}

/// Step 1 and the openings of step 2.
async fn deal<H: Half>(
    port: &Port,
    device: &Device,
    deals: Vec<Deal<'_, H>>,
    session: &mut Session<'_>,
) -> Result<Vec<Curving>> {
    let (mut dealers, mut commitments) = (Vec::new(), Vec::new());
    for Deal { context, old, half, one_time } in deals {
        port.stage(Stage::GeneratingShare, Some(context.curve)).await?;
        let reshare = Reshare { ceremony: context.clone(), old };
        let started = Dealer::start(&reshare, half, &device.key, one_time, &mut port.entropy());
        let (dealer, commitment) = started.map_err(peer)?;
        commitments.push((context.curve, commitment));
        dealers.push((context, dealer));
    }
    let answer = session.step(1, None, commitments).await?;
    let mut curves = Vec::new();
    for (context, dealer) in dealers {
        let deal = part(&answer, context.curve)?;
        let dealt: Opened<SigningShare> = dealer.open(deal, &device.key, &mut port.entropy()).map_err(peer)?;
        let (sid, public) = (*dealt.transcript.sid(), *dealt.transcript.pair());
        let party = SigningParty::hollow(Role::Client, dealt.half, public).map_err(peer)?;
        let pair = context.new_pair.ok_or(Error::Internal)?;
        curves.push(Curving { context, pair, sid, party: Some(party), opening: dealt.message });
    }
    Ok(curves)
}

/// Steps 2 and 3: the openings, and fresh oblivious-transfer state for secp256k1.
async fn refresh(port: &Port, curves: &mut [Curving], session: &mut Session<'_>) -> Result<()> {
    let (mut refreshing, mut openings) = (None, Vec::new());
    for curving in &mut *curves {
        let mut first = None;
        if let (Curve::Secp256k1, Some(party)) = (curving.curve(), &curving.party) {
            let (state, request) = rekey::Client::start(&curving.sid, party, &mut port.entropy()).map_err(peer)?;
            refreshing = Some(state);
            first = Some(ByteVec::from(request));
        }
        let open = RecoverOpen { opening: std::mem::take(&mut curving.opening).into(), refresh: first };
        openings.push((curving.curve(), cbor::to_vec(&open)));
    }
    let answer = session.step(2, None, openings).await?;
    let Some(state) = refreshing else { return session.step(3, None, Vec::new()).await.map(|_| ()) };
    let (state, request) = state.next(part(&answer, Curve::Secp256k1)?).map_err(peer)?;
    let answer = session.step(3, None, vec![(Curve::Secp256k1, request)]).await?;
    let party = state.finish(part(&answer, Curve::Secp256k1)?).map_err(peer)?;
    let curving = curves.iter_mut().find(|curving| curving.curve() == Curve::Secp256k1).ok_or(Error::Internal)?;
    curving.party = Some(party);
    Ok(())
}

/// The new shares into the pending slot, and back: what follows is done with the copy that was read.
async fn store(port: &Port, device: &Device, curves: &[Curving]) -> Result<Device> {
    let share = |curving: &Curving| {
        let party = curving.party.as_ref().ok_or(Error::Internal)?;
        let Ceremony { curve, wallet, generation, .. } = curving.context;
        Share::new(curve, wallet, curving.pair, generation, party)
    };
    let shares = curves.iter().map(share).collect::<Result<Vec<_>>>()?;
    device::save(port, BlobSlot::Pending, &device.with_shares(shares)).await?;
    device::load(port, BlobSlot::Pending).await?.ok_or(Error::Storage(StorageReason::Damaged))
}

/// A cheat is told apart: it must be on disk before anybody hears of it (PROTOCOL.md 4.9).
enum Failure {
    Cheated(PairId),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

fn failed(pair: PairId) -> impl Fn(halfkey_protocol::Error) -> Failure {
    move |error| if error.is_ban() { Failure::Cheated(pair) } else { Failure::Other(peer(error)) }
}

/// Steps 4 and 5: a test signature on every curve from the stored shares, and the proofs of them. The last answer opens
/// the session of the first signature.
async fn check(
    port: &Port,
    stored: &Device,
    curves: &[Curving],
    nonce: &[u8; 32],
    session: &mut Session<'_>,
) -> core::result::Result<Option<Ahead>, Failure> {
    let (mut signing, mut requests) = (Vec::new(), Vec::new());
    for curving in curves {
        let curve = curving.curve();
        port.stage(Stage::Signing, Some(curve)).await?;
        let party = stored.share(curve)?.party()?;
        let message = Message::recovery_check(curve, &curving.sid);
        let path = DerivationPath::root();
        let started = sign::Client::start(&curving.context, &party, &message, &path, &mut port.entropy());
        let (client, request) = started.map_err(failed(curving.pair))?;
        requests.push((curve, request));
        signing.push((curving, party, client));
    }
    let answer = session.step(4, None, requests).await?;
    let verifier_nonce = ceremony::nonce(&answer)?;
    let (mut last, mut requests) = (None, Vec::new());
    for (curving, party, client) in signing {
        let curve = curving.curve();
        let message = match client.next(part(&answer, curve)?).map_err(failed(curving.pair))? {
            ClientStep::Done(_) => None,
            ClientStep::Send { request, state } => {
                last = Some((curving, state));
                Some(ByteVec::from(request))
            }
        };
        let (client, key, pair) = (stored.client, &stored.key, curving.pair);
        let proof = ceremony::prove_stored(port, client, key, nonce, pair, &party, &verifier_nonce)?;
        requests.push((curve, cbor::to_vec(&RecoverFinish { message, proof: proof.into() })));
    }
    let answer = session.step(5, None, requests).await?;
    let Some((curving, last)) = last else { return Ok(None) };
    last.finish(part(&answer, curving.curve())?).map_err(failed(curving.pair))?;
    Ok(ceremony::ahead(curving.pair, &answer))
}
