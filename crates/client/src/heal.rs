//! `heal_wallet`: a new pair in the place of a banned one, once the operator has reviewed the ban (PROTOCOL.md 4.9).

use halfkey_api::{
    ceremony::Op,
    message::{ClientDetail, HealBegun, ReportBan},
    route::{self, path},
};
use halfkey_envelope::{hpke::SecretKey, id::PairId, wallet::Curve};
use halfkey_protocol::DeviceKey;

use crate::{
    call::Call,
    ceremony::{Renewal, Session},
    command::Resumed,
    device::{self, Device, Share, Underway},
    eject,
    error::{Error, Result, StorageReason},
    port::Port,
    progress::Stage,
    renew::{self, Deal},
    resume, status,
};

/// Every banned share of this device gets a successor. The wallet's keys and addresses stay the same.
pub(crate) async fn heal_wallet(port: &Port) -> Result<Vec<Curve>> {
    eject::must_not_be_underway(port).await?;
    let left = resume::resume(port).await?;
    if matches!(left, Resumed::RecoveryOpen { .. }) {
        return Err(Error::OperationInProgress);
    }
    let mut healed = match left {
        Resumed::Healed(curve) => vec![curve],
        _ => Vec::new(),
    };
    let device = device::current(port).await?;
    let client = status::client(port).await?;
    if client.id != device.client {
        return Err(Error::Storage(StorageReason::OtherOwner));
    }
    for share in &device.shares {
        if is_banned(port, &device, share, &client).await? {
            port.begin(5);
            heal_one(port, &device, share).await?;
            healed.push(share.curve);
        }
    }
    if healed.is_empty() {
        return Err(Error::NotBanned);
    }
    port.all_done().await?;
    Ok(healed)
}

/// Here or there. What only this device knows the server is told: the operator reviews what the server has.
async fn is_banned(port: &Port, device: &Device, share: &Share, client: &ClientDetail) -> Result<bool> {
    let pairs = client.wallets.iter().flat_map(|wallet| &wallet.signing_share_pairs);
    let state = pairs.into_iter().find(|pair| pair.id == share.pair).map(|pair| pair.state.as_str());
    match state {
        Some("banned") => Ok(true),
        Some("active") if share.banned => report(port, &device.key, share.pair, "PEER_CHEATED").await.map(|()| true),
        _ => Ok(false),
    }
}

/// Tells the server that it cheated with this pair.
pub(crate) async fn report(port: &Port, key: &DeviceKey, pair: PairId, reason: &str) -> Result<()> {
    let path = path(route::SIGNING_PAIR_BAN, &[&pair.to_string()]);
    let body = ReportBan { reason: reason.to_owned() };
    Call::new(port, "POST", path).signed(key).json(&body)?.send().await.map(|_| ())
}

/// One curve: begun at the server, the ceremony, and the new share in the place of the banned one.
pub(crate) async fn heal_one(port: &Port, device: &Device, share: &Share) -> Result<()> {
    port.stage(Stage::ReadingShare, Some(share.curve)).await?;
    let party = share.party()?;
    let path = path(route::SIGNING_PAIR_HEAL, &[&share.pair.to_string()]);
    let begun: HealBegun = Call::new(port, "POST", path).signed(&device.key).fetch().await?;
    let fits = begun.from_pair_id == share.pair
        && begun.curve == share.curve
        && begun.wallet_id == share.wallet
        && begun.generation > share.generation;
    if !fits {
        return Err(Error::PeerMisbehaved { what: "PAIRS" });
    }
    port.part_done();

    let op = halfkey_protocol::Op::Heal;
    let renewal =
        Renewal { from: share.pair, to: begun.pair_id, generation: begun.generation, server_nonce: begun.nonce.0 };
    let context = renewal.context(port, op, device, share.curve, share.wallet);
    let one_time = SecretKey::generate(&mut port.entropy());
    let deal = Deal { context, old: *party.public(), half: party.share(), one_time };
    let mut healing = device.with_shares(Vec::new());
    healing.underway = Some(Underway::Heal(begun.pair_id));
    let session = Session::new(port, device.client, &device.key, Op::Heal, *begun.pair_id.as_bytes());
    let healed = renew::run(port, &healing, session, &begun.nonce.0, vec![deal]).await?;
    device::adopt(port, healed, begun.pair_id).await?;
    port.part_done();
    Ok(())
}
