//! Loads, stores and conversions that the kernels share.

use std::arch::aarch64::*;
use std::arch::asm;

/// The first 16 bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load16(from: &[i8]) -> int8x16_t {
    let from: &[i8; 16] = from.first_chunk().expect("16 bytes");
    // SAFETY: 16 readable bytes.
    unsafe { vld1q_s8(from.as_ptr()) }
}

/// The first 16 bytes, unsigned.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn bytes16(from: &[u8]) -> uint8x16_t {
    let from: &[u8; 16] = from.first_chunk().expect("16 bytes");
    // SAFETY: 16 readable bytes.
    unsafe { vld1q_u8(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load8(from: &[i8; 8]) -> int8x8_t {
    // SAFETY: 8 readable bytes.
    unsafe { vld1_s8(from.as_ptr()) }
}

/// Eight bytes in both halves.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn dup8(from: &[i8; 8]) -> int8x16_t {
    // SAFETY: 8 readable bytes, of which the instruction asks no alignment.
    unsafe { vreinterpretq_s8_s64(vld1q_dup_s64(from.as_ptr().cast())) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn words(from: &[i16; 8]) -> int16x8_t {
    // SAFETY: 16 readable bytes.
    unsafe { vld1q_s16(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn ints(from: &[i32; 4]) -> int32x4_t {
    // SAFETY: 16 readable bytes.
    unsafe { vld1q_s32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn floats(from: &[f32; 4]) -> float32x4_t {
    // SAFETY: 16 readable bytes.
    unsafe { vld1q_f32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_floats(to: &mut [f32; 4], v: float32x4_t) {
    // SAFETY: 16 writable bytes.
    unsafe { vst1q_f32(to.as_mut_ptr(), v) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_bytes(to: &mut [i8; 16], v: int8x16_t) {
    // SAFETY: 16 writable bytes.
    unsafe { vst1q_s8(to.as_mut_ptr(), v) }
}

/// Stores eight bytes each of two rows side by side.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_pair(to: &mut [[i8; 8]; 2], v: int8x16_t) {
    // SAFETY: 16 writable bytes.
    unsafe { vst1q_s8(to.as_mut_ptr().cast(), v) }
}

/// A half-precision number as files store it, exactly; a conversion in one instruction, which has no stable intrinsic.
#[inline(always)]
pub(super) fn half(bytes: [u8; 2]) -> f32 {
    let wide;
    // SAFETY: an instruction of every 64-bit ARM processor that touches two registers.
    unsafe {
        asm!(
            "fcvt {wide:s}, {half:h}",
            wide = lateout(vreg) wide,
            half = in(vreg) u16::from_le_bytes(bytes),
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    wide
}

/// The low nibbles and the high ones.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn nibbles(packed: uint8x16_t) -> [uint8x16_t; 2] {
    [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)]
}

/// Integers that have no sign yet, less `offset`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn less(v: uint8x16_t, offset: u8) -> int8x16_t {
    vreinterpretq_s8_u8(vsubq_u8(v, vdupq_n_u8(offset)))
}

/// What the indices stand for.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn look_up(values: &[i8; 16], indices: uint8x16_t) -> int8x16_t {
    vqtbl1q_s8(load16(values), indices)
}
