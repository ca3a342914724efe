//! Chunks of a tile: scores with 16 keys as lanes, exponentials, weighted values with 16 elements as lanes.
//!
//! One algorithm for every level and KV type. Queries of a tile go in steps of as many as the level's registers hold accumulators
//! for; within a step each key and each value is loaded once. What depends on how keys and values are stored lies in `tile/`: how
//! a query is prepared, scores, and weighted values. Where several steps follow each other, half-precision keys and values of a
//! chunk are converted beforehand (`tile/converted.rs`).

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

mod converted;
mod float;
mod q8_0;

use std::marker::PhantomData;
use std::ops::Range;

use super::plan::{Tile, partial_len};
use super::{CHUNK, Inputs, STEP};
use crate::cpu::Isa;
use crate::float::LANES;
use crate::lanes::{self, F16, F32, LaneOp, Lanes};
use crate::matmul::ThreadScratch;
use crate::page::{self, KvType};
pub(super) use converted::converted_bytes;
use converted::{Convert, Converted};
use float::Floats;
use q8_0::Q8_0;

/// From so many full steps of a tile on, converting a chunk costs less than it saves.
const CONVERTED_STEPS: usize = 3;

/// Scores of one query over one chunk; a cache line each 16.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Scores([f32; CHUNK]);

/// How keys and values of a KV type meet the queries of a step.
trait KvKind {
    /// Prepares query `i` of `NQ`.
    fn pack<const NQ: usize>(to: &mut QueryScratch, i: usize, query: &[f32]);

    /// Scores of the 16-position groups in `groups`, which may lie in several pages.
    fn scores<S: Lanes, const NQ: usize>(
        s: S,
        keys: &Keys<'_>,
        base: usize,
        groups: Range<usize>,
        queries: &QueryScratch,
        scores: &mut [Scores; NQ],
    );

    /// Values weighted by the exponentials in `scores`, which are zero in what a query's first and last group hold beyond `seen`.
    fn weigh<S: Lanes, const NQ: usize>(
        s: S,
        keys: &Keys<'_>,
        base: usize,
        seen: &[(usize, usize); NQ],
        scores: &mut [Scores; NQ],
        weights: &mut WeightScratch,
        results: &mut [f32],
    );
}

/// Queries of a step, prepared: `[..][queries]`, so that what is broadcast together lies side by side.
#[derive(Debug, Default)]
struct QueryScratch {
    /// Per 16 dimensions the elements; with 8-bit keys per block its step.
    floats: Vec<f32>,
    /// With 8-bit keys: per four dimensions the four elements, then per block their sum.
    bytes: Vec<i32>,
    sums: Vec<i32>,
}

/// With 8-bit values: weights of a step's queries in pairs of positions.
#[derive(Debug, Default)]
struct WeightScratch(Vec<[i32; CHUNK / 2]>);

/// Memory of one thread.
#[derive(Debug, Default)]
pub(super) struct TileScratch {
    queries: QueryScratch,
    scores: Vec<Scores>,
    weights: WeightScratch,
    /// Of one chunk.
    converted: ThreadScratch,
    /// Results of the chunks of a tile that this thread computes alone.
    pub partials: Vec<f32>,
}

impl TileScratch {
    #[cfg(test)]
    pub fn capacity(&self) -> [usize; 7] {
        [
            self.queries.floats.capacity(),
            self.queries.bytes.capacity(),
            self.queries.sums.capacity(),
            self.scores.capacity(),
            self.weights.0.capacity(),
            self.converted.capacity(),
            self.partials.capacity(),
        ]
    }

    pub fn grow(&mut self, [head_dim, head_dim_v]: [usize; 2], partials: usize) {
        let QueryScratch {
            floats,
            bytes,
            sums,
        } = &mut self.queries;
        let n_floats = head_dim.next_multiple_of(LANES) * STEP;
        if floats.len() < n_floats {
            floats.resize(n_floats, 0.0);
            bytes.resize(head_dim.div_ceil(4) * STEP, 0);
            sums.resize(head_dim.div_ceil(page::Q8_BLOCK) * STEP, 0);
        }
        if self.scores.len() < STEP {
            self.scores.resize(STEP, Scores([0.0; CHUNK]));
            self.weights.0.resize(STEP, [0; CHUNK / 2]);
        }
        self.converted.bytes(converted_bytes(head_dim, head_dim_v));
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
    let n_queries = tile.queries.len();
    let is_converted =
        inputs.place.kv_type == KvType::F16 && n_queries >= CONVERTED_STEPS * steps[0];
    let len = partial_len(inputs.place.head_dim_v);
    for (chunk, partials) in chunks.zip(partials.chunks_exact_mut(n_queries * len)) {
        let base = chunk * CHUNK;
        if is_converted {
            let convert = Convert {
                keys: Keys::new(inputs, tile),
                base,
                seen: tile.visible(inputs),
                to: &mut thread.converted,
            };
            lanes::run(isa, convert);
        }
        let mut first = 0;
        while first < n_queries {
            let left = n_queries - first;
            let len_step = *steps.iter().find(|step| **step <= left).unwrap_or(&1);
            let step = Step {
                inputs,
                tile,
                base,
                first,
                len: len_step,
                is_converted,
                thread,
                results: &mut partials[first * len..][..len_step * len],
            };
            first += len_step;
            match inputs.place.kv_type {
                KvType::F16 if is_converted => run_step::<Floats<F32>>(isa, step),
                KvType::F16 => run_step::<Floats<F16>>(isa, step),
                KvType::F32 => run_step::<Floats<F32>>(isa, step),
                KvType::Q8_0 => run_step::<Q8_0>(isa, step),
            }
        }
    }
}

/// Some queries of a tile, over one chunk.
struct Step<'a> {
    inputs: &'a Inputs<'a>,
    tile: &'a Tile,
    /// First position of the chunk.
    base: usize,
    /// First query, counted in the tile.
    first: usize,
    len: usize,
    /// The chunk's keys and values have been converted.
    is_converted: bool,
    thread: &'a mut TileScratch,
    /// `[len][head_dim_v + 2]`.
    results: &'a mut [f32],
}

fn run_step<K: KvKind>(isa: Isa, step: Step<'_>) {
    match step.len {
        12 => lanes::run(
            isa,
            StepOp::<K, 12> {
                step,
                kind: PhantomData,
            },
        ),
        6 => lanes::run(
            isa,
            StepOp::<K, 6> {
                step,
                kind: PhantomData,
            },
        ),
        4 => lanes::run(
            isa,
            StepOp::<K, 4> {
                step,
                kind: PhantomData,
            },
        ),
        2 => lanes::run(
            isa,
            StepOp::<K, 2> {
                step,
                kind: PhantomData,
            },
        ),
        _ => lanes::run(
            isa,
            StepOp::<K, 1> {
                step,
                kind: PhantomData,
            },
        ),
    }
}

struct StepOp<'a, K, const NQ: usize> {
    step: Step<'a>,
    kind: PhantomData<K>,
}

impl<K: KvKind, const NQ: usize> LaneOp for StepOp<'_, K, NQ> {
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
            base,
            first,
            is_converted,
            thread,
            results,
            ..
        } = self.step;
        let TileScratch {
            queries,
            scores,
            weights,
            converted,
            ..
        } = thread;
        let mut visible = [(0, 0); NQ];
        for i in 0..NQ {
            let (row, head) = tile.row_and_head(inputs, tile.queries.start + first + i);
            let range = inputs.visible(row);
            visible[i] = (range.start, range.end);
            K::pack::<NQ>(queries, i, inputs.query(row, head));
        }
        let mut keys = Keys::new(inputs, tile);
        if is_converted {
            keys.converted = Some(Converted::new(inputs.place, converted));
        }
        let Some(scores) = scores.first_chunk_mut::<NQ>() else {
            return;
        };
        let step = ChunkStep {
            keys: &keys,
            base,
            queries,
        };
        step.run::<S, K, NQ>(s, &visible, scores, weights, results);
    }
}

/// One sequence's keys and values of one head.
struct Keys<'a> {
    inputs: &'a Inputs<'a>,
    table: &'a [u32],
    head: usize,
    /// Read instead of the pages.
    converted: Option<Converted<'a>>,
}

impl<'a> Keys<'a> {
    /// Those of a tile, as they are stored.
    fn new(inputs: &'a Inputs<'a>, tile: &Tile) -> Keys<'a> {
        let (row, _) = tile.row_and_head(inputs, tile.queries.start);
        Keys {
            inputs,
            table: inputs.tables[inputs.rows[row].table as usize],
            head: tile.head_kv,
            converted: None,
        }
    }

    /// The keys of the page that holds `pos`.
    #[inline(always)]
    fn keys(&self, pos: usize) -> &'a [u8] {
        if let Some(converted) = &self.converted {
            return converted.keys(pos);
        }
        let place = self.inputs.place;
        let start = place.keys_at(page::page_of(self.table, pos), self.head);
        &self.inputs.kv[start..start + place.head_key_bytes()]
    }

    /// The values of the page that holds `pos`.
    #[inline(always)]
    fn values(&self, pos: usize) -> &'a [u8] {
        if let Some(converted) = &self.converted {
            return converted.values(pos);
        }
        let place = self.inputs.place;
        let start = place.values_at(page::page_of(self.table, pos), self.head);
        &self.inputs.kv[start..start + place.head_value_bytes()]
    }
}

/// One chunk of a step.
struct ChunkStep<'a> {
    keys: &'a Keys<'a>,
    /// First position of the chunk.
    base: usize,
    queries: &'a QueryScratch,
}

impl ChunkStep<'_> {
    /// `results` gets `[NQ][head_dim_v + 2]`.
    #[inline(always)]
    fn run<S: Lanes, K: KvKind, const NQ: usize>(
        &self,
        s: S,
        visible: &[(usize, usize); NQ],
        scores: &mut [Scores; NQ],
        weights: &mut WeightScratch,
        results: &mut [f32],
    ) {
        let ChunkStep {
            keys,
            base,
            queries,
        } = *self;
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
        let groups = first / LANES..end.div_ceil(LANES);
        K::scores::<S, NQ>(s, keys, base, groups, queries, scores);
        let width = keys.inputs.place.head_dim_v;
        for i in 0..NQ {
            let (max, sum) = exponentials(s, &mut scores[i], seen[i], keys.inputs.args.soft_cap);
            let result = &mut results[i * partial_len(width)..][..partial_len(width)];
            result[width] = max;
            result[width + 1] = sum;
        }
        K::weigh::<S, NQ>(s, keys, base, &seen, scores, weights, results);
    }
}

/// Turns scores into exponentials; gives the maximum and the sum. Positions outside `seen` hold anything and become 0, which
/// leaves their lane of the sum as it is.
#[inline(always)]
fn exponentials<S: Lanes>(
    s: S,
    scores: &mut Scores,
    seen: (usize, usize),
    soft_cap: Option<f32>,
) -> (f32, f32) {
    let (first, end) = seen;
    let groups = first / LANES..end.div_ceil(LANES);
    let scores = &mut scores.0.as_chunks_mut::<LANES>().0[groups.clone()];
    if let Some(cap) = soft_cap {
        let cap = s.splat(cap);
        for x in scores.iter_mut() {
            s.store(s.mul(cap, s.tanh(s.div(s.load(x), cap))), x);
        }
    }
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
    // By halves: the largest of all whatever the order, and no NaN is among them.
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = if lanes[i + half] > lanes[i] {
                lanes[i + half]
            } else {
                lanes[i]
            };
        }
        half /= 2;
    }
    let max = lanes[0];
    let shift = s.splat(max);
    let mut sums = s.splat(0.0);
    for x in scores {
        let p = s.exp(s.sub(s.load(x), shift));
        s.store(p, x);
        sums = s.add(sums, p);
    }
    (max, s.reduce(sums))
}
