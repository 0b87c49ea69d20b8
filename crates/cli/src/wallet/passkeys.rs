//! Passkeys on the command line: where they come from, and the commands about them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use halfkey_api::route;
use halfkey_client::{Deployment, PasskeyConfig, PasskeyInfo, PasskeyList, host::Passkeys};
use serde_json::{Value, json};

use super::{Session, show};
use crate::{
    error::{Error, Result},
    output::{Output, time, to_stderr},
    passkey::{Bridge, danger_software_passkeys::DangerSoftwarePasskeys, lead_user},
};

/// How long the user may take in the browser.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Where passkeys come from.
#[derive(Args, Clone)]
pub(super) struct PasskeyArgs {
    /// Whose passkeys: a relying party that the descriptor names [default: its first]
    #[arg(long, global = true, value_name = "DOMAIN")]
    relying_party: Option<String>,
    /// The page where the browser makes and uses them [default: https://DOMAIN/passkey]
    #[arg(long, global = true, value_name = "URL")]
    passkey_page: Option<String>,
    /// Print the page's address instead of opening a browser
    #[arg(long, global = true)]
    pub(super) no_browser: bool,
    /// INSECURE: keep passkeys in a file of this folder instead of asking the browser
    #[arg(long, global = true, value_name = "DIR")]
    danger_software_passkeys: Option<PathBuf>,
    /// INSECURE: back up to a keeper that proves nothing about itself; whoever runs it can read the backup
    #[arg(long, global = true)]
    pub(super) danger_insecure_evidence: bool,
}

/// What to do with the passkeys of the backup.
#[derive(Subcommand)]
pub(super) enum PasskeysCommand {
    /// The passkeys that open the backup
    List,
    /// Make another passkey and back up afresh, for it and the others
    Add,
    /// Back up afresh without this passkey: it opens nothing any more
    Remove {
        /// As `list` shows it
        id: String,
    },
}

/// What the SDK needs for passkeys.
pub(super) struct Sheet {
    pub(super) passkeys: Arc<dyn Passkeys>,
    pub(super) config: PasskeyConfig,
}

impl PasskeyArgs {
    /// The user's browser, unless software passkeys were asked for by name.
    pub(super) async fn sheet(&self, deployment: &Deployment) -> Result<Sheet> {
        let descriptor = deployment.descriptor();
        let named = self.relying_party.clone().or_else(|| descriptor.relying_parties.first().cloned());
        let none = || Error::Usage("the deployment's descriptor names no relying party for passkeys".to_owned());
        let id = named.ok_or_else(none)?;
        let page = self.passkey_page.clone().unwrap_or_else(|| format!("https://{id}{}", route::PASSKEY_PAGE));
        let origin = origin(&page)?;
        let passkeys: Arc<dyn Passkeys> = match &self.danger_software_passkeys {
            Some(folder) => {
                to_stderr("halfkey: INSECURE: passkeys in a file, and nobody is asked. Not for real funds.");
                Arc::new(DangerSoftwarePasskeys::open(folder, &origin, deployment.is_production(), true)?)
            }
            None => Arc::new(Bridge::start(&page, "Halfkey wallet", PATIENCE, lead_user(self.no_browser)).await?),
        };
        Ok(Sheet { passkeys, config: PasskeyConfig::new(id, [origin]) })
    }
}

fn origin(page: &str) -> Result<String> {
    let url = reqwest::Url::parse(page).map_err(|_| Error::Usage(format!("{page:?} is not the address of a page")))?;
    Ok(url.origin().ascii_serialization())
}

pub(super) async fn run(session: &mut Session, command: PasskeysCommand, output: &Output) -> Result<()> {
    match command {
        PasskeysCommand::List => list(&session.halfkey.passkeys().await?, output),
        PasskeysCommand::Add => show::backup(&session.halfkey.add_passkey().await?, output),
        PasskeysCommand::Remove { id } => {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(&id);
            let bytes = bytes.map_err(|_| Error::Usage(format!("{id:?} is not the id of a passkey")))?;
            show::backup(&session.halfkey.remove_passkey(bytes).await?, output);
        }
    }
    Ok(())
}

fn list(list: &PasskeyList, output: &Output) {
    let mut lines =
        vec![format!("mode {}, relying party {}, backup {}", list.mode, list.relying_party_id, list.backup_id)];
    lines.extend(list.passkeys.iter().map(line));
    if list.device_bound {
        lines.push(show::DEVICE_BOUND.to_owned());
    }
    let value = json!({
        "backupId": list.backup_id, "mode": list.mode.as_str(), "relyingParty": list.relying_party_id,
        "deviceBound": list.device_bound, "passkeys": list.passkeys.iter().map(value).collect::<Vec<_>>(),
    });
    output.result(&lines, &value);
}

fn line(passkey: &PasskeyInfo) -> String {
    let kept = if passkey.synced { "synchronised" } else { "on one device only" };
    let id = BASE64_URL_SAFE_NO_PAD.encode(&passkey.id);
    format!("  {id}  {kept:<18}  made on {:?} {}", passkey.name, time(passkey.created_at))
}

fn value(passkey: &PasskeyInfo) -> Value {
    let id = BASE64_URL_SAFE_NO_PAD.encode(&passkey.id);
    json!({ "id": id, "name": passkey.name, "synchronised": passkey.synced, "createdAt": passkey.created_at })
}
