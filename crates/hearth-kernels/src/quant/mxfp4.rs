//! `MXFP4` (OCP microscaling): 32 weights in 17 bytes. One byte `e` with the power of two, then nibbles as in
//! `Q4_0`, each a 4-bit float (sign, 2 bits of exponent, 1 of mantissa). The table holds twice the value of each,
//! so that it is an integer, and the scale is half of 2^(e − 127). weight = 2^(e − 128) · table[nibble].

use super::block::{Block32, block, nibbles};

/// Twice the value each nibble stands for.
pub(crate) const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 2^(e − 128) exactly; the two smallest are subnormal.
pub(crate) const fn half_power(e: u8) -> f32 {
    f32::from_bits(match e {
        0 => 0x0020_0000,
        1 => 0x0040_0000,
        _ => (e as u32 - 1) << 23,
    })
}

block! {
    /// One block of `MXFP4`.
    BlockMXFP4, 17, {
        /// Biased power of two.
        e: [u8; 1],
        /// Nibbles.
        qs: [u8; 16],
    }
}

impl Block32 for BlockMXFP4 {
    fn weights(&self) -> [i8; 32] {
        nibbles(&self.qs).map(|q| VALUES[usize::from(q)])
    }

    fn scale(&self) -> f32 {
        half_power(self.e[0])
    }
}

#[cfg(test)]
mod tests {
    use super::half_power;

    #[test]
    fn half_power_is_exact_at_both_ends() {
        assert_eq!(f64::from(half_power(0)), 2f64.powi(-128));
        assert_eq!(f64::from(half_power(1)), 2f64.powi(-127));
        assert_eq!(f64::from(half_power(2)), 2f64.powi(-126));
        assert_eq!(f64::from(half_power(128)), 1.0);
        assert_eq!(f64::from(half_power(255)), 2f64.powi(127));
    }
}
