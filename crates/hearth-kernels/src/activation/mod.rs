//! Activations in 8 bits: the two canonical formats that quantised products read, and the batch that holds them.
//!
//! The formats are part of the numerics (`docs/numerics.md`): their scalar functions define every bit, and each level's own
//! version must give the same. What a level derives from them for its convenience is not.

pub(crate) mod a256;
pub(crate) mod a32;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod stream;

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

use crate::cpu::Isa;
use crate::matmul::float;

pub(crate) use a32::A32Block;
pub(crate) use a256::A256Block;
#[cfg(target_arch = "x86_64")]
pub(crate) use stream::{Stream32, Stream256, StreamToken, StreamUnit};

/// Below this a block's largest magnitude counts as zero, in both formats: 2^-100. It keeps the reciprocal and the step normal.
pub(crate) const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// Activations of one matmul call, in every format that one of its weights needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActBatch<'a> {
    pub n_tokens: usize,
    pub n_cols: usize,
    /// `[n_tokens, n_cols]`, as given.
    pub input: &'a [f32],
    /// `[n_cols / 32, n_tokens]`, or empty.
    pub a32: &'a [A32Block],
    /// `[n_cols / 256, n_tokens]`, or empty.
    pub a256: &'a [A256Block],
    /// The input in the order of the kernels for float weights, see [`float::pack`]; empty where there are few tokens.
    pub floats: &'a [float::Line],
    /// The A256 activations for streaming, where the level streams so few tokens.
    #[cfg(target_arch = "x86_64")]
    pub stream256: Option<&'a Stream256>,
    /// The same for A32.
    #[cfg(target_arch = "x86_64")]
    pub stream32: Option<&'a Stream32>,
}

impl<'a> ActBatch<'a> {
    /// Input row of a token.
    pub fn row(&self, token: usize) -> &'a [f32] {
        &self.input[token * self.n_cols..][..self.n_cols]
    }

    /// 32 activations of a token.
    pub fn a32(&self, block: usize, token: usize) -> &'a A32Block {
        &self.a32[block * self.n_tokens + token]
    }

    /// 256 activations of some tokens.
    #[cfg(target_arch = "x86_64")]
    pub fn a256_of(&self, block: usize, tokens: Range<usize>) -> &'a [A256Block] {
        &self.a256[block * self.n_tokens..][tokens]
    }

    /// Whether all tokens have the flags in this super-block.
    #[cfg(target_arch = "x86_64")]
    pub fn all_fit(&self, block: usize, tokens: Range<usize>, flags: u32) -> bool {
        self.a256_of(block, tokens)
            .iter()
            .all(|act| act.fits & flags == flags)
    }

    /// 256 activations of a token.
    pub fn a256(&self, block: usize, token: usize) -> &'a A256Block {
        &self.a256[block * self.n_tokens + token]
    }
}

/// Whether every activation is a finite number; a row with another one has the canonical NaN as all its products.
pub(crate) fn is_finite(row: &[f32]) -> bool {
    // An exponent of all ones carries into the sign bit: three plain operations that every compiler vectorises.
    let carry = |x: &f32| (x.to_bits() & 0x7f80_0000) + 0x0080_0000;
    row.iter().fold(0, |any, x| any | carry(x)) >> 31 == 0
}

/// 32 activations in A32, at a level.
pub(crate) fn quantize_a32(isa: Isa, x: &[f32; 32]) -> A32Block {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::quantize_a32(token, x),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx2::quantize_a32(token.avx2(), x),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(token) => neon::quantize_a32(token, x),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(token) => neon::quantize_a32(token.neon(), x),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(token) => neon::quantize_a32(token.neon(), x),
        _ => A32Block::quantize(x),
    }
}

/// 256 activations in A256, at a level.
pub(crate) fn quantize_a256(isa: Isa, x: &[f32; 256], block: &mut A256Block) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::quantize_a256(token, x, block),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx512::quantize_a256(token, x, block),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(token) => neon::quantize_a256(token, x, block),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(token) => neon::quantize_a256(token.neon(), x, block),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(token) => neon::quantize_a256(token.neon(), x, block),
        _ => *block = A256Block::quantize(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    /// Inputs at the borders of what the formats distinguish: exponents, ties, the smallest and largest magnitudes.
    fn inputs() -> Vec<[f32; 256]> {
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let mut all = Vec::new();
        for magnitude in [
            0.0,
            1e-44,
            TINY.next_down(),
            TINY,
            1e-20,
            1.0,
            12345.678,
            1e30,
            f32::MAX,
        ] {
            for shape in 0..6 {
                all.push(std::array::from_fn(|k| {
                    let u: f32 = random();
                    let run = (k / 32) as i32;
                    magnitude
                        * match shape {
                            0 => u,
                            1 => u * u * u * u * u,
                            2 => 1f32.copysign(u),
                            3 => u * 0.5f32.powi(run),
                            // Exactly at the borders of the exponents, and just beside them.
                            4 if k % 32 == 0 => 0.5f32.powi(run),
                            4 => 0.5f32.powi(run) * 0.999_999_94 * u,
                            // Halves of steps: ties.
                            _ => {
                                (u * 127.0).round() / 127.0 + if k == 0 { 1.0 } else { 0.5 / 127.0 }
                            }
                        }
                        .clamp(-1.0, 1.0)
                }));
            }
        }
        all
    }

    #[test]
    fn every_level_quantises_alike() {
        for level in Level::available() {
            let isa = Isa::new(level).expect("available");
            for (i, x) in inputs().iter().enumerate() {
                let mut block = A256Block {
                    fits: 99,
                    ..A256Block::ZERO
                };
                quantize_a256(isa, x, &mut block);
                assert_eq!(block, A256Block::quantize(x), "{level} A256 input {i}");
                for x in x.as_chunks().0 {
                    assert_eq!(
                        quantize_a32(isa, x),
                        A32Block::quantize(x),
                        "{level} A32 input {i}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_value_that_is_not_finite_spoils_a_row() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, 99] {
                let mut row = [f32::MAX; 100];
                assert!(is_finite(&row));
                row[at] = bad;
                assert!(!is_finite(&row), "{bad} at {at}");
            }
        }
    }
}
