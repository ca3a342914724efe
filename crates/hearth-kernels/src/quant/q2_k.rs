//! `Q2_K`: 256 weights in 84 bytes. 16 bytes with a 4-bit scale (low) and a 4-bit minimum (high) per 16 weights;
//! 64 bytes of 2-bit integers; f16 `d` and `dmin`. Of each half of 128 weights, weight 32·s + l lies in bits 2s
//! of byte l. weight = d·scale·integer − dmin·min.

use super::block::{Block256, Scales, block, half};

block! {
    /// One super-block of `Q2_K`.
    BlockQ2K, 84, {
        /// Scales and minima.
        scales: [u8; 16],
        /// 2-bit integers.
        qs: [u8; 64],
        /// f16 scale of the scales.
        d: [u8; 2],
        /// f16 scale of the minima.
        dmin: [u8; 2],
    }
}

/// The 2-bit integers of `Q2_K`, and the low bits of `Q3_K`.
pub(super) fn two_bits(qs: &[u8; 64], out: &mut [i8; 256]) {
    for (half, bytes) in qs.chunks_exact(32).enumerate() {
        for s in 0..4 {
            for (l, byte) in bytes.iter().enumerate() {
                out[half * 128 + s * 32 + l] = ((byte >> (2 * s)) & 3) as i8;
            }
        }
    }
}

impl Block256 for BlockQ2K {
    const HAS_MIN: bool = true;

    fn weights(&self, out: &mut [i8; 256]) {
        two_bits(&self.qs, out);
    }

    fn scales(&self) -> Scales {
        Scales {
            d: half(self.d),
            dmin: half(self.dmin),
            scales: self.scales.map(|s| (s & 15) as i8),
            mins: self.scales.map(|s| (s >> 4) as i8),
        }
    }
}
