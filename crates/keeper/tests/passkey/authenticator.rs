//! A genuine authenticator and a genuine client, both of the `passkey` crates: what they make is registered on the
//! device, sealed, asserted and released.

use async_trait::async_trait;
use halfkey_envelope::{
    entropy::DangerSeededEntropy,
    passkey::{
        Algorithm, Assertion, Credential, Error, Mode, NewCredential, Op, Prf, PrfOutput, Registration, Release,
        SealParams, Stanza, base64url, prf_input, seal,
    },
};
use passkey::{
    authenticator::{
        Authenticator, MemoryStore, UiHint, UserCheck, UserValidationMethod, extensions::HmacSecretConfig,
    },
    client::{Client, DefaultClientData, DefaultClientDataWithExtra},
    crypto::{AvailableBackend, iana},
    types::{
        Passkey,
        ctap2::{Aaguid, Ctap2Error},
        webauthn::{AuthenticatedPublicKeyCredential, CredentialCreationOptions, CredentialRequestOptions},
    },
};
use serde_json::{Value, json};
use url::Url;

use crate::world::{CURRENT, ORIGIN, RECORD, RP_ID, ask, context, keys, public_key};

type Inner = Client<MemoryStore, Finger, AvailableBackend, public_suffix::PublicSuffixList, ()>;

/// Touches, and is verified where it is asked to be.
struct Finger;

#[async_trait]
impl UserValidationMethod for Finger {
    type PasskeyItem = Passkey;

    async fn check_user<'a>(
        &self,
        _: UiHint<'a, Passkey>,
        presence: bool,
        verification: bool,
    ) -> Result<UserCheck, Ctap2Error> {
        Ok(UserCheck { presence, verification })
    }

    fn is_presence_enabled(&self) -> bool {
        true
    }

    fn is_verification_enabled(&self) -> Option<bool> {
        Some(true)
    }
}

struct Phone {
    client: Inner,
    made: Vec<u8>,
}

impl Phone {
    fn new(algorithm: iana::Algorithm) -> Self {
        let mut authenticator = Authenticator::new(Aaguid::new_empty(), MemoryStore::new(), Finger, AvailableBackend)
            .hmac_secret(HmacSecretConfig::new_with_uv_only().enable_on_make_credential());
        authenticator.set_algorithms(&[algorithm]).unwrap();
        Self { client: Client::new(authenticator), made: vec![] }
    }

    async fn create(&mut self, challenge: &[u8]) -> Registration {
        let options: CredentialCreationOptions = serde_json::from_value(json!({"publicKey": {
            "rp": {"id": RP_ID, "name": "Wallet"},
            "user": {"id": base64url(&[9; 32]), "name": "user", "displayName": "user"},
            "challenge": base64url(challenge),
            "pubKeyCredParams": Algorithm::ALL.map(|one| json!({"type": "public-key", "alg": one.cose()})),
            "authenticatorSelection": {"residentKey": "required", "requireResidentKey": true, "userVerification": "required"},
            "attestation": "none",
            "extensions": {"prf": {}},
        }}))
        .unwrap();
        let origin = Url::parse(ORIGIN).unwrap();
        let created = self.client.register(&origin, options, DefaultClientData).await.unwrap();
        self.made = created.raw_id.to_vec();
        Registration {
            credential_id: created.raw_id.into(),
            attestation_object: created.response.attestation_object.into(),
            client_data_json: created.response.client_data_json.into(),
            transports: vec!["internal".to_owned()],
        }
    }

    async fn get(&mut self, challenge: &[u8], verification: &str, extra: Value) -> AuthenticatedPublicKeyCredential {
        // This authenticator computes the secret for a verified user only.
        let salt = base64url(&prf_input(&SALT));
        let prf = json!({"prf": {"eval": {"first": salt}}});
        let extensions = if verification == "required" { prf } else { json!({}) };
        let options: CredentialRequestOptions = serde_json::from_value(json!({"publicKey": {
            "rpId": RP_ID,
            "challenge": base64url(challenge),
            "allowCredentials": [{"type": "public-key", "id": base64url(&self.made)}],
            "userVerification": verification,
            "extensions": extensions,
        }}))
        .unwrap();
        let origin = Url::parse(ORIGIN).unwrap();
        self.client.authenticate(&origin, options, DefaultClientDataWithExtra(extra)).await.unwrap()
    }
}

const SALT: [u8; 32] = [6; 32];

fn assertion(got: AuthenticatedPublicKeyCredential) -> (Assertion, Option<Vec<u8>>) {
    let prf = got.client_extension_results.prf.and_then(|prf| prf.results).map(|results| results.first.into());
    let assertion = Assertion {
        credential_id: got.raw_id.into(),
        authenticator_data: got.response.authenticator_data.into(),
        client_data_json: got.response.client_data_json.into(),
        signature: got.response.signature.into(),
        user_handle: got.response.user_handle.map(Into::into),
    };
    (assertion, prf)
}

async fn register(phone: &mut Phone, algorithm: Algorithm) -> Credential {
    let registration = phone.create(&[7; 32]).await;
    let new = NewCredential::from_registration(&registration, &[7; 32], RP_ID, &[ORIGIN.to_owned()]).unwrap();
    assert_eq!(new.credential.key.algorithm(), algorithm);
    new.credential
}

fn sealed(mode: Mode, credential: &Credential, prf: Option<Prf<'_>>) -> Vec<u8> {
    let params = SealParams {
        mode,
        context: context(1),
        rp_id: RP_ID,
        origins: &[ORIGIN.to_owned()],
        credentials: std::slice::from_ref(credential),
        keeper: mode.has_keeper().then(|| (CURRENT, public_key(1, CURRENT))),
        prf,
    };
    seal(&params, RECORD, &mut DangerSeededEntropy::new(1)).unwrap()
}

fn begin(stanza: &[u8], seed: u64) -> Release {
    let to = (CURRENT, &public_key(1, CURRENT));
    Release::begin(to, Op::Backup, stanza, &context(1), &mut DangerSeededEntropy::new(seed)).unwrap()
}

#[tokio::test]
async fn what_a_genuine_authenticator_makes_is_released() {
    for (iana, algorithm) in [(iana::Algorithm::ES256, Algorithm::Es256), (iana::Algorithm::EdDSA, Algorithm::EdDsa)] {
        let mut phone = Phone::new(iana);
        let credential = register(&mut phone, algorithm).await;
        let stanza = sealed(Mode::Keeper, &credential, None);
        let release = begin(&stanza, 2);
        let (assertion, _) = assertion(phone.get(release.challenge(), "required", json!({})).await);
        let (request, pending) = release.request(&assertion).unwrap();
        let part = pending.finish(&ask(&keys(1), &request)).unwrap();
        let record = Stanza::parse(&stanza).unwrap().open(&context(1), Some(&part), None).unwrap();
        assert_eq!(*record, RECORD, "{algorithm:?}");
    }
}

#[tokio::test]
async fn keeper_and_prf_need_a_genuine_assertion_and_the_passkeys_own_secret() {
    let mut phone = Phone::new(iana::Algorithm::ES256);
    let credential = register(&mut phone, Algorithm::Es256).await;
    // Two gets: an output counts only if the second one confirms it.
    let (_, first) = assertion(phone.get(&[1; 32], "required", json!({})).await);
    let (_, second) = assertion(phone.get(&[2; 32], "required", json!({})).await);
    assert_eq!(first, second);
    let output = PrfOutput::new(&first.unwrap()).unwrap();
    let prf = Prf { salt: SALT, outputs: &[(&credential.id, &output)] };
    let stanza = sealed(Mode::KeeperAndPrf, &credential, Some(prf));
    let release = begin(&stanza, 3);
    let (assertion, prf) = assertion(phone.get(release.challenge(), "required", json!({})).await);
    let (request, pending) = release.request(&assertion).unwrap();
    let part = pending.finish(&ask(&keys(1), &request)).unwrap();
    let output = PrfOutput::new(&prf.unwrap()).unwrap();
    let stanza = Stanza::parse(&stanza).unwrap();
    let opened = stanza.open(&context(1), Some(&part), Some((&credential.id, &output))).unwrap();
    assert_eq!(*opened, RECORD);
    assert_eq!(stanza.open(&context(1), Some(&part), None).unwrap_err(), Error::MissingPart(Mode::KeeperAndPrf));
    let foreign = PrfOutput::new(&[1; 32]).unwrap();
    let refused = stanza.open(&context(1), Some(&part), Some((&credential.id, &foreign)));
    assert_eq!(refused.unwrap_err(), Error::DoesNotOpen);
}

#[tokio::test]
async fn an_authenticator_that_did_not_verify_its_user_is_refused() {
    let mut phone = Phone::new(iana::Algorithm::ES256);
    let credential = register(&mut phone, Algorithm::Es256).await;
    let stanza = sealed(Mode::Keeper, &credential, None);
    let release = begin(&stanza, 4);
    let (assertion, _) = assertion(phone.get(release.challenge(), "discouraged", json!({})).await);
    let (request, pending) = release.request(&assertion).unwrap();
    assert_eq!(pending.finish(&ask(&keys(1), &request)).unwrap_err().code(), "USER_NOT_VERIFIED");
}

#[tokio::test]
async fn what_an_apps_platform_adds_to_the_client_data_does_no_harm() {
    let mut phone = Phone::new(iana::Algorithm::ES256);
    let credential = register(&mut phone, Algorithm::Es256).await;
    let stanza = sealed(Mode::Keeper, &credential, None);
    let release = begin(&stanza, 5);
    let extra = json!({"androidPackageName": "com.example.wallet"});
    let (assertion, _) = assertion(phone.get(release.challenge(), "required", extra).await);
    let (request, pending) = release.request(&assertion).unwrap();
    assert!(pending.finish(&ask(&keys(1), &request)).is_ok());
}
