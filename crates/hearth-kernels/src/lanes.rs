//! Sixteen `f32` lanes as one type, so that an operation is written once and compiled for every level.
//!
//! [`Lanes`] is what an operation may do with 16 lanes; each level implements it with the registers it has (one, two, or an
//! array). A [`LaneOp`] is an operation generic over it. [`run`] compiles the operation inside a function that has the
//! level's instructions enabled: everything in the operation is `#[inline(always)]`, so no call crosses that border with a
//! vector in hand. Every method does exactly what the scalar functions of [`crate::float`] do, per lane.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over arrays of vectors are unrolled before registers are chosen; iterators not always"
)]

use crate::cpu::Isa;
use crate::float::{
    EXP_COEFFICIENTS, EXP_HIGHEST, EXP_LOWEST, LANES, LN2_HIGH, LN2_LOW, LOG2_E, TANH_COEFFICIENTS,
    TANH_SMALL,
};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod byte_dots;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod portable;
mod stored;
#[cfg(test)]
mod tests;

pub(crate) use byte_dots::ByteDots;
pub(crate) use portable::Portable;
pub(crate) use stored::{Bf16, F16, F32, Stored};

/// Arithmetic on 16 lanes. Implemented by the tokens that prove the processor has the instructions.
pub(crate) trait Lanes: Copy + ByteDots<Floats = Self::V> {
    /// Sixteen lanes.
    type V: Copy;

    /// How many `V` a tile may keep in registers beside its operands.
    const ACCUMULATORS: usize;

    /// Compiles `op` with the instructions of this level.
    fn vectorize<O: LaneOp>(self, op: O) -> O::Output;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// Sixteen little-endian `f32` of a file or a page.
    fn load_f32(self, x: &[u8; 64]) -> Self::V;
    /// Sixteen little-endian half-precision numbers, converted exactly.
    fn load_f16(self, x: &[u8; 32]) -> Self::V;
    /// Sixteen little-endian bfloat16 numbers, converted exactly.
    fn load_bf16(self, x: &[u8; 32]) -> Self::V;
    fn store(self, v: Self::V, x: &mut [f32; LANES]);
    /// Little-endian.
    #[inline(always)]
    fn store_f32(self, v: Self::V, x: &mut [u8; 64]) {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        for (to, x) in x.as_chunks_mut::<4>().0.iter_mut().zip(lanes) {
            *to = x.to_le_bytes();
        }
    }
    /// Rounds to half precision, nearest even, little-endian.
    fn store_f16(self, v: Self::V, x: &mut [u8; 32]);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Per lane `if a > b { a } else { b }`: a NaN in `a` is passed over.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// Per lane `if a < b { x } else { y }`: false for NaN.
    fn select_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// `x` in the lanes `first..end`, `y` in the others.
    fn select_range(self, first: usize, end: usize, x: Self::V, y: Self::V) -> Self::V;
    fn round_ties_even(self, a: Self::V) -> Self::V;
    /// Adds the whole number `n` to the exponent field of `p`.
    fn add_exponent(self, p: Self::V, n: Self::V) -> Self::V;
    /// The tree 8-4-2-1 of [`crate::float::reduce`].
    fn reduce(self, v: Self::V) -> f32;
    /// Four times [`Lanes::reduce`], which shares its shuffles.
    fn reduce4(self, v: [Self::V; 4]) -> [f32; 4];
    /// Lane `j` of vector `i` becomes lane `i` of vector `j`.
    fn transpose(self, v: [Self::V; LANES]) -> [Self::V; LANES];

    /// [`Lanes::load_f32`] of sixteen blocks, transposed.
    #[inline(always)]
    fn columns_f32(self, blocks: [&[u8; 64]; LANES]) -> [Self::V; LANES] {
        let mut v = [self.splat(0.0); LANES];
        for i in 0..LANES {
            v[i] = self.load_f32(blocks[i]);
        }
        self.transpose(v)
    }

    /// [`Lanes::load_f16`] of sixteen blocks, transposed.
    #[inline(always)]
    fn columns_f16(self, blocks: [&[u8; 32]; LANES]) -> [Self::V; LANES] {
        let mut v = [self.splat(0.0); LANES];
        for i in 0..LANES {
            v[i] = self.load_f16(blocks[i]);
        }
        self.transpose(v)
    }

    /// [`Lanes::load_bf16`] of sixteen blocks, transposed.
    #[inline(always)]
    fn columns_bf16(self, blocks: [&[u8; 32]; LANES]) -> [Self::V; LANES] {
        let mut v = [self.splat(0.0); LANES];
        for i in 0..LANES {
            v[i] = self.load_bf16(blocks[i]);
        }
        self.transpose(v)
    }

    /// Asks the processor to bring a cache line soon. Any address will do.
    #[inline(always)]
    fn prefetch(self, _address: *const u8) {}

    /// The same, no nearer than the second-level cache.
    #[inline(always)]
    fn prefetch_far(self, _address: *const u8) {}

    /// [`crate::float::exp`] in every lane.
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        let n = self.round_ties_even(self.mul(x, self.splat(LOG2_E)));
        let r = self.fma(n, self.splat(-LN2_HIGH), x);
        let r = self.fma(n, self.splat(-LN2_LOW), r);
        let mut p = self.splat(EXP_COEFFICIENTS[0]);
        for c in &EXP_COEFFICIENTS[1..] {
            p = self.fma(p, r, self.splat(*c));
        }
        let y = self.add_exponent(p, n);
        let y = self.select_less(self.splat(EXP_HIGHEST), x, self.splat(f32::INFINITY), y);
        self.select_less(x, self.splat(EXP_LOWEST), self.splat(0.0), y)
    }

    /// [`crate::float::tanh`] in every lane.
    #[inline(always)]
    fn tanh(self, x: Self::V) -> Self::V {
        let negative = self.sub(self.splat(0.0), x);
        let magnitude = self.max(x, negative);
        let square = self.mul(x, x);
        let mut p = self.splat(TANH_COEFFICIENTS[0]);
        for c in &TANH_COEFFICIENTS[1..] {
            p = self.fma(p, square, self.splat(*c));
        }
        let small = self.fma(self.mul(x, square), p, x);
        let t = self.exp(self.mul(self.splat(-2.0), magnitude));
        let one = self.splat(1.0);
        let y = self.div(self.sub(one, t), self.add(one, t));
        let large = self.select_less(x, self.splat(0.0), self.sub(self.splat(0.0), y), y);
        self.select_less(magnitude, self.splat(TANH_SMALL), small, large)
    }

    /// The first `x.len()` lanes from `x`, the others zero.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::V {
        let mut padded = [0.0; LANES];
        padded[..x.len()].copy_from_slice(x);
        self.load(&padded)
    }

    /// Stores the first `x.len()` lanes.
    #[inline(always)]
    fn store_part(self, v: Self::V, x: &mut [f32]) {
        let mut padded = [0.0; LANES];
        self.store(v, &mut padded);
        x.copy_from_slice(&padded[..x.len()]);
    }
}

/// An operation written over [`Lanes`]. `run` must be `#[inline(always)]`, as must everything it calls with a vector.
pub(crate) trait LaneOp {
    type Output;

    fn run<S: Lanes>(self, lanes: S) -> Self::Output;
}

/// Runs `op` with the instructions of `isa`; the scalar level has its own functions and gets the arrays only if asked to.
#[inline]
pub(crate) fn run<O: LaneOp>(isa: Isa, op: O) -> O::Output {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => token.vectorize(op),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => token.vectorize(op),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(token) => token.vectorize(op),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(token) => token.neon().vectorize(op),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(token) => token.neon().vectorize(op),
        _ => Portable.vectorize(op),
    }
}
