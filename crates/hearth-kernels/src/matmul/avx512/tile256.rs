//! Tiles of tokens for formats with super-blocks of 256: unsigned weights against A256 activations.
//!
//! Fast path: the sums of two sub-blocks share a lane as 16-bit halves, and one `vpdpwssd` multiplies both with their scales,
//! which carry the activations' exponents. It is exact where the sums fit 16 bits; elsewhere 32-bit products give the same
//! integers.

use std::arch::x86_64::*;

use super::ops::{broadcast4, load, load_ps};
use crate::activation::A256Block;

/// 256 columns of 16 rows; row r is lane r.
#[repr(C, align(64))]
pub(super) struct Panel256 {
    /// Weights, unsigned: line i has columns 4i..4i+4 of every row.
    pub w: [[u8; 64]; 64],
    /// Scales as 16-bit pairs: the later sub-block in the low half. Four lines for sub-blocks of 32, eight for 16.
    pub scales: [[i16; 32]; 8],
    /// Minimums as 16-bit pairs in the same order, for sub-blocks of 32.
    pub mins: [[i16; 32]; 4],
    pub d: [f32; 16],
    pub dmin: [f32; 16],
}

/// The bias that keeps the low half of a pair from borrowing of the high half.
const BIAS: i32 = 0x8000;

/// Lanes of 32 bits from the low half.
#[inline]
#[target_feature(enable = "avx512f")]
fn low(v: __m512i) -> __m512i {
    _mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(v))
}

/// Lanes of 32 bits from the high half.
#[inline]
#[target_feature(enable = "avx512f")]
fn high(v: __m512i) -> __m512i {
    _mm512_srai_epi32::<16>(v)
}

/// Adds `base · term` to 16 sums of each token.
///
/// # Safety
/// 16 floats at `sums`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn accumulate(sums: *mut f32, base: f32, term: __m512) {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = _mm512_fmadd_ps(_mm512_set1_ps(base), term, _mm512_loadu_ps(sums));
        _mm512_storeu_ps(sums, sum);
    }
}

/// Adds the products of `LINES` lines of weights with the activations from column `at` on.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_dots<const N: usize, const LINES: usize>(
    dot: &mut [__m512i; N],
    w: &[[u8; 64]],
    acts: &[A256Block; N],
    at: usize,
) {
    let w: &[[u8; 64]; LINES] = w.try_into().expect("the lines of a sub-block");
    assert!(at + LINES * 4 <= 256, "columns of one block");
    for i in 0..LINES {
        let w = load(&w[i]);
        for t in 0..N {
            // SAFETY: line i ends below the 256 activations, by the assertion.
            let q = unsafe { broadcast4(&acts[t].q, at + i * 4) };
            dot[t] = _mm512_dpbusd_epi32(dot[t], w, q);
        }
    }
}

/// Sub-blocks of 32 with minimums. `OFFSET` is taken off every weight while pairs are summed and added again through the sums of
/// activations: 16 for 5-bit weights, whose products would not fit otherwise.
///
/// # Safety
/// The processor has the features; `sums` has 16 floats at each `token * stride` for N tokens.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn tile_of_32<const N: usize, const FITS: bool, const OFFSET: i32>(
    panel: &Panel256,
    acts: &[A256Block],
    sums: *mut f32,
    stride: usize,
) {
    let acts: &[A256Block; N] = acts.try_into().expect("N tokens");
    let zero = _mm512_setzero_si512();
    let bias = _mm512_set1_epi32(BIAS);
    let mut isum = [zero; N];
    let mut imin = [zero; N];
    for u in 0..4 {
        let (first, second) = panel.w[u * 16..][..16].split_at(8);
        let scales = load(&panel.scales[u]);
        let mins = load(&panel.mins[u]);
        let mut dot = [zero; N];
        if OFFSET != 0 && FITS {
            for t in 0..N {
                dot[t] = _mm512_set1_epi32(-OFFSET * i32::from(acts[t].sum32[2 * u]));
            }
        }
        add_dots::<N, 8>(&mut dot, first, acts, u * 64);
        if FITS {
            for t in 0..N {
                dot[t] = _mm512_slli_epi32::<16>(dot[t]);
                dot[t] = if OFFSET == 0 {
                    _mm512_or_si512(dot[t], bias)
                } else {
                    let start = BIAS - OFFSET * i32::from(acts[t].sum32[2 * u + 1]);
                    _mm512_add_epi32(dot[t], _mm512_set1_epi32(start))
                };
            }
        } else {
            for t in 0..N {
                let scales = _mm512_sllv_epi16(scales, _mm512_set1_epi32(acts[t].pair_e[u]));
                isum[t] = _mm512_add_epi32(isum[t], _mm512_mullo_epi32(dot[t], high(scales)));
                dot[t] = zero;
            }
        }
        add_dots::<N, 8>(&mut dot, second, acts, u * 64 + 32);
        for t in 0..N {
            let e = _mm512_set1_epi32(acts[t].pair_e[u]);
            let sum = _mm512_set1_epi32(acts[t].pair_sum[u]);
            let scales = _mm512_sllv_epi16(scales, e);
            if FITS {
                isum[t] = _mm512_dpwssd_epi32(isum[t], _mm512_xor_si512(dot[t], bias), scales);
                if OFFSET != 0 {
                    let offset = _mm512_dpwssd_epi32(zero, scales, sum);
                    isum[t] = _mm512_add_epi32(
                        isum[t],
                        _mm512_mullo_epi32(offset, _mm512_set1_epi32(OFFSET)),
                    );
                }
            } else {
                isum[t] = _mm512_add_epi32(isum[t], _mm512_mullo_epi32(dot[t], low(scales)));
            }
            imin[t] = _mm512_dpwssd_epi32(imin[t], _mm512_sllv_epi16(mins, e), sum);
        }
    }
    let (d, dmin) = (load_ps(&panel.d), load_ps(&panel.dmin));
    for t in 0..N {
        let min = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(imin[t]));
        let term = _mm512_fmsub_ps(d, _mm512_cvtepi32_ps(isum[t]), min);
        // SAFETY: the caller's promise.
        unsafe { accumulate(sums.add(t * stride), acts[t].base, term) };
    }
}

/// Sub-blocks of 16 with signed scales, weights offset by 32 (`start6` of the activations).
///
/// # Safety
/// As for [`tile_of_32`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn tile_of_16<const N: usize, const FITS: bool>(
    panel: &Panel256,
    acts: &[A256Block],
    sums: *mut f32,
    stride: usize,
) {
    let acts: &[A256Block; N] = acts.try_into().expect("N tokens");
    let zero = _mm512_setzero_si512();
    let bias = _mm512_set1_epi32(BIAS);
    let mut isum = [zero; N];
    for u in 0..8 {
        let (first, second) = panel.w[u * 8..][..8].split_at(4);
        let scales = load(&panel.scales[u]);
        let mut dot = [zero; N];
        for t in 0..N {
            dot[t] = _mm512_set1_epi32(acts[t].start6[2 * u]);
        }
        add_dots::<N, 4>(&mut dot, first, acts, u * 32);
        for t in 0..N {
            let start = _mm512_set1_epi32(acts[t].start6[2 * u + 1]);
            if FITS {
                dot[t] = _mm512_add_epi32(_mm512_slli_epi32::<16>(dot[t]), start);
            } else {
                let scales = _mm512_sllv_epi16(scales, _mm512_set1_epi32(acts[t].twin_e[u]));
                isum[t] = _mm512_add_epi32(isum[t], _mm512_mullo_epi32(dot[t], high(scales)));
                dot[t] = _mm512_sub_epi32(start, bias);
            }
        }
        add_dots::<N, 4>(&mut dot, second, acts, u * 32 + 16);
        for t in 0..N {
            let scales = _mm512_sllv_epi16(scales, _mm512_set1_epi32(acts[t].twin_e[u]));
            isum[t] = if FITS {
                _mm512_dpwssd_epi32(isum[t], _mm512_xor_si512(dot[t], bias), scales)
            } else {
                _mm512_add_epi32(isum[t], _mm512_mullo_epi32(dot[t], low(scales)))
            };
        }
    }
    let d = load_ps(&panel.d);
    for t in 0..N {
        let term = _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum[t]));
        // SAFETY: the caller's promise.
        unsafe { accumulate(sums.add(t * stride), acts[t].base, term) };
    }
}
