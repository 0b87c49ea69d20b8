//! What device and server compute together. A step is opened, parsed and matched to its session here; what it means is
//! in one file per ceremony, read from top to bottom.

pub(crate) mod backup;
mod create;
mod heal;
pub(crate) mod nonce;
mod recover;
mod renew;
mod sign;

use axum::body::Bytes;
use halfkey_api::{
    ceremony::{ANSWER, CeremonyAnswer, CeremonyRequest, INFO, Op, Part, VERSION},
    context::ceremony_aad,
    error::ErrorId,
};
use halfkey_envelope::{
    cbor,
    entropy::OsEntropy,
    hash::sha256,
    hpke,
    id::{PairId, SessionId, WalletId},
    wallet::Curve,
};
use halfkey_protocol::{Ceremony, IdentityPublic, PartyKeys};
use minicbor::bytes::{ByteArray, ByteVec};
use zeroize::Zeroizing;

use crate::{
    app::App,
    fault::Fault,
    http::auth::{AsClient, Signed},
    kept::{Claim, KeptSession, Resume},
    store::Device,
    turns::Alone,
};

/// One step of one device, opened.
pub(crate) struct Turn {
    pub(crate) app: App,
    pub(crate) caller: AsClient,
    pub(crate) device: Device,
    pub(crate) request: CeremonyRequest,
}

/// What a step answers.
#[derive(Default)]
pub(crate) struct Reply {
    parts: Vec<(Curve, Vec<u8>)>,
    nonce: Option<[u8; 32]>,
    next: Option<Next>,
}

/// The session that goes on, and the secret that opens its kept state.
pub(crate) struct Next {
    session: SessionId,
    resume: Resume,
}

/// Opens a sealed body, takes the step, and seals the answer for the sender of that very body.
pub(crate) async fn step(app: App, call: Signed<Bytes>) -> Result<Vec<u8>, Fault> {
    let aad = ceremony_aad(app.deployment, call.caller.client, &call.device.public_key);
    let opened = hpke::open_request(&app.keys.server.hpke, INFO, &aad, &call.body);
    let (plaintext, answer_key) = opened.map_err(|error| match error {
        hpke::Error::UnknownVersion(_) => unknown_version(),
        _ => Fault::invalid("the body is not sealed to this server for this device"),
    })?;
    let request = parse(&plaintext)?;
    drop(plaintext);
    let turn = Turn { app, caller: call.caller, device: call.device, request };
    let (op, step, session) = (turn.request.op, turn.request.step, turn.request.session);
    tracing::debug!(client = %turn.caller.client, ?op, step, "ceremony step");
    let reply = match (op, step) {
        (Op::CreateWallet, 1) => create::generate(turn).await,
        (Op::CreateWallet, 2) => create::finish(turn).await,
        (Op::CreateWallet, 3) => create::confirm(turn).await,
        (Op::Sign, 0) => sign::announce(turn).await,
        (Op::Sign, 1) => sign::first(turn).await,
        (Op::Sign, 2) => sign::second(turn).await,
        (Op::Backup, 1) => backup::deal(turn).await,
        (Op::Backup, 2) => backup::receive(turn).await,
        (Op::Recover, 1) => recover::deal(turn).await,
        (Op::Heal, 1) => heal::deal(turn).await,
        (Op::Recover | Op::Heal, 2) => renew::receive(turn).await,
        (Op::Recover | Op::Heal, 3) => renew::rekey(turn).await,
        (Op::Recover | Op::Heal, 4) => renew::test_sign(turn).await,
        (Op::Recover | Op::Heal, 5) => renew::finish(turn).await,
        _ => Err(mismatch()),
    }?;
    let answer = cbor::to_vec(&reply.into_answer(step, session));
    Ok(answer_key.seal_answer(ANSWER, &answer, &mut OsEntropy))
}

fn parse(plaintext: &[u8]) -> Result<CeremonyRequest, Fault> {
    #[derive(minicbor::Decode)]
    #[cbor(map)]
    struct Probe {
        #[n(0)]
        version: u8,
    }
    let probe: Probe = minicbor::decode(plaintext).map_err(|_| Fault::invalid("the opened body does not parse"))?;
    if probe.version != VERSION {
        return Err(unknown_version());
    }
    cbor::from_slice(plaintext).map_err(|_| Fault::invalid("the opened body does not parse"))
}

const fn unknown_version() -> Fault {
    Fault::new(ErrorId::UnsupportedVersion, "another version of the ceremony")
}

/// Replayed, reordered, of another session: begin again at step 1.
pub(crate) const fn mismatch() -> Fault {
    Fault::new(ErrorId::CeremonyMismatch, "the message does not fit its session; begin again at step 1")
}

impl Reply {
    /// One part per curve.
    pub(crate) fn new(parts: impl IntoIterator<Item = (Curve, Vec<u8>)>) -> Self {
        Self { parts: parts.into_iter().collect(), nonce: None, next: None }
    }

    /// A fresh nonce of the server for the device's next proofs.
    pub(crate) const fn with_nonce(mut self, nonce: [u8; 32]) -> Self {
        self.nonce = Some(nonce);
        self
    }

    /// The ceremony goes on.
    pub(crate) fn then(mut self, next: Next) -> Self {
        self.next = Some(next);
        self
    }

    fn into_answer(self, step: u8, session: Option<SessionId>) -> CeremonyAnswer {
        let next = self.next.as_ref();
        let session = next.map(|next| next.session).or(session);
        let part = |(curve, bytes): (Curve, Vec<u8>)| Part { curve, bytes: ByteVec::from(bytes) };
        CeremonyAnswer {
            version: VERSION,
            session: session.unwrap_or(SessionId::from_bytes([0; 16])),
            step,
            resume: next.map(|next| ByteArray::from(*next.resume.expose())),
            nonce: self.nonce.map(ByteArray::from),
            parts: self.parts.into_iter().map(part).collect(),
        }
    }
}

impl Turn {
    /// The subject, as an identifier.
    pub(crate) fn subject(&self) -> [u8; 16] {
        *self.request.subject
    }

    /// Until the step has ended, with its commit or its ban: what comes next on this subject sees it.
    pub(crate) async fn alone(&self) -> Alone {
        self.app.turns.at(self.subject()).await
    }

    /// The message of every curve, in their order; refuses anything else.
    pub(crate) fn parts(&self) -> Result<[Vec<u8>; 2], Fault> {
        let curves = self.request.parts.iter().map(|part| part.curve);
        if !curves.eq(Curve::ALL) {
            return Err(Fault::invalid("one part for each curve, in their order"));
        }
        let part = |curve| self.request.part(curve).map(<[u8]>::to_vec).unwrap_or_default();
        Ok(Curve::ALL.map(part))
    }

    /// The message of the only curve.
    pub(crate) fn part(&self, curve: Curve) -> Result<Vec<u8>, Fault> {
        match self.request.parts.as_slice() {
            [part] if part.curve == curve => Ok(part.bytes.to_vec()),
            _ => Err(Fault::invalid("one part, of the wallet's curve")),
        }
    }

    /// The device's nonce for the proofs in the answer.
    pub(crate) fn device_nonce(&self) -> Result<[u8; 32], Fault> {
        self.request.nonce.map(|nonce| *nonce).ok_or(Fault::invalid("a nonce of the device is missing"))
    }

    /// The device as a ceremony's context takes it. Its one-time HPKE key comes with its own signed message.
    pub(crate) fn device_keys(&self) -> Result<PartyKeys, Fault> {
        device_keys(&self.device)
    }

    /// Keeps `state` for the step after this one. The first step makes the session; every later one has taken its row,
    /// and so has the right to its name.
    pub(crate) async fn keep(&self, state: &[u8]) -> Result<Next, Fault> {
        let now_ms = self.caller.now_ms;
        let operation = operation(self.request.op);
        let fresh = || SessionId::generate(&mut OsEntropy, now_ms);
        let kept = KeptSession {
            session: self.request.session.filter(|_| !self.is_first()).unwrap_or_else(fresh),
            client: self.caller.client,
            device_key: self.device.public_key,
            operation: operation.to_owned(),
            step: self.request.step + 1,
            subject: self.subject(),
            slot: self.slot(),
            generation: 0,
            transcript: sha256(state),
        };
        let resume = self.app.kept()?.put(&kept, state, &mut OsEntropy, now_ms).await?;
        Ok(Next { session: kept.session, resume })
    }

    /// Keeps `state` for step 1 of this device's next signature by `pair`, as its step 0 would.
    pub(crate) async fn keep_ahead(&self, pair: PairId, state: &[u8]) -> Result<Next, Fault> {
        let now_ms = self.caller.now_ms;
        let kept = KeptSession {
            session: SessionId::generate(&mut OsEntropy, now_ms),
            client: self.caller.client,
            device_key: self.device.public_key,
            operation: operation(Op::Sign).to_owned(),
            step: 1,
            subject: *pair.as_bytes(),
            slot: None,
            generation: 0,
            transcript: sha256(state),
        };
        let resume = self.app.kept()?.put_ahead(&kept, state, &mut OsEntropy, now_ms).await?;
        Ok(Next { session: kept.session, resume })
    }

    /// Whether no step comes before this one.
    const fn is_first(&self) -> bool {
        matches!(
            (self.request.op, self.request.step),
            (Op::Sign, 0) | (Op::CreateWallet | Op::Backup | Op::Recover | Op::Heal, 1)
        )
    }

    /// One session at a time where a slot changes; signatures may run side by side.
    fn slot(&self) -> Option<String> {
        let subject = SessionId::from_bytes(self.subject());
        (self.request.op != Op::Sign).then(|| format!("{}/{subject}", operation(self.request.op)))
    }

    /// Takes what the step before kept: gone for good, in a committed transaction, before anything is computed from it
    /// (PROTOCOL.md 4.7).
    pub(crate) async fn take(&self) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let (Some(session), Some(resume)) = (self.request.session, self.request.resume) else {
            return Err(mismatch());
        };
        let claim = Claim {
            session,
            client: self.caller.client,
            device_key: &self.device.public_key,
            operation: operation(self.request.op),
            step: self.request.step,
            subject: &self.subject(),
        };
        let (_, state) = self.app.kept()?.take(&claim, &Resume::from_bytes(*resume), self.caller.now_ms).await?;
        Ok(state)
    }

    /// Counts a key generation or recovery: each costs a third of a second of CPU.
    pub(crate) async fn limit_heavy(&self) -> Result<(), Fault> {
        let (limits, now_ms) = (&self.app.config.limits, self.caller.now_ms);
        self.app.limit(&format!("heavy:{}", self.caller.client), limits.heavy, now_ms).await?;
        self.app.limit("heavy", limits.heavy_deployment, now_ms).await
    }

    /// Counts a signature.
    pub(crate) async fn limit_signatures(&self) -> Result<(), Fault> {
        let subject = format!("signatures:{}", self.caller.client);
        self.app.limit(&subject, self.app.config.limits.signatures, self.caller.now_ms).await
    }

    /// The context that every ceremony of this device shares; the caller fills in pairs, generation and nonce.
    pub(crate) fn ceremony(&self, op: halfkey_protocol::Op, curve: Curve, wallet: WalletId) -> Result<Ceremony, Fault> {
        Ok(Ceremony {
            op,
            deployment: self.app.deployment,
            client: self.caller.client,
            wallet,
            curve,
            old_pair: None,
            new_pair: None,
            generation: 0,
            server_nonce: [0; 32],
            device: self.device_keys()?,
            server: self.app.keys.server.public(),
            custodian: None,
        })
    }
}

/// A device as a ceremony's context takes it.
pub(crate) fn device_keys(device: &Device) -> Result<PartyKeys, Fault> {
    let identity = IdentityPublic::from_bytes(&device.public_key).map_err(|error| Fault::internal(&error))?;
    Ok(PartyKeys { identity, hpke: None })
}

const fn operation(op: Op) -> &'static str {
    match op {
        Op::CreateWallet => "create",
        Op::Sign => "sign",
        Op::Backup => "backup",
        Op::Recover => "recover",
        Op::Heal => "heal",
    }
}
