//! Keys and values that are floats: fused multiply-adds over dimensions, then over positions.
//!
//! Queries see different positions only at the two ends of a tile's range: there each is asked whether it sees one, between them
//! none is. Every chain stays in the order of positions.

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
        let packed = to.floats.as_chunks_mut::<LANES>().0.as_chunks_mut::<NQ>().0;
        let (whole, rest) = query.as_chunks::<LANES>();
        for (to, x) in packed.iter_mut().zip(whole) {
            to[i] = *x;
        }
        if !rest.is_empty() {
            packed[whole.len()][i][..rest.len()].copy_from_slice(rest);
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
        let queries = queries.floats.as_chunks::<LANES>().0.as_chunks::<NQ>().0;
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

/// Sixteen dimensions of each query of a step.
type Queries<const NQ: usize> = [[f32; LANES]; NQ];

/// Scores of the 16-position groups in `groups`, which may lie in several pages.
#[inline(always)]
fn score_groups<S: Lanes, K: Stored, const NQ: usize>(
    s: S,
    keys: &Keys<'_>,
    base: usize,
    groups: Range<usize>,
    queries: &[Queries<NQ>],
    scores: &mut [Scores; NQ],
) {
    const PER_PAGE: usize = PAGE_POSITIONS / LANES;
    let head_dim = keys.inputs.place.head_dim;
    let mut group = groups.start;
    while group < groups.end {
        let page = K::blocks(keys.keys(base + group * LANES));
        let page_end = (group / PER_PAGE + 1) * PER_PAGE;
        let end = groups.end.min(page_end);
        while group < end {
            let blocks = &page[group % PER_PAGE * head_dim..][..(end - group) * head_dim];
            // As many groups as there are registers: each broadcast of a query serves them all.
            if NQ * 4 <= S::ACCUMULATORS && end - group >= 4 {
                score::<S, K, NQ, 4>(s, keys, blocks, queries, scores, group);
                group += 4;
            } else if NQ * 2 <= S::ACCUMULATORS && end - group >= 2 {
                score::<S, K, NQ, 2>(s, keys, blocks, queries, scores, group);
                group += 2;
            } else {
                score::<S, K, NQ, 1>(s, keys, blocks, queries, scores, group);
                group += 1;
            }
        }
    }
}

/// Scores of `G` groups whose keys lie one after the other in `blocks`.
#[inline(always)]
fn score<S: Lanes, K: Stored, const NQ: usize, const G: usize>(
    s: S,
    keys: &Keys<'_>,
    blocks: &[K::Block],
    queries: &[Queries<NQ>],
    scores: &mut [Scores; NQ],
    group: usize,
) {
    let head_dim = keys.inputs.place.head_dim;
    let mut groups = [blocks; G];
    for g in 0..G {
        groups[g] = &blocks[g * head_dim..][..head_dim];
    }
    let mut sums = [[s.splat(0.0); G]; NQ];
    let mut first = 0;
    for queries in &queries[..head_dim.div_ceil(LANES)] {
        for (d, i_d) in (first..head_dim).zip(0..LANES) {
            let mut key = [s.splat(0.0); G];
            for g in 0..G {
                key[g] = K::load(s, &groups[g][d]);
            }
            for i in 0..NQ {
                let x = s.splat(queries[i][i_d]);
                for g in 0..G {
                    sums[i][g] = s.fma(x, key[g], sums[i][g]);
                }
            }
        }
        first += LANES;
    }
    let scale = s.splat(keys.inputs.args.scale);
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
    // Positions that all queries see, and those that any does.
    let (mut first, mut end) = (0, CHUNK);
    let (mut before, mut after) = (CHUNK, 0);
    for &(from, to) in seen {
        first = first.max(from);
        end = end.min(to);
        if from < to {
            before = before.min(from);
            after = after.max(to);
        }
    }
    // Without a common part all positions count as "before".
    let common = if first < end {
        first..end
    } else {
        after..after
    };
    let weights = Weights {
        base,
        seen,
        before: before..common.start,
        after: common.end..after,
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
    /// First and end of what each query sees.
    seen: &'a [(usize, usize); NQ],
    /// Positions that some queries see, those that all see, and again those that some see.
    before: Range<usize>,
    common: Range<usize>,
    after: Range<usize>,
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
    for pos in weights.before.clone() {
        weigh_some::<S, K, NQ, W>(s, keys, weights, pos, d, &mut sums);
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
    for pos in weights.after.clone() {
        weigh_some::<S, K, NQ, W>(s, keys, weights, pos, d, &mut sums);
    }
    for i in 0..NQ {
        let to = &mut results[i * partial_len(width) + d..][..W * LANES];
        let to = to.as_chunks_mut::<LANES>().0;
        for w in 0..W {
            s.store(sums[i][w], &mut to[w]);
        }
    }
}

/// One position that not every query sees.
#[inline(always)]
fn weigh_some<S: Lanes, K: Stored, const NQ: usize, const W: usize>(
    s: S,
    keys: &Keys<'_>,
    weights: &Weights<'_, NQ>,
    pos: usize,
    d: usize,
    sums: &mut [[S::V; W]; NQ],
) {
    let values = row::<K>(keys, weights.base + pos, d * K::BYTES, W);
    let mut value = [s.splat(0.0); W];
    for w in 0..W {
        value[w] = K::load(s, &values[w]);
    }
    for i in 0..NQ {
        let (from, to) = weights.seen[i];
        if from <= pos && pos < to {
            let p = s.splat(weights.scores[i].0[pos % CHUNK]);
            for w in 0..W {
                sums[i][w] = s.fma(p, value[w], sums[i][w]);
            }
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
        let (from, to) = weights.seen[i];
        let mut sums = s.splat(0.0);
        for pos in from..to {
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
