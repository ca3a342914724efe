//! The definition of attention: one query over the positions it sees.

use super::{CHUNK, Inputs};
use crate::float::{self, LANES};
use crate::page::{self, KvType, PAGE_POSITIONS};

/// Result of one chunk; the weighted values lie beside it.
struct Partial {
    /// Largest score.
    max: f32,
    /// Sum of `exp(score - max)`.
    sum: f32,
}

/// Attention of head `head` of row `row`.
pub(crate) fn attend(inputs: &Inputs<'_>, row: usize, head: usize, out: &mut [f32]) {
    let visible = inputs.visible(row);
    let chunks = visible.start / CHUNK..(visible.end - 1) / CHUNK + 1;
    // This level is for checking, not for speed: it may allocate.
    let mut parts = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let positions = visible.start.max(chunk * CHUNK)..visible.end.min((chunk + 1) * CHUNK);
        let mut values = vec![0.0f32; out.len()];
        let partial = attend_chunk(inputs, row, head, positions, &mut values);
        parts.push((partial, values));
    }
    let max = parts
        .iter()
        .fold(f32::NEG_INFINITY, |max, (part, _)| larger(part.max, max));
    let mut sum = 0.0f32;
    out.fill(0.0);
    for (part, values) in &parts {
        let weight = float::exp(part.max - max);
        sum = weight.mul_add(part.sum, sum);
        for (out, value) in out.iter_mut().zip(values) {
            *out = weight.mul_add(*value, *out);
        }
    }
    let inverse = 1.0 / sum;
    out.iter_mut().for_each(|out| *out *= inverse);
}

fn attend_chunk(
    inputs: &Inputs<'_>,
    row: usize,
    head: usize,
    positions: std::ops::Range<usize>,
    values: &mut [f32],
) -> Partial {
    let query = inputs.query(row, head);
    let table = inputs.tables[inputs.rows[row].table as usize];
    let head_kv = head / inputs.group();
    let scores: Vec<f32> = positions
        .clone()
        .map(|pos| score(inputs, query, table, head_kv, pos))
        .collect();
    let max = scores
        .iter()
        .fold(f32::NEG_INFINITY, |max, score| larger(*score, max));
    let mut lanes = [0.0f32; LANES];
    for (pos, score) in positions.zip(scores) {
        let p = float::exp(score - max);
        lanes[pos % LANES] += p;
        for (d, value) in values.iter_mut().enumerate() {
            *value = p.mul_add(value_at(inputs, table, head_kv, pos, d), *value);
        }
    }
    Partial {
        max,
        sum: float::reduce(&lanes),
    }
}

/// One chain over the dimensions, then the scale.
fn score(inputs: &Inputs<'_>, query: &[f32], table: &[u32], head_kv: usize, pos: usize) -> f32 {
    let mut sum = 0.0f32;
    for (d, x) in query.iter().enumerate() {
        sum = x.mul_add(key_at(inputs, table, head_kv, pos, d), sum);
    }
    sum * inputs.args.scale
}

/// A maximum that passes over NaN. A NaN score makes its exponential NaN whatever the maximum is, and with it the sum and the
/// output, so levels need not agree on more.
fn larger(x: f32, max: f32) -> f32 {
    if x > max { x } else { max }
}

fn key_at(inputs: &Inputs<'_>, table: &[u32], head_kv: usize, pos: usize, d: usize) -> f32 {
    let place = inputs.place;
    let slot = pos % PAGE_POSITIONS;
    let index = (slot / LANES * place.head_dim + d) * LANES + slot % LANES;
    element(
        inputs,
        place.keys_at(page::page_of(table, pos), head_kv),
        index,
    )
}

fn value_at(inputs: &Inputs<'_>, table: &[u32], head_kv: usize, pos: usize, d: usize) -> f32 {
    let place = inputs.place;
    let index = pos % PAGE_POSITIONS * place.head_dim_v + d;
    element(
        inputs,
        place.values_at(page::page_of(table, pos), head_kv),
        index,
    )
}

fn element(inputs: &Inputs<'_>, offset: usize, index: usize) -> f32 {
    match inputs.place.kv_type {
        KvType::F16 => {
            let bytes = &inputs.kv[offset + 2 * index..][..2];
            float::f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
        }
        KvType::F32 => {
            let bytes = &inputs.kv[offset + 4 * index..][..4];
            f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        }
    }
}
