//! Lanes as an array: whatever the compiler makes of it, on any target.

use super::byte_dots::plain_byte_dots;
use super::{LaneOp, Lanes};
use crate::float::{self, LANES};

/// The level without instructions of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

/// One cache line, so that an array of these is laid out as registers would be.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Array([f32; LANES]);

/// Loops instead of `from_fn`: a closure would have to be inlined twice before the loop is seen as lanes.
macro_rules! each_lane {
    ($lane:ident => $value:expr) => {{
        let mut out = [0.0f32; LANES];
        for ($lane, slot) in out.iter_mut().enumerate() {
            *slot = $value;
        }
        Array(out)
    }};
}

/// The same code where a fused multiply-add is an instruction: as a call of the C library it takes fifty times as long, and
/// processors with FMA but without AVX2 exist.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn with_fma<O: LaneOp>(lanes: Portable, op: O) -> O::Output {
    op.run(lanes)
}

impl Lanes for Portable {
    type V = Array;

    /// What 32 registers of four lanes hold.
    const ACCUMULATORS: usize = 6;

    #[inline]
    fn vectorize<O: LaneOp>(self, op: O) -> O::Output {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: detected; FMA implies AVX.
            return unsafe { with_fma(self, op) };
        }
        op.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Array {
        Array([x; LANES])
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Array {
        Array(*x)
    }

    #[inline(always)]
    fn load_f32(self, x: &[u8; 64]) -> Array {
        each_lane!(i => f32::from_le_bytes([x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]]))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Array {
        each_lane!(i => float::f16_to_f32(u16::from_le_bytes([x[2 * i], x[2 * i + 1]])))
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Array {
        each_lane!(i => float::bf16_to_f32(u16::from_le_bytes([x[2 * i], x[2 * i + 1]])))
    }

    #[inline(always)]
    fn store(self, v: Array, x: &mut [f32; LANES]) {
        *x = v.0;
    }

    #[inline(always)]
    fn store_f16(self, v: Array, x: &mut [u8; 32]) {
        for (value, bytes) in v.0.iter().zip(x.as_chunks_mut::<2>().0) {
            *bytes = float::f32_to_f16(*value).to_le_bytes();
        }
    }

    #[inline(always)]
    fn add(self, a: Array, b: Array) -> Array {
        each_lane!(i => a.0[i] + b.0[i])
    }

    #[inline(always)]
    fn sub(self, a: Array, b: Array) -> Array {
        each_lane!(i => a.0[i] - b.0[i])
    }

    #[inline(always)]
    fn mul(self, a: Array, b: Array) -> Array {
        each_lane!(i => a.0[i] * b.0[i])
    }

    #[inline(always)]
    fn div(self, a: Array, b: Array) -> Array {
        each_lane!(i => a.0[i] / b.0[i])
    }

    #[inline(always)]
    fn fma(self, a: Array, b: Array, c: Array) -> Array {
        each_lane!(i => a.0[i].mul_add(b.0[i], c.0[i]))
    }

    #[inline(always)]
    fn max(self, a: Array, b: Array) -> Array {
        each_lane!(i => if a.0[i] > b.0[i] { a.0[i] } else { b.0[i] })
    }

    #[inline(always)]
    fn select_less(self, a: Array, b: Array, x: Array, y: Array) -> Array {
        each_lane!(i => if a.0[i] < b.0[i] { x.0[i] } else { y.0[i] })
    }

    #[inline(always)]
    fn select_range(self, first: usize, end: usize, x: Array, y: Array) -> Array {
        each_lane!(i => if i >= first && i < end { x.0[i] } else { y.0[i] })
    }

    #[inline(always)]
    fn round_ties_even(self, a: Array) -> Array {
        each_lane!(i => a.0[i].round_ties_even())
    }

    #[inline(always)]
    fn add_exponent(self, p: Array, n: Array) -> Array {
        each_lane!(i => f32::from_bits(p.0[i].to_bits().wrapping_add((n.0[i] as i32 as u32) << 23)))
    }

    #[inline(always)]
    fn reduce(self, v: Array) -> f32 {
        float::reduce(&v.0)
    }

    #[inline(always)]
    fn reduce4(self, v: [Array; 4]) -> [f32; 4] {
        [
            float::reduce(&v[0].0),
            float::reduce(&v[1].0),
            float::reduce(&v[2].0),
            float::reduce(&v[3].0),
        ]
    }

    #[inline(always)]
    fn transpose(self, v: [Array; LANES]) -> [Array; LANES] {
        let mut out = [Array([0.0; LANES]); LANES];
        for (i, v) in v.iter().enumerate() {
            for (j, out) in out.iter_mut().enumerate() {
                out.0[i] = v.0[j];
            }
        }
        out
    }
}

plain_byte_dots!(Portable);
