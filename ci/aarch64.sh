#!/usr/bin/env bash
# Tests for 64-bit ARM on a machine of another kind: builds the tests of the kernels and of the models with a cross compiler,
# runs them in emulation once for each kind of processor that has kernels of its own, and prints a summary. Exit code 1 when
# a test failed or a level was not run. Emulation says nothing about speed.
#
#   sudo ci/aarch64.sh             root in the user's cache folder
#   sudo ci/aarch64.sh DIR         root in DIR, outside of this folder
#
# The root is a small Debian (suite sid, 1.5 GB, about four minutes) with a Rust compiler, the standard library for ARM, a
# linker and qemu; it is made when it is missing and reused otherwise. Making and entering it takes superuser rights. Needs
# debootstrap, and a Debian mirror: DEBIAN_MIRROR, or the first one that /etc/apt names.
#
# HEARTH_FIXTURES names the folder with reference outputs; without it, tests that need them are skipped and say so.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$(realpath -m "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/aarch64-root}")
case $root/ in "$PWD"/*) echo "aarch64: $root lies inside the project; name a folder outside of it" >&2; exit 2 ;; esac
[ "$(id -u)" = 0 ] || { echo "aarch64: making and entering a root takes superuser rights: sudo $0 $root" >&2; exit 2; }

# Each processor and the fastest level it has.
processors=("cortex-a53 neon" "cortex-a76 neon-dotprod" "max neon-i8mm")
weight_types=16

make_root() { # make_root DIR
  local dir=$1 mirror=${DEBIAN_MIRROR:-}
  command -v debootstrap >/dev/null || { echo "aarch64: needs debootstrap: apt-get install debootstrap" >&2; exit 2; }
  [ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oE '[a-z]+://[^ ]+/debian/?( |$)' | tr -d ' ' | head -1) || true
  [ -n "$mirror" ] || { echo "aarch64: no Debian mirror in /etc/apt; set DEBIAN_MIRROR" >&2; exit 2; }
  debootstrap --variant=minbase sid "$dir" "$mirror"
  # Mirrors of a fixed day are older than their indices say they may be.
  echo 'Acquire::Check-Valid-Until "false";' >"$dir/etc/apt/apt.conf.d/99valid"
  cp -L /etc/resolv.conf "$dir/etc/resolv.conf" || true
  for f in /etc/apt/apt.conf.d/99*; do if [ -f "$f" ]; then cp -n "$f" "$dir/etc/apt/apt.conf.d/"; fi; done
  chroot "$dir" bash -euc '
    export DEBIAN_FRONTEND=noninteractive
    dpkg --add-architecture arm64
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends rustc cargo libstd-rust-dev:arm64 gcc libc6-dev \
      gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user ca-certificates'
  # What this machine trusts, so that cargo reaches the registry in there as it does out here.
  if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$dir/etc/ssl/certs/ca-certificates.crt"
  fi
}

if [ ! -x "$root/usr/bin/qemu-aarch64" ]; then
  echo "aarch64: making $root"
  mkdir -p "$(dirname "$root")"
  rm -rf "$root.part"
  make_root "$root.part" >"$root.log" 2>&1 || { tail -20 "$root.log" >&2; exit 1; }
  mv "$root.part" "$root"
fi

inside() { # inside PROCESSOR COMMAND...: in the root, in the copy of the project, with this processor emulated
  local processor=$1
  shift
  chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/bin:/bin TERM=dumb CARGO_TERM_COLOR=never \
    CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu' \
    QEMU_CPU="$processor" ${HEARTH_FIXTURES:+HEARTH_FIXTURES=/fixtures} \
    sh -c 'cd /work && exec "$@"' inside "$@"
}

# What git tracks or would track; the build folder of the last run stays.
mkdir -p "$root/work"
find "$root/work" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C "$root/work"
if [ -n "${HEARTH_FIXTURES:-}" ]; then
  mkdir -p "$root/fixtures"
  cp -au "$HEARTH_FIXTURES/." "$root/fixtures/"
fi

tests=(cargo test -p hearth-kernels -p hearth-model --lib --tests)
inside max rustc --version
inside max "${tests[@]}" --no-run

failed=0
summary=()
for pair in "${processors[@]}"; do
  read -r processor level <<<"$pair"
  log=$root/$processor.log
  started=$SECONDS
  result=ok
  inside "$processor" "${tests[@]}" --no-fail-fast -- --nocapture >"$log" 2>&1 || result=FAILED
  count() { { grep -oE "[0-9]+ $1" "$log" || true; } | awk '{ n += $1 } END { print n + 0 }'; }
  equal=$({ grep -oE "(^|[^-a-z])$level [A-Z][A-Z0-9_]+: equal" "$log" || true; } | sed 's/^[^A-Z]*//' | sort -u | wc -l)
  [ "$equal" = "$weight_types" ] || result="FAILED: level $level equals the specification for $equal of $weight_types weight types"
  [ "$result" = ok ] || failed=1
  summary+=("$(printf '%-11s %-13s %6s %6s %7s   %s' "$processor" "$level" "$(count passed)" "$(count failed)" "$((SECONDS - started))" "$result")")
  echo "aarch64: ${summary[-1]}"
  grep -E '^(test .* FAILED|---- .* stdout|.*panicked at)' "$log" | head -20 || true
done

printf '%-11s %-13s %6s %6s %7s\n' processor level passed failed seconds
printf '%s\n' "${summary[@]}"
[ "$failed" = 0 ]
