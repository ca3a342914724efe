//! Products with float weights.

use super::{OutRows, RowKernel, RowTask, ThreadScratch};
use crate::cpu::Isa;
use crate::quant::WeightType;

/// The kernel of the fastest level up to `isa`.
pub(crate) fn kernel(_isa: Isa, _ty: WeightType) -> RowKernel {
    rows
}

/// The specification: element k goes to lane k mod 16, lanes meet in a tree 8-4-2-1.
fn rows(task: &RowTask<'_>, out: &mut OutRows, _: &mut ThreadScratch) {
    let ty = task.weight.weight_type();
    for token in 0..task.acts.n_tokens {
        for (out, row) in out.token(token).iter_mut().zip(task.rows.clone()) {
            let mut lanes = [0f32; 16];
            let weights = task.weight.row(row).chunks_exact(ty.block_bytes());
            for (k, (w, x)) in weights.zip(task.acts.row(token)).enumerate() {
                let w = match *w {
                    [a, b] if ty == WeightType::F16 => half::f16::from_le_bytes([a, b]).to_f32(),
                    [a, b] => half::bf16::from_le_bytes([a, b]).to_f32(),
                    [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                    _ => unreachable!("float weights have two or four bytes"),
                };
                lanes[k % 16] = w.mul_add(*x, lanes[k % 16]);
            }
            for half in [8, 4, 2, 1] {
                for i in 0..half {
                    lanes[i] += lanes[i + half];
                }
            }
            *out = lanes[0];
        }
    }
}
