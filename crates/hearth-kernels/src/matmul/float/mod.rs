//! Products with float weights: F32, F16 and BF16, each converted exactly.
//!
//! Element `k` of a row goes to lane `k % 16`, one fused multiply-add each, and the lanes meet in the tree 8-4-2-1, on every
//! level and for any number of tokens. [`scalar`] is the definition. [`few`] reads the weights as they lie in the file, 16 columns
//! as lanes; [`panel`] converts and transposes them once for many tokens, 16 rows as lanes. Each is one algorithm that the levels
//! compile.

mod few;
mod panel;
mod scalar;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::{OutRows, RowKernel, RowTask, ThreadScratch};
use crate::cpu::{Isa, Level};
use crate::float::{self, LANES};
use crate::lanes::{Bf16, F16, F32, Lanes, Stored};
use crate::quant::WeightType;

pub(crate) use panel::{n_lines, pack};

/// From this many tokens on, converting a row once costs less than converting it again for every few tokens.
pub(crate) const PANEL_TOKENS: usize = 12;

/// The kernel of a level; one function serves all three formats.
pub(crate) fn kernel(isa: Isa, _: WeightType) -> RowKernel {
    match isa {
        Isa::Scalar => scalar::rows,
        Isa::Portable => portable,
        Isa::Avx2(_) => avx2,
        Isa::Avx512(_) => avx512,
        // The three differ in products of bytes only.
        Isa::Neon(_) | Isa::NeonDotprod(_) | Isa::NeonI8mm(_) => neon,
    }
}

fn portable(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    rows(Isa::Portable, task, out, scratch);
}

fn avx2(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    at(Level::Avx2, task, out, scratch);
}

fn avx512(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    at(Level::Avx512, task, out, scratch);
}

fn neon(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    at(Level::Neon, task, out, scratch);
}

/// A plain function pointer carries no token; asking again costs some nanoseconds per task and needs no promise.
fn at(level: Level, task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    rows(Isa::new(level).unwrap_or(Isa::Portable), task, out, scratch);
}

fn rows(isa: Isa, task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    match task.weight.weight_type() {
        WeightType::F32 => rows_of::<F32>(isa, task, out, scratch),
        WeightType::F16 => rows_of::<F16>(isa, task, out, scratch),
        WeightType::BF16 => rows_of::<Bf16>(isa, task, out, scratch),
        ty => unreachable!("only float weights come here, found {ty}"),
    }
}

fn rows_of<W: Stored>(
    isa: Isa,
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    if task.acts.floats.is_empty() {
        few::rows::<W>(isa, task, out, scratch);
    } else {
        panel::rows::<W>(isa, task, out, scratch);
    }
}

/// Sixteen floats in a cache line of their own.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [f32; LANES]);

impl Line {
    pub const ZERO: Line = Line([0.0; LANES]);
}

/// Scratch bytes, which start at a cache line, as lines of floats.
fn lines(bytes: &mut [u8]) -> &mut [[f32; LANES]] {
    // SAFETY: every pattern of bits is a float, and every float is four initialised bytes.
    unsafe { bytes.align_to_mut().1 }
}

/// Of `n_tokens`, those that pass through a tile together with this one: as many as a level has registers for, with two rows
/// or more, as long as there are so many.
fn group(isa: Isa, n_tokens: usize, token: usize) -> Range<usize> {
    let steps: &[usize] = match isa {
        Isa::Avx512(_) => &[6, 4, 3, 2, 1],
        _ => &[3, 2, 1],
    };
    let mut first = token / steps[0] * steps[0];
    loop {
        let left = n_tokens - first;
        let step = steps.iter().find(|step| **step <= left).unwrap_or(&1);
        if token < first + step {
            return first..first + step;
        }
        first += step;
    }
}

/// Where a tile's outputs go, and what they still lack: the elements behind the last whole block of 16.
struct Finish<'a, const R: usize> {
    task: &'a RowTask<'a>,
    /// First of the `R` rows of the tile, counted in the task.
    row: usize,
    /// First token.
    first: usize,
}

impl<const R: usize> Finish<'_, R> {
    /// `sums` holds the lanes, `[tokens, R]`.
    #[inline(always)]
    fn run<S: Lanes, W: Stored>(&self, s: S, sums: &[[f32; LANES]], out: &mut OutRows) {
        let n_whole = self.task.acts.n_cols / LANES * LANES;
        if n_whole < self.task.acts.n_cols {
            self.run_rest::<W>(n_whole, sums, out);
            return;
        }
        for (t, sums) in sums.as_chunks::<R>().0.iter().enumerate() {
            let out = &mut out.token(self.first + t)[self.row..][..R];
            if let [a, b, c, d] = &sums[..] {
                out.copy_from_slice(&s.reduce4([s.load(a), s.load(b), s.load(c), s.load(d)]));
            } else {
                for (out, sums) in out.iter_mut().zip(sums) {
                    *out = s.reduce(s.load(sums));
                }
            }
        }
    }

    /// Rows that are no multiple of 16.
    fn run_rest<W: Stored>(&self, n_whole: usize, sums: &[[f32; LANES]], out: &mut OutRows) {
        for (t, sums) in sums.as_chunks::<R>().0.iter().enumerate() {
            let rest = &self.task.acts.row(self.first + t)[n_whole..];
            for (r, sums) in sums.iter().enumerate() {
                let weights = self.task.weight.row(self.task.rows.start + self.row + r);
                let weights = &weights[n_whole * W::BYTES..];
                out.token(self.first + t)[self.row + r] = finish_row::<W>(sums, weights, rest);
            }
        }
    }
}

/// The last elements of a row, and the sum.
fn finish_row<W: Stored>(sums: &[f32; LANES], weights: &[u8], x: &[f32]) -> f32 {
    let mut lanes = *sums;
    for ((lane, w), x) in lanes.iter_mut().zip(weights.chunks_exact(W::BYTES)).zip(x) {
        *lane = W::element(w).mul_add(*x, *lane);
    }
    float::reduce(&lanes)
}
