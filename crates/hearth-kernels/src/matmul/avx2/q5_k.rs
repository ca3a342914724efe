//! `Q5_K`.

use std::arch::x86_64::*;

use super::panel256::{Panel, Unpack};
use super::q4_k::{unpack_scales, words_of_scales};
use super::stream256::Stream;
use super::vec::{block16, block32, halves, store, store_ps, transpose4, transpose8};
use crate::quant::q5_k::BlockQ5K;

impl Unpack for BlockQ5K {
    const SUB: usize = 32;
    // 8 · 31 · 127 = 31496.
    const GROUP: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack<const VNNI: bool>(rows: [&Self; 8], panel: &mut Panel) {
        let [_, a, b, c] = transpose4(rows.map(|row| block16(row, 0)));
        unpack_scales(a, b, c, panel);
        store_ps(&mut panel.d, halves(rows.map(|row| row.d)));
        store_ps(&mut panel.dmin, halves(rows.map(|row| row.dmin)));
        let nibble = _mm256_set1_epi8(15);
        let fifth = _mm256_set1_epi8(16);
        // Bits 0 and 1 of every byte are the fifth bits of the two sub-blocks at hand.
        let mut high = transpose8(rows.map(|row| block32(row, 16)));
        for u in 0..4 {
            let quads = transpose8(rows.map(|row| block32(row, 48 + u * 32)));
            for (i, q) in quads.into_iter().enumerate() {
                let first = _mm256_and_si256(_mm256_slli_epi16::<4>(high[i]), fifth);
                let second = _mm256_and_si256(_mm256_slli_epi16::<3>(high[i]), fifth);
                high[i] = _mm256_srli_epi16::<2>(high[i]);
                let low = _mm256_and_si256(q, nibble);
                store(&mut panel.weights[u * 16 + i], _mm256_or_si256(low, first));
                let low = _mm256_and_si256(_mm256_srli_epi16::<4>(q), nibble);
                store(
                    &mut panel.weights[u * 16 + 8 + i],
                    _mm256_or_si256(low, second),
                );
            }
        }
    }
}

impl Stream for BlockQ5K {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> [__m256i; 8] {
        let nibble = _mm256_set1_epi8(15);
        let fifth = _mm256_set1_epi8(16);
        let mut high = block32(self, 16);
        let mut columns = [_mm256_setzero_si256(); 8];
        for u in 0..4 {
            let q = block32(self, 48 + u * 32);
            let first = _mm256_and_si256(_mm256_slli_epi16::<4>(high), fifth);
            let second = _mm256_and_si256(_mm256_slli_epi16::<3>(high), fifth);
            high = _mm256_srli_epi16::<2>(high);
            columns[2 * u] = _mm256_or_si256(_mm256_and_si256(q, nibble), first);
            let low = _mm256_and_si256(_mm256_srli_epi16::<4>(q), nibble);
            columns[2 * u + 1] = _mm256_or_si256(low, second);
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
