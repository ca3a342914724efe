//! Many tokens: rows converted once to f32 with 16 rows as lanes, then tiles of rows and tokens, one activation at a time
//! broadcast to the rows.
//!
//! Every output is 16 chains, one for each lane of the definition. A tile follows one chain after the other through all of its
//! outputs, in the order in which the tree 8-4-2-1 takes them up: it needs one register for an output, and sums that wait for
//! their partner are few and lie in the first-level cache. So the tree costs a vector of additions for 16 outputs.
//!
//! Tokens are the outer loop, a group of as many as a tile takes. The converted rows stay in the second-level cache.
//! Activations come from farther away, once per panel, hence the prefetch.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

use std::marker::PhantomData;
use std::ops::Range;

use super::super::{OutRows, RowTask, ThreadScratch};
use super::{Line, lines};
use crate::cpu::Isa;
use crate::disjoint::Disjoint;
use crate::float::LANES;
use crate::lanes::{self, LaneOp, Lanes, Stored};

/// Converted rows take so much of the second-level cache at most.
const PANEL_BYTES: usize = 1 << 20;

/// How far ahead converted rows are asked for, in bytes: a tile goes through them once.
const AHEAD_BYTES: usize = 2048;

/// The lanes of the definition in the order in which the tree needs them: each sum meets the one before it.
const ORDER: [usize; LANES] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// Sums of a tile that wait for their partner at a time: of one, two, four and eight chains.
const LEVELS: usize = LANES.ilog2() as usize;

/// Groups of 16 rows times tokens in the largest tile.
const LARGEST: usize = 24;

/// Columns whose activations are packed at a time: 16 of each chain.
const UNIT: usize = LANES * LANES;

/// Of `n_tokens`, those that pass through a tile together with this one: as many as a level has registers for, as long as there
/// are so many.
fn group(isa: Isa, n_tokens: usize, token: usize) -> Range<usize> {
    let steps: &[usize] = match isa {
        Isa::Avx512(_) => &[12, 8, 4, 2, 1],
        _ => &[6, 4, 2, 1],
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

/// How the columns of a row form chains.
#[derive(Debug, Clone, Copy)]
struct Chains {
    n_cols: usize,
}

impl Chains {
    /// Columns of a lane's chain.
    fn len(self, lane: usize) -> usize {
        self.n_cols / LANES + usize::from(lane < self.n_cols % LANES)
    }

    /// From one chain to the next in a panel, in columns. An odd number, or the beginnings of all chains would compete for the
    /// same few places of the cache.
    fn stride(self) -> usize {
        self.n_cols.div_ceil(LANES) | 1
    }

    /// From one chain to the next in the activations, in lines of 16.
    fn n_lines(self) -> usize {
        self.n_cols.div_ceil(UNIT)
    }
}

/// Lines that a row of activations takes.
pub(crate) fn n_lines(n_cols: usize) -> usize {
    Chains { n_cols }.n_lines() * LANES
}

/// Writes rows of activations to where [`rows`](self::rows) reads them: tokens `index`, `index + 1`, … of `n_tokens`, whose lines
/// start at `first`. A group of tokens lies together, `[16 chains][lines][tokens]`; rows of a group written together are written in
/// the order of memory.
///
/// # Safety
/// No other thread writes to the lines of these tokens.
pub(crate) unsafe fn pack(
    isa: Isa,
    mut rows: &[&[f32]],
    to: &Disjoint<'_, Line>,
    first: usize,
    n_tokens: usize,
    mut index: usize,
) {
    while let Some(row) = rows.first() {
        let group = group(isa, n_tokens, index);
        let (together, later) = rows.split_at(rows.len().min(group.end - index));
        let op = Pack {
            rows: together,
            to,
            first: first + group.start * n_lines(row.len()) + index - group.start,
            step: group.len(),
        };
        lanes::run(isa, op);
        index += together.len();
        rows = later;
    }
}

/// [`pack`] with the promise of its caller: for row `t` the lines `first + t`, `first + t + step`, … are this call's alone.
struct Pack<'a> {
    rows: &'a [&'a [f32]],
    to: &'a Disjoint<'a, Line>,
    first: usize,
    step: usize,
}

impl LaneOp for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let n_cols = self.rows[0].len();
        let n_lines = Chains { n_cols }.n_lines();
        for unit in 0..n_lines {
            let columns = unit * UNIT..n_cols.min((unit + 1) * UNIT);
            for (t, row) in self.rows.iter().enumerate() {
                let x = &row[columns.clone()];
                let mut padded = [0.0; UNIT];
                let x: &[f32; UNIT] = match x.try_into() {
                    Ok(x) => x,
                    Err(_) => {
                        padded[..x.len()].copy_from_slice(x);
                        &padded
                    }
                };
                let mut v = [s.splat(0.0); LANES];
                for i in 0..LANES {
                    v[i] = s.load(&x.as_chunks().0[i]);
                }
                let v = s.transpose(v);
                for (chain, lane) in ORDER.into_iter().enumerate() {
                    let at = self.first + t + (chain * n_lines + unit) * self.step;
                    // SAFETY: the promise of `pack`'s caller.
                    let line = unsafe { &mut self.to.part(at..at + 1)[0] };
                    s.store(v[lane], &mut line.0);
                }
            }
        }
    }
}

/// All rows of the task, all tokens, whose activations were packed.
pub(super) fn rows<W: Stored>(
    isa: Isa,
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let n_cols = task.acts.n_cols;
    let chains = Chains { n_cols };
    let n_rows = task.rows.len();
    let step = panel_rows(chains).min(n_rows.next_multiple_of(LANES));
    let n_waiting = LEVELS * LARGEST;
    let lines = lines(scratch.bytes((n_waiting + step * chains.stride()) * 64));
    let (waiting, panel) = lines.split_at_mut(n_waiting);
    let waiting = waiting.as_chunks_mut().0;
    for start in (0..n_rows).step_by(step) {
        let rows = start..(start + step).min(n_rows);
        let convert = Convert {
            task,
            rows: rows.clone(),
            panel,
            weights: PhantomData::<W>,
        };
        lanes::run(isa, convert);
        let passes = Passes {
            isa,
            task,
            chains,
            ahead: ahead(task, &rows),
            rows,
            panel,
            waiting,
            out,
            first: 0,
        };
        lanes::run(isa, passes);
    }
}

/// Rows of a panel: whole tiles of the largest level where they fit, at least a group.
fn panel_rows(chains: Chains) -> usize {
    const TILE: usize = 2 * LANES;
    let fitting = PANEL_BYTES / size_of::<Line>() / chains.stride();
    if fitting < TILE {
        return LANES;
    }
    fitting / TILE * TILE
}

/// Groups of rows in a tile: with them as many broadcasts as leave the arithmetic busy.
const fn groups_of_tile<S: Lanes>() -> usize {
    if S::ACCUMULATORS >= LARGEST { 2 } else { 1 }
}

/// The bytes that are converted after these rows.
fn ahead<'a>(task: &RowTask<'a>, rows: &Range<usize>) -> &'a [u8] {
    let rest = &task.data()[rows.end * task.weight.row_bytes()..];
    if rest.is_empty() { task.next } else { rest }
}

/// Fills the panel: tile after tile, chain after chain, for each column the tile's rows.
struct Convert<'a, W> {
    task: &'a RowTask<'a>,
    /// Counted in the task.
    rows: Range<usize>,
    panel: &'a mut [[f32; LANES]],
    weights: PhantomData<W>,
}

impl<W: Stored> LaneOp for Convert<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let (task, rows) = (self.task, self.rows);
        let n_cols = task.acts.n_cols;
        let stride = Chains { n_cols }.stride();
        let (n_groups, whole) = (rows.len().div_ceil(LANES), groups_of_tile::<S>());
        for group in 0..n_groups {
            // In a whole tile each group has its place; one that is left over is a tile by itself.
            let (index, width) = if group < n_groups / whole * whole {
                (group % whole, whole)
            } else {
                (0, 1)
            };
            // Rows that are not there look like the last one; nobody asks for their products.
            let mut sources = [&[][..]; LANES];
            for (i, source) in sources.iter_mut().enumerate() {
                let row = (rows.start + group * LANES + i).min(rows.end - 1);
                *source = task.weight.row(task.rows.start + row);
            }
            let to = &mut self.panel[(group - index) * LANES * stride..][..width * LANES * stride];
            for block in 0..n_cols / LANES {
                let mut blocks = [&W::blocks(sources[0])[block]; LANES];
                for i in 1..LANES {
                    blocks[i] = &W::blocks(sources[i])[block];
                }
                let v = W::columns(s, blocks);
                for (chain, lane) in ORDER.into_iter().enumerate() {
                    s.store(v[lane], &mut to[(chain * stride + block) * width + index]);
                }
            }
            let n_whole = n_cols / LANES * LANES;
            if n_whole < n_cols {
                let mut v = [s.splat(0.0); LANES];
                for i in 0..LANES {
                    v[i] = W::load_part(s, &sources[i][n_whole * W::BYTES..]);
                }
                let v = s.transpose(v);
                for (chain, lane) in ORDER.into_iter().enumerate() {
                    // Where the chain is shorter, this falls into the gap before the next one.
                    let at = chain * stride + n_whole / LANES;
                    s.store(v[lane], &mut to[at * width + index]);
                }
            }
        }
    }
}

/// A panel times one group of tokens after the other.
struct Passes<'a> {
    isa: Isa,
    task: &'a RowTask<'a>,
    chains: Chains,
    /// The panel's rows, counted in the task.
    rows: Range<usize>,
    panel: &'a [[f32; LANES]],
    /// Sums that wait for their partner, `[LEVELS][tokens][groups of rows]` of a tile.
    waiting: &'a mut [[[f32; LANES]; LARGEST]],
    out: &'a mut OutRows,
    /// First token of the group.
    first: usize,
    /// What of the next panel has not been asked for yet.
    ahead: &'a [u8],
}

impl LaneOp for Passes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(mut self, s: S) {
        if groups_of_tile::<S>() == 2 {
            self.groups::<S, 2>(s);
        } else {
            self.groups::<S, 1>(s);
        }
    }
}

impl Passes<'_> {
    /// All groups of tokens; a whole tile has `R` groups of rows.
    #[inline(always)]
    fn groups<S: Lanes, const R: usize>(&mut self, s: S) {
        let n_tokens = self.task.acts.n_tokens;
        while self.first < n_tokens {
            let tokens = group(self.isa, n_tokens, self.first);
            match tokens.len() {
                12 => self.tiles::<S, R, 12>(s),
                8 => self.tiles::<S, R, 8>(s),
                6 => self.tiles::<S, R, 6>(s),
                4 => self.tiles::<S, R, 4>(s),
                2 => self.tiles::<S, R, 2>(s),
                _ => self.tiles::<S, R, 1>(s),
            }
            self.first = tokens.end;
        }
    }

    /// `T` tokens from the first on.
    #[inline(always)]
    fn tiles<S: Lanes, const R: usize, const T: usize>(&mut self, s: S) {
        // A group the level has no registers for does not occur, so its code need not exist.
        if R * T > S::ACCUMULATORS {
            return;
        }
        let n_lines = n_lines(self.chains.n_cols);
        let x = &self.task.acts.floats[self.first * n_lines..][..T * n_lines];
        let n_groups = self.rows.len().div_ceil(LANES);
        let n_tiles = n_groups.div_ceil(R);
        // Groups of tokens follow each other in memory, so what comes after this one is wanted next.
        let mut ahead_x = Ahead {
            at: x.as_ptr_range().end.cast(),
            step: size_of_val(x).div_ceil(n_tiles * self.chains.n_cols),
        };
        let mut group = 0;
        while group < n_groups {
            let mut ahead = [ahead_x, self.ahead_of_tile(n_tiles, T)];
            if n_groups - group >= R {
                self.tile::<S, R, T>(s, x, group, &mut ahead);
                group += R;
            } else {
                self.tile::<S, 1, T>(s, x, group, &mut ahead);
                group += 1;
            }
            ahead_x = ahead[0];
        }
    }

    /// What one tile asks for of the next panel. Only in the last quarter of the tokens, or it would be gone again from the cache
    /// when it is needed.
    fn ahead_of_tile(&mut self, n_tiles: usize, n_tokens: usize) -> Ahead {
        let n_left = self.task.acts.n_tokens - self.first;
        if n_left * 4 > self.task.acts.n_tokens {
            return Ahead {
                at: self.ahead.as_ptr(),
                step: 0,
            };
        }
        let n_bytes = self.ahead.len() / (n_left.div_ceil(n_tokens) * n_tiles);
        let (now, later) = self.ahead.split_at(n_bytes);
        self.ahead = later;
        Ahead {
            at: now.as_ptr(),
            step: n_bytes.div_ceil(self.chains.n_cols),
        }
    }

    /// `R` groups of rows from `group` on, counted in the panel.
    #[inline(always)]
    fn tile<S: Lanes, const R: usize, const T: usize>(
        &mut self,
        s: S,
        x: &[Line],
        group: usize,
        ahead: &mut [Ahead; 2],
    ) {
        let (stride, n_lines) = (self.chains.stride(), self.chains.n_lines());
        let panel = &self.panel[group * LANES * stride..][..R * LANES * stride];
        let (panel, x) = (panel.as_chunks::<R>().0, x.as_chunks::<T>().0);
        for (chain, lane) in ORDER.into_iter().enumerate() {
            let weights = &panel[chain * stride..][..self.chains.len(lane)];
            let x = &x[chain * n_lines..][..n_lines];
            let mut sums = follow::<S, R, T>(s, weights, x, ahead);
            // As many partners wait as the number of chains so far can be halved. The last sum of all lies where the first did.
            let n_partners = (chain + 1).trailing_zeros() as usize;
            for partners in &self.waiting[..n_partners] {
                for t in 0..T {
                    for r in 0..R {
                        sums[t][r] = s.add(s.load(&partners[t * R + r]), sums[t][r]);
                    }
                }
            }
            let to = &mut self.waiting[n_partners % LEVELS];
            for t in 0..T {
                for r in 0..R {
                    s.store(sums[t][r], &mut to[t * R + r]);
                }
            }
        }
        for t in 0..T {
            let out = &mut self.out.token(self.first + t)[self.rows.start + group * LANES..];
            for (out, sums) in out.chunks_mut(LANES).zip(&self.waiting[0][t * R..][..R]) {
                match <&mut [f32; LANES]>::try_from(&mut *out) {
                    Ok(out) => *out = *sums,
                    Err(_) => out.copy_from_slice(&sums[..out.len()]),
                }
            }
        }
    }
}

/// One chain of all outputs of a tile.
#[inline(always)]
fn follow<S: Lanes, const R: usize, const T: usize>(
    s: S,
    weights: &[[[f32; LANES]; R]],
    x: &[[Line; T]],
    ahead: &mut [Ahead; 2],
) -> [[S::V; R]; T] {
    let mut sums = [[s.splat(0.0); R]; T];
    for (weights, x) in weights.chunks(LANES).zip(x) {
        // The next 16 columns of all tokens lie behind these.
        let mut next_x = (&raw const *x).wrapping_add(1).cast::<u8>();
        for (i, weights) in (0..LANES).zip(weights) {
            s.prefetch(next_x);
            next_x = next_x.wrapping_add(size_of::<[Line; T]>() / LANES);
            for ahead in &mut *ahead {
                s.prefetch_far(ahead.at);
                ahead.at = ahead.at.wrapping_add(ahead.step);
            }
            let mut weight = [s.splat(0.0); R];
            for r in 0..R {
                weight[r] = s.load(&weights[r]);
                s.prefetch(weights[r].as_ptr().cast::<u8>().wrapping_add(AHEAD_BYTES));
            }
            for t in 0..T {
                let x = s.splat(x[t].0[i]);
                for r in 0..R {
                    sums[t][r] = s.fma(weight[r], x, sums[t][r]);
                }
            }
        }
    }
    sums
}

/// Where to prefetch, and how much farther with every column.
#[derive(Clone, Copy)]
struct Ahead {
    at: *const u8,
    step: usize,
}
