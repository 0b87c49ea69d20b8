#!/usr/bin/env python3
"""Licences and banned crates, read from `cargo tree`; the rules stand in deny.toml, in one place."""
import re
import subprocess
import sys
import tomllib


def main() -> int:
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    allowed = set(rules["licenses"]["allow"])
    banned = {ban["crate"].split("@")[0]: ban for ban in rules["bans"]["deny"]}
    bad = []
    packages = reached()
    for name, version, licence in packages:
        if not satisfied(licence, allowed):
            bad.append(f"{name} {version}: licence {licence!r} is not accepted")
        if name in banned and banned_version(banned[name], version):
            bad.append(f"{name} {version}: banned: {banned[name]['reason']}")
    for line in sorted(bad):
        print(line, file=sys.stderr)
    print(f"{len(packages)} packages, {len(bad)} refused")
    return 1 if bad else 0


def reached() -> list[tuple[str, str, str]]:
    """Name, version and licence of what is really linked, on any platform. (`cargo metadata` and the lock file also
    name packages that no feature switches on.)"""
    command = "cargo tree --workspace --locked --edges normal,build,dev --target all --prefix none --format"
    lines = subprocess.check_output([*command.split(), "{p}|{l}"], text=True).splitlines()
    found = set()
    for line in filter(None, lines):
        package, licence = line.removesuffix(" (*)").split("|")
        name, version = package.split()[:2]
        if "(/" not in package:
            found.add((name, version.removeprefix("v"), licence))
    return sorted(found)


def satisfied(expression: str, allowed: set[str]) -> bool:
    """SPDX: every AND part must have one accepted OR alternative."""
    expression = expression.replace("/", " OR ")
    tokens = re.findall(r"\(|\)|\bAND\b|\bOR\b|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?", expression)
    position = 0

    def either() -> bool:
        nonlocal position
        result = both()
        while position < len(tokens) and tokens[position] == "OR":
            position += 1
            right = both()
            result = result or right
        return result

    def both() -> bool:
        nonlocal position
        result = atom()
        while position < len(tokens) and tokens[position] == "AND":
            position += 1
            right = atom()
            result = result and right
        return result

    def atom() -> bool:
        nonlocal position
        if position >= len(tokens):
            return False
        token = tokens[position]
        position += 1
        if token == "(":
            result = either()
            position += 1
            return result
        return token in allowed

    return bool(tokens) and either() and position == len(tokens)


def banned_version(ban: dict, version: str) -> bool:
    """A ban without `below` bans every version."""
    if "below" not in ban:
        return True
    numbers = lambda text: tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    return numbers(version) < numbers(ban["below"])


if __name__ == "__main__":
    sys.exit(main())
