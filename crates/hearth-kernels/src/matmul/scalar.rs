//! The specification of quantised products: one row of weights, one token.

use super::{OutRows, RowTask, ThreadScratch};
use crate::activation::ActBatch;
use crate::quant::{ActFormat, WeightType, dot32, dot256};

/// Every row of the task for every token, one after the other.
pub(crate) fn rows(task: &RowTask<'_>, out: &mut OutRows, _: &mut ThreadScratch) {
    let ty = task.weight.weight_type();
    for token in 0..task.acts.n_tokens {
        let out = out.token(token);
        for (out, row) in out.iter_mut().zip(task.rows.clone()) {
            *out = dot(ty, task.weight.row(row), &task.acts, token);
        }
    }
}

/// One product.
pub(crate) fn dot(ty: WeightType, row: &[u8], acts: &ActBatch<'_>, token: usize) -> f32 {
    match ty.activations() {
        ActFormat::A32 => dot_a32(ty, row, acts, token),
        ActFormat::A256 => dot_a256(ty, row, acts, token),
        ActFormat::Float => unreachable!("float weights have their own products"),
    }
}

fn dot_a32(ty: WeightType, row: &[u8], acts: &ActBatch<'_>, token: usize) -> f32 {
    let mut acc = 0f32;
    for (i, block) in row.chunks_exact(ty.block_bytes()).enumerate() {
        let act = acts.a32(i, token);
        let w = dot32(ty, block, &act.q);
        acc = w.d.mul_add(w.dot as f32 * act.step, acc);
        if ty.has_minimum() {
            acc = w.m.mul_add(w.sum as f32 * act.step, acc);
        }
    }
    acc
}

fn dot_a256(ty: WeightType, row: &[u8], acts: &ActBatch<'_>, token: usize) -> f32 {
    let mut acc = 0f32;
    for (i, block) in row.chunks_exact(ty.block_bytes()).enumerate() {
        let act = acts.a256(i, token);
        let w = dot256(ty, block, &act.q, &act.e);
        let term = if ty.has_minimum() {
            w.d.mul_add(w.sum as f32, -(w.dmin * w.min as f32))
        } else {
            w.d * w.sum as f32
        };
        acc = act.base.mul_add(term, acc);
    }
    acc
}
