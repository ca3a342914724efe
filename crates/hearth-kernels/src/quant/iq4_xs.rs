//! `IQ4_XS`: 256 weights in 136 bytes. An f16 `d`, then a 6-bit scale per 32 weights in two parts (a little-endian
//! u16 with two high bits each, four bytes of low nibbles), then eight runs of 16 bytes of nibbles as in `IQ4_NL`.
//! weight = d·(scale − 32)·table[nibble].

use super::block::{Block256, Scales, block, half};
use super::iq4_nl::VALUES;

block! {
    /// One super-block of `IQ4_XS`.
    BlockIQ4XS, 136, {
        /// f16 scale of the scales.
        d: [u8; 2],
        /// High bits of the scales.
        scales_h: [u8; 2],
        /// Low nibbles of the scales.
        scales_l: [u8; 4],
        /// Nibbles.
        qs: [u8; 128],
    }
}

impl Block256 for BlockIQ4XS {
    fn weights(&self, out: &mut [i8; 256]) {
        for (out, bytes) in out.chunks_exact_mut(32).zip(self.qs.chunks_exact(16)) {
            for (l, byte) in bytes.iter().enumerate() {
                out[l] = VALUES[usize::from(byte & 15)];
                out[l + 16] = VALUES[usize::from(byte >> 4)];
            }
        }
    }

    fn scales(&self) -> Scales {
        let high = u16::from_le_bytes(self.scales_h);
        let scales = std::array::from_fn(|half| {
            let j = half / 2;
            let low = (self.scales_l[j / 2] >> (4 * (j % 2))) & 15;
            let high = ((high >> (2 * j)) & 3) as u8;
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
