//! Steps of a ceremony: strict CBOR, HPKE-sealed to the pinned server key (DECISIONS.md D6).

use halfkey_api::{
    ceremony::{ANSWER, CeremonyAnswer, CeremonyRequest, INFO, MEDIA_TYPE, Op, Part, VERSION},
    context::{ceremony_aad, stored_half},
    error::ErrorId,
    route,
};
use halfkey_envelope::{
    cbor, hpke,
    id::{ClientId, PairId, SessionId, WalletId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, DeviceKey, PartyKeys, SigningParty, Signs,
    proof::{self, Purpose, Statement},
};
use minicbor::bytes::{ByteArray, ByteVec};

use crate::{
    call::Call,
    device::{Ahead, Device},
    error::{Error, Result},
    port::Port,
};

/// What is wrong with a peer's message; the library's words are stable.
pub(crate) const fn peer(error: halfkey_protocol::Error) -> Error {
    match error.fault() {
        halfkey_protocol::Fault::Theirs => Error::PeerMisbehaved { what: error.code() },
        halfkey_protocol::Fault::Ours | halfkey_protocol::Fault::Bug => Error::Internal,
    }
}

/// One running ceremony, from the device's side.
pub(crate) struct Session<'a> {
    port: &'a Port,
    client: ClientId,
    key: &'a DeviceKey,
    op: Op,
    subject: [u8; 16],
    payload: Option<Vec<u8>>,
    next: Option<(SessionId, [u8; 32])>,
}

impl<'a> Session<'a> {
    pub(crate) const fn new(port: &'a Port, client: ClientId, key: &'a DeviceKey, op: Op, subject: [u8; 16]) -> Self {
        Self { port, client, key, op, subject, payload: None, next: None }
    }

    /// Goes on in a session that was opened ahead.
    pub(crate) fn go_on(&mut self, ahead: &Ahead) {
        self.next = Some((ahead.session, *ahead.resume));
    }

    /// What is to be signed, in every step from 1 on.
    pub(crate) fn payload(&mut self, payload: Vec<u8>) {
        self.payload = Some(payload);
    }

    /// One step. `nonce` is the device's for proofs in the answer.
    pub(crate) async fn step(
        &mut self,
        step: u8,
        nonce: Option<[u8; 32]>,
        parts: Vec<(Curve, Vec<u8>)>,
    ) -> Result<CeremonyAnswer> {
        let (call, key) = self.request(step, nonce, parts)?;
        self.answer(step, &key, &call.send().await?)
    }

    /// As [`Self::step`]; `None` if the server does not know the session, or not any more.
    pub(crate) async fn step_if_known(
        &mut self,
        step: u8,
        parts: Vec<(Curve, Vec<u8>)>,
    ) -> Result<Option<CeremonyAnswer>> {
        let (call, key) = self.request(step, None, parts)?;
        let sealed = call.send_unless(ErrorId::CeremonyMismatch).await?;
        sealed.map(|sealed| self.answer(step, &key, &sealed)).transpose()
    }

    fn request(
        &mut self,
        step: u8,
        nonce: Option<[u8; 32]>,
        parts: Vec<(Curve, Vec<u8>)>,
    ) -> Result<(Call<'a>, hpke::AnswerKey)> {
        let part = |(curve, bytes)| Part { curve, bytes: ByteVec::from(bytes) };
        let (session, resume) = self.next.take().unzip();
        let request = CeremonyRequest {
            version: VERSION,
            op: self.op,
            step,
            subject: self.subject.into(),
            session,
            resume: resume.map(ByteArray::from),
            nonce: nonce.map(ByteArray::from),
            payload: self.payload.clone().filter(|_| step > 0).map(ByteVec::from),
            parts: parts.into_iter().map(part).collect(),
        };
        let deployment = &self.port.setting.deployment;
        let aad = ceremony_aad(deployment.id(), self.client, &self.key.public().to_bytes());
        let request = cbor::to_secret_vec(&request);
        let (body, answer_key) =
            hpke::Request::seal(&deployment.server_hpke(), INFO, &aad, &request, &mut self.port.entropy())
                .map_err(|_| Error::InvalidDescriptor)?;
        let call = Call::new(self.port, "POST", route::CEREMONIES.to_owned()).signed(self.key);
        Ok((call.bytes(MEDIA_TYPE, body), answer_key))
    }

    fn answer(&mut self, step: u8, key: &hpke::AnswerKey, sealed: &[u8]) -> Result<CeremonyAnswer> {
        // Only who opened the request can have sealed the answer: the pinned server.
        let opened = key.open_answer(ANSWER, sealed).map_err(|_| Error::PeerMisbehaved { what: "answer" })?;
        let answer: CeremonyAnswer = cbor::from_slice(&opened).map_err(|_| Error::PeerMisbehaved { what: "answer" })?;
        if answer.version != VERSION {
            return Err(Error::UpgradeRequired);
        }
        // Each answer names the session of the next step; that it answers this request, its seal has shown.
        if answer.step != step {
            return Err(Error::PeerMisbehaved { what: "step" });
        }
        self.next = answer.resume.as_ref().map(|resume| (answer.session, **resume));
        Ok(answer)
    }
}

/// The session of the next signature by `pair`, if this last answer opened it.
pub(crate) fn ahead(pair: PairId, last: &CeremonyAnswer) -> Option<Ahead> {
    Some(Ahead { pair, session: last.session, resume: last.resume?, nonce: last.nonce? })
}

/// The part of one curve, which must be there.
pub(crate) fn part(answer: &CeremonyAnswer, curve: Curve) -> Result<&[u8]> {
    answer.part(curve).ok_or(Error::PeerMisbehaved { what: "parts" })
}

/// The server's nonce, which must be there.
pub(crate) fn nonce(answer: &CeremonyAnswer) -> Result<[u8; 32]> {
    answer.nonce.map(|nonce| *nonce).ok_or(Error::PeerMisbehaved { what: "nonce" })
}

/// The context of a ceremony as this device's own records fill it; pairs and nonce are the caller's.
pub(crate) fn context(
    port: &Port,
    op: halfkey_protocol::Op,
    client: ClientId,
    key: &DeviceKey,
    curve: Curve,
    wallet: WalletId,
) -> Ceremony {
    let deployment = &port.setting.deployment;
    let resharing = matches!(op, halfkey_protocol::Op::Backup | halfkey_protocol::Op::Recover);
    Ceremony {
        op,
        deployment: deployment.id(),
        client,
        wallet,
        curve,
        old_pair: None,
        new_pair: None,
        generation: 0,
        server_nonce: [0; 32],
        device: PartyKeys { identity: key.public(), hpke: None },
        server: deployment.server(),
        custodian: resharing.then(|| deployment.custodian()),
    }
}

/// What a ceremony renews: the pair it comes from and the one it makes, under the server's nonce.
pub(crate) struct Renewal {
    pub(crate) from: PairId,
    pub(crate) to: PairId,
    pub(crate) generation: u64,
    pub(crate) server_nonce: [u8; 32],
}

impl Renewal {
    /// The context of the ceremony that does it.
    pub(crate) fn context(
        &self,
        port: &Port,
        op: halfkey_protocol::Op,
        device: &Device,
        curve: Curve,
        wallet: WalletId,
    ) -> Ceremony {
        Ceremony {
            old_pair: Some(self.from),
            new_pair: Some(self.to),
            generation: self.generation,
            server_nonce: self.server_nonce,
            ..context(port, op, device.client, &device.key, curve, wallet)
        }
    }
}

/// Proves the half of `party`, **read back from the device's store**, for the new `pair` (`CreateWallet` step 3,
/// `Recover` step 5).
pub(crate) fn prove_stored(
    port: &Port,
    client: ClientId,
    key: &DeviceKey,
    server_nonce: &[u8; 32],
    pair: PairId,
    party: &SigningParty,
    verifier_nonce: &[u8; 32],
) -> Result<Vec<u8>> {
    let context = stored_half(port.setting.deployment.id(), client, server_nonce, &key.public().to_bytes());
    let statement = Statement { purpose: Purpose::Create, context: &context, pair, nonce: verifier_nonce };
    proof::prove(&statement, party.share(), &mut port.entropy()).map_err(peer)
}
