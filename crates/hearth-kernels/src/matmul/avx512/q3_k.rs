//! Q3_K: 3-bit weights, sixteen sub-blocks of 16 with 6-bit scales.
//!
//! Block: 32 bytes of third bits (bit j of byte l: weight 32j + l), 64 bytes of low bits as in Q2_K, 12 bytes of scales, 32 too
//! large, d (half). Weights are stored 4 too large.

use std::arch::x86_64::*;

use super::ops::{or_masked, store, store_ps, transpose_16x16, transpose_16x32};
use super::sixteen256::{Sixteenths, store_pairs};
use super::tile256::Panel256;
use crate::activation::A256Block;

const LOW_BITS: usize = 32;
const SCALES: usize = 96;
/// The last 16 bytes of the block: two of the low bits, the scales, d.
const TAIL: usize = 94;

pub(super) struct Q3K;

/// Weights times eight. The low bits of a byte go from 2s to 3, its third bit from j to 5: no bit leaves its byte that the masks
/// do not drop.
#[inline]
#[target_feature(enable = "avx512f")]
fn eightfold(low: __m512i, s: __m512i, third: __m512i, j: __m512i) -> __m512i {
    let low = _mm512_rolv_epi64(low, _mm512_sub_epi64(_mm512_set1_epi64(3), s));
    let third = _mm512_rolv_epi64(third, _mm512_sub_epi64(_mm512_set1_epi64(5), j));
    let low = _mm512_and_si512(low, _mm512_set1_epi8(0x18));
    or_masked(low, third, _mm512_set1_epi8(0x20))
}

impl Sixteenths for Q3K {
    const BLOCK_BYTES: usize = 110;
    const FITS: u32 = A256Block::FITS_Q6;
    const D: usize = 108;
    const D_FACTOR: f32 = 0.125;

    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2")]
    unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
        // SAFETY: the tail and the third bits of each block.
        let (tail, third) = unsafe {
            (
                transpose_16x16(from.add(TAIL), row_bytes),
                transpose_16x32(from, row_bytes),
            )
        };
        let [a, b, high] = [0, 1, 2].map(|i| _mm512_shrdi_epi32::<16>(tail[i], tail[i + 1]));
        let (low4, top2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        let scale = |low, high| {
            let both = or_masked(_mm512_and_si512(low, low4), high, top2);
            _mm512_sub_epi8(both, _mm512_set1_epi8(32))
        };
        let scales = [
            scale(a, _mm512_slli_epi16::<4>(high)),
            scale(b, _mm512_slli_epi16::<2>(high)),
            scale(_mm512_srli_epi16::<4>(a), high),
            scale(_mm512_srli_epi16::<4>(b), _mm512_srli_epi16::<2>(high)),
        ];
        store_pairs(scales, &mut panel.scales);
        let d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(tail[3])));
        store_ps(
            &mut panel.d,
            _mm512_mul_ps(d, _mm512_set1_ps(Self::D_FACTOR)),
        );
        for (j, w) in panel.w.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let (s, j64) = (j as i64 % 4 * 2, j as i64);
            // SAFETY: bytes 32..96 of each block.
            let low = unsafe { transpose_16x32(from.add(LOW_BITS + j / 4 * 32), row_bytes) };
            for i in 0..8 {
                let (s, j) = (_mm512_set1_epi64(s), _mm512_set1_epi64(j64));
                store(&mut w[i], eightfold(low[i], s, third[i], j));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn weights(block: *const u8) -> [__m512i; 4] {
        let twice = |at: usize| {
            // SAFETY: bytes 0..96 of the block.
            _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(block.add(at).cast()) })
        };
        let third = twice(0);
        std::array::from_fn(|i| {
            let by = |a: i64, b: i64| _mm512_setr_epi64(a, a, a, a, b, b, b, b);
            let j = 2 * i as i64;
            let s = j % 4 * 2;
            eightfold(
                twice(LOW_BITS + i / 2 * 32),
                by(s, s + 2),
                third,
                by(j, j + 1),
            )
        })
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f")]
    unsafe fn scales_and_mins(block: *const u8) -> (__m256i, __m256i) {
        // SAFETY: the block ends 14 bytes after the scales begin; two more bytes in front make a register.
        let tail = unsafe { _mm_loadu_si128(block.add(TAIL).cast()) };
        let packed = _mm_srli_si128::<{ (SCALES - TAIL) as i32 }>(tail);
        // Dwords of the result: scales 0–3, 4–7, 8–11, 12–15.
        let low = _mm_srlv_epi32(
            _mm_shuffle_epi32::<0b01_00_01_00>(packed),
            _mm_setr_epi32(0, 0, 4, 4),
        );
        let high = _mm_sllv_epi32(
            _mm_shuffle_epi32::<0b10_10_10_10>(packed),
            _mm_setr_epi32(4, 2, 0, 0),
        );
        let high = _mm_srlv_epi32(high, _mm_setr_epi32(0, 0, 0, 2));
        let six = _mm_or_si128(
            _mm_and_si128(low, _mm_set1_epi8(15)),
            _mm_and_si128(high, _mm_set1_epi8(0x30)),
        );
        let scales = _mm256_sub_epi16(_mm256_cvtepu8_epi16(six), _mm256_set1_epi16(32));
        (scales, _mm256_setzero_si256())
    }
}
