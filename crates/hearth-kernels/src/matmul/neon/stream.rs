//! Few tokens: the matrix is read strictly in address order, columns are the lanes.
//!
//! Each row is one walk over its blocks: what a block unpacks to serves all `N` tokens, its exact sums are reduced at once, and the
//! canonical chain follows in the next instructions. Its latency is hidden behind the next block's products.

use std::arch::aarch64::*;

use super::int8::Int8;
use super::long::Long256;
use super::panel32::Short;
use super::panel256::Super;
use super::short::Short32;
use super::vec::{load16, words};
use crate::activation::{A256Block, ActBatch};
use crate::lanes::neon::prefetch;
use crate::matmul::{OutRows, RowTask};

/// How far ahead of its use memory is asked for.
const AHEAD: usize = 8 << 10;

/// What a family of formats does with one block.
pub(super) trait Dot {
    /// Bytes of a block.
    const BYTES: usize;

    /// Continues the canonical chains of `N` tokens with block `index` of a row.
    ///
    /// # Safety
    /// The processor has the instructions of `I`.
    unsafe fn add<I: Int8, const N: usize>(
        block: &[u8],
        acts: &ActBatch<'_>,
        index: usize,
        chains: &mut [f32; N],
    );
}

/// The kernel for batches of `N` tokens: every row of the task.
///
/// # Safety
/// The processor has the instructions of `I`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn rows<I: Int8, F: Dot, const N: usize>(task: &RowTask<'_>, out: &mut OutRows) {
    let data = task.data();
    let mut asked = AHEAD;
    let mut at = 0;
    for (r, row) in data.chunks_exact(task.weight.row_bytes()).enumerate() {
        let mut chains = [0.0; N];
        for (index, block) in row.chunks_exact(F::BYTES).enumerate() {
            at += F::BYTES;
            while asked < at + AHEAD {
                prefetch(match asked.checked_sub(data.len()) {
                    None => data.as_ptr().wrapping_add(asked),
                    Some(past) => task.next.as_ptr().wrapping_add(past),
                });
                asked += 64;
            }
            // SAFETY: the caller's promise.
            unsafe { F::add::<I, N>(block, &task.acts, index, &mut chains) };
        }
        for (t, chain) in chains.into_iter().enumerate() {
            out.token(t)[r] = chain;
        }
    }
}

impl<B: Short32> Dot for Short<B> {
    const BYTES: usize = B::BYTES;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add<I: Int8, const N: usize>(
        block: &[u8],
        acts: &ActBatch<'_>,
        index: usize,
        chains: &mut [f32; N],
    ) {
        let block = B::view(block);
        // SAFETY: this function has NEON.
        let [low, high] = unsafe { block.columns() };
        let (d, m) = (block.factor(), block.addend());
        for (t, chain) in chains.iter_mut().enumerate() {
            let act = acts.a32(index, t);
            let (q0, q1) = (load16(&act.q), load16(&act.q[16..]));
            // SAFETY: the caller's promise.
            let sums = unsafe { I::dot16(I::dot16(vdupq_n_s32(0), low, q0), high, q1) };
            *chain = d.mul_add(vaddvq_s32(sums) as f32 * act.step, *chain);
            if B::HAS_MIN {
                *chain = m.mul_add(act.sum as f32 * act.step, *chain);
            }
        }
    }
}

impl<B: Long256> Dot for Super<B> {
    const BYTES: usize = B::BYTES;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add<I: Int8, const N: usize>(
        block: &[u8],
        acts: &ActBatch<'_>,
        index: usize,
        chains: &mut [f32; N],
    ) {
        let block = B::view(block);
        // SAFETY: this function has NEON.
        let (columns, (scales, mins)) = unsafe { (block.columns(), block.scales_and_mins()) };
        let [d, dmin] = block.d_and_dmin();
        let wide = |v: int8x16_t| [vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v)];
        let (scales, mins) = (wide(scales), wide(mins));
        for (t, chain) in chains.iter_mut().enumerate() {
            let act = acts.a256(index, t);
            let e = exponents(act);
            // SAFETY: the caller's promise.
            let total = unsafe { total::<I, B>(&columns, shift(scales, e), act) } as f32;
            let term = if B::HAS_MIN {
                d.mul_add(total, -(dmin * min_total(mins, e, act) as f32))
            } else {
                d * total
            };
            *chain = act.base.mul_add(term, *chain);
        }
    }
}

/// The exponents, one per 16 activations.
#[inline]
#[target_feature(enable = "neon")]
fn exponents(act: &A256Block) -> [int16x8_t; 2] {
    // Each exponent stands in both halves of a 32-bit number.
    // SAFETY: 32 readable bytes of integers.
    unsafe {
        let e = act.twin_e.as_ptr().cast();
        [vld1q_s16(e), vld1q_s16(e.add(8))]
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn shift(v: [int16x8_t; 2], e: [int16x8_t; 2]) -> [int16x8_t; 2] {
    [vshlq_s16(v[0], e[0]), vshlq_s16(v[1], e[1])]
}

/// Σ scale · 2^e · (dot product), with the exponents in the scales.
///
/// # Safety
/// The processor has the instructions of `I`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn total<I: Int8, B: Long256>(
    columns: &[int8x16_t; 16],
    [low, high]: [int16x8_t; 2],
    act: &A256Block,
) -> i32 {
    let scales = [
        vmovl_s16(vget_low_s16(low)),
        vmovl_high_s16(low),
        vmovl_s16(vget_low_s16(high)),
        vmovl_high_s16(high),
    ];
    let mut total = vdupq_n_s32(0);
    for sub in 0..256 / B::SUB {
        let first = sub * B::SUB / 16;
        let mut sums = vdupq_n_s32(0);
        for (i, column) in columns[first..first + B::SUB / 16].iter().enumerate() {
            let q = load16(&act.q[(first + i) * 16..]);
            // SAFETY: the caller's promise.
            sums = unsafe { I::dot16(sums, *column, q) };
        }
        let scales = scales[first / 4];
        total = match first % 4 {
            0 => vmlaq_laneq_s32::<0>(total, sums, scales),
            1 => vmlaq_laneq_s32::<1>(total, sums, scales),
            2 => vmlaq_laneq_s32::<2>(total, sums, scales),
            _ => vmlaq_laneq_s32::<3>(total, sums, scales),
        };
    }
    vaddvq_s32(total)
}

/// Σ min · 2^e · (sum of the activations).
#[inline]
#[target_feature(enable = "neon")]
fn min_total(mins: [int16x8_t; 2], e: [int16x8_t; 2], act: &A256Block) -> i32 {
    let sums = act.sum16.as_chunks().0;
    // At most 16 · 127 · 16 = 32512 each.
    let sums = shift([words(&sums[0]), words(&sums[1])], e);
    let mut total = vdupq_n_s32(0);
    for (min, sum) in mins.into_iter().zip(sums) {
        total = vmlal_s16(total, vget_low_s16(min), vget_low_s16(sum));
        total = vmlal_high_s16(total, min, sum);
    }
    vaddvq_s32(total)
}
