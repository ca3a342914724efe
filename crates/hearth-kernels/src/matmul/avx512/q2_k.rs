//! Q2_K: 2-bit weights, sixteen sub-blocks of 16 with 4-bit scales and minimums.
//!
//! Block: 16 bytes with a scale (low) and a minimum (high), 64 bytes of weights (of each 128, weight 32s + l in bits 2s of
//! byte l), d, dmin (halves).

use std::arch::x86_64::*;

use super::ops::{halves_of_rows, store, store_ps, transpose_16x16, transpose_16x32};
use super::sixteen256::{Sixteenths, store_pairs};
use super::tile256::Panel256;

const WEIGHTS: usize = 16;
const D: usize = 80;
const DMIN: usize = 82;

pub(super) struct Q2K;

/// The lowest two bits of each byte, and 32.
#[inline]
#[target_feature(enable = "avx512f")]
fn two_bits(v: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xea>(v, _mm512_set1_epi8(3), _mm512_set1_epi8(32))
}

impl Sixteenths for Q2K {
    const BLOCK_BYTES: usize = 84;
    // Sums of 16 products with weights in 0..=3 always fit 16 bits.
    const FITS: u32 = 0;
    const D: usize = D;
    const DMIN: Option<usize> = Some(DMIN);

    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
        let low4 = _mm512_set1_epi8(15);
        // SAFETY: all of them lie inside the block.
        let both = unsafe {
            store_ps(&mut panel.d, halves_of_rows(from.add(D), row_bytes));
            store_ps(&mut panel.dmin, halves_of_rows(from.add(DMIN), row_bytes));
            transpose_16x16(from, row_bytes)
        };
        let scales = both.map(|v| _mm512_and_si512(v, low4));
        let mins = both.map(|v| _mm512_and_si512(_mm512_srli_epi16::<4>(v), low4));
        store_pairs(scales, &mut panel.scales);
        store_pairs(mins, &mut panel.mins);
        for (n, w) in panel.w.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            // SAFETY: bytes 16..80 of each block.
            let mut q = unsafe { transpose_16x32(from.add(WEIGHTS + n * 32), row_bytes) };
            for w in w.as_chunks_mut::<8>().0 {
                for i in 0..8 {
                    store(&mut w[i], two_bits(q[i]));
                    q[i] = _mm512_srli_epi16::<2>(q[i]);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn weights(block: *const u8) -> [__m512i; 4] {
        std::array::from_fn(|i| {
            // SAFETY: bytes 16..80 of the block.
            let q = unsafe { _mm256_loadu_si256(block.add(WEIGHTS + i / 2 * 32).cast()) };
            let (a, b) = if i % 2 == 0 { (0, 2) } else { (4, 6) };
            let by = _mm512_setr_epi64(a, a, a, a, b, b, b, b);
            two_bits(_mm512_srlv_epi64(_mm512_broadcast_i64x4(q), by))
        })
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f")]
    unsafe fn scales_and_mins(block: *const u8) -> (__m256i, __m256i) {
        // SAFETY: the first 16 bytes of the block.
        let both = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(block.cast()) });
        (
            _mm256_and_si256(both, _mm256_set1_epi16(15)),
            _mm256_srli_epi16::<4>(both),
        )
    }
}
