//! A machine with a TPM: `swtpm` in a folder of its own, on free loopback ports, and Debian's `tpm2-tools` to measure a
//! boot into it. It ends with the value.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

/// What a boot measures, for tests: PCR and the byte that is extended into it.
pub const BOOT: [(u8, u8); 3] = [(0, 0x11), (7, 0x22), (11, 0x33)];
/// The PCRs of [`BOOT`].
pub const PCRS: [u8; 3] = [0, 7, 11];

/// A machine that is switched on.
pub struct Swtpm {
    state: tempfile::TempDir,
    running: Option<Child>,
    port: u16,
}

impl Swtpm {
    /// Makes a TPM with an endorsement certificate, switches it on and measures [`BOOT`].
    ///
    /// # Errors
    /// When `swtpm` or `tpm2-tools` are not installed, or fail.
    pub fn start() -> io::Result<Self> {
        let state = tempfile::Builder::new().prefix("halfkey-swtpm-").tempdir()?;
        let mut setup = Command::new("swtpm_setup");
        setup.args([
            "--tpm2",
            "--create-ek-cert",
            "--create-platform-cert",
            "--lock-nvram",
            "--overwrite",
            "--tpmstate",
        ]);
        // Its certificate authority keeps its files here and not in the user's home.
        setup.arg(state.path()).env("XDG_CONFIG_HOME", state.path());
        write_ca_configuration(state.path())?;
        setup.arg("--config").arg(state.path().join("setup.conf"));
        succeeded(&setup.output()?)?;
        let mut machine = Self { state, running: None, port: 0 };
        machine.power_on()?;
        Ok(machine)
    }

    /// Where a keeper finds it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("swtpm:127.0.0.1:{}", self.port)
    }

    /// Switches it off and on: the PCRs begin anew, and [`BOOT`] is measured again.
    ///
    /// # Errors
    /// See [`Swtpm::start`].
    pub fn reboot(&mut self) -> io::Result<()> {
        self.power_off()?;
        self.power_on()
    }

    /// Switches it off.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn power_off(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.running.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Measures something more.
    ///
    /// # Errors
    /// What the tool says.
    pub fn extend(&self, pcr: u8, byte: u8) -> io::Result<()> {
        let digest = format!("{byte:02x}").repeat(32);
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={digest}")]).map(drop)
    }

    /// Runs one of Debian's `tpm2-tools` on it.
    ///
    /// # Errors
    /// What the tool says.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> io::Result<Output> {
        let tcti = format!("swtpm:host=127.0.0.1,port={}", self.port);
        let output = Command::new(name).args(arguments).env("TPM2TOOLS_TCTI", tcti).output()?;
        succeeded(&output)?;
        Ok(output)
    }

    fn power_on(&mut self) -> io::Result<()> {
        for _ in 0..20 {
            // The tools look for the control channel on the next port.
            let (port, control) = two_free_ports()?;
            let mut child = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .args(["--tpmstate", &format!("dir={}", self.state.path().display())])
                .args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={port}")])
                .args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={control}")])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            if listens(port, &mut child)? {
                (self.port, self.running) = (port, Some(child));
                return BOOT.iter().try_for_each(|(pcr, byte)| self.extend(*pcr, *byte));
            }
            // Somebody else was faster with one of the ports.
            let _ = child.kill();
            child.wait()?;
        }
        Err(io::Error::other("swtpm does not start"))
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.power_off();
    }
}

fn write_ca_configuration(folder: &Path) -> io::Result<()> {
    let shown = folder.display();
    let ca = format!(
        "statedir = {shown}/ca\nsigningkey = {shown}/ca/signkey.pem\nissuercert = {shown}/ca/issuercert.pem\n\
         certserial = {shown}/ca/certserial\n"
    );
    std::fs::write(folder.join("ca.conf"), ca)?;
    std::fs::write(
        folder.join("ca.options"),
        "--platform-manufacturer Halfkey\n--platform-version 1\n--platform-model tests\n",
    )?;
    let tool = "/usr/bin/swtpm_localca";
    let setup = format!(
        "create_certs_tool = {tool}\ncreate_certs_tool_config = {shown}/ca.conf\n\
         create_certs_tool_options = {shown}/ca.options\nactive_pcr_banks = sha256\n"
    );
    std::fs::write(folder.join("setup.conf"), setup)
}

fn two_free_ports() -> io::Result<(u16, u16)> {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let Some(next) = port.checked_add(1) else { continue };
        match TcpListener::bind((Ipv4Addr::LOCALHOST, next)) {
            Ok(_second) => return Ok((port, next)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether it came to listen there; false if it ended.
fn listens(port: u16, child: &mut Child) -> io::Result<bool> {
    for _ in 0..3000 {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(false)
}

fn succeeded(output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = [&output.stdout[..], &output.stderr].concat();
    Err(io::Error::other(String::from_utf8_lossy(&said).into_owned()))
}
