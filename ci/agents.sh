#!/usr/bin/env bash
# Real agents, installed from their registries, against a server of ours with a key: each has to carry out one task with a model that
# plays the agent's part by heart. Exit code 1 when one of them did not.
#
#   ci/agents.sh            all
#   ci/agents.sh opencode   one
#
# Needs python3 with venv, node with npm, and HEARTH_FIXTURES, whose folder `api` has the models; says what it skips. HEARTH
# names the program, else it is built. The agents are kept in the user's cache folder; each runs in a home folder of its own.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fixtures=${HEARTH_FIXTURES:-../shared/fixtures}/api
[ -f "$fixtures/script-codex.gguf" ] || { echo "agents: SKIPPED: no models in $fixtures; set HEARTH_FIXTURES"; exit 0; }
for tool in python3 node npm git; do
  command -v $tool >/dev/null || { echo "agents: SKIPPED: needs $tool"; exit 0; }
done
if [ -z "${HEARTH:-}" ]; then
  cargo build -p hearth-cli
  HEARTH=${CARGO_TARGET_DIR:-target}/debug/hearth
fi
fixtures=$(realpath "$fixtures") HEARTH=$(realpath "$HEARTH")

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hearth/agents
mkdir -p "$cache"
[ -x "$cache/node_modules/.bin/opencode" ] || npm install --prefix "$cache" --no-audit --no-fund --silent @openai/codex opencode-ai
[ -x "$cache/venv/bin/aider" ] || { python3 -m venv "$cache/venv" && "$cache/venv/bin/pip" install --quiet aider-chat; }

work=$(mktemp -d)
server=
stop() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap stop EXIT

key=a-key-of-the-agents
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
HEARTH_HOME=$work/server "$HEARTH" serve "$fixtures"/script-{codex,opencode,aider}.gguf --port "$port" --key "$key" >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 100); do
  python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/health')" 2>/dev/null && break
  kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
  sleep 0.1
done

failed=()
wanted=${1:-}
run() { # run AGENT ARGUMENT...: the file note.txt must hold one word afterwards
  local agent=$1 home=$work/$1
  shift
  case $agent in "$wanted"*) ;; *) return 0 ;; esac
  mkdir -p "$home/task"
  (
    cd "$home/task"
    git init --quiet . && git config user.email nobody@example.org && git config user.name nobody
    env -i HOME="$home" HEARTH_HOME="$home/hearth" HEARTH_KEY="$key" TERM=dumb PATH="$cache/node_modules/.bin:$cache/venv/bin:$PATH" \
      timeout 280 "$HEARTH" launch "$agent" --url "http://127.0.0.1:$port" --model "script-$agent" -- "$@" >"$home/log" 2>&1
  ) || true
  if [ "$(tr -d '\n' <"$home/task/note.txt" 2>/dev/null)" = kindled ]; then
    echo "agents: $agent did its task"
  else
    echo "agents: $agent FAILED; its last words:"
    tail -20 "$home/log"
    failed+=("$agent")
  fi
}
task="Write the word kindled into note.txt"
run codex exec --dangerously-bypass-approvals-and-sandbox --json "$task"
run opencode run "$task"
run aider --message "$task" --yes-always --analytics-disable note.txt

if [ ${#failed[@]} -gt 0 ]; then
  echo "agents: the server's last words:"
  tail -20 "$work/server.log"
  exit 1
fi
