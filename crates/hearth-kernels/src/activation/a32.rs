//! A32: 8-bit activations with one step per 32, for weight formats with one scale per 32.

use super::TINY;

/// 32 activations of one token.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(8))]
pub(crate) struct A32Block {
    /// Activation ≈ `q * step`.
    pub q: [i8; 32],
    pub step: f32,
    /// Sum of `q`.
    pub sum: i32,
    /// Its negative, where the sums of products with offset weights start.
    pub minus_sum: i32,
}

impl A32Block {
    /// What zeros quantise to.
    pub const ZERO: A32Block = A32Block {
        q: [0; 32],
        step: 0.0,
        sum: 0,
        minus_sum: 0,
    };

    /// The definition of the format. `x` is finite.
    pub fn quantize(x: &[f32; 32]) -> A32Block {
        let amax = x.iter().fold(0f32, |m, v| m.max(v.abs()));
        if amax < TINY {
            return A32Block::ZERO;
        }
        let scale = 127.0 / amax;
        let q = x.map(|v| (v * scale).round_ties_even().clamp(-127.0, 127.0) as i8);
        let sum = q.iter().map(|&v| i32::from(v)).sum();
        A32Block {
            q,
            step: amax / 127.0,
            sum,
            minus_sum: -sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_magnitude_becomes_127_and_ties_go_to_even() {
        let x: [f32; 32] = std::array::from_fn(|k| match k {
            0 => -127.0,
            1 => 2.5,
            2 => 3.5,
            _ => 0.0,
        });
        let block = A32Block::quantize(&x);
        assert_eq!((block.step, block.sum), (1.0, -127 + 2 + 4));
        assert_eq!(block.q[..4], [-127, 2, 4, 0]);
    }

    #[test]
    fn magnitudes_below_two_to_the_minus_100_are_zero() {
        let mut x = [0f32; 32];
        x[3] = TINY.next_down();
        assert_eq!(A32Block::quantize(&x), A32Block::ZERO);
        x[3] = TINY;
        assert_eq!(A32Block::quantize(&x).q[3], 127);
    }
}
