//! The deployment descriptor: what apps compile in and trust (DECISIONS.md D5).

use halfkey_protocol::{
    Signs,
    descriptor::{self, Descriptor, EvidencePolicy, HpkePublic, Keeper, SignedDescriptor},
};

use crate::{app::App, config::Profile, door, error::Error, relying_party};

/// What the operator adds to the server's own keys.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// Where apps reach the server; by default the configured address.
    pub server_url: Option<String>,
    /// The passkey door's key.
    pub keeper: Option<Keeper>,
    /// The evidence that the passkey door must show. By default `insecure-dev` in development; in production none is
    /// good enough then.
    pub evidence: Option<EvidencePolicy>,
    /// Relying parties whose passkeys may hold a backup.
    pub relying_parties: Vec<String>,
    /// The custodian's offline export key; by default the registered one.
    pub export_key: Option<HpkePublic>,
}

/// Builds and signs the descriptor. The guesskeeper, if one is configured, is asked for its newest key.
///
/// # Errors
/// [`Error::Keeper`] and [`Error::NoKeeperKey`] when it does not answer; [`Error::NotARelyingParty`] and, in
/// production, [`Error::OperatorIsRelyingParty`]; [`Error::Descriptor`].
pub async fn descriptor(app: &App, details: Details) -> Result<SignedDescriptor, Error> {
    let guesskeeper = match &app.guesskeeper {
        Some(link) => {
            let keys = door::keys(link).await?;
            let key_id = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            keys.first().map(|newest| Keeper { key_id, hpke: HpkePublic(*newest.as_bytes()) })
        }
        None => None,
    };
    let (profile, evidence) = match app.config.profile {
        Profile::Development => (descriptor::Profile::Dev, EvidencePolicy::InsecureDev),
        Profile::Production => (descriptor::Profile::Production, EvidencePolicy::Nothing),
    };
    let default_url = || app.config.public_url.clone().unwrap_or_else(|| format!("http://{}", app.config.listen));
    let server_url = details.server_url.unwrap_or_else(default_url);
    relying_party::check_owners(&app.config, &server_url, &details.relying_parties)?;
    let descriptor = Descriptor {
        version: descriptor::VERSION,
        serial: 1,
        deployment: app.deployment,
        server_url,
        identity: app.keys.deployment.public(),
        server: app.keys.server.party(),
        custodian: app.keys.custodian.party(),
        keeper: details.keeper,
        guesskeeper,
        evidence: details.evidence.unwrap_or(evidence),
        audit_log_key: app.keys.audit.public(),
        relying_parties: details.relying_parties,
        export_key: match details.export_key {
            Some(key) => Some(key),
            None => app.export_key().await?.map(HpkePublic),
        },
        allow_digest: app.config.allow_digest,
        profile,
    };
    descriptor.sign(&app.keys.deployment, None).map_err(Error::Descriptor)
}
