//! A release: the device's side, and what both sides compute.

use minicbor::{Decode, Encode};

use super::{Assertion, Context, Error, Op, Stanza};
use crate::{
    all_of::Part,
    cbor,
    entropy::Entropy,
    hash::{h, sha256},
    hpke::{self, AnswerKey, PublicKey, SecretKey, Sender},
    keeper::{self, Answer, KeyId, Request},
};

const VERSION: u16 = 1;
const INFO: &[u8] = b"halfkey/keeper/v1/release";
const ANSWER_LABEL: &str = "halfkey/keeper/v1/answer";

/// What the passkey signs: SHA-256 over the operation, the one-time key `enc`, the stanza's bytes and the context.
#[must_use]
pub fn challenge(op: Op, enc: &[u8; 32], stanza: &[u8], context: &Context) -> [u8; 32] {
    let Context { deployment, client, backup } = context;
    let (enc, stanza) = (sha256(enc), sha256(stanza));
    h(
        "halfkey/keeper/v1/challenge",
        &[&[op.code()], &enc, &stanza, deployment.as_bytes(), client.as_bytes(), backup.as_bytes()],
    )
}

/// A request to a keeper that waits for its assertion. Holds a one-time key, wiped when it is dropped.
pub struct Release {
    sender: Sender,
    key_id: KeyId,
    op: Op,
    context: Context,
    stanza: Vec<u8>,
    challenge: [u8; 32],
}

crate::secret::redact!(Release);

impl Release {
    /// Makes a one-time key for a request to the *pinned* keeper. The stanza must have a part for a keeper.
    pub fn begin(
        (key_id, public_key): (KeyId, &PublicKey),
        op: Op,
        stanza: &[u8],
        context: &Context,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, Error> {
        let mode = Stanza::parse(stanza)?.header().mode;
        if !mode.has_keeper() {
            return Err(Error::NoSuchPart(mode));
        }
        let sender = Sender::setup(public_key, INFO, entropy)?;
        let challenge = challenge(op, sender.encapsulation(), stanza, context);
        Ok(Self { sender, key_id, op, context: *context, stanza: stanza.to_vec(), challenge })
    }

    /// The challenge for `get()`.
    #[must_use]
    pub const fn challenge(&self) -> &[u8; 32] {
        &self.challenge
    }

    /// The bytes of a [`Request::Release`] with this assertion, and what opens its answer.
    pub fn request(self, assertion: &Assertion) -> Result<(Vec<u8>, PendingRelease), Error> {
        assertion.check_lengths().map_err(|_| Error::TooLarge)?;
        let body = cbor::to_vec(&BodyWire {
            version: VERSION,
            op: self.op,
            context: self.context,
            credential_id: assertion.credential_id.clone(),
            authenticator_data: assertion.authenticator_data.clone(),
            client_data_json: assertion.client_data_json.clone(),
            signature: assertion.signature.clone(),
        });
        let (sealed, answer) = self.sender.seal(&self.key_id.to_be_bytes(), &body)?;
        let request = Request::Release { key_id: self.key_id, stanza: self.stanza, sealed };
        Ok((keeper::encode_request(&request), PendingRelease { answer }))
    }
}

/// What opens the answer to one request, and nothing else. Wiped when it is dropped.
pub struct PendingRelease {
    answer: AnswerKey,
}

crate::secret::redact!(PendingRelease);

impl PendingRelease {
    /// Reads the bytes of the keeper's [`Answer`]. Only the keeper that the request was sealed to can have written it.
    pub fn finish(self, answer: &[u8]) -> Result<Part, Error> {
        let sealed = match keeper::decode_answer(answer) {
            Ok(Answer::Released(sealed)) => sealed,
            Ok(Answer::Refused(refusal)) => return Err(Error::Refused(refusal)),
            _ => return Err(Error::Malformed),
        };
        let part = self.answer.open_answer(ANSWER_LABEL, &sealed).map_err(|_| Error::ForgedAnswer)?;
        Ok(Part::from_bytes(&part)?)
    }
}

/// What a request says, on the keeper's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseBody {
    /// What it is for.
    pub op: Op,
    /// Whose backup the device wants to open.
    pub context: Context,
    /// What its passkey signed. The user handle stayed on the device.
    pub assertion: Assertion,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct BodyWire {
    #[n(1)]
    version: u16,
    #[n(2)]
    op: Op,
    #[n(3)]
    context: Context,
    #[cbor(n(4), with = "minicbor::bytes")]
    credential_id: Vec<u8>,
    #[cbor(n(5), with = "minicbor::bytes")]
    authenticator_data: Vec<u8>,
    #[cbor(n(6), with = "minicbor::bytes")]
    client_data_json: Vec<u8>,
    #[cbor(n(7), with = "minicbor::bytes")]
    signature: Vec<u8>,
}

/// Opens a request on the keeper's side: what it says, and what seals its answer.
pub fn open_request(secret: &SecretKey, key_id: KeyId, sealed: &[u8]) -> Result<(ReleaseBody, ReleaseAnswer), Error> {
    let (body, answer) = hpke::open_request(secret, INFO, &key_id.to_be_bytes(), sealed)?;
    let version = cbor::version(&body).map_err(|_| Error::Malformed)?;
    if version != VERSION {
        return Err(Error::UnknownVersion(version));
    }
    let wire: BodyWire = cbor::from_slice(&body).map_err(|_| Error::Malformed)?;
    let assertion = Assertion {
        credential_id: wire.credential_id,
        authenticator_data: wire.authenticator_data,
        client_data_json: wire.client_data_json,
        signature: wire.signature,
        user_handle: None,
    };
    assertion.check_lengths().map_err(|_| Error::Malformed)?;
    Ok((ReleaseBody { op: wire.op, context: wire.context, assertion }, ReleaseAnswer { key: answer }))
}

/// What seals the answer to one request, on the keeper's side.
pub struct ReleaseAnswer {
    key: AnswerKey,
}

crate::secret::redact!(ReleaseAnswer);

impl ReleaseAnswer {
    /// Seals a part for the device that made the request, and nobody else.
    #[must_use]
    pub fn seal(&self, part: &[u8], entropy: &mut dyn Entropy) -> Vec<u8> {
        self.key.seal_answer(ANSWER_LABEL, part, entropy)
    }

    /// Opens such an answer again: the keeper's key alone does that, without the device's one-time key.
    pub fn open(&self, answer: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
        Ok(self.key.open_answer(ANSWER_LABEL, answer)?)
    }
}
