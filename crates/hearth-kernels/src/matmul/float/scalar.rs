//! The definition of products with float weights.

use super::super::{OutRows, RowTask, ThreadScratch};
use crate::float::{self, LANES};
use crate::lanes::{Bf16, F16, F32, Stored};
use crate::quant::WeightType;

/// Every row of the task for every token, one after the other.
pub(super) fn rows(task: &RowTask<'_>, out: &mut OutRows, _: &mut ThreadScratch) {
    for token in 0..task.acts.n_tokens {
        let x = task.acts.row(token);
        for (out, row) in out.token(token).iter_mut().zip(task.rows.clone()) {
            *out = dot(task.weight.weight_type(), task.weight.row(row), x);
        }
    }
}

/// One row times one token.
pub(super) fn dot(ty: WeightType, row: &[u8], x: &[f32]) -> f32 {
    match ty {
        WeightType::F32 => dot_of::<F32>(row, x),
        WeightType::F16 => dot_of::<F16>(row, x),
        WeightType::BF16 => dot_of::<Bf16>(row, x),
        _ => unreachable!("only float weights come here, found {ty}"),
    }
}

fn dot_of<W: Stored>(row: &[u8], x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (k, (w, x)) in row.chunks_exact(W::BYTES).zip(x).enumerate() {
        lanes[k % LANES] = W::element(w).mul_add(*x, lanes[k % LANES]);
    }
    float::reduce(&lanes)
}
