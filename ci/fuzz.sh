#!/usr/bin/env bash
# Runs one fuzz target: a number of inputs, or a number of seconds.
#
#   ci/fuzz.sh gguf 1000000          a million inputs
#   ci/fuzz.sh gguf 30s              thirty seconds
#
# Installs cargo-fuzz when it is missing. Needs a nightly compiler; fails with a line that says how to get one.
# Exit code 0 when nothing was found; otherwise the input that crashed lies in fuzz/artifacts/TARGET.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:?usage: ci/fuzz.sh TARGET ITERATIONS|SECONDSs}
amount=${2:?usage: ci/fuzz.sh TARGET ITERATIONS|SECONDSs}
case $amount in
  *s) limit=(-max_total_time="${amount%s}") ;;
  *) limit=(-runs="$amount") ;;
esac

command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
cargo +nightly --version >/dev/null 2>&1 || { echo "fuzz: needs a nightly compiler: rustup toolchain install nightly" >&2; exit 1; }
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz

corpus=fuzz/corpus/$target
mkdir -p "$corpus"
seeds=()
[ ! -d "fuzz/seeds/$target" ] || seeds+=("fuzz/seeds/$target")
# Seeds made by a program: built like any other, without sanitizer or nightly.
if [ -f "crates/hearth-testing/examples/${target}_seeds.rs" ]; then
  cargo run --quiet -p hearth-testing --example "${target}_seeds" -- "$corpus"
fi

# Longest input: where a megabyte says nothing that a page does not, short inputs find more.
max_len=8192
[ ! -f "fuzz/fuzz_targets/$target.max_len" ] || max_len=$(<"fuzz/fuzz_targets/$target.max_len")

dict=()
[ ! -f "fuzz/fuzz_targets/$target.dict" ] || dict=(-dict="fuzz/fuzz_targets/$target.dict")

# Leaks are not looked for at exit: safe Rust has few, and the search hangs where tracing a process is forbidden.
export ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}
cargo +nightly fuzz run "$target" "$corpus" ${seeds[@]+"${seeds[@]}"} -- \
  -timeout=1 -detect_leaks=0 -max_len="$max_len" -rss_limit_mb=4096 -print_final_stats=1 ${dict[@]+"${dict[@]}"} "${limit[@]}"
