#!/usr/bin/env python3
"""Each patch in tests/mutants removes one guard; exactly the test that protects it must then fail.

    scripts/mutants.py            all of them
    scripts/mutants.py NAME…      those whose file name contains one of the words

A patch begins with comment lines `# test: <full test name, or its end>` and `# crate: <package that holds the test>`,
and may name the one test file that has to be built: `# file: <name in tests/>`.
The work happens in a copy of the tree under target/mutants, so that a stopped run leaves nothing behind. A patch that
does not apply, does not build, or is not noticed fails the run, and so does a test that fails without a patch.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"


def main() -> int:
    words = sys.argv[1:]
    patches = sorted((ROOT / "tests" / "mutants").glob("*.patch"))
    patches = [p for p in patches if not words or any(word in p.name for word in words)]
    if not patches:
        print("no mutants found", file=sys.stderr)
        return 1
    fresh_tree()
    by_crate: dict[str, list[pathlib.Path]] = {}
    for patch in patches:
        by_crate.setdefault(head(patch, "crate"), []).append(patch)
    failures = []
    for crate, group in sorted(by_crate.items()):
        names = [named(patch) for patch in group]
        build_program(crate)
        passed, output = run(crate, names)
        if not passed:
            failures.append(f"{crate}: a named test does not pass without any patch\n{tail(output)}")
            continue
        for patch in group:
            failures += try_mutant(crate, patch)
    if "halfkey-tests" in by_crate:
        # No mutant of the program stays where a test by hand would start it.
        subprocess.run(["cargo", "build", "--quiet", "--bins"], cwd=ROOT, env=dict(os.environ, CARGO_TARGET_DIR=target_dir()))
    for failure in failures:
        print("FAILED", failure, file=sys.stderr)
    print(f"{len(patches)} mutants, {len(patches) - len(failures)} noticed, {len(failures)} failures")
    return 1 if failures else 0


def try_mutant(crate: str, patch: pathlib.Path) -> list[str]:
    started = time.monotonic()
    test, files = named(patch)
    if git("apply", "--recount", str(patch)).returncode != 0:
        return [f"{patch.name}: does not apply"]
    try:
        build = cargo("build", "--quiet", "-p", crate, *(files or ["--tests"]))
        if build.returncode == 0:
            build = build_program(crate)
        if build.returncode != 0:
            return [f"{patch.name}: does not build\n{tail(build.stdout)}"]
        passed, _ = run(crate, [(test, files)])
        if passed:
            return [f"{patch.name}: {test} still passes"]
        print(f"noticed  {patch.name:<48} {test}  ({time.monotonic() - started:.0f} s)", flush=True)
        return []
    finally:
        git("checkout", "--quiet", "--", ".")


def fresh_tree() -> None:
    """A copy of what git tracks, as it stands in the working tree, with its own throw-away history."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    files = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT).split(b"\0")
    for name in filter(None, files):
        source = ROOT / os.fsdecode(name)
        if not source.is_file():
            continue
        target = TREE / os.fsdecode(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    for command in (
        ["init", "--quiet"],
        ["add", "-A"],
        ["-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "-m", "x"],
    ):
        subprocess.run(["git", *command], cwd=TREE, check=True)


def named(patch: pathlib.Path) -> tuple[str, tuple[str, ...]]:
    """The test that must fail, and the only test file that has to be built for it, if the patch names one."""
    file = [line.split(":", 1)[1].strip() for line in patch.read_text().splitlines() if line.startswith("# file:")]
    return head(patch, "test"), ("--test", file[0]) if file else ()


def run(crate: str, tests: list[tuple[str, tuple[str, ...]]]) -> tuple[bool, str]:
    """Runs the named tests of one crate; true when each was found and passed."""
    passed, output = True, ""
    for test, files in dict.fromkeys(tests):
        which = files or (("--tests", "--lib") if has_lib(crate) else ("--tests",))
        command = ["test", "--quiet", "-p", crate, *which, "--", test.split("::")[-1]]
        result = cargo(*command)
        output += result.stdout
        ran = any(line.startswith("test result:") and " 0 passed; 0 failed" not in line for line in result.stdout.splitlines())
        passed = passed and result.returncode == 0 and ran
    return passed, output


def build_program(crate: str) -> subprocess.CompletedProcess:
    """The end-to-end tests start the program that lies beside them: it must be of the same tree."""
    return cargo("build", "--quiet", "--bins") if crate == "halfkey-tests" else subprocess.CompletedProcess([], 0, "")


def has_lib(crate: str) -> bool:
    return crate != "halfkey"


def cargo(*arguments: str) -> subprocess.CompletedProcess:
    environment = dict(os.environ, CARGO_TARGET_DIR=target_dir(), RUST_BACKTRACE="0", CARGO_INCREMENTAL="1")
    return subprocess.run(
        ["cargo", *arguments], cwd=TREE, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def target_dir() -> str:
    """The tree's own: dependencies are built already, and only the crates of the copy are built anew."""
    return os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))


def git(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *arguments], cwd=TREE, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def head(patch: pathlib.Path, key: str) -> str:
    for line in patch.read_text().splitlines():
        if line.startswith(f"# {key}:"):
            return line.split(":", 1)[1].strip()
    raise SystemExit(f"{patch.name}: no `# {key}:` line")


def tail(text: str) -> str:
    return "\n".join(text.splitlines()[-25:])


if __name__ == "__main__":
    sys.exit(main())
