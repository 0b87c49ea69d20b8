//! The user's own clouds (METHODS.md D and E): who signs in to Google, and where items lie that iCloud Keychain carries to
//! the user's other devices. What is kept there is sealed under a key that neither has.

use async_trait::async_trait;
use zeroize::Zeroizing;

/// The OAuth scope that the SDK asks for: files in the app's own hidden folder, and no others.
pub const DRIVE_SCOPE: &str = "https://www.googleapis.com/auth/drive.appdata";

/// Whose token is wanted, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudTokenRequest {
    /// The app's OAuth client id at Google.
    pub client_id: String,
    /// The app's name, as it is shown to the user.
    pub application_name: String,
    /// [`DRIVE_SCOPE`].
    pub scope: &'static str,
}

/// An access token of the user's Google account.
pub struct CloudToken {
    /// For the `Authorization` header.
    pub access_token: Zeroizing<String>,
    /// The account's stable id: `sub` of the OpenID Connect id token. Never the address, which can change.
    pub account: String,
    /// What the user knows the account by, such as its address. Only a masked form of it leaves the device.
    pub label: String,
}

/// Shows neither token nor account.
impl core::fmt::Debug for CloudToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CloudToken")
    }
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloudTokenError {
    /// The user's consent has ended or was withdrawn, and this provider cannot ask for it now.
    #[error("the user has to sign in to the cloud again")]
    NeedsReauth,
    /// The user closed the sign-in.
    #[error("the user cancelled the sign-in")]
    Cancelled,
    /// The sign-in service cannot be reached.
    #[error("the sign-in service cannot be reached")]
    Unreachable,
}

/// Gives access tokens of the user's Google account; asks the user to sign in where needed. It may be asked several times
/// in one call of the SDK and prompts at most once for them.
#[async_trait]
pub trait CloudTokenProvider: Send + Sync {
    /// A token that is valid now; may refresh it.
    async fn token(&self, wanted: &CloudTokenRequest) -> Result<CloudToken, CloudTokenError>;
    /// Google refused the last token: do not give it again.
    fn invalidated(&self);
}

/// Why a store of synchronised items did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncedError {
    /// Locked for now: the user must unlock the device.
    #[error("the keychain is locked")]
    Locked,
    /// The app lacks the entitlement for it (`errSecMissingEntitlement`): a fault of the app's build.
    #[error("the app may not use the keychain")]
    MissingEntitlement,
    /// It does not work here, or failed in another way.
    #[error("the keychain cannot be used")]
    Unavailable,
}

/// Small items that the system carries to the user's other devices: `kSecAttrSynchronizable` items of iCloud Keychain,
/// accessible when unlocked. Names are of `a-z`, `0-9` and `-`, at most 90 characters; values have at most 5 KB.
#[async_trait]
pub trait SyncedSecretStore: Send + Sync {
    /// Adds an item, durably on this device. One of that name with the same value is success already.
    async fn put(&self, name: &str, value: &[u8]) -> Result<(), SyncedError>;
    /// Every item of that name: none, one, or several where devices made some at the same time.
    async fn get(&self, name: &str) -> Result<Vec<Vec<u8>>, SyncedError>;
    /// Deletes the items of that name, here and on other devices. Deleting none is no error.
    async fn delete(&self, name: &str) -> Result<(), SyncedError>;
    /// The names that begin with `prefix`.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, SyncedError>;
}

/// Lets time pass.
#[async_trait]
pub trait Timer: Send + Sync {
    /// Comes back after so many milliseconds.
    async fn wait(&self, ms: u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let token = CloudToken {
            access_token: Zeroizing::new("ya29.secret".to_owned()),
            account: "1".to_owned(),
            label: "a@example.com".to_owned(),
        };
        assert_eq!(format!("{token:?}"), "CloudToken");
    }
}
