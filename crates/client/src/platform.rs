//! Where the SDK runs, and which methods work there (DECISIONS.md D34). Checked before anything is changed.

use halfkey_envelope::wallet::Method;

use crate::error::{Error, Result};

/// The kind of system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Platform {
    /// Android.
    Android,
    /// iOS and iPadOS.
    Ios,
    /// macOS.
    MacOs,
    /// Linux.
    Linux,
    /// Windows.
    Windows,
    /// A browser.
    Web,
}

impl Platform {
    /// The name with which devices are enrolled.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Android => "android",
            Self::Ios => "ios",
            Self::MacOs => "macos",
            Self::Linux => "linux",
            Self::Windows => "windows",
            Self::Web => "web",
        }
    }

    /// The one this library was compiled for.
    #[must_use]
    pub const fn current() -> Self {
        if cfg!(target_os = "android") {
            Self::Android
        } else if cfg!(target_os = "ios") {
            Self::Ios
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else if cfg!(target_os = "windows") {
            Self::Windows
        } else if cfg!(target_family = "wasm") {
            Self::Web
        } else {
            Self::Linux
        }
    }
}

/// Where the passkeys of this app live (METHODS.md C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyConfig {
    /// The relying party's id: a domain. It must be one that the deployment's descriptor names.
    pub relying_party_id: String,
    /// Where the app's passkey ceremonies come from: `https://wallet.example`, or
    /// `android:apk-key-hash:` and the base64url SHA-256 of the app's certificate. An iOS app's is `https://<id>`.
    pub relying_party_origins: Vec<String>,
    /// What the sheet shows as the account's name. Never a secret.
    pub user_name: String,
}

impl PasskeyConfig {
    /// A relying party and the origins of its ceremonies.
    #[must_use]
    pub fn new(relying_party_id: impl Into<String>, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            relying_party_id: relying_party_id.into(),
            relying_party_origins: origins.into_iter().map(Into::into).collect(),
            user_name: "Wallet backup".to_owned(),
        }
    }
}

/// The app at Google (METHODS.md D).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoogleConfig {
    /// The OAuth client id of this app on this platform. All of one app's belong to one cloud project: the hidden folder
    /// is the project's.
    pub client_id: String,
    /// The app's name, as it is shown to the user.
    pub application_name: String,
    api_base: String,
}

impl GoogleConfig {
    /// An OAuth client id and the app's name.
    #[must_use]
    pub fn new(client_id: impl Into<String>, application_name: impl Into<String>) -> Self {
        let api_base = "https://www.googleapis.com".to_owned();
        Self { client_id: client_id.into(), application_name: application_name.into(), api_base }
    }

    /// Another address than Google's, without a slash at the end: whoever answers there gets the user's access token.
    /// For tests.
    #[must_use]
    pub fn danger_api_base(mut self, api_base: impl Into<String>) -> Self {
        self.api_base = api_base.into();
        self
    }

    pub(crate) fn api_base(&self) -> &str {
        &self.api_base
    }
}

/// The app at iCloud Keychain (METHODS.md E). Access group and service are the matter of the app's
/// [`crate::host::SyncedSecretStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ICloudConfig {
    /// The user has confirmed to the app that iCloud Keychain is on. No system tells an app; each backup that is made
    /// then is recorded as confirmed by the user, and counts before another device has read it.
    pub user_confirmed_sync: bool,
}

/// What the host tells about where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformEnv {
    /// The system.
    pub platform: Platform,
    /// Its major version: the API's name on Android is 28 for version 9, so give the *version*, 9.
    pub version: u32,
    /// Methods that the app knows to work here although the matrix says no, or not to work although it says yes.
    pub overrides: Vec<(Method, bool)>,
}

impl PlatformEnv {
    /// A system and its major version, with the matrix as it is.
    #[must_use]
    pub const fn new(platform: Platform, version: u32) -> Self {
        Self { platform, version, overrides: Vec::new() }
    }

    /// Whether `method` works here: PASSWORD, RECOVERY_CODE and GDRIVE everywhere; PASSKEY on Android 9+, iOS 16+ and
    /// the web; ICLOUD on iOS and macOS. A set works where all of its members do.
    #[must_use]
    pub fn supports(&self, method: &Method) -> bool {
        if let Some((_, verdict)) = self.overrides.iter().find(|(which, _)| which == method) {
            return *verdict;
        }
        match method {
            Method::Password | Method::RecoveryCode | Method::GoogleDrive | Method::Custom(_) => true,
            Method::Passkey => match self.platform {
                Platform::Android => self.version >= 9,
                Platform::Ios => self.version >= 16,
                Platform::Web => true,
                Platform::MacOs | Platform::Linux | Platform::Windows => false,
            },
            Method::ICloud => matches!(self.platform, Platform::Ios | Platform::MacOs),
            Method::Exit => false,
            Method::AllOf(set) => set.members().iter().all(|member| self.supports(member)),
        }
    }

    /// Refuses a method that does not work here, and names those that do; of a set the first member that does not.
    pub(crate) fn check(&self, method: &Method) -> Result<()> {
        let Some(method) = method.members().iter().find(|member| !self.supports(member)) else { return Ok(()) };
        Err(Error::UnsupportedPlatform {
            method: method.clone(),
            platform: self.platform,
            alternatives: self.alternatives(),
        })
    }

    /// The built-in methods that work here and that this version of the SDK can do.
    fn alternatives(&self) -> Vec<Method> {
        let done = [Method::Password, Method::Passkey, Method::GoogleDrive, Method::ICloud, Method::RecoveryCode];
        done.into_iter().filter(|method| self.supports(method)).collect()
    }
}

impl Default for PlatformEnv {
    fn default() -> Self {
        Self::new(Platform::current(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_the_documented_one() {
        let env = PlatformEnv::new;
        for platform in
            [Platform::Android, Platform::Ios, Platform::MacOs, Platform::Linux, Platform::Windows, Platform::Web]
        {
            for method in [Method::Password, Method::RecoveryCode, Method::GoogleDrive] {
                assert!(env(platform, 1).supports(&method), "{method} on {platform:?}");
            }
            let apple = matches!(platform, Platform::Ios | Platform::MacOs);
            assert_eq!(env(platform, 99).supports(&Method::ICloud), apple, "{platform:?}");
        }
        assert!(
            env(Platform::Android, 9).supports(&Method::Passkey)
                && !env(Platform::Android, 8).supports(&Method::Passkey)
        );
        assert!(
            env(Platform::Ios, 16).supports(&Method::Passkey) && !env(Platform::Ios, 15).supports(&Method::Passkey)
        );
        assert!(!env(Platform::Linux, 6).supports(&Method::Passkey));
    }

    #[test]
    fn the_host_knows_better_and_a_refusal_names_alternatives() {
        let mut env = PlatformEnv::new(Platform::Linux, 6);
        let refused = env.check(&Method::ICloud);
        let alternatives = vec![Method::Password, Method::GoogleDrive, Method::RecoveryCode];
        let expected = Error::UnsupportedPlatform { method: Method::ICloud, platform: Platform::Linux, alternatives };
        assert_eq!(refused, Err(expected));
        env.overrides.push((Method::ICloud, true));
        assert_eq!(env.check(&Method::ICloud), Ok(()));
    }
}
