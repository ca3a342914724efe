//! `IQ4_NL`: 32 weights in 18 bytes. An f16 scale `d`, then nibbles as in `Q4_0` that are indices into a table of
//! 16 signed bytes, finer near zero. weight = d · table[nibble].

use super::block::{Block32, block, half, nibbles};

/// The values a nibble of `IQ4_NL` and `IQ4_XS` stands for.
pub(crate) const VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

block! {
    /// One block of `IQ4_NL`.
    BlockIQ4NL, 18, {
        /// f16 scale.
        d: [u8; 2],
        /// Nibbles.
        qs: [u8; 16],
    }
}

impl Block32 for BlockIQ4NL {
    fn weights(&self) -> [i8; 32] {
        nibbles(&self.qs).map(|q| VALUES[usize::from(q)])
    }

    fn scale(&self) -> f32 {
        half(self.d)
    }
}
