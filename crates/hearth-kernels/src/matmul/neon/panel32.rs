//! Panels for blocks of 32 weights and activations in the format A32.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::int8::{Int8, Rows4};
use super::panel::{LANES, Panels, STEP, Sums, interleave, side_by_side};
use super::short::Short32;
use super::vec::{floats, store_floats};
use crate::activation::A32Block;
use crate::matmul::RowTask;

/// Blocks of a step.
const BLOCKS: usize = STEP / 32;

/// Four rows of up to eight blocks.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Panel {
    /// Weights: `[block][columns / 8][row][8]`.
    weights: [[Rows4; 4]; BLOCKS],
    /// The factors of the integers: `[block][row]`.
    scales: [[f32; LANES]; BLOCKS],
    /// What is added to every weight.
    mins: [[f32; LANES]; BLOCKS],
}

/// The family of these formats.
pub(super) struct Short<B>(PhantomData<B>);

// SAFETY: `Panel` is arrays of numbers, aligned to 64 bytes.
unsafe impl<B: Short32> Panels for Short<B> {
    type Panel = Panel;
    const STEP_BYTES: usize = BLOCKS * B::BYTES;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(rows: [&[u8]; LANES], panel: &mut Panel) {
        for block in 0..rows[0].len() / B::BYTES {
            let rows = rows.map(|row| B::view(&row[block * B::BYTES..]));
            // SAFETY: this function has NEON.
            let columns = rows.map(|row| unsafe { row.columns() });
            for (i, to) in panel.weights[block]
                .as_chunks_mut()
                .0
                .iter_mut()
                .enumerate()
            {
                interleave(columns.map(|columns| columns[i]), to);
            }
            panel.scales[block] = rows.map(|row| row.factor());
            panel.mins[block] = rows.map(|row| row.addend());
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn multiply<I: Int8, const N: usize>(
        task: &RowTask<'_>,
        step: usize,
        token: usize,
        panels: &[Panel],
        sums: &mut [Sums; N],
    ) {
        let acts = &task.acts;
        let first = step * BLOCKS;
        let n_blocks = (acts.n_cols / 32 - first).min(BLOCKS);
        let mut tokens = [[&A32Block::ZERO; N]; BLOCKS];
        let mut q = [[[[0; 8]; N]; 4]; BLOCKS];
        for (i, (tokens, q)) in tokens[..n_blocks].iter_mut().zip(&mut q).enumerate() {
            for (t, act) in tokens.iter_mut().enumerate() {
                *act = acts.a32(first + i, (token + t).min(acts.n_tokens - 1));
            }
            *q = side_by_side(tokens.map(|act| {
                let columns = act.q.as_chunks().0;
                columns.first_chunk().expect("four times eight columns")
            }));
        }
        let (tokens, q) = (&tokens[..n_blocks], &q[..n_blocks]);
        let (pairs, rest) = panels.as_chunks::<2>();
        for (p, pair) in pairs.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { tile::<I, B, 2, N>(pair, tokens, q, sums, p * 2) };
        }
        for panel in rest.as_chunks::<1>().0 {
            // SAFETY: the caller's promise.
            unsafe { tile::<I, B, 1, N>(panel, tokens, q, sums, pairs.len() * 2) };
        }
    }
}

/// `G` panels by `N` tokens, one step: adds to the outputs of the panels from `first` on.
///
/// # Safety
/// The processor has the instructions of `I`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<I: Int8, B: Short32, const G: usize, const N: usize>(
    panels: &[Panel; G],
    tokens: &[[&A32Block; N]],
    q: &[[[[i8; 8]; N]; 4]],
    sums: &mut [Sums; N],
    first: usize,
) {
    let mut acc = [[vdupq_n_f32(0.0); N]; G];
    for g in 0..G {
        for t in 0..N {
            acc[g][t] = floats(&sums[t].as_chunks::<LANES>().0[first + g]);
        }
    }
    for (block, (tokens, q)) in tokens.iter().zip(q).enumerate() {
        let weights = std::array::from_fn(|g| panels[g].weights[block].as_slice());
        // SAFETY: the caller's promise.
        let dots = unsafe { I::dots::<G, N>(weights, q, B::SMALL) };
        for t in 0..N {
            let sum = vdupq_n_f32(tokens[t].sum as f32 * tokens[t].step);
            for g in 0..G {
                let dot = vmulq_n_f32(vcvtq_f32_s32(dots[g][t]), tokens[t].step);
                acc[g][t] = vfmaq_f32(acc[g][t], floats(&panels[g].scales[block]), dot);
                if B::HAS_MIN {
                    acc[g][t] = vfmaq_f32(acc[g][t], floats(&panels[g].mins[block]), sum);
                }
            }
        }
    }
    for g in 0..G {
        for t in 0..N {
            let out = &mut sums[t].as_chunks_mut::<LANES>().0[first + g];
            store_floats(out, acc[g][t]);
        }
    }
}
