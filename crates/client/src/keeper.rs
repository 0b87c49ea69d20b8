//! The keeper of the passkey door, through the server's relay: its evidence before anything is sealed to it, and releases
//! (METHODS.md C). The key is the *pinned* one; nothing that a server says replaces it.

use halfkey_api::{
    bytes::Base64,
    message::{DoorAnswer, DoorContext, PasskeyDoorRequest},
    route,
};
use halfkey_envelope::{
    entropy::random,
    hash::h,
    hpke::PublicKey,
    keeper::{self, Answer, KeyId, Request},
};
use halfkey_protocol::DeviceKey;
use minicbor::{Decode, Encode, bytes::ByteArray};

use crate::{
    call::Call,
    device::{self, Device},
    error::{Error, Result},
    port::Port,
};

/// Every request to a keeper may be repeated: it keeps no state, and answers for one one-time key only.
const ATTEMPTS: u32 = 3;

/// Evidence that held. The device keeps it for [`halfkey_evidence::MAX_CACHE_MS`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Checked {
    /// Of the pinned key, its number, and the policy: another descriptor asks again.
    #[n(1)]
    about: ByteArray<32>,
    /// When, in milliseconds.
    #[n(2)]
    at: u64,
}

#[cfg(test)]
impl Checked {
    pub(crate) fn sample() -> Self {
        Self { about: [0x51; 32].into(), at: 0x61 }
    }
}

/// The pinned keeper.
pub(crate) fn pinned(port: &Port) -> Result<(KeyId, PublicKey)> {
    port.setting.deployment.keeper().ok_or(Error::NoKeeper)
}

/// Refuses unless the keeper behind the pinned key has shown that it is what the deployment's policy asks for: now, or
/// to this device within the last 24 hours.
pub(crate) async fn must_be_trusted(port: &Port, device: &Device) -> Result<()> {
    let (key_id, public_key) = pinned(port)?;
    let about = about(port, key_id, &public_key)?;
    let now_ms = port.now().await?;
    let fresh = |checked: &Checked| {
        let age = now_ms.checked_sub(checked.at);
        *checked.about == about && age.is_some_and(|age| age < halfkey_evidence::MAX_CACHE_MS)
    };
    if device.evidence.as_ref().is_some_and(fresh) {
        return Ok(());
    }
    let nonce = *random::<32>(&mut port.entropy());
    let request = keeper::encode_request(&Request::Evidence { nonce });
    let answer = relay(port, &device.key, None, request).await?;
    let evidence = match keeper::decode_answer(&answer) {
        Ok(Answer::Evidence(evidence)) => evidence,
        Ok(Answer::Refused(refusal)) => return Err(Error::KeeperRefused { code: refusal.code() }),
        _ => return Err(Error::PeerMisbehaved { what: "KEEPER_ANSWER" }),
    };
    let expected = halfkey_evidence::Expected { nonce: &nonce, key_id, public_key: &public_key, now_ms };
    let policy = port.setting.evidence_policy()?;
    halfkey_evidence::verify(&evidence, &expected, &policy)
        .map_err(|refusal| Error::EvidenceRefused { reason: refusal.code() })?;
    let checked = Checked { about: about.into(), at: now_ms };
    device::update(port, move |device| device.evidence = Some(checked)).await
}

fn about(port: &Port, key_id: KeyId, public_key: &PublicKey) -> Result<[u8; 32]> {
    let policy = &port.setting.deployment.descriptor().evidence;
    let policy = serde_json::to_vec(policy).map_err(|_| Error::Internal)?;
    let danger = [u8::from(port.setting.accepts_insecure_evidence())];
    Ok(h("halfkey/client/v1/evidence", &[&key_id.to_be_bytes(), public_key.as_bytes(), &policy, &danger]))
}

/// One message to the keeper and its answer, both opaque to the server.
pub(crate) async fn relay(
    port: &Port,
    key: &DeviceKey,
    within: Option<DoorContext>,
    frame: Vec<u8>,
) -> Result<Vec<u8>> {
    let request = PasskeyDoorRequest { within, frame: Base64(frame) };
    let mut attempt = 1;
    loop {
        let call = Call::new(port, "POST", route::PASSKEY_DOOR.to_owned()).signed(key);
        match call.json(&request)?.fetch::<DoorAnswer>().await {
            Err(Error::Transport(_)) if attempt < ATTEMPTS => attempt += 1,
            other => return Ok(other?.frame.0),
        }
    }
}
