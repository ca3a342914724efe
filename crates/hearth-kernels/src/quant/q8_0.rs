//! `Q8_0`: 32 weights in 34 bytes. An f16 scale `d`, then 32 signed bytes. weight = d · byte; −128 is legal.

use super::block::{Block32, block, half};

block! {
    /// One block of `Q8_0`.
    BlockQ8_0, 34, {
        /// f16 scale.
        d: [u8; 2],
        /// Integer weights.
        qs: [i8; 32],
    }
}

impl Block32 for BlockQ8_0 {
    fn weights(&self) -> [i8; 32] {
        self.qs
    }

    fn scale(&self) -> f32 {
        half(self.d)
    }
}
