//! Chunks of a tile: scores with 16 keys as lanes, exponentials, weighted values with 16 elements as lanes.
//!
//! One algorithm for every level. Queries of a tile go in steps of as many as the level's registers hold accumulators for; within
//! a step each key and each value is loaded and converted once. Queries see different positions only at the two ends of a
//! tile's range: there each is treated alone, between them all together, and every chain stays in the order of positions.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

use std::marker::PhantomData;
use std::ops::Range;

use super::plan::{Tile, partial_len};
use super::{CHUNK, Inputs, TILE};
use crate::cpu::Isa;
use crate::float::LANES;
use crate::lanes::{self, F16, F32, LaneOp, Lanes, Stored};
use crate::page::{self, KvType, PAGE_POSITIONS};

/// Scores of one query over one chunk; a cache line each 16.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Scores([f32; CHUNK]);

/// Memory of one thread.
#[derive(Debug, Default)]
pub(super) struct TileScratch {
    /// Queries of a step, `[head_dim][queries]`, so that a dimension's broadcasts lie side by side.
    queries: Vec<f32>,
    scores: Vec<Scores>,
    /// Results of the chunks of a tile that this thread computes alone.
    pub partials: Vec<f32>,
}

impl TileScratch {
    #[cfg(test)]
    pub fn capacity(&self) -> [usize; 3] {
        [
            self.queries.capacity(),
            self.scores.capacity(),
            self.partials.capacity(),
        ]
    }

    pub fn grow(&mut self, head_dim: usize, partials: usize) {
        if self.queries.len() < head_dim * TILE {
            self.queries.resize(head_dim * TILE, 0.0);
        }
        if self.scores.len() < TILE {
            self.scores.resize(TILE, Scores([0.0; CHUNK]));
        }
        if self.partials.len() < partials {
            self.partials = vec![0.0; partials];
        }
    }
}

/// Computes `chunks` of a tile into `partials`, `[chunk][query]` of [`partial_len`] floats.
pub(super) fn chunks(
    isa: Isa,
    inputs: &Inputs<'_>,
    tile: &Tile,
    chunks: Range<usize>,
    thread: &mut TileScratch,
    partials: &mut [f32],
) {
    let steps: &[usize] = if matches!(isa, Isa::Avx512(_)) {
        &[12, 6, 4, 2, 1]
    } else {
        &[6, 4, 2, 1]
    };
    let mut done = 0;
    while done < tile.queries.len() {
        let left = tile.queries.len() - done;
        let step = steps
            .iter()
            .copied()
            .find(|step| *step <= left)
            .unwrap_or(1);
        let step = Step {
            inputs,
            tile,
            chunks: chunks.clone(),
            first: done,
            len: step,
            thread,
            partials,
        };
        done += step.len;
        match inputs.place.kv_type {
            KvType::F16 => run_step::<F16>(isa, step),
            KvType::F32 => run_step::<F32>(isa, step),
        }
    }
}

/// Some queries of a tile, over some chunks.
struct Step<'a> {
    inputs: &'a Inputs<'a>,
    tile: &'a Tile,
    chunks: Range<usize>,
    /// First query, counted in the tile.
    first: usize,
    len: usize,
    thread: &'a mut TileScratch,
    partials: &'a mut [f32],
}

fn run_step<K: Stored>(isa: Isa, step: Step<'_>) {
    match step.len {
        12 => lanes::run(
            isa,
            StepOp::<K, 12> {
                step,
                stored: PhantomData,
            },
        ),
        6 => lanes::run(
            isa,
            StepOp::<K, 6> {
                step,
                stored: PhantomData,
            },
        ),
        4 => lanes::run(
            isa,
            StepOp::<K, 4> {
                step,
                stored: PhantomData,
            },
        ),
        2 => lanes::run(
            isa,
            StepOp::<K, 2> {
                step,
                stored: PhantomData,
            },
        ),
        _ => lanes::run(
            isa,
            StepOp::<K, 1> {
                step,
                stored: PhantomData,
            },
        ),
    }
}

struct StepOp<'a, K, const NQ: usize> {
    step: Step<'a>,
    stored: PhantomData<K>,
}

impl<K: Stored, const NQ: usize> LaneOp for StepOp<'_, K, NQ> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        // A step the level has no registers for is never taken, so its code need not exist.
        if NQ > S::ACCUMULATORS {
            return;
        }
        let Step {
            inputs,
            tile,
            chunks,
            first,
            thread,
            partials,
            ..
        } = self.step;
        let TileScratch {
            queries, scores, ..
        } = thread;
        let mut visible = [(0, 0); NQ];
        let mut rows = [0; NQ];
        let packed = &mut queries.as_chunks_mut::<NQ>().0[..inputs.place.head_dim];
        for i in 0..NQ {
            let (row, head) = tile.row_and_head(inputs, tile.queries.start + first + i);
            let range = inputs.visible(row);
            visible[i] = (range.start, range.end);
            rows[i] = row;
            for (to, x) in packed.iter_mut().zip(inputs.query(row, head)) {
                to[i] = *x;
            }
        }
        let keys = Keys {
            inputs,
            table: inputs.tables[inputs.rows[rows[0]].table as usize],
            head: tile.head_kv,
        };
        let Some(scores) = scores.first_chunk_mut::<NQ>() else {
            return;
        };
        let width = inputs.place.head_dim_v;
        let stride = tile.queries.len() * partial_len(width);
        for (chunk, partials) in chunks.zip(partials.chunks_exact_mut(stride)) {
            let results = &mut partials[first * partial_len(width)..][..NQ * partial_len(width)];
            chunk_step::<S, K, NQ>(s, &keys, chunk * CHUNK, &visible, packed, scores, results);
        }
    }
}

/// One sequence's keys and values of one head.
struct Keys<'a> {
    inputs: &'a Inputs<'a>,
    table: &'a [u32],
    head: usize,
}

impl<'a> Keys<'a> {
    /// The keys of the page that holds `pos`.
    #[inline(always)]
    fn keys(&self, pos: usize) -> &'a [u8] {
        let place = self.inputs.place;
        let start = place.keys_at(page::page_of(self.table, pos), self.head);
        &self.inputs.kv[start..start + place.head_key_bytes()]
    }

    /// The values of the page that holds `pos`.
    #[inline(always)]
    fn values(&self, pos: usize) -> &'a [u8] {
        let place = self.inputs.place;
        let start = place.values_at(page::page_of(self.table, pos), self.head);
        &self.inputs.kv[start..start + place.head_value_bytes()]
    }
}

/// One chunk: `results` gets `[NQ][head_dim_v + 2]`.
#[inline(always)]
fn chunk_step<S: Lanes, K: Stored, const NQ: usize>(
    s: S,
    keys: &Keys<'_>,
    base: usize,
    visible: &[(usize, usize); NQ],
    queries: &[[f32; NQ]],
    scores: &mut [Scores; NQ],
    results: &mut [f32],
) {
    // What each query sees of this chunk, counted from its start; both ends equal where it sees nothing.
    let mut seen = [(0, 0); NQ];
    let (mut first, mut end) = (CHUNK, 0);
    for i in 0..NQ {
        let from = visible[i].0.max(base);
        let to = visible[i].1.min(base + CHUNK);
        if from < to {
            seen[i] = (from - base, to - base);
            first = first.min(from - base);
            end = end.max(to - base);
        }
    }
    if first >= end {
        return;
    }
    score_groups::<S, K, NQ>(
        s,
        keys,
        base,
        first / LANES..end.div_ceil(LANES),
        queries,
        scores,
    );
    let width = keys.inputs.place.head_dim_v;
    for i in 0..NQ {
        let (max, sum) = exponentials(s, &mut scores[i], seen[i]);
        let result = &mut results[i * partial_len(width)..][..partial_len(width)];
        result[width] = max;
        result[width + 1] = sum;
    }
    weigh_values::<S, K, NQ>(s, keys, base, &seen, scores, results);
}

/// Scores of the 16-position groups in `groups`, which may lie in several pages.
#[inline(always)]
fn score_groups<S: Lanes, K: Stored, const NQ: usize>(
    s: S,
    keys: &Keys<'_>,
    base: usize,
    groups: Range<usize>,
    queries: &[[f32; NQ]],
    scores: &mut [Scores; NQ],
) {
    const PER_PAGE: usize = PAGE_POSITIONS / LANES;
    let mut group = groups.start;
    while group < groups.end {
        let page = K::blocks(keys.keys(base + group * LANES));
        let page_end = (group / PER_PAGE + 1) * PER_PAGE;
        let end = groups.end.min(page_end);
        while group < end {
            let blocks = &page[group % PER_PAGE * queries.len()..];
            // As many groups as there are registers: each broadcast of a query serves them all.
            if NQ * 4 <= S::ACCUMULATORS && end - group >= 4 {
                score::<S, K, NQ, 4>(s, keys.inputs.args.scale, blocks, queries, scores, group);
                group += 4;
            } else if NQ * 2 <= S::ACCUMULATORS && end - group >= 2 {
                score::<S, K, NQ, 2>(s, keys.inputs.args.scale, blocks, queries, scores, group);
                group += 2;
            } else {
                score::<S, K, NQ, 1>(s, keys.inputs.args.scale, blocks, queries, scores, group);
                group += 1;
            }
        }
    }
}

/// Scores of `G` groups whose keys lie one after the other in `blocks`.
#[inline(always)]
fn score<S: Lanes, K: Stored, const NQ: usize, const G: usize>(
    s: S,
    scale: f32,
    blocks: &[K::Block],
    queries: &[[f32; NQ]],
    scores: &mut [Scores; NQ],
    group: usize,
) {
    let head_dim = queries.len();
    let blocks = &blocks[..G * head_dim];
    let mut sums = [[s.splat(0.0); G]; NQ];
    for (d, query) in queries.iter().enumerate() {
        let mut key = [s.splat(0.0); G];
        for g in 0..G {
            key[g] = K::load(s, &blocks[g * head_dim + d]);
        }
        for i in 0..NQ {
            let x = s.splat(query[i]);
            for g in 0..G {
                sums[i][g] = s.fma(x, key[g], sums[i][g]);
            }
        }
    }
    let scale = s.splat(scale);
    for i in 0..NQ {
        let to = &mut scores[i].0.as_chunks_mut::<LANES>().0[group..group + G];
        for g in 0..G {
            s.store(s.mul(sums[i][g], scale), &mut to[g]);
        }
    }
}

/// Turns scores into exponentials; gives the maximum and the sum. Positions outside `seen` hold anything and become 0, which
/// leaves their lane of the sum as it is.
#[inline(always)]
fn exponentials<S: Lanes>(s: S, scores: &mut Scores, seen: (usize, usize)) -> (f32, f32) {
    let (first, end) = seen;
    let groups = first / LANES..end.div_ceil(LANES);
    let scores = &mut scores.0.as_chunks_mut::<LANES>().0[groups.clone()];
    let hidden = s.splat(f32::NEG_INFINITY);
    let mut maxima = hidden;
    for (group, x) in groups.zip(scores.iter_mut()) {
        let start = group * LANES;
        let mut score = s.load(x);
        if start < first || start + LANES > end {
            let from = first.saturating_sub(start);
            score = s.select_range(from, (end - start).min(LANES), score, hidden);
            s.store(score, x);
        }
        maxima = s.max(score, maxima);
    }
    let mut lanes = [0.0; LANES];
    s.store(maxima, &mut lanes);
    let max = lanes
        .iter()
        .fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max });
    let shift = s.splat(max);
    let mut sums = s.splat(0.0);
    for x in scores {
        let p = s.exp(s.sub(s.load(x), shift));
        s.store(p, x);
        sums = s.add(sums, p);
    }
    (max, s.reduce(sums))
}

/// Values weighted by the exponentials, for each query one chain per element in the order of positions.
#[inline(always)]
fn weigh_values<S: Lanes, K: Stored, const NQ: usize>(
    s: S,
    keys: &Keys<'_>,
    base: usize,
    seen: &[(usize, usize); NQ],
    scores: &[Scores; NQ],
    results: &mut [f32],
) {
    // Positions that all queries see; each query's others lie before or after.
    let (mut first, mut end) = (0, CHUNK);
    for (from, to) in seen {
        first = first.max(*from);
        end = end.min(*to);
    }
    let mut spans = [(0, 0, 0, 0); NQ];
    for i in 0..NQ {
        let (from, to) = seen[i];
        // Without a common part a query's whole range counts as "before".
        spans[i] = if first < end {
            (from, first, end, to)
        } else {
            (from, to, to, to)
        };
    }
    let common = if first < end { first..end } else { 0..0 };
    let weights = Weights {
        base,
        spans,
        common,
        scores,
    };
    let width = keys.inputs.place.head_dim_v;
    let mut d = 0;
    while d + LANES <= width {
        let left = (width - d) / LANES;
        if NQ * 8 <= S::ACCUMULATORS && left >= 8 {
            weigh::<S, K, NQ, 8>(s, keys, &weights, d, results);
            d += 8 * LANES;
        } else if NQ * 4 <= S::ACCUMULATORS && left >= 4 {
            weigh::<S, K, NQ, 4>(s, keys, &weights, d, results);
            d += 4 * LANES;
        } else if NQ * 2 <= S::ACCUMULATORS && left >= 2 {
            weigh::<S, K, NQ, 2>(s, keys, &weights, d, results);
            d += 2 * LANES;
        } else {
            weigh::<S, K, NQ, 1>(s, keys, &weights, d, results);
            d += LANES;
        }
    }
    if d < width {
        weigh_part::<S, K, NQ>(s, keys, &weights, d, results);
    }
}

/// Who sees what of a chunk, and with which weight.
struct Weights<'a, const NQ: usize> {
    base: usize,
    /// Per query: its own positions before the common ones, `.0..1`, and after them, `.2...3`.
    spans: [(usize, usize, usize, usize); NQ],
    common: Range<usize>,
    scores: &'a [Scores; NQ],
}

/// Elements `d..d + 16 W` of all queries.
#[inline(always)]
fn weigh<S: Lanes, K: Stored, const NQ: usize, const W: usize>(
    s: S,
    keys: &Keys<'_>,
    weights: &Weights<'_, NQ>,
    d: usize,
    results: &mut [f32],
) {
    let width = keys.inputs.place.head_dim_v;
    let element = K::BYTES;
    let base = weights.base;
    let mut sums = [[s.splat(0.0); W]; NQ];
    for i in 0..NQ {
        for pos in weights.spans[i].0..weights.spans[i].1 {
            let p = s.splat(weights.scores[i].0[pos % CHUNK]);
            let values = row::<K>(keys, base + pos, d * element, W);
            for w in 0..W {
                sums[i][w] = s.fma(p, K::load(s, &values[w]), sums[i][w]);
            }
        }
    }
    let mut pos = weights.common.start;
    while pos < weights.common.end {
        let page = keys.values(base + pos);
        let end = weights
            .common
            .end
            .min((pos / PAGE_POSITIONS + 1) * PAGE_POSITIONS);
        let rows = page
            .chunks_exact(width * element)
            .skip(pos % PAGE_POSITIONS);
        for (pos, row) in (pos..end).zip(rows) {
            let values = &K::blocks(&row[d * element..])[..W];
            let mut value = [s.splat(0.0); W];
            for w in 0..W {
                value[w] = K::load(s, &values[w]);
            }
            for i in 0..NQ {
                let p = s.splat(weights.scores[i].0[pos % CHUNK]);
                for w in 0..W {
                    sums[i][w] = s.fma(p, value[w], sums[i][w]);
                }
            }
        }
        pos = end;
    }
    for i in 0..NQ {
        for pos in weights.spans[i].2..weights.spans[i].3 {
            let p = s.splat(weights.scores[i].0[pos % CHUNK]);
            let values = row::<K>(keys, base + pos, d * element, W);
            for w in 0..W {
                sums[i][w] = s.fma(p, K::load(s, &values[w]), sums[i][w]);
            }
        }
        let to = &mut results[i * partial_len(width) + d..][..W * LANES];
        let to = to.as_chunks_mut::<LANES>().0;
        for w in 0..W {
            s.store(sums[i][w], &mut to[w]);
        }
    }
}

/// `W` blocks of one position's values, from a byte offset on.
#[inline(always)]
fn row<'a, K: Stored>(keys: &Keys<'a>, pos: usize, offset: usize, n_blocks: usize) -> &'a [K::Block]
where
    K::Block: 'a,
{
    let place = keys.inputs.place;
    let bytes = place.head_dim_v * place.kv_type.element_bytes();
    let row = &keys.values(pos)[pos % PAGE_POSITIONS * bytes..][..bytes];
    &K::blocks(&row[offset..])[..n_blocks]
}

/// The last elements of a head whose width is no multiple of 16.
#[inline(always)]
fn weigh_part<S: Lanes, K: Stored, const NQ: usize>(
    s: S,
    keys: &Keys<'_>,
    weights: &Weights<'_, NQ>,
    d: usize,
    results: &mut [f32],
) {
    let width = keys.inputs.place.head_dim_v;
    let element = K::BYTES;
    for i in 0..NQ {
        let (before, first, end, after) = weights.spans[i];
        let mut sums = s.splat(0.0);
        for pos in (before..first)
            .chain(weights.common.clone())
            .chain(end..after)
        {
            let at = (weights.base + pos) % PAGE_POSITIONS * width + d;
            let values = &keys.values(weights.base + pos)[at * element..][..(width - d) * element];
            let p = s.splat(weights.scores[i].0[pos]);
            sums = s.fma(p, K::load_part(s, values), sums);
        }
        s.store_part(
            sums,
            &mut results[i * partial_len(width) + d..][..width - d],
        );
    }
}
