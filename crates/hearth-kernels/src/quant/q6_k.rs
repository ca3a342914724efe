//! `Q6_K`: 256 weights in 210 bytes. 128 bytes of low nibbles, 64 bytes of high bit pairs, a signed byte of scale
//! per 16 weights, an f16 `d`. Of each half of 128 weights, weights 32·c + l (c = 0..4) take the nibble
//! (low for c < 2, else high) of byte 32·(c mod 2) + l, and bits 2c of high byte l.
//! weight = d·scale·(6-bit integer − 32).

use super::block::{Block256, Scales, block, half};

block! {
    /// One super-block of `Q6_K`.
    BlockQ6K, 210, {
        /// Low nibbles.
        ql: [u8; 128],
        /// High bit pairs.
        qh: [u8; 64],
        /// Scales.
        scales: [i8; 16],
        /// f16 scale of the scales.
        d: [u8; 2],
    }
}

impl Block256 for BlockQ6K {
    fn weights(&self, out: &mut [i8; 256]) {
        for half in 0..2 {
            let (ql, qh) = (&self.ql[half * 64..], &self.qh[half * 32..]);
            for c in 0..4 {
                for l in 0..32 {
                    let low = (ql[(c % 2) * 32 + l] >> (4 * (c / 2))) & 15;
                    let high = (qh[l] >> (2 * c)) & 3;
                    out[half * 128 + c * 32 + l] = (low | (high << 4)) as i8 - 32;
                }
            }
        }
    }

    fn scales(&self) -> Scales {
        Scales {
            d: half(self.d),
            dmin: 0.0,
            scales: self.scales,
            mins: [0; 16],
        }
    }
}
