//! Tiles of rows and tokens whose lanes stay in registers.
//!
//! One to a few tokens: one pass over the task in the order of the file, bound by memory, with prefetch. More tokens: tokens are
//! the outer loop, and columns go in parts such that a part of the tile's tokens and of the passing rows fits the first-level
//! cache; between parts the lanes wait in the thread's scratch. The chains of additions are the same either way.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

use std::marker::PhantomData;
use std::ops::Range;

use super::super::{OutRows, RowTask, ThreadScratch};
use crate::cpu::Isa;
use crate::float::{self, LANES};
use crate::lanes::{self, Bf16, F16, F32, LaneOp, Lanes, Stored};
use crate::quant::WeightType;

/// Blocks of 16 columns in a part at most: six tokens of it are 24 KiB.
const PART: usize = 64;

/// All rows of the task, all tokens.
pub(super) fn rows(isa: Isa, task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    match task.weight.weight_type() {
        WeightType::F32 => tokens::<F32>(isa, task, out, scratch),
        WeightType::F16 => tokens::<F16>(isa, task, out, scratch),
        WeightType::BF16 => tokens::<Bf16>(isa, task, out, scratch),
        ty => unreachable!("only float weights come here, found {ty}"),
    }
}

/// Steps of tokens for which a level has registers for at least two rows.
fn tokens<W: Stored>(isa: Isa, task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    let steps: &[usize] = match isa {
        Isa::Avx512(_) => &[6, 4, 3, 2, 1],
        _ => &[3, 2, 1],
    };
    let n_tokens = task.acts.n_tokens;
    let mut first = 0;
    while first < n_tokens {
        let left = n_tokens - first;
        let step = steps
            .iter()
            .copied()
            .find(|step| *step <= left)
            .unwrap_or(1);
        let pass = Pass {
            task,
            out,
            scratch,
            first,
        };
        match step {
            6 => lanes::run(isa, PassOp::<W, 6>(pass, PhantomData)),
            4 => lanes::run(isa, PassOp::<W, 4>(pass, PhantomData)),
            3 => lanes::run(isa, PassOp::<W, 3>(pass, PhantomData)),
            2 => lanes::run(isa, PassOp::<W, 2>(pass, PhantomData)),
            _ => lanes::run(isa, PassOp::<W, 1>(pass, PhantomData)),
        }
        first += step;
    }
}

/// All rows of the task for some tokens from `first` on.
struct Pass<'a> {
    task: &'a RowTask<'a>,
    out: &'a mut OutRows,
    scratch: &'a mut ThreadScratch,
    first: usize,
}

struct PassOp<'a, W, const T: usize>(Pass<'a>, PhantomData<W>);

impl<W: Stored, const T: usize> LaneOp for PassOp<'_, W, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        // A step the level has no registers for is never taken, so its code need not exist.
        if T > S::ACCUMULATORS {
            return;
        }
        let Pass {
            task,
            out,
            scratch,
            first,
        } = self.0;
        let n_blocks = task.acts.n_cols / LANES;
        let is_stream = T == task.acts.n_tokens;
        let n_parts = if is_stream {
            1
        } else {
            n_blocks.div_ceil(PART).max(1)
        };
        let n_rows = task.rows.len();
        let n_waiting = if n_parts > 1 { n_rows * T } else { 4 * T };
        // One token of one pass is read where it lies.
        let is_packed = T > 1;
        let n_packed = if is_packed {
            n_blocks.div_ceil(n_parts) * T
        } else {
            0
        };
        let lines = lines(scratch.bytes((n_waiting + n_packed) * 64));
        let (waiting, lines) = lines.split_at_mut(n_waiting);
        for part in 0..n_parts {
            let blocks = part * n_blocks / n_parts..(part + 1) * n_blocks / n_parts;
            let x = if is_packed {
                let packed = &mut lines.as_chunks_mut::<T>().0[..blocks.len()];
                for t in 0..T {
                    let row = &task.acts.row(first + t).as_chunks().0[blocks.clone()];
                    for (to, x) in packed.iter_mut().zip(row) {
                        to[t] = *x;
                    }
                }
                &*packed
            } else {
                let row = &task.acts.row(first).as_chunks().0[blocks.clone()];
                row.as_chunks::<T>().0
            };
            let mut tiles = Tiles {
                task,
                x,
                blocks,
                waiting,
                out,
                first,
                is_stream,
            };
            let mut row = 0;
            while row < n_rows {
                let left = n_rows - row;
                row += if 4 * T <= S::ACCUMULATORS && left >= 4 {
                    tiles.run::<S, W, 4>(s, row)
                } else if 2 * T <= S::ACCUMULATORS && left >= 2 {
                    tiles.run::<S, W, 2>(s, row)
                } else {
                    tiles.run::<S, W, 1>(s, row)
                };
            }
        }
    }
}

/// Scratch bytes, which start at a cache line, as lines of floats.
fn lines(bytes: &mut [u8]) -> &mut [[f32; LANES]] {
    // SAFETY: every pattern of bits is a float, and every float is four initialised bytes.
    unsafe { bytes.align_to_mut().1 }
}

/// One part of the columns, for `T` tokens.
struct Tiles<'a, const T: usize> {
    task: &'a RowTask<'a>,
    /// The part's blocks of columns, the tokens of each side by side: one stream to read, aligned.
    x: &'a [[[f32; LANES]; T]],
    /// The part, in blocks of 16 columns.
    blocks: Range<usize>,
    /// Lanes between parts: all rows', or only this tile's where there is one part.
    waiting: &'a mut [[f32; LANES]],
    out: &'a mut OutRows,
    /// First token.
    first: usize,
    /// There is no other pass: what comes next comes from memory.
    is_stream: bool,
}

impl<const T: usize> Tiles<'_, T> {
    /// `R` rows from `row` on, counted in the task.
    #[inline(always)]
    fn run<S: Lanes, W: Stored, const R: usize>(&mut self, s: S, row: usize) -> usize {
        let n_blocks = self.task.acts.n_cols / LANES;
        let is_whole = self.blocks.len() == n_blocks;
        let start = if is_whole { 0 } else { row * T };
        // Lanes go through memory even within one part: whatever reads them later cannot keep them out of registers here.
        let mut sums = [[s.splat(0.0); R]; T];
        if self.blocks.start > 0 {
            let waiting = &self.waiting[start..start + R * T];
            for t in 0..T {
                for r in 0..R {
                    sums[t][r] = s.load(&waiting[t * R + r]);
                }
            }
        }
        if self.is_stream {
            self.multiply::<S, W, R, true>(s, row, &mut sums);
        } else {
            self.multiply::<S, W, R, false>(s, row, &mut sums);
        }
        let waiting = &mut self.waiting[start..start + R * T];
        for t in 0..T {
            for r in 0..R {
                s.store(sums[t][r], &mut waiting[t * R + r]);
            }
        }
        if self.blocks.end == n_blocks {
            self.finish::<S, W, R>(s, row, start);
        }
        R
    }

    /// `PREFETCH` asks for the rows after these, as far away as they take to read.
    #[inline(always)]
    fn multiply<S: Lanes, W: Stored, const R: usize, const PREFETCH: bool>(
        &self,
        s: S,
        row: usize,
        sums: &mut [[S::V; R]; T],
    ) {
        let row_bytes = self.task.weight.row_bytes();
        let data = &self.task.data()[row * row_bytes..][..R * row_bytes];
        let is_end = row + R >= self.task.rows.len();
        let ahead = if is_end {
            self.task.next.as_ptr()
        } else {
            data.as_ptr_range().end
        };
        let mut weights: [&[W::Block]; R] = [&[]; R];
        for (r, weights) in weights.iter_mut().enumerate() {
            let row = &data[r * row_bytes..(r + 1) * row_bytes];
            *weights = &W::blocks(row)[self.blocks.clone()][..self.x.len()];
        }
        for (i, x) in self.x.iter().enumerate() {
            let mut weight = [s.splat(0.0); R];
            for r in 0..R {
                weight[r] = W::load(s, &weights[r][i]);
                if PREFETCH {
                    s.prefetch(ahead.wrapping_add(r * row_bytes + i * LANES * W::BYTES));
                }
            }
            for t in 0..T {
                let x = s.load(&x[t]);
                for r in 0..R {
                    sums[t][r] = s.fma(weight[r], x, sums[t][r]);
                }
            }
        }
    }

    /// The outputs of a tile whose lanes wait from `start` on.
    #[inline(always)]
    fn finish<S: Lanes, W: Stored, const R: usize>(&mut self, s: S, row: usize, start: usize) {
        let n_whole = self.blocks.end * LANES;
        for t in 0..T {
            let sums = &self.waiting[start + t * R..][..R];
            let out = &mut self.out.token(self.first + t)[row..row + R];
            let rest = &self.task.acts.row(self.first + t)[n_whole..];
            if let (true, [a, b, c, d]) = (rest.is_empty(), sums) {
                out.copy_from_slice(&s.reduce4([s.load(a), s.load(b), s.load(c), s.load(d)]));
                continue;
            }
            for (r, (out, sums)) in out.iter_mut().zip(sums).enumerate() {
                *out = if rest.is_empty() {
                    s.reduce(s.load(sums))
                } else {
                    let weights = self.task.weight.row(self.task.rows.start + row + r);
                    finish_row::<W>(sums, &weights[n_whole * W::BYTES..], rest)
                };
            }
        }
    }
}

/// The last elements of a row that is no multiple of 16, and the sum.
#[inline(always)]
fn finish_row<W: Stored>(sums: &[f32; LANES], weights: &[u8], x: &[f32]) -> f32 {
    let mut lanes = *sums;
    for ((lane, w), x) in lanes.iter_mut().zip(weights.chunks_exact(W::BYTES)).zip(x) {
        *lane = W::element(w).mul_add(*x, *lane);
    }
    float::reduce(&lanes)
}
