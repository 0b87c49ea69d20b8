//! A passkey keeper behind a TPM, as a process of its own.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
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

/// A machine whose TPM has sealed a keeper's root, set up as an operator would: enrolled, approved, sealed.
pub struct Sealed {
    /// Its TPM.
    pub machine: Swtpm,
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

impl Sealed {
    /// Makes the machine, and seals a root under one signer into `data`.
    ///
    /// # Errors
    /// When one of the steps fails.
    pub fn new(data: &Path) -> io::Result<Self> {
        let (machine, desk) = (Swtpm::start()?, tempfile::Builder::new().prefix("halfkey-operator-").tempdir()?);
        write_key(&desk.path().join("operator.pem"), 1)?;
        write_key(&desk.path().join("signer.pem"), 11)?;
        let tpm2 = |words: &[&str]| succeed(halfkey(&[&["keeper", "tpm2"], words].concat()).current_dir(desk.path()));
        let (tpm, pcrs, data) = (machine.address(), pcrs(), data.display().to_string());
        let operator = tpm2(&["public-key", "--key", "operator.pem"])?;
        let signer = tpm2(&["public-key", "--key", "signer.pem"])?;
        let digest = tpm2(&["measure", "--tpm", &tpm, "--pcrs", &pcrs])?;
        tpm2(&["enrol", "--tpm", &tpm, "--out", "request"])?;
        tpm2(&["vouch", "--request", "request", "--key", "operator.pem", "--out", "enrolment"])?;
        tpm2(&["approve", "--pcrs", &pcrs, "--digest", &digest, "--key", "signer.pem", "--out", "approval"])?;
        let words = ["seal", "--data", &data, "--tpm", &tpm, "--pcrs", &pcrs, "--signer", &signer, "--quorum", "1"];
        tpm2(&[&words[..], &["--enrolment", "enrolment", "--approval", "approval"]].concat())?;
        Ok(Self { machine, operator, digest })
    }

    /// The keeper on this machine, with the root in `data`.
    #[must_use]
    pub fn keeper(&self, data: &Path, socket: &Path) -> Command {
        let mut command = halfkey(&["keeper", "--evidence", "tpm2", "--tpm", &self.machine.address()]);
        command.arg("--data").arg(data).arg("--socket").arg(socket).arg("--stop-on-stdin-close");
        command
    }

    /// What `halfkey admin descriptor` takes for it.
    #[must_use]
    pub fn policy_arguments(&self) -> Vec<String> {
        let (pcrs, digest, operator) = (pcrs(), &self.digest, &self.operator);
        let words = ["--evidence", "tpm2", "--pcrs", &pcrs, "--measurement", digest, "--operator", operator];
        words.map(str::to_owned).to_vec()
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
