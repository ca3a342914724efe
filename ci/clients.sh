#!/usr/bin/env bash
# The official SDKs, installed from their registries, against a server of ours: runs tests/clients/.
# Exit code 1 when a suite failed.
#
#   ci/clients.sh                    all suites
#   ci/clients.sh python_anthropic   those whose name begins so
#
# Needs python3 with venv, node 20 with npm, and HEARTH_FIXTURES, whose folder `api` has the models; says what it skips.
# HEARTH names the program, else it is built. The SDKs are kept in the user's cache folder.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fixtures=${HEARTH_FIXTURES:-../shared/fixtures}/api
[ -f "$fixtures/tiny-chat.gguf" ] || { echo "clients: SKIPPED: no models in $fixtures; set HEARTH_FIXTURES"; exit 0; }
for tool in python3 node npm; do
  command -v $tool >/dev/null || { echo "clients: SKIPPED: needs $tool"; exit 0; }
done
if [ -z "${HEARTH:-}" ]; then
  cargo build -p hearth-cli
  HEARTH=${CARGO_TARGET_DIR:-target}/debug/hearth
fi

no_sdks() {
  echo "clients: SKIPPED: the SDKs cannot be installed here"
  exit 0
}

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hearth/clients
mkdir -p "$cache"
# A stamp beside each installation says which list it was made from.
if ! cmp -s tests/clients/requirements.txt "$cache/requirements.txt"; then
  python3 -m venv --clear "$cache/venv" || no_sdks
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt || no_sdks
  cp tests/clients/requirements.txt "$cache/requirements.txt"
fi
if ! cmp -s tests/clients/package.json "$cache/package.json"; then
  mkdir -p "$cache/npm"
  cp tests/clients/package.json "$cache/npm/package.json"
  npm install --prefix "$cache/npm" --no-audit --no-fund --silent || no_sdks
  cp tests/clients/package.json "$cache/package.json"
fi

work=$(mktemp -d)
server=
stop() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap stop EXIT

export HEARTH_KEY=a-key-of-the-client-suites HEARTH_HOME=$work/home
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export HEARTH_URL=http://127.0.0.1:$port
"$HEARTH" serve "$fixtures/tiny-chat.gguf" "$fixtures/tiny-tool.gguf" "$fixtures/tiny-think.gguf" --port "$port" --key "$HEARTH_KEY" \
  >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 100); do
  python3 -c "import urllib.request; urllib.request.urlopen('$HEARTH_URL/health')" 2>/dev/null && break
  kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
  sleep 0.1
done

failed=()
run() { # run NAME COMMAND...
  case $1 in "${wanted:-}"*) ;; *) return 0 ;; esac
  local name=$1
  shift
  echo "clients: $name"
  "$@" || failed+=("$name")
}
wanted=${1:-}
# Modules are looked for beside the file, so the suites of node stand beside its modules.
cp tests/clients/*.mjs "$cache/npm/"
for suite in tests/clients/python_*.py; do
  run "$(basename "$suite" .py)" "$cache/venv/bin/python" "$suite"
done
for suite in "$cache"/npm/js_*.mjs; do
  run "$(basename "$suite" .mjs)" node --test "$suite"
done

if [ ${#failed[@]} -gt 0 ]; then
  echo "clients: FAILED: ${failed[*]}; the server's last words:"
  tail -20 "$work/server.log"
  exit 1
fi
echo "clients: everything passed"
