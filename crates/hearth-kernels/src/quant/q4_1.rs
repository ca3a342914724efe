//! `Q4_1`: 32 weights in 20 bytes. An f16 scale `d`, an f16 minimum `m`, then nibbles as in `Q4_0`.
//! weight = d · nibble + m.

use super::block::{Block32, block, half, nibbles};

block! {
    /// One block of `Q4_1`.
    BlockQ4_1, 20, {
        /// f16 scale.
        d: [u8; 2],
        /// f16 minimum.
        m: [u8; 2],
        /// Nibbles.
        qs: [u8; 16],
    }
}

impl Block32 for BlockQ4_1 {
    const HAS_MIN: bool = true;

    fn weights(&self) -> [i8; 32] {
        nibbles(&self.qs).map(|q| q as i8)
    }

    fn scale(&self) -> f32 {
        half(self.d)
    }

    fn min(&self) -> f32 {
        half(self.m)
    }
}
