//! The arrows of the design: who may depend on whom, and what the SDK never contains.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(repository()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of ours that each package of ours names, tests aside.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let named = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        let names = normal.map(|dependency| dependency["name"].as_str().unwrap());
        names.filter(|name| ours.contains(name)).map(str::to_owned).collect()
    };
    packages.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), named(package))).collect()
}

#[test]
fn the_arrows_between_the_crates_are_the_documented_ones() {
    let allowed: &[(&str, &[&str])] = &[
        ("halfkey-envelope", &[]),
        ("halfkey-evidence", &["halfkey-envelope"]),
        ("halfkey-protocol", &["halfkey-envelope", "halfkey-evidence"]),
        ("halfkey-api", &["halfkey-envelope"]),
        ("halfkey-client", &["halfkey-protocol", "halfkey-api", "halfkey-envelope", "halfkey-evidence"]),
        ("halfkey-apple", &["halfkey-client"]),
        ("halfkey-server", &["halfkey-protocol", "halfkey-api", "halfkey-envelope"]),
        ("halfkey-keeper", &["halfkey-envelope", "halfkey-evidence"]),
        ("halfkey-guesskeeper", &["halfkey-envelope"]),
        ("halfkey-cli", &["halfkey-client", "halfkey-api", "halfkey-envelope", "halfkey-protocol"]),
        // The binary stands on top; of the lower crates it needs link keys, ids and the descriptor's keeper key.
        (
            "halfkey",
            &[
                "halfkey-cli",
                "halfkey-server",
                "halfkey-keeper",
                "halfkey-guesskeeper",
                "halfkey-envelope",
                "halfkey-evidence",
                "halfkey-protocol",
            ],
        ),
    ];
    let arrows = arrows();
    for (package, allowed) in allowed {
        let named = arrows.get(*package).unwrap_or_else(|| panic!("{package} is gone; so is its rule?"));
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let forbidden: Vec<_> = named.difference(&allowed).collect();
        assert!(forbidden.is_empty(), "{package} must not depend on {forbidden:?}");
    }
    let ruled: BTreeSet<&str> = allowed.iter().map(|(package, _)| *package).collect();
    // Leaves: nobody depends on them, and they may depend on all.
    let leaves = ["halfkey-tests", "halfkey-benches"];
    for (package, named) in &arrows {
        let known = ruled.contains(package.as_str()) || leaves.contains(&package.as_str());
        assert!(known, "{package} has no rule here");
        let on_leaf = named.iter().any(|name| leaves.contains(&name.as_str()));
        assert!(!on_leaf || leaves.contains(&package.as_str()), "{package} depends on a leaf");
    }
}

const TARGETS: [&str; 4] =
    ["x86_64-unknown-linux-gnu", "aarch64-apple-ios", "aarch64-linux-android", "wasm32-unknown-unknown"];

fn tree(package: &str, target: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "-p",
        package,
        "-e",
        "normal,build",
        "--target",
        target,
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--offline",
    ]);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Phones and browsers compile the SDK without a C compiler, and the host brings HTTP and TLS (DECISIONS.md 4).
#[test]
fn the_sdk_has_no_c_code_no_tls_and_no_runtime_on_any_target() {
    let c = ["cc", "cmake", "bindgen", "ring", "aws-lc-sys", "openssl-sys"];
    let io = ["tokio", "reqwest", "hyper", "rustls", "native-tls", "sqlx", "async-std", "smol", "mio", "ureq"];
    for target in TARGETS {
        let tree = tree("halfkey-client", target);
        assert!(tree.contains("halfkey-protocol") && tree.len() > 50, "{target}: the tree was not read: {tree:?}");
        let found: Vec<_> = c.iter().chain(&io).filter(|name| tree.contains(**name)).collect();
        assert!(found.is_empty(), "{target}: {found:?}");
    }
}

/// What is for Apple's platforms is built there and nowhere else, and has no C code there either.
#[test]
fn the_keychain_is_in_no_tree_but_apples() {
    let parts = ["apple-native-keyring-store", "keyring-core", "security-framework", "halfkey-client"];
    let apple = tree("halfkey-apple", "aarch64-apple-ios");
    let missing: Vec<_> = parts.iter().filter(|name| !apple.contains(**name)).collect();
    assert!(missing.is_empty(), "the tree was not read: {missing:?} of {apple:?}");
    let found: Vec<_> = ["cc", "cmake", "bindgen", "ring", "aws-lc-sys", "openssl-sys", "tokio"]
        .into_iter()
        .filter(|name| apple.contains(*name))
        .collect();
    assert!(found.is_empty(), "{found:?}");
    for target in TARGETS.into_iter().filter(|target| !target.contains("apple")) {
        assert_eq!(tree("halfkey-apple", target), ["halfkey-apple".to_owned()].into(), "{target}");
    }
    assert!(
        !tree("halfkey-client", "aarch64-apple-ios").contains("keyring-core"),
        "an app may bring a store of its own"
    );
}

/// What opens a door cannot speak MPC, and the passkey door knows neither SQL nor HTTP (METHODS.md C).
#[test]
fn the_keepers_know_only_what_they_need() {
    let mpc = ["dkls23", "dkls23-core", "frost-ed25519", "frost-core", "halfkey-protocol"];
    for keeper in ["halfkey-keeper", "halfkey-guesskeeper"] {
        let tree = tree(keeper, TARGETS[0]);
        let found: Vec<_> = mpc.iter().filter(|name| tree.contains(**name)).collect();
        assert!(tree.contains("halfkey-envelope") && found.is_empty(), "{keeper}: {found:?}");
    }
    let passkeys = tree("halfkey-keeper", TARGETS[0]);
    let unwanted =
        ["sqlx", "axum", "hyper", "reqwest", "http", "h2", "rustls", "native-tls", "openssl", "openssl-sys", "ring"];
    let found: Vec<_> = unwanted.iter().filter(|name| passkeys.contains(**name)).collect();
    assert!(passkeys.contains("webauthn-rs-core") && found.is_empty(), "halfkey-keeper: {found:?}");
}

/// A keeper that proves nothing is accepted by no program that was not compiled for it: only the `halfkey` binary is, for
/// its demo (DECISIONS.md D29). The SDK alone does not even have the call.
#[test]
fn nobody_but_the_binary_can_accept_insecure_evidence() {
    const DANGER: &str = "danger-insecure-evidence";
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let mut asks = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let by_default = package["features"]["default"].to_string();
        assert!(!by_default.contains("danger"), "{name}: {by_default}");
        for dependency in package["dependencies"].as_array().unwrap() {
            let features = dependency["features"].as_array().unwrap();
            if dependency["kind"].as_str() != Some("dev") && features.iter().any(|feature| *feature == DANGER) {
                asks.insert(format!("{name} of {}", dependency["name"].as_str().unwrap()));
            }
        }
    }
    assert_eq!(asks, ["halfkey of halfkey-cli", "halfkey-tests of halfkey-client"].map(str::to_owned).into());
    for package in ["halfkey-client", "halfkey-cli"] {
        let features = cargo(&["tree", "-p", package, "-e", "normal,features", "--prefix", "none", "--offline"]);
        assert!(features.contains("halfkey-evidence") && !features.contains(DANGER), "{package}");
    }
}
