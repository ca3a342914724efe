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
npm="$cache/node_modules/.bin"
[ -x "$npm/claude" ] || npm install --prefix "$cache" --no-audit --no-fund --silent @openai/codex opencode-ai @anthropic-ai/claude-code
# Each has its own environment: what they depend on does not agree.
for tool in aider:aider-chat llm:llm; do
  venv=$cache/venv-${tool%:*}
  [ -x "$venv/bin/${tool%:*}" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "${tool#*:}"; }
done

work=$(mktemp -d)
server=
stop() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap stop EXIT

# Claude Code's shell tool is the one of opencode with a capital letter.
LC_ALL=C sed 's/"bash"/"Bash"/' "$fixtures/script-opencode.gguf" >"$work/script-claude.gguf"
models=("$fixtures"/script-{codex,opencode,aider}.gguf "$fixtures/tiny-chat.gguf" "$work/script-claude.gguf")

key=a-key-of-the-agents
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
HEARTH_HOME=$work/server "$HEARTH" serve "${models[@]}" --port "$port" --key "$key" >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 100); do
  python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/health')" 2>/dev/null && break
  kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
  sleep 0.1
done

failed=()
wanted=${1:-}
is_done() { # is_done AGENT: whether it wrote the word into note.txt; llm only says it
  case $1 in
    llm) grep -q '"kindled"' "$work/$1/log" ;;
    *) [ "$(tr -d '\n' <"$work/$1/task/note.txt" 2>/dev/null)" = kindled ] ;;
  esac
}
run() { # run AGENT MODEL ARGUMENT...
  local agent=$1 model=$2 home=$work/$1
  shift 2
  case $agent in "$wanted"*) ;; *) return 0 ;; esac
  mkdir -p "$home/task"
  (
    cd "$home/task"
    git init --quiet . && git config user.email nobody@example.org && git config user.name nobody
    env -i HOME="$home" HEARTH_HOME="$home/hearth" HEARTH_KEY="$key" TERM=dumb \
      PATH="$npm:$cache/venv-aider/bin:$cache/venv-llm/bin:$PATH" \
      timeout 280 "$HEARTH" launch "$agent" --url "http://127.0.0.1:$port" --model "$model" -- "$@" >"$home/log" 2>&1
  ) || true
  if is_done "$agent"; then
    echo "agents: $agent did its task"
  else
    echo "agents: $agent FAILED; its last words:"
    tail -20 "$home/log"
    failed+=("$agent")
  fi
}
task="Write the word kindled into note.txt"
run codex script-codex exec --dangerously-bypass-approvals-and-sandbox --json "$task"
run opencode script-opencode run "$task"
run aider script-aider --message "$task" --yes-always --analytics-disable note.txt
run claude script-claude --print "$task" --allowedTools Bash
run llm tiny-chat --schema '{"type":"object","properties":{"word":{"const":"kindled"}},"required":["word"]}' "Which word?"

if [ ${#failed[@]} -gt 0 ]; then
  echo "agents: FAILED: ${failed[*]}; the server's last words:"
  tail -20 "$work/server.log"
  exit 1
fi
