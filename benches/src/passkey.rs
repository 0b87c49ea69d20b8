//! One release at the passkey door, at the keeper's side: request and stanza opened, the assertion verified, the answer
//! sealed. Compared with one ES256 verification, one HPKE open and one HPKE seal of messages of the same sizes.

use std::hint::black_box;

use halfkey_envelope::{
    entropy::OsEntropy,
    hash::sha256,
    hpke::{self, PublicKey, SecretKey},
    id::{BackupId, ClientId, DeploymentId},
    keeper::{self, KeyId, Request, SealRootKey},
    passkey::{Assertion, Context, Credential, CredentialKey, Mode, Op, Release, SealParams, base64url, seal},
};
use halfkey_keeper::{Keys, release};
use p256::ecdsa::{DerSignature, Signature, SigningKey, signature::Signer as _, signature::Verifier as _};

use crate::clock::{Meter, thread_ms};

const RP_ID: &str = "wallet.example";
const ORIGIN: &str = "https://wallet.example";
const KEY_ID: KeyId = 1;
const RECORD: [u8; 450] = [7; 450];

/// A keeper, and one user's stanza.
pub struct Passkeys {
    keys: Keys,
    public_key: PublicKey,
    passkey: SigningKey,
    stanza: Vec<u8>,
    opener: SecretKey,
}

impl Default for Passkeys {
    fn default() -> Self {
        let keys = Keys::new(SealRootKey::generate(&mut OsEntropy), KEY_ID);
        let public_key = keys.public_key();
        let passkey = SigningKey::from_slice(&[7; 32]).unwrap();
        let stanza = stanza(public_key, &passkey);
        Self { keys, public_key, passkey, stanza, opener: SecretKey::generate(&mut OsEntropy) }
    }
}

fn context() -> Context {
    Context {
        deployment: DeploymentId::from_bytes([1; 16]),
        client: ClientId::from_bytes([2; 16]),
        backup: BackupId::from_bytes([3; 16]),
    }
}

fn stanza(to: PublicKey, passkey: &SigningKey) -> Vec<u8> {
    let point = passkey.verifying_key().to_sec1_point(false);
    let (x, y) = ((*point.x().unwrap()).into(), (*point.y().unwrap()).into());
    let credential = Credential {
        id: vec![4; 32],
        key: CredentialKey::Es256 { x, y },
        backup_eligible: true,
        transports: vec!["internal".to_owned()],
    };
    let params = SealParams {
        mode: Mode::Keeper,
        context: context(),
        rp_id: RP_ID,
        origins: &[ORIGIN.to_owned()],
        credentials: std::slice::from_ref(&credential),
        keeper: Some((KEY_ID, to)),
        prf: None,
    };
    seal(&params, &RECORD, &mut OsEntropy).unwrap()
}

impl Passkeys {
    /// CPU milliseconds of one ES256 verification, one HPKE open and one HPKE seal.
    #[must_use]
    pub fn floor(&self) -> f64 {
        let (message, to) = ([5; 69], self.opener.public_key());
        let signature: Signature = self.passkey.sign(&message);
        let sealed = hpke::seal_to(&to, b"info", b"", &[6; 512], &mut OsEntropy).unwrap();
        let before = thread_ms();
        self.passkey.verifying_key().verify(&message, black_box(&signature)).unwrap();
        hpke::open(&self.opener, b"info", b"", black_box(&sealed)).unwrap();
        black_box(hpke::seal_to(&to, b"info", b"", &[6; 128], &mut OsEntropy).unwrap());
        thread_ms() - before
    }

    /// One release, with a fresh one-time key and a fresh assertion.
    #[must_use]
    pub fn release(&self) -> Meter {
        let to = (KEY_ID, &self.public_key);
        let begun = Release::begin(to, Op::Recover, &self.stanza, &context(), &mut OsEntropy).unwrap();
        let assertion = self.assert(begun.challenge());
        let (request, pending) = begun.request(&assertion).unwrap();
        let Ok(Request::Release { key_id, stanza, sealed }) = keeper::decode_request(&request) else { panic!() };
        let mut meter = Meter::default();
        let released = meter.step("keeper", || release(&self.keys, key_id, &stanza, &sealed, &mut OsEntropy));
        let answer = keeper::encode_answer(&keeper::Answer::Released(released.unwrap()));
        assert!(pending.finish(&answer).is_ok(), "the device reads what was released");
        meter
    }

    fn assert(&self, challenge: &[u8; 32]) -> Assertion {
        let challenge = base64url(challenge);
        let data =
            format!(r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{ORIGIN}","crossOrigin":false}}"#);
        let mut assertion = Assertion {
            credential_id: vec![4; 32],
            authenticator_data: [&sha256(RP_ID.as_bytes())[..], &[0x1d, 0, 0, 0, 0]].concat(),
            client_data_json: data.into_bytes(),
            signature: vec![],
            user_handle: None,
        };
        let signature: DerSignature = self.passkey.sign(&assertion.signed_bytes());
        assertion.signature = signature.as_bytes().to_vec();
        assertion
    }
}
