//! `halfkey doctor relying-party`.

use std::path::PathBuf;

use clap::Args;
use halfkey_api::{
    domain,
    message::{AndroidApp, RelyingPartyApps},
    relying_party::{ANDROID_PATH, APPLE_PATH, Apps, Domain, WEBAUTHN_PATH},
};
use halfkey_client::Deployment;
use serde_json::{Value, json};

use super::{
    fetch::{Fetched, Fetcher},
    judge::{self, Finding, FindingId, Severity, verdict},
};
use crate::error::{AtPath, Error, Result};

/// Fetch a relying party's `/.well-known/` files and check them
///
/// Looks at them as phones and browsers do: status, content type, redirects, JSON, app ids, certificates and origins.
/// Name what you expect and it says what is missing, and what is there that you did not name. Ends with 1 when
/// something is wrong.
#[derive(Args, Default)]
pub struct RelyingPartyArgs {
    /// The relying party's id: a domain
    pub domain: String,
    /// An app on Apple's systems that must be named; give it once for each
    #[arg(long = "apple-app", value_name = "TEAMID.BUNDLE")]
    pub apple_apps: Vec<String>,
    /// An app on Android that must be named, with the certificate that signs it; give it once for each
    #[arg(long = "android-app", value_name = "PACKAGE=SHA256")]
    pub android_apps: Vec<String>,
    /// A related origin that must be named; give it once for each
    #[arg(long = "origin", value_name = "ORIGIN")]
    pub origins: Vec<String>,
    /// A deployment descriptor: must name this relying party, and its server's operator should not have the domain
    #[arg(long, value_name = "FILE")]
    pub descriptor: Option<PathBuf>,
    /// Ask there instead of https://DOMAIN, with the domain as Host: for a server that is not in the DNS yet
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// Print exactly one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What was found.
pub struct Report {
    domain: Domain,
    /// About the domain itself.
    general: Vec<Finding>,
    files: Vec<File>,
    /// What the named Android apps give as their origin.
    android_origins: Vec<String>,
    danger_of_operator: Severity,
}

type Judge = fn(&Fetched, &Apps) -> Vec<Finding>;

struct File {
    url: String,
    status: Option<u16>,
    findings: Vec<Finding>,
}

/// Fetches the three files and judges them.
///
/// # Errors
/// [`Error::Usage`] when an argument is none of what it should be; [`Error::File`] and the SDK's for the descriptor.
pub async fn examine(args: &RelyingPartyArgs) -> Result<Report> {
    let usage = |text: &str| Error::Usage(text.to_owned());
    let domain: Domain = args.domain.parse().map_err(|why| Error::Usage(format!("{:?}: {why}", args.domain)))?;
    let expected = expected(args)?;
    let base = args.base_url.clone().unwrap_or_else(|| format!("https://{domain}"));
    if !base.starts_with("https://") && !base.starts_with("http://") {
        return Err(usage("--base-url begins with https:// or http://"));
    }
    let (general, danger_of_operator) = general(&domain, args)?;
    let fetcher = Fetcher::new(&base, domain.as_str())?;
    let mut files = Vec::new();
    let judges: [(&str, Judge); 3] =
        [(APPLE_PATH, judge::apple), (ANDROID_PATH, judge::android), (WEBAUTHN_PATH, judge::webauthn)];
    for (path, judge) in judges {
        let fetched = fetcher.fetch(path).await;
        let status = match &fetched {
            Fetched::Answer { status, .. } => Some(*status),
            _ => None,
        };
        files.push(File { url: fetcher.url(path), status, findings: judge(&fetched, &expected) });
    }
    let prints = expected.android.iter().flat_map(|app| &app.fingerprints);
    let android_origins = prints.map(halfkey_api::relying_party::Fingerprint::origin).collect();
    Ok(Report { domain, general, files, android_origins, danger_of_operator })
}

fn expected(args: &RelyingPartyArgs) -> Result<Apps> {
    let mut android_apps: Vec<AndroidApp> = Vec::new();
    for text in &args.android_apps {
        let (package, fingerprint) = text
            .split_once('=')
            .ok_or_else(|| Error::Usage("--android-app takes the package, =, and a fingerprint".to_owned()))?;
        match android_apps.iter_mut().find(|app| app.package_name == package) {
            Some(app) => app.certificate_fingerprints.push(fingerprint.to_owned()),
            None => android_apps.push(AndroidApp {
                package_name: package.to_owned(),
                certificate_fingerprints: vec![fingerprint.to_owned()],
            }),
        }
    }
    let message = RelyingPartyApps {
        apple_app_ids: args.apple_apps.clone(),
        android_apps,
        related_origins: args.origins.clone(),
    };
    Apps::try_from(&message).map_err(|error| Error::Usage(error.to_string()))
}

fn general(domain: &Domain, args: &RelyingPartyArgs) -> Result<(Vec<Finding>, Severity)> {
    let mut findings = Vec::new();
    let mut danger = FindingId::OperatorOwned.severity();
    if !domain::may_be_relying_party(domain) {
        findings.push(Finding::new(FindingId::PublicSuffix, domain.as_str()));
    }
    let Some(path) = &args.descriptor else { return Ok((findings, danger)) };
    let deployment = Deployment::from_json(&std::fs::read_to_string(path).at(path)?)?;
    let descriptor = deployment.descriptor();
    if !descriptor.relying_parties.iter().any(|named| named == domain.as_str()) {
        findings.push(Finding::new(FindingId::NotInDescriptor, domain.as_str()));
    }
    let server = reqwest::Url::parse(deployment.server_url()).ok();
    let server: Option<Domain> = server.and_then(|url| url.host_str()?.parse().ok());
    if server.is_some_and(|server| domain::same_owner(&server, domain)) {
        findings.push(Finding::new(FindingId::OperatorOwned, deployment.server_url()));
        if descriptor.profile == halfkey_protocol::descriptor::Profile::Production {
            danger = Severity::Error;
        }
    }
    Ok((findings, danger))
}

impl Report {
    /// Whether nothing of [`Severity::Error`] was found.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.all().any(|finding| self.severity(finding) == Severity::Error)
    }

    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.general.iter().chain(self.files.iter().flat_map(|file| &file.findings))
    }

    /// In a deployment in production, an operator's own relying party is an error.
    fn severity(&self, finding: &Finding) -> Severity {
        if finding.id == FindingId::OperatorOwned { self.danger_of_operator } else { finding.id.severity() }
    }

    /// For people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("relying party {}", self.domain)];
        let told = |finding: &Finding| finding.lines(self.severity(finding));
        lines.extend(self.general.iter().flat_map(told));
        for file in &self.files {
            let status = file.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            let verdict = if file.findings.is_empty() { ", good" } else { "" };
            lines.push(format!("{} ({status}{verdict})", file.url));
            lines.extend(file.findings.iter().flat_map(told));
        }
        for origin in &self.android_origins {
            lines.push(format!("origin of the Android app, for the relying party's list of origins: {origin}"));
        }
        lines.push(verdict(self.is_good()));
        lines
    }

    /// For programs.
    #[must_use]
    pub fn value(&self) -> Value {
        let finding = |finding: &Finding| finding.value(self.severity(finding));
        let list = |findings: &[Finding]| findings.iter().map(finding).collect::<Value>();
        let file = |file: &File| json!({ "url": file.url, "status": file.status, "findings": list(&file.findings) });
        json!({
            "relyingParty": self.domain.as_str(),
            "good": self.is_good(),
            "findings": list(&self.general),
            "files": self.files.iter().map(file).collect::<Value>(),
            "androidOrigins": self.android_origins,
        })
    }
}

#[cfg(test)]
#[path = "relying_party_tests.rs"]
mod tests;
