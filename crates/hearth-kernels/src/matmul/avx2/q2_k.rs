//! `Q2_K`.

use std::arch::x86_64::*;

use super::panel256::{Panel, Unpack, scales_per_16};
use super::stream256::Stream;
use super::vec::{block16, block32, halves, store, store_ps, transpose4, transpose8, widen_bytes};
use crate::quant::q2_k::BlockQ2K;

impl Unpack for BlockQ2K {
    const SUB: usize = 16;
    // 8 · 3 · 127 = 3048.
    const GROUP: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack<const VNNI: bool>(rows: [&Self; 8], panel: &mut Panel) {
        let nibble = _mm256_set1_epi8(15);
        let both = transpose4(rows.map(|row| block16(row, 0)));
        scales_per_16(both.map(|v| _mm256_and_si256(v, nibble)), panel);
        for (j, mins) in panel.mins.iter_mut().enumerate() {
            let v = _mm256_and_si256(_mm256_srli_epi16::<4>(both[j / 2]), nibble);
            let i = (j % 2) as i8 * 2;
            let pairs = widen_bytes([i, i + 1, i + 4, i + 5, i + 8, i + 9, i + 12, i + 13]);
            store(mins, _mm256_shuffle_epi8(v, pairs));
        }
        store_ps(&mut panel.d, halves(rows.map(|row| row.d)));
        store_ps(&mut panel.dmin, halves(rows.map(|row| row.dmin)));
        let two = _mm256_set1_epi8(3);
        for half in 0..2 {
            let mut quads = transpose8(rows.map(|row| block32(row, 16 + half * 32)));
            for s in 0..4 {
                for (i, q) in quads.iter_mut().enumerate() {
                    let to = &mut panel.weights[half * 32 + s * 8 + i];
                    store(to, _mm256_and_si256(*q, two));
                    *q = _mm256_srli_epi16::<2>(*q);
                }
            }
        }
    }
}

impl Stream for BlockQ2K {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> [__m256i; 8] {
        let mut columns = [_mm256_setzero_si256(); 8];
        for half in 0..2 {
            let mut q = block32(self, 16 + half * 32);
            for s in 0..4 {
                columns[half * 4 + s] = _mm256_and_si256(q, _mm256_set1_epi8(3));
                q = _mm256_srli_epi16::<2>(q);
            }
        }
        columns
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn scales_and_mins(&self) -> (__m256i, __m256i) {
        let both = _mm256_cvtepu8_epi16(block16(self, 0));
        (
            _mm256_and_si256(both, _mm256_set1_epi16(15)),
            _mm256_srli_epi16::<4>(both),
        )
    }

    fn d_and_dmin(&self) -> [[u8; 2]; 2] {
        [self.d, self.dmin]
    }
}
