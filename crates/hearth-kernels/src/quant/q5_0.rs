//! `Q5_0`: 32 weights in 22 bytes. An f16 scale `d`, a little-endian u32 whose bit i is the fifth bit of weight i,
//! then nibbles as in `Q4_0`. weight = d · (5-bit integer − 16).

use super::block::{Block32, block, half, nibbles};

block! {
    /// One block of `Q5_0`.
    BlockQ5_0, 22, {
        /// f16 scale.
        d: [u8; 2],
        /// Fifth bits.
        qh: [u8; 4],
        /// Nibbles.
        qs: [u8; 16],
    }
}

/// Adds the fifth bits of `Q5_0` and `Q5_1` to the nibbles.
pub(super) fn five_bits(qs: &[u8; 16], qh: [u8; 4]) -> [u8; 32] {
    let high = u32::from_le_bytes(qh);
    let mut out = nibbles(qs);
    for (i, q) in out.iter_mut().enumerate() {
        *q |= (((high >> i) & 1) << 4) as u8;
    }
    out
}

impl Block32 for BlockQ5_0 {
    fn weights(&self) -> [i8; 32] {
        five_bits(&self.qs, self.qh).map(|q| q as i8 - 16)
    }

    fn scale(&self) -> f32 {
        half(self.d)
    }
}
