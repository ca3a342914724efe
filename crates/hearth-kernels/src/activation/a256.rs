//! A256: 8-bit activations with one base per 256 and a power of two per 32, for weight formats with super-blocks of 256.
//!
//! The exponents keep the sums of a super-block in integers: a kernel shifts the weights' own small scales left by `e`, and
//! everything up to one conversion per super-block is exact.

use super::TINY;

/// 256 activations of one token.
///
/// Beside the format itself (`q`, `base`, `e`) it holds what kernels would otherwise compute once per row of weights.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct A256Block {
    /// Activation k ≈ `q[k] * base * 2^e[k / 32]`.
    pub q: [i8; 256],
    /// `-32 * sum16[j]`: where sums of 16 products with weights that are 32 too large start.
    pub start6: [i32; 16],
    /// Sums of 32 as 16-bit pairs: sub-block `2p + 1` in the low half, `2p` in the high half.
    pub pair_sum: [i32; 4],
    /// Exponents as 16-bit pairs in the same order.
    pub pair_e: [i32; 4],
    pub base: f32,
    /// [`A256Block::FITS_Q4`] and its sisters.
    pub fits: u32,
    /// Exponents, 0 to 4.
    pub e: [u8; 8],
    /// Sums of 32, in order.
    pub sum32: [i16; 8],
    /// Exponent of each 32 in both halves of a word.
    pub twin_e: [i32; 8],
    /// Sums of 16, in order.
    pub sum16: [i16; 16],
}

impl A256Block {
    /// Sums of 32 products with weights in 0..=15 fit 16 bits.
    pub const FITS_Q4: u32 = 1;
    /// Sums of 32 products with weights in -16..=15 fit 16 bits.
    pub const FITS_Q5: u32 = 2;
    /// Sums of 16 products with weights in -32..=31 fit 16 bits.
    pub const FITS_Q6: u32 = 4;
    /// Largest Σ|q| over 32 for [`Self::FITS_Q4`]: 15 · 2184 ≤ 32767.
    pub const MAX_Q4: i32 = 2184;
    /// Largest Σ|q| over 32 for [`Self::FITS_Q5`]: 16 · 2047 ≤ 32767.
    pub const MAX_Q5: i32 = 2047;
    /// Largest Σ|q| over 16 for [`Self::FITS_Q6`]: 32 · 1023 ≤ 32767.
    pub const MAX_Q6: i32 = 1023;

    /// What zeros quantise to.
    pub const ZERO: A256Block = A256Block {
        q: [0; 256],
        start6: [0; 16],
        pair_sum: [0; 4],
        pair_e: [0; 4],
        base: 0.0,
        fits: Self::FITS_Q4 | Self::FITS_Q5 | Self::FITS_Q6,
        e: [0; 8],
        sum32: [0; 8],
        twin_e: [0; 8],
        sum16: [0; 16],
    };

    /// 2^-e.
    pub const SHRINK: [f32; 5] = [1.0, 0.5, 0.25, 0.125, 0.0625];

    /// The definition of the format. `x` is finite.
    pub fn quantize(x: &[f32; 256]) -> A256Block {
        let magnitude = |x: &[f32]| x.iter().fold(0f32, |m, v| m.max(v.abs()));
        let amax = magnitude(x);
        if amax < TINY {
            return A256Block::ZERO;
        }
        let base = amax / 2032.0;
        let mut block = A256Block {
            base,
            ..A256Block::ZERO
        };
        let mut magnitude16 = [0i32; 16];
        for (j, x) in x.as_chunks::<32>().0.iter().enumerate() {
            let e = A256Block::exponent(magnitude(x), 127.0 * base);
            // The factors are normal and one is a power of two: the product is exact, one rounding is left per activation.
            let scale = 2032.0 / amax * A256Block::SHRINK[usize::from(e)];
            block.e[j] = e;
            let q = x.map(|v| (v * scale).round_ties_even().clamp(-127.0, 127.0) as i8);
            block.q.as_chunks_mut::<32>().0[j] = q;
            for (i, q) in q.as_chunks::<16>().0.iter().enumerate() {
                block.sum16[2 * j + i] = q.iter().map(|&v| i16::from(v)).sum();
                magnitude16[2 * j + i] = q.iter().map(|&v| i32::from(v).abs()).sum();
            }
        }
        block.derive(&magnitude16);
        block
    }

    /// The smallest power of two in 0..=3 that covers `magnitude`, else 4, which always does: `limit` is a sixteenth of the
    /// largest magnitude of the 256.
    pub fn exponent(magnitude: f32, limit: f32) -> u8 {
        let covers = |e: &u8| magnitude <= limit * f32::from(1u8 << e);
        (0..4).find(covers).unwrap_or(4)
    }

    /// Fills everything that follows from `e`, `sum16` and the sums of magnitudes of each 16.
    pub fn derive(&mut self, magnitude16: &[i32; 16]) {
        let pair = |odd: i32, even: i32| (odd & 0xffff) | (even << 16);
        for j in 0..16 {
            self.start6[j] = -32 * i32::from(self.sum16[j]);
        }
        for j in 0..8 {
            self.sum32[j] = self.sum16[2 * j] + self.sum16[2 * j + 1];
            let e = i32::from(self.e[j]);
            self.twin_e[j] = pair(e, e);
        }
        for p in 0..4 {
            self.pair_sum[p] = pair(self.sum32[2 * p + 1].into(), self.sum32[2 * p].into());
            self.pair_e[p] = pair(self.e[2 * p + 1].into(), self.e[2 * p].into());
        }
        let most32 = magnitude16
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[a, b]| a + b)
            .max()
            .unwrap_or(0);
        let most16 = magnitude16.iter().copied().max().unwrap_or(0);
        self.fits = u32::from(most32 <= Self::MAX_Q4) * Self::FITS_Q4
            + u32::from(most32 <= Self::MAX_Q5) * Self::FITS_Q5
            + u32::from(most16 <= Self::MAX_Q6) * Self::FITS_Q6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_has_no_padding() {
        assert_eq!(size_of::<A256Block>(), 448);
    }

    #[test]
    fn each_32_has_the_smallest_exponent_that_covers_it() {
        // Largest magnitudes of the eight runs, as fractions of the largest of all.
        let fractions = [1.0, 0.51, 0.499, 0.24, 0.12, 0.06, 0.01, 0.0];
        let x: [f32; 256] = std::array::from_fn(|k| {
            if k % 32 == 7 {
                -3.5 * fractions[k / 32]
            } else {
                0.0
            }
        });
        let block = A256Block::quantize(&x);
        assert_eq!(block.e, [4, 4, 3, 2, 1, 0, 0, 0]);
        assert_eq!(block.q[7], -127);
        for (k, x) in x.into_iter().enumerate() {
            let step = block.base * f32::from(1u8 << block.e[k / 32]);
            let value = f32::from(block.q[k]) * step;
            assert!((value - x).abs() <= 0.5001 * step, "{k}: {value} for {x}");
        }
    }

    #[test]
    fn magnitudes_below_two_to_the_minus_100_are_zero() {
        let mut x = [0f32; 256];
        x[3] = TINY.next_down();
        assert_eq!(A256Block::quantize(&x), A256Block::ZERO);
        x[3] = -TINY;
        assert_eq!(A256Block::quantize(&x).q[3], -127);
    }

    #[test]
    fn flags_say_whether_sums_of_products_fit_16_bits() {
        // The even and the odd activations of the first seven runs, beside one that sets the scale.
        let flags = |even: f32, odd: f32| {
            let of = |k| match k {
                224 => 1.0,
                225.. => 0.0,
                _ if k % 2 == 0 => even,
                _ => odd,
            };
            A256Block::quantize(&std::array::from_fn(of)).fits
        };
        let all = A256Block::FITS_Q4 | A256Block::FITS_Q5 | A256Block::FITS_Q6;
        assert_eq!(flags(0.0, 0.0), all);
        // 16 · 127 = 2032 and 8 · 127 = 1016.
        assert_eq!(flags(1.0, 0.0), all);
        // 32 · 68 = 2176 and 16 · 68 = 1088.
        assert_eq!(flags(68.0 / 127.0, 68.0 / 127.0), A256Block::FITS_Q4);
        assert_eq!(flags(1.0, 1.0), 0);
    }
}
