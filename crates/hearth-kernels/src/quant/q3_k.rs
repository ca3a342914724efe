//! `Q3_K`: 256 weights in 110 bytes. 32 bytes of third bits (bit j of byte l belongs to weight 32·j + l), 64 bytes
//! of low bits as in `Q2_K`, 12 bytes with a 6-bit scale per 16 weights, an f16 `d`.
//! weight = d·(scale − 32)·(3-bit integer − 4).

use super::block::{Block256, Scales, block, half};
use super::q2_k::two_bits;

block! {
    /// One super-block of `Q3_K`.
    BlockQ3K, 110, {
        /// Third bits.
        hmask: [u8; 32],
        /// Low bits.
        qs: [u8; 64],
        /// Scales: the low nibbles of 0–7 and 8–15 share bytes 0–7, bytes 8–11 hold the high bits of every fourth.
        scales: [u8; 12],
        /// f16 scale of the scales.
        d: [u8; 2],
    }
}

impl Block256 for BlockQ3K {
    fn weights(&self, out: &mut [i8; 256]) {
        two_bits(&self.qs, out);
        for j in 0..8 {
            for l in 0..32 {
                // A clear third bit means "minus four".
                let high = (self.hmask[l] >> j) & 1;
                out[j * 32 + l] += (high << 2) as i8 - 4;
            }
        }
    }

    fn scales(&self) -> Scales {
        let s = &self.scales;
        let scales = std::array::from_fn(|j| {
            let low = (s[j % 8] >> (4 * (j / 8))) & 15;
            let high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
            (low | (high << 4)) as i8 - 32
        });
        Scales {
            d: half(self.d),
            dmin: 0.0,
            scales,
            mins: [0; 16],
        }
    }
}
