//! INSECURE: passkeys in a file, for demos and tests.
//!
//! Whoever reads the folder has the passkeys, "user verified" is claimed and not checked, and nothing is synchronised to
//! another device although the flags say so. The authenticator and the browser's part are the `passkey` crates'.

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use halfkey_client::host::{
    CredentialRef, PasskeyCreate, PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot, Passkeys, PrfOutput,
};
use passkey::{
    authenticator::{
        Authenticator, CredentialStore, DiscoverabilitySupport, StoreInfo, UiHint, UserCheck, UserValidationMethod,
        extensions::HmacSecretConfig,
    },
    client::{Client, DefaultClientData, WebauthnError},
    crypto::{AvailableBackend, CoseKey, coset::CborSerializable},
    types::{
        CredentialExtensions, Passkey, StoredHmacSecret,
        ctap2::{
            Aaguid, Ctap2Error, StatusCode,
            make_credential::{Options, PublicKeyCredentialRpEntity, PublicKeyCredentialUserEntity},
        },
        webauthn::{
            CreatedPublicKeyCredential, CredentialCreationOptions, CredentialRequestOptions,
            PublicKeyCredentialDescriptor,
        },
    },
};
use public_suffix::PublicSuffixList;
use reqwest::Url;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    profile,
};

const FILE: &str = "danger-software-passkeys.json";

type Inner = Client<Folder, AlwaysYes, AvailableBackend, PublicSuffixList, ()>;

/// See the module.
pub struct DangerSoftwarePasskeys {
    client: Mutex<Inner>,
    origin: Url,
}

impl DangerSoftwarePasskeys {
    /// Passkeys in a file (0600) of `folder`, used as if a browser were at `origin` (`https://…` or
    /// `http://localhost…`). A program without debug assertions, and any against a deployment in `production`, takes
    /// them only if the user asked for them by name.
    ///
    /// # Errors
    /// [`Error::Usage`] when it was not asked for, or `origin` is none; [`Error::File`], [`Error::NotPrivate`].
    pub fn open(folder: &Path, origin: &str, production: bool, danger_asked_for: bool) -> Result<Self> {
        refuse_unless_asked(production || !cfg!(debug_assertions), danger_asked_for)?;
        let origin = Url::parse(origin).map_err(|_| Error::Usage(format!("{origin:?} is not an origin")))?;
        let store = Folder::open(folder)?;
        let prf = HmacSecretConfig::new_with_uv_only().enable_on_make_credential();
        let authenticator = Authenticator::new(Aaguid::new_empty(), store, AlwaysYes, AvailableBackend);
        let client = Client::new(authenticator.hmac_secret(prf)).allows_insecure_localhost(true);
        Ok(Self { client: Mutex::new(client), origin })
    }
}

fn refuse_unless_asked(in_earnest: bool, asked_for: bool) -> Result<()> {
    if in_earnest && !asked_for {
        let told =
            "software passkeys lie in a file and protect nothing: name --danger-software-passkeys if that is meant";
        return Err(Error::Usage(told.to_owned()));
    }
    Ok(())
}

#[async_trait]
impl Passkeys for DangerSoftwarePasskeys {
    async fn create(&self, request: PasskeyCreate) -> std::result::Result<PasskeyCreated, PasskeyError> {
        let algorithms = [-7, -8, -257].map(|alg| json!({ "type": "public-key", "alg": alg }));
        let options: CredentialCreationOptions = options(json!({
            "rp": { "id": request.rp_id, "name": request.rp_name },
            "user": {
                "id": text(&request.user_handle),
                "name": request.user_name,
                "displayName": request.user_name,
            },
            "challenge": text(&request.challenge),
            "pubKeyCredParams": algorithms,
            "excludeCredentials": descriptors(&request.exclude),
            "authenticatorSelection": {
                "residentKey": "required", "requireResidentKey": true, "userVerification": "required",
            },
            "attestation": "none",
            "extensions": extensions(request.prf.as_ref()),
        }))?;
        let mut client = self.client.lock().await;
        let created: CreatedPublicKeyCredential =
            client.register(&self.origin, options, DefaultClientData).await.map_err(|error| refused(&error))?;
        let prf = created.client_extension_results.prf;
        Ok(PasskeyCreated {
            credential_id: created.raw_id.into(),
            attestation_object: created.response.attestation_object.into(),
            client_data_json: created.response.client_data_json.into(),
            transports: vec!["internal".to_owned()],
            prf_enabled: prf.as_ref().is_some_and(|prf| prf.enabled == Some(true)),
            prf: prf.and_then(|prf| prf.results).map(|results| output(results.first.into())),
        })
    }

    async fn get(&self, request: PasskeyGet) -> std::result::Result<PasskeyGot, PasskeyError> {
        let options: CredentialRequestOptions = options(json!({
            "rpId": request.rp_id,
            "challenge": text(&request.challenge),
            "allowCredentials": descriptors(&request.allow),
            "userVerification": "required",
            "extensions": extensions(request.prf.as_ref()),
        }))?;
        let mut client = self.client.lock().await;
        let got =
            client.authenticate(&self.origin, options, DefaultClientData).await.map_err(|error| refused(&error))?;
        let prf = got.client_extension_results.prf.and_then(|prf| prf.results);
        if request.prf.is_some() && prf.is_none() {
            return Err(PasskeyError::PrfUnsupported);
        }
        Ok(PasskeyGot {
            credential_id: got.raw_id.into(),
            authenticator_data: got.response.authenticator_data.into(),
            client_data_json: got.response.client_data_json.into(),
            signature: got.response.signature.into(),
            user_handle: got.response.user_handle.map(Into::into),
            prf: prf.map(|results| output(results.first.into())),
        })
    }
}

fn options<T: DeserializeOwned>(public_key: Value) -> std::result::Result<T, PasskeyError> {
    serde_json::from_value(json!({ "publicKey": public_key })).map_err(|_| PasskeyError::Failed)
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn descriptors(list: &[CredentialRef]) -> Value {
    list.iter().map(|one| json!({ "type": "public-key", "id": text(&one.id) })).collect()
}

fn extensions(prf: Option<&[u8; 32]>) -> Value {
    prf.map_or_else(|| json!({}), |input| json!({ "prf": { "eval": { "first": text(input) } } }))
}

fn output(bytes: Vec<u8>) -> PrfOutput {
    PrfOutput::new(Zeroizing::new(bytes))
}

fn refused(error: &WebauthnError) -> PasskeyError {
    let excluded = u8::from(StatusCode::from(Ctap2Error::CredentialExcluded));
    match error {
        WebauthnError::CredentialNotFound => PasskeyError::NoPasskey,
        WebauthnError::AuthenticatorError(code) if *code == excluded => PasskeyError::AlreadyRegistered,
        WebauthnError::OriginRpMissmatch
        | WebauthnError::OriginMissingDomain
        | WebauthnError::UnprotectedOrigin
        | WebauthnError::InvalidRpId => PasskeyError::NotAvailable,
        _ => PasskeyError::Failed,
    }
}

/// Nobody is asked, and every user is the right one.
struct AlwaysYes;

#[async_trait]
impl UserValidationMethod for AlwaysYes {
    type PasskeyItem = Passkey;

    async fn check_user<'a>(
        &self,
        hint: UiHint<'a, Passkey>,
        _: bool,
        _: bool,
    ) -> std::result::Result<UserCheck, Ctap2Error> {
        // The authenticator leaves it to this part to end the request.
        if matches!(hint, UiHint::InformExcludedCredentialFound(_)) {
            return Err(Ctap2Error::CredentialExcluded);
        }
        Ok(UserCheck { presence: true, verification: true })
    }

    fn is_presence_enabled(&self) -> bool {
        true
    }

    fn is_verification_enabled(&self) -> Option<bool> {
        Some(true)
    }
}

/// The file, and what is in it.
struct Folder {
    path: PathBuf,
    passkeys: Vec<Passkey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    credential_id: String,
    rp_id: String,
    user_handle: Option<String>,
    user_name: Option<String>,
    key: String,
    prf: Option<String>,
}

impl Folder {
    fn open(path: &Path) -> Result<Self> {
        let unreadable = || Error::Failed(format!("{FILE} does not parse"));
        let passkeys = match profile::read_private_file(path, FILE)? {
            None => Vec::new(),
            Some(bytes) => {
                let stored: Vec<Stored> = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
                stored.into_iter().map(load).collect::<Option<_>>().ok_or_else(unreadable)?
            }
        };
        fs::create_dir_all(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), passkeys })
    }

    fn save(&self) -> std::result::Result<(), StatusCode> {
        let other = || StatusCode::from(Ctap2Error::Other);
        let stored: Vec<Stored> = self.passkeys.iter().map(store).collect::<Option<_>>().ok_or_else(other)?;
        let bytes = Zeroizing::new(serde_json::to_vec(&stored).map_err(|_| other())?);
        profile::replace(&self.path, FILE, &bytes).map_err(|_| other())
    }
}

fn store(passkey: &Passkey) -> Option<Stored> {
    Some(Stored {
        credential_id: text(&passkey.credential_id),
        rp_id: passkey.rp_id.clone(),
        user_handle: passkey.user_handle.as_ref().map(|bytes| text(bytes)),
        user_name: passkey.username.clone(),
        key: text(&passkey.key.clone().to_vec().ok()?),
        prf: passkey.extensions.hmac_secret.as_ref().map(|secret| text(&secret.cred_with_uv)),
    })
}

fn load(stored: Stored) -> Option<Passkey> {
    let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let secret = |cred_with_uv| StoredHmacSecret { cred_with_uv, cred_without_uv: None };
    let hmac_secret = match &stored.prf {
        Some(text) => Some(secret(bytes(text)?)),
        None => None,
    };
    let user_handle = match &stored.user_handle {
        Some(text) => Some(bytes(text)?.into()),
        None => None,
    };
    Some(Passkey {
        key: CoseKey::from_slice(&bytes(&stored.key)?).ok()?,
        credential_id: bytes(&stored.credential_id)?.into(),
        rp_id: stored.rp_id,
        user_handle,
        user_display_name: stored.user_name.clone(),
        username: stored.user_name,
        counter: None,
        extensions: CredentialExtensions { hmac_secret },
    })
}

#[async_trait]
impl CredentialStore for Folder {
    type PasskeyItem = Passkey;

    async fn find_credentials(
        &self,
        ids: Option<&[PublicKeyCredentialDescriptor]>,
        rp_id: &str,
        user_handle: Option<&[u8]>,
    ) -> std::result::Result<Vec<Passkey>, StatusCode> {
        let named = |passkey: &Passkey| {
            ids.is_none_or(|ids| ids.iter().any(|id| id.id.as_slice() == passkey.credential_id.as_slice()))
        };
        // Credentials that are named are meant whatever their user: each of our passkeys has a handle of its own.
        let of_user = |passkey: &Passkey| {
            ids.is_some()
                || user_handle
                    .is_none_or(|handle| passkey.user_handle.as_ref().is_some_and(|own| own.as_slice() == handle))
        };
        let fits = |passkey: &&Passkey| passkey.rp_id == rp_id && named(passkey) && of_user(passkey);
        let found: Vec<Passkey> = self.passkeys.iter().filter(fits).cloned().collect();
        if found.is_empty() { Err(Ctap2Error::NoCredentials.into()) } else { Ok(found) }
    }

    async fn save_credential(
        &mut self,
        passkey: Passkey,
        _: PublicKeyCredentialUserEntity,
        _: PublicKeyCredentialRpEntity,
        _: Options,
    ) -> std::result::Result<(), StatusCode> {
        self.passkeys.push(passkey);
        self.save()
    }

    async fn update_credential(&mut self, _: &Passkey) -> std::result::Result<(), StatusCode> {
        // There is no counter, and nothing else changes.
        Ok(())
    }

    async fn get_info(&self) -> StoreInfo {
        StoreInfo { discoverability: DiscoverabilitySupport::Full }
    }
}

#[cfg(test)]
#[path = "danger_software_passkeys_tests.rs"]
mod tests;
