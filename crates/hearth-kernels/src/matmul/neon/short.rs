//! The formats with one scale per 32 weights: how their bits become signed bytes.

use std::arch::aarch64::*;

use super::vec::{bytes16, half, less, load16, look_up, nibbles};
use crate::quant::Block32;
use crate::quant::iq4_nl::{self, BlockIQ4NL};
use crate::quant::mxfp4::{self, BlockMXFP4};
use crate::quant::q4_0::BlockQ4_0;
use crate::quant::q4_1::BlockQ4_1;
use crate::quant::q5_0::BlockQ5_0;
use crate::quant::q5_1::BlockQ5_1;
use crate::quant::q8_0::BlockQ8_0;

/// A block as registers hold it.
pub(super) trait Short32: Block32 {
    /// Whether no weight is above 64 in magnitude.
    const SMALL: bool = true;

    /// The integer weights in order.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn columns(&self) -> [int8x16_t; 2];

    /// The factor of the integers.
    fn factor(&self) -> f32;

    /// What is added to every weight.
    fn addend(&self) -> f32 {
        0.0
    }
}

/// The methods that read a format's f16 numbers.
macro_rules! half_scales {
    ($($method:ident = $field:ident),*) => {
        $(
            #[inline(always)]
            fn $method(&self) -> f32 {
                half(self.$field)
            }
        )*
    };
}

impl Short32 for BlockQ4_0 {
    half_scales!(factor = d);

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 2] {
        let [low, high] = nibbles(bytes16(&self.qs));
        [less(low, 8), less(high, 8)]
    }
}

impl Short32 for BlockQ4_1 {
    half_scales!(factor = d, addend = m);

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 2] {
        let [low, high] = nibbles(bytes16(&self.qs));
        [less(low, 0), less(high, 0)]
    }
}

impl Short32 for BlockQ5_0 {
    half_scales!(factor = d);

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 2] {
        let [low, high] = five_bits(&self.qs, self.qh);
        [less(low, 16), less(high, 16)]
    }
}

impl Short32 for BlockQ5_1 {
    half_scales!(factor = d, addend = m);

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 2] {
        let [low, high] = five_bits(&self.qs, self.qh);
        [less(low, 0), less(high, 0)]
    }
}

impl Short32 for BlockQ8_0 {
    const SMALL: bool = false;
    half_scales!(factor = d);

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 2] {
        [load16(&self.qs), load16(&self.qs[16..])]
    }
}

impl Short32 for BlockIQ4NL {
    const SMALL: bool = false;
    half_scales!(factor = d);

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 2] {
        let [low, high] = nibbles(bytes16(&self.qs));
        [
            look_up(&iq4_nl::VALUES, low),
            look_up(&iq4_nl::VALUES, high),
        ]
    }
}

impl Short32 for BlockMXFP4 {
    #[inline(always)]
    fn factor(&self) -> f32 {
        mxfp4::half_power(self.e[0])
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 2] {
        let [low, high] = nibbles(bytes16(&self.qs));
        [look_up(&mxfp4::VALUES, low), look_up(&mxfp4::VALUES, high)]
    }
}

/// Nibbles with bit i of the little-endian word as the fifth bit of integer i.
#[inline]
#[target_feature(enable = "neon")]
fn five_bits(qs: &[u8; 16], qh: [u8; 4]) -> [uint8x16_t; 2] {
    // Every group of eight columns gets its byte eight times; each column tests its own bit of it.
    let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    let [low, high] = nibbles(bytes16(qs));
    let fifth = |v, a: u8, b: u8| {
        let byte = vcombine_u8(vdup_n_u8(a), vdup_n_u8(b));
        vorrq_u8(v, vandq_u8(vtstq_u8(byte, bit), vdupq_n_u8(16)))
    };
    [fifth(low, qh[0], qh[1]), fifth(high, qh[2], qh[3])]
}
