//! The commands of `docs/enclave.md`, in their order, on two machines with a TPM each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use halfkey_tests::{
    deployment::{Backing, Deployment, halfkey},
    swtpm::Swtpm,
    tpm_keeper::{spawn_ready, succeed, write_key},
};
use serde_json::Value;

/// The commands of the chapter on `tpm2`.
fn commands() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/enclave.md");
    let text = fs::read_to_string(path).unwrap();
    let chapter = text.split("\n## ").find(|chapter| chapter.starts_with("tpm2\n")).unwrap();
    let lines = chapter.lines().filter_map(|line| line.strip_prefix("    "));
    lines.filter(|line| line.starts_with("halfkey ")).map(str::to_owned).collect()
}

struct Machine {
    tpm: Swtpm,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { tpm: Swtpm::start().unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    /// The command in this machine's folder, with its TPM where the document has the default.
    fn command(&self, line: &str) -> Command {
        let mut words: Vec<String> = line.split_whitespace().skip(1).map(str::to_owned).collect();
        let own = ["public-key", "vouch", "approve", "evidence"];
        let keeper = words[0] == "keeper" && !words.iter().any(|word| own.contains(&word.as_str()));
        if keeper {
            words.extend(["--tpm".to_owned(), self.tpm.address()]);
        }
        let mut command = halfkey(&words);
        command.current_dir(self.folder.path());
        command
    }

    fn run(&self, line: &str) -> String {
        succeed(&mut self.command(line)).unwrap_or_else(|error| panic!("`{line}`: {error}"))
    }

    fn carry(&self, name: &str, to: &Self) {
        fs::copy(self.folder.path().join(name), to.folder.path().join(name)).unwrap();
    }
}

/// The operator, and three signers, whose keys lie with the first machine in this test.
fn keys(machine: &Machine) -> Vec<String> {
    let names = ["operator", "signer-1", "signer-2", "signer-3"];
    let write = |(name, number): (&str, u8)| {
        write_key(&machine.folder.path().join(format!("{name}.pem")), number).unwrap();
        machine.run(&format!("halfkey keeper tpm2 public-key --key {name}.pem"))
    };
    names.into_iter().zip([1, 11, 12, 13]).map(write).collect()
}

/// What the signers write for a machine's present state.
fn approve(on: &Machine, by: &Machine, name: &str) -> String {
    let digest = on.run("halfkey keeper tpm2 measure --pcrs 0,2,4,7,11");
    for signer in [1, 2] {
        let out = format!("approval-{signer}{name}");
        by.run(&format!(
            "halfkey keeper tpm2 approve --pcrs 0,2,4,7,11 --digest {digest} --key signer-{signer}.pem --out {out}"
        ));
        if !std::ptr::eq(on, by) {
            by.carry(&out, on);
        }
    }
    digest
}

fn start(machine: &Machine, line: &str) -> (Child, impl Sized + use<>, Value) {
    let (child, stdin, ready) = spawn_ready(machine.command(line).arg("--stop-on-stdin-close")).unwrap();
    (child, stdin, serde_json::from_str(&ready).unwrap())
}

#[test]
fn the_commands_of_the_enclave_document_work_in_their_order() {
    let (first, second) = (Machine::new(), Machine::new());
    // Another machine boots with another firmware.
    second.tpm.extend(0, 0x77).unwrap();
    let keys = keys(&first);
    let digest = approve(&first, &first, "");
    approve(&second, &first, "-2");
    second.run("halfkey keeper tpm2 enrol --out request-2");
    second.carry("request-2", &first);
    first.run("halfkey keeper tpm2 vouch --request request-2 --key operator.pem --days 1 --out enrolment-2");
    first.carry("enrolment-2", &second);
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();

    let (mut public_key, mut running, mut joining, mut done) = (String::new(), None, None, vec![]);
    for line in commands() {
        let filled = line.replace("DIGEST", &digest).replace("OPERATOR", &keys[0]).replace("KEY", &public_key);
        let filled = (1..4).fold(filled, |line, at| line.replace(&format!("SIGNER-{at}"), &keys[at]));
        let words: Vec<&str> = line.split_whitespace().collect();
        let verb = if words[2] == "tpm2" { words[3] } else { words[2] };
        match verb {
            "seal" => public_key = first.run(&filled),
            "--data" => {
                let (child, stdin, ready) = start(&first, &filled);
                assert_eq!((&ready["evidence"], &ready["sealings"]), (&"tpm2".into(), &1.into()));
                assert_eq!(ready["public_key"], public_key.as_str());
                running = Some((child, stdin, filled));
            }
            "join" => {
                let mut child = second.command(&filled).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                let mut said = String::new();
                BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
                assert!(said.starts_with("join-request"), "{said}");
                second.carry("join-request", &first);
                joining = Some(child);
            }
            "admit" => {
                first.run(&filled);
                first.carry("join-answer", &second);
                let mut child = joining.take().unwrap();
                child.stdin.take().unwrap().write_all(b"\n").unwrap();
                assert!(child.wait().unwrap().success(), "the second machine has joined");
                second.carry("genesis-2", &first);
            }
            "genesis" => {
                first.run(&filled);
                first.carry("genesis-1", &second);
                second.run("halfkey keeper tpm2 archive --data keeper --genesis genesis-1");
            }
            "descriptor" => {
                let place = format!("{filled} --data {}", deployment.data().display());
                let production = format!("{place} --profile production --danger-local-kms --danger-single-shred-store");
                let refused = succeed(&mut first.command(&production)).unwrap_err().to_string();
                assert!(refused.contains("on 1 machine only"), "started before the second joined: {refused}");
                assert_eq!(examined(&first), (false, 1, vec!["ONE_SEALING".to_owned()]));
                let (mut child, stdin, again) = running.take().unwrap();
                drop(stdin);
                assert!(child.wait().unwrap().success());
                let (child, stdin, ready) = start(&first, &again);
                assert_eq!(ready["sealings"], 2);
                running = Some((child, stdin, again));
                first.run(&production);
                first.run(&place);
            }
            "evidence" => {
                let said = first.run(&format!("{filled} --json"));
                let said: Value = serde_json::from_str(&said).unwrap();
                assert_eq!((&said["verdict"]["accepted"], &said["kind"]), (&true.into(), &"tpm2".into()), "{said}");
                assert_eq!(said["document"]["pcrDigest"], digest.as_str());
                assert!(first.run(&filled).contains("accepted: true"));
                another_boot_is_refused(&first, &filled);
            }
            "keeper" => assert_eq!(examined(&first), (true, 2, vec![])),
            "accept" if filled.contains("-new") => {
                approve(&first, &first, "-new");
                first.run(&filled);
            }
            "renew" => {
                let vouch = "halfkey keeper tpm2 vouch --request request --key operator.pem --out enrolment-new";
                first.run(vouch);
                first.run(&filled);
            }
            _ => drop(first.run(&filled)),
        }
        done.push(verb.to_owned());
    }
    let expected = [
        "public-key",
        "public-key",
        "enrol",
        "vouch",
        "measure",
        "approve",
        "seal",
        "--data",
        "join",
        "accept",
        "admit",
        "archive",
        "genesis",
        "descriptor",
        "evidence",
        "keeper",
        "accept",
        "renew",
    ];
    assert_eq!(done, expected, "the document's walk has changed");

    // After the upgrade the keeper starts with the same key, on both machines.
    let (mut child, stdin, again) = running.take().unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let mut next = Vec::new();
    for machine in [&first, &second] {
        let (mut child, stdin, ready) = start(machine, &again);
        assert_eq!((&ready["public_key"], &ready["sealings"]), (&public_key.as_str().into(), &2.into()));
        drop(stdin);
        assert!(child.wait().unwrap().success());
        // The next long-term key is of the same root: the same on both.
        let (mut child, stdin, ready) = start(machine, &format!("{again} --key-id 2"));
        assert_eq!(ready["key_id"], 2);
        next.push(ready["public_key"].as_str().unwrap().to_owned());
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }
    assert!(next[0] == next[1] && next[0] != public_key, "{next:?}");
}

/// What `halfkey doctor` says of the running keeper: whether all is good, the sealings, and what is wrong.
fn examined(machine: &Machine) -> (bool, u64, Vec<String>) {
    let output = machine.command("halfkey doctor keeper --socket keeper.sock --json").output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["good"], output.status.success(), "{said}");
    let findings = said["findings"].as_array().unwrap().iter();
    let ids = findings.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect();
    (output.status.success(), said["sealings"].as_u64().unwrap(), ids)
}

/// The machine changes under the running keeper: its evidence is refused, with exit code 1 and the reason.
fn another_boot_is_refused(machine: &Machine, line: &str) {
    machine.tpm.extend(11, 0x44).unwrap();
    let refused = succeed(&mut machine.command(line)).unwrap_err().to_string();
    assert!(refused.contains("UNKNOWN_MEASUREMENT"), "{refused}");
}

#[test]
fn a_keeper_that_proves_nothing_is_named_so_and_refused() {
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let socket = deployment.root().join("server.keeper.sock").display().to_string();
    let descriptor = deployment.root().join("descriptor.json").display().to_string();
    let told = succeed(&mut halfkey(&["keeper", "evidence", "--socket", &socket])).unwrap();
    assert!(told.contains("kind: insecure-dev") && told.contains("proves nothing"), "{told}");
    let judged = halfkey(&["keeper", "evidence", "--socket", &socket, "--descriptor", &descriptor]).output().unwrap();
    let error = String::from_utf8_lossy(&judged.stderr);
    assert!(!judged.status.success() && error.contains("INSECURE_DEV"), "{error}");

    let examined = halfkey(&["doctor", "keeper", "--socket", &socket]).output().unwrap();
    let told = String::from_utf8_lossy(&examined.stdout);
    assert_eq!(examined.status.code(), Some(1));
    assert!(told.contains("error PROVES_NOTHING: insecure-dev") && told.contains("error ONE_SEALING: 1"), "{told}");

    // Production does not even write such a descriptor.
    let data = deployment.data().display().to_string();
    let words = ["admin", "descriptor", "--data", &data, "--url", "https://backup.example", "--out", "refused.json"];
    let dangers = ["--profile", "production", "--danger-local-kms", "--danger-single-shred-store"];
    for (extra, reason) in [(&["--evidence", "insecure-dev"][..], "proves nothing"), (&[], "1 machine only")] {
        let mut command = halfkey(&[&words[..], &dangers, extra].concat());
        let refused = succeed(command.current_dir(deployment.root())).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
        assert!(!deployment.root().join("refused.json").exists());
    }
}
