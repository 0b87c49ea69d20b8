//! iCloud Keychain for apps in Rust: the host trait `SyncedSecretStore` of the SDK over `apple-native-keyring-store`.
//!
//! Type-checked for iOS and **never run on hardware of Apple's**; `docs/icloud.md` says what an app needs for it. On other
//! platforms this crate is empty.

#[cfg(any(target_os = "ios", target_os = "macos"))]
mod icloud;

#[cfg(any(target_os = "ios", target_os = "macos"))]
pub use icloud::ICloudKeychain;
