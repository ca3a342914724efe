//! A32 and A256 with NEON: equal to the scalar definitions bit for bit.

use std::arch::aarch64::*;

use super::TINY;
use super::a32::A32Block;
use super::a256::A256Block;
use crate::cpu::Neon;

/// [`A32Block::quantize`].
pub(crate) fn quantize_a32(_: Neon, x: &[f32; 32]) -> A32Block {
    // SAFETY: the token proves the feature.
    unsafe { a32(x) }
}

/// [`A256Block::quantize`].
pub(crate) fn quantize_a256(_: Neon, x: &[f32; 256], block: &mut A256Block) {
    // SAFETY: the token proves the feature.
    unsafe { a256(x, block) }
}

#[target_feature(enable = "neon")]
fn a32(x: &[f32; 32]) -> A32Block {
    let amax = magnitude(x);
    if amax < TINY {
        return A32Block::ZERO;
    }
    let mut block = A32Block {
        step: amax / 127.0,
        ..A32Block::ZERO
    };
    let scale = 127.0 / amax;
    for (x, q) in x.as_chunks().0.iter().zip(block.q.as_chunks_mut().0) {
        let v = quantize16(x, scale);
        store(q, v);
        block.sum += i32::from(vaddlvq_s8(v));
    }
    block.minus_sum = -block.sum;
    block
}

#[target_feature(enable = "neon")]
fn a256(x: &[f32; 256], block: &mut A256Block) {
    let mut magnitudes = [0f32; 8];
    for (m, x) in magnitudes.iter_mut().zip(x.as_chunks().0) {
        *m = magnitude(x);
    }
    let amax = magnitudes.iter().fold(0f32, |a, &b| a.max(b));
    if amax < TINY {
        *block = A256Block::ZERO;
        return;
    }
    block.base = amax / 2032.0;
    for (e, magnitude) in block.e.iter_mut().zip(magnitudes) {
        *e = A256Block::exponent(magnitude, 127.0 * block.base);
    }
    let mut magnitude16 = [0; 16];
    let parts = x.as_chunks().0.iter().zip(block.q.as_chunks_mut().0);
    for (j, (x, q)) in parts.enumerate() {
        let shrink = A256Block::SHRINK[usize::from(block.e[j / 2])];
        let v = quantize16(x, 2032.0 / amax * shrink);
        store(q, v);
        block.sum16[j] = vaddlvq_s8(v);
        magnitude16[j] = i32::from(vaddlvq_s8(vabsq_s8(v)));
    }
    block.derive(&magnitude16);
}

/// The largest magnitude of 32 finite numbers.
#[inline]
#[target_feature(enable = "neon")]
fn magnitude(x: &[f32; 32]) -> f32 {
    let mut m = vdupq_n_f32(0.0);
    for x in x.as_chunks::<4>().0 {
        m = vmaxq_f32(m, vabsq_f32(load(x)));
    }
    vmaxvq_f32(m)
}

/// 16 activations times `scale`, at most 127 and a few ulp in magnitude, so that rounding does the clamping.
#[inline]
#[target_feature(enable = "neon")]
fn quantize16(x: &[f32; 16], scale: f32) -> int8x16_t {
    let four = |i: usize| vcvtnq_s32_f32(vmulq_n_f32(load(&x.as_chunks().0[i]), scale));
    let eight = |i: usize| vcombine_s16(vqmovn_s32(four(2 * i)), vqmovn_s32(four(2 * i + 1)));
    vcombine_s8(vqmovn_s16(eight(0)), vqmovn_s16(eight(1)))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(x: &[f32; 4]) -> float32x4_t {
    // SAFETY: 16 readable bytes.
    unsafe { vld1q_f32(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [i8; 16], v: int8x16_t) {
    // SAFETY: 16 writable bytes.
    unsafe { vst1q_s8(to.as_mut_ptr(), v) }
}
