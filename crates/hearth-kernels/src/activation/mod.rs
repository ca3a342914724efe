//! Activations in 8 bits: the two canonical formats that quantised products read, and the batch that holds them.
//!
//! The formats are part of the numerics (`docs/numerics.md`): their scalar functions define every bit, and each level's own
//! version must give the same. What a level derives from them for its convenience is not.

pub(crate) mod a256;
pub(crate) mod a32;

pub(crate) use a32::A32Block;
pub(crate) use a256::A256Block;

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

    /// 256 activations of a token.
    pub fn a256(&self, block: usize, token: usize) -> &'a A256Block {
        &self.a256[block * self.n_tokens + token]
    }
}

/// Whether every activation is a finite number; a row with another one has the canonical NaN as all its products.
pub(crate) fn is_finite(row: &[f32]) -> bool {
    // Exponent of all ones, without a branch per element.
    row.iter()
        .fold(0, |worst, x| (x.to_bits() & 0x7f80_0000).max(worst))
        != 0x7f80_0000
}
