//! Relying parties that this server hosts: what it serves under their domains, and who may say what there.
//!
//! The files are chosen by the request's `Host`. A domain that the operator assigned to one custodian serves what that
//! custodian says and nothing else. A domain without a custodian is shared: it serves the union of the configuration and
//! of what every custodian says, and so an app of one custodian can ask for passkeys that another one's users made there.
//! Share a domain only between custodians that are one company.
//!
//! Whoever serves these files controls the relying party, whatever its name is: by one of them it can let an app or an
//! origin of its own ask for a tap. So `production` hosts none unless `operator_is_relying_party` is named (METHODS.md C).

use std::str::FromStr;

use axum::http::HeaderMap;
use halfkey_api::{
    domain,
    error::ErrorId,
    message,
    relying_party::{Apps, Domain, Invalid, InvalidField, MAX_FILE, MAX_LABELS},
};
use halfkey_envelope::id::CustodianId;

use crate::{app::App, config::Config, error::Error, fault::Fault};

/// A relying party whose files and page this server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosted {
    /// Its id, and the host under which the files are asked for.
    pub domain: Domain,
    /// Whose it is; without one it is shared by all custodians and the configuration.
    pub custodian: Option<CustodianId>,
}

/// Not `DOMAIN` or `DOMAIN=CUSTODIAN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHosted {
    /// The domain.
    #[error(transparent)]
    Domain(#[from] Invalid),
    /// Nobody owns it.
    #[error("a public suffix cannot be a relying party")]
    PublicSuffix,
    /// What stands behind `=`.
    #[error("a custodian's id is a UUID")]
    Custodian,
}

impl FromStr for Hosted {
    type Err = InvalidHosted;

    fn from_str(text: &str) -> Result<Self, InvalidHosted> {
        let (domain, custodian) = text.split_once('=').map_or((text, None), |(domain, id)| (domain, Some(id)));
        let domain: Domain = domain.parse()?;
        if !domain::may_be_relying_party(&domain) {
            return Err(InvalidHosted::PublicSuffix);
        }
        let custodian = custodian.map(str::parse).transpose().map_err(|_| InvalidHosted::Custodian)?;
        Ok(Self { domain, custodian })
    }
}

/// Reads the apps of the configuration: the JSON that a custodian sends.
///
/// # Errors
/// [`InvalidApps`].
pub fn read_apps(json: &str) -> Result<Apps, InvalidApps> {
    let message: message::RelyingPartyApps = serde_json::from_str(json)?;
    let apps = Apps::try_from(&message)?;
    fit(&apps).map_err(|_| InvalidApps::TooMuch)?;
    Ok(apps)
}

/// Why the apps of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidApps {
    /// Not the JSON that it should be.
    #[error("not apps of a relying party: {0}")]
    Json(#[from] serde_json::Error),
    /// A field.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// More than clients read.
    #[error("more than 5 different names of origins, or a file of more than 128 KiB")]
    TooMuch,
}

/// Refuses relying parties that the server's operator controls: those under the domain of `server_url`, and those that
/// this server hosts itself. Only `production` refuses, and not if the danger is named.
///
/// # Errors
/// [`Error::NotARelyingParty`] in either profile; [`Error::OperatorIsRelyingParty`].
pub(crate) fn check_owners(config: &Config, server_url: &str, relying_parties: &[String]) -> Result<(), Error> {
    let server = host_of(server_url);
    for name in relying_parties {
        let not = || Error::NotARelyingParty(name.clone());
        let domain: Domain = name.parse().map_err(|_| not())?;
        if !domain::may_be_relying_party(&domain) {
            return Err(not());
        }
        let hosted = config.relying_parties.iter().any(|hosted| hosted.domain == domain);
        let own = server.as_ref().is_some_and(|server| domain::same_owner(server, &domain));
        if (hosted || own) && !config.may_be_relying_party() {
            return Err(Error::OperatorIsRelyingParty(name.clone()));
        }
    }
    Ok(())
}

/// The host of a URL, unless it is an address.
fn host_of(url: &str) -> Option<Domain> {
    let uri: axum::http::Uri = url.parse().ok()?;
    uri.host()?.trim_end_matches('.').to_ascii_lowercase().parse().ok()
}

/// The hosted relying party that a request is for, by its `Host`.
pub(crate) fn asked_for<'a>(config: &'a Config, headers: &HeaderMap) -> Option<&'a Hosted> {
    let mut hosts = headers.get_all(axum::http::header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    let host = host.to_str().ok()?.to_ascii_lowercase();
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    config.relying_parties.iter().find(|hosted| hosted.domain.as_str() == name)
}

/// Who may use a hosted relying party's passkeys.
pub(crate) async fn apps(app: &App, hosted: &Hosted) -> Result<Apps, Fault> {
    let corrupt = || Fault::internal(&"a stored relying party does not parse");
    match hosted.custodian {
        Some(custodian) => {
            let said = app.store.relying_party(custodian).await?;
            said.map_or(Ok(Apps::default()), |text| parse(&text).ok_or_else(corrupt))
        }
        None => union(&app.config, &app.store.relying_parties().await?).ok_or_else(corrupt),
    }
}

/// What a custodian said, for it to read.
pub(crate) async fn said(app: &App, custodian: CustodianId) -> Result<message::RelyingPartyApps, Fault> {
    let corrupt = || Fault::internal(&"a stored relying party does not parse");
    let Some(text) = app.store.relying_party(custodian).await? else {
        return Ok(message::RelyingPartyApps::default());
    };
    parse(&text).map(|apps| (&apps).into()).ok_or_else(corrupt)
}

/// Replaces what a custodian says.
pub(crate) async fn say(
    app: &App,
    custodian: CustodianId,
    message: &message::RelyingPartyApps,
    now_ms: u64,
) -> Result<message::RelyingPartyApps, Fault> {
    let concerned = |hosted: &&Hosted| hosted.custodian.is_none_or(|owner| owner == custodian);
    let hosted: Vec<&Hosted> = app.config.relying_parties.iter().filter(concerned).collect();
    if hosted.is_empty() {
        return Err(Fault::new(ErrorId::NotFound, "this server hosts no relying party for this custodian"));
    }
    let apps = Apps::try_from(message).map_err(|invalid| Fault::field(&invalid.field, reason(invalid.why)))?;
    fit(&apps)?;
    let normal = message::RelyingPartyApps::from(&apps);
    let text = serde_json::to_string(&normal).map_err(|error| Fault::internal(&error))?;
    let shared = hosted.iter().any(|hosted| hosted.custodian.is_none());
    let fits = |all: &[(CustodianId, String)]| !shared || union(&app.config, all).is_some_and(|all| fit(&all).is_ok());
    if !app.store.put_relying_party(custodian, &text, fits, now_ms).await? {
        return Err(Fault::invalid("with what the other custodians of the shared relying party say, it is too much"));
    }
    Ok(normal)
}

/// Whether the files of `apps` stay within what clients read.
pub(crate) fn fit(apps: &Apps) -> Result<(), Fault> {
    if domain::labels(&apps.origins) > MAX_LABELS {
        return Err(Fault::field("relatedOrigins", "more than 5 different names: browsers read no more"));
    }
    let files = [apps.apple_file(), apps.android_file(), apps.webauthn_file()];
    if files.iter().flatten().any(|file| file.to_string().len() > MAX_FILE) {
        return Err(Fault::invalid("a file of more than 128 KiB"));
    }
    Ok(())
}

fn union(config: &Config, said: &[(CustodianId, String)]) -> Option<Apps> {
    let exclusive = |id: CustodianId| config.relying_parties.iter().any(|hosted| hosted.custodian == Some(id));
    let shared = said.iter().filter(|(custodian, _)| !exclusive(*custodian));
    shared.map(|(_, text)| parse(text)).try_fold(config.relying_party_apps.clone(), |all, one| Some(all.and(&one?)))
}

fn parse(text: &str) -> Option<Apps> {
    let message: message::RelyingPartyApps = serde_json::from_str(text).ok()?;
    Apps::try_from(&message).ok()
}

const fn reason(why: Invalid) -> &'static str {
    match why {
        Invalid::AppleApp => "TEAMID.bundle.id: ten letters and digits, a full stop, and the bundle id",
        Invalid::Package => "at least two parts of letters, digits and underscores, with full stops between",
        Invalid::Fingerprint => "SHA-256 as 32 pairs of hex digits, with colons between",
        Invalid::Origin => "https://host or https://host:port, in lower-case ASCII, without a path",
        Invalid::TooMany => "too many",
        Invalid::NoFingerprint => "at least one fingerprint",
        Invalid::Twice => "the same twice",
        _ => "not valid",
    }
}

#[cfg(test)]
#[path = "relying_party_tests.rs"]
mod tests;
