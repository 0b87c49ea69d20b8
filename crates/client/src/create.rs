//! `create_wallet`: key generation on every curve, one half here and one at the server.

use halfkey_api::{
    ceremony::Op,
    chain::Addresses,
    message::{BeginWallets, ClientDetail, Device as EnrolledDevice, EnrolDevice, PendingWallet, WalletsBegun},
    route,
};
use halfkey_envelope::wallet::Curve;
use halfkey_protocol::{DeviceKey, SigningParty, Signs, dkg};

use crate::{
    call::Call,
    ceremony::{self, Session, part, peer},
    device::{self, Device, Share, Underway},
    eject,
    error::{Error, Result},
    host::BlobSlot,
    port::Port,
    progress::Stage,
    resume, status,
};

/// Device key → enrolled → two rounds of key generation → stored, read back, proven → Active → current.
///
/// The device key is in the pending slot before the server hears of it: whatever is lost on the way, the next call goes
/// on with the same device.
pub(crate) async fn create_wallet(port: &Port) -> Result<Addresses> {
    port.begin(5);
    if device::load(port, BlobSlot::Current).await?.is_some_and(|device| !device.shares.is_empty()) {
        return Err(Error::WalletAlreadyExists);
    }
    let client = status::client(port).await?;
    if client.wallets.iter().any(|wallet| wallet.state != "creating") {
        return Err(Error::WalletAlreadyExists);
    }
    let mut device = creating_device(port, &client).await?;
    device.id = Some(enrol(port, &client, &device.key).await?.id);
    device::save(port, BlobSlot::Pending, &device).await?;
    port.part_done();

    let begun: WalletsBegun =
        Call::new(port, "POST", route::WALLETS.to_owned()).signed(&device.key).json(&BeginWallets {})?.fetch().await?;
    if !begun.wallets.iter().map(|wallet| wallet.curve).eq(Curve::ALL) {
        return Err(Error::PeerMisbehaved { what: "wallets" });
    }
    let mut session = Session::new(port, device.client, &device.key, Op::CreateWallet, *device.client.as_bytes());
    let (parties, verifier_nonce) = generate(port, &device, &begun, &mut session).await?;

    port.stage(Stage::StoringShare, None).await?;
    let shares = begun.wallets.iter().zip(&parties);
    let shares =
        shares.map(|(wallet, party)| Share::new(wallet.curve, wallet.id, wallet.pair_id, wallet.generation, party));
    let stored = Device {
        shares: shares.collect::<Result<_>>()?,
        key: DeviceKey::from_bytes(&device.key.to_bytes()),
        id: device.id,
        one_time: None,
        client: device.client,
        backups: Vec::new(),
        underway: Some(Underway::Create),
        ahead: None,
        passkeys: Vec::new(),
        evidence: None,
        clouds: Vec::new(),
    };
    device::save(port, BlobSlot::Pending, &stored).await?;
    let mut stored = device::load(port, BlobSlot::Pending).await?.ok_or(Error::Internal)?;
    let mut proofs = Vec::new();
    for wallet in &begun.wallets {
        let party = stored.share(wallet.curve)?.party()?;
        let proof = ceremony::prove_stored(
            port,
            stored.client,
            &stored.key,
            &begun.nonce.0,
            wallet.pair_id,
            &party,
            &verifier_nonce,
        )?;
        proofs.push((wallet.curve, proof));
    }
    port.part_done();
    let answer = session.step(3, None, proofs).await?;
    stored.ahead = ceremony::ahead(stored.share(Curve::Secp256k1)?.pair, &answer);
    let addresses = status::addresses_of(port, &stored)?;
    device::promote(port, stored).await?;
    port.all_done().await?;
    Ok(addresses)
}

/// The device of an earlier attempt, or a new one; either is stored.
async fn creating_device(port: &Port, client: &ClientDetail) -> Result<Device> {
    if let Some(pending) = device::load(port, BlobSlot::Pending).await?
        && pending.underway == Some(Underway::Create)
        && pending.client == client.id
    {
        return Ok(pending);
    }
    eject::must_not_be_underway(port).await?;
    resume::settle(port, client).await?;
    let device = Device::new(client.id, DeviceKey::generate(&mut port.entropy()), Underway::Create);
    device::save(port, BlobSlot::Pending, &device).await?;
    Ok(device)
}

/// Enrols the client's first device, unless it is enrolled.
async fn enrol(port: &Port, client: &ClientDetail, key: &DeviceKey) -> Result<EnrolledDevice> {
    let public_key = key.public().to_bytes();
    if let Some(known) = client.devices.iter().find(|device| device.public_key.0 == public_key) {
        return if known.revoked_at.is_some() { Err(Error::DeviceRevoked) } else { Ok(known.clone()) };
    }
    let device = enrolment(port, key);
    Call::new(port, "POST", route::DEVICES.to_owned()).signed(key).json(&device)?.fetch().await
}

/// How this device calls itself.
pub(crate) fn enrolment(port: &Port, key: &DeviceKey) -> EnrolDevice {
    EnrolDevice {
        public_key: halfkey_api::bytes::Hex(key.public().to_bytes()),
        platform: port.setting.platform.platform.name().to_owned(),
        name: port.setting.device_name.clone(),
    }
}

/// Both rounds on every curve; the parties in the order of the curves, and the server's nonce for what follows.
async fn generate(
    port: &Port,
    device: &Device,
    begun: &WalletsBegun,
    session: &mut Session<'_>,
) -> Result<(Vec<SigningParty>, [u8; 32])> {
    let mut first = Vec::new();
    let mut requests = Vec::new();
    for wallet in &begun.wallets {
        port.stage(Stage::GeneratingShare, Some(wallet.curve)).await?;
        let context = dkg_context(port, device, begun, wallet);
        let (state, request) = dkg::Client::start(&context, &mut port.entropy()).map_err(peer)?;
        first.push(state);
        requests.push((wallet.curve, request));
    }
    let answer = session.step(1, None, requests).await?;
    port.part_done();
    let mut second = Vec::new();
    let mut requests = Vec::new();
    for (wallet, state) in begun.wallets.iter().zip(first) {
        port.stage(Stage::GeneratingShare, Some(wallet.curve)).await?;
        let (state, request) = state.next(part(&answer, wallet.curve)?).map_err(peer)?;
        second.push(state);
        requests.push((wallet.curve, request));
    }
    let answer = session.step(2, None, requests).await?;
    port.part_done();
    let finish =
        |(wallet, state): (&PendingWallet, dkg::ClientSecond)| state.finish(part(&answer, wallet.curve)?).map_err(peer);
    let parties = begun.wallets.iter().zip(second).map(finish).collect::<Result<Vec<_>>>()?;
    Ok((parties, ceremony::nonce(&answer)?))
}

fn dkg_context(
    port: &Port,
    device: &Device,
    begun: &WalletsBegun,
    wallet: &PendingWallet,
) -> halfkey_protocol::Ceremony {
    let op = halfkey_protocol::Op::Create;
    let mut context = ceremony::context(port, op, device.client, &device.key, wallet.curve, wallet.id);
    context.new_pair = Some(wallet.pair_id);
    context.generation = wallet.generation;
    context.server_nonce = begun.nonce.0;
    context
}
