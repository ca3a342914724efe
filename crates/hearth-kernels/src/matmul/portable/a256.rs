//! Formats with super-blocks of 256 weights.

use super::ROWS;
use crate::matmul::{OutRows, RowTask, ThreadScratch};
use crate::quant::Block256;

/// A super-block with its scales multiplied in. A weight times its scale is at most 32 · 128 (`Q6_K`) or 127 · 32
/// (`IQ4_XS`), so 16 bits hold it; the exponents of the activations are left to shifts of whole sums.
#[derive(Clone, Copy)]
struct Wide {
    weights: [i16; 256],
    mins: [i16; 16],
    d: f32,
    dmin: f32,
}

/// Every row of the task for every token.
pub(super) fn rows<B: Block256>(task: &RowTask<'_>, out: &mut OutRows, _: &mut ThreadScratch) {
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
        for block in 0..acts.n_cols / 256 {
            let wide = rows.map(|row| unpack(B::view(&row[block * B::BYTES..])));
            for token in 0..acts.n_tokens {
                let act = acts.a256(block, token);
                let q = act.q.map(i16::from);
                let out = &mut out.token(token)[first..first + n];
                for (out, w) in out.iter_mut().zip(&wide) {
                    let sum = shifted_dot(&w.weights, &q, &act.e) as f32;
                    let term = if B::HAS_MIN {
                        let min = shifted_dot(&w.mins, &act.sum16, &act.e) as f32;
                        w.d.mul_add(sum, -(w.dmin * min))
                    } else {
                        w.d * sum
                    };
                    *out = act.base.mul_add(term, *out);
                }
            }
        }
    }
}

fn unpack<B: Block256>(block: &B) -> Wide {
    let mut weights = [0; 256];
    block.weights(&mut weights);
    let s = block.scales();
    let mut wide = Wide {
        weights: [0; 256],
        mins: s.mins.map(i16::from),
        d: s.d,
        dmin: s.dmin,
    };
    for j in 0..16 {
        let scale = i16::from(s.scales[j]);
        for (to, w) in wide.weights[j * 16..]
            .iter_mut()
            .zip(&weights[j * 16..j * 16 + 16])
        {
            *to = i16::from(*w) * scale;
        }
    }
    wide
}

/// Σⱼ 2^eⱼ · (dot product of the j-th eighth).
#[inline(always)]
fn shifted_dot<const N: usize>(a: &[i16; N], b: &[i16; N], e: &[u8; 8]) -> i32 {
    let mut sum = 0;
    for (j, e) in e.iter().enumerate() {
        let mut part = 0;
        for i in j * (N / 8)..(j + 1) * (N / 8) {
            part += i32::from(a[i]) * i32::from(b[i]);
        }
        sum += part << e;
    }
    sum
}
