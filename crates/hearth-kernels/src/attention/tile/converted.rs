//! Half-precision keys and values of one chunk as single precision, for all steps of a tile: the conversion takes the ports of the
//! arithmetic. They stay in the second-level cache.

use std::ops::Range;

use super::{CHUNK, Keys};
use crate::float::LANES;
use crate::lanes::{LaneOp, Lanes};
use crate::matmul::ThreadScratch;
use crate::page::{KvPlace, PAGE_POSITIONS};

const BYTES: usize = size_of::<f32>();

/// Bytes for the keys and values of one head in a chunk. Counts beyond what can be addressed come out as the largest number.
pub(in crate::attention) fn converted_bytes(head_dim: usize, head_dim_v: usize) -> usize {
    head_dim
        .saturating_add(head_dim_v)
        .saturating_mul(CHUNK * BYTES)
}

/// A chunk as [`Convert`] leaves it: pages of keys, then pages of values, laid out like stored ones of single precision.
pub(super) struct Converted<'a> {
    keys: &'a [u8],
    values: &'a [u8],
}

impl<'a> Converted<'a> {
    pub fn new(place: &KvPlace, scratch: &'a mut ThreadScratch) -> Converted<'a> {
        let all = &*scratch.bytes(converted_bytes(place.head_dim, place.head_dim_v));
        let (keys, rest) = all.split_at(place.head_dim * CHUNK * BYTES);
        Converted {
            keys,
            values: &rest[..place.head_dim_v * CHUNK * BYTES],
        }
    }

    /// The keys of the page that holds `pos`.
    #[inline(always)]
    pub fn keys(&self, pos: usize) -> &'a [u8] {
        page(self.keys, pos)
    }

    /// The values of the page that holds `pos`.
    #[inline(always)]
    pub fn values(&self, pos: usize) -> &'a [u8] {
        page(self.values, pos)
    }
}

#[inline(always)]
fn page(chunk: &[u8], pos: usize) -> &[u8] {
    const PAGES: usize = CHUNK / PAGE_POSITIONS;
    let len = chunk.len() / PAGES;
    &chunk[pos / PAGE_POSITIONS % PAGES * len..][..len]
}

/// Converts what `seen` has of the chunk at `base`, in whole groups of 16 positions.
pub(super) struct Convert<'a> {
    /// As they are stored.
    pub keys: Keys<'a>,
    pub base: usize,
    pub seen: Range<usize>,
    pub to: &'a mut ThreadScratch,
}

impl LaneOp for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Convert {
            keys,
            base,
            seen,
            to,
        } = self;
        let place = keys.inputs.place;
        let (head_dim, head_dim_v) = (place.head_dim, place.head_dim_v);
        let to = to.bytes(converted_bytes(head_dim, head_dim_v));
        let (to_keys, to_values) = to.as_chunks_mut().0.split_at_mut(head_dim * CHUNK / LANES);
        let first = seen.start.max(base) / LANES;
        let end = seen.end.min(base + CHUNK).div_ceil(LANES);
        // Sixteen keys, and sixteen values, have as many blocks as one has elements.
        for group in first..end {
            let pos = group * LANES;
            let in_page = pos % PAGE_POSITIONS / LANES;
            let in_chunk = (pos - base) / LANES;
            let blocks = |n: usize| in_page * n..(in_page + 1) * n;
            let from = &keys.keys(pos).as_chunks().0[blocks(head_dim)];
            convert(s, from, &mut to_keys[in_chunk * head_dim..]);
            let from = &keys.values(pos).as_chunks().0[blocks(head_dim_v)];
            convert(s, from, &mut to_values[in_chunk * head_dim_v..]);
        }
    }
}

#[inline(always)]
fn convert<S: Lanes>(s: S, from: &[[u8; 32]], to: &mut [[u8; 64]]) {
    for (from, to) in from.iter().zip(to) {
        s.store_f32(s.load_f16(from), to);
    }
}
