//! The system's passkey sheet (METHODS.md C): Credential Manager on Android, AuthenticationServices on Apple's systems,
//! `navigator.credentials` in a browser.

use async_trait::async_trait;
use zeroize::Zeroizing;

/// One credential, as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRef {
    /// The credential's id, raw.
    pub id: Vec<u8>,
    /// How it is reached, as it was told at creation: `internal`, `hybrid`, `usb`, `nfc`, `ble`… Empty if unknown.
    pub transports: Vec<String>,
}

/// Wishes for a new passkey: [WebAuthn Level 3, section 5.4][1].
///
/// Not told here because it never changes, and the host asks for it in every request: user verification `required`;
/// resident key `required`; attestation `none`; algorithms ES256 (-7), then EdDSA (-8), then RS256 (-257).
///
/// [1]: https://www.w3.org/TR/webauthn-3/#dictionary-makecredentialoptions
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyCreate {
    /// The relying party: a domain, without scheme or port.
    pub rp_id: String,
    /// The relying party's name, for people.
    pub rp_name: String,
    /// `user.id`: random, and another one for each passkey. An authenticator replaces a passkey of the same relying party
    /// and handle, and none may be replaced before the backup under the new one is proven.
    pub user_handle: [u8; 32],
    /// `user.name` and `user.displayName`: what the sheet shows. Never a secret.
    pub user_name: String,
    /// Signed over by the authenticator.
    pub challenge: [u8; 32],
    /// `excludeCredentials`: an authenticator that holds one of these makes no second one.
    pub exclude: Vec<CredentialRef>,
    /// Goes as it is into `extensions.prf.eval.first`; `None` asks for no PRF.
    pub prf: Option<[u8; 32]>,
}

/// What came of a [`PasskeyCreate`], raw: nothing in it was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct PasskeyCreated {
    /// The new credential's id (`rawId`).
    pub credential_id: Vec<u8>,
    /// `response.attestationObject`.
    pub attestation_object: Vec<u8>,
    /// `response.clientDataJSON`, byte by byte.
    pub client_data_json: Vec<u8>,
    /// `response.getTransports()`.
    pub transports: Vec<String>,
    /// `getClientExtensionResults().prf.enabled`: this passkey can be asked for PRF outputs.
    pub prf_enabled: bool,
    /// `getClientExtensionResults().prf.results.first`. Few authenticators give it at creation, and alone it counts
    /// for nothing: a `get()` must give the same.
    pub prf: Option<PrfOutput>,
}

/// A wish to use a passkey: [WebAuthn Level 3, section 5.5][1]. User verification is always `required`.
///
/// [1]: https://www.w3.org/TR/webauthn-3/#dictionary-assertion-options
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyGet {
    /// The relying party: a domain, without scheme or port.
    pub rp_id: String,
    /// Signed over by the authenticator.
    pub challenge: [u8; 32],
    /// `allowCredentials`: one of these answers. Never empty.
    pub allow: Vec<CredentialRef>,
    /// Goes as it is into `extensions.prf.eval.first`; `None` asks for no PRF.
    pub prf: Option<[u8; 32]>,
}

/// What came of a [`PasskeyGet`], raw: nothing in it was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct PasskeyGot {
    /// The credential that answered (`rawId`).
    pub credential_id: Vec<u8>,
    /// `response.authenticatorData`.
    pub authenticator_data: Vec<u8>,
    /// `response.clientDataJSON`, byte by byte.
    pub client_data_json: Vec<u8>,
    /// `response.signature`.
    pub signature: Vec<u8>,
    /// `response.userHandle`, which some authenticators leave out.
    pub user_handle: Option<Vec<u8>>,
    /// `getClientExtensionResults().prf.results.first`.
    pub prf: Option<PrfOutput>,
}

/// What an authenticator's PRF gave: key material. Normally 32 bytes; the envelope refuses any other.
#[derive(Clone, PartialEq, Eq)]
pub struct PrfOutput(Zeroizing<Vec<u8>>);

impl PrfOutput {
    /// Takes the output; the bytes are wiped with it.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes: only for the derivation of a key.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl core::fmt::Debug for PrfOutput {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PrfOutput")
    }
}

/// Shows the sizes only.
impl core::fmt::Debug for PasskeyCreated {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PasskeyCreated({} + {} bytes)", self.attestation_object.len(), self.client_data_json.len())
    }
}

/// Shows the sizes only: an assertion is a bearer credential until its challenge is spent.
impl core::fmt::Debug for PasskeyGot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PasskeyGot({} + {} bytes)", self.authenticator_data.len(), self.client_data_json.len())
    }
}

/// Why there is no passkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasskeyError {
    /// The user closed the sheet or let it time out. Browsers answer the same (`NotAllowedError`) when user
    /// verification failed.
    #[error("the user cancelled")]
    Cancelled,
    /// This device or this app cannot use passkeys of that relying party: no screen lock, too old a system, or the
    /// app is not in the relying party's files.
    #[error("passkeys cannot be used here")]
    NotAvailable,
    /// None of the asked-for passkeys is on this device. Where the system does not tell, it is
    /// [`Self::Cancelled`].
    #[error("no such passkey on this device")]
    NoPasskey,
    /// The authenticator already holds an excluded passkey.
    #[error("this authenticator already holds a passkey of this backup")]
    AlreadyRegistered,
    /// PRF was asked for, and the authenticator or the browser has none.
    #[error("this passkey cannot derive secrets (PRF)")]
    PrfUnsupported,
    /// Anything else: the sheet failed, or answered something that does not parse.
    #[error("the passkey could not be used")]
    Failed,
}

/// Shows the system's sheet. Waits for the user as long as the system does, and keeps nothing of what passes through.
#[async_trait]
pub trait Passkeys: Send + Sync {
    /// Makes a passkey.
    async fn create(&self, request: PasskeyCreate) -> Result<PasskeyCreated, PasskeyError>;
    /// Signs a challenge with a passkey, and evaluates its PRF where asked.
    async fn get(&self, request: PasskeyGet) -> Result<PasskeyGot, PasskeyError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_passkey_gave_is_shown() {
        let prf = PrfOutput::new(Zeroizing::new(vec![7; 32]));
        assert_eq!(format!("{prf:?}"), "PrfOutput");
        let got = PasskeyGot {
            credential_id: vec![1; 16],
            authenticator_data: vec![2; 37],
            client_data_json: vec![3; 100],
            signature: vec![4; 70],
            user_handle: Some(vec![5; 32]),
            prf: Some(prf.clone()),
        };
        assert_eq!(format!("{got:?}"), "PasskeyGot(37 + 100 bytes)");
        let created = PasskeyCreated {
            credential_id: vec![1; 16],
            attestation_object: vec![2; 200],
            client_data_json: vec![3; 100],
            transports: vec![],
            prf_enabled: true,
            prf: Some(prf),
        };
        assert_eq!(format!("{created:?}"), "PasskeyCreated(200 + 100 bytes)");
    }
}
