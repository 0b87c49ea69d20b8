#!/usr/bin/env python3
"""Each patch in tests/mutants removes one guard; exactly the test that protects it must then fail.

    scripts/mutants.py                    all of them
    scripts/mutants.py NAME…              those whose file name contains one of the words
    scripts/mutants.py --crate CRATE      those whose test is in this package
    scripts/mutants.py --resume           leaves out what an earlier run saw noticed, from the same sources and patch
    scripts/mutants.py --list             names them, runs nothing
    scripts/mutants.py --check            every patch applies, its test exists, every tNN has a mutant; breaks nothing
    scripts/mutants.py --jobs N           how many processors cargo and the tests may take

What a patch says in its head, and how each mutant is judged, is in tests/mutants/README.md.

All work happens in a copy of the tree, with a build folder of its own, under `mutants` in cargo's target folder: a
stopped run leaves nothing behind that matters, and two runs at once wait for each other.
"""
import argparse
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATCHES = ROOT / "tests" / "mutants"
WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "mutants"
TREE = WORK / "tree"
BUILD = WORK / "build"
RESULTS = WORK / "results.json"

# What the workspace optimises for speed at run time would be compiled anew for each mutant.
FASTER_BUILDS = ["halfkey-protocol.opt-level=1", "halfkey-envelope.opt-level=1", "halfkey-tests.opt-level=0"]

# A test under a mutant may take this long, beside a multiple of what it takes without.
LEAST_PATIENCE = 120
PATIENCE = 10


class Unsound(Exception):
    """The runner cannot judge: neither noticed nor survived."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    path: pathlib.Path
    crate: str
    test: str
    file: str | None
    also: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def alone(self) -> bool:
        """A mutant of a catalogued attack (PROTOCOL.md 5): no other test of the same binary may fail."""
        return re.match(r"t\d\d-", self.name) is not None


@dataclasses.dataclass(frozen=True)
class Binary:
    """A test binary: the unit tests of a crate (`lib`), or a file of its `tests` folder."""

    crate: str
    file: str
    path: str
    folder: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    passed: int
    failed: frozenset[str]
    seconds: float
    output: str


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=True)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--crate")
    parser.add_argument("--jobs", type=int)
    for flag in ("--resume", "--list", "--check"):
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args()
    mutants = [read(path) for path in sorted(PATCHES.glob("*.patch"))]
    if given.check:
        return check(mutants)
    mutants = [m for m in mutants if not given.words or any(word in m.path.name for word in given.words)]
    mutants = [m for m in mutants if given.crate in (None, m.crate)]
    if not mutants:
        print("no mutants found", file=sys.stderr)
        return 1
    if given.list:
        for mutant in mutants:
            print(f"{mutant.name:<48} {mutant.crate:<22} {mutant.test}")
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return run_all(mutants, given.resume, given.jobs)
        except KeyboardInterrupt:
            print("stopped; --resume goes on", file=sys.stderr)
            return 130


def run_all(mutants: list[Mutant], resume: bool, jobs: int | None) -> int:
    copy_tree()
    marks = sources()
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    done = {m for m in mutants if resume and seen(known.get(m.name), mark(m, marks))}
    bad: list[str] = []
    for crate in sorted({m.crate for m in mutants if m not in done}):
        group = [m for m in mutants if m.crate == crate and m not in done]
        for mutant, verdict, seconds in run_crate(crate, group, jobs):
            known[mutant.name] = {
                "verdict": verdict, "seconds": round(seconds), "mark": mark(mutant, marks), "tree": marks["tree"],
            }
            write(RESULTS, json.dumps(known, indent=1, sort_keys=True) + "\n")
            good = verdict == "noticed"
            said = mutant.test if good else verdict.splitlines()[0]
            print(f"{'noticed' if good else 'FAILED':<8} {mutant.name:<48} {seconds:4.0f} s  {said}", flush=True)
            bad += [] if good else [f"{mutant.name}: {verdict}"]
    for line in bad:
        print("\nFAILED", line, file=sys.stderr)
    noticed = len(mutants) - len(bad) - len(done)
    earlier = f" and {len(done)} in an earlier run" if done else ""
    print(f"{len(mutants)} mutants, {noticed} noticed{earlier}, {len(bad)} failures")
    return 1 if bad else 0


def run_crate(crate: str, group: list[Mutant], jobs: int | None):
    """Yields (mutant, verdict, seconds), binary by binary, so that what is built for one serves the next."""
    files = {mutant.file for mutant in group}
    try:
        names = {binary: tests_of(binary) for binary in build(crate, None if None in files else sorted(files), jobs)}
    except Unsound as error:
        yield from ((mutant, f"without any patch: {error}", 0.0) for mutant in group)
        return
    by_file: dict[str, list[tuple[Mutant, str]]] = {}
    for mutant in group:
        try:
            binary, test = find(mutant, names)
            by_file.setdefault(binary.file, []).append((mutant, test))
        except Unsound as error:
            yield mutant, str(error), 0.0
    for file in sorted(by_file):
        yield from run_file(crate, file, by_file[file], jobs)


def run_file(crate: str, file: str, found: list[tuple[Mutant, str]], jobs: int | None):
    clean: dict[tuple[str, ...], Outcome] = {}
    try:
        binary = only(build(crate, [file], jobs))
        names = tests_of(binary)
        for which in {asked(mutant, test) for mutant, test in found}:
            clean[which] = green(execute(binary, which, None))
        seconds = sum(one.seconds for one in clean.values())
        print(f"passes   {crate} {file}, unchanged: {len(found)} mutants wait {seconds:>12.0f} s", flush=True)
    except Unsound as error:
        yield from ((mutant, f"without any patch: {error}", 0.0) for mutant, _ in found)
        return
    for mutant, test in found:
        started = time.monotonic()
        try:
            apply(mutant)
            binary = only(build(crate, [file], jobs))
            without = clean[asked(mutant, test)]
            verdict = judge(mutant, test, names, without, execute(binary, asked(mutant, test), patience(without)))
        except Unsound as error:
            verdict = str(error)
        finally:
            restore()
        yield mutant, verdict, time.monotonic() - started


def asked(mutant: Mutant, test: str) -> tuple[str, ...]:
    """The tests to run: all of the binary, or the one."""
    return () if mutant.alone else (test,)


def patience(without: Outcome) -> float:
    return LEAST_PATIENCE + PATIENCE * without.seconds


def judge(mutant: Mutant, test: str, names: set[str], without: Outcome, outcome: Outcome) -> str:
    """`noticed`, or what is wrong; [`Unsound`] where nothing can be said."""
    ran = outcome.passed + len(outcome.failed)
    if ran != without.passed:
        raise Unsound(f"{ran} tests ran, {without.passed} without the patch")
    if test not in outcome.failed:
        return f"survived: {test} still passes" + listed("; these fail:", outcome.failed)
    also = {resolve(name, names) for name in mutant.also} if mutant.alone else set()
    if unexpected := outcome.failed - also - {test}:
        return f"not this test alone:{listed('', unexpected)}\n{tail(outcome.output)}"
    if quiet := also - outcome.failed:
        return "said to fail as well, but they pass:" + listed("", quiet)
    return "noticed"


def only(binaries: list[Binary]) -> Binary:
    if len(binaries) != 1:
        raise Unsound(f"{len(binaries)} test binaries where one was asked for")
    return binaries[0]


def listed(title: str, names) -> str:
    return f"{title} {', '.join(sorted(names))}" if names else ""


def green(outcome: Outcome) -> Outcome:
    if outcome.failed or not outcome.passed:
        seen_now = f"{outcome.passed} tests pass" + listed(", these fail:", outcome.failed)
        raise Unsound(f"{seen_now}\n{tail(outcome.output)}")
    return outcome


# --- building and running -------------------------------------------------------------------------------------------


def build(crate: str, which: list[str] | None, jobs: int | None) -> list[Binary]:
    """The test binaries of the crate: all (`None`), or those of some files."""
    targets = ["--tests"] if which is None else [flag for file in which for flag in flags(file)]
    # The program is named with every crate, so that what all depend on is built once, with the features of the whole.
    packages = ["-p", crate, "-p", "halfkey"]
    if crate == "halfkey-tests" and starts_the_program(which):
        messages = run_cargo(["build", *packages, "--bin", "halfkey", *targets], jobs)
    else:
        # Should a test start the program although nothing here says so, it finds none, and not that of another mutant.
        (BUILD / "debug" / "halfkey").unlink(missing_ok=True)
        messages = run_cargo(["test", "--no-run", *packages, *targets], jobs)
    return [binary for binary in binaries_in(messages) if binary.crate == crate]


def flags(file: str) -> list[str]:
    return ["--lib"] if file == "lib" else ["--test", file]


def starts_the_program(which: list[str] | None) -> bool:
    """Tests of `halfkey-tests` that start the program which lies beside them: it must be of the same tree."""
    folder = TREE / "tests" / "tests"
    patterns = ["**/*.rs"] if which is None else [p for file in which for p in (f"{file}.rs", f"{file}/**/*.rs")]
    return any("deployment" in path.read_text() for pattern in patterns for path in folder.glob(pattern))


def run_cargo(command: list[str], jobs: int | None) -> str:
    faster = [word for one in FASTER_BUILDS for word in ("--config", f"profile.dev.package.{one}")]
    limit = ["--jobs", str(jobs)] if jobs else []
    result = subprocess.run(
        ["cargo", *command, "--quiet", "--message-format=json", *limit, *faster],
        cwd=TREE, env=environment(), text=True, stdin=subprocess.DEVNULL, capture_output=True,
    )
    if result.returncode != 0:
        raise Unsound(f"does not build\n{tail(errors_in(result.stdout) + result.stderr)}")
    return result.stdout


def messages_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def errors_in(text: str) -> str:
    compiler = [one["message"] for one in messages_of(text) if one["reason"] == "compiler-message"]
    return "".join(one["rendered"] for one in compiler if one["level"].startswith("error"))


def binaries_in(text: str) -> list[Binary]:
    found = []
    for one in messages_of(text):
        if one["reason"] == "compiler-artifact" and one["profile"]["test"] and one["executable"]:
            where, _, package = one["package_id"].rpartition("#")
            crate = package.split("@")[0] if "@" in package else where.rsplit("/", 1)[1]
            integration = one["target"]["kind"] == ["test"]
            file = one["target"]["name"] if integration else "lib"
            found.append(Binary(crate, file, one["executable"], str(pathlib.Path(one["manifest_path"]).parent)))
    return found


def tests_of(binary: Binary) -> set[str]:
    """The names of all tests in it that are not ignored."""
    listed_by = lambda *more: {
        line.removesuffix(": test")
        for line in subprocess.run(
            [binary.path, "--list", "--format=terse", *more],
            cwd=binary.folder, env=environment(), text=True, capture_output=True, check=True,
        ).stdout.splitlines()
        if line.endswith(": test")
    }
    return listed_by() - listed_by("--ignored")


def resolve(name: str, names: set[str]) -> str | None:
    """The full name of the one test that is called this, or whose name ends so."""
    found = [test for test in names if test == name or test.endswith(f"::{name}")]
    return found[0] if len(found) == 1 else None


def find(mutant: Mutant, names: dict[Binary, set[str]]) -> tuple[Binary, str]:
    """Where the mutant's test is: in one binary of its crate, once."""
    inside = {binary: tests for binary, tests in names.items() if binary.crate == mutant.crate}
    if mutant.file:
        inside = {binary: tests for binary, tests in inside.items() if binary.file == mutant.file}
    found = [(binary, test) for binary, tests in inside.items() if (test := resolve(mutant.test, tests))]
    if len(found) != 1:
        raise Unsound(f"{len(found)} tests of {mutant.crate} are called {mutant.test}")
    for name in mutant.also:
        if not resolve(name, names[found[0][0]]):
            raise Unsound(f"{name}, which may fail as well, is no test of the same binary")
    return found[0]


def execute(binary: Binary, tests: tuple[str, ...], limit: float | None) -> Outcome:
    """Runs these tests of a binary, or all. What was seen is taken from the summary that ends a complete run."""
    started = time.monotonic()
    as_cargo_does = environment(CARGO_MANIFEST_DIR=binary.folder, CARGO="cargo")
    child = subprocess.Popen(
        [binary.path, *(["--exact", *tests] if tests else [])],
        cwd=binary.folder, env=as_cargo_does, start_new_session=True,
        text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    try:
        output, _ = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise Unsound(f"not ended after {limit:.0f} s") from None
    finally:
        end(child)
    summary = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed;", output, re.MULTILINE)
    if len(summary) != 1 or child.returncode not in (0, 101):
        raise Unsound(f"the tests ended with {child.returncode} and without a summary\n{tail(output)}")
    passed, failed = map(int, summary[0])
    names = frozenset(re.findall(r"^    (\S+)$", output.rpartition("\nfailures:\n")[2], re.MULTILINE) if failed else ())
    if len(names) != failed:
        raise Unsound(f"{failed} tests failed, {len(names)} are named\n{tail(output)}")
    return Outcome(passed, names, time.monotonic() - started, output)


def end(child: subprocess.Popen) -> None:
    """The test binary and whatever it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would bless, lengthen or redirect a test."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HALFKEY_")}
    quiet = {"CARGO_TERM_COLOR": "never", "RUST_BACKTRACE": "0"}
    return clean | quiet | {"CARGO_TARGET_DIR": str(BUILD), "CARGO_INCREMENTAL": "1"} | more


# --- the copy -------------------------------------------------------------------------------------------------------


def copy_tree() -> None:
    """What git tracks, as it stands in the working tree, with a throw-away history. Files that are the same keep their
    time, so that cargo builds only what changed; one that differs gets the present time, whatever it had, so that cargo
    never takes a mutant's build for that of the file it was restored to."""
    TREE.mkdir(parents=True, exist_ok=True)
    listed_by_git = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT)
    wanted = {os.fsdecode(name) for name in listed_by_git.split(b"\0") if name and (ROOT / os.fsdecode(name)).is_file()}
    shutil.rmtree(TREE / ".git", ignore_errors=True)
    for path in [path for path in TREE.rglob("*") if path.is_symlink() or path.is_file()]:
        if str(path.relative_to(TREE)) not in wanted:
            path.unlink()
    for name in wanted:
        source, target = ROOT / name, TREE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            shutil.copyfile(source, target)
        shutil.copymode(source, target)
    for command in (["init"], ["add", "--all", "--force"], ["commit", "--no-verify", "--message", "x"]):
        done = git(*command, "--quiet") if command[0] != "add" else git(*command)
        if done.returncode != 0:
            raise SystemExit(f"git {command[0]}: {done.stdout}")


def restore() -> None:
    for command in (["reset", "--quiet", "--hard"], ["clean", "--quiet", "-ffdx"]):
        if git(*command).returncode != 0:
            raise SystemExit(f"the copy in {TREE} cannot be restored")


def apply(mutant: Mutant) -> None:
    if (done := git("apply", "--recount", str(mutant.path))).returncode != 0:
        raise Unsound(f"does not apply\n{done.stdout}")


def git(*arguments: str, folder: pathlib.Path | None = None) -> subprocess.CompletedProcess:
    settings = ["user.name=x", "user.email=x@localhost", "commit.gpgsign=false", "core.hooksPath=/dev/null"]
    command = ["git", *(word for one in settings for word in ("-c", one)), *arguments]
    return subprocess.run(command, cwd=folder or TREE, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def sources() -> dict[str, str]:
    """For each crate a digest of all that its tests are built from: everything but other crates that it does not
    reach, the mutants, and prose; under `tree`, of everything."""
    metadata = json.loads(run_cargo_metadata())
    folders = {one["name"]: pathlib.Path(one["manifest_path"]).parent for one in metadata["packages"]}
    names = {one["name"]: {d["name"] for d in one["dependencies"] if d.get("path")} for one in metadata["packages"]}
    lines = git("ls-tree", "-r", "HEAD").stdout.splitlines()
    marks = {"tree": git("rev-parse", "HEAD^{tree}").stdout.strip()}
    for crate in folders:
        reached, waiting = set(), [crate]
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting += names[one]
        unreached = [folders[name].relative_to(TREE) for name in folders.keys() - reached]
        # Beside its sources, the package `tests` holds golden files and vectors that are everybody's.
        parts = lambda one: ("src",) if one == pathlib.Path() else ("src", "tests", "benches")
        foreign = [f"{one / part}/" for one in unreached for part in parts(one)]
        kept = [line for line in lines if not line.split("\t")[1].startswith((*foreign, "tests/mutants/", "docs/"))]
        marks[crate] = hashlib.sha256("\n".join(kept).encode()).hexdigest()
    return marks


def run_cargo_metadata() -> str:
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"]
    return subprocess.check_output(command, cwd=TREE, env=environment(), text=True)


def mark(mutant: Mutant, marks: dict[str, str]) -> str:
    return hashlib.sha256(mutant.path.read_bytes() + marks[mutant.crate].encode()).hexdigest()


def seen(known: dict | None, now: str) -> bool:
    return known is not None and known["verdict"] == "noticed" and known["mark"] == now


# --- the patches ----------------------------------------------------------------------------------------------------


def read(path: pathlib.Path) -> Mutant:
    head = [line for line in path.read_text().splitlines() if line.startswith("# ")]
    said = lambda key: [line.removeprefix(f"# {key}:").strip() for line in head if line.startswith(f"# {key}:")]
    for key in ("test", "crate"):
        if len(said(key)) != 1:
            raise SystemExit(f"{path.name}: not one `# {key}:` line")
    also = [line.partition(" - ") for line in said("also")]
    if not all(name and reason for name, _, reason in also):
        raise SystemExit(f"{path.name}: `# also: test - why it fails as well`")
    file, others = next(iter(said("file")), None), tuple(name for name, _, _ in also)
    return Mutant(path, said("crate")[0], said("test")[0], file, others)


def check(mutants: list[Mutant]) -> int:
    """On the tree itself, with what `./check test` has built: nothing is written."""
    applies = lambda mutant: git("apply", "--check", "--recount", str(mutant.path), folder=ROOT).returncode == 0
    bad = [f"{mutant.name}: does not apply" for mutant in mutants if not applies(mutant)]
    command = "cargo test --no-run --workspace --lib --bins --tests --quiet --message-format=json"
    built = subprocess.run(command.split(), cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout
    names = {binary: tests_of(binary) for binary in binaries_in(built)}
    for mutant in mutants:
        try:
            find(mutant, names)
        except Unsound as error:
            bad.append(f"{mutant.name}: {error}")
    tested = {attack for tests in names.values() for test in tests for attack in attacks(test.rpartition("::")[2])}
    guarded = {attack for m in mutants for attack in attacks(m.test.rpartition("::")[2])}
    bad += [f"{attack}: there are tests, and no mutant" for attack in sorted(tested - guarded)]
    for line in bad:
        print(line, file=sys.stderr)
    print(f"{len(mutants)} mutants apply and name their test" if not bad else f"{len(bad)} faults in tests/mutants")
    return 1 if bad else 0


def attacks(test: str) -> list[str]:
    """`t07_t18_no_secret…` is about two."""
    return re.match(r"(?:t\d\d_)*", test)[0].split("_")[:-1]


def write(path: pathlib.Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def tail(text: str) -> str:
    return "\n".join(text.splitlines()[-25:])


if __name__ == "__main__":
    sys.exit(main())
