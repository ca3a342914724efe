//! Keys and values that are floats: fused multiply-adds over dimensions, then over positions.
//!
//! Queries see different positions only at the two ends of a tile's range: there each is treated alone, between them all
//! together, and every chain stays in the order of positions.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

use std::marker::PhantomData;
use std::ops::Range;

use super::{CHUNK, Keys, KvKind, QueryScratch, Scores, WeightScratch, partial_len};
use crate::float::LANES;
use crate::lanes::{Lanes, Stored};
use crate::page::PAGE_POSITIONS;

/// Elements of one float type.
pub(super) struct Floats<K>(PhantomData<K>);

impl<K: Stored> KvKind for Floats<K> {
    #[inline(always)]
    fn pack<const NQ: usize>(to: &mut QueryScratch, i: usize, query: &[f32]) {
        let packed = to.floats.as_chunks_mut::<NQ>().0;
        for (to, x) in packed.iter_mut().zip(query) {
            to[i] = *x;
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
        let queries = &queries.floats.as_chunks::<NQ>().0[..keys.inputs.place.head_dim];
        score_groups::<S, K, NQ>(s, keys, base, groups, queries, scores);
    }

    #[inline(always)]
    fn weigh<S: Lanes, const NQ: usize>(
        s: S,
        keys: &Keys<'_>,
        base: usize,
        seen: &[(usize, usize); NQ],
        scores: &mut [Scores; NQ],
        _weights: &mut WeightScratch,
        results: &mut [f32],
    ) {
        weigh_values::<S, K, NQ>(s, keys, base, seen, scores, results);
    }
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
    let bytes = place.head_dim_v * K::BYTES;
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
