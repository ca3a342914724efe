//! Panels for super-blocks of 256 weights and activations in the format A256.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::int8::{Int8, Rows4};
use super::long::Long256;
use super::panel::{LANES, Panels, Sums, interleave, side_by_side};
use super::vec::{floats, ints, store_bytes, store_floats};
use crate::activation::A256Block;
use crate::matmul::RowTask;

/// Four rows of one super-block.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Panel {
    /// Weights: `[columns / 8][row][8]`.
    weights: [Rows4; 32],
    /// Scales: `[columns / SUB][row]`.
    scales: [[i32; LANES]; 16],
    /// Minima, likewise.
    mins: [[i32; LANES]; 16],
    d: [f32; LANES],
    dmin: [f32; LANES],
}

/// What a tile needs of `N` tokens, side by side.
#[repr(C, align(64))]
struct Tokens<const N: usize> {
    /// `[columns / 8][token][8]`.
    q: [[[i8; 8]; N]; 32],
    /// Exponents: `[columns / 32][token]`.
    e: [[i32; N]; 8],
    /// Sums of the activations that share a minimum, times 2^e: `[columns / SUB][token]`.
    sums: [[i32; N]; 16],
    base: [f32; N],
}

/// The family of these formats.
pub(super) struct Super<B>(PhantomData<B>);

// SAFETY: `Panel` is arrays of numbers, aligned to 64 bytes.
unsafe impl<B: Long256> Panels for Super<B> {
    type Panel = Panel;
    const STEP_BYTES: usize = B::BYTES;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(rows: [&[u8]; LANES], panel: &mut Panel) {
        let rows = rows.map(B::view);
        // SAFETY: this function has NEON.
        let columns = rows.map(|row| unsafe { row.columns() });
        for (i, to) in panel.weights.as_chunks_mut().0.iter_mut().enumerate() {
            interleave(columns.map(|columns| columns[i]), to);
        }
        for (r, row) in rows.into_iter().enumerate() {
            // SAFETY: as above.
            let (scales, mins) = unsafe { row.scales_and_mins() };
            let (mut s, mut m) = ([0; 16], [0; 16]);
            store_bytes(&mut s, scales);
            store_bytes(&mut m, mins);
            for sub in 0..256 / B::SUB {
                panel.scales[sub][r] = s[sub * B::SUB / 16].into();
                if B::HAS_MIN {
                    panel.mins[sub][r] = m[sub * B::SUB / 16].into();
                }
            }
            [panel.d[r], panel.dmin[r]] = row.d_and_dmin();
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
        let last = task.acts.n_tokens - 1;
        let acts = std::array::from_fn(|t| task.acts.a256(step, (token + t).min(last)));
        let tokens = tokens::<B, N>(acts);
        let (pairs, rest) = panels.as_chunks::<2>();
        for (p, pair) in pairs.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { tile::<I, B, 2, N>(pair, &tokens, sums, p * 2) };
        }
        for panel in rest.as_chunks::<1>().0 {
            // SAFETY: the caller's promise.
            unsafe { tile::<I, B, 1, N>(panel, &tokens, sums, pairs.len() * 2) };
        }
    }
}

/// Puts the tokens side by side, and multiplies what is per token with the powers of two.
#[inline]
fn tokens<B: Long256, const N: usize>(acts: [&A256Block; N]) -> Tokens<N> {
    let mut tokens = Tokens {
        q: side_by_side(acts.map(|act| {
            let columns = act.q.as_chunks().0;
            columns.first_chunk().expect("32 times eight columns")
        })),
        e: [[0; N]; 8],
        sums: [[0; N]; 16],
        base: acts.map(|act| act.base),
    };
    for (t, act) in acts.into_iter().enumerate() {
        for (to, e) in tokens.e.iter_mut().zip(act.e) {
            to[t] = e.into();
        }
        for (j, sum) in act.sum16.into_iter().enumerate() {
            tokens.sums[j * 16 / B::SUB][t] += i32::from(sum) << act.e[j / 2];
        }
    }
    tokens
}

/// `G` panels by `N` tokens, one super-block: adds to the outputs of the panels from `first` on.
///
/// # Safety
/// The processor has the instructions of `I`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<I: Int8, B: Long256, const G: usize, const N: usize>(
    panels: &[Panel; G],
    tokens: &Tokens<N>,
    sums: &mut [Sums; N],
    first: usize,
) {
    // SAFETY: the caller's promise.
    let totals = unsafe { totals::<I, B, G, N>(panels, tokens) };
    for g in 0..G {
        let d = floats(&panels[g].d);
        for t in 0..N {
            let total = vcvtq_f32_s32(totals[g][t]);
            let term = if B::HAS_MIN {
                let min = vcvtq_f32_s32(min_total::<B, N>(&panels[g], tokens, t));
                let min = vmulq_f32(floats(&panels[g].dmin), min);
                vfmaq_f32(vnegq_f32(min), d, total)
            } else {
                vmulq_f32(d, total)
            };
            let out = &mut sums[t].as_chunks_mut::<LANES>().0[first + g];
            store_floats(out, vfmaq_n_f32(floats(out), term, tokens.base[t]));
        }
    }
}

/// Σ scale · 2^e · (dot product).
///
/// # Safety
/// The processor has the instructions of `I`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn totals<I: Int8, B: Long256, const G: usize, const N: usize>(
    panels: &[Panel; G],
    tokens: &Tokens<N>,
) -> [[int32x4_t; N]; G] {
    let mut totals = [[vdupq_n_s32(0); N]; G];
    for sub in 0..256 / B::SUB {
        let eights = sub * B::SUB / 8..(sub + 1) * B::SUB / 8;
        let weights = std::array::from_fn(|g| &panels[g].weights[eights.clone()]);
        // SAFETY: the caller's promise.
        let dots = unsafe { I::dots::<G, N>(weights, &tokens.q[eights.clone()], B::SMALL) };
        for t in 0..N {
            let e = vdupq_n_s32(tokens.e[sub * B::SUB / 32][t]);
            for g in 0..G {
                let scale = vshlq_s32(ints(&panels[g].scales[sub]), e);
                totals[g][t] = vmlaq_s32(totals[g][t], dots[g][t], scale);
            }
        }
    }
    totals
}

/// Σ min · 2^e · (sum of the activations).
#[inline]
#[target_feature(enable = "neon")]
fn min_total<B: Long256, const N: usize>(panel: &Panel, tokens: &Tokens<N>, t: usize) -> int32x4_t {
    let mut total = vdupq_n_s32(0);
    for sub in 0..256 / B::SUB {
        total = vmlaq_n_s32(total, ints(&panel.mins[sub]), tokens.sums[sub][t]);
    }
    total
}
