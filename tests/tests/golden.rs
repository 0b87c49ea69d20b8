//! `tests/golden/` only grows: a file that was ever released is never changed, and must open for ever (the crates'
//! own tests open them).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use halfkey_envelope::hash::sha256;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

fn manifest() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(GOLDEN).join("MANIFEST.sha256")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_manifest_lists_exactly_the_files_that_are_there() {
    let files = fs::read_dir(GOLDEN).unwrap().map(|entry| entry.unwrap().path());
    let found: BTreeSet<String> = files
        .filter(|path| !path.ends_with("MANIFEST.sha256"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            format!("{}  {name}", hex::encode(sha256(&fs::read(path).unwrap())))
        })
        .collect();
    assert!(!found.is_empty());
    assert_eq!(found, manifest());
}

#[test]
fn no_line_of_the_manifest_was_ever_taken_back() {
    let git = |arguments: &[&str]| Command::new("git").args(arguments).current_dir(GOLDEN).output();
    // A source archive has no history to compare with; the test above still holds there.
    let Ok(log) = git(&["log", "--format=%H", "--", "MANIFEST.sha256"]) else { return };
    let now = manifest();
    for commit in String::from_utf8(log.stdout).unwrap().lines() {
        let then = git(&["show", &format!("{commit}:./MANIFEST.sha256")]).unwrap().stdout;
        for line in String::from_utf8(then).unwrap().lines() {
            assert!(now.contains(line), "{line} was released in {commit} and must stay as it is");
        }
    }
}
