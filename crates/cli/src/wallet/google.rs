//! `halfkey wallet google …`: the Google account whose Drive may hold backups.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Subcommand;
use halfkey_client::host::Transport;
use serde_json::json;

use super::{SystemClock, WalletArgs};
use crate::{
    error::{Error, Result},
    google::{Account, GoogleClient, GoogleError, GoogleSignIn, lead_user, revoke, sign_in},
    output::Output,
    profile::{GoogleFile, Profile},
    secrets::Secrets,
    transport::HttpTransport,
};

/// How long the user may take in the browser.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What to do with the Google account of the profile.
#[derive(Subcommand)]
pub(super) enum GoogleCommand {
    /// Sign in, in the browser; another account takes the place of the one before
    Login {
        /// The app's OAuth client of the type "Desktop app", as Google's console gives it
        #[arg(long, env = "HALFKEY_GOOGLE_CLIENT", value_name = "FILE")]
        client: PathBuf,
    },
    /// Forget the account on this device; the backup stays in it, and it stays signed in on other devices
    Logout {
        /// Also end the app's access to the account at Google, on every device. Google may delete the app's data with it,
        /// and so the backup
        #[arg(long)]
        revoke: bool,
    },
    /// Which account is signed in, and whether Google still lets it
    Status,
}

pub(super) async fn run(args: &WalletArgs, command: &GoogleCommand, output: &Output) -> Result<()> {
    let folder = args.profile.clone().unwrap_or_else(Profile::default_folder);
    let profile = Profile::open(&folder)?;
    // A wrong file is found before the passphrase is asked for.
    let client = match command {
        GoogleCommand::Login { client } => Some(GoogleClient::read(client)?),
        _ => None,
    };
    let mut secrets = Secrets::from_fd(args.secrets_fd)?;
    let passphrase = match (profile.has_passphrase()?, &client) {
        (true, _) => secrets.read("device passphrase")?,
        (false, Some(_)) => secrets.read_new("new device passphrase")?,
        (false, None) => return Err(GoogleError::NotSignedIn.into()),
    };
    profile.check(&passphrase)?;
    let file = profile.google(passphrase);
    let http: Arc<dyn Transport> = Arc::new(HttpTransport::new()?);
    match (command, client) {
        (GoogleCommand::Login { .. }, Some(client)) => {
            let lead = lead_user(args.passkey.no_browser);
            let account = sign_in(client, &http, &SystemClock, &lead, PATIENCE).await?;
            login(&file, &account, output)
        }
        (GoogleCommand::Logout { revoke }, _) => logout(&file, &http, *revoke, output).await,
        (GoogleCommand::Status | GoogleCommand::Login { .. }, _) => status(file, http, output).await,
    }
}

fn login(file: &GoogleFile, account: &Account, output: &Output) -> Result<()> {
    file.write(account)?;
    let line = format!("Signed in to Google as {}.", account.label());
    output.result(&[line], &json!({ "google": { "account": account.label() } }));
    Ok(())
}

async fn logout(file: &GoogleFile, http: &Arc<dyn Transport>, at_google: bool, output: &Output) -> Result<()> {
    let account = file.read()?.ok_or(GoogleError::NotSignedIn)?;
    if at_google {
        // First: if it fails, the profile still has what is needed to try again.
        revoke(&account, http).await?;
    }
    file.remove()?;
    let what = match at_google {
        true => "The app's access to it is ended, on every device.",
        false => "Backups in it stay where they are.",
    };
    let line = format!("This device has forgotten {}. {what}", account.label());
    output.result(&[line], &json!({ "google": null, "forgotten": account.label(), "revoked": at_google }));
    Ok(())
}

async fn status(file: GoogleFile, http: Arc<dyn Transport>, output: &Output) -> Result<()> {
    let account = file.read()?.ok_or(GoogleError::NotSignedIn)?;
    let (label, client) = (account.label().to_owned(), account.client().id.clone());
    let (state, advice) = match GoogleSignIn::new(file, http, Arc::new(SystemClock)).token().await {
        Ok(_) => ("OK", None),
        Err(Error::Google(error)) => (error.code(), Some(error.advice())),
        Err(other) => return Err(other),
    };
    let mut lines = vec![format!("{label}: {state}")];
    lines.extend(advice.map(|advice| format!("  {advice}")));
    output.result(&lines, &json!({ "google": { "account": label, "clientId": client, "state": state } }));
    Ok(())
}
