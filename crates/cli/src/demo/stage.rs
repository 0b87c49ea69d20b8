//! The demo's server and keepers, as processes of their own, and its devices.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use halfkey_client::{Credentials, Deployment, Halfkey, PasskeyConfig};
use halfkey_envelope::entropy::OsEntropy;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use super::MethodName;
use crate::{
    error::{AtPath, Error, Result},
    output::Output,
    passkey::danger_software_passkeys::DangerSoftwarePasskeys,
    profile::Profile,
    transport::HttpTransport,
    wallet::{SystemClock, accepting, platform_with_passkeys},
};

/// Starting is key generation, migrations and three processes.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
/// Whose the demo's passkeys are: a page on this machine, as browsers allow it without a certificate.
const RELYING_PARTY: &str = "localhost";
const ORIGIN: &str = "http://localhost";

pub(super) struct Stage {
    folder: tempfile::TempDir,
    server: Child,
    address: String,
    descriptor: String,
    custodian_key: Zeroizing<String>,
    method: MethodName,
}

/// One device: a profile folder and the SDK on it.
pub(super) struct Device {
    pub(super) halfkey: Halfkey,
    folder: PathBuf,
    profile: Profile,
}

/// The client's credential.
pub(super) struct Client {
    api_key: Zeroizing<String>,
}

impl Stage {
    /// Starts `halfkey serve` (which starts the keepers), makes a custodian and the descriptor.
    pub(super) async fn start(method: MethodName) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("halfkey-demo-").tempdir().at(Path::new("the temporary folder"))?;
        let data = folder.path().join("server");
        let data_text = data.display().to_string();
        let mut server = halfkey(&["serve", "--data", &data_text, "--listen", "127.0.0.1:0", "--stop-on-stdin-close"])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .at(Path::new("halfkey serve"))?;
        let ready =
            timeout(START, first_line(&mut server)).await.map_err(|_| failed("the server did not start in time"))??;
        let address =
            ready["address"].as_str().ok_or_else(|| failed("the server did not say where it listens"))?.to_owned();
        let key = admin(&["create-custodian", "--data", &data_text, "--name", "Demo", "--json"]).await?;
        let custodian_key = key["key"].as_str().ok_or_else(|| failed("no custodian key was printed"))?.to_owned();
        let file = folder.path().join("descriptor.json");
        admin(&[
            "descriptor",
            "--data",
            &data_text,
            "--url",
            &format!("http://{address}"),
            "--for-relying-party",
            RELYING_PARTY,
            "--out",
            &file.display().to_string(),
            "--json",
        ])
        .await?;
        let descriptor = std::fs::read_to_string(&file).at(&file)?;
        Ok(Self { folder, server, address, descriptor, custodian_key: Zeroizing::new(custodian_key), method })
    }

    /// What the app's backend does for a new user.
    pub(super) async fn new_client(&self) -> Result<Client> {
        let url = format!("http://{}{}", self.address, halfkey_api::route::CUSTODIAN_CLIENTS);
        let request = reqwest::Client::new().post(url).bearer_auth(self.custodian_key.as_str());
        let request = request.header("content-type", "application/json").body("{}");
        let answer = request.send().await?.error_for_status()?.bytes().await?;
        let value: Value = serde_json::from_slice(&answer).map_err(|_| failed("the server did not answer in JSON"))?;
        let api_key = value["clientApiKey"].as_str().ok_or_else(|| failed("no client key came back"))?;
        Ok(Client { api_key: Zeroizing::new(api_key.to_owned()) })
    }

    /// A device of the user's with nothing on it; the user's passkeys are synchronised to it.
    pub(super) fn device(&self, name: &str, client: &Client, output: &Output) -> Result<Device> {
        self.device_with(name, "passkeys", client, output)
    }

    /// A device that has the user's session and none of the user's passkeys.
    pub(super) fn strangers_device(&self, client: &Client, output: &Output) -> Result<Device> {
        self.device_with("stranger's phone", "no-passkeys", client, output)
    }

    fn device_with(&self, name: &str, passkeys: &str, client: &Client, output: &Output) -> Result<Device> {
        let folder = self.folder.path().join(name.replace(' ', "-"));
        let profile = Profile::open(&folder)?;
        profile.init(self.descriptor.as_bytes(), &client.api_key)?;
        let (keys, blobs) = profile.stores(Zeroizing::new(format!("passphrase of the {name}")))?;
        let mut builder =
            Halfkey::builder(Deployment::from_json(&self.descriptor)?, Credentials::token(client.api_key.as_str()))
                .share_store(Arc::new(keys), Arc::new(blobs))
                .transport(Arc::new(HttpTransport::new()?))
                .clock(Arc::new(SystemClock))
                .entropy(Box::new(OsEntropy))
                .on_progress(output.progress())
                .device_name(name);
        if self.method == MethodName::Passkey {
            let folder = self.folder.path().join(passkeys);
            let sheet = DangerSoftwarePasskeys::open(&folder, ORIGIN, false, true)?;
            builder = builder.passkeys(Arc::new(sheet)).platform(platform_with_passkeys());
            builder = accepting(builder, true)?;
        }
        let halfkey = builder.build()?;
        if self.method == MethodName::Passkey {
            halfkey.configure_passkey_storage(PasskeyConfig::new(RELYING_PARTY, [ORIGIN]))?;
        }
        Ok(Device { halfkey, folder, profile })
    }

    /// Closes the server's standard input and waits: it stops its keepers, then itself.
    pub(super) async fn stop(mut self) -> Result<()> {
        drop(self.server.stdin.take());
        let status = timeout(STOP, self.server.wait()).await.map_err(|_| failed("the server did not stop in time"))?;
        match status.at(Path::new("halfkey serve"))?.success() {
            true => Ok(()),
            false => Err(failed("the server stopped with an error")),
        }
    }
}

impl Device {
    /// The device is lost: everything on it is gone.
    pub(super) fn wipe(self) -> Result<()> {
        drop((self.halfkey, self.profile));
        std::fs::remove_dir_all(&self.folder).at(&self.folder)
    }
}

async fn admin(arguments: &[&str]) -> Result<Value> {
    let output =
        halfkey(&["admin"])?.args(arguments).stdin(Stdio::null()).output().await.at(Path::new("halfkey admin"))?;
    if !output.status.success() {
        return Err(failed(&format!(
            "halfkey admin {}: {}",
            arguments[0],
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|_| failed("halfkey admin did not answer in JSON"))
}

async fn first_line(child: &mut Child) -> Result<Value> {
    let stdout = child.stdout.take().ok_or_else(|| failed("the server has no standard output"))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await.at(Path::new("halfkey serve"))?;
    serde_json::from_str(&line).map_err(|_| failed("the server did not start"))
}

fn halfkey(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().at(Path::new("this program"))?);
    command.args(arguments);
    Ok(command)
}

fn failed(what: &str) -> Error {
    Error::Failed(what.to_owned())
}
