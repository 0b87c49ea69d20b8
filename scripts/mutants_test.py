#!/usr/bin/env python3
"""The runner of the mutants, on a crate made for it: each way in which a mutant can go gets its own verdict, and only a
test that really fails counts. A few seconds; `./check test` runs it."""
import contextlib
import difflib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import mutants

SOURCE = """\
pub fn limit(x: u32) -> u32 {
    if x > 10 { return 10; }
    x
}
pub fn even(x: u32) -> bool {
    x % 2 == 0
}
#[cfg(test)]
mod tests {
    #[test]
    fn limited() { assert_eq!(super::limit(11), 10); }
    #[test]
    fn limited_too() { assert_eq!(super::limit(12), 10); }
    #[test]
    fn odd() { assert!(!super::even(3)); }
    #[test]
    fn weak() { assert!(super::even(4)); }
    #[test]
    #[ignore]
    fn ignored() { assert!(!super::even(3)); }
}
"""
OUTSIDE = """\
#[test]
fn outside() { assert_eq!(a::limit(11), 10); }
"""
LIMIT, EVEN = "if x > 10 { return 10; }", "x % 2 == 0"
ALSO = "# also: limited_too - it asks for the same limit"

# name, head, what is there, what the mutant makes of it, how the verdict begins
MUTANTS = [
    ("noticed", "# test: tests::limited", LIMIT, "", "noticed"),
    ("noticed-outside", "# test: outside\n# file: a_file", LIMIT, "", "noticed"),
    ("survives", "# test: weak", EVEN, "x < 1000", "survived: tests::weak still passes"),
    ("t01-alone", "# test: odd", EVEN, "x < 1000", "noticed"),
    ("t02-two", "# test: limited", LIMIT, "", "not this test alone: tests::limited_too"),
    ("t03-two-and-said", f"# test: limited\n{ALSO}", LIMIT, "", "noticed"),
    ("t04-said-of-another", f"# test: odd\n{ALSO}", EVEN, "x < 1000", "said to fail as well, but they pass"),
    ("t05-survives", "# test: weak\n", EVEN, "x < 1000", "survived: tests::weak still passes; these fail: tests::odd"),
    ("no-build", "# test: weak", EVEN, "y < 1000", "does not build"),
    ("no-such-test", "# test: nothing", EVEN, "x < 1000", "0 tests of a are called nothing"),
    ("ignored-test", "# test: ignored", EVEN, "x < 1000", "0 tests of a are called ignored"),
    ("no-such-other", "# test: odd\n# also: no - why", EVEN, "x < 1000", "no, which may fail as well, is no test"),
    ("hangs", "# test: limited", LIMIT, "while x > 10 { std::thread::yield_now(); }", "not ended after"),
    ("aborts", "# test: limited", LIMIT, "if x > 10 { std::process::abort(); }", "the tests ended with -6 and without"),
    ("exits", "# test: limited", LIMIT, "if x > 10 { std::process::exit(0); }", "the tests ended with 0 and without"),
    ("test-gone", "# test: limited", "    #[test]\n    fn limited()", "    fn limited()", "0 tests ran, 1 without"),
    ("no-longer-applies", "# test: limited", LIMIT, "", "does not apply"),
]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        make_workspace(root)
        mutants.ROOT, mutants.PATCHES, mutants.WORK = root, root / "tests" / "mutants", root / "target" / "mutants"
        mutants.TREE, mutants.BUILD = mutants.WORK / "tree", mutants.WORK / "build"
        mutants.RESULTS = mutants.WORK / "results.json"
        mutants.FASTER_BUILDS, mutants.LEAST_PATIENCE = [], 5
        status, _ = run()
        verdicts = {name: one["verdict"] for name, one in json.loads(mutants.RESULTS.read_text()).items()}
        for name, _, _, _, expected in MUTANTS:
            assert verdicts[name].startswith(expected), f"{name}: {verdicts[name]}"
        assert status == 1, "a run with failures ends with 1"
        ask = ["git", "status", "--porcelain", "--", ":!tests/mutants"]
        changed = subprocess.check_output(ask, cwd=root, text=True)
        assert changed == "", f"the tree itself was touched: {changed}"
        good = [name for name, _, _, _, expected in MUTANTS if expected == "noticed"]
        status, said = run("--resume", *good)
        assert status == 0 and f"{len(good)} in an earlier run" in said, said
        (root / "crates/a/src/lib.rs").write_text(SOURCE + "// changed\n")
        status, said = run("--resume", "noticed-outside")
        assert status == 0 and "1 noticed, 0 failures" in said, f"other sources are another run: {said}"
    print(f"the runner of the mutants judges {len(MUTANTS)} cases as it should")
    return 0


def run(*arguments: str) -> tuple[int, str]:
    sys.argv = ["mutants.py", *arguments]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        status = mutants.main()
    return status, said.getvalue()


def make_workspace(root: pathlib.Path) -> None:
    package = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2024"\n'
    files = {
        "Cargo.toml": '[workspace]\nresolver = "3"\nmembers = ["crates/*"]\n' + package.format("halfkey"),
        ".gitignore": "target/\nCargo.lock\n",
        "src/main.rs": "fn main() {}\n",
        "crates/a/Cargo.toml": package.format("a"),
        "crates/a/src/lib.rs": SOURCE,
        "crates/a/tests/a_file.rs": OUTSIDE,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for command in (["init"], ["add", "--all"], ["commit", "--message", "x"]):
        assert mutants.git(*command, folder=root).returncode == 0
    (root / "tests" / "mutants").mkdir(parents=True)
    for name, head, old, new, expected in MUTANTS:
        assert SOURCE.count(old) == 1
        before = SOURCE.replace("10", "99") if expected == "does not apply" else SOURCE
        old = old.replace("10", "99") if expected == "does not apply" else old
        lines = [text.splitlines(keepends=True) for text in (before, before.replace(old, new))]
        patch = "".join(difflib.unified_diff(*lines, "a/crates/a/src/lib.rs", "b/crates/a/src/lib.rs"))
        (root / "tests" / "mutants" / f"{name}.patch").write_text(f"{head}\n# crate: a\n{patch}")


if __name__ == "__main__":
    sys.exit(main())
