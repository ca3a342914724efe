//! `Q4_0`: 32 weights in 18 bytes. An f16 scale `d`, then 16 bytes of nibbles: byte i holds weight i low and
//! weight i + 16 high. weight = d · (nibble − 8).

use super::block::{Block32, block, half, nibbles};

block! {
    /// One block of `Q4_0`.
    BlockQ4_0, 18, {
        /// f16 scale.
        d: [u8; 2],
        /// Nibbles.
        qs: [u8; 16],
    }
}

impl Block32 for BlockQ4_0 {
    fn weights(&self) -> [i8; 32] {
        nibbles(&self.qs).map(|q| q as i8 - 8)
    }

    fn scale(&self) -> f32 {
        half(self.d)
    }
}
