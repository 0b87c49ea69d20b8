//! A passkey keeper behind a TPM, as a process of its own, set up as an operator would: enrolled, approved, sealed.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use p256::{
    ecdsa::SigningKey,
    pkcs8::{EncodePrivateKey, LineEnding},
};

use crate::{
    deployment::halfkey,
    swtpm::{PCRS, Swtpm},
};

/// A machine with a keeper that runs.
pub struct TpmKeeper {
    /// Its TPM.
    pub machine: Swtpm,
    folder: tempfile::TempDir,
    running: Option<(Child, ChildStdin)>,
    operator: String,
    digest: String,
}

/// Writes a P-256 key as operators and signers keep theirs.
///
/// # Errors
/// When the file cannot be written.
pub fn write_key(path: &Path, number: u8) -> io::Result<()> {
    let key = SigningKey::from_slice(&[number; 32]).map_err(io::Error::other)?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
    fs::write(path, pem.as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Runs a command of the program and gives what it printed.
///
/// # Errors
/// What it said on standard error.
pub fn succeed(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

impl TpmKeeper {
    /// Makes the machine, seals a root under one signer, and starts the keeper.
    ///
    /// # Errors
    /// When one of the steps fails.
    pub fn start() -> io::Result<Self> {
        let (machine, folder) = (Swtpm::start()?, tempfile::Builder::new().prefix("halfkey-tpm-keeper-").tempdir()?);
        let mut keeper = Self { machine, folder, running: None, operator: String::new(), digest: String::new() };
        write_key(&keeper.folder.path().join("operator.pem"), 1)?;
        write_key(&keeper.folder.path().join("signer.pem"), 11)?;
        let (tpm, pcrs) = (keeper.machine.address(), pcrs());
        keeper.operator = keeper.tpm2(&["public-key", "--key", "operator.pem"])?;
        let signer = keeper.tpm2(&["public-key", "--key", "signer.pem"])?;
        keeper.digest = keeper.tpm2(&["measure", "--tpm", &tpm, "--pcrs", &pcrs])?;
        keeper.tpm2(&["enrol", "--tpm", &tpm, "--out", "request"])?;
        keeper.tpm2(&["vouch", "--request", "request", "--key", "operator.pem", "--out", "enrolment"])?;
        let digest = keeper.digest.clone();
        keeper.tpm2(&["approve", "--pcrs", &pcrs, "--digest", &digest, "--key", "signer.pem", "--out", "approval"])?;
        let words = ["seal", "--data", "keeper", "--tpm", &tpm, "--pcrs", &pcrs, "--signer", &signer, "--quorum", "1"];
        keeper.tpm2(&[&words[..], &["--enrolment", "enrolment", "--approval", "approval"]].concat())?;
        keeper.restart()?;
        Ok(keeper)
    }

    /// Starts the keeper (again).
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let tpm = self.machine.address();
        let mut command = halfkey(&["keeper", "--data", "keeper", "--socket", "keeper.sock", "--evidence", "tpm2"]);
        command.args(["--tpm", &tpm, "--stop-on-stdin-close"]).current_dir(self.folder.path());
        let (child, stdin, _) = spawn_ready(&mut command)?;
        self.running = Some((child, stdin));
        Ok(())
    }

    /// Ends the keeper.
    pub fn stop(&mut self) {
        if let Some((mut child, stdin)) = self.running.take() {
            drop(stdin);
            let _ = child.wait();
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("keeper.sock")
    }

    /// What `halfkey admin descriptor` takes for it.
    #[must_use]
    pub fn descriptor_arguments(&self) -> Vec<String> {
        let (socket, pcrs) = (self.socket().display().to_string(), pcrs());
        let words = ["--keeper-socket", &socket, "--evidence", "tpm2", "--pcrs", &pcrs, "--measurement", &self.digest];
        words.into_iter().chain(["--operator", &self.operator]).map(str::to_owned).collect()
    }

    fn tpm2(&self, words: &[&str]) -> io::Result<String> {
        succeed(halfkey(&[&["keeper", "tpm2"], words].concat()).current_dir(self.folder.path()))
    }
}

impl Drop for TpmKeeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pcrs() -> String {
    PCRS.map(|pcr| pcr.to_string()).join(",")
}

/// Starts a process that announces itself with a line of JSON; gives that line.
///
/// # Errors
/// When it ends instead.
pub fn spawn_ready(command: &mut Command) -> io::Result<(Child, ChildStdin, String)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err(io::Error::other("a pipe was asked for")) };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.contains("\"ready\":true") {
        return Ok((child, stdin, line));
    }
    let _ = child.kill();
    child.wait()?;
    Err(io::Error::other(format!("the keeper does not start: {line}")))
}
