//! What can be wrong, and what is with a relying party's files: pure functions of what was fetched and what is expected.

use halfkey_api::{
    domain,
    relying_party::{AppleApp, Apps, Fingerprint, LOGIN_RELATION, MAX_LABELS, Origin, Package},
};
use serde_json::{Value, json};

use super::fetch::Fetched;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not meant.
    Warning,
    /// Passkeys will not work, or not be safe.
    Error,
}

impl Severity {
    /// In lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

macro_rules! findings {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $severity:ident, $advice:literal;)*) => {
        /// What can be wrong; stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum FindingId {$(
            $(#[$doc])*
            $name,
        )*}

        impl FindingId {
            /// The stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {$(Self::$name => $id,)*}
            }

            /// How bad it is.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self {$(Self::$name => Severity::$severity,)*}
            }

            /// What to do.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self {$(Self::$name => $advice,)*}
            }
        }
    };
}

findings! {
    /// No connection, or no answer.
    Unreachable = "UNREACHABLE", Error,
        "Serve the file over HTTPS on port 443 of this very domain, reachable from the internet.";
    /// TLS refused the certificate.
    Untrusted = "UNTRUSTED", Error, "Use a certificate for this domain from a public authority; phones refuse any other.";
    /// A redirect, which Apple and Google do not follow.
    Redirect = "REDIRECT", Error, "Serve the file at this address itself: Apple's and Google's fetchers follow no redirect.";
    /// A redirect of the file for browsers, which follow it if it stays on HTTPS. What lies there was not looked at.
    RedirectNotFollowed = "REDIRECT_NOT_FOLLOWED", Warning,
        "Browsers follow a redirect that stays on HTTPS; serve the file here to be sure. Its content was not checked.";
    /// 404 or 410 where something is expected.
    Missing = "MISSING", Error, "Serve this file; `halfkey doctor` names what must be in it.";
    /// 404 or 410, and nothing is expected.
    Absent = "ABSENT", Note, "Nothing is expected here. Give --apple-app, --android-app or --origin if something should be.";
    /// Another status than 200.
    Status = "STATUS", Error, "Answer with status 200, without asking for a login or a cookie.";
    /// Another content type.
    ContentType = "CONTENT_TYPE", Error, "Answer with `Content-Type: application/json`.";
    /// More than 128 KiB.
    TooLarge = "TOO_LARGE", Error, "Keep the file under 128 KiB: Apple fetches no more.";
    /// Not JSON.
    NotJson = "NOT_JSON", Error, "The file is not JSON: look for a trailing comma, a byte-order mark or an HTML page.";
    /// JSON of another shape.
    WrongShape = "WRONG_SHAPE", Error, "The JSON has another shape than the platform reads; compare with docs/passkeys.md.";
    /// An entry that is no app id.
    BadAppId = "BAD_APP_ID", Error, "An app id is TEAMID.bundle.id, with the ten characters of the team first.";
    /// An expected app id is not there.
    AppMissing = "APP_MISSING", Error, "Add this app id to `webcredentials.apps`. iOS reads the file when the app is installed.";
    /// An app id that is not expected.
    AppUnexpected = "APP_UNEXPECTED", Warning, "This app can ask for passkeys of your users. Remove it if you do not know it.";
    /// An expected package is not there.
    PackageMissing = "PACKAGE_MISSING", Error, "Add a statement for this package.";
    /// A package that is not expected.
    PackageUnexpected = "PACKAGE_UNEXPECTED", Warning,
        "This app can ask for passkeys of your users. Remove it if you do not know it.";
    /// The package is there without the relation.
    RelationMissing = "RELATION_MISSING", Error,
        "Add `delegate_permission/common.get_login_creds` to the relations of this package.";
    /// An expected certificate is not there.
    FingerprintMissing = "FINGERPRINT_MISSING", Error,
        "Add this certificate. With Play App Signing it is Google's certificate, not the one you upload with.";
    /// A certificate that is not expected.
    FingerprintUnexpected = "FINGERPRINT_UNEXPECTED", Warning,
        "An app signed so can ask for passkeys of your users. Remove it if you do not know it; a debug key does not belong here.";
    /// Not a fingerprint.
    BadFingerprint = "BAD_FINGERPRINT", Error, "A fingerprint is SHA-256 as 32 pairs of hex digits with colons between.";
    /// An expected origin is not there.
    OriginMissing = "ORIGIN_MISSING", Error, "Add this origin to `origins`.";
    /// An origin that is not expected.
    OriginUnexpected = "ORIGIN_UNEXPECTED", Warning,
        "Pages of this origin can ask for passkeys of your users. Remove it if you do not know it.";
    /// Not an origin.
    BadOrigin = "BAD_ORIGIN", Error, "An origin is https://host or https://host:port, without a path or a final slash.";
    /// More names than browsers read.
    TooManyNames = "TOO_MANY_NAMES", Error,
        "Browsers read at most 5 different names before the public suffix and ignore the rest. Drop some.";
    /// Not a domain of anybody's own.
    PublicSuffix = "PUBLIC_SUFFIX", Error, "Browsers refuse a public suffix as a relying party. Use a domain of your own below it.";
    /// The descriptor does not name this relying party.
    NotInDescriptor = "NOT_IN_DESCRIPTOR", Error,
        "Apps with this descriptor refuse this relying party: make one with `halfkey admin descriptor --for-relying-party`.";
    /// The server's operator has the domain.
    OperatorOwned = "OPERATOR_OWNED", Warning,
        "The server's operator has this domain, and needs one tap of the user to open a passkey backup. Use a domain of the app's own.";
    /// A keeper's root that is lost with one machine or one KMS key.
    OneSealing = "ONE_SEALING", Error,
        "Were this one place lost, so were all passkey backups. Seal the root in a second one: docs/enclave.md.";
    /// A keeper that anybody could be.
    ProvesNothing = "PROVES_NOTHING", Error,
        "Whoever runs this keeper can read every backup made with it, and apps refuse it. Run it behind a TPM or in an enclave.";
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub id: FindingId,
    /// About which entry; empty if about the whole.
    pub subject: String,
}

impl Finding {
    pub(super) fn new(id: FindingId, subject: impl Into<String>) -> Self {
        Self { id, subject: subject.into() }
    }

    /// For people.
    pub(super) fn lines(&self, severity: Severity) -> [String; 2] {
        let subject = if self.subject.is_empty() { String::new() } else { format!(": {}", self.subject) };
        [format!("  {} {}{subject}", severity.as_str(), self.id.as_str()), format!("    {}", self.id.advice())]
    }

    /// For programs.
    pub(super) fn value(&self, severity: Severity) -> Value {
        json!({
            "id": self.id.as_str(),
            "severity": severity.as_str(),
            "subject": self.subject,
            "advice": self.id.advice(),
        })
    }
}

/// The last line for people.
pub(super) fn verdict(is_good: bool) -> String {
    if is_good { "Nothing is wrong." } else { "Something is wrong; see the errors." }.to_owned()
}

/// The file's JSON, or what is wrong with the answer.
fn json(fetched: &Fetched, expected: bool, for_browsers: bool) -> Result<Value, Finding> {
    let finding = |id| Err(Finding::new(id, ""));
    let (status, content_type, location, body) = match fetched {
        Fetched::Unreachable => return finding(FindingId::Unreachable),
        Fetched::Untrusted => return finding(FindingId::Untrusted),
        Fetched::TooLarge => return finding(FindingId::TooLarge),
        Fetched::Answer { status, content_type, location, body } => (*status, content_type, location, body),
    };
    match status {
        200 => {}
        300..=399 => {
            let to = location.clone().unwrap_or_default();
            let harmless = for_browsers && to.starts_with("https://");
            return Err(Finding::new(if harmless { FindingId::RedirectNotFollowed } else { FindingId::Redirect }, to));
        }
        404 | 410 if expected => return finding(FindingId::Missing),
        404 | 410 => return finding(FindingId::Absent),
        other => return Err(Finding::new(FindingId::Status, other.to_string())),
    }
    if content_type != "application/json" {
        return Err(Finding::new(FindingId::ContentType, content_type.clone()));
    }
    serde_json::from_slice(body).or_else(|_| finding(FindingId::NotJson))
}

fn texts(list: &Value) -> Option<Vec<&str>> {
    list.as_array()?.iter().map(Value::as_str).collect()
}

/// Judges `apple-app-site-association`.
pub(super) fn apple(fetched: &Fetched, expected: &Apps) -> Vec<Finding> {
    let json = match json(fetched, !expected.apple.is_empty(), false) {
        Ok(json) => json,
        Err(finding) => return vec![finding],
    };
    let Some(apps) = texts(&json["webcredentials"]["apps"]) else {
        return vec![Finding::new(FindingId::WrongShape, "webcredentials.apps is not a list of texts")];
    };
    let mut findings = Vec::new();
    for app in &apps {
        match app.parse::<AppleApp>() {
            Err(_) => findings.push(Finding::new(FindingId::BadAppId, *app)),
            Ok(app) if !expected.apple.is_empty() && !expected.apple.contains(&app) => {
                findings.push(Finding::new(FindingId::AppUnexpected, app.as_str()));
            }
            Ok(_) => {}
        }
    }
    let missing = expected.apple.iter().filter(|app| !apps.contains(&app.as_str()));
    findings.extend(missing.map(|app| Finding::new(FindingId::AppMissing, app.as_str())));
    findings
}

/// One statement about an Android app.
struct Statement<'a> {
    package: &'a str,
    relations: Vec<&'a str>,
    fingerprints: Vec<&'a str>,
}

/// The statements about Android apps; those about anything else are none of ours.
fn statements(json: &Value) -> Option<Vec<Statement<'_>>> {
    let all = json.as_array()?;
    if !all.iter().all(Value::is_object) {
        return None;
    }
    let apps = all.iter().filter(|statement| statement["target"]["namespace"] == "android_app");
    apps.map(|statement| {
        Some(Statement {
            package: statement["target"]["package_name"].as_str()?,
            relations: texts(&statement["relation"])?,
            fingerprints: texts(&statement["target"]["sha256_cert_fingerprints"])?,
        })
    })
    .collect()
}

/// Judges `assetlinks.json`.
pub(super) fn android(fetched: &Fetched, expected: &Apps) -> Vec<Finding> {
    let json = match json(fetched, !expected.android.is_empty(), false) {
        Ok(json) => json,
        Err(finding) => return vec![finding],
    };
    let Some(statements) = statements(&json) else {
        return vec![Finding::new(FindingId::WrongShape, "not a list of statements")];
    };
    let mut findings = Vec::new();
    for statement in &statements {
        findings.extend(judge_statement(statement, expected));
    }
    for app in &expected.android {
        let name = app.package.as_str();
        let about: Vec<&Statement<'_>> = statements.iter().filter(|statement| statement.package == name).collect();
        if about.is_empty() {
            findings.push(Finding::new(FindingId::PackageMissing, name));
            continue;
        }
        let login: Vec<_> = about.iter().filter(|statement| statement.relations.contains(&LOGIN_RELATION)).collect();
        if login.is_empty() {
            findings.push(Finding::new(FindingId::RelationMissing, name));
            continue;
        }
        let there = |wanted: &Fingerprint| {
            let mut all = login.iter().flat_map(|statement| &statement.fingerprints);
            all.any(|text| text.parse() == Ok(*wanted))
        };
        let missing = app.fingerprints.iter().filter(|wanted| !there(wanted));
        findings.extend(missing.map(|wanted| Finding::new(FindingId::FingerprintMissing, format!("{name} {wanted}"))));
    }
    findings
}

fn judge_statement(statement: &Statement<'_>, expected: &Apps) -> Vec<Finding> {
    let Ok(package) = statement.package.parse::<Package>() else {
        return vec![Finding::new(FindingId::WrongShape, statement.package)];
    };
    let mut findings = Vec::new();
    let known = expected.android.iter().find(|app| app.package == package);
    let lets_in = statement.relations.contains(&LOGIN_RELATION);
    if known.is_none() && lets_in && !expected.android.is_empty() {
        findings.push(Finding::new(FindingId::PackageUnexpected, package.as_str()));
    }
    for text in &statement.fingerprints {
        let subject = format!("{package} {text}");
        match (text.parse::<Fingerprint>(), known) {
            (Err(_), _) => findings.push(Finding::new(FindingId::BadFingerprint, subject)),
            (Ok(print), Some(app)) if lets_in && !app.fingerprints.contains(&print) => {
                findings.push(Finding::new(FindingId::FingerprintUnexpected, subject));
            }
            _ => {}
        }
    }
    findings
}

/// Judges `webauthn`.
pub(super) fn webauthn(fetched: &Fetched, expected: &Apps) -> Vec<Finding> {
    let json = match json(fetched, !expected.origins.is_empty(), true) {
        Ok(json) => json,
        Err(finding) => return vec![finding],
    };
    let Some(origins) = texts(&json["origins"]) else {
        return vec![Finding::new(FindingId::WrongShape, "origins is not a list of texts")];
    };
    let mut findings = Vec::new();
    let mut good: Vec<Origin> = Vec::new();
    for text in &origins {
        match text.parse::<Origin>() {
            Err(_) => findings.push(Finding::new(FindingId::BadOrigin, *text)),
            Ok(origin) => {
                if !expected.origins.is_empty() && !expected.origins.contains(&origin) {
                    findings.push(Finding::new(FindingId::OriginUnexpected, *text));
                }
                good.push(origin);
            }
        }
    }
    let names = domain::labels(&good);
    if names > MAX_LABELS {
        findings.push(Finding::new(FindingId::TooManyNames, names.to_string()));
    }
    let missing = expected.origins.iter().filter(|origin| !good.contains(origin));
    findings.extend(missing.map(|origin| Finding::new(FindingId::OriginMissing, origin.as_str())));
    findings
}
