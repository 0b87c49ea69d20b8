#!/usr/bin/env bash
# The keeper's program as it goes into an enclave's image: stripped, it stays below 5 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --profile keeper -p halfkey-keeper --bin halfkey-keeper
program="${CARGO_TARGET_DIR:-target}/keeper/halfkey-keeper"
bytes=$(stat --format=%s "$program")
if [ "$bytes" -ge 5000000 ]; then
  echo "halfkey-keeper has $bytes bytes; fewer than 5000000 are wanted" >&2
  exit 1
fi
if "$program" 2>/dev/null; then
  echo "halfkey-keeper starts without a folder" >&2
  exit 1
fi
echo "halfkey-keeper: $bytes bytes"
