//! 8-bit keys and values: exact integer sums, so that only the few float operations around them have an order.
//!
//! Queries are quantised as keys are. A score is a sum over blocks of 32 dimensions; a chunk's weighted values are one integer
//! sum, with weights of 15 bits that are zero for what a query does not see. The definition is in `attention/scalar.rs`.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

use std::ops::Range;

use super::{CHUNK, Keys, KvKind, QueryScratch, Scores, WeightScratch, partial_len};
use crate::attention::MAX_WEIGHT;
use crate::float::LANES;
use crate::lanes::Lanes;
use crate::page::{self, PAGE_POSITIONS, Q8_BLOCK};

const PER_PAGE: usize = PAGE_POSITIONS / LANES;

/// See [`crate::KvType::Q8_0`].
pub(super) struct Q8_0;

impl KvKind for Q8_0 {
    #[inline(always)]
    fn pack<const NQ: usize>(to: &mut QueryScratch, i: usize, query: &[f32]) {
        let steps = to.floats.as_chunks_mut::<NQ>().0;
        let bytes = to.bytes.as_chunks_mut::<NQ>().0;
        let sums = to.sums.as_chunks_mut::<NQ>().0;
        let blocks = query.chunks(Q8_BLOCK).zip(bytes.chunks_mut(Q8_BLOCK / 4));
        for ((x, bytes), (step, sum)) in blocks.zip(steps.iter_mut().zip(sums)) {
            let mut q = [0i8; Q8_BLOCK];
            step[i] = page::quantize(x, &mut q[..x.len()]);
            sum[i] = q.iter().map(|&q| i32::from(q)).sum();
            for (four, to) in q.as_chunks::<4>().0.iter().zip(bytes) {
                to[i] = i32::from_le_bytes(four.map(|q| q as u8));
            }
        }
    }

    #[inline(always)]
    fn scores<S: Lanes, const NQ: usize>(
        s: S,
        keys: &Keys<'_>,
        base: usize,
        groups: Range<usize>,
        queries: &QueryScratch,
        scores: &mut [Scores; NQ],
    ) {
        let group_bytes = page::q8_group_bytes(keys.inputs.place.head_dim);
        for group in groups {
            let page = keys.keys(base + group * LANES);
            let blocks = &page[group % PER_PAGE * group_bytes..][..group_bytes];
            // Half of the registers hold integer sums, half float sums.
            if NQ * 2 <= S::ACCUMULATORS {
                score::<S, NQ, NQ>(s, keys, blocks, queries, scores, group, 0);
            } else if NQ.is_multiple_of(3) && S::ACCUMULATORS >= 6 {
                for first in (0..NQ).step_by(3) {
                    score::<S, NQ, 3>(s, keys, blocks, queries, scores, group, first);
                }
            } else {
                for first in (0..NQ).step_by(2) {
                    score::<S, NQ, 2>(s, keys, blocks, queries, scores, group, first);
                }
            }
        }
    }

    #[inline(always)]
    fn weigh<S: Lanes, const NQ: usize>(
        s: S,
        keys: &Keys<'_>,
        base: usize,
        seen: &[(usize, usize); NQ],
        scores: &mut [Scores; NQ],
        weights: &mut WeightScratch,
        results: &mut [f32],
    ) {
        let Some(weights) = weights.0.first_chunk_mut::<NQ>() else {
            return;
        };
        let (mut first, mut end) = (CHUNK, 0);
        for (from, to) in seen {
            if from < to {
                first = first.min(from / LANES);
                end = end.max(to.div_ceil(LANES));
            }
        }
        let groups = first..end;
        let mut steps = [0.0; NQ];
        for i in 0..NQ {
            steps[i] = weigh_positions(
                s,
                keys,
                base,
                groups.clone(),
                seen[i],
                &mut scores[i],
                &mut weights[i],
            );
        }
        let sums = ValueSums {
            keys,
            base,
            groups,
            weights,
            steps: &steps,
        };
        let width = keys.inputs.place.head_dim_v;
        let mut d = 0;
        while d + LANES <= width {
            let left = (width - d) / LANES;
            if NQ * 4 <= S::ACCUMULATORS && left >= 4 {
                sums.run::<S, 4>(s, d, results);
                d += 4 * LANES;
            } else if NQ * 2 <= S::ACCUMULATORS && left >= 2 {
                sums.run::<S, 2>(s, d, results);
                d += 2 * LANES;
            } else {
                sums.run::<S, 1>(s, d, results);
                d += LANES;
            }
        }
        if d < width {
            sums.run_part(s, d, results);
        }
    }
}

/// Scores of one group for the `P` queries from `first` on.
#[inline(always)]
fn score<S: Lanes, const NQ: usize, const P: usize>(
    s: S,
    keys: &Keys<'_>,
    group_bytes: &[u8],
    queries: &QueryScratch,
    scores: &mut [Scores; NQ],
    group: usize,
    first: usize,
) {
    let head_dim = keys.inputs.place.head_dim;
    let blocks = group_bytes.as_chunks::<64>().0;
    let (key_steps, key_bytes) = blocks.split_at(head_dim.div_ceil(Q8_BLOCK));
    let steps = queries.floats.as_chunks::<NQ>().0;
    let bytes = queries.bytes.as_chunks::<NQ>().0;
    let sums = queries.sums.as_chunks::<NQ>().0;
    let mut total = [s.splat(0.0); P];
    let blocks = key_bytes
        .chunks(Q8_BLOCK / 4)
        .zip(bytes.chunks(Q8_BLOCK / 4));
    for ((keys, queries), ((key_step, step), sum)) in
        blocks.zip(key_steps.iter().zip(steps).zip(sums))
    {
        let mut dots = [s.dot4_start(0); P];
        for i in 0..P {
            dots[i] = s.dot4_start(sum[first + i]);
        }
        for (key, query) in keys.iter().zip(queries) {
            let key = s.load_dot4(key);
            for i in 0..P {
                dots[i] = s.dot4(dots[i], key, query[first + i]);
            }
        }
        let key_step = s.load_f32(key_step);
        for i in 0..P {
            let step = s.mul(key_step, s.splat(step[first + i]));
            total[i] = s.fma(s.to_float(dots[i]), step, total[i]);
        }
    }
    let scale = s.splat(keys.inputs.args.scale);
    for i in 0..P {
        let to = &mut scores[first + i].0.as_chunks_mut::<LANES>().0[group];
        s.store(s.mul(total[i], scale), to);
    }
}

/// Turns one query's exponentials, times the steps of the values, into weights of 15 bits; gives the step of the weighted sum.
#[inline(always)]
fn weigh_positions<S: Lanes>(
    s: S,
    keys: &Keys<'_>,
    base: usize,
    groups: Range<usize>,
    seen: (usize, usize),
    scores: &mut Scores,
    weights: &mut [i32; CHUNK / 2],
) -> f32 {
    let zero = s.splat(0.0);
    let (mut maxima, mut spoiled) = (zero, zero);
    let scores = scores.0.as_chunks_mut::<LANES>().0;
    for group in groups.clone() {
        let start = group * LANES;
        let from = seen.0.saturating_sub(start).min(LANES);
        let to = seen.1.saturating_sub(start).min(LANES);
        let steps = &keys.values(base + start)[start % PAGE_POSITIONS * 4..];
        let x = match steps.first_chunk::<64>() {
            Some(steps) if from < to => {
                let x = s.mul(s.load(&scores[group]), s.load_f32(steps));
                // Beyond what the query sees, steps may be anything.
                s.select_range(from, to, x, zero)
            }
            _ => zero,
        };
        maxima = s.max(x, maxima);
        spoiled = s.add(spoiled, s.sub(x, x));
        s.store(x, &mut scores[group]);
    }
    let mut lanes = [0.0; LANES];
    s.store(maxima, &mut lanes);
    let max = lanes
        .iter()
        .fold(0.0, |max, x| if *x > max { *x } else { max });
    let is_zero = max < page::Q8_TINY;
    let factor = s.splat(if is_zero { 0.0 } else { MAX_WEIGHT / max });
    let weights = weights.as_chunks_mut::<{ LANES / 2 }>().0;
    for group in groups {
        s.store_pairs(s.mul(s.load(&scores[group]), factor), &mut weights[group]);
    }
    let step = if is_zero { 0.0 } else { max / MAX_WEIGHT };
    // Zero, or NaN if any weight is not finite.
    step + s.reduce(spoiled)
}

/// The weighted values of a chunk.
struct ValueSums<'a, const NQ: usize> {
    keys: &'a Keys<'a>,
    base: usize,
    groups: Range<usize>,
    weights: &'a [[i32; CHUNK / 2]; NQ],
    steps: &'a [f32; NQ],
}

impl<const NQ: usize> ValueSums<'_, NQ> {
    /// Elements `d..d + 16 W` of all queries.
    #[inline(always)]
    fn run<S: Lanes, const W: usize>(&self, s: S, d: usize, results: &mut [f32]) {
        let width = self.keys.inputs.place.head_dim_v;
        let mut sums = [[s.dot2_start(); W]; NQ];
        let mut group = self.groups.start;
        while group < self.groups.end {
            let page = self.keys.values(self.base + group * LANES);
            let end = self.groups.end.min((group / PER_PAGE + 1) * PER_PAGE);
            let rows = page[PAGE_POSITIONS * 4..].chunks_exact(2 * width);
            let rows = rows.skip(group % PER_PAGE * LANES / 2);
            for (pair, row) in (group * LANES / 2..end * LANES / 2).zip(rows) {
                let row = &row[2 * d..].as_chunks::<32>().0[..W];
                let mut values = [s.load_dot2(&row[0]); W];
                for w in 1..W {
                    values[w] = s.load_dot2(&row[w]);
                }
                for i in 0..NQ {
                    let weight = self.weights[i][pair % (CHUNK / 2)];
                    for w in 0..W {
                        sums[i][w] = s.dot2(sums[i][w], values[w], weight);
                    }
                }
            }
            group = end;
        }
        for i in 0..NQ {
            let to = &mut results[i * partial_len(width) + d..][..W * LANES];
            let to = to.as_chunks_mut::<LANES>().0;
            let step = s.splat(self.steps[i]);
            for w in 0..W {
                s.store(s.mul(s.to_float(sums[i][w]), step), &mut to[w]);
            }
        }
    }

    /// The last elements of a head whose width is no multiple of 16.
    #[inline(always)]
    fn run_part<S: Lanes>(&self, s: S, d: usize, results: &mut [f32]) {
        let width = self.keys.inputs.place.head_dim_v;
        for i in 0..NQ {
            let mut sum = s.dot2_start();
            for pair in self.groups.start * LANES / 2..self.groups.end * LANES / 2 {
                let page = self.keys.values(self.base + 2 * pair);
                let at = PAGE_POSITIONS * 4 + (2 * pair % PAGE_POSITIONS * width + 2 * d);
                let mut padded = [0; 32];
                padded[..2 * (width - d)].copy_from_slice(&page[at..][..2 * (width - d)]);
                sum = s.dot2(sum, s.load_dot2(&padded), self.weights[i][pair]);
            }
            s.store_part(
                s.mul(s.to_float(sum), s.splat(self.steps[i])),
                &mut results[i * partial_len(width) + d..][..width - d],
            );
        }
    }
}
