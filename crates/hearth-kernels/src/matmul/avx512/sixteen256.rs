//! What Q2_K, Q3_K and Q6_K share: sixteen sub-blocks of 16, whose weights are unpacked 32 too large.
//!
//! Q6_K stores them so. Q3_K's are unpacked eight times as large as they are, 4 too large becoming 32 too large, and its `d` is
//! taken an eighth as large: powers of two, which change no bit of a product. Q2_K's get their 32 with the mask.

use std::arch::x86_64::*;

use super::format256::Format256;
use super::ops::{load, store, sum_registers};
use super::stream;
use super::tile256::{Panel256, tile_of_16};
use crate::activation::{A256Block, StreamToken};

/// How such a format lies in memory.
pub(super) trait Sixteenths {
    /// Bytes of a block.
    const BLOCK_BYTES: usize;
    /// See [`Format256::FITS`].
    const FITS: u32;
    /// Where `d` is.
    const D: usize;
    /// What `d` is multiplied with: a power of two.
    const D_FACTOR: f32 = 1.0;
    /// Where `dmin` is, if there are minimums.
    const DMIN: Option<usize> = None;

    /// See [`Format256::unpack`].
    ///
    /// # Safety
    /// The same.
    unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256);

    /// The 256 weights of a block as four registers in order, 32 too large.
    ///
    /// # Safety
    /// The processor has the features of the level; a block is readable.
    unsafe fn weights(block: *const u8) -> [__m512i; 4];

    /// The scales of a block as words, and its minimums or anything.
    ///
    /// # Safety
    /// As above.
    unsafe fn scales_and_mins(block: *const u8) -> (__m256i, __m256i);
}

impl<F: Sixteenths> Format256 for F {
    const BLOCK_BYTES: usize = F::BLOCK_BYTES;
    const FITS: u32 = F::FITS;

    unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
        // SAFETY: the caller's promise.
        unsafe { F::unpack(from, row_bytes, panel) }
    }

    unsafe fn tile<const G: usize, const N: usize, const FITS: bool>(
        panels: [&Panel256; G],
        acts: &[A256Block],
        sums: *mut f32,
        stride: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match F::DMIN {
                Some(_) => tile_of_16::<G, N, FITS, true>(panels, acts, sums, stride),
                None => tile_of_16::<G, N, FITS, false>(panels, acts, sums, stride),
            }
        }
    }

    unsafe fn terms<const T: usize>(
        from: *const u8,
        n_blocks: usize,
        at: usize,
        acts: &[StreamToken<'_>; T],
        terms: [*mut f32; T],
        ahead: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { terms_of::<F, T>(from, n_blocks, at, acts, terms, ahead) }
    }
}

/// Stores signed bytes (16 per row, transposed) as pairs of words, the later sub-block low.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn store_pairs(bytes: [__m512i; 4], to: &mut [[i16; 32]; 8]) {
    // Each byte into the upper half of its word, then an arithmetic shift extends the sign.
    let pair = |odd: i32, even: i32| {
        let lane = |l: i32| 0x80 | (odd + 4 * l) << 8 | 0x80 << 16 | (even + 4 * l) << 24;
        _mm512_broadcast_i32x4(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3)))
    };
    let (first, second) = (pair(1, 0), pair(3, 2));
    for (to, v) in to.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        store(
            &mut to[0],
            _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, first)),
        );
        store(
            &mut to[1],
            _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, second)),
        );
    }
}

/// Where packed sums find their scale: `packs(d0, d1)` of 64 weights each has sub-blocks l and 4 + l in lane l.
const SCALE_ORDER: [i16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = (i / 8 + i % 8 / 4 * 4) as i16;
        i += 1;
    }
    order
};

/// # Safety
/// See [`Format256::terms`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn terms_of<F: Sixteenths, const T: usize>(
    mut from: *const u8,
    n_blocks: usize,
    mut at: usize,
    acts: &[StreamToken<'_>; T],
    terms: [*mut f32; T],
    ahead: usize,
) {
    let zero = _mm512_setzero_si512();
    let order = load(&SCALE_ORDER);
    let order2 = _mm512_add_epi16(order, _mm512_set1_epi16(8));
    let period = acts[0].base.len();
    for first in (0..n_blocks).step_by(stream::GROUP) {
        stream::prefetch(from, ahead, (stream::GROUP * F::BLOCK_BYTES).div_ceil(64));
        let mut sums = [[zero; 4]; T];
        let mut min_sums = [[zero; 4]; T];
        for r in 0..4 {
            let block = from.wrapping_add(r * F::BLOCK_BYTES);
            // SAFETY: block r is readable.
            let (w, (scales, mins)) = unsafe { (F::weights(block), F::scales_and_mins(block)) };
            let scales = _mm512_castsi256_si512(scales);
            let scales = [
                _mm512_permutexvar_epi16(order, scales),
                _mm512_permutexvar_epi16(order2, scales),
            ];
            for t in 0..T {
                debug_assert!(at + r < acts[t].blocks.len());
                // SAFETY: blocks `at..at + 4` exist, as three follow the last.
                let act = unsafe { acts[t].blocks.get_unchecked(at + r) };
                let (q, start) = (act.q.as_chunks::<64>().0, act.start4.as_chunks::<16>().0);
                let dot = |i: usize| _mm512_dpbusd_epi32(load(&start[i]), w[i], load(&q[i]));
                let (d0, d1, d2, d3) = (dot(0), dot(1), dot(2), dot(3));
                // Sums of four products fit 16 bits: 4 · 32 · 127.
                let scales0 = _mm512_sllv_epi16(scales[0], load(&act.e_plain[0]));
                let scales1 = _mm512_sllv_epi16(scales[1], load(&act.e_plain[1]));
                let v = _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(d0, d1), scales0);
                sums[t][r] = _mm512_dpwssd_epi32(v, _mm512_packs_epi32(d2, d3), scales1);
                if F::DMIN.is_some() {
                    // SAFETY: the array is 32 bytes.
                    let sum16 = unsafe { _mm256_loadu_si256(act.shifted_sum16.as_ptr().cast()) };
                    min_sums[t][r] = _mm512_zextsi256_si512(_mm256_madd_epi16(mins, sum16));
                }
            }
        }
        // SAFETY: the halves lie inside the four blocks.
        let d = unsafe { four_halves(from.add(F::D), F::BLOCK_BYTES) };
        let d = _mm_mul_ps(d, _mm_set1_ps(F::D_FACTOR));
        for t in 0..T {
            let [s0, s1, s2, s3] = sums[t];
            let sum = _mm_cvtepi32_ps(sum_registers(s0, s1, s2, s3));
            let term = if let Some(dmin) = F::DMIN {
                // SAFETY: as above.
                let dmin = unsafe { four_halves(from.add(dmin), F::BLOCK_BYTES) };
                let [s0, s1, s2, s3] = min_sums[t];
                let min = _mm_cvtepi32_ps(sum_registers(s0, s1, s2, s3));
                _mm_fmsub_ps(d, sum, _mm_mul_ps(dmin, min))
            } else {
                _mm_mul_ps(d, sum)
            };
            // SAFETY: terms `first..first + 4` are writable.
            unsafe { _mm_storeu_ps(terms[t].add(first), term) };
        }
        from = from.wrapping_add(stream::GROUP * F::BLOCK_BYTES);
        at += stream::GROUP;
        while at >= period {
            at -= period;
        }
    }
}

/// The halves at four addresses `stride` bytes apart, as single precision.
///
/// # Safety
/// Two bytes are readable at each.
#[inline]
#[target_feature(enable = "f16c")]
pub(super) unsafe fn four_halves(from: *const u8, stride: usize) -> __m128 {
    // SAFETY: the caller's promise.
    let d = [0, 1, 2, 3].map(|r| unsafe { from.add(r * stride).cast::<i16>().read_unaligned() });
    _mm_cvtph_ps(_mm_setr_epi16(d[0], d[1], d[2], d[3], 0, 0, 0, 0))
}
