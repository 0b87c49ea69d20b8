//! What an app implements for the SDK: the network, two places on the device, the session and the clock.
//!
//! All are held as `Arc<dyn …>` and answer through boxed futures that are `Send`; nothing here names a runtime.

mod clouds;
mod custom;
mod passkeys;

use async_trait::async_trait;
use zeroize::Zeroizing;

pub use self::clouds::{
    CloudToken, CloudTokenError, CloudTokenProvider, CloudTokenRequest, DRIVE_SCOPE, SyncedError, SyncedSecretStore,
    Timer,
};
pub use self::custom::{CustomError, CustomMethod};
pub use self::passkeys::{
    CredentialRef, PasskeyCreate, PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot, Passkeys, PrfOutput,
};

/// One HTTP request, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// The absolute URL.
    pub url: String,
    /// Lower-case names. They hold the session token: never log them.
    pub headers: Vec<(String, String)>,
    /// Empty for a `GET`.
    pub body: Vec<u8>,
}

/// Shows where the request goes; headers and body may be secret.
impl core::fmt::Debug for Request {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Request({} {}, {} bytes)", self.method, self.url, self.body.len())
    }
}

/// The answer to a [`Request`], of any status.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    /// The whole body; the transport refuses more than [`MAX_RESPONSE`].
    pub body: Vec<u8>,
}

/// Shows the status and the length only.
impl core::fmt::Debug for Response {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

/// The longest body that the SDK reads, in bytes.
pub const MAX_RESPONSE: usize = 1 << 20;

/// Why no answer came. The request may or may not have reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection: offline, refused, or the name does not resolve.
    #[error("the server cannot be reached")]
    Unreachable,
    /// No answer in time. Long steps (key generation) may take several seconds: allow a minute.
    #[error("the server did not answer in time")]
    Timeout,
    /// TLS refused the server's certificate.
    #[error("the connection is not trusted")]
    Untrusted,
    /// The answer is larger than [`MAX_RESPONSE`], or broke off.
    #[error("the answer was cut off or too large")]
    BadAnswer,
}

/// Sends HTTP requests: URLSession, OkHttp, fetch, reqwest. Follows no redirects and retries nothing by itself.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request and gives the answer, of whatever status.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;
}

/// Why a store on the device did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Locked for now: the user must unlock the device or give the passphrase.
    #[error("the device's store is locked")]
    Locked,
    /// No space, no permission, or the browser forbids storage.
    #[error("the device's store cannot be used")]
    Unavailable,
}

/// The 32-byte key that wraps everything this device keeps: keychain, Keystore, Secret Service, or a file under a
/// passphrase.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The key, or `None` if none was ever written or it is gone for good: never while it is merely locked, because a
    /// recovery then makes a new one.
    async fn read(&self) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError>;
    /// Keeps the key, durably, before it returns.
    async fn write(&self, key: &[u8; 32]) -> Result<(), StoreError>;
}

/// The two sealed blobs of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobSlot {
    /// What the device works with.
    Current,
    /// What a create or a recovery is about to make current.
    Pending,
}

impl BlobSlot {
    /// A name for files and keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Pending => "pending",
        }
    }
}

/// Sealed bytes (at most [`MAX_BLOB`]) in two slots: a file, IndexedDB. Worthless without the [`SecretStore`]'s key.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// The blob, or `None` if the slot is empty.
    async fn read(&self, slot: BlobSlot) -> Result<Option<Vec<u8>>, StoreError>;
    /// Replaces the blob **atomically and durably**: after a crash the slot holds the old or the new bytes, whole.
    async fn write(&self, slot: BlobSlot, bytes: &[u8]) -> Result<(), StoreError>;
    /// Empties the slot. Emptying an empty slot is no error.
    async fn delete(&self, slot: BlobSlot) -> Result<(), StoreError>;
}

/// The longest blob, in bytes: a signing party of each curve is about 55 KB.
pub const MAX_BLOB: usize = 512 * 1024;

/// The user is not signed in, and cannot be without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sign in again")]
pub struct SignedOut;

/// Gives the credential of the client: a session token that the app's backend minted, or an API key in tests.
#[async_trait]
pub trait SessionProvider: Send + Sync {
    /// A token that is valid now; may refresh it.
    async fn token(&self) -> Result<Zeroizing<String>, SignedOut>;
    /// The server refused the last token: do not give it again.
    fn invalidated(&self);
}

/// Milliseconds since the Unix epoch.
pub trait Clock: Send + Sync {
    /// Now.
    fn now_ms(&self) -> u64;
}

/// The user closed the prompt, or the app cannot show one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the prompt was dismissed")]
pub struct Dismissed;

/// Asks the user something in the middle of a call.
#[async_trait]
pub trait Prompt: Send + Sync {
    /// Shows a new recovery code, once, and gives what the user typed after having written it down.
    /// `again` is true when what was typed before did not match.
    async fn confirm_recovery_code(&self, code: &str, again: bool) -> Result<Zeroizing<String>, Dismissed>;
}

/// A [`SessionProvider`] around one token that never changes: for tests, command lines and client API keys.
pub struct FixedToken(Zeroizing<String>);

impl FixedToken {
    /// Keeps the token.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(Zeroizing::new(token.into()))
    }
}

#[async_trait]
impl SessionProvider for FixedToken {
    async fn token(&self) -> Result<Zeroizing<String>, SignedOut> {
        Ok(self.0.clone())
    }

    fn invalidated(&self) {}
}
