//! `F32`, `F16`, `BF16`: weights stored as numbers, little-endian. All three convert to f32 exactly.

use super::block::half;

/// Reads f32 values.
pub(crate) fn dequantize_f32(bytes: &[u8], out: &mut [f32]) {
    for (out, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *out = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    }
}

/// Reads IEEE half-precision values.
pub(crate) fn dequantize_f16(bytes: &[u8], out: &mut [f32]) {
    for (out, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *out = half([b[0], b[1]]);
    }
}

/// Reads bfloat16 values: the upper half of an f32.
pub(crate) fn dequantize_bf16(bytes: &[u8], out: &mut [f32]) {
    for (out, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
    }
}
