#!/usr/bin/env bash
# The README's first commands, run as a newcomer runs it, and their answers checked field by field.
set -euo pipefail
cd "$(dirname "$0")/.."
for flags in "" "--revoke-old-device" "--method passkey"; do
  # shellcheck disable=SC2086
  cargo run --quiet --release -- demo --json $flags | python3 -c '
import json, re, sys
text = sys.stdin.read()
answer = json.loads(text)
assert text.count("\n") == 1, "one line, one object"
assert answer["ok"] is True
assert sorted(answer) == ["addresses", "ethereum", "ok", "solana", "steps"], sorted(answer)
before, after = answer["addresses"]["before"], answer["addresses"]["after"]
assert sorted(before) == ["bitcoin", "ethereum", "solana"] and before == after, (before, after)
assert re.fullmatch(r"0x[0-9a-fA-F]{40}", after["ethereum"])
assert re.fullmatch(r"bc1q[02-9ac-hj-np-z]{38}", after["bitcoin"])
assert re.fullmatch(r"0x02[0-9a-f]+", answer["ethereum"]["raw_transaction"])
assert re.fullmatch(r"0x[0-9a-f]+", answer["solana"]["message"])
assert re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{80,90}", answer["solana"]["signature"])
assert all(sorted(step) == ["ms", "name"] for step in answer["steps"]) and len(answer["steps"]) >= 7
names = ", ".join(step["name"] for step in answer["steps"])
print("demo held:", names)
'
done
