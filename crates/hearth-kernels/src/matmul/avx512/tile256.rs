//! Tiles of rows and tokens for formats with super-blocks of 256: unsigned weights against A256 activations.
//!
//! Two sub-blocks are summed side by side: a dot product takes four or five cycles to add to, so that many of them must be under
//! way at once. Fast path: both sums share a lane as 16-bit halves, and one `vpdpwssd` multiplies them with their scales, which
//! carry the activations' exponents. It is exact where the sums fit 16 bits; elsewhere 32-bit products give the same integers.

use std::arch::x86_64::*;

use super::ops::{broadcast4, load, load_ps};
use crate::activation::A256Block;

/// 256 columns of 16 rows; row r is lane r.
#[repr(C, align(64))]
pub(super) struct Panel256 {
    /// Weights, unsigned: line i has columns 4i..4i+4 of every row.
    pub w: [[u8; 64]; 64],
    /// Scales as 16-bit pairs: the later sub-block in the low half. Four lines for sub-blocks of 32, eight for 16. For
    /// [`tile_wide`] eight lines, each scale beside 256 times itself, which is in the high half.
    pub scales: [[i16; 32]; 8],
    /// Minimums as 16-bit pairs in the same order.
    pub mins: [[i16; 32]; 8],
    pub d: [f32; 16],
    pub dmin: [f32; 16],
}

/// One register for each group of 16 rows and each token.
type Tile<const G: usize, const N: usize> = [[__m512i; N]; G];

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

/// Sums of two sub-blocks as 16-bit halves: `a` high, `b` low.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(a: __m512i, b: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xf8>(_mm512_slli_epi32::<16>(a), b, _mm512_set1_epi32(0xffff))
}

/// Adds `base · term` to 16 sums.
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

/// Adds the products of two sub-blocks of `LINES` lines, the first of them line `line`, to `a` and `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_dots<const G: usize, const N: usize, const LINES: usize>(
    a: &mut Tile<G, N>,
    b: &mut Tile<G, N>,
    panels: [&Panel256; G],
    acts: &[A256Block; N],
    line: usize,
) {
    assert!(line + 2 * LINES <= 64, "lines of one panel");
    for i in 0..LINES {
        for (dots, line) in [(&mut *a, line + i), (&mut *b, line + LINES + i)] {
            let mut w = [_mm512_setzero_si512(); G];
            for g in 0..G {
                w[g] = load(&panels[g].w[line]);
            }
            for t in 0..N {
                // SAFETY: 64 lines of four columns are the 256 activations.
                let q = unsafe { broadcast4(&acts[t].q, line * 4) };
                for g in 0..G {
                    dots[g][t] = _mm512_dpbusd_epi32(dots[g][t], w[g], q);
                }
            }
        }
    }
}

/// Σ of the pairs of `of` times two to the exponents of sub-blocks of 32, times the sums of activations.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum_of_32(of: &[[i16; 32]; 8], act: &A256Block) -> __m512i {
    let mut total = _mm512_setzero_si512();
    for u in 0..4 {
        let shifted = _mm512_sllv_epi16(load(&of[u]), _mm512_set1_epi32(act.pair_e[u]));
        total = _mm512_dpwssd_epi32(total, shifted, _mm512_set1_epi32(act.pair_sum[u]));
    }
    total
}

/// The same for sub-blocks of 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum_of_16(of: &[[i16; 32]; 8], act: &A256Block) -> __m512i {
    let mut total = _mm512_setzero_si512();
    for u in 0..8 {
        let [even, odd] = act.sum16.as_chunks::<2>().0[u];
        let sum = _mm512_set1_epi32(i32::from(odd as u16) | i32::from(even) << 16);
        let shifted = _mm512_sllv_epi16(load(&of[u]), _mm512_set1_epi32(act.twin_e[u]));
        total = _mm512_dpwssd_epi32(total, shifted, sum);
    }
    total
}

/// Sub-blocks of 32 with minimums. `OFFSET` is taken off every weight while pairs are summed and added again through the sums of
/// activations: 16 for 5-bit weights, whose products would not fit otherwise.
///
/// # Safety
/// The processor has the features; `sums` has 16 floats per panel at each `token * stride` for N tokens.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn tile_of_32<
    const G: usize,
    const N: usize,
    const FITS: bool,
    const OFFSET: i32,
>(
    panels: [&Panel256; G],
    acts: &[A256Block],
    sums: *mut f32,
    stride: usize,
) {
    let acts: &[A256Block; N] = acts.try_into().expect("N tokens");
    let zero = [[_mm512_setzero_si512(); N]; G];
    let mut isum = zero;
    for u in 0..4 {
        let (mut a, mut b) = (zero, zero);
        if OFFSET != 0 && FITS {
            for t in 0..N {
                let start = |j: usize| _mm512_set1_epi32(-OFFSET * i32::from(acts[t].sum32[j]));
                let (start_a, start_b) = (start(2 * u), start(2 * u + 1));
                for g in 0..G {
                    (a[g][t], b[g][t]) = (start_a, start_b);
                }
            }
        }
        add_dots::<G, N, 8>(&mut a, &mut b, panels, acts, u * 16);
        for t in 0..N {
            let e = _mm512_set1_epi32(acts[t].pair_e[u]);
            for g in 0..G {
                let scales = _mm512_sllv_epi16(load(&panels[g].scales[u]), e);
                isum[g][t] = add_scaled::<FITS>(isum[g][t], a[g][t], b[g][t], scales);
            }
        }
    }
    for g in 0..G {
        let (d, dmin) = (load_ps(&panels[g].d), load_ps(&panels[g].dmin));
        for t in 0..N {
            let mut sum = isum[g][t];
            if OFFSET != 0 && FITS {
                let offset = sum_of_32(&panels[g].scales, &acts[t]);
                let offset = _mm512_mullo_epi32(offset, _mm512_set1_epi32(OFFSET));
                sum = _mm512_add_epi32(sum, offset);
            }
            let min = _mm512_cvtepi32_ps(sum_of_32(&panels[g].mins, &acts[t]));
            let min = _mm512_mul_ps(dmin, min);
            let term = _mm512_fmsub_ps(d, _mm512_cvtepi32_ps(sum), min);
            // SAFETY: the caller's promise.
            unsafe { accumulate(sums.add(t * stride + g * 16), acts[t].base, term) };
        }
    }
}

/// Adds two sub-blocks' sums times their scales, `a`'s in the high half of each pair.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_scaled<const FITS: bool>(sum: __m512i, a: __m512i, b: __m512i, scales: __m512i) -> __m512i {
    if FITS {
        return _mm512_dpwssd_epi32(sum, halves(a, b), scales);
    }
    let sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(a, high(scales)));
    _mm512_add_epi32(sum, _mm512_mullo_epi32(b, low(scales)))
}

/// Sub-blocks of 16 with signed scales, weights offset by 32 (`start6` of the activations), and minimums where there are some.
///
/// # Safety
/// As for [`tile_of_32`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn tile_of_16<
    const G: usize,
    const N: usize,
    const FITS: bool,
    const HAS_MIN: bool,
>(
    panels: [&Panel256; G],
    acts: &[A256Block],
    sums: *mut f32,
    stride: usize,
) {
    let acts: &[A256Block; N] = acts.try_into().expect("N tokens");
    let zero = [[_mm512_setzero_si512(); N]; G];
    let mut isum = zero;
    for u in 0..8 {
        let (mut a, mut b) = (zero, zero);
        for t in 0..N {
            let start = |j: usize| _mm512_set1_epi32(acts[t].start6[j]);
            let (start_a, start_b) = (start(2 * u), start(2 * u + 1));
            for g in 0..G {
                (a[g][t], b[g][t]) = (start_a, start_b);
            }
        }
        add_dots::<G, N, 4>(&mut a, &mut b, panels, acts, u * 8);
        for t in 0..N {
            let e = _mm512_set1_epi32(acts[t].twin_e[u]);
            for g in 0..G {
                let scales = _mm512_sllv_epi16(load(&panels[g].scales[u]), e);
                isum[g][t] = add_scaled::<FITS>(isum[g][t], a[g][t], b[g][t], scales);
            }
        }
    }
    for g in 0..G {
        let (d, dmin) = (load_ps(&panels[g].d), load_ps(&panels[g].dmin));
        for t in 0..N {
            let sum = _mm512_cvtepi32_ps(isum[g][t]);
            let term = if HAS_MIN {
                let min = _mm512_cvtepi32_ps(sum_of_16(&panels[g].mins, &acts[t]));
                _mm512_fmsub_ps(d, sum, _mm512_mul_ps(dmin, min))
            } else {
                _mm512_mul_ps(d, sum)
            };
            // SAFETY: the caller's promise.
            unsafe { accumulate(sums.add(t * stride + g * 16), acts[t].base, term) };
        }
    }
}

/// Makes of each 32-bit lane its lowest byte, in the low half, and the two bytes above it.
const SPLIT: [u8; 64] = {
    let mut order = [0x80; 64];
    let mut at = 0;
    while at < 64 {
        order[at] = at as u8 % 16;
        order[at + 2] = order[at] + 1;
        order[at + 3] = order[at] + 2;
        at += 4;
    }
    order
};

/// Sub-blocks of 32 with signed scales and weights offset by 128, whose sums fit no 16 bits. Times 2^e they fit 24, since
/// 127 · 127 · 32 · 16 is below 2^23: a byte and a signed word, which one `vpdpwssd` multiplies with the scale and 256 times the
/// scale. A 32-bit product would take two slots, and one more to be added.
///
/// # Safety
/// As for [`tile_of_32`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi2")]
pub(super) unsafe fn tile_wide<const G: usize, const N: usize>(
    panels: [&Panel256; G],
    acts: &[A256Block],
    sums: *mut f32,
    stride: usize,
) {
    let acts: &[A256Block; N] = acts.try_into().expect("N tokens");
    let (zero, split) = (_mm512_setzero_si512(), load(&SPLIT));
    // What the offset will have added, taken off first.
    let mut starts = [[0i32; 8]; N];
    for t in 0..N {
        for j in 0..8 {
            starts[t][j] = -128 * i32::from(acts[t].sum32[j]);
        }
    }
    let mut isum = [[zero; N]; G];
    for u in 0..4 {
        let (mut a, mut b) = ([[zero; N]; G], [[zero; N]; G]);
        for (dots, j) in [(&mut a, 2 * u), (&mut b, 2 * u + 1)] {
            for t in 0..N {
                let start = _mm512_set1_epi32(starts[t][j]);
                for g in 0..G {
                    dots[g][t] = start;
                }
            }
        }
        add_dots::<G, N, 8>(&mut a, &mut b, panels, acts, u * 16);
        for (dots, j) in [(a, 2 * u), (b, 2 * u + 1)] {
            for t in 0..N {
                let e = _mm512_set1_epi32(acts[t].twin_e[j]);
                for g in 0..G {
                    // This shift takes its count modulo 32, and so does not mind the exponent's twin in the upper half.
                    let dot = _mm512_shldv_epi32(dots[g][t], zero, e);
                    let parts = _mm512_shuffle_epi8(dot, split);
                    let scales = load(&panels[g].scales[j]);
                    isum[g][t] = _mm512_dpwssd_epi32(isum[g][t], parts, scales);
                }
            }
        }
    }
    for g in 0..G {
        let d = load_ps(&panels[g].d);
        for t in 0..N {
            let term = _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum[g][t]));
            // SAFETY: the caller's promise.
            unsafe { accumulate(sums.add(t * stride + g * 16), acts[t].base, term) };
        }
    }
}
