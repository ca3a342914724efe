//! Sums of products for weights that need all eight bits: `vpmaddubsw` could saturate on them, so weights and
//! activations are widened to 16 bits and `vpmaddwd` adds pairs, exactly, into 32.

use std::arch::x86_64::*;

use super::vec::{load, store};

/// 32 activations of one token as words: first those of even index, then those of odd index. Pair i of either lies
/// inside quadruple i of the originals, and widening takes shifts only.
pub(super) type Wide = [[i16; 16]; 2];

/// 32 weights of eight rows as words: `[columns / 4][parity][row][2]`, bytes only for the sake of the panel.
pub(super) type WideWeights = [[u8; 32]; 16];

/// Bytes 128 too large, for the dot product that takes them unsigned.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn without_sign(bytes: __m256i) -> __m256i {
    _mm256_xor_si256(bytes, _mm256_set1_epi8(-128))
}

/// Bytes of even index and bytes of odd index, widened.
#[inline]
#[target_feature(enable = "avx2")]
fn split(bytes: __m256i) -> [__m256i; 2] {
    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
    [even, _mm256_srai_epi16::<8>(bytes)]
}

/// Widens 32 activations.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn widen(q: &[i8; 32]) -> Wide {
    let mut wide = [[0; 16]; 2];
    for (to, v) in wide.iter_mut().zip(split(load(q))) {
        store(to, v);
    }
    wide
}

/// Widens eight quadruples of eight rows into a panel.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn widen_weights(quads: [__m256i; 8], to: &mut WideWeights) {
    for (to, quad) in to.as_chunks_mut::<2>().0.iter_mut().zip(quads) {
        let [even, odd] = split(quad);
        store(&mut to[0], even);
        store(&mut to[1], odd);
    }
}

/// The dot products of 32 columns: `G` panels of eight rows by `N` tokens.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dots<const G: usize, const N: usize>(
    weights: [&WideWeights; G],
    acts: [&Wide; N],
) -> [[__m256i; N]; G] {
    let mut sums = [[_mm256_setzero_si256(); N]; G];
    for i in 0..8 {
        for parity in 0..2 {
            let w: [__m256i; G] = std::array::from_fn(|g| load(&weights[g][2 * i + parity]));
            for t in 0..N {
                let [a, b] = acts[t][parity].as_chunks::<2>().0[i];
                let x = _mm256_set1_epi32(i32::from(a as u16) | i32::from(b) << 16);
                for g in 0..G {
                    sums[g][t] = _mm256_add_epi32(sums[g][t], _mm256_madd_epi16(w[g], x));
                }
            }
        }
    }
    sums
}
