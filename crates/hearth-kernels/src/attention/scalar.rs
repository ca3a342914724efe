//! The definition of attention: one query over the positions it sees.

use super::{CHUNK, Inputs, MAX_WEIGHT};
use crate::float::{self, LANES};
use crate::page::{self, KvType, PAGE_POSITIONS, Q8_BLOCK};

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
    let sink = inputs.args.sinks.map(|sinks| sinks[head]);
    let max = sink
        .into_iter()
        .chain(parts.iter().map(|(part, _)| part.max))
        .fold(f32::NEG_INFINITY, |max, x| larger(x, max));
    let mut sum = sink.map_or(0.0, |sink| float::exp(sink - max));
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
    let at = At {
        inputs,
        table,
        head_kv: head / inputs.group(),
    };
    let scores: Vec<f32> = positions.clone().map(|pos| at.score(query, pos)).collect();
    let max = scores
        .iter()
        .fold(f32::NEG_INFINITY, |max, score| larger(*score, max));
    let mut lanes = [0.0f32; LANES];
    let mut weights = scores;
    for (pos, weight) in positions.clone().zip(&mut weights) {
        *weight = float::exp(*weight - max);
        lanes[pos % LANES] += *weight;
    }
    if inputs.place.kv_type == KvType::Q8_0 {
        at.weigh_q8_0(positions, weights, values);
    } else {
        for (pos, weight) in positions.zip(weights) {
            for (d, value) in values.iter_mut().enumerate() {
                *value = weight.mul_add(at.value(pos, d), *value);
            }
        }
    }
    Partial {
        max,
        sum: float::reduce(&lanes),
    }
}

/// A maximum that passes over NaN. A NaN score makes its exponential NaN whatever the maximum is, and with it the sum and the
/// output, so levels need not agree on more.
fn larger(x: f32, max: f32) -> f32 {
    if x > max { x } else { max }
}

/// Keys and values of one sequence and head.
struct At<'a> {
    inputs: &'a Inputs<'a>,
    table: &'a [u32],
    head_kv: usize,
}

impl At<'_> {
    /// The product of query and key, then the scale and the soft cap.
    fn score(&self, query: &[f32], pos: usize) -> f32 {
        let args = self.inputs.args;
        let product = if self.inputs.place.kv_type == KvType::Q8_0 {
            self.product_q8_0(query, pos)
        } else {
            self.product(query, pos)
        };
        let score = product * args.scale;
        match args.soft_cap {
            Some(cap) => cap * float::tanh(score / cap),
            None => score,
        }
    }

    /// One chain over the dimensions.
    fn product(&self, query: &[f32], pos: usize) -> f32 {
        let place = self.inputs.place;
        let keys = place.keys_at(page::page_of(self.table, pos), self.head_kv);
        let slot = pos % PAGE_POSITIONS;
        let mut sum = 0.0f32;
        for (d, x) in query.iter().enumerate() {
            let index = (slot / LANES * place.head_dim + d) * LANES + slot % LANES;
            sum = x.mul_add(self.element(keys, index), sum);
        }
        sum
    }

    /// One chain over blocks of 32 dimensions of exact integer sums.
    fn product_q8_0(&self, query: &[f32], pos: usize) -> f32 {
        let place = self.inputs.place;
        let slot = pos % PAGE_POSITIONS;
        let keys = place.keys_at(page::page_of(self.table, pos), self.head_kv);
        let steps = keys + slot / LANES * page::q8_group_bytes(place.head_dim);
        let bytes = steps + place.head_dim.div_ceil(Q8_BLOCK) * LANES * 4;
        let mut sum = 0.0f32;
        for (block, x) in query.chunks(Q8_BLOCK).enumerate() {
            let mut q = [0i8; Q8_BLOCK];
            let step = page::quantize(x, &mut q[..x.len()]);
            let mut dot = 0i32;
            for (i, q) in q[..x.len()].iter().enumerate() {
                let d = block * Q8_BLOCK + i;
                let at = bytes + (d / 4 * LANES + slot % LANES) * 4 + d % 4;
                dot += i32::from(self.inputs.kv[at] as i8) * i32::from(*q);
            }
            let key_step = self.float(steps + (block * LANES + slot % LANES) * 4);
            sum = (dot as f32).mul_add(key_step * step, sum);
        }
        sum
    }

    fn value(&self, pos: usize, d: usize) -> f32 {
        let place = self.inputs.place;
        let values = place.values_at(page::page_of(self.table, pos), self.head_kv);
        self.element(values, pos % PAGE_POSITIONS * place.head_dim_v + d)
    }

    /// Weights times steps, rounded to 15 bits, then exact integer sums over the positions.
    fn weigh_q8_0(
        &self,
        positions: std::ops::Range<usize>,
        mut weights: Vec<f32>,
        values: &mut [f32],
    ) {
        let place = self.inputs.place;
        let values_at = |pos: usize| place.values_at(page::page_of(self.table, pos), self.head_kv);
        for (pos, weight) in positions.clone().zip(&mut weights) {
            *weight *= self.float(values_at(pos) + pos % PAGE_POSITIONS * 4);
        }
        if weights.iter().any(|weight| weight.is_nan()) {
            values.fill(f32::NAN);
            return;
        }
        let max = weights.iter().fold(0.0, |max, weight| larger(*weight, max));
        if max < page::Q8_TINY {
            values.fill(0.0);
            return;
        }
        let factor = MAX_WEIGHT / max;
        for (d, value) in values.iter_mut().enumerate() {
            let mut sum = 0i32;
            for (pos, weight) in positions.clone().zip(&weights) {
                let slot = pos % PAGE_POSITIONS;
                let at = PAGE_POSITIONS * 4 + (slot / 2 * place.head_dim_v + d) * 2 + slot % 2;
                let q = self.inputs.kv[values_at(pos) + at] as i8;
                sum += (weight * factor).round_ties_even() as i32 * i32::from(q);
            }
            *value = sum as f32 * (max / MAX_WEIGHT);
        }
    }

    /// An element of keys or values that are floats.
    fn element(&self, offset: usize, index: usize) -> f32 {
        if self.inputs.place.kv_type == KvType::F32 {
            return self.float(offset + 4 * index);
        }
        let bytes = &self.inputs.kv[offset + 2 * index..][..2];
        float::f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn float(&self, offset: usize) -> f32 {
        let bytes = &self.inputs.kv[offset..][..4];
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}
