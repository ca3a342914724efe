#!/usr/bin/env bash
# Builds llama.cpp's benchmark programs, for this machine's processor, from the source package of its Python binding:
#   bench/build-peer.sh [FOLDER]        FOLDER: where to build; default bench/peer, which git ignores
# The package is pinned and its checksum compared, so that figures of different days are figures of the same peer. Takes
# some minutes; what is there already is kept. PEER_CMAKE adds options for cmake, such as the ones for a build without
# AVX-512: PEER_CMAKE='-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON'
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

version=0.3.36
checksum=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
folder=${1:-peer}
programs=(llama-bench llama-batched-bench)

for tool in python3 cmake c++ sha256sum; do
  command -v "$tool" >/dev/null || { echo "build-peer: needs $tool" >&2; exit 1; }
done
mkdir -p "$folder"
cd "$folder"
archive=llama_cpp_python-$version.tar.gz
if [ ! -f "$archive" ]; then
  python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python "llama-cpp-python==$version"
fi
echo "$checksum  $archive" | sha256sum --check --quiet
[ -d "llama_cpp_python-$version" ] || tar xzf "$archive"
# Unquoted on purpose: PEER_CMAKE holds several words.
cmake -S "llama_cpp_python-$version/vendor/llama.cpp" -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
  -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF ${PEER_CMAKE:-}
cmake --build build --parallel "$(nproc)" --target "${programs[@]}"
echo "llama-cpp-python $version, $(c++ --version | head -1)${PEER_CMAKE:+, $PEER_CMAKE}" >build/version.txt
echo "built in $PWD/build/bin: ${programs[*]}"
