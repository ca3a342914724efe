"""Writes <TYPE>.blocks (raw blocks) and <TYPE>.f32 (their weights, little-endian) for every block format.

The blocks are seeded random bytes with finite scales, after a few extreme ones; the weights come from the
reference implementation in the `gguf` package, so that the Rust decoders are compared with someone else's.
"""

import pathlib

import gguf
import numpy as np

SEED = 20261122
# Byte offsets of the f16 numbers of a block, which must be finite to be comparable.
HALVES = {
    "F16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0], "IQ4_XS": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "MXFP4": [], "F32": [], "BF16": [],
}


def blocks_of(name: str, rng: np.random.Generator) -> np.ndarray:
    length, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    count = {1: 64, 32: 12}.get(length, 5)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    if length > 1:
        blocks[0] = 0
        blocks[1] = 255
        blocks[2] = 128
    for offset in HALVES[name]:
        half = rng.normal(0, 0.02, count).astype(np.float16)
        half[0], half[-1] = 2.0**-24, -half[-1]
        blocks[:, offset : offset + 2] = half.view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        blocks[:, 0] = rng.integers(100, 130, count)
        blocks[:6, 0] = [0, 1, 2, 127, 128, 250]
    if name == "F32":
        blocks = rng.normal(0, 1, (count, 1)).astype("<f4").view(np.uint8)
    if name == "BF16":
        blocks = (rng.normal(0, 1, (count, 1)).astype("<f4").view("<u4") >> 16).astype("<u2").view(np.uint8)
    return blocks


def main() -> None:
    folder = pathlib.Path(__file__).parent
    rng = np.random.default_rng(SEED)
    for name in HALVES:
        blocks = blocks_of(name, rng)
        weights = gguf.quants.dequantize(blocks.reshape(-1), gguf.GGMLQuantizationType[name])
        (folder / f"{name}.blocks").write_bytes(blocks.tobytes())
        (folder / f"{name}.f32").write_bytes(np.asarray(weights, dtype="<f4").tobytes())


main()
