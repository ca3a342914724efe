//! Tiles of rows and tokens whose lanes stay in registers over a whole row.
//!
//! Tokens are the outer loop: a few of them stay in the first-level cache while the task's rows pass by in the order of the
//! file. With so few tokens that there is one such pass, the kernel is bound by memory and prefetches what comes next.

use std::marker::PhantomData;

use super::super::{OutRows, RowTask, ThreadScratch};
use crate::cpu::Isa;
use crate::float::{self, LANES};
use crate::lanes::{self, Bf16, F16, F32, LaneOp, Lanes, Stored};
use crate::quant::WeightType;

/// All rows of the task, all tokens.
pub(super) fn rows(isa: Isa, task: &RowTask<'_>, out: &mut OutRows, _: &mut ThreadScratch) {
    match task.weight.weight_type() {
        WeightType::F32 => tokens::<F32>(isa, task, out),
        WeightType::F16 => tokens::<F16>(isa, task, out),
        WeightType::BF16 => tokens::<Bf16>(isa, task, out),
        ty => unreachable!("only float weights come here, found {ty}"),
    }
}

/// Steps of tokens for which a level has registers for at least two rows.
fn tokens<W: Stored>(isa: Isa, task: &RowTask<'_>, out: &mut OutRows) {
    let steps: &[usize] = if matches!(isa, Isa::Avx512(_)) {
        &[6, 4, 3, 2, 1]
    } else {
        &[3, 2, 1]
    };
    let n_tokens = task.acts.n_tokens;
    let mut first = 0;
    while first < n_tokens {
        let left = n_tokens - first;
        let step = steps
            .iter()
            .copied()
            .find(|step| *step <= left)
            .unwrap_or(1);
        match step {
            6 => lanes::run(
                isa,
                Pass::<W, 6> {
                    task,
                    out,
                    first,
                    weight: PhantomData,
                },
            ),
            4 => lanes::run(
                isa,
                Pass::<W, 4> {
                    task,
                    out,
                    first,
                    weight: PhantomData,
                },
            ),
            3 => lanes::run(
                isa,
                Pass::<W, 3> {
                    task,
                    out,
                    first,
                    weight: PhantomData,
                },
            ),
            2 => lanes::run(
                isa,
                Pass::<W, 2> {
                    task,
                    out,
                    first,
                    weight: PhantomData,
                },
            ),
            _ => lanes::run(
                isa,
                Pass::<W, 1> {
                    task,
                    out,
                    first,
                    weight: PhantomData,
                },
            ),
        }
        first += step;
    }
}

/// All rows of the task for `T` tokens from `first` on.
struct Pass<'a, W, const T: usize> {
    task: &'a RowTask<'a>,
    out: &'a mut OutRows,
    first: usize,
    weight: PhantomData<W>,
}

impl<W: Stored, const T: usize> LaneOp for Pass<'_, W, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let mut x: [&[f32]; T] = [&[]; T];
        for (t, x) in x.iter_mut().enumerate() {
            *x = self.task.acts.row(self.first + t);
        }
        let mut sums = [[0.0f32; 4]; T];
        let n_rows = self.task.rows.len();
        let mut row = 0;
        while row < n_rows {
            let left = n_rows - row;
            let step = if 4 * T <= S::ACCUMULATORS && left >= 4 {
                tile::<S, W, T, 4>(s, self.task, row, &x, &mut sums);
                4
            } else if 2 * T <= S::ACCUMULATORS && left >= 2 {
                tile::<S, W, T, 2>(s, self.task, row, &x, &mut sums);
                2
            } else {
                tile::<S, W, T, 1>(s, self.task, row, &x, &mut sums);
                1
            };
            for (t, sums) in sums.iter().enumerate() {
                self.out.token(self.first + t)[row..row + step].copy_from_slice(&sums[..step]);
            }
            row += step;
        }
    }
}

/// `R` rows, counted in the task, times `T` tokens.
#[inline(always)]
fn tile<S: Lanes, W: Stored, const T: usize, const R: usize>(
    s: S,
    task: &RowTask<'_>,
    row: usize,
    x: &[&[f32]; T],
    out: &mut [[f32; 4]; T],
) {
    let n_blocks = task.acts.n_cols / LANES;
    let row_bytes = task.weight.row_bytes();
    let data = &task.data()[row * row_bytes..][..R * row_bytes];
    let mut weights: [&[W::Block]; R] = [&[]; R];
    for (r, weights) in weights.iter_mut().enumerate() {
        *weights = &W::blocks(&data[r * row_bytes..(r + 1) * row_bytes])[..n_blocks];
    }
    let mut inputs: [&[[f32; LANES]]; T] = [&[]; T];
    for (x, inputs) in x.iter().zip(&mut inputs) {
        *inputs = &x.as_chunks().0[..n_blocks];
    }
    let mut sums = [[s.splat(0.0); R]; T];
    for i in 0..n_blocks {
        let mut weight = [s.splat(0.0); R];
        for r in 0..R {
            weight[r] = W::load(s, &weights[r][i]);
        }
        for t in 0..T {
            let x = s.load(&inputs[t][i]);
            for r in 0..R {
                sums[t][r] = s.fma(weight[r], x, sums[t][r]);
            }
        }
    }
    let rest = n_blocks * LANES..task.acts.n_cols;
    for t in 0..T {
        for r in 0..R {
            out[t][r] = if rest.is_empty() {
                s.reduce(sums[t][r])
            } else {
                let row = &data[r * row_bytes..(r + 1) * row_bytes];
                finish::<S, W>(
                    s,
                    sums[t][r],
                    &row[rest.start * W::BYTES..],
                    &x[t][rest.clone()],
                )
            };
        }
    }
}

/// The last elements of a row that is no multiple of 16, and the sum.
#[inline(always)]
fn finish<S: Lanes, W: Stored>(s: S, sum: S::V, weights: &[u8], x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(sum, &mut lanes);
    for ((lane, w), x) in lanes.iter_mut().zip(weights.chunks_exact(W::BYTES)).zip(x) {
        *lane = W::element(w).mul_add(*x, *lane);
    }
    float::reduce(&lanes)
}
