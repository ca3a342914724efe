//! `Q6_K`.

use std::arch::x86_64::*;

use super::panel256::{Panel, Unpack, scales_as_mins, scales_per_16};
use super::stream256::Stream;
use super::vec::{block16, block32, halves, store, store_ps, transpose4, transpose8};
use crate::quant::q6_k::BlockQ6K;

impl Unpack for BlockQ6K {
    const SUB: usize = 16;
    // 4 · 63 · 127 = 32004.
    const GROUP: usize = 2;
    const OFFSET_LOG2: Option<i32> = Some(5);

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack<const VNNI: bool>(rows: [&Self; 8], panel: &mut Panel) {
        scales_per_16(transpose4(rows.map(|row| block16(row, 192))), panel);
        scales_as_mins(panel);
        store_ps(&mut panel.d, halves(rows.map(|row| row.d)));
        let nibble = _mm256_set1_epi8(15);
        let two = _mm256_set1_epi8(0x30);
        for half in 0..2 {
            let high = transpose8(rows.map(|row| block32(row, 128 + half * 32)));
            for c in 0..2 {
                let low = transpose8(rows.map(|row| block32(row, half * 64 + c * 32)));
                for (i, (low, high)) in low.into_iter().zip(high).enumerate() {
                    // Bits 2c and 2c + 4 of the high bytes move to bit 4.
                    let (first, second) = if c == 0 {
                        (_mm256_slli_epi16::<4>(high), high)
                    } else {
                        (_mm256_slli_epi16::<2>(high), _mm256_srli_epi16::<2>(high))
                    };
                    let at = half * 32 + c * 8 + i;
                    let six = |low, high| {
                        _mm256_or_si256(_mm256_and_si256(low, nibble), _mm256_and_si256(high, two))
                    };
                    store(&mut panel.weights[at], six(low, first));
                    store(
                        &mut panel.weights[at + 16],
                        six(_mm256_srli_epi16::<4>(low), second),
                    );
                }
            }
        }
    }
}

impl Stream for BlockQ6K {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> [__m256i; 8] {
        let nibble = _mm256_set1_epi8(15);
        let two = _mm256_set1_epi8(0x30);
        let six =
            |low, high| _mm256_or_si256(_mm256_and_si256(low, nibble), _mm256_and_si256(high, two));
        let mut columns = [_mm256_setzero_si256(); 8];
        for half in 0..2 {
            let (a, b) = (block32(self, half * 64), block32(self, half * 64 + 32));
            let high = block32(self, 128 + half * 32);
            columns[half * 4] = six(a, _mm256_slli_epi16::<4>(high));
            columns[half * 4 + 1] = six(b, _mm256_slli_epi16::<2>(high));
            columns[half * 4 + 2] = six(_mm256_srli_epi16::<4>(a), high);
            columns[half * 4 + 3] = six(_mm256_srli_epi16::<4>(b), _mm256_srli_epi16::<2>(high));
        }
        columns
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn scales_and_mins(&self) -> (__m256i, __m256i) {
        (
            _mm256_cvtepi8_epi16(block16(self, 192)),
            _mm256_setzero_si256(),
        )
    }

    fn d_and_dmin(&self) -> [[u8; 2]; 2] {
        [self.d; 2]
    }
}
