//! Formats with one scale per 32 weights.

use super::ROWS;
use crate::matmul::{OutRows, RowTask, ThreadScratch};
use crate::quant::Block32;

/// A block with its integers widened.
#[derive(Clone, Copy)]
struct Wide {
    weights: [i16; 32],
    d: f32,
    m: f32,
}

/// Every row of the task for every token.
pub(super) fn rows<B: Block32>(task: &RowTask<'_>, out: &mut OutRows, _: &mut ThreadScratch) {
    let acts = &task.acts;
    let n_rows = task.rows.len();
    for first in (0..n_rows).step_by(ROWS) {
        let n = ROWS.min(n_rows - first);
        // The last group repeats its last row rather than reading past the matrix.
        let rows: [&[u8]; ROWS] =
            std::array::from_fn(|i| task.weight.row(task.rows.start + first + i.min(n - 1)));
        for token in 0..acts.n_tokens {
            out.token(token)[first..first + n].fill(0.0);
        }
        for block in 0..acts.n_cols / 32 {
            let wide = rows.map(|row| unpack(B::view(&row[block * B::BYTES..])));
            for token in 0..acts.n_tokens {
                let act = acts.a32(block, token);
                let q = act.q.map(i16::from);
                let sum = act.sum as f32 * act.step;
                let out = &mut out.token(token)[first..first + n];
                for (out, w) in out.iter_mut().zip(&wide) {
                    *out = w.d.mul_add(dot(&w.weights, &q) as f32 * act.step, *out);
                    if B::HAS_MIN {
                        *out = w.m.mul_add(sum, *out);
                    }
                }
            }
        }
    }
}

fn unpack<B: Block32>(block: &B) -> Wide {
    Wide {
        weights: block.weights().map(i16::from),
        d: block.scale(),
        m: block.min(),
    }
}

/// Sum of products, exact in 32 bits.
#[inline(always)]
fn dot(a: &[i16; 32], b: &[i16; 32]) -> i32 {
    let mut sum = 0;
    for (a, b) in a.iter().zip(b) {
        sum += i32::from(*a) * i32::from(*b);
    }
    sum
}
