#!/usr/bin/env bash
# Installs the chains that the end-to-end tests send to: anvil (Ethereum) and litesvm (Solana), from npm, at the exact
# versions of package-lock.json. No package's own scripts are run. Does nothing where they are there already.
set -euo pipefail
cd "$(dirname "$0")"

for program in node npm; do
  command -v "$program" >/dev/null || { echo "chains: $program is missing; install nodejs (20 or newer) and npm" >&2; exit 1; }
done

wanted=$(sha256sum package.json package-lock.json)
if [ -f node_modules/.installed ] && [ "$(cat node_modules/.installed)" = "$wanted" ]; then
  echo "chains: anvil and litesvm are installed"
  exit 0
fi

echo "chains: installing anvil and litesvm from npm into tests/chains/node_modules (about 90 MB)"
# Not "npm ci": it refuses a lock file without the packages of every other platform.
rm -rf node_modules
npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
node --input-type=module --eval 'await import("litesvm"); await import("@solana/kit");'
[ -n "$(find node_modules/@foundry-rs -path '*/bin/anvil' -type f)" ] || {
  echo "chains: npm has no anvil for this platform: $(node -p 'process.platform + " " + process.arch')" >&2
  exit 1
}
printf '%s' "$wanted" >node_modules/.installed
echo "chains: installed"
