//! `Q5_1`: 32 weights in 24 bytes. An f16 scale `d`, an f16 minimum `m`, then fifth bits and nibbles as in `Q5_0`.
//! weight = d · 5-bit integer + m.

use super::block::{Block32, block, half};
use super::q5_0::five_bits;

block! {
    /// One block of `Q5_1`.
    BlockQ5_1, 24, {
        /// f16 scale.
        d: [u8; 2],
        /// f16 minimum.
        m: [u8; 2],
        /// Fifth bits.
        qh: [u8; 4],
        /// Nibbles.
        qs: [u8; 16],
    }
}

impl Block32 for BlockQ5_1 {
    const HAS_MIN: bool = true;

    fn weights(&self) -> [i8; 32] {
        five_bits(&self.qs, self.qh).map(|q| q as i8)
    }

    fn scale(&self) -> f32 {
        half(self.d)
    }

    fn min(&self) -> f32 {
        half(self.m)
    }
}
