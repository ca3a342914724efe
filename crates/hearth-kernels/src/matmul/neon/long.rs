//! The formats with super-blocks of 256 weights: how their bits become signed bytes.

use std::arch::aarch64::*;

use super::vec::{bytes16, half, less, load16, look_up, nibbles};
use crate::quant::Block256;
use crate::quant::iq4_nl::VALUES;
use crate::quant::iq4_xs::BlockIQ4XS;
use crate::quant::q2_k::BlockQ2K;
use crate::quant::q3_k::BlockQ3K;
use crate::quant::q4_k::BlockQ4K;
use crate::quant::q5_k::BlockQ5K;
use crate::quant::q6_k::BlockQ6K;

/// A super-block as registers hold it.
pub(super) trait Long256: Block256 {
    /// Weights that share a scale: 16 or 32.
    const SUB: usize;
    /// Whether no weight is above 64 in magnitude.
    const SMALL: bool = true;

    /// The integer weights in order.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn columns(&self) -> [int8x16_t; 16];

    /// Scales and minima, one per 16 weights.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn scales_and_mins(&self) -> (int8x16_t, int8x16_t);

    /// The scale of the scales, and that of the minima or anything.
    fn d_and_dmin(&self) -> [f32; 2];
}

impl Long256 for BlockQ4K {
    const SUB: usize = 32;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 16] {
        long_nibbles(&self.qs).map(|v| vreinterpretq_s8_u8(v))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn scales_and_mins(&self) -> (int8x16_t, int8x16_t) {
        twelve_bytes(&self.scales)
    }

    #[inline(always)]
    fn d_and_dmin(&self) -> [f32; 2] {
        [half(self.d), half(self.dmin)]
    }
}

impl Long256 for BlockQ5K {
    const SUB: usize = 32;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 16] {
        let mut high = [bytes16(&self.qh), bytes16(&self.qh[16..])];
        let mut columns = long_nibbles(&self.qs);
        for pair in columns.as_chunks_mut::<2>().0 {
            for (v, high) in pair.iter_mut().zip(&mut high) {
                let fifth = vandq_u8(vshlq_n_u8::<4>(*high), vdupq_n_u8(16));
                *v = vorrq_u8(*v, fifth);
                *high = vshrq_n_u8::<1>(*high);
            }
        }
        columns.map(|v| vreinterpretq_s8_u8(v))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn scales_and_mins(&self) -> (int8x16_t, int8x16_t) {
        twelve_bytes(&self.scales)
    }

    #[inline(always)]
    fn d_and_dmin(&self) -> [f32; 2] {
        [half(self.d), half(self.dmin)]
    }
}

impl Long256 for BlockQ6K {
    const SUB: usize = 16;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 16] {
        let mut columns = [vdupq_n_s8(0); 16];
        for (i, columns) in columns.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // Register k of a half: columns 16k and 64 + 16k in its nibbles.
            for k in 0..4 {
                let [low, high] = nibbles(bytes16(&self.ql[i * 64 + k * 16..]));
                let mut top = bytes16(&self.qh[i * 32 + k % 2 * 16..]);
                if k >= 2 {
                    top = vshrq_n_u8::<2>(top);
                }
                let six = |low, top| {
                    let top = vandq_u8(top, vdupq_n_u8(0x30));
                    less(vorrq_u8(low, top), 32)
                };
                columns[k] = six(low, vshlq_n_u8::<4>(top));
                columns[k + 4] = six(high, top);
            }
        }
        columns
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn scales_and_mins(&self) -> (int8x16_t, int8x16_t) {
        (load16(&self.scales), vdupq_n_s8(0))
    }

    #[inline(always)]
    fn d_and_dmin(&self) -> [f32; 2] {
        [half(self.d); 2]
    }
}

impl Long256 for BlockQ2K {
    const SUB: usize = 16;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 16] {
        two_bits(&self.qs).map(|v| vreinterpretq_s8_u8(v))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn scales_and_mins(&self) -> (int8x16_t, int8x16_t) {
        let [low, high] = nibbles(bytes16(&self.scales));
        (vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high))
    }

    #[inline(always)]
    fn d_and_dmin(&self) -> [f32; 2] {
        [half(self.d), half(self.dmin)]
    }
}

impl Long256 for BlockQ3K {
    const SUB: usize = 16;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 16] {
        let mut high = [bytes16(&self.hmask), bytes16(&self.hmask[16..])];
        let mut columns = two_bits(&self.qs);
        for pair in columns.as_chunks_mut::<2>().0 {
            for (v, high) in pair.iter_mut().zip(&mut high) {
                let third = vandq_u8(vshlq_n_u8::<2>(*high), vdupq_n_u8(4));
                *v = vorrq_u8(*v, third);
                *high = vshrq_n_u8::<1>(*high);
            }
        }
        columns.map(|v| less(v, 4))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn scales_and_mins(&self) -> (int8x16_t, int8x16_t) {
        let [a, b, c] = thirds(&self.scales);
        let ab = vcreate_u8(u64::from(a) | u64::from(b) << 32);
        let low = vcombine_u8(vand_u8(ab, vdup_n_u8(15)), vshr_n_u8::<4>(ab));
        // Scales 4k to 4k + 3 have their high bits at 2k.
        let high = vreinterpretq_u8_u32(vshlq_u32(vdupq_n_u32(c), negative([0, 2, 4, 6])));
        let high = vshlq_n_u8::<4>(vandq_u8(high, vdupq_n_u8(3)));
        (less(vorrq_u8(low, high), 32), vdupq_n_s8(0))
    }

    #[inline(always)]
    fn d_and_dmin(&self) -> [f32; 2] {
        [half(self.d); 2]
    }
}

impl Long256 for BlockIQ4XS {
    const SUB: usize = 32;
    const SMALL: bool = false;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn columns(&self) -> [int8x16_t; 16] {
        let mut columns = [vdupq_n_s8(0); 16];
        let packed = self.qs.as_chunks::<16>().0;
        for (columns, packed) in columns.as_chunks_mut::<2>().0.iter_mut().zip(packed) {
            *columns = nibbles(bytes16(packed)).map(|v| look_up(&VALUES, v));
        }
        columns
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn scales_and_mins(&self) -> (int8x16_t, int8x16_t) {
        let packed = vcreate_u8(u32::from_le_bytes(self.scales_l).into());
        let low = vzip1_u8(vand_u8(packed, vdup_n_u8(15)), vshr_n_u8::<4>(packed));
        let packed = vdupq_n_u32(u16::from_le_bytes(self.scales_h).into());
        let high = vcombine_u16(
            vmovn_u32(vshlq_u32(packed, negative([0, 2, 4, 6]))),
            vmovn_u32(vshlq_u32(packed, negative([8, 10, 12, 14]))),
        );
        let high = vmovn_u16(vandq_u16(high, vdupq_n_u16(3)));
        let six = vorr_u8(low, vshl_n_u8::<4>(high));
        (less(twice(six), 32), vdupq_n_s8(0))
    }

    #[inline(always)]
    fn d_and_dmin(&self) -> [f32; 2] {
        [half(self.d); 2]
    }
}

/// The nibbles of `Q4_K` and `Q5_K` in order.
#[inline]
#[target_feature(enable = "neon")]
fn long_nibbles(qs: &[u8; 128]) -> [uint8x16_t; 16] {
    let mut columns = [vdupq_n_u8(0); 16];
    for (columns, qs) in columns
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(qs.as_chunks::<32>().0)
    {
        for k in 0..2 {
            [columns[k], columns[k + 2]] = nibbles(bytes16(&qs[k * 16..]));
        }
    }
    columns
}

/// The 2-bit integers of `Q2_K`, and the low bits of `Q3_K`, in order.
#[inline]
#[target_feature(enable = "neon")]
fn two_bits(qs: &[u8; 64]) -> [uint8x16_t; 16] {
    let mut columns = [vdupq_n_u8(0); 16];
    for (columns, qs) in columns
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(qs.as_chunks::<32>().0)
    {
        for k in 0..2 {
            let mut packed = bytes16(&qs[k * 16..]);
            for s in 0..4 {
                columns[s * 2 + k] = vandq_u8(packed, vdupq_n_u8(3));
                packed = vshrq_n_u8::<2>(packed);
            }
        }
    }
    columns
}

/// Scales and minima of `Q4_K` and `Q5_K`, each twice.
#[inline]
#[target_feature(enable = "neon")]
fn twelve_bytes(packed: &[u8; 12]) -> (int8x16_t, int8x16_t) {
    const SIX: u32 = 0x3f3f_3f3f;
    const NIBBLE: u32 = 0x0f0f_0f0f;
    const TWO: u32 = 0x3030_3030;
    let [a, b, c] = thirds(packed);
    // Four bytes at a time: the first four numbers, then the last four.
    let eight = |low: u32, nibbles: u32| {
        let last = (nibbles & NIBBLE) | ((low >> 2) & TWO);
        let both = u64::from(low & SIX) | u64::from(last) << 32;
        vreinterpretq_s8_u8(twice(vcreate_u8(both)))
    };
    (eight(a, c), eight(b, c >> 4))
}

/// Bytes 0–3, 4–7 and 8–11.
#[inline(always)]
fn thirds(packed: &[u8; 12]) -> [u32; 3] {
    let words = packed.as_chunks::<4>().0;
    [0, 1, 2].map(|i| u32::from_le_bytes(words[i]))
}

/// Each byte twice.
#[inline]
#[target_feature(enable = "neon")]
fn twice(v: uint8x8_t) -> uint8x16_t {
    vcombine_u8(vzip1_u8(v, v), vzip2_u8(v, v))
}

/// Shifts to the right, which are negative shifts to the left.
#[inline]
#[target_feature(enable = "neon")]
fn negative(right: [i32; 4]) -> int32x4_t {
    // SAFETY: 16 readable bytes.
    vnegq_s32(unsafe { vld1q_s32(right.as_ptr()) })
}
