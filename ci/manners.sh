#!/usr/bin/env bash
# How well hearth behaves beside others, on a model file and an otherwise quiet Linux machine. Prints figures and judges
# nothing: times from the start to the first token against the warm process, memory beyond the file, what a second process
# adds, speed beside one busy process per processor, and processor time of an idle chat.
#
#   ci/manners.sh MODEL.gguf [PART...]      parts: start memory busy idle (default: all)
#
# HEARTH_BIN names the program; otherwise a release build is made. ROUNDS is how often times are taken (default 5), IDLE how
# many seconds the chat idles (default 60).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

model=$(realpath "${1:?usage: ci/manners.sh MODEL.gguf [PART...]}")
shift
[ $# -gt 0 ] || set -- start memory busy idle
idle=${IDLE:-60}
rounds=${ROUNDS:-5}
if [ -z "${HEARTH_BIN:-}" ]; then
  cargo build --release --quiet
  HEARTH_BIN=${CARGO_TARGET_DIR:-target}/release/hearth
fi
cat "$model" >/dev/null # the page cache is where files of daily use are

busy=()
chat=
cleanup() { [ ${#busy[@]} -eq 0 ] || kill "${busy[@]}" 2>/dev/null || true; [ -z "$chat" ] || kill "$chat" 2>/dev/null || true; }
trap cleanup EXIT

seconds() { date +%s.%N; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a - b }'; }
median() { sort -g | awk '{ x[NR] = $1 } END { printf "%s (%s to %s)", x[int((NR + 1) / 2)], x[1], x[NR] }'; }
mebibytes() { awk -v kb="$1" 'BEGIN { printf "%.1f MiB", kb / 1024 }'; }

# Speed of a bench run: reading ("pp") or writing ("tg"), tokens per second.
speed() { # KIND ARGUMENTS...
  local kind=$1
  shift
  "$HEARTH_BIN" bench "$model" "$@" --json </dev/null 2>/dev/null | tr -d ' \n' |
    sed -n "s/.*\"$kind\":{\"tokens\":[0-9]*,\"tok_s\":\([0-9.e+]*\).*/\1/p"
}

# A kilobyte field of a process's status or memory map.
field() { awk -v name="$2:" '$1 == name { print $2 }' "/proc/$1/$3" 2>/dev/null || true; }

# Becomes hearth: run it in a shell of its own.
say_some() { exec "$HEARTH_BIN" run "$model" "a b c d e" --raw --temperature 0 --max-tokens "$1" </dev/null >/dev/null 2>&1; }

start_times() {
  local warm begin
  warm=$(awk -v speed="$(speed pp -p 5 -n 0 --reps 5)" 'BEGIN { printf "%.3f", 5 / speed }')
  echo "five tokens in the warm process: $warm s"
  for _ in $(seq "$rounds"); do
    begin=$(seconds)
    (say_some 1)
    minus "$(minus "$(seconds)" "$begin")" "$warm"
    echo
  done | median | sed 's/^/process start to first token, beyond that, in s: /'
  echo
}

# Follows a process until it ends: its peak, and the most memory that was nobody else's.
watch_memory() { # PID
  local peak=0 private=0 now anonymous
  while [ -r "/proc/$1/smaps_rollup" ]; do
    now=$(field "$1" VmHWM status)
    peak=${now:-$peak}
    now=$(awk '/^Private_/ { sum += $2 } END { print sum + 0 }' "/proc/$1/smaps_rollup" 2>/dev/null || echo 0)
    if [ "$now" -gt "$private" ]; then private=$now; fi
    now=$(field "$1" Anonymous smaps_rollup)
    if [ "${now:-0}" -gt "${anonymous:-0}" ]; then anonymous=$now; fi
    sleep 0.05
  done
  echo "$peak $private ${anonymous:-0}"
}

memory() {
  local file_kb first second peak private anonymous
  file_kb=$(($(stat -c %s "$model") / 1024))
  say_some 60 & # few enough that keys and values are one or two pages
  read -r peak _ anonymous < <(watch_memory $!)
  wait
  echo "peak resident: $(mebibytes "$peak"), beyond the file: $(mebibytes $((peak - file_kb))), of no file: $(mebibytes "$anonymous")"
  say_some 200 &
  first=$!
  sleep 3
  say_some 60 &
  second=$!
  read -r _ private _ < <(watch_memory "$second")
  kill "$first" 2>/dev/null || true
  wait || true
  echo "a second process on the same file: $(mebibytes "$private") that are its own"
}

beside_busy_processes() {
  local quiet beside
  quiet=$(speed tg -p 0 -n 64)
  for _ in $(seq "$(nproc)"); do
    (while :; do :; done) &
    busy+=($!)
  done
  beside=$(speed tg -p 0 -n 64)
  kill "${busy[@]}"
  wait "${busy[@]}" 2>/dev/null || true
  busy=()
  awk -v a="$quiet" -v b="$beside" 'BEGIN { printf "writing: %.1f tokens/s, beside %d busy processes %.1f: %.0f %%\n", a, '"$(nproc)"', b, 100 * b / a }'
}

# A chat that waits for its user, on a terminal of its own.
idle_chat() {
  local pipe pid before after
  command -v script >/dev/null || { echo "idle: needs 'script' of util-linux"; return; }
  pipe=$(mktemp -u)
  mkfifo "$pipe"
  script -qec "'$HEARTH_BIN' run '$model' --max-tokens 8" /dev/null <"$pipe" >/dev/null 2>&1 &
  chat=$!
  exec 3>"$pipe"
  rm "$pipe"
  printf 'hello\r' >&3
  sleep 15 # the answer is written, and whatever follows it is over
  pid=$(pgrep -n -f "^$HEARTH_BIN run $model" || true)
  [ -n "$pid" ] || { echo "idle: the chat did not start"; return; }
  before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
  sleep "$idle"
  after=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
  echo "idle chat: $((after - before)) ticks of 1/$(getconf CLK_TCK) s in $idle s, after $before for its start and one answer"
  exec 3>&-
  kill "$pid" 2>/dev/null || true
  wait "$chat" 2>/dev/null || true
  chat=
}

for part in "$@"; do
  case $part in
    start) start_times ;;
    memory) memory ;;
    busy) beside_busy_processes ;;
    idle) idle_chat ;;
    *) echo "manners: no part '$part'; there are start, memory, busy and idle" >&2; exit 2 ;;
  esac
done
