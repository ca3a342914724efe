//! `Q4_K`: 256 weights in 144 bytes. f16 `d` and `dmin`, 12 bytes with a 6-bit scale and a 6-bit minimum per 32
//! weights, 128 bytes of nibbles: of each 64 weights, byte i holds weight i low and weight i + 32 high.
//! weight = d·scale·nibble − dmin·min.

use super::block::{Block256, Scales, block, half, scales_and_mins};

block! {
    /// One super-block of `Q4_K`.
    BlockQ4K, 144, {
        /// f16 scale of the scales.
        d: [u8; 2],
        /// f16 scale of the minima.
        dmin: [u8; 2],
        /// Scales and minima.
        scales: [u8; 12],
        /// Nibbles.
        qs: [u8; 128],
    }
}

/// The nibbles of `Q4_K` and `Q5_K` in order.
pub(super) fn long_nibbles(qs: &[u8; 128], out: &mut [i8; 256]) {
    for (out, bytes) in out.chunks_exact_mut(64).zip(qs.chunks_exact(32)) {
        for (l, byte) in bytes.iter().enumerate() {
            out[l] = (byte & 15) as i8;
            out[l + 32] = (byte >> 4) as i8;
        }
    }
}

impl Block256 for BlockQ4K {
    const HAS_MIN: bool = true;

    fn weights(&self, out: &mut [i8; 256]) {
        long_nibbles(&self.qs, out);
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
