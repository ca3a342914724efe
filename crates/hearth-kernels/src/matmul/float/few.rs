//! One to some tokens: passes over the task in the order of the file, each for as many tokens as a tile has registers for.
//! The first pass is bound by memory, hence the prefetch; the task is small enough to be in the cache for the others.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

use std::marker::PhantomData;

use super::super::{OutRows, RowTask, ThreadScratch};
use super::{Finish, group, lines};
use crate::cpu::Isa;
use crate::float::LANES;
use crate::lanes::{self, LaneOp, Lanes, Stored};

/// All rows of the task, all tokens.
pub(super) fn rows<W: Stored>(
    isa: Isa,
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let n_tokens = task.acts.n_tokens;
    let mut first = 0;
    while first < n_tokens {
        let group = group(isa, n_tokens, first);
        let pass = Pass {
            task,
            out,
            scratch,
            first,
        };
        match group.len() {
            6 => lanes::run(isa, PassOp::<W, 6>(pass, PhantomData)),
            4 => lanes::run(isa, PassOp::<W, 4>(pass, PhantomData)),
            3 => lanes::run(isa, PassOp::<W, 3>(pass, PhantomData)),
            2 => lanes::run(isa, PassOp::<W, 2>(pass, PhantomData)),
            _ => lanes::run(isa, PassOp::<W, 1>(pass, PhantomData)),
        }
        first = group.end;
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
        // A group the level has no registers for does not occur, so its code need not exist.
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
        // One token alone is read where it lies.
        let n_packed = if T > 1 { n_blocks } else { 0 };
        let lines = lines(scratch.bytes((4 + n_packed) * T * 64));
        let (sums, lines) = lines.split_at_mut(4 * T);
        let x = if T > 1 {
            let packed = &mut lines.as_chunks_mut::<T>().0[..n_blocks];
            for t in 0..T {
                let row = task.acts.row(first + t).as_chunks().0;
                for (to, x) in packed.iter_mut().zip(row) {
                    to[t] = *x;
                }
            }
            &*packed
        } else {
            task.acts.row(first).as_chunks().0.as_chunks::<T>().0
        };
        let mut tiles = Tiles {
            task,
            x,
            sums,
            out,
            first,
        };
        let n_rows = task.rows.len();
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

/// The tiles of a pass, `T` tokens wide.
struct Tiles<'a, const T: usize> {
    task: &'a RowTask<'a>,
    /// The tokens of each block of columns side by side: one stream to read, aligned.
    x: &'a [[[f32; LANES]; T]],
    /// The lanes of a tile. They go through memory: whatever reads them later cannot keep them out of registers here.
    sums: &'a mut [[f32; LANES]],
    out: &'a mut OutRows,
    /// First token.
    first: usize,
}

impl<const T: usize> Tiles<'_, T> {
    /// `R` rows from `row` on, counted in the task.
    #[inline(always)]
    fn run<S: Lanes, W: Stored, const R: usize>(&mut self, s: S, row: usize) -> usize {
        let sums = self.multiply::<S, W, R>(s, row);
        for t in 0..T {
            for r in 0..R {
                s.store(sums[t][r], &mut self.sums[t * R + r]);
            }
        }
        let finish = Finish::<R> {
            task: self.task,
            row,
            first: self.first,
        };
        finish.run::<S, W>(s, &self.sums[..R * T], self.out);
        R
    }

    /// Asks for the rows after these on the way, as far away as they take to read.
    #[inline(always)]
    fn multiply<S: Lanes, W: Stored, const R: usize>(&self, s: S, row: usize) -> [[S::V; R]; T] {
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
            *weights = &W::blocks(&data[r * row_bytes..(r + 1) * row_bytes])[..self.x.len()];
        }
        let mut sums = [[s.splat(0.0); R]; T];
        for (i, x) in self.x.iter().enumerate() {
            let mut weight = [s.splat(0.0); R];
            for r in 0..R {
                weight[r] = W::load(s, &weights[r][i]);
                s.prefetch(ahead.wrapping_add(r * row_bytes + i * LANES * W::BYTES));
            }
            for t in 0..T {
                let x = s.load(&x[t]);
                for r in 0..R {
                    sums[t][r] = s.fma(weight[r], x, sums[t][r]);
                }
            }
        }
        sums
    }
}
