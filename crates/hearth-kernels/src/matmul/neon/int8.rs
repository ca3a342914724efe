//! Dot products of signed bytes, exact in 32 bits: all in which the levels differ.
//!
//! Weights lie between −128 and 127, activations between −127 and 127.

use std::arch::aarch64::*;
use std::arch::asm;

use super::vec::{dup8, load8, load16};

/// Eight columns of four rows.
pub(super) type Rows4 = [[i8; 8]; 4];

/// A way to multiply.
pub(crate) trait Int8: 'static {
    /// Adds the products of 16 columns to four sums; which column goes to which is the level's affair.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn dot16(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;

    /// The dot products of `G` times four rows, a row per lane, with `N` tokens, over as many columns as `acts` has.
    /// `small` says that no weight is above 64 in magnitude. `N` is even.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn dots<const G: usize, const N: usize>(
        weights: [&[Rows4]; G],
        acts: &[[[i8; 8]; N]],
        small: bool,
    ) -> [[int32x4_t; N]; G];
}

/// With what every 64-bit ARM processor has.
pub(crate) struct Plain;

impl Int8 for Plain {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dot16(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // Two products fit a word: 2 · 128 · 127 = 32512.
        let words = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        vpadalq_s16(sums, vmlal_high_s8(words, w, x))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dots<const G: usize, const N: usize>(
        weights: [&[Rows4]; G],
        acts: &[[[i8; 8]; N]],
        small: bool,
    ) -> [[int32x4_t; N]; G] {
        // Products that fit a word: two, or 4 · 64 · 127 = 32512.
        let chain = if small { 4 } else { 2 };
        let mut dots = [[vdupq_n_s32(0); N]; G];
        for g in 0..G {
            for t in 0..N {
                let mut rows = [vdupq_n_s32(0); 4];
                for (weights, acts) in weights[g].chunks(chain).zip(acts.chunks(chain)) {
                    for (r, row) in rows.iter_mut().enumerate() {
                        let mut words = vmull_s8(load8(&weights[0][r]), load8(&acts[0][t]));
                        for (weights, acts) in weights[1..].iter().zip(&acts[1..]) {
                            words = vmlal_s8(words, load8(&weights[r]), load8(&acts[t]));
                        }
                        *row = vpadalq_s16(*row, words);
                    }
                }
                let [a, b, c, d] = rows;
                dots[g][t] = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
            }
        }
        dots
    }
}

/// With the dot product of four bytes.
pub(crate) struct Dotprod;

/// Adds to each lane the dot product of its four bytes; the intrinsic is not stable.
///
/// # Safety
/// The processor has the instruction.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's promise; only registers are touched.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

impl Int8 for Dotprod {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dot16(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { sdot(sums, w, x) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dots<const G: usize, const N: usize>(
        weights: [&[Rows4]; G],
        acts: &[[[i8; 8]; N]],
        _: bool,
    ) -> [[int32x4_t; N]; G] {
        // Two rows per register, two sums per row.
        let mut sums = [[[vdupq_n_s32(0); 2]; N]; G];
        for (c, acts) in acts.iter().enumerate() {
            for g in 0..G {
                let [low, high] = pairs(&weights[g][c]);
                for t in 0..N {
                    let x = dup8(&acts[t]);
                    // SAFETY: the caller's promise.
                    unsafe {
                        sums[g][t][0] = sdot(sums[g][t][0], low, x);
                        sums[g][t][1] = sdot(sums[g][t][1], high, x);
                    }
                }
            }
        }
        let mut dots = [[vdupq_n_s32(0); N]; G];
        for g in 0..G {
            for t in 0..N {
                dots[g][t] = vpaddq_s32(sums[g][t][0], sums[g][t][1]);
            }
        }
        dots
    }
}

/// With the product of two rows of eight bytes and two columns of eight bytes, beside the dot product.
pub(crate) struct I8mm;

/// Adds the products of the rows of `a` with the rows of `b`: lanes 0 and 1 are the first of `a` with both of `b`. The
/// intrinsic is not stable.
///
/// # Safety
/// The processor has the instruction.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn smmla(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's promise; only registers are touched.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

impl Int8 for I8mm {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dot16(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { sdot(sums, w, x) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dots<const G: usize, const N: usize>(
        weights: [&[Rows4]; G],
        acts: &[[[i8; 8]; N]],
        _: bool,
    ) -> [[int32x4_t; N]; G] {
        const { assert!(N.is_multiple_of(2)) };
        // Place t holds two rows and tokens t and t + 1 for even t, the other two rows for odd t.
        let mut sums = [[vdupq_n_s32(0); N]; G];
        for (c, acts) in acts.iter().enumerate() {
            for g in 0..G {
                let [low, high] = pairs(&weights[g][c]);
                for (p, pair) in acts.as_chunks::<2>().0.iter().enumerate() {
                    let x = load16(pair.as_flattened());
                    // SAFETY: the caller's promise.
                    unsafe {
                        sums[g][2 * p] = smmla(sums[g][2 * p], low, x);
                        sums[g][2 * p + 1] = smmla(sums[g][2 * p + 1], high, x);
                    }
                }
            }
        }
        for [low, high] in sums.as_flattened_mut().as_chunks_mut().0 {
            (*low, *high) = (vuzp1q_s32(*low, *high), vuzp2q_s32(*low, *high));
        }
        sums
    }
}

/// Rows 0 and 1, and rows 2 and 3.
#[inline]
#[target_feature(enable = "neon")]
fn pairs(rows: &Rows4) -> [int8x16_t; 2] {
    let (low, high) = rows.split_at(2);
    [load16(low.as_flattened()), load16(high.as_flattened())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    /// Both methods against plain sums, at the extremes and between.
    fn check<I: Int8>() {
        for seed in 0..50u8 {
            let small = seed % 2 == 0;
            let value = |i: usize, limit: i32| match seed {
                0..4 => (limit - 1) as i8,
                4..8 => -limit as i8,
                _ => ((i as i32 * 37 + i32::from(seed) * 11) % (2 * limit) - limit) as i8,
            };
            let limit = if small { 64 } else { 128 };
            let weights: [[Rows4; 4]; 2] = std::array::from_fn(|g| {
                std::array::from_fn(|c| {
                    std::array::from_fn(|r| {
                        std::array::from_fn(|i| value(g * 128 + c * 32 + r * 8 + i, limit))
                    })
                })
            });
            let acts: [[[i8; 8]; 4]; 4] = std::array::from_fn(|c| {
                std::array::from_fn(|t| {
                    std::array::from_fn(|i| value(c * 32 + t * 8 + i, 128).max(-127))
                })
            });
            for n in [2, 4] {
                // SAFETY: the caller has looked for the instructions.
                let dots =
                    unsafe { I::dots([&weights[0][..n], &weights[1][..n]], &acts[..n], small) };
                for (g, t, r) in (0..32).map(|i| (i / 16, i / 4 % 4, i % 4)) {
                    let product = |(c, i): (usize, usize)| {
                        i32::from(weights[g][c][r][i]) * i32::from(acts[c][t][i])
                    };
                    let want: i32 = (0..n * 8).map(|i| product((i / 8, i % 8))).sum();
                    let mut got = [0; 4];
                    // SAFETY: 16 writable bytes.
                    unsafe { vst1q_s32(got.as_mut_ptr(), dots[g][t]) };
                    assert_eq!(got[r], want, "seed {seed}, {n} times 8 columns");
                }
            }
            let (w, x) = (weights[0][0].as_flattened(), acts[0].as_flattened());
            let want: i32 = (0..16).map(|i| i32::from(w[i]) * i32::from(x[i])).sum();
            // SAFETY: the caller has looked for the instructions; the arrays have 16 bytes and more.
            let got = unsafe {
                let sums = I::dot16(vdupq_n_s32(5), vld1q_s8(w.as_ptr()), vld1q_s8(x.as_ptr()));
                vaddvq_s32(sums)
            };
            assert_eq!(got, want + 20, "seed {seed}");
        }
    }

    #[test]
    fn every_way_to_multiply_is_exact() {
        for (level, check) in [
            (Level::Neon, check::<Plain> as fn()),
            (Level::NeonDotprod, check::<Dotprod>),
            (Level::NeonI8mm, check::<I8mm>),
        ] {
            match level.is_available() {
                true => check(),
                false => println!("not run: {level}"),
            }
        }
    }
}
