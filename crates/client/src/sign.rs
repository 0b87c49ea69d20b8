//! `sign`: both sides decode the payload, compute what is signed, and make one signature together.

use halfkey_api::{
    ceremony::Op,
    chain::PublicKey,
    signing::{self, Capabilities, Payload, ToSign},
};
use halfkey_envelope::wallet::Curve;
use halfkey_protocol::{
    DerivationPath, SigningParty,
    sign::{Client, ClientStep, Message, Signature},
};

use crate::{
    ceremony::{self, Session, part, peer},
    command::SignOutcome,
    device::{self, Ahead, Device},
    error::{Error, Result},
    heal,
    port::Port,
    progress::Stage,
};

pub(crate) async fn sign(port: &Port, payload: Payload) -> Result<SignOutcome> {
    if matches!(payload, Payload::Digest32 { .. }) {
        return Err(Error::InvalidPayload);
    }
    sign_allowed(port, payload, Capabilities::default()).await
}

pub(crate) async fn danger_sign_digest(port: &Port, curve: Curve, digest: [u8; 32]) -> Result<SignOutcome> {
    port.setting.deployment.digest_capability().ok_or(Error::InvalidPayload)?;
    sign_allowed(port, Payload::Digest32 { curve, digest }, Capabilities { danger_sign_digest: true }).await
}

async fn sign_allowed(port: &Port, payload: Payload, allowed: Capabilities) -> Result<SignOutcome> {
    port.begin(3);
    let curve = payload.curve();
    port.stage(Stage::ReadingShare, Some(curve)).await?;
    let (device, ahead) = match curve {
        Curve::Secp256k1 => device::take_ahead(port).await?,
        Curve::Ed25519 => (device::current(port).await?, None),
    };
    let share = device.share(curve)?;
    if share.banned {
        return Err(Error::Banned);
    }
    let party = share.party()?;
    let key = PublicKey::parse(curve, &party.public().public_key().to_bytes()).map_err(|_| Error::Internal)?;
    let message = message(&payload, &key, allowed)?;
    port.part_done();

    port.stage(Stage::Signing, Some(curve)).await?;
    let run = async |ahead| run(port, &device, &party, &message, &payload, ahead).await;
    let result = match run(ahead).await {
        // Used, replaced or expired: nothing was computed in it, so another session is begun, with a nonce of its own.
        Ok(None) => run(None).await,
        other => other,
    };
    let (signature, ahead) = match result {
        Err(Failure::Cheated) => return Err(ban(port, &device, curve).await),
        Err(Failure::Other(error)) => return Err(error),
        Ok(None) => return Err(Error::Internal),
        Ok(Some(signed)) => signed,
    };
    let signed = signing::finish(&payload, &key, allowed, &as_chain(&signature));
    let signed = signed.map_err(|_| Error::PeerMisbehaved { what: "SIGNATURE_INVALID" })?;
    if let Some(ahead) = ahead {
        // The signature is made; a store that fails now costs the next one a round trip.
        let _ = device::keep_ahead(port, ahead).await;
    }
    port.all_done().await?;
    let recovery_id = match signature {
        Signature::Ecdsa { recovery_id, .. } => Some(recovery_id),
        Signature::Eddsa(_) => None,
    };
    let bare = matches!(payload, Payload::Digest32 { .. });
    Ok(SignOutcome { curve, signature: signature.to_bytes(), recovery_id, signed: (!bare).then_some(signed) })
}

/// What this device decodes from the payload is what it signs.
fn message(payload: &Payload, key: &PublicKey, allowed: Capabilities) -> Result<Message> {
    let decoded = signing::decode(payload, key, allowed).map_err(|_| Error::InvalidPayload)?;
    let bytes = payload.to_cbor();
    match decoded.to_sign() {
        ToSign::Digest(digest) => Message::secp256k1(&bytes, |_| Ok(*digest)),
        ToSign::Message(message) => Message::ed25519(&bytes, |_| Ok(message.clone())),
    }
}

/// A ban is told apart: it must be on disk before anybody hears of it (PROTOCOL.md 4.9).
enum Failure {
    Cheated,
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<halfkey_protocol::Error> for Failure {
    fn from(error: halfkey_protocol::Error) -> Self {
        if error.is_ban() { Self::Cheated } else { Self::Other(peer(error)) }
    }
}

/// A signature and the session of the next one; `None` if the server does not know the session that was opened ahead.
type Signed = Option<(Signature, Option<Ahead>)>;

async fn run(
    port: &Port,
    device: &Device,
    party: &SigningParty,
    message: &Message,
    payload: &Payload,
    ahead: Option<Ahead>,
) -> core::result::Result<Signed, Failure> {
    let curve = payload.curve();
    let share = device.share(curve)?;
    let op = halfkey_protocol::Op::Sign;
    let mut context = ceremony::context(port, op, device.client, &device.key, curve, share.wallet);
    context.old_pair = Some(share.pair);
    context.generation = share.generation;
    let mut session = Session::new(port, device.client, &device.key, Op::Sign, *share.pair.as_bytes());
    if let Some(ahead) = &ahead {
        context.server_nonce = *ahead.nonce;
        session.go_on(ahead);
    } else if curve == Curve::Secp256k1 {
        context.server_nonce = ceremony::nonce(&session.step(0, None, Vec::new()).await?)?;
    }
    session.payload(payload.to_cbor());
    let path = DerivationPath::root();
    let (client, request) = Client::start(&context, party, message, &path, &mut port.entropy())?;
    let parts = vec![(curve, request)];
    let answer = match ahead {
        Some(_) => session.step_if_known(1, parts).await?,
        None => Some(session.step(1, None, parts).await?),
    };
    let Some(answer) = answer else { return Ok(None) };
    port.part_done();
    match client.next(part(&answer, curve)?)? {
        ClientStep::Done(signature) => Ok(Some((signature, None))),
        ClientStep::Send { request, state } => {
            let answer = session.step(2, None, vec![(curve, request)]).await?;
            let signature = state.finish(part(&answer, curve)?)?;
            Ok(Some((signature, ceremony::ahead(share.pair, &answer))))
        }
    }
}

async fn ban(port: &Port, device: &Device, curve: Curve) -> Error {
    let pair = match device.share(curve) {
        Ok(share) => share.pair,
        Err(error) => return error,
    };
    if let Err(error) = device::update(port, |device| device.ban(pair)).await {
        return error;
    }
    // The operator hears of it if the server can be told; if not, before the share is healed.
    let _ = heal::report(port, &device.key, pair, "PEER_CHEATED").await;
    Error::PeerMisbehaved { what: "PEER_CHEATED" }
}

fn as_chain(signature: &Signature) -> signing::Signature {
    match *signature {
        Signature::Ecdsa { r, s, recovery_id } => signing::Signature::Ecdsa { r, s, recovery_id },
        Signature::Eddsa(bytes) => signing::Signature::Ed25519(bytes),
    }
}
