//! Q6_K: 6-bit weights, sixteen sub-blocks of 16 with signed 8-bit scales.
//!
//! Block: 128 bytes of low nibbles, 64 bytes of high pairs of bits, 16 scales, d (half). Weights are stored 32 too large.

use std::arch::x86_64::*;

use super::ops::{halves_of_rows, or_masked, store, store_ps, transpose_16x16, transpose_16x32};
use super::sixteen256::{Sixteenths, store_pairs};
use super::tile256::Panel256;
use crate::activation::A256Block;

const HIGH_BITS: usize = 128;
const SCALES: usize = 192;

pub(super) struct Q6K;

impl Sixteenths for Q6K {
    const BLOCK_BYTES: usize = 210;
    const FITS: u32 = A256Block::FITS_Q6;
    const D: usize = 208;

    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
        // SAFETY: scales and d lie inside the block.
        unsafe {
            store_pairs(
                transpose_16x16(from.add(SCALES), row_bytes),
                &mut panel.scales,
            );
            store_ps(&mut panel.d, halves_of_rows(from.add(Self::D), row_bytes));
        }
        let (low4, top2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        for (n, w) in panel.w.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            // SAFETY: bytes 0..192 of each block.
            let (a, b, h) = unsafe {
                (
                    transpose_16x32(from.add(n * 64), row_bytes),
                    transpose_16x32(from.add(n * 64 + 32), row_bytes),
                    transpose_16x32(from.add(HIGH_BITS + n * 32), row_bytes),
                )
            };
            for i in 0..8 {
                let (a_high, b_high) = (_mm512_srli_epi16::<4>(a[i]), _mm512_srli_epi16::<4>(b[i]));
                store(
                    &mut w[i],
                    or_masked(
                        _mm512_and_si512(a[i], low4),
                        _mm512_slli_epi16::<4>(h[i]),
                        top2,
                    ),
                );
                store(
                    &mut w[8 + i],
                    or_masked(
                        _mm512_and_si512(b[i], low4),
                        _mm512_slli_epi16::<2>(h[i]),
                        top2,
                    ),
                );
                store(
                    &mut w[16 + i],
                    or_masked(_mm512_and_si512(a_high, low4), h[i], top2),
                );
                store(
                    &mut w[24 + i],
                    or_masked(
                        _mm512_and_si512(b_high, low4),
                        _mm512_srli_epi16::<2>(h[i]),
                        top2,
                    ),
                );
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn weights(block: *const u8) -> [__m512i; 4] {
        let (low4, top2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        // The pairs of bits of 128 weights come from 32 bytes; rotation brings each half's pair to bits 4 and 5.
        let for_low = _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2);
        let for_high = _mm512_setr_epi64(0, 0, 0, 0, 62, 62, 62, 62);
        let half = |n: usize| {
            // SAFETY: bytes 0..192 of the block.
            let (l, h) = unsafe {
                (
                    _mm512_loadu_si512(block.add(n * 64).cast()),
                    _mm512_broadcast_i64x4(_mm256_loadu_si256(
                        block.add(HIGH_BITS + n * 32).cast(),
                    )),
                )
            };
            let l_high = _mm512_srli_epi16::<4>(l);
            [
                or_masked(
                    _mm512_and_si512(l, low4),
                    _mm512_rolv_epi64(h, for_low),
                    top2,
                ),
                or_masked(
                    _mm512_and_si512(l_high, low4),
                    _mm512_rolv_epi64(h, for_high),
                    top2,
                ),
            ]
        };
        let ([w0, w1], [w2, w3]) = (half(0), half(1));
        [w0, w1, w2, w3]
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f")]
    unsafe fn scales_and_mins(block: *const u8) -> (__m256i, __m256i) {
        // SAFETY: the scales lie inside the block.
        let scales = unsafe { _mm_loadu_si128(block.add(SCALES).cast()) };
        (_mm256_cvtepi8_epi16(scales), _mm256_setzero_si256())
    }
}
