#!/usr/bin/env bash
# Runs the fuzz targets one after the other with coverage guidance, from the committed seeds, and says what came out.
#
#   scripts/fuzz.sh SECONDS             all of them, so many seconds each
#   scripts/fuzz.sh SECONDS TARGET…     only these
#
# Needs `cargo install cargo-fuzz` and a C++ compiler. What it finds lies in fuzz/artifacts; the status is then 1. Without
# AddressSanitizer, since the crates here forbid unsafe code and their executions are dear; SANITIZER=address has it.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
# The sanitizers are not stable yet; the compiler is.
export RUSTC_BOOTSTRAP=1
seconds="${1:?how many seconds for each target?}"
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
found=0
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target"
  verdict="nothing found"
  # A new seed is not in an old corpus, so both are given; what is learned goes to the first.
  cargo fuzz run --sanitizer "${SANITIZER:-none}" "$target" "corpus/$target" "seeds/$target" -- \
    "-max_total_time=$seconds" -print_final_stats=1 -timeout=60 -rss_limit_mb=4096 >"$log" 2>&1 || {
    verdict="FAILED"
    found=1
    tail -n 60 "$log" >&2
  }
  executed="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  edges="$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)"
  printf '%-32s %10s executions  %6s edges  %s\n' "$target" "${executed:--}" "${edges:--}" "$verdict"
done
exit "$found"
