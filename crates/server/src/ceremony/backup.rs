//! `reshare` (C, S) → (C, K) on every curve (PROTOCOL.md 4.2): S deals, K receives; neither sees the other's halves.

use halfkey_envelope::{
    cbor,
    entropy::OsEntropy,
    id::{BackupId, PairId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, CustodianBackupShare, Kept, Op, Role,
    reshare::{self, Claim, Reshare, Transcript},
};
use minicbor::{Decode, Encode, bytes::ByteVec};

use super::{Reply, Turn, mismatch, nonce};
use crate::{
    app::Inner,
    backup,
    custodian::{self, Received},
    fault::Fault,
    signer::{self, Opened},
    store::{Backup, Device, HalfUse},
};

/// What is kept between the steps; one entry per curve.
#[derive(Encode, Decode)]
#[cbor(map)]
struct State {
    /// The signing pairs that deal.
    #[n(0)]
    from: Vec<PairId>,
    /// What `protocol` keeps.
    #[n(1)]
    kept: Vec<ByteVec>,
}

/// One curve, ready for its step.
struct Dealing {
    reshare: Reshare,
    dealer: Opened,
}

/// Step 1: the device has committed; S deals.
pub(super) async fn deal(turn: Turn) -> Result<Reply, Fault> {
    let parts = turn.parts()?;
    let dealings = dealings(&turn).await?;
    let from = dealings.iter().map(|dealing| dealing.dealer.stored.share.id).collect();
    let (app, place) = (turn.app.clone(), turn.app.quick.admit().await?);
    let steps = place.run(move || {
        let identity = &app.keys.server.identity;
        let deal = |(dealing, part): (&Dealing, &Vec<u8>)| {
            reshare::deal(&dealing.reshare, dealing.dealer.party.share(), identity, part, &mut OsEntropy)
        };
        dealings.iter().zip(&parts).map(deal).collect::<Result<Vec<_>, _>>()
    });
    let (answers, kept): (Vec<_>, Vec<Kept>) = steps.await??.into_iter().unzip();
    let state = State { from, kept: kept.iter().map(|kept| kept.as_bytes().to_vec().into()).collect() };
    let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
    Ok(Reply::new(Curve::ALL.into_iter().zip(answers)).then(next))
}

/// Step 2: S checks the opening against its own deal; K checks everything, stores its halves, reads them back and
/// acknowledges; S verifies that.
pub(super) async fn receive(turn: Turn) -> Result<Reply, Fault> {
    let (parts, device_nonce) = (turn.parts()?, turn.device_nonce()?);
    let dealings = dealings(&turn).await?;
    let place = turn.app.quick.admit().await?;
    let state: State = cbor::from_slice(&turn.take().await?).map_err(|error| Fault::internal(&error))?;
    let dealers = dealings.iter().map(|dealing| dealing.dealer.stored.share.id);
    if !dealers.eq(state.from.iter().copied()) || state.kept.len() != dealings.len() {
        return Err(mismatch());
    }
    let (app, reshares) = (turn.app.clone(), dealings.into_iter().map(|dealing| dealing.reshare).collect::<Vec<_>>());
    let steps = place.run(move || {
        let kept = state.kept.into_iter().map(|kept| Kept::from_bytes(kept.into()));
        let steps = reshares.into_iter().zip(kept).zip(&parts);
        steps.map(|((reshare, kept), part)| receive_one(&app, reshare, kept, part)).collect::<Result<Vec<_>, _>>()
    });
    let (reshares, received): (Vec<_>, Vec<_>) = steps.await??.into_iter().unzip();
    let (app, client, now_ms) = (&turn.app, turn.caller.client, turn.caller.now_ms);
    let id = BackupId::from_bytes(turn.subject());
    custodian::store(app, client, turn.device.id, id, &received, now_ms).await?;
    let recorded: Vec<Recorded> = reshares.into_iter().zip(&received).map(Recorded::new).collect();
    let acks = custodian::acks(app, client, id, &recorded, &device_nonce, now_ms).await?;
    for (recorded, ack) in recorded.iter().zip(&acks) {
        let claim = Claim { role: Role::Peer, envelope: None, nonce: &device_nonce };
        reshare::verify_ack(&recorded.reshare, &recorded.transcript, &claim, ack)
            .map_err(|error| Fault::internal(&error))?;
    }
    Ok(Reply::new(Curve::ALL.into_iter().zip(acks)))
}

fn receive_one(
    app: &Inner,
    reshare: Reshare,
    kept: Kept,
    part: &[u8],
) -> Result<(Reshare, Received), halfkey_protocol::Error> {
    let witnessed = reshare::verify_opening(&reshare, kept, part)?;
    let (half, transcript) = reshare::receive::<CustodianBackupShare>(&reshare, &app.keys.custodian.hpke, part)?;
    if witnessed != transcript {
        return Err(halfkey_protocol::Error::Internal);
    }
    let pair = reshare.ceremony.new_pair.ok_or(halfkey_protocol::Error::InvalidContext)?;
    Ok((reshare, Received { pair, half, transcript }))
}

/// The context of every curve, from our own records: the pending backup of this device and its active signing pairs.
async fn dealings(turn: &Turn) -> Result<Vec<Dealing>, Fault> {
    let (app, client, device) = (&turn.app, turn.caller.client, &turn.device);
    let id = BackupId::from_bytes(turn.subject());
    let backup = backup::must_be_pending_of(app, &turn.caller, device, id).await?;
    let server_nonce = nonce::of_backup(app, client, &device.public_key, id);
    let mut dealings = Vec::new();
    for share in &backup.shares {
        let from = app.store.active_signing_pair(client, share.wallet, device.id).await?;
        let dealer = signer::open(app, turn.caller.now_ms, client, device.id, from.share.id, HalfUse::Deal).await?;
        let base = turn.ceremony(Op::Backup, share.curve, share.wallet)?;
        let ceremony = Ceremony {
            old_pair: Some(from.share.id),
            new_pair: Some(share.id),
            generation: backup.pair.generation,
            server_nonce,
            custodian: Some(app.keys.custodian.public()),
            ..base
        };
        dealings.push(Dealing { reshare: Reshare { ceremony, old: *dealer.party.public() }, dealer });
    }
    if dealings.iter().map(|dealing| dealing.reshare.ceremony.curve).eq(Curve::ALL) {
        Ok(dealings)
    } else {
        Err(mismatch())
    }
}

/// One curve of a backup whose ceremony has ended: what acknowledgements are verified against.
pub(crate) struct Recorded {
    pub(crate) reshare: Reshare,
    pub(crate) transcript: Transcript,
}

impl Recorded {
    fn new((reshare, received): (Reshare, &Received)) -> Self {
        Self { reshare, transcript: received.transcript }
    }

    /// From the store, for the commit. An acknowledgement is bound to the session, the new pair and the identities of
    /// device and custodian; of the dealt pair nothing is needed any more.
    pub(crate) async fn load(
        app: &Inner,
        turn: &crate::http::auth::AsClient,
        device: &Device,
        backup: &Backup,
    ) -> Result<Vec<Self>, Fault> {
        let halves = custodian::open(app, turn.client, backup.id, HalfUse::ReadBack, turn.now_ms).await?;
        let load = |(half, share): (&custodian::Opened, &crate::store::Share)| {
            let ceremony = Ceremony {
                op: Op::Backup,
                deployment: app.deployment,
                client: turn.client,
                wallet: share.wallet,
                curve: share.curve,
                old_pair: None,
                new_pair: Some(share.id),
                generation: half.generation,
                server_nonce: [0; 32],
                device: super::device_keys(device)?,
                server: app.keys.server.public(),
                custodian: Some(app.keys.custodian.public()),
            };
            Ok(Self { reshare: Reshare { ceremony, old: *half.transcript.pair() }, transcript: half.transcript })
        };
        halves.iter().zip(&backup.shares).map(load).collect()
    }
}
