//! `eject_private_keys`: a recovery inside the custodian's window whose end is the private keys themselves (METHODS.md G,
//! PROTOCOL.md 4.1 and 4.8).
//!
//! The device key and the one-time key are in the pending slot before the server hears of them. Whatever is lost on the
//! way, the same call proves possession again under the same one-time key, and gets the same halves.

use core::fmt;
use std::sync::Arc;

use halfkey_api::{
    bytes::Hex,
    chain::{
        Addresses, Ed25519Key, PublicKey,
        bitcoin::{self, Network},
    },
    context::{EJECTED_HALF, ejected_half, ejection},
    message::{
        BeginRecovery, CipherText, EjectReleased, OldDevices, ProvePossession, Recovery, RecoveryPurpose, RecoveryState,
    },
    route::{self, path},
    signing::{self, Capabilities, Payload, Signature, Signed},
};
use halfkey_envelope::{
    entropy::Entropy,
    hpke,
    id::{ClientId, RecoveryId},
    wallet::{Curve, Method},
};
use halfkey_protocol::{
    CustodianBackupShare, Half, Signs,
    half::{danger_combine, danger_scalar_point, danger_sign_with_scalar},
    proof::Purpose,
};
use zeroize::Zeroizing;

use crate::{
    call::Call,
    command::{Ejecting, RecoveryMethod, Resumed},
    create,
    device::{self, Device, Underway},
    error::{Error, Result},
    host::BlobSlot,
    opening::Opened,
    port::Port,
    progress::Stage,
    recover::{self, Unlocked, identify, is_over, must_be_own, must_fit, one_time, server_nonce},
    resume::{self as left_over, is_gone},
    status,
};

/// An ejected secp256k1 private key. Wiped on drop; never shown unless asked for by name.
pub struct Secp256k1PrivateKey(Zeroizing<[u8; 32]>);

impl Secp256k1PrivateKey {
    /// As Ethereum wallets import it: `0x` and 64 hex digits.
    #[must_use]
    pub fn ethereum_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(66));
        text.push_str("0x");
        push_hex(&mut text, &self.0);
        text
    }

    /// As Bitcoin wallets import it: WIF for the compressed public key.
    #[must_use]
    pub fn bitcoin_wif(&self, network: Network) -> Zeroizing<String> {
        bitcoin::wif(&self.0, network)
    }
}

/// An ejected Ed25519 private key: a **scalar, not a seed**. No seed of it exists anywhere, and most wallets import seeds
/// only. Sign a transfer of everything to a new address with it ([`Ed25519Scalar::sweep`]), or import it where scalars are
/// taken. Wiped on drop.
pub struct Ed25519Scalar(Zeroizing<[u8; 32]>);

impl Ed25519Scalar {
    /// From its 64 hex digits, little-endian.
    ///
    /// # Errors
    /// [`Error::InvalidPayload`] unless they are a canonical scalar that is not zero.
    pub fn from_hex(text: &str) -> Result<Self> {
        let mut scalar = Zeroizing::new([0u8; 32]);
        hex::decode_to_slice(text, scalar.as_mut()).map_err(|_| Error::InvalidPayload)?;
        danger_scalar_point(Curve::Ed25519, &scalar).map_err(|_| Error::InvalidPayload)?;
        Ok(Self(scalar))
    }

    /// 64 hex digits, little-endian (RFC 8032).
    #[must_use]
    pub fn hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        push_hex(&mut text, &self.0);
        text
    }

    /// Signs one Solana message that this key has to sign, and assembles the transaction. An ordinary signature of RFC
    /// 8032, with a random prefix in the place of the one that a seed would give (PROTOCOL.md 4.8).
    ///
    /// # Errors
    /// [`Error::InvalidPayload`] if it is no Solana message, or this key is none of its signers.
    pub fn sweep(&self, message: Vec<u8>, entropy: &mut dyn Entropy) -> Result<Signed> {
        let point = danger_scalar_point(Curve::Ed25519, &self.0).map_err(|_| Error::InvalidPayload)?;
        let key = Ed25519Key::parse(&point.to_bytes()).map_err(|_| Error::InvalidPayload)?;
        let (payload, signer) = (Payload::SolanaMessage(message), PublicKey::Ed25519(key));
        let decoded = signing::decode(&payload, &signer, Capabilities::default()).map_err(|_| Error::InvalidPayload)?;
        let signature =
            danger_sign_with_scalar(&self.0, decoded.bytes(), entropy).map_err(|_| Error::InvalidPayload)?;
        signing::finish(&payload, &signer, Capabilities::default(), &Signature::Ed25519(signature))
            .map_err(|_| Error::Internal)
    }
}

fn push_hex(text: &mut String, bytes: &[u8; 32]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// The private keys of an ejected wallet, each compared with the wallet's public key.
pub struct PrivateKeys {
    /// Ethereum and Bitcoin.
    pub secp256k1: Secp256k1PrivateKey,
    /// Solana.
    pub ed25519: Ed25519Scalar,
    /// The wallet's addresses.
    pub addresses: Addresses,
    /// The Bitcoin network whose address is shown.
    pub network: Network,
    /// The eject; `None` out of an exit kit.
    pub eject_id: Option<RecoveryId>,
}

impl PrivateKeys {
    pub(crate) fn new(
        secp256k1: Zeroizing<[u8; 32]>,
        ed25519: Zeroizing<[u8; 32]>,
        addresses: Addresses,
        network: Network,
        eject_id: Option<RecoveryId>,
    ) -> Self {
        let (secp256k1, ed25519) = (Secp256k1PrivateKey(secp256k1), Ed25519Scalar(ed25519));
        Self { secp256k1, ed25519, addresses, network, eject_id }
    }
}

impl fmt::Debug for PrivateKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeys")
    }
}

impl PartialEq for PrivateKeys {
    /// One address has one key.
    fn eq(&self, other: &Self) -> bool {
        self.addresses == other.addresses
    }
}

/// Begins an eject, goes on with this device's own one, or repeats it.
pub(crate) async fn eject_private_keys(
    port: &Port,
    method: RecoveryMethod,
    expected: Option<Addresses>,
) -> Result<Ejecting> {
    port.setting.platform.check(&method.method())?;
    port.begin(4);
    let detail = status::client(port).await?;
    let current = must_be_own(device::load_readable(port, BlobSlot::Current).await?, detail.id)?;
    let (device, eject) = match open_eject(port, detail.id, &method.method()).await? {
        Some(open) => open,
        None => {
            must_not_be_underway(port).await?;
            left_over::settle(port, &detail).await?;
            begin(port, detail.id, current, &method.method()).await?
        }
    };
    match eject.state {
        RecoveryState::Ready | RecoveryState::Executing | RecoveryState::Completed => {
            execute(port, &device, &eject, &method, expected).await.map(|keys| Ejecting::Keys(Arc::new(keys)))
        }
        RecoveryState::Waiting => {
            Ok(Ejecting::Waiting { eject_id: eject.id, until: eject.waiting_until.unwrap_or(eject.expires_at) })
        }
        RecoveryState::StepUpRequired => {
            let (eject_id, step_up) = (eject.id, recover::step_up(eject)?);
            Ok(Ejecting::StepUpRequired { eject_id, step_up })
        }
        RecoveryState::Requested => Ok(Ejecting::Undecided { eject_id: eject.id }),
        RecoveryState::Denied | RecoveryState::Cancelled | RecoveryState::Expired => {
            Err(recover::given_up(port, eject.state).await?)
        }
    }
}

/// The owner has the keys. The pending slot stays: for 30 days the same device may ask for them again.
pub(crate) async fn acknowledge(port: &Port) -> Result<()> {
    let pending = device::load(port, BlobSlot::Pending).await?.ok_or(Error::RecoveryOver)?;
    let Some(Underway::Eject(Some(id), _)) = pending.underway else { return Err(Error::RecoveryOver) };
    let path = path(route::RECOVERY_EJECT_ACKNOWLEDGE, &[&id.to_string()]);
    let done: Recovery = Call::new(port, "POST", path).signed(&pending.key).fetch().await?;
    let ejected = done.id == id && done.state == RecoveryState::Completed;
    if ejected { Ok(()) } else { Err(Error::PeerMisbehaved { what: "EJECT" }) }
}

/// Before other work takes the pending slot: the one-time key of an eject whose halves may have left stays.
pub(crate) async fn must_not_be_underway(port: &Port) -> Result<()> {
    let Some(pending) = device::load_readable(port, BlobSlot::Pending).await? else { return Ok(()) };
    let Some(Underway::Eject(Some(id), _)) = pending.underway else { return Ok(()) };
    match recover::read(port, &pending, id).await {
        Ok(eject) if eject.state == RecoveryState::Executing => Err(Error::Ejecting),
        Ok(eject) if eject.state == RecoveryState::Completed => Err(Error::Ejected),
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a crash left of an eject. Nothing is given up that the server still knows.
pub(crate) async fn resume(port: &Port, pending: Device, id: Option<RecoveryId>) -> Result<Resumed> {
    // Without an id the next `eject_private_keys` asks again with the same key.
    let Some(id) = id else { return Ok(Resumed::Nothing) };
    left_over::must_be_of(&status::client(port).await?, &pending)?;
    let eject = match recover::read(port, &pending, id).await {
        Ok(eject) if !is_over(eject.state) => eject,
        Ok(_) => return discard(port).await,
        Err(error) if is_gone(&error) => return discard(port).await,
        Err(error) => return Err(error),
    };
    if eject.state == RecoveryState::Completed {
        return Ok(Resumed::Nothing);
    }
    let until = eject.waiting_until.filter(|_| eject.state == RecoveryState::Waiting);
    Ok(Resumed::EjectOpen { eject_id: eject.id, method: eject.method, until })
}

async fn discard(port: &Port) -> Result<Resumed> {
    port.delete_blob(BlobSlot::Pending).await?;
    Ok(Resumed::EjectDiscarded)
}

/// This device's eject by that method, if the server still has it open or knows it acknowledged.
async fn open_eject(port: &Port, client: ClientId, method: &Method) -> Result<Option<(Device, Recovery)>> {
    let Some(mut device) = device::load_readable(port, BlobSlot::Pending).await? else { return Ok(None) };
    let Some(Underway::Eject(id, by)) = device.underway.clone() else { return Ok(None) };
    if device.client != client || by != *method {
        return Ok(None);
    }
    let Some(id) = id else {
        let eject = ask(port, &mut device, method).await?;
        return Ok(Some((device, eject)));
    };
    match recover::read(port, &device, id).await {
        Ok(eject) if is_over(eject.state) => Ok(None),
        Ok(eject) => Ok(Some((device, eject))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The new device, and then the request.
async fn begin(port: &Port, client: ClientId, current: Option<Device>, method: &Method) -> Result<(Device, Recovery)> {
    let underway = Underway::Eject(None, method.clone());
    let mut device = recover::new_device(port, client, current, underway).await?;
    let eject = ask(port, &mut device, method).await?;
    Ok((device, eject))
}

async fn ask(port: &Port, device: &mut Device, method: &Method) -> Result<Recovery> {
    let body = BeginRecovery {
        method: method.clone(),
        new_device: create::enrolment(port, &device.key),
        old_devices: OldDevices::Keep,
        purpose: RecoveryPurpose::Eject,
    };
    let call = Call::new(port, "POST", route::RECOVERIES.to_owned()).signed(&device.key);
    let eject: Recovery = call.json(&body)?.fetch().await?;
    if eject.purpose != RecoveryPurpose::Eject {
        return Err(Error::PeerMisbehaved { what: "EJECT" });
    }
    device.underway = Some(Underway::Eject(Some(eject.id), method.clone()));
    device::save(port, BlobSlot::Pending, device).await?;
    Ok(eject)
}

/// The method opens, possession is proven, the custodian's halves come sealed, and both are put together.
async fn execute(
    port: &Port,
    device: &Device,
    eject: &Recovery,
    method: &RecoveryMethod,
    expected: Option<Addresses>,
) -> Result<PrivateKeys> {
    let Unlocked { expected, stored, opened, .. } = recover::unlock(port, device, eject, method, expected).await?;

    port.stage(Stage::ParsingShare, None).await?;
    opened.refuse_rollback(device)?;
    must_fit(eject, &opened)?;
    let addresses = recover::addresses(port, &opened)?;
    identify(&addresses, expected)?;
    let released = prove(port, device, eject, &opened, &stored).await?;
    port.part_done();
    let secp256k1 = combine(port, device, &opened, &released, Curve::Secp256k1)?;
    let ed25519 = combine(port, device, &opened, &released, Curve::Ed25519)?;
    let keys = PrivateKeys::new(secp256k1, ed25519, addresses, port.setting.network, Some(eject.id));
    port.all_done().await?;
    Ok(keys)
}

async fn prove(
    port: &Port,
    device: &Device,
    eject: &Recovery,
    opened: &Opened,
    stored: &CipherText,
) -> Result<EjectReleased> {
    let one_time_key = *one_time(device)?.public_key().as_bytes();
    let (deployment, key) = (port.setting.deployment.id(), device.key.public().to_bytes());
    let context = ejection(deployment, device.client, eject.id, &server_nonce(eject)?, &key, &one_time_key);
    let proofs = opened.prove(port, Purpose::Eject, &context, &stored.challenge.0)?;
    let body = ProvePossession { challenge: stored.challenge, one_time_key: Hex(one_time_key), proofs };
    let path = path(route::RECOVERY_EJECT, &[&eject.id.to_string()]);
    Call::new(port, "POST", path).signed(&device.key).json(&body)?.fetch().await
}

/// b_C + b_K = x, and x·G = X: whatever the server sent, no other key comes out.
fn combine(
    port: &Port,
    device: &Device,
    opened: &Opened,
    released: &EjectReleased,
    curve: Curve,
) -> Result<Zeroizing<[u8; 32]>> {
    let wrong = || Error::PeerMisbehaved { what: "EJECTED_HALF" };
    let own = opened.halves.iter().find(|half| half.curve == curve).ok_or(Error::Internal)?;
    let sent = released.shares.iter().find(|share| share.curve == curve).ok_or_else(wrong)?;
    let one_time = one_time(device)?;
    let public_key = own.public.public_key();
    let aad = ejected_half(
        port.setting.deployment.id(),
        device.client,
        released.id,
        own.pair,
        &public_key.to_bytes(),
        one_time.public_key().as_bytes(),
    );
    let half = hpke::open(&one_time, EJECTED_HALF, &aad, &sent.sealed.0).map_err(|_| wrong())?;
    let half: Zeroizing<[u8; 32]> = Zeroizing::new(half.as_slice().try_into().map_err(|_| wrong())?);
    let half = CustodianBackupShare::from_bytes(curve, &half).map_err(|_| wrong())?;
    danger_combine(&own.half, &half, &public_key).map_err(|_| wrong())
}
