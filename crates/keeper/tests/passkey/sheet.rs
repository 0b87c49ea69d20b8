//! A passkey that signs whatever a test wants, and the platform's sheet around it.

use aws_lc_rs::{rand::SystemRandom, rsa, signature as aws};
use halfkey_envelope::{
    hash::sha256,
    passkey::{Algorithm, Assertion, Credential, CredentialKey, base64url},
};
use p256::ecdsa::signature::{SignatureEncoding as _, Signer as _};
use serde_json::{Value, json};

/// A key that guards nothing.
const RSA_KEY: &[u8] = include_bytes!("rsa-2048.pk8");

pub const UP: u8 = 1;
pub const UV: u8 = 1 << 2;
pub const BE: u8 = 1 << 3;
pub const BS: u8 = 1 << 4;
pub const AT: u8 = 1 << 6;
pub const ED: u8 = 1 << 7;

enum Secret {
    Es256(p256::ecdsa::SigningKey),
    Rs256(Box<rsa::KeyPair>),
    EdDsa(Box<ed25519_dalek::SigningKey>),
}

pub struct Passkey {
    secret: Secret,
    pub credential: Credential,
}

impl Passkey {
    /// A passkey of this kind; another `fill`, another passkey.
    pub fn new(algorithm: Algorithm, fill: u8) -> Self {
        let secret = match algorithm {
            Algorithm::Es256 => Secret::Es256(p256::ecdsa::SigningKey::from_slice(&[fill; 32]).unwrap()),
            Algorithm::Rs256 => Secret::Rs256(Box::new(rsa::KeyPair::from_pkcs8(RSA_KEY).unwrap())),
            _ => Secret::EdDsa(Box::new(ed25519_dalek::SigningKey::from_bytes(&[fill; 32]))),
        };
        let key = match &secret {
            Secret::Es256(secret) => {
                let point = secret.verifying_key().to_sec1_point(false);
                CredentialKey::Es256 { x: (*point.x().unwrap()).into(), y: (*point.y().unwrap()).into() }
            }
            Secret::Rs256(pair) => {
                use aws::KeyPair as _;
                let n = pair.public_key().modulus().big_endian_without_leading_zero();
                CredentialKey::Rs256 { n: Box::new(n.try_into().unwrap()), e: [1, 0, 1] }
            }
            Secret::EdDsa(secret) => CredentialKey::EdDsa { x: secret.verifying_key().to_bytes() },
        };
        let transports = vec!["internal".to_owned()];
        Self { secret, credential: Credential { id: vec![fill; 20], key, backup_eligible: true, transports } }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Es256(secret) => {
                let signature: p256::ecdsa::DerSignature = secret.sign(message);
                signature.to_vec()
            }
            Secret::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&aws::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Secret::EdDsa(secret) => ed25519_dalek::Signer::sign(&**secret, message).to_vec(),
        }
    }
}

/// The other signature that is as good as this one: (r, n - s). ES256 only.
pub fn other_half(der: &[u8]) -> Vec<u8> {
    let signature = p256::ecdsa::Signature::from_der(der).unwrap();
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(*r, -*s).unwrap();
    assert_ne!(other, signature);
    other.to_der().as_bytes().to_vec()
}

/// What platform and authenticator write, before it is signed. A test changes what it wants.
#[derive(Clone)]
pub struct Sheet {
    pub kind: String,
    pub challenge: Vec<u8>,
    pub origin: String,
    /// Further members of the client data, in order.
    pub members: Vec<(&'static str, Value)>,
    pub rp_id: String,
    pub flags: u8,
    pub counter: u32,
    /// Behind the fixed part of the authenticator data.
    pub tail: Vec<u8>,
    /// What the client data are in the end, where they are not the JSON of the above.
    pub raw_client_data: Option<Vec<u8>>,
}

impl Sheet {
    /// What a good `get()` for this challenge gives.
    pub fn new(challenge: &[u8], rp_id: &str, origin: &str) -> Self {
        Self {
            kind: "webauthn.get".to_owned(),
            challenge: challenge.to_vec(),
            origin: origin.to_owned(),
            members: vec![("crossOrigin", json!(false))],
            rp_id: rp_id.to_owned(),
            flags: UP | UV | BE | BS,
            counter: 0,
            tail: vec![],
            raw_client_data: None,
        }
    }

    pub fn client_data(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw_client_data {
            return raw.clone();
        }
        let mut data = json!({"type": self.kind, "challenge": base64url(&self.challenge), "origin": self.origin});
        for (name, value) in &self.members {
            data[name] = value.clone();
        }
        data.to_string().into_bytes()
    }

    pub fn authenticator_data(&self) -> Vec<u8> {
        let hash = sha256(self.rp_id.as_bytes());
        [&hash[..], &[self.flags], &self.counter.to_be_bytes(), &self.tail].concat()
    }

    pub fn sign(&self, passkey: &Passkey) -> Assertion {
        let mut assertion = Assertion {
            credential_id: passkey.credential.id.clone(),
            authenticator_data: self.authenticator_data(),
            client_data_json: self.client_data(),
            signature: vec![],
            user_handle: None,
        };
        assertion.signature = passkey.sign(&assertion.signed_bytes());
        assertion
    }
}
