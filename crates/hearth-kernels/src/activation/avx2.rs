//! A32 and A256 with AVX2: equal to the scalar definitions bit for bit.
//!
//! Loops instead of `map` and `from_fn`: those do not have the features, so closures that do are not inlined into them.

use std::arch::x86_64::*;

use super::TINY;
use super::a32::A32Block;
use super::a256::A256Block;
use crate::cpu::Avx2;

/// [`A32Block::quantize`].
pub(crate) fn quantize_a32(_: Avx2, x: &[f32; 32]) -> A32Block {
    // SAFETY: the token proves the features.
    unsafe { a32(x) }
}

/// [`A256Block::quantize`].
pub(crate) fn quantize_a256(_: Avx2, x: &[f32; 256], block: &mut A256Block) {
    // SAFETY: the token proves the features.
    unsafe { a256(x, block) }
}

#[target_feature(enable = "avx2")]
fn a32(x: &[f32; 32]) -> A32Block {
    let x = load(x);
    let amax = magnitude(&x);
    if amax < TINY {
        return A32Block::ZERO;
    }
    let mut block = A32Block {
        step: amax / 127.0,
        ..A32Block::ZERO
    };
    let q = quantize32(&x, 127.0 / amax);
    store(&mut block.q, q);
    block.sum = sum8(sums_of_4(q));
    block.minus_sum = -block.sum;
    block
}

#[target_feature(enable = "avx2")]
fn a256(x: &[f32; 256], block: &mut A256Block) {
    let x32 = x.as_chunks::<32>().0;
    let mut magnitudes = [0f32; 8];
    for (m, x) in magnitudes.iter_mut().zip(x32) {
        *m = magnitude(&load(x));
    }
    let amax = magnitudes.iter().fold(0f32, |a, &b| a.max(b));
    if amax < TINY {
        *block = A256Block::ZERO;
        return;
    }
    let base = amax / 2032.0;
    block.base = base;
    let mut magnitude16 = [0; 16];
    for j in 0..8 {
        let e = A256Block::exponent(magnitudes[j], 127.0 * base);
        block.e[j] = e;
        let q = quantize32(
            &load(&x32[j]),
            2032.0 / amax * A256Block::SHRINK[usize::from(e)],
        );
        store(&mut block.q.as_chunks_mut().0[j], q);
        let (a, b) = sums_of_16(sums_of_4(q));
        block.sum16[2 * j] = a as i16;
        block.sum16[2 * j + 1] = b as i16;
        let (a, b) = sums_of_16(sums_of_4(_mm256_abs_epi8(q)));
        magnitude16[2 * j] = a;
        magnitude16[2 * j + 1] = b;
    }
    block.derive(&magnitude16);
}

#[target_feature(enable = "avx2")]
fn magnitude(x: &[__m256; 4]) -> f32 {
    let mut abs = *x;
    for abs in &mut abs {
        *abs = _mm256_andnot_ps(_mm256_set1_ps(-0.0), *abs);
    }
    let m = _mm256_max_ps(_mm256_max_ps(abs[0], abs[1]), _mm256_max_ps(abs[2], abs[3]));
    let m = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps::<1>(m));
    let m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)))
}

/// 32 activations times `scale`, at most 127 and a few ulp in magnitude, so that packing, which saturates, does the clamping.
#[target_feature(enable = "avx2")]
fn quantize32(x: &[__m256; 4], scale: f32) -> __m256i {
    let mut q = [_mm256_setzero_si256(); 4];
    for (q, x) in q.iter_mut().zip(x) {
        *q = _mm256_cvtps_epi32(_mm256_mul_ps(*x, _mm256_set1_ps(scale)));
    }
    let packed = _mm256_packs_epi16(
        _mm256_packs_epi32(q[0], q[1]),
        _mm256_packs_epi32(q[2], q[3]),
    );
    // Packing works within 128-bit lanes.
    _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

#[target_feature(enable = "avx2")]
fn sums_of_4(q: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

#[target_feature(enable = "avx2")]
fn sums_of_16(s: __m256i) -> (i32, i32) {
    let s = _mm256_add_epi32(s, _mm256_shuffle_epi32::<0b10_11_00_01>(s));
    let s = _mm256_add_epi32(s, _mm256_shuffle_epi32::<0b01_00_11_10>(s));
    (_mm256_extract_epi32::<0>(s), _mm256_extract_epi32::<4>(s))
}

#[target_feature(enable = "avx2")]
fn sum8(s: __m256i) -> i32 {
    let (a, b) = sums_of_16(s);
    a + b
}

#[target_feature(enable = "avx2")]
fn load(x: &[f32; 32]) -> [__m256; 4] {
    let mut v = [_mm256_setzero_ps(); 4];
    for (v, x) in v.iter_mut().zip(x.as_chunks::<8>().0) {
        // SAFETY: 32 readable bytes.
        *v = unsafe { _mm256_loadu_ps(x.as_ptr()) };
    }
    v
}

#[target_feature(enable = "avx2")]
fn store(to: &mut [i8; 32], v: __m256i) {
    // SAFETY: 32 writable bytes.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), v) }
}
