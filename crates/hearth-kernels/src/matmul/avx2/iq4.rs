//! `IQ4_NL` and `IQ4_XS`: nibbles that are indices into a table of signed bytes.

use std::arch::x86_64::*;

use super::panel32::Unpack32;
use super::panel256::{Panel, Unpack};
use super::signed::{widen_weights, without_sign};
use super::stream32::Stream32;
use super::stream256::Stream;
use super::vec::{block16, halves, nibble_columns, nibble_quads, store, store_ps, table};
use crate::quant::iq4_nl::{BlockIQ4NL, VALUES};
use crate::quant::iq4_xs::BlockIQ4XS;

impl Unpack32 for BlockIQ4NL {
    const SIGNED: bool = true;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn quads(rows: [&Self; 8]) -> [__m256i; 8] {
        let values = table(&VALUES);
        nibble_quads(rows.map(|row| block16(row, 2))).map(|q| _mm256_shuffle_epi8(values, q))
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn scales(rows: [&Self; 8]) -> __m256 {
        halves(rows.map(|row| row.d))
    }
}

impl Unpack for BlockIQ4XS {
    const SUB: usize = 32;
    const SIGNED: bool = true;
    // Not used: signed weights do not go through words.
    const GROUP: usize = 8;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack<const VNNI: bool>(rows: [&Self; 8], panel: &mut Panel) {
        let values = table(&VALUES);
        store_ps(&mut panel.d, halves(rows.map(|row| row.d)));
        let high: [i32; 8] = rows.map(|row| u16::from_le_bytes(row.scales_h).into());
        let low: [i32; 8] = rows.map(|row| i32::from_le_bytes(row.scales_l));
        let (mut high, mut low) = (super::vec::load(&high), super::vec::load(&low));
        for j in 0..8 {
            let scale = _mm256_or_si256(
                _mm256_and_si256(low, _mm256_set1_epi32(15)),
                _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3))),
            );
            let scale = _mm256_sub_epi32(scale, _mm256_set1_epi32(32));
            let twice = _mm256_blend_epi16::<0xaa>(scale, _mm256_slli_epi32::<16>(scale));
            store(&mut panel.scales[j], if VNNI { twice } else { scale });
            store(&mut panel.mins[j], twice);
            low = _mm256_srli_epi32::<4>(low);
            high = _mm256_srli_epi32::<2>(high);
            let quads = nibble_quads(rows.map(|row| block16(row, 8 + j * 16)));
            let quads = quads.map(|q| _mm256_shuffle_epi8(values, q));
            if VNNI {
                for (i, quad) in quads.into_iter().enumerate() {
                    store(&mut panel.weights[j * 8 + i], without_sign(quad));
                }
            } else {
                let weights = &mut panel.weights.as_chunks_mut::<16>().0[j];
                widen_weights(quads, weights);
            }
        }
    }
}

impl Stream32 for BlockIQ4NL {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> __m256i {
        _mm256_shuffle_epi8(table(&VALUES), nibble_columns(block16(self, 2)))
    }
}

impl Stream for BlockIQ4XS {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> [__m256i; 8] {
        let values = table(&VALUES);
        std::array::from_fn(|j| {
            _mm256_shuffle_epi8(values, nibble_columns(block16(self, 8 + j * 16)))
        })
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn scales_and_mins(&self) -> (__m256i, __m256i) {
        let low = _mm256_set1_epi32(i32::from_le_bytes(self.scales_l));
        let high = _mm256_set1_epi32(u16::from_le_bytes(self.scales_h).into());
        let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let scale = _mm256_or_si256(
            _mm256_and_si256(low, _mm256_set1_epi32(15)),
            _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3))),
        );
        let scale = _mm256_sub_epi32(scale, _mm256_set1_epi32(32));
        let twice = _mm256_blend_epi16::<0xaa>(scale, _mm256_slli_epi32::<16>(scale));
        (twice, _mm256_setzero_si256())
    }

    fn d_and_dmin(&self) -> [[u8; 2]; 2] {
        [self.d; 2]
    }
}
