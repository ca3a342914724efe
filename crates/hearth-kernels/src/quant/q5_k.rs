//! `Q5_K`: 256 weights in 176 bytes. `Q4_K` with 32 bytes of fifth bits before the nibbles: bit j of byte l belongs
//! to weight 32·j + l. weight = d·scale·(5-bit integer) − dmin·min.

use super::block::{Block256, Scales, block, half, scales_and_mins};
use super::q4_k::long_nibbles;

block! {
    /// One super-block of `Q5_K`.
    BlockQ5K, 176, {
        /// f16 scale of the scales.
        d: [u8; 2],
        /// f16 scale of the minima.
        dmin: [u8; 2],
        /// Scales and minima, packed as in `Q4_K`.
        scales: [u8; 12],
        /// Fifth bits.
        qh: [u8; 32],
        /// Nibbles.
        qs: [u8; 128],
    }
}

impl Block256 for BlockQ5K {
    const HAS_MIN: bool = true;

    fn weights(&self, out: &mut [i8; 256]) {
        long_nibbles(&self.qs, out);
        for j in 0..8 {
            for l in 0..32 {
                out[j * 32 + l] |= (((self.qh[l] >> j) & 1) << 4) as i8;
            }
        }
    }

    fn scales(&self) -> Scales {
        let (scales, mins) = scales_and_mins(&self.scales);
        Scales {
            d: half(self.d),
            dmin: half(self.dmin),
            scales,
            mins,
        }
    }
}
