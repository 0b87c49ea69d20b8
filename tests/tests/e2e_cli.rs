//! `halfkey wallet …` as its users run it: real processes against a real server, secrets through a file descriptor.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use halfkey_tests::{
    deployment::{Backing, Deployment, RELYING_PARTY},
    user::User,
    watch::Watch,
};
use serde_json::json;

const PASSPHRASE: &str = "the laptop's own passphrase";
const OTHER_PASSPHRASE: &str = "another passphrase altogether";
const PASSWORD: &str = "seven otters juggle amber lanterns";
const NEW_PASSWORD: &str = "eleven foxes paint a violet harbour";
const WRONG: &str = "seven otters juggle umber lanterns";

fn only_for_its_owner(folder: &Path) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for name in ["descriptor.json", "credential", "device.key", "current.blob"] {
        assert!(files.iter().any(|file| file.ends_with(name)), "{name} in {files:?}");
    }
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_lives_its_life_on_the_command_line() {
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let watch = Watch::over(deployment.root());

    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    assert_eq!(laptop.does(&["status"], &[])["walletExists"], json!(false));
    let (status, error) = laptop.fails(&["sign", "ethereum-message", "pay nobody"], &[]);
    assert_eq!((status, error["code"].as_str()), (1, Some("NO_WALLET_ON_DEVICE")));
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    assert!(addresses["ethereum"].as_str().unwrap().starts_with("0x"), "{addresses}");
    laptop.signs(&addresses);
    only_for_its_owner(&laptop.profile);
    let (_, error) = laptop.fails(&["create"], &[]);
    assert_eq!(error["code"], json!("WALLET_ALREADY_EXISTS"));

    // Without the passphrase there is nothing, and a missing secret is said.
    let ran = laptop.run(&["status"], &[OTHER_PASSPHRASE]);
    assert_eq!((ran.status, &ran.out["error"]["code"]), (3, &json!("WRONG_PASSPHRASE")));
    let ran = laptop.run(&["status"], &[]);
    assert_eq!((ran.status, &ran.out["error"]["code"]), (2, &json!("NO_SECRET")));

    let (_, error) = laptop.fails(&["backup"], &["password1"]);
    assert_eq!(error["code"], json!("WEAK_SECRET"));
    let status = laptop.does(&["status"], &[]);
    assert_eq!((&status["backupStatus"]["backedUp"], &status["onThisDevice"]), (&json!(false), &json!(true)));
    let backup = laptop.does(&["backup"], &[PASSWORD]);
    assert_eq!(backup["method"], json!("PASSWORD"));
    assert_eq!(backup["shareIds"].as_array().unwrap().len(), 2);
    let status = laptop.does(&["status"], &[]);
    assert_eq!(status["backupStatus"]["backedUp"], json!(true));
    assert_eq!(status["addresses"], addresses);
    let method = &status["backupStatus"]["methods"][0];
    assert_eq!((&method["status"], &method["backupId"]), (&json!("completed"), &backup["backupId"]));

    let (status, error) = laptop.fails(&["verify"], &[WRONG]);
    assert_eq!((status, &error["code"], &error["remaining"]), (3, &json!("WRONG_SECRET"), &json!(9)));
    let verified = laptop.does(&["verify"], &[PASSWORD]);
    assert_eq!(verified["curves"].as_array().unwrap().len(), 2);
    assert_eq!(verified["backupId"], backup["backupId"]);

    let changed = laptop.does(&["change-password"], &[NEW_PASSWORD]);
    assert_ne!(changed["backupId"], backup["backupId"]);

    // Another machine: the old password is wrong there, the new one recovers.
    let desktop = User::new(&deployment, "desktop", OTHER_PASSPHRASE, &client);
    let recover = ["recover", "--old-devices", "keep"];
    let (status, error) = desktop.fails(&recover, &[PASSWORD]);
    assert_eq!((status, &error["code"], &error["remaining"]), (3, &json!("WRONG_SECRET"), &json!(9)));
    let ethereum = addresses["ethereum"].as_str().unwrap();
    let recovered = desktop.does(&[&recover[..], &["--expect-ethereum", ethereum]].concat(), &[NEW_PASSWORD]);
    assert_eq!(recovered["addresses"], addresses);
    assert_eq!(recovered["freshBackup"]["method"], json!("PASSWORD"));
    desktop.signs(&addresses);
    laptop.signs(&addresses);
    only_for_its_owner(&desktop.profile);
    assert_eq!(desktop.does(&["resume"], &[])["resumed"], json!("Nothing was left over."));

    // The old machine is revoked, by the new one.
    let devices = desktop.does(&["devices"], &[])["devices"].take();
    let devices = devices.as_array().unwrap();
    assert_eq!(devices.len(), 2);
    let old = devices.iter().min_by_key(|device| device["createdAt"].as_u64()).unwrap()["id"].as_str().unwrap();
    assert_eq!(desktop.does(&["revoke", old], &[])["revoked"], json!(old));
    let (_, error) = laptop.fails(&["sign", "ethereum-message", "pay nobody"], &[]);
    assert_eq!(error["code"], json!("DEVICE_REVOKED"));
    desktop.signs(&addresses);
    let secrets = [PASSPHRASE, OTHER_PASSPHRASE, PASSWORD, NEW_PASSWORD, WRONG, &client.api_key];
    watch.ends(&secrets, &["wallet", "serve"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_code_is_given_once_on_a_descriptor_and_recovers() {
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    let ran = laptop.run(&["backup", "--method", "recovery-code", "--code-fd", "2"], &[PASSPHRASE]);
    assert_eq!(ran.status, 0, "{} {}", ran.out, ran.err);
    let code = ran.err.trim();
    assert_eq!(code.chars().filter(|c| *c != '-').count(), 27, "{code:?}");

    let desktop = User::new(&deployment, "desktop", OTHER_PASSPHRASE, &client);
    let recover = ["recover", "--method", "recovery-code", "--old-devices", "revoke"];
    // One symbol changed: the check symbol tells, and nothing is asked of the server.
    let typo: String = code.chars().enumerate().map(|(at, c)| if at == 0 { flip(c) } else { c }).collect();
    let (status, error) = desktop.fails(&recover, &[&typo]);
    assert_eq!((status, &error["code"]), (3, &json!("NOT_A_CODE")));
    let recovered = desktop.does(&recover, &[&code.to_lowercase()]);
    assert_eq!(recovered["addresses"], addresses);
    desktop.signs(&addresses);
    let (_, error) = laptop.fails(&["sign", "ethereum-message", "pay nobody"], &[]);
    assert_eq!(error["code"], json!("DEVICE_REVOKED"));
}

/// One is made at each call, beside the running server; what they mean is the server's own tests' matter.
#[test]
fn an_operator_adds_a_pepper_root() {
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    for root in 1..4 {
        assert_eq!(deployment.admin(&["add-pepper-root", "--json"]).unwrap(), json!({ "pepperRoot": root }));
    }
    let said = deployment.operator(&["add-pepper-root"]).unwrap();
    assert_eq!(said, "pepper root 4 is the newest; backups made before keep theirs\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_decides_about_bans_and_cancelled_recoveries_beside_the_running_server() {
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    laptop.does(&["backup"], &[PASSWORD]);
    let (_, error) = laptop.fails(&["heal"], &[]);
    assert_eq!(error["code"], json!("NOT_BANNED"));
    let waiting = || deployment.admin(&["waiting", "--json"]).unwrap();
    assert_eq!(waiting(), json!({ "banned": [], "frozen": [], "contested": [] }));
    assert_eq!(deployment.operator(&["waiting"]).unwrap(), "Nothing waits for the operator.\n");

    // A ban: reviewed, upheld, lifted, healed.
    let pair = deployment.ban(&client).await.unwrap();
    let of = |what: &str, decision: &[&str]| {
        let words = [&[what, "--client", &client.id][..], decision].concat();
        deployment.operator(&words).map_err(|error| error.to_string())
    };
    let (_, error) = laptop.fails(&["sign", "ethereum-message", "pay nobody"], &[]);
    assert_eq!(error["code"], json!("BANNED"));
    let banned = waiting()["banned"].take();
    assert_eq!((&banned[0]["pairId"], &banned[0]["clientId"]), (&json!(pair), &json!(client.id)));
    assert_eq!((&banned[0]["reason"], &banned[0]["heals"]), (&json!("BY_A_TEST"), &json!(0)));
    assert!(deployment.operator(&["waiting"]).unwrap().contains(&pair));
    let (_, error) = laptop.fails(&["heal"], &[]);
    assert_eq!(error["code"], json!("REVIEW_NEEDED"));
    of("review-ban", &["--pair", &pair]).unwrap_err();
    of("review-ban", &["--pair", &pair, "--lift", "--uphold"]).unwrap_err();
    of("review-ban", &["--pair", &pair, "--uphold"]).unwrap();
    assert_eq!(waiting()["banned"], json!([]));
    let (_, error) = laptop.fails(&["heal"], &[]);
    assert_eq!(error["code"], json!("REVIEW_NEEDED"));
    of("review-ban", &["--pair", &pair, "--lift"]).unwrap();
    assert_eq!(laptop.does(&["heal"], &[])["healed"], json!(["SECP256K1"]));
    laptop.signs(&addresses);
    assert_eq!(laptop.does(&["status"], &[])["addresses"], addresses);
    let over = of("review-ban", &["--pair", &pair, "--lift"]).unwrap_err();
    assert!(over.contains("not banned"), "{over}");

    // Two recoveries that the laptop cancels: the second one is held, and the operator lets it go on.
    let desktop = User::new(&deployment, "desktop", OTHER_PASSPHRASE, &client);
    let recover = ["recover", "--old-devices", "keep"];
    let newest = || {
        let (status, _) = desktop.fails(&recover, &[WRONG]);
        assert_eq!(status, 3);
        let recoveries = laptop.does(&["recoveries"], &[])["recoveries"].take();
        recoveries[0]["id"].as_str().unwrap().to_owned()
    };
    let first = newest();
    assert_eq!(laptop.does(&["recoveries", "--cancel", &first], &[]), json!({ "cancelled": first }));
    let second = newest();
    assert_ne!(first, second);
    assert_eq!(laptop.does(&["recoveries", "--cancel", &second], &[]), json!({ "held": second }));
    assert_eq!(desktop.does(&recover, &[PASSWORD])["undecided"], json!({ "recoveryId": second }));
    let contested = waiting()["contested"].take();
    assert_eq!(contested[0]["recoveryId"], json!(second));
    assert!(deployment.operator(&["waiting"]).unwrap().contains(&second));
    of("continue-recovery", &["--recovery", &first]).unwrap_err();
    of("continue-recovery", &["--recovery", &second]).unwrap();
    assert_eq!(desktop.does(&recover, &[PASSWORD])["addresses"], addresses);
    desktop.signs(&addresses);
    of("cancel-recovery", &["--recovery", &second]).unwrap_err();

    // A third is contested again; the operator ends it.
    let tablet = User::new(&deployment, "tablet", OTHER_PASSPHRASE, &client);
    tablet.fails(&recover, &[WRONG]);
    let recoveries = laptop.does(&["recoveries"], &[])["recoveries"].take();
    let third = recoveries[0]["id"].as_str().unwrap();
    assert_eq!(laptop.does(&["recoveries", "--cancel", third], &[]), json!({ "held": third }));
    of("cancel-recovery", &["--recovery", third]).unwrap();
    assert_eq!(waiting()["contested"], json!([]));
    let nothing = of("thaw", &["--backup", third]).unwrap_err();
    assert!(nothing.contains("unknown backup"), "{nothing}");
    assert_eq!(laptop.does(&["status"], &[])["backupStatus"]["backedUp"], json!(true));
}

fn flip(symbol: char) -> char {
    if symbol == '7' { '8' } else { '7' }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passkeys_are_made_listed_added_removed_and_recover() {
    let deployment = Deployment::start_with_passkeys(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let [home, key] = ["home", "key"].map(|name| deployment.root().join(name).display().to_string());
    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    let at_home = ["--danger-software-passkeys", home.as_str()];
    let on_key = ["--danger-software-passkeys", key.as_str()];

    let (_, error) = laptop.fails(&["passkeys", "list"], &[]);
    assert_eq!(error["code"], json!("NOT_BACKED_UP"));
    let (status, error) = laptop.fails(&["backup", "--passkey-mode", "prf"], &[]);
    assert_eq!((status, &error["code"]), (2, &json!("USAGE")), "a password has no passkey mode");
    let backup = laptop.does(&[&["backup", "--method", "passkey"], &at_home[..]].concat(), &[]);
    assert_eq!((&backup["method"], &backup["deviceBound"]), (&json!("PASSKEY"), &json!(false)));
    assert_eq!(laptop.does(&["status"], &[])["backupStatus"]["backedUp"], json!(true));
    let list = laptop.does(&["passkeys", "list"], &[]);
    assert_eq!((&list["mode"], &list["relyingParty"]), (&json!("keeper"), &json!(RELYING_PARTY)));
    assert_eq!((&list["backupId"], list["passkeys"].as_array().unwrap().len()), (&backup["backupId"], 1));
    let verified = laptop.does(&[&["verify", "--method", "passkey"], &at_home[..]].concat(), &[]);
    assert_eq!(verified["backupId"], backup["backupId"]);

    let (_, error) = laptop.fails(&[&["passkeys", "add"], &at_home[..]].concat(), &[]);
    assert_eq!(error["code"], json!("PASSKEY_EXISTS"));
    laptop.does(&[&["passkeys", "add"], &on_key[..]].concat(), &[]);
    let list = laptop.does(&["passkeys", "list"], &[])["passkeys"].take();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let first = list[0]["id"].as_str().unwrap();
    let (_, error) = laptop.fails(&["passkeys", "remove", "AAAA"], &[]);
    assert_eq!(error["code"], json!("UNKNOWN_PASSKEY"));
    laptop.does(&[&["passkeys", "remove", first], &on_key[..]].concat(), &[]);

    // Another machine: the removed passkey opens nothing, the other one recovers.
    let desktop = User::new(&deployment, "desktop", OTHER_PASSPHRASE, &client);
    let recover = ["recover", "--method", "passkey", "--old-devices", "keep"];
    let (_, error) = desktop.fails(&[&recover, &at_home[..]].concat(), &[]);
    assert_eq!(error["code"], json!("NO_PASSKEY"));
    let recovered = desktop.does(&[&recover, &on_key[..]].concat(), &[]);
    assert_eq!(recovered["addresses"], addresses);
    assert_eq!(recovered["freshBackup"]["method"], json!("PASSKEY"));
    desktop.signs(&addresses);
    let prf = ["backup", "--method", "passkey", "--passkey-mode", "keeper+prf", "--replace-passkeys"];
    desktop.does(&[&prf, &at_home[..]].concat(), &[]);
    let list = desktop.does(&["passkeys", "list"], &[]);
    assert_eq!((&list["mode"], list["passkeys"].as_array().unwrap().len()), (&json!("keeper+prf"), 1));
    desktop.does(&[&["verify", "--method", "passkey"], &at_home[..]].concat(), &[]);
}
