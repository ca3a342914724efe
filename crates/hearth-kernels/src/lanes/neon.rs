//! Lanes as four 128-bit registers: lanes 0–3, 4–7, 8–11 and 12–15.

use std::arch::aarch64::*;
use std::arch::asm;

use super::byte_dots::plain_byte_dots;
use super::{LaneOp, Lanes};
use crate::cpu::Neon;
use crate::float::LANES;

/// Uses an intrinsic where the token is in reach.
macro_rules! with_token {
    ($token:ident, $call:expr) => {{
        let _: Neon = $token;
        // SAFETY: the token exists, so detection found NEON; loads and stores stay inside references to arrays of 16 elements
        // and ask for no alignment.
        unsafe { $call }
    }};
}

/// Registers 0 to 3, each computed by the same expression.
macro_rules! each {
    ($token:ident, $i:ident => $value:expr) => {
        with_token!($token, {
            let one = |$i: usize| $value;
            Quad([one(0), one(1), one(2), one(3)])
        })
    };
}

/// Four lanes per register, in order.
#[derive(Clone, Copy)]
pub(crate) struct Quad([float32x4_t; 4]);

/// The numbers of the lanes, to compare with.
const LANE_NUMBERS: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Four half-precision numbers, exactly; the intrinsics for it are not stable.
#[inline(always)]
fn widen_f16(_: Neon, half: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: an instruction of plain NEON that touches two registers.
    unsafe {
        asm!(
            "fcvtl {wide:v}.4s, {half:v}.4h",
            wide = lateout(vreg) wide,
            half = in(vreg) half,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    wide
}

/// Rounds to half precision, nearest even.
#[inline(always)]
fn narrow_f16(_: Neon, wide: float32x4_t) -> uint16x4_t {
    let half;
    // SAFETY: an instruction of plain NEON that touches two registers.
    unsafe {
        asm!(
            "fcvtn {half:v}.4h, {wide:v}.4s",
            half = lateout(vreg) half,
            wide = in(vreg) wide,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    half
}

/// Asks for a cache line that will soon be read; the intrinsic for it is not stable. Any address will do.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    // SAFETY: the instruction is a hint that reads nothing and cannot fault.
    unsafe {
        asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(readonly, nostack, preserves_flags)
        );
    }
}

impl Lanes for Neon {
    type V = Quad;

    /// 24 of the 32 registers.
    const ACCUMULATORS: usize = 6;

    /// NEON is part of the target, so there is nothing to switch on.
    #[inline]
    fn vectorize<O: LaneOp>(self, op: O) -> O::Output {
        op.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Quad {
        Quad([with_token!(self, vdupq_n_f32(x)); 4])
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Quad {
        each!(self, i => vld1q_f32(x[4 * i..4 * i + 4].as_ptr()))
    }

    #[inline(always)]
    fn load_f32(self, x: &[u8; 64]) -> Quad {
        each!(self, i => vreinterpretq_f32_u8(vld1q_u8(x[16 * i..16 * i + 16].as_ptr())))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Quad {
        each!(self, i => widen_f16(self, vreinterpret_u16_u8(vld1_u8(x[8 * i..8 * i + 8].as_ptr()))))
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Quad {
        each!(self, i => {
            let half = vreinterpret_u16_u8(vld1_u8(x[8 * i..8 * i + 8].as_ptr()));
            vreinterpretq_f32_u32(vshll_n_u16::<16>(half))
        })
    }

    #[inline(always)]
    fn store(self, v: Quad, x: &mut [f32; LANES]) {
        for (v, x) in v.0.into_iter().zip(x.as_chunks_mut::<4>().0) {
            with_token!(self, vst1q_f32(x.as_mut_ptr(), v));
        }
    }

    #[inline(always)]
    fn store_f16(self, v: Quad, x: &mut [u8; 32]) {
        for (v, x) in v.0.into_iter().zip(x.as_chunks_mut::<8>().0) {
            let half = narrow_f16(self, v);
            with_token!(self, vst1_u8(x.as_mut_ptr(), vreinterpret_u8_u16(half)));
        }
    }

    #[inline(always)]
    fn add(self, a: Quad, b: Quad) -> Quad {
        each!(self, i => vaddq_f32(a.0[i], b.0[i]))
    }

    #[inline(always)]
    fn sub(self, a: Quad, b: Quad) -> Quad {
        each!(self, i => vsubq_f32(a.0[i], b.0[i]))
    }

    #[inline(always)]
    fn mul(self, a: Quad, b: Quad) -> Quad {
        each!(self, i => vmulq_f32(a.0[i], b.0[i]))
    }

    #[inline(always)]
    fn div(self, a: Quad, b: Quad) -> Quad {
        each!(self, i => vdivq_f32(a.0[i], b.0[i]))
    }

    #[inline(always)]
    fn fma(self, a: Quad, b: Quad, c: Quad) -> Quad {
        each!(self, i => vfmaq_f32(c.0[i], a.0[i], b.0[i]))
    }

    #[inline(always)]
    fn max(self, a: Quad, b: Quad) -> Quad {
        // Not the instruction for maxima: it answers NaN when either is.
        each!(self, i => vbslq_f32(vcgtq_f32(a.0[i], b.0[i]), a.0[i], b.0[i]))
    }

    #[inline(always)]
    fn select_less(self, a: Quad, b: Quad, x: Quad, y: Quad) -> Quad {
        each!(self, i => vbslq_f32(vcltq_f32(a.0[i], b.0[i]), x.0[i], y.0[i]))
    }

    #[inline(always)]
    fn select_range(self, first: usize, end: usize, x: Quad, y: Quad) -> Quad {
        let (first, end) = (first as u32, end as u32);
        each!(self, i => {
            let numbers = vld1q_u32(LANE_NUMBERS[4 * i..4 * i + 4].as_ptr());
            let inside = vandq_u32(
                vcgeq_u32(numbers, vdupq_n_u32(first)),
                vcltq_u32(numbers, vdupq_n_u32(end)),
            );
            vbslq_f32(inside, x.0[i], y.0[i])
        })
    }

    #[inline(always)]
    fn round_ties_even(self, a: Quad) -> Quad {
        each!(self, i => vrndnq_f32(a.0[i]))
    }

    #[inline(always)]
    fn add_exponent(self, p: Quad, n: Quad) -> Quad {
        each!(self, i => {
            let shifted = vshlq_n_s32::<23>(vcvtq_s32_f32(n.0[i]));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p.0[i]), shifted))
        })
    }

    #[inline(always)]
    fn reduce(self, v: Quad) -> f32 {
        let [a, b, c, d] = v.0;
        with_token!(self, {
            let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vpadds_f32(two)
        })
    }

    #[inline(always)]
    fn reduce4(self, v: [Quad; 4]) -> [f32; 4] {
        with_token!(self, {
            let [a, b, c, d] =
                v.map(|Quad([a, b, c, d])| vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d)));
            // In each half: two elements of the first, two of the second.
            let two = |a: float32x4_t, b: float32x4_t| {
                let low = vcombine_f32(vget_low_f32(a), vget_low_f32(b));
                vaddq_f32(low, vcombine_f32(vget_high_f32(a), vget_high_f32(b)))
            };
            let one = vpaddq_f32(two(a, b), two(c, d));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), one);
            out
        })
    }

    #[inline(always)]
    fn transpose(self, v: [Quad; LANES]) -> [Quad; LANES] {
        let mut out = [self.splat(0.0); LANES];
        for i in 0..4 {
            for j in 0..4 {
                let (a, b) = (v[4 * i].0[j], v[4 * i + 1].0[j]);
                let (c, d) = (v[4 * i + 2].0[j], v[4 * i + 3].0[j]);
                with_token!(self, {
                    let (ab_even, ab_odd) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
                    let (cd_even, cd_odd) = (vtrn1q_f32(c, d), vtrn2q_f32(c, d));
                    let low = |a, b| vcombine_f32(vget_low_f32(a), vget_low_f32(b));
                    let high = |a, b| vcombine_f32(vget_high_f32(a), vget_high_f32(b));
                    out[4 * j].0[i] = low(ab_even, cd_even);
                    out[4 * j + 1].0[i] = low(ab_odd, cd_odd);
                    out[4 * j + 2].0[i] = high(ab_even, cd_even);
                    out[4 * j + 3].0[i] = high(ab_odd, cd_odd);
                });
            }
        }
        out
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        prefetch(address);
    }
}

plain_byte_dots!(Neon);
