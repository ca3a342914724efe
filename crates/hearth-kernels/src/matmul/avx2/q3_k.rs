//! `Q3_K`.

use std::arch::x86_64::*;

use super::panel256::{Panel, Unpack, scales_as_mins, scales_per_16};
use super::stream256::Stream;
use super::vec::{block16, block32, halves, store, store_ps, transpose4, transpose8};
use crate::quant::q3_k::BlockQ3K;

impl Unpack for BlockQ3K {
    const SUB: usize = 16;
    // 8 · 7 · 127 = 7112.
    const GROUP: usize = 4;
    const OFFSET_LOG2: Option<i32> = Some(2);

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack<const VNNI: bool>(rows: [&Self; 8], panel: &mut Panel) {
        scales_per_16(unpack_scales(rows), panel);
        scales_as_mins(panel);
        store_ps(&mut panel.d, halves(rows.map(|row| row.d)));
        let two = _mm256_set1_epi8(3);
        let third = _mm256_set1_epi8(4);
        // Bit 0 of every byte is the third bit of the sub-block at hand.
        let mut high = transpose8(rows.map(|row| block32(row, 0)));
        for half in 0..2 {
            let mut quads = transpose8(rows.map(|row| block32(row, 32 + half * 32)));
            for s in 0..4 {
                for i in 0..8 {
                    let bit = _mm256_and_si256(_mm256_slli_epi16::<2>(high[i]), third);
                    let low = _mm256_and_si256(quads[i], two);
                    store(
                        &mut panel.weights[half * 32 + s * 8 + i],
                        _mm256_or_si256(low, bit),
                    );
                    high[i] = _mm256_srli_epi16::<1>(high[i]);
                    quads[i] = _mm256_srli_epi16::<2>(quads[i]);
                }
            }
        }
    }
}

/// The scales, four per result, less 32.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack_scales(rows: [&BlockQ3K; 8]) -> [__m256i; 4] {
    // The last 16 bytes of the block begin two bytes before the scales.
    let scales = rows.map(|row| _mm_srli_si128::<2>(block16(row, 94)));
    let [a, b, high, _] = transpose4(scales);
    let nibble = _mm256_set1_epi8(15);
    let two = _mm256_set1_epi8(0x30);
    let join = |low: __m256i, high: __m256i| {
        let both = _mm256_or_si256(_mm256_and_si256(low, nibble), _mm256_and_si256(high, two));
        _mm256_sub_epi8(both, _mm256_set1_epi8(32))
    };
    [
        join(a, _mm256_slli_epi16::<4>(high)),
        join(b, _mm256_slli_epi16::<2>(high)),
        join(_mm256_srli_epi16::<4>(a), high),
        join(_mm256_srli_epi16::<4>(b), _mm256_srli_epi16::<2>(high)),
    ]
}

impl Stream for BlockQ3K {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> [__m256i; 8] {
        let mut high = block32(self, 0);
        let mut columns = [_mm256_setzero_si256(); 8];
        for half in 0..2 {
            let mut q = block32(self, 32 + half * 32);
            for s in 0..4 {
                let bit = _mm256_and_si256(_mm256_slli_epi16::<2>(high), _mm256_set1_epi8(4));
                let low = _mm256_and_si256(q, _mm256_set1_epi8(3));
                columns[half * 4 + s] = _mm256_or_si256(low, bit);
                high = _mm256_srli_epi16::<1>(high);
                q = _mm256_srli_epi16::<2>(q);
            }
        }
        columns
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn scales_and_mins(&self) -> (__m256i, __m256i) {
        let packed = _mm_srli_si128::<2>(block16(self, 94));
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

    fn d_and_dmin(&self) -> [[u8; 2]; 2] {
        [self.d; 2]
    }
}
