#!/usr/bin/env bash
# Scores must be the same bytes whatever computes them. For every model given (default: the fixtures whose weight types
# hearth supports) and every key/value type, compares `hearth logits` across instruction sets, numbers of threads and
# ways of feeding the prompt with the first combination, and prints the matrix. Exit code 1 if anything differs.
#
#   ci/exactness.sh                     fixtures under $HEARTH_FIXTURES (or ../shared/fixtures)
#   ci/exactness.sh a.gguf b.gguf       these files
#
# HEARTH_BIN names the program; otherwise a release build is made. TOKENS is the length of the prompt. Without models
# named, a quantised and a float model are also compared over 1,000 tokens, which cross from one of attention's chunks
# of 512 positions into the next; scalar code is slow there and runs only once, for the expected bytes.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tokens=${TOKENS:-67} # more than one page of 64, and no multiple of any tile
levels=(scalar portable avx2 avxvnni avx512 neon neon-dotprod neon-i8mm)
threads=(1 2 3 8)
feeds=(whole 1 7)

if [ -z "${HEARTH_BIN:-}" ]; then
  cargo build --release --quiet
  HEARTH_BIN=${CARGO_TARGET_DIR:-target}/release/hearth
fi
fixtures=${HEARTH_FIXTURES:-$(cd .. && pwd)/shared/fixtures}

models=("$@")
if [ ${#models[@]} -eq 0 ]; then
  [ -d "$fixtures" ] || { echo "exactness: no model given and no fixtures at $fixtures" >&2; exit 2; }
  for family in llama3 llama-tied qwen2 qwen3 mistral mistral-swa qwen3moe mixtral; do models+=("$fixtures/parity/lm/$family.gguf"); done
  for kind in llama-q-{F16,Q8_0,Q6_K,Q5_1,Q4_0,Q4_K_M,Q2_K,IQ4_NL,MXFP4_dense} \
              qwen3-q-{BF16,Q8_0,Q5_0,Q5_K_M,Q4_1,Q4_K_S,Q3_K_M,IQ4_XS} \
              qwen3moe-q-{Q8_0,Q6_K,Q4_K_M,Q4_0,MXFP4_MOE}; do
    models+=("$fixtures/parity/quant/$kind.gguf")
  done
  models+=("$fixtures"/real/stories260K{,-Q8_0,-Q4_0}.gguf)
  long_models=(models/spark/spark.gguf "$fixtures/real/stories260K.gguf") # contexts of 1,024 and 2,048
else
  long_models=()
fi

usable=()
for level in "${levels[@]}"; do
  if HEARTH_CPU=$level "$HEARTH_BIN" logits "${models[0]}" --tokens 1 --json >/dev/null 2>&1; then usable+=("$level")
  else echo "exactness: level $level cannot run here and is NOT covered"; fi
done

# Ids below 250 exist in every vocabulary here; neighbours differ, so every position sees another mixture.
prompt_of() { # prompt_of TOKENS
  awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "%s%d", (i ? "," : ""), 3 + (i * 37) % 247 }'
}

scores() { # scores LEVEL THREADS FEED KV MODEL
  local chunk=()
  [ "$3" = whole ] || chunk=(--chunk "$3")
  HEARTH_CPU=$1 "$HEARTH_BIN" logits "$5" --tokens "$prompt" --all --threads "$2" "${chunk[@]}" --kv "$4" --json | sha256sum
}

head_line() { # over the current threads, feeds and length
  printf '%-28s %-4s' model kv
  for level in "${usable[@]}"; do printf ' %12s' "$level"; done
  printf '   (runs equal / runs, over threads %s x prompt %s, of %s tokens)\n' "${threads[*]}" "${feeds[*]}" "$tokens"
}

differences=0 compared=0
row() { # row MODEL KV LEVEL...: these levels compared with scalar code, one thread, the whole prompt at once
  local model=$1 kv=$2 expected level n feed equal runs
  shift 2
  expected=$(scores scalar 1 whole "$kv" "$model")
  printf '%-28s %-4s' "$(basename "$model" .gguf)" "$kv"
  for level in "${usable[@]}"; do
    case " $* " in *" $level "*) ;; *) printf ' %12s' expected; continue ;; esac
    equal=0 runs=0
    for n in "${threads[@]}"; do
      for feed in "${feeds[@]}"; do
        runs=$((runs + 1))
        [ "$(scores "$level" "$n" "$feed" "$kv" "$model")" = "$expected" ] && equal=$((equal + 1))
      done
    done
    printf ' %12s' "$equal/$runs"
    compared=$((compared + runs)) differences=$((differences + runs - equal))
  done
  printf '\n'
}

prompt=$(prompt_of "$tokens")
head_line
for model in "${models[@]}"; do
  for kv in f16 f32 q8_0; do row "$model" "$kv" "${usable[@]}"; done
done

if [ ${#long_models[@]} -gt 0 ]; then
  tokens=1000 threads=(1 2) feeds=(whole 7)
  prompt=$(prompt_of "$tokens")
  head_line
  for model in "${long_models[@]}"; do row "$model" f16 "${usable[@]:1}"; done
  for kv in f32 q8_0; do row "${long_models[1]}" "$kv" "${usable[@]:1}"; done
fi
echo "exactness: $compared outputs compared, $differences differ; $(basename "$HEARTH_BIN") on $(nproc) processors"
[ "$differences" -eq 0 ]
