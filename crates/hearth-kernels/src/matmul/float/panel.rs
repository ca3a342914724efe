//! Many tokens: rows converted once to f32 in cache lines, then tiles of rows and tokens whose lanes stay in registers.
//!
//! Tokens are the outer loop, a group of as many as a tile takes. Columns go in parts, such that a part of the group and of a
//! tile's rows fits the first-level cache; between parts the lanes wait in the thread's scratch. The converted rows stay in the
//! second-level cache. Activations come from farther away, once per panel, hence the prefetch.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

use std::marker::PhantomData;
use std::ops::Range;

use super::super::{OutRows, RowTask, ThreadScratch};
use super::{Finish, Line, group, lines};
use crate::cpu::Isa;
use crate::float::LANES;
use crate::lanes::{self, LaneOp, Lanes, Stored};

/// Lines of a group of tokens in a part: 24 KiB. Of a tile's rows there are two thirds of that.
const PART_LINES: usize = 384;

/// Converted rows take so much of the second-level cache at most.
const PANEL_BYTES: usize = 1 << 20;

/// All rows of the task, all tokens, whose activations lie in groups.
pub(super) fn rows<W: Stored>(
    isa: Isa,
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let panels = Panels {
        isa,
        task,
        out,
        scratch,
        weights: PhantomData::<W>,
    };
    lanes::run(isa, panels);
}

struct Panels<'a, W> {
    isa: Isa,
    task: &'a RowTask<'a>,
    out: &'a mut OutRows,
    scratch: &'a mut ThreadScratch,
    weights: PhantomData<W>,
}

impl<W: Stored> LaneOp for Panels<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        if S::ACCUMULATORS >= 24 {
            self.run_tiles::<S, 4>(s);
        } else {
            self.run_tiles::<S, 2>(s);
        }
    }
}

impl<W: Stored> Panels<'_, W> {
    /// `R` rows in a tile, one in what is left of a panel.
    #[inline(always)]
    fn run_tiles<S: Lanes, const R: usize>(self, s: S) {
        let n_blocks = self.task.acts.n_cols / LANES;
        let n_rows = self.task.rows.len();
        let step = (PANEL_BYTES / 64 / n_blocks / R * R).clamp(R, n_rows.max(R));
        // Six tokens at most.
        let n_waiting = 6 * step;
        let lines = lines(self.scratch.bytes((n_waiting + step * n_blocks) * 64));
        let (waiting, panel) = lines.split_at_mut(n_waiting);
        for start in (0..n_rows).step_by(step) {
            let rows = start..(start + step).min(n_rows);
            convert::<S, W, R>(s, self.task, rows.clone(), panel);
            let n_tokens = self.task.acts.n_tokens;
            let mut passes = Passes::<W> {
                task: self.task,
                ahead: ahead(self.task, &rows),
                rows,
                panel,
                waiting,
                out: self.out,
                first: 0,
                weights: PhantomData,
            };
            while passes.first < n_tokens {
                let tokens = group(self.isa, n_tokens, passes.first);
                passes.first = tokens.start;
                match tokens.len() {
                    6 => passes.run::<S, R, 6>(s),
                    4 => passes.run::<S, R, 4>(s),
                    3 => passes.run::<S, R, 3>(s),
                    2 => passes.run::<S, R, 2>(s),
                    _ => passes.run::<S, R, 1>(s),
                }
                passes.first = tokens.end;
            }
        }
    }
}

/// The bytes that are converted after these rows.
fn ahead<'a>(task: &RowTask<'a>, rows: &Range<usize>) -> &'a [u8] {
    let rest = &task.data()[rows.end * task.weight.row_bytes()..];
    if rest.is_empty() { task.next } else { rest }
}

/// Fills the panel: tile after tile, the rows of each block of columns side by side.
#[inline(always)]
fn convert<S: Lanes, W: Stored, const R: usize>(
    s: S,
    task: &RowTask<'_>,
    rows: Range<usize>,
    panel: &mut [[f32; LANES]],
) {
    let n_blocks = task.acts.n_cols / LANES;
    let n_tiled = rows.len() / R * R;
    for (i, row) in rows.enumerate() {
        let (start, stride) = if i < n_tiled {
            (i / R * R * n_blocks + i % R, R)
        } else {
            (i * n_blocks, 1)
        };
        let to = panel[start..].iter_mut().step_by(stride);
        for (block, to) in W::blocks(task.weight.row(task.rows.start + row))
            .iter()
            .zip(to)
        {
            s.store(W::load(s, block), to);
        }
    }
}

/// A panel times one group of tokens after the other.
struct Passes<'a, W> {
    task: &'a RowTask<'a>,
    /// The panel's rows, counted in the task.
    rows: Range<usize>,
    panel: &'a [[f32; LANES]],
    /// Lanes between parts: those of all rows, or of one tile where there is one part.
    waiting: &'a mut [[f32; LANES]],
    out: &'a mut OutRows,
    /// First token of the group.
    first: usize,
    /// What of the next panel has not been asked for yet.
    ahead: &'a [u8],
    weights: PhantomData<W>,
}

impl<W: Stored> Passes<'_, W> {
    /// `T` tokens from the first on.
    #[inline(always)]
    fn run<S: Lanes, const R: usize, const T: usize>(&mut self, s: S) {
        // A group the level has no registers for does not occur, so its code need not exist.
        if R * T > S::ACCUMULATORS {
            return;
        }
        let n_blocks = self.task.acts.n_cols / LANES;
        let x = &self.task.acts.floats[self.first * n_blocks..][..T * n_blocks];
        let n_rows = self.rows.len();
        let n_tiles = n_rows.div_ceil(R);
        let n_parts = (n_blocks * T).div_ceil(PART_LINES);
        for part in 0..n_parts {
            let blocks = part * n_blocks / n_parts..(part + 1) * n_blocks / n_parts;
            let x = &x.as_chunks::<T>().0[blocks.clone()];
            // Groups and parts follow each other in memory, so what comes after this part is wanted next.
            let mut ahead_x = x.as_ptr_range().end.cast::<u8>();
            let n_ahead = size_of_val(x).div_ceil(n_tiles);
            let mut tile = Tile {
                x,
                blocks,
                row: 0,
                ahead: [Ahead::NOTHING; 2],
            };
            while tile.row < n_rows {
                let ahead_weights = self.ahead_of_tile(n_tiles * n_parts, T);
                tile.ahead = [(ahead_x, n_ahead), ahead_weights].map(|(start, n_bytes)| Ahead {
                    start,
                    n_lines: n_bytes.div_ceil(64),
                });
                ahead_x = ahead_x.wrapping_add(n_ahead);
                if n_rows - tile.row >= R {
                    self.tile::<S, R, T>(s, &tile);
                    tile.row += R;
                } else {
                    self.tile::<S, 1, T>(s, &tile);
                    tile.row += 1;
                }
            }
        }
    }

    /// Start and length of what one tile asks for of the next panel. Only in the last quarter of the tokens, or it would be gone
    /// again from the cache when it is needed.
    fn ahead_of_tile(&mut self, n_tiles: usize, n_tokens: usize) -> (*const u8, usize) {
        let n_left = self.task.acts.n_tokens - self.first;
        if n_left * 4 > self.task.acts.n_tokens {
            return (self.ahead.as_ptr(), 0);
        }
        let n_bytes = self.ahead.len() / (n_left.div_ceil(n_tokens) * n_tiles);
        let (now, later) = self.ahead.split_at(n_bytes);
        self.ahead = later;
        (now.as_ptr(), n_bytes)
    }

    #[inline(always)]
    fn tile<S: Lanes, const R: usize, const T: usize>(&mut self, s: S, tile: &Tile<'_, T>) {
        let n_blocks = self.task.acts.n_cols / LANES;
        let weights = &self.panel[tile.row * n_blocks..][..R * n_blocks];
        let weights = &weights.as_chunks::<R>().0[tile.blocks.clone()];
        let is_whole = tile.blocks.len() == n_blocks;
        let start = if is_whole { 0 } else { tile.row * T };
        let waiting = &mut self.waiting[start..][..R * T];
        let mut sums = [[s.splat(0.0); R]; T];
        if tile.blocks.start > 0 {
            for t in 0..T {
                for r in 0..R {
                    sums[t][r] = s.load(&waiting[t * R + r]);
                }
            }
        }
        for (i, (weights, x)) in weights.iter().zip(tile.x).enumerate() {
            for ahead in &tile.ahead {
                if i < ahead.n_lines {
                    s.prefetch_far(ahead.start.wrapping_add(i * 64));
                }
            }
            let mut weight = [s.splat(0.0); R];
            for r in 0..R {
                weight[r] = s.load(&weights[r]);
            }
            for t in 0..T {
                let x = s.load(&x[t].0);
                for r in 0..R {
                    sums[t][r] = s.fma(weight[r], x, sums[t][r]);
                }
            }
        }
        // Lanes go through memory even at the end: whatever reads them later cannot keep them out of registers here.
        for t in 0..T {
            for r in 0..R {
                s.store(sums[t][r], &mut waiting[t * R + r]);
            }
        }
        if tile.blocks.end == n_blocks {
            let finish = Finish::<R> {
                task: self.task,
                row: self.rows.start + tile.row,
                first: self.first,
            };
            finish.run::<S, W>(s, waiting, self.out);
        }
    }
}

/// Some rows times one part of a group of tokens.
struct Tile<'a, const T: usize> {
    /// The part, the tokens of each block of columns side by side.
    x: &'a [[Line; T]],
    /// The part, in blocks of 16 columns.
    blocks: Range<usize>,
    /// First row, counted in the panel.
    row: usize,
    /// What to ask for on the way: of the activations and of the next panel.
    ahead: [Ahead; 2],
}

/// Lines to prefetch, one with each block: no faster, or requests would wait for each other.
#[derive(Clone, Copy)]
struct Ahead {
    start: *const u8,
    n_lines: usize,
}

impl Ahead {
    const NOTHING: Ahead = Ahead {
        start: std::ptr::null(),
        n_lines: 0,
    };
}
