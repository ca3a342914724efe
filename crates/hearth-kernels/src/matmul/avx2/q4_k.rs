//! `Q4_K`.

use std::arch::x86_64::*;

use super::panel256::{Panel, Unpack};
use super::stream256::Stream;
use super::vec::{block16, block32, halves, store, transpose4, transpose8, widen_bytes};
use crate::quant::q4_k::BlockQ4K;

impl Unpack for BlockQ4K {
    const SUB: usize = 32;
    // 16 · 15 · 127 = 30480.
    const GROUP: usize = 8;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack<const VNNI: bool>(rows: [&Self; 8], panel: &mut Panel) {
        let [_, a, b, c] = transpose4(rows.map(|row| block16(row, 0)));
        unpack_scales(a, b, c, panel);
        super::vec::store_ps(&mut panel.d, halves(rows.map(|row| row.d)));
        super::vec::store_ps(&mut panel.dmin, halves(rows.map(|row| row.dmin)));
        let nibble = _mm256_set1_epi8(15);
        for u in 0..4 {
            let quads = transpose8(rows.map(|row| block32(row, 16 + u * 32)));
            for (i, q) in quads.into_iter().enumerate() {
                store(&mut panel.weights[u * 16 + i], _mm256_and_si256(q, nibble));
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(q), nibble);
                store(&mut panel.weights[u * 16 + 8 + i], high);
            }
        }
    }
}

/// Scales and minima of `Q4_K` and `Q5_K`; `a`, `b`, `c` are bytes 0–3, 4–7 and 8–11 of the twelve, a row per lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn unpack_scales(a: __m256i, b: __m256i, c: __m256i, panel: &mut Panel) {
    let six = _mm256_set1_epi8(63);
    let two = _mm256_set1_epi8(0x30);
    let nibble = _mm256_set1_epi8(15);
    let top = |low: __m256i, high: __m256i| {
        _mm256_or_si256(
            _mm256_and_si256(low, nibble),
            _mm256_and_si256(_mm256_srli_epi32::<2>(high), two),
        )
    };
    let scales = [_mm256_and_si256(a, six), top(c, a)];
    let mins = [_mm256_and_si256(b, six), top(_mm256_srli_epi32::<4>(c), b)];
    for j in 0..8 {
        let i = (j % 4) as i8;
        let twice = widen_bytes([i, i, i + 4, i + 4, i + 8, i + 8, i + 12, i + 12]);
        store(
            &mut panel.scales[j],
            _mm256_shuffle_epi8(scales[j / 4], twice),
        );
        store(&mut panel.mins[j], _mm256_shuffle_epi8(mins[j / 4], twice));
    }
}

impl Stream for BlockQ4K {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> [__m256i; 8] {
        let nibble = _mm256_set1_epi8(15);
        let mut columns = [_mm256_setzero_si256(); 8];
        for u in 0..4 {
            let q = block32(self, 16 + u * 32);
            columns[2 * u] = _mm256_and_si256(q, nibble);
            columns[2 * u + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(q), nibble);
        }
        columns
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn scales_and_mins(&self) -> (__m256i, __m256i) {
        words_of_scales(block16(self, 0))
    }

    fn d_and_dmin(&self) -> [[u8; 2]; 2] {
        [self.d, self.dmin]
    }
}

/// Scales and minima of `Q4_K` and `Q5_K` as words, each twice; `head` is the first 16 bytes of the block.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn words_of_scales(head: __m128i) -> (__m256i, __m256i) {
    // Dwords of the result: scales 0–3, scales 4–7, minima 0–3, minima 4–7. The head's dwords 1, 2 and 3 are the bytes
    // 0–3, 4–7 and 8–11 of the twelve.
    let low = _mm_srlv_epi32(
        _mm_shuffle_epi32::<0b11_10_11_01>(head),
        _mm_setr_epi32(0, 0, 0, 4),
    );
    let low = _mm_and_si128(
        low,
        _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f),
    );
    let top = _mm_srli_epi32::<2>(_mm_shuffle_epi32::<0b10_10_01_01>(head));
    let top = _mm_and_si128(top, _mm_setr_epi32(0, 0x3030_3030, 0, 0x3030_3030));
    let bytes = _mm_or_si128(low, top);
    let (scales, mins) = (
        _mm_unpacklo_epi8(bytes, bytes),
        _mm_unpackhi_epi8(bytes, bytes),
    );
    (_mm256_cvtepu8_epi16(scales), _mm256_cvtepu8_epi16(mins))
}
