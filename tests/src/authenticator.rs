//! A passkey provider in memory that does as a test tells it: cancels, loses its PRF, gives another one, synchronises or
//! not. ES256. Like a real one it keeps one passkey for each (relying party, user handle): a second one replaces the first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use halfkey_client::host::{
    CredentialRef, PasskeyCreate, PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot, Passkeys, PrfOutput,
};
use halfkey_envelope::entropy::{DangerSeededEntropy, Entropy};
use minicbor::Encoder;
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// UP, UV, BE, BS and AT of the authenticator data.
const UP_UV: u8 = 0b101;
const BE: u8 = 1 << 3;
const BS: u8 = 1 << 4;
const AT: u8 = 1 << 6;

/// How it computes secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrfKind {
    /// Not at all.
    None,
    /// At every use.
    AtUse,
    /// At creation already, too.
    AtCreation,
    /// Something else each time.
    Unstable,
}

/// What the user or the provider does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Works.
    Works,
    /// The user closes the sheet that comes after so many others.
    Cancels(usize),
    /// The user verification is skipped.
    Unverified,
    /// The sheet is made inside a page of another origin.
    Framed,
    /// The sheet shows another origin.
    Origin(&'static str),
    /// The signature is wrong.
    BadSignature,
}

/// One call that was made to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A new passkey; how many were excluded.
    Create(usize),
    /// The use of one of so many.
    Get(usize),
}

struct Held {
    id: Vec<u8>,
    rp_id: String,
    user_handle: [u8; 32],
    key: SigningKey,
    prf_seed: [u8; 32],
}

struct State {
    held: Vec<Held>,
    entropy: DangerSeededEntropy,
    mood: Mood,
    prf: PrfKind,
    synced: bool,
    asked: Vec<Asked>,
}

/// The provider: an account's, or a device's own. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Authenticator {
    state: Arc<Mutex<State>>,
    origin: String,
}

impl Authenticator {
    /// One that synchronises and has a PRF, for sheets of this origin.
    #[must_use]
    pub fn new(seed: u64, origin: &str) -> Self {
        let state = State {
            held: Vec::new(),
            entropy: DangerSeededEntropy::new(seed),
            mood: Mood::Works,
            prf: PrfKind::AtUse,
            synced: true,
            asked: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), origin: origin.to_owned() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens from now on.
    pub fn mood(&self, mood: Mood) {
        let mut state = self.state();
        state.mood = mood;
        state.asked.clear();
    }

    /// How secrets are computed from now on.
    pub fn prf(&self, prf: PrfKind) {
        self.state().prf = prf;
    }

    /// Whether its passkeys are kept elsewhere too.
    pub fn synced(&self, synced: bool) {
        self.state().synced = synced;
    }

    /// What it was asked since the mood was set, or since it was asked this.
    #[allow(clippy::must_use_candidate, reason = "asked to be forgotten, too")]
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    /// How many passkeys it holds.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.state().held.len()
    }

    /// The user deletes every passkey.
    pub fn forget(&self) {
        self.state().held.clear();
    }

    fn client_data(&self, kind: &str, challenge: &[u8; 32], mood: Mood) -> Vec<u8> {
        let challenge = URL_SAFE_NO_PAD.encode(challenge);
        let origin = if let Mood::Origin(other) = mood { other } else { &self.origin };
        let framed = mood == Mood::Framed;
        format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{origin}","crossOrigin":{framed}}}"#)
            .into_bytes()
    }
}

impl State {
    fn ask(&mut self, asked: Asked) -> Result<Mood, PasskeyError> {
        self.asked.push(asked);
        match self.mood {
            Mood::Cancels(after) if self.asked.len() > after => Err(PasskeyError::Cancelled),
            mood => Ok(mood),
        }
    }

    fn random(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        bytes
    }

    fn data(&self, rp_id: &str, mood: Mood, attested: &[u8]) -> Vec<u8> {
        let mut flags = if mood == Mood::Unverified { 1 } else { UP_UV };
        flags |= if self.synced { BE | BS } else { 0 };
        flags |= if attested.is_empty() { 0 } else { AT };
        [&Sha256::digest(rp_id.as_bytes())[..], &[flags], &[0; 4], attested].concat()
    }

    fn compute(&mut self, seed: [u8; 32], input: [u8; 32]) -> PrfOutput {
        let salt = if self.prf == PrfKind::Unstable { self.random() } else { [0; 32] };
        let output = Sha256::new().chain_update(seed).chain_update(input).chain_update(salt).finalize();
        PrfOutput::new(Zeroizing::new(output.to_vec()))
    }
}

fn holds(held: &Held, rp_id: &str, among: &[CredentialRef]) -> bool {
    held.rp_id == rp_id && among.iter().any(|one| one.id == held.id)
}

#[async_trait]
impl Passkeys for Authenticator {
    async fn create(&self, request: PasskeyCreate) -> Result<PasskeyCreated, PasskeyError> {
        let mut state = self.state();
        let mood = state.ask(Asked::Create(request.exclude.len()))?;
        if state.held.iter().any(|held| holds(held, &request.rp_id, &request.exclude)) {
            return Err(PasskeyError::AlreadyRegistered);
        }
        state.held.retain(|held| held.rp_id != request.rp_id || held.user_handle != request.user_handle);
        let (id, prf_seed) = (state.random()[..20].to_vec(), state.random());
        let key = loop {
            if let Ok(key) = SigningKey::from_slice(&state.random()) {
                break key;
            }
        };
        let attested = attested(&id, &key).map_err(|_| PasskeyError::Failed)?;
        let data = state.data(&request.rp_id, mood, &attested);
        let attestation_object = attestation(&data).map_err(|_| PasskeyError::Failed)?;
        let prf_enabled = request.prf.is_some() && state.prf != PrfKind::None;
        let now = matches!(state.prf, PrfKind::AtCreation);
        let prf = request.prf.filter(|_| now).map(|input| state.compute(prf_seed, input));
        let (rp_id, user_handle) = (request.rp_id, request.user_handle);
        state.held.push(Held { id: id.clone(), rp_id, user_handle, key, prf_seed });
        Ok(PasskeyCreated {
            credential_id: id,
            attestation_object,
            client_data_json: self.client_data("webauthn.create", &request.challenge, mood),
            transports: vec!["internal".to_owned(), "hybrid".to_owned()],
            prf_enabled,
            prf,
        })
    }

    async fn get(&self, request: PasskeyGet) -> Result<PasskeyGot, PasskeyError> {
        let mut state = self.state();
        let mood = state.ask(Asked::Get(request.allow.len()))?;
        let found = state.held.iter().find(|held| holds(held, &request.rp_id, &request.allow));
        let (id, seed, handle, key) = found
            .map(|held| (held.id.clone(), held.prf_seed, held.user_handle, held.key.clone()))
            .ok_or(PasskeyError::NoPasskey)?;
        let prf = match (request.prf, state.prf) {
            (Some(_), PrfKind::None) => return Err(PasskeyError::PrfUnsupported),
            (Some(input), _) => Some(state.compute(seed, input)),
            (None, _) => None,
        };
        let authenticator_data = state.data(&request.rp_id, mood, &[]);
        let client_data_json = self.client_data("webauthn.get", &request.challenge, mood);
        let signed = [&authenticator_data[..], &Sha256::digest(&client_data_json)].concat();
        let signature: Signature = key.sign(&signed);
        let mut signature = signature.to_der().as_bytes().to_vec();
        if mood == Mood::BadSignature {
            let other: Signature = key.sign(b"something else");
            signature = other.to_der().as_bytes().to_vec();
        }
        let user_handle = Some(handle.to_vec());
        Ok(PasskeyGot { credential_id: id, authenticator_data, client_data_json, signature, user_handle, prf })
    }
}

/// Two providers behind one sheet: new passkeys go to the second.
#[derive(Clone)]
pub struct Both(pub Authenticator, pub Authenticator);

#[async_trait]
impl Passkeys for Both {
    async fn create(&self, request: PasskeyCreate) -> Result<PasskeyCreated, PasskeyError> {
        self.1.create(request).await
    }

    async fn get(&self, request: PasskeyGet) -> Result<PasskeyGot, PasskeyError> {
        match self.0.get(request.clone()).await {
            Err(PasskeyError::NoPasskey) => self.1.get(request).await,
            answer => answer,
        }
    }
}

type Encoded = Result<Vec<u8>, Box<dyn std::error::Error>>;

/// AAGUID ‖ length ‖ id ‖ COSE key.
fn attested(id: &[u8], key: &SigningKey) -> Encoded {
    let point = key.verifying_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(32);
    let mut cose = Encoder::new(Vec::new());
    cose.map(5)?.u8(1)?.u8(2)?.u8(3)?.i8(-7)?.i8(-1)?.u8(1)?.i8(-2)?.bytes(x)?.i8(-3)?.bytes(y)?;
    let length = u16::try_from(id.len())?.to_be_bytes();
    Ok([&[0; 16][..], &length, id, &cose.into_writer()].concat())
}

fn attestation(data: &[u8]) -> Encoded {
    let mut object = Encoder::new(Vec::new());
    object.map(3)?.str("fmt")?.str("none")?.str("attStmt")?.map(0)?.str("authData")?.bytes(data)?;
    Ok(object.into_writer())
}
