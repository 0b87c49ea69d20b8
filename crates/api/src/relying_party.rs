//! What a relying party says about the apps and origins that may use its passkeys, and the three files it says it in.
//!
//! * Apple: `/.well-known/apple-app-site-association`, [associated domains][apple].
//! * Google: `/.well-known/assetlinks.json`, [Digital Asset Links][google].
//! * W3C: `/.well-known/webauthn`, [WebAuthn Level 3, section 5.11][w3c], related origins.
//!
//! A value of these types is valid; what is not is refused by name when it is parsed.
//!
//! [apple]: https://developer.apple.com/documentation/xcode/supporting-associated-domains
//! [google]: https://developers.google.com/digital-asset-links/v1/create-statement
//! [w3c]: https://www.w3.org/TR/webauthn-3/#sctn-related-origins

use std::{collections::BTreeSet, fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::message;

/// At most so many apps of each kind, and so many related origins, from one custodian.
pub const MAX_ENTRIES: usize = 20;
/// At most so many signing certificates of one Android app.
pub const MAX_FINGERPRINTS: usize = 10;
/// No file is longer, in bytes: Apple fetches no more.
pub const MAX_FILE: usize = 128 * 1024;
/// Clients must support so many different registrable labels in related origins, and may support no more.
pub const MAX_LABELS: usize = 5;

/// Where Apple's systems look.
pub const APPLE_PATH: &str = "/.well-known/apple-app-site-association";
/// Where Android looks.
pub const ANDROID_PATH: &str = "/.well-known/assetlinks.json";
/// Where browsers look for related origins.
pub const WEBAUTHN_PATH: &str = "/.well-known/webauthn";
/// The relation that lets an Android app use a site's passkeys.
pub const LOGIN_RELATION: &str = "delegate_permission/common.get_login_creds";

/// Why a text is none of the things here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Not a domain.
    #[error("a domain in lower-case ASCII, without scheme, port or path")]
    Domain,
    /// Not an Apple app id.
    #[error("an app id is TEAMID.bundle.id: ten letters and digits, a full stop, and the bundle id")]
    AppleApp,
    /// Not an Android package name.
    #[error("a package name is at least two parts of letters, digits and underscores, with full stops between")]
    Package,
    /// Not a certificate's fingerprint.
    #[error("a fingerprint is SHA-256 as 32 pairs of hex digits, with colons between")]
    Fingerprint,
    /// Not an origin.
    #[error("an origin is https://host or https://host:port, in lower-case ASCII, without a path")]
    Origin,
    /// More than is allowed of them.
    #[error("too many")]
    TooMany,
    /// An Android app without a certificate.
    #[error("an app needs at least one fingerprint")]
    NoFingerprint,
    /// The same thing twice.
    #[error("twice")]
    Twice,
}

macro_rules! text {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text! {
    /// A domain: a relying party's id, or the host of an origin. `localhost` is one; an address is none.
    Domain;
    /// `TEAMID.bundle.id`: the application identifier prefix and the bundle id.
    AppleApp;
    /// An Android application id.
    Package;
    /// `https://host[:port]`, as browsers write it.
    Origin;
}

impl FromStr for Domain {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let labels: Vec<&str> = text.split('.').collect();
        let good = |label: &&str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label that begins with a digit is an address' or nobody's.
        let named = labels.last().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_lowercase()));
        let whole = text.len() <= 253 && labels.iter().all(good) && named && (labels.len() > 1 || text == "localhost");
        if whole { Ok(Self(text.to_owned())) } else { Err(Invalid::Domain) }
    }
}

impl FromStr for AppleApp {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (team, bundle) = text.split_once('.').ok_or(Invalid::AppleApp)?;
        let team = team.len() == 10 && team.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let bundle = bundle.len() <= 155 && bundle.split('.').all(part);
        if team && bundle { Ok(Self(text.to_owned())) } else { Err(Invalid::AppleApp) }
    }
}

impl FromStr for Package {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let part = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let good = text.len() <= 255 && text.contains('.') && text.split('.').all(part);
        if good { Ok(Self(text.to_owned())) } else { Err(Invalid::Package) }
    }
}

impl FromStr for Origin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rest = text.strip_prefix("https://").ok_or(Invalid::Origin)?;
        let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
        let host: Domain = host.parse().map_err(|_| Invalid::Origin)?;
        // Browsers leave the scheme's own port out, and so does whoever compares with what they say.
        let canonical = |port: &str| {
            port.parse::<u16>().is_ok_and(|number| number != 0 && number != 443 && number.to_string() == port)
        };
        let good = host.as_str() != "localhost" && port.is_none_or(canonical);
        if good { Ok(Self(text.to_owned())) } else { Err(Invalid::Origin) }
    }
}

impl Origin {
    /// The host, without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.0.strip_prefix("https://").unwrap_or_default();
        rest.split(':').next().unwrap_or_default()
    }
}

/// SHA-256 of the certificate that signs an Android app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl FromStr for Fingerprint {
    type Err = Invalid;

    /// `AB:CD:…`, in either case, as `keytool` and Google's consoles print it.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut bytes = [0; 32];
        let pairs: Vec<&str> = text.split(':').collect();
        let good = pairs.len() == 32 && pairs.iter().all(|pair| pair.len() == 2);
        if good && hex::decode_to_slice(pairs.concat(), &mut bytes).is_ok() {
            return Ok(Self(bytes));
        }
        Err(Invalid::Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

impl Fingerprint {
    /// What an app signed so gives as its origin in `clientDataJSON`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("android:apk-key-hash:{}", BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// An Android app: a name and who may have signed it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AndroidApp {
    /// Its application id.
    pub package: Package,
    /// At least one.
    pub fingerprints: BTreeSet<Fingerprint>,
}

/// Who may use a relying party's passkeys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apps {
    /// On Apple's systems.
    pub apple: BTreeSet<AppleApp>,
    /// On Android.
    pub android: BTreeSet<AndroidApp>,
    /// Other origins of the web.
    pub origins: BTreeSet<Origin>,
}

/// Which field of a message is not valid, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct InvalidField {
    /// As in the JSON, with the place in a list: `androidApps[0].packageName`.
    pub field: String,
    /// Why.
    pub why: Invalid,
}

impl TryFrom<&message::RelyingPartyApps> for Apps {
    type Error = InvalidField;

    fn try_from(message: &message::RelyingPartyApps) -> Result<Self, InvalidField> {
        Ok(Self {
            apple: all("appleAppIds", &message.apple_app_ids, MAX_ENTRIES)?,
            android: android(&message.android_apps)?,
            origins: all("relatedOrigins", &message.related_origins, MAX_ENTRIES)?,
        })
    }
}

fn android(apps: &[message::AndroidApp]) -> Result<BTreeSet<AndroidApp>, InvalidField> {
    let at = |index: usize, field: &str| format!("androidApps[{index}].{field}");
    if apps.len() > MAX_ENTRIES {
        return Err(InvalidField { field: "androidApps".to_owned(), why: Invalid::TooMany });
    }
    let mut seen = BTreeSet::new();
    let mut parsed = BTreeSet::new();
    for (index, app) in apps.iter().enumerate() {
        let invalid = |why| InvalidField { field: at(index, "packageName"), why };
        let package: Package = app.package_name.parse().map_err(invalid)?;
        if !seen.insert(package.clone()) {
            return Err(invalid(Invalid::Twice));
        }
        let field = at(index, "certificateFingerprints");
        let fingerprints = all(&field, &app.certificate_fingerprints, MAX_FINGERPRINTS)?;
        if fingerprints.is_empty() {
            return Err(InvalidField { field, why: Invalid::NoFingerprint });
        }
        parsed.insert(AndroidApp { package, fingerprints });
    }
    Ok(parsed)
}

fn all<T: FromStr<Err = Invalid> + Ord>(
    field: &str,
    texts: &[String],
    limit: usize,
) -> Result<BTreeSet<T>, InvalidField> {
    if texts.len() > limit {
        return Err(InvalidField { field: field.to_owned(), why: Invalid::TooMany });
    }
    let mut parsed = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        let invalid = |why| InvalidField { field: format!("{field}[{index}]"), why };
        if !parsed.insert(text.parse().map_err(invalid)?) {
            return Err(invalid(Invalid::Twice));
        }
    }
    Ok(parsed)
}

impl From<&Apps> for message::RelyingPartyApps {
    fn from(apps: &Apps) -> Self {
        let android = |app: &AndroidApp| message::AndroidApp {
            package_name: app.package.to_string(),
            certificate_fingerprints: app.fingerprints.iter().map(ToString::to_string).collect(),
        };
        Self {
            apple_app_ids: apps.apple.iter().map(ToString::to_string).collect(),
            android_apps: apps.android.iter().map(android).collect(),
            related_origins: apps.origins.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Apps {
    /// Both together. The certificates of one package are merged.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.apple.extend(other.apple.iter().cloned());
        self.origins.extend(other.origins.iter().cloned());
        for app in &other.android {
            let known = self.android.iter().find(|known| known.package == app.package).cloned();
            let mut merged = app.clone();
            if let Some(known) = known {
                self.android.remove(&known);
                merged.fingerprints.extend(known.fingerprints);
            }
            self.android.insert(merged);
        }
        self
    }

    /// `apple-app-site-association`, or `None` if there is no such app.
    #[must_use]
    pub fn apple_file(&self) -> Option<Value> {
        let apps: Vec<&str> = self.apple.iter().map(AppleApp::as_str).collect();
        (!apps.is_empty()).then(|| json!({ "webcredentials": { "apps": apps } }))
    }

    /// `assetlinks.json`, or `None` if there is no such app.
    #[must_use]
    pub fn android_file(&self) -> Option<Value> {
        let statement = |app: &AndroidApp| {
            let fingerprints: Vec<String> = app.fingerprints.iter().map(ToString::to_string).collect();
            json!({
                "relation": [LOGIN_RELATION],
                "target": {
                    "namespace": "android_app",
                    "package_name": app.package.as_str(),
                    "sha256_cert_fingerprints": fingerprints,
                },
            })
        };
        (!self.android.is_empty()).then(|| self.android.iter().map(statement).collect())
    }

    /// `webauthn`, or `None` if there is no related origin.
    #[must_use]
    pub fn webauthn_file(&self) -> Option<Value> {
        let origins: Vec<&str> = self.origins.iter().map(Origin::as_str).collect();
        (!origins.is_empty()).then(|| json!({ "origins": origins }))
    }
}

#[cfg(test)]
#[path = "relying_party_tests.rs"]
mod tests;
