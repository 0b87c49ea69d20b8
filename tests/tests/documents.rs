//! The documents tell the truth: the README's commands run in their order, every `halfkey …` line of `docs/` is one that
//! the program knows, and the command reference is current.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use halfkey_tests::deployment::{Backing, Deployment, halfkey};

const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8787";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The lines of a document's indented or fenced blocks that begin with `halfkey `, or with the flags of one continued.
fn commands(document: &str) -> Vec<String> {
    let block = document.lines().filter(|line| line.starts_with("    ") || line.starts_with("halfkey "));
    block.map(str::trim).filter(|line| line.starts_with("halfkey ")).map(str::to_owned).collect()
}

/// Splits a command line as a shell does, as far as the documents need it: blanks and double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    for (position, piece) in line.split('"').enumerate() {
        match position % 2 {
            0 => words.extend(piece.split_whitespace().map(str::to_owned)),
            _ => words.push(piece.to_owned()),
        }
    }
    words
}

fn run(arguments: &[String], folder: &Path, input: &str) -> Output {
    let mut child = halfkey(&arguments[1..])
        .current_dir(folder)
        .env("HALFKEY_PROFILE", folder.join("profile"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no secret may have ended already.
    let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a user would type, line by line, for one of the README's commands.
fn secrets(arguments: &[String], api_key: &str) -> String {
    const DEVICE: &str = "a passphrase for this device";
    const PASSWORD: &str = "seven otters juggle amber lanterns";
    match arguments[2].as_str() {
        "init" => format!("{api_key}\n"),
        "backup" | "verify" | "recover" if !arguments.iter().any(|word| word == "passkey") => {
            format!("{DEVICE}\n{PASSWORD}\n")
        }
        _ => format!("{DEVICE}\n"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_readme_work_in_their_order() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = commands(&readme);
    assert!(
        readme.contains("    cargo run --release -- demo\n") && readme.contains("    ./check\n"),
        "the two commands"
    );
    let served = lines.iter().position(|line| line == "halfkey serve").expect("the README starts a server");
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut wallet_commands = 0;
    for line in &lines[served + 1..] {
        let mut arguments = words(&line.replace(DEFAULT_ADDRESS, &deployment.url()));
        let mut input = String::new();
        if arguments[1] == "wallet" {
            wallet_commands += 1;
            input = secrets(&arguments, &client.api_key);
            arguments.extend(["--secrets-fd".to_owned(), "0".to_owned()]);
            if line.contains("passkey") {
                // What stands for the browser and its user.
                let passkeys = folder.path().join("passkeys").display().to_string();
                arguments.extend(["--danger-software-passkeys".to_owned(), passkeys]);
            }
            if arguments[2] == "recover" {
                // The device is lost.
                fs::remove_dir_all(folder.path().join("profile")).unwrap();
                let init = words("halfkey wallet init --descriptor descriptor.json --secrets-fd 0");
                assert!(run(&init, folder.path(), &format!("{}\n", &client.api_key)).status.success());
            }
        } else {
            arguments.extend(["--data".to_owned(), deployment.data().display().to_string()]);
        }
        let output = run(&arguments, folder.path(), &input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{line}` of the README fails: {error}");
    }
    assert!(wallet_commands >= 6, "the README's walk is cut short");
}

#[test]
fn every_command_of_the_documents_is_known() {
    let mut seen = 0;
    // The command reference comes from the program itself.
    for name in documents().into_iter().filter(|name| !name.ends_with("cli.md")) {
        let text = fs::read_to_string(&name).unwrap();
        for line in commands(&text) {
            let mut known: Vec<String> = words(&line).into_iter().take_while(|word| !word.starts_with('-')).collect();
            known.push("--help".to_owned());
            let output = run(&known, &root(), "");
            assert!(output.status.success(), "{}: `{line}` is no command", name.display());
            let help = String::from_utf8_lossy(&output.stdout).into_owned();
            for flag in words(&line).iter().filter(|word| word.starts_with("--") && *word != "--help") {
                let flag = flag.split('=').next().unwrap();
                assert!(help.contains(flag), "{}: `{line}`: no {flag}", name.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
}

fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("SECURITY.md"), root().join("CONTRIBUTING.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// `docs/cli.md` is what `--help` prints. `HALFKEY_BLESS=1` writes it anew.
#[test]
fn the_command_reference_is_current() {
    let mut reference = String::from(
        "# Commands\n\nWhat `--help` prints, command by command. Generated: `HALFKEY_BLESS=1 cargo test -p halfkey-tests --test documents`.\n",
    );
    let mut waiting = vec![vec!["halfkey".to_owned()]];
    while let Some(command) = waiting.pop() {
        let mut asked = command.clone();
        asked.push("--help".to_owned());
        let output = run(&asked, &root(), "");
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !help.is_empty(), "{command:?}");
        let title = command.join(" ");
        let body: Vec<&str> = help.lines().map(str::trim_end).collect();
        reference.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", body.join("\n").trim_end()));
        let mut below = subcommands(&help);
        below.reverse();
        waiting.extend(below.into_iter().map(|name| [command.clone(), vec![name]].concat()));
    }
    let path = root().join("docs/cli.md");
    if std::env::var_os("HALFKEY_BLESS").is_some() {
        fs::write(&path, &reference).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == reference, "docs/cli.md is not current: run with HALFKEY_BLESS=1 and commit it");
}

fn subcommands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}
