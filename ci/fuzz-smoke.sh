#!/usr/bin/env bash
# Runs every fuzz target for a number of seconds (default 30). Exit code 1 if any of them found something.
set -uo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-30}
failed=()
for file in fuzz/fuzz_targets/*.rs; do
  target=$(basename "$file" .rs)
  log=$(mktemp)
  if ci/fuzz.sh "$target" "${seconds}s" >"$log" 2>&1; then
    echo "fuzz: $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, nothing found"
  else
    failed+=("$target")
    echo "fuzz: $target: FAILED"
    tail -n 60 "$log"
  fi
  rm -f "$log"
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "fuzz: FAILED: ${failed[*]}"
  exit 1
fi
