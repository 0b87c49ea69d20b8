//! The ways out, as their users run them: `halfkey wallet eject`, `sweep`, `exit-kit` and `halfkey offline-recover`, in
//! processes of their own; the last one without any network and with every server off.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use halfkey_api::{
    chain::Ed25519Key,
    route,
    signing::{Payload, SolanaTransfer},
};
use halfkey_tests::{
    deployment::{Backing, Deployment, program},
    keys::Keys,
    litesvm::LiteSvm,
    search::Needles,
    user::User,
    verify,
    watch::Watch,
};
use serde_json::{Value, json};

const PASSPHRASE: &str = "the laptop's own passphrase";
const EXPORT_PASSPHRASE: &str = "the vault's own passphrase";
const PASSWORD: &str = "seven otters juggle amber lanterns";
const WRONG: &str = "seven otters juggle umber lanterns";
const SOL: u64 = 1_000_000_000;

/// What a command of the program came to: its exit status, and everything that it said.
struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{} {}", self.out, self.err))
    }

    /// Exit status and code of a failure.
    fn refusal(&self) -> (i32, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap().to_owned())
    }
}

fn finish(mut command: Command, secrets: &[&str]) -> Said {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALFKEY_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that needs no secret may be gone before it is written.
    let _ = secrets.iter().try_for_each(|secret| writeln!(stdin, "{secret}"));
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { status: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
}

/// Runs the program as it is.
fn halfkey(words: &[&str], secrets: &[&str]) -> Said {
    let mut command = Command::new(program());
    command.args(words);
    finish(command, secrets)
}

/// Runs the program in a network namespace of its own, in which there is nothing but a loopback that is down. A machine
/// that cannot do this cannot run the test.
fn without_a_network(words: &[&str], secrets: &[&str]) -> Said {
    let can = |flag: &&str| {
        let done = Command::new("unshare").args([flag, "true"]).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    let flag = ["-n", "-rn"].into_iter().find(|flag| can(flag));
    let flag = flag.expect("this machine lets nobody make a network namespace (unshare -n, unshare -rn)");
    let mut command = Command::new("unshare");
    command.args([flag, "--"]).arg(program()).args(words);
    finish(command, secrets)
}

/// A file with keys in it: nobody else can read it.
fn keys_in(path: &Path) -> Keys {
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    Keys::read(&fs::read_to_string(path).unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// The keys are nowhere but in the files that were asked for: not in what was said, not in a log, not in another file.
fn are_nowhere_else(keys: &Keys, deployment: &Deployment, said: &[&Said], own: &[&Path]) {
    let mut needles = Needles::default();
    needles.add("wif", keys.wif.as_bytes());
    for text in [keys.ethereum.trim_start_matches("0x"), &keys.scalar] {
        needles.add("private key", &hex::decode(text).unwrap());
    }
    for said in said {
        let found = needles.find(format!("{}{}", said.out, said.err).as_bytes());
        assert!(found.is_empty(), "{found:?} in what a command said");
    }
    assert!(!deployment.log_bytes().is_empty());
    assert!(needles.find(&deployment.log_bytes()).is_empty(), "a key in the logs");
    let (mut found, mut searched) = (vec![], 0);
    for file in files(deployment.root()) {
        searched += 1;
        if !needles.find(&fs::read(&file).unwrap()).is_empty() {
            found.push(file);
        }
    }
    found.sort();
    assert_eq!(found, own, "the files with keys in them");
    assert!(searched > own.len());
}

/// A transfer of everything that the account can pay, and the block that it is good for.
fn transfer_of_everything(from: &str, to: &str, blockhash: String) -> Vec<u8> {
    let account = bs58::decode(from).into_vec().unwrap();
    let transfer = SolanaTransfer {
        from: Ed25519Key::parse(&account).unwrap(),
        to: to.to_owned(),
        lamports: SOL - 5000,
        recent_blockhash: blockhash,
    };
    let Payload::SolanaMessage(message) = transfer.payload().unwrap() else { panic!("no message") };
    message
}

/// A real Solana runtime takes what the scalar signs, without any server of ours or a network.
fn sweeps(keys: &Keys, profile: &Path) {
    let mut solana = LiteSvm::start().unwrap();
    let [_, _, from] = &keys.addresses;
    let to = bs58::encode([7; 32]).into_string();
    solana.airdrop(from, SOL).unwrap();
    let message = transfer_of_everything(from, &to, solana.blockhash().unwrap());
    let profile = profile.display().to_string();
    let hex = hex::encode(&message);
    let sweep = |message: &str, scalar: &str| {
        let words = ["wallet", "--json", "--secrets-fd", "0", "--profile", &profile, "sweep", "--message", message];
        without_a_network(&words, &[scalar])
    };
    let done = sweep(&hex, &keys.scalar);
    assert_eq!(done.status, 0, "{} {}", done.out, done.err);
    let signed = done.json();
    assert_eq!(signed["complete"], json!(true));
    let signature = signed["solanaSignature"].as_str().unwrap();
    verify::solana_message(&message, signature, &bs58::decode(from).into_vec().unwrap()).unwrap();
    let transaction = hex::decode(signed["transaction"].as_str().unwrap().strip_prefix("0x").unwrap()).unwrap();
    assert_eq!(solana.send_transaction(&transaction).unwrap(), signature);
    assert_eq!((solana.balance(&to).unwrap(), solana.balance(from).unwrap()), (SOL - 5000, 0));
    assert!(!done.out.contains(&keys.scalar) && !done.err.contains(&keys.scalar));
    assert!(!Path::new(&profile).exists(), "a sweep needs no profile, and makes none");

    // The key of another account signs nothing here, nor does what is no scalar or no message.
    let mut base_point = [0x66; 32];
    base_point[0] = 0x58;
    let stranger = bs58::encode(base_point).into_string();
    let another = transfer_of_everything(&stranger, from, bs58::encode([9; 32]).into_string());
    for (message, scalar) in
        [(hex::encode(another), keys.scalar.as_str()), (hex.clone(), &"f".repeat(64)), ("00".to_owned(), &keys.scalar)]
    {
        assert_eq!(sweep(&message, scalar).refusal(), (2, "USAGE".to_owned()));
    }
    assert_eq!(sweep(&hex, &"0".repeat(64)).refusal(), (2, "USAGE".to_owned()), "zero is no key");
    let mut other = hex::decode(&keys.scalar).unwrap();
    other[0] ^= 1;
    assert_eq!(sweep(&hex, &hex::encode(other)).refusal(), (2, "USAGE".to_owned()), "not the key of this message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eject_gives_the_keys_inside_the_window_and_nowhere_else() {
    let deployment = Deployment::start_logging(&Backing::Sqlite, "trace").unwrap();
    let (client, other) = (deployment.new_client().await.unwrap(), deployment.new_client().await.unwrap());
    let watch = Watch::over(deployment.root());
    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    laptop.does(&["backup"], &[PASSWORD]);
    User::new(&deployment, "stranger", PASSPHRASE, &other).does(&["create"], &[]);
    let file = deployment.root().join("keys.txt");
    let name = file.display().to_string();
    let eject = ["eject", "--keys-file", &name];
    let refused = |words: &[&str], secrets: &[&str]| {
        let (status, error) = laptop.fails(words, secrets);
        (status, error["code"].as_str().unwrap().to_owned())
    };

    // Without a window, in another client's, and in one that is over: nothing comes out, and nothing stays behind.
    let closed = (1, "EJECT_NOT_ENABLED".to_owned());
    assert_eq!(refused(&eject, &["EJECT", PASSWORD]), closed);
    deployment.enable_eject(&other).unwrap();
    assert_eq!(refused(&eject, &["EJECT", PASSWORD]), closed);
    let opened = deployment.operator(&["enable-eject", "--client", &client.id, "--seconds", "1"]).unwrap();
    assert!(opened.starts_with(&format!("client {} may eject until ", client.id)), "{opened}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(refused(&eject, &["EJECT", PASSWORD]), closed);
    let unknown = "00000000000000000000000000000000";
    deployment.operator(&["enable-eject", "--client", unknown]).unwrap_err();
    for seconds in ["0", "3601"] {
        deployment.operator(&["enable-eject", "--client", &client.id, "--seconds", seconds]).unwrap_err();
    }

    deployment.enable_eject(&client).unwrap();
    assert_eq!(refused(&eject, &["eject", PASSWORD]), (2, "USAGE".to_owned()), "not confirmed");
    assert_eq!(refused(&["eject"], &["EJECT", PASSWORD]), (2, "USAGE".to_owned()), "nowhere to show them");
    let (status, error) = laptop.fails(&eject, &["EJECT", WRONG]);
    assert_eq!((status, &error["code"], &error["remaining"]), (3, &json!("WRONG_SECRET"), &json!(9)));
    assert!(!file.exists(), "no file without keys in it");
    fs::write(&file, "somebody's notes").unwrap();
    assert_eq!(refused(&eject, &["EJECT", PASSWORD]), (1, "FILE".to_owned()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "somebody's notes");
    fs::remove_file(&file).unwrap();
    laptop.signs(&addresses);

    let run = |words: &[&str]| {
        let ran = laptop.run(words, &[PASSPHRASE, "EJECT", PASSWORD]);
        Said { status: ran.status, out: ran.out.to_string(), err: ran.err }
    };
    let said = run(&eject);
    assert_eq!(said.status, 0, "{} {}", said.out, said.err);
    let told = said.json();
    assert_eq!(
        (&told["acknowledged"], &told["addresses"], &told["keysFile"]),
        (&json!(true), &addresses, &json!(file))
    );
    let keys = keys_in(&file);
    keys.control(&addresses);
    assert!(keys.wif.starts_with(['K', 'L']), "mainnet, compressed");
    assert_eq!(refused(&["sign", "ethereum-message", "pay nobody"], &[]), (1, "EJECTED".to_owned()));

    // The same device gets the same keys again, with no window open; a descriptor does as well as a file.
    assert_eq!(refused(&eject, &["EJECT", PASSWORD]), (1, "FILE".to_owned()), "nothing is written over");
    let again = deployment.root().join("again.txt");
    let repeated = run(&["eject", "--keys-file", &again.display().to_string()]);
    assert_eq!(repeated.status, 0, "{} {}", repeated.out, repeated.err);
    assert_eq!(fs::read(&again).unwrap(), fs::read(&file).unwrap());
    let shown = run(&["eject", "--keys-fd", "2"]);
    assert_eq!((shown.status, shown.err), (0, fs::read_to_string(&file).unwrap()));
    let desktop = User::new(&deployment, "desktop", PASSPHRASE, &client);
    let (status, error) = desktop.fails(&["eject", "--keys-fd", "2"], &["EJECT", PASSWORD]);
    assert_eq!((status, &error["code"]), (1, &json!("EJECTED")), "another device does not");

    sweeps(&keys, &deployment.root().join("nobody"));
    are_nowhere_else(&keys, &deployment, &[&said, &repeated], &[&again, &file]);
    let secrets = [&keys.secrets()[..], &[PASSPHRASE, PASSWORD, WRONG, &client.api_key]].concat();
    watch.ends(&secrets, &["eject", "sweep", "serve"]);
}

/// An export key in a file under a passphrase, and its public half.
fn make_export_key(file: &Path) -> String {
    let name = file.display().to_string();
    let words = ["export-key", "--out", &name, "--secrets-fd", "0", "--json"];
    let made = halfkey(&words, &[EXPORT_PASSPHRASE]);
    assert_eq!(made.status, 0, "{} {}", made.out, made.err);
    let public = made.json()["exportKey"].as_str().unwrap().to_owned();
    assert_eq!((public.len(), fs::metadata(file).unwrap().permissions().mode() & 0o777), (64, 0o600));
    let kept = fs::read(file).unwrap();
    assert!(!kept.windows(EXPORT_PASSPHRASE.len()).any(|window| window == EXPORT_PASSPHRASE.as_bytes()));
    assert_eq!(halfkey(&words, &[EXPORT_PASSPHRASE]).refusal(), (1, "FILE".to_owned()), "nothing is written over");
    assert_eq!(fs::read(file).unwrap(), kept);
    public
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_kit_opens_without_a_network_and_with_every_server_off() {
    let mut deployment = Deployment::start_logging(&Backing::Sqlite, "trace").unwrap();
    let client = deployment.new_client().await.unwrap();
    let root = deployment.root().to_owned();
    let watch = Watch::over(&root);
    let at = |name: &str| root.join(name).display().to_string();
    let none = deployment.operator(&["export-key"]).unwrap();
    assert!(none.starts_with("No export key is registered"), "{none}");
    {
        let early = User::new(&deployment, "early", PASSPHRASE, &client);
        early.does(&["create"], &[]);
        let (status, error) = early.fails(&["exit-kit", "--out", &at("early.bin")], &[]);
        assert_eq!((status, &error["code"]), (1, &json!("NO_EXPORT_KEY")));
        assert!(!root.join("early.bin").exists());
    }

    let public = make_export_key(&root.join("export.key"));
    deployment.register_export_key(&public).unwrap();
    assert_eq!(deployment.operator(&["export-key"]).unwrap(), format!("export key {public}\n"));
    deployment.operator(&["export-key", "--register", &public]).unwrap();
    let other = make_export_key(&root.join("other.key"));
    let refused = deployment.operator(&["export-key", "--register", &other]).unwrap_err().to_string();
    assert!(refused.contains("another export key is registered"), "{refused}");

    let client = deployment.new_client().await.unwrap();
    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    let kit = |out: &str| laptop.run(&["exit-kit", "--out", out, "--code-fd", "2"], &[PASSPHRASE]);
    let made = kit(&at("kit.bin"));
    assert_eq!(made.status, 0, "{} {}", made.out, made.err);
    let code = made.err.trim().to_owned();
    let users = fs::read(root.join("kit.bin")).unwrap();
    assert_eq!(fs::metadata(root.join("kit.bin")).unwrap().permissions().mode() & 0o777, 0o600);
    let over = kit(&at("kit.bin"));
    assert_eq!((over.status, over.out["error"]["code"].as_str()), (1, Some("FILE")));
    assert_eq!(fs::read(root.join("kit.bin")).unwrap(), users, "nothing is written over");
    assert_eq!(laptop.does(&["status"], &[])["backupStatus"]["backedUp"], json!(false), "a kit is no backup");
    let path = route::path(route::CUSTODIAN_EXIT_KIT, &[&client.id]);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}{path}", deployment.url());
    let answer = http.get(url).bearer_auth(deployment.custodian_key()).send().await.unwrap();
    fs::write(root.join("custodian.bin"), answer.error_for_status().unwrap().bytes().await.unwrap()).unwrap();

    // The control: what runs without a network does not even reach the server that still listens.
    let profile = laptop.profile.display().to_string();
    let status = ["wallet", "--json", "--secrets-fd", "0", "--profile", &profile, "status"];
    assert_eq!(halfkey(&status, &[PASSPHRASE]).status, 0);
    let (exit, code_without) = without_a_network(&status, &[PASSPHRASE]).refusal();
    assert_eq!((exit, code_without.as_str()), (4, "TRANSPORT"));

    deployment.stop().unwrap();
    assert_eq!(deployment.processes().unwrap(), [], "every server is off");
    let recover_with = |user: &str, custodian: &str, key: &str, out: &str, more: &[&str], secrets: &[&str]| {
        let (user, custodian, key, out) = (at(user), at(custodian), at(key), at(out));
        let files = ["--user-file", &user, "--custodian-file", &custodian, "--export-key", &key, "--keys-file", &out];
        let words = [&["offline-recover", "--secrets-fd", "0", "--json"], &files[..], more].concat();
        without_a_network(&words, secrets)
    };
    let [user, theirs, key, out] = ["kit.bin", "custodian.bin", "export.key", "keys.txt"];
    let right = [code.as_str(), EXPORT_PASSPHRASE];
    let is = |said: Said, status: i32, code: &str| {
        assert_eq!(said.refusal(), (status, code.to_owned()), "{}", said.out);
        assert!(!root.join(out).exists(), "no file without keys in it");
    };
    let another: String = code.chars().enumerate().map(|(at, c)| if at == 0 { flip(c) } else { c }).collect();
    is(recover_with(user, theirs, key, out, &[], &[&another, EXPORT_PASSPHRASE]), 3, "NOT_A_CODE");
    is(recover_with(user, theirs, key, out, &[], &[&code, WRONG]), 3, "WRONG_PASSPHRASE");
    is(recover_with(user, theirs, key, out, &[], &[&code]), 2, "NO_SECRET");
    is(recover_with(user, theirs, "other.key", out, &[], &right), 1, "EXIT_KIT");
    is(recover_with(theirs, user, key, out, &[], &right), 1, "EXIT_KIT");
    is(recover_with(user, user, key, out, &[], &right), 1, "EXIT_KIT");
    is(recover_with(user, "missing.bin", key, out, &[], &right), 1, "FILE");
    fs::write(root.join("endless.bin"), vec![0; 1 << 20]).unwrap();
    is(recover_with(user, "endless.bin", key, out, &[], &right), 2, "USAGE");

    let done = recover_with(user, theirs, key, out, &[], &right);
    assert_eq!(done.status, 0, "{} {}", done.out, done.err);
    assert_eq!(done.json(), json!({ "addresses": addresses, "keysFile": at(out) }));
    let keys = keys_in(&root.join(out));
    keys.control(&addresses);
    let before = fs::read(root.join(out)).unwrap();
    assert_eq!(recover_with(user, theirs, key, out, &[], &right).refusal(), (1, "FILE".to_owned()));
    assert_eq!(fs::read(root.join(out)).unwrap(), before, "nothing is written over");
    sweeps(&keys, &root.join("nobody"));

    // The same keys for the other network of Bitcoin.
    let test = recover_with(user, theirs, key, "testnet.txt", &["--bitcoin", "testnet"], &right);
    assert_eq!(test.status, 0, "{} {}", test.out, test.err);
    let testnet = keys_in(&root.join("testnet.txt"));
    testnet.control(&test.json()["addresses"]);
    assert!(testnet.wif.starts_with('c') && testnet.addresses[1].starts_with("tb1"), "{}", testnet.addresses[1]);
    assert_eq!((&testnet.ethereum, &testnet.scalar), (&keys.ethereum, &keys.scalar));

    are_nowhere_else(&keys, &deployment, &[&done], &[&root.join(out), &root.join("testnet.txt")]);
    let secrets = [&keys.secrets()[..], &[PASSPHRASE, EXPORT_PASSPHRASE, &code, &client.api_key]].concat();
    watch.ends(&secrets, &["export-key", "exit-kit", "offline-recover", "sweep"]);
}

fn flip(symbol: char) -> char {
    if symbol == '7' { '8' } else { '7' }
}
