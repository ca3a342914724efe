//! Puts the chunks of a query together, in order, whoever computed them.

use super::plan::{Tile, partial_len};
use super::{CHUNK, Inputs};
use crate::cpu::Isa;
use crate::float::{self, LANES};
use crate::lanes::{self, LaneOp, Lanes};

/// Merges the chunks of one query of a tile, in order.
pub(super) fn merge(
    isa: Isa,
    inputs: &Inputs<'_>,
    tile: &Tile,
    query: usize,
    (row, head): (usize, usize),
    partials: &[f32],
    out: &mut [f32],
) {
    let visible = inputs.visible(row);
    let width = out.len();
    let stride = tile.queries.len() * partial_len(width);
    let first = visible.start / CHUNK - tile.chunks.start;
    let end = (visible.end - 1) / CHUNK + 1 - tile.chunks.start;
    let partials = &partials[first * stride..end * stride];
    lanes::run(
        isa,
        Merge {
            partials,
            stride,
            offset: query * partial_len(width),
            sink: inputs.args.sinks.map(|sinks| sinks[head]),
            out,
        },
    );
}

struct Merge<'a> {
    /// Only the chunks that the query sees.
    partials: &'a [f32],
    stride: usize,
    offset: usize,
    sink: Option<f32>,
    out: &'a mut [f32],
}

impl LaneOp for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Merge {
            partials,
            stride,
            offset,
            sink,
            out,
        } = self;
        let width = out.len();
        let mut max = f32::NEG_INFINITY.max(sink.unwrap_or(f32::NEG_INFINITY));
        for part in partials.chunks_exact(stride) {
            let x = part[offset + width];
            max = if x > max { x } else { max };
        }
        let mut sum = sink.map_or(0.0, |sink| float::exp(sink - max));
        for (index, part) in partials.chunks_exact(stride).enumerate() {
            let part = &part[offset..offset + partial_len(width)];
            let weight = float::exp(part[width] - max);
            sum = weight.mul_add(part[width + 1], sum);
            let (whole, rest) = out.as_chunks_mut::<LANES>();
            let (values, values_rest) = part[..width].as_chunks::<LANES>();
            for (to, x) in whole.iter_mut().zip(values) {
                let before = if index == 0 { s.splat(0.0) } else { s.load(to) };
                s.store(s.fma(s.splat(weight), s.load(x), before), to);
            }
            for (to, x) in rest.iter_mut().zip(values_rest) {
                let before = if index == 0 { 0.0 } else { *to };
                *to = weight.mul_add(*x, before);
            }
        }
        let inverse = 1.0 / sum;
        out.iter_mut().for_each(|out| *out *= inverse);
    }
}
