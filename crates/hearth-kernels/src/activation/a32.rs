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
}

impl A32Block {
    /// What zeros quantise to.
    pub const ZERO: A32Block = A32Block {
        q: [0; 32],
        step: 0.0,
        sum: 0,
    };

    /// The definition of the format. `x` is finite.
    pub fn quantize(x: &[f32; 32]) -> A32Block {
        let amax = x.iter().fold(0f32, |m, v| m.max(v.abs()));
        if amax < TINY {
            return A32Block::ZERO;
        }
        let scale = 127.0 / amax;
        let q = x.map(|v| (v * scale).round_ties_even().clamp(-127.0, 127.0) as i8);
        A32Block {
            q,
            step: amax / 127.0,
            sum: q.iter().map(|&v| i32::from(v)).sum(),
        }
    }
}
