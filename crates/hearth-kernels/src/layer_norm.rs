//! Layer norm: every row centred, divided by its standard deviation, weighted and shifted.
//!
//! Order: mean = (sum in 16 lanes, tree 8-4-2-1) / n; the squares of `d = x - mean` likewise, fused;
//! `s = 1 / sqrt(sum / n + eps)`, or NaN if the sum is infinite; `y = (d * s) * w`, with a bias `y = fma(d * s, w, b)`.

use crate::Kernels;
use crate::cpu::Isa;
use crate::float::{self, LANES};
use crate::lanes::{self, LaneOp, Lanes};

impl Kernels {
    /// Norms every row of `n_cols` of `x` into `out`; `weight` and `bias` have `n_cols` elements.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn layer_norm(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        eps: f32,
        n_cols: usize,
        out: &mut [f32],
    ) {
        assert_eq!(
            x.len(),
            out.len(),
            "input and output of a norm have one length"
        );
        assert!(
            n_cols > 0 && x.len().is_multiple_of(n_cols),
            "{} elements are not rows of {n_cols}",
            x.len()
        );
        assert_eq!(weight.len(), n_cols, "a norm has one weight per column");
        assert!(
            bias.is_none_or(|bias| bias.len() == n_cols),
            "a norm has one bias per column"
        );
        self.for_parts(out, n_cols, |first, part| {
            part.copy_from_slice(&x[first..first + part.len()]);
            match self.isa() {
                Isa::Scalar => part
                    .chunks_exact_mut(n_cols)
                    .for_each(|row| scalar(row, weight, bias, eps)),
                isa => lanes::run(
                    isa,
                    NormRows {
                        x: part,
                        weight,
                        bias,
                        eps,
                        n_cols,
                    },
                ),
            }
        });
    }
}

/// The definition.
fn scalar(row: &mut [f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) {
    let n = row.len() as f32;
    let mut sums = [0.0f32; LANES];
    for (k, x) in row.iter().enumerate() {
        sums[k % LANES] += x;
    }
    let mean = float::reduce(&sums) / n;
    let mut squares = [0.0f32; LANES];
    for (k, x) in row.iter_mut().enumerate() {
        *x -= mean;
        squares[k % LANES] = x.mul_add(*x, squares[k % LANES]);
    }
    let scale = float::inverse_rms(float::reduce(&squares), row.len(), eps);
    for (k, x) in row.iter_mut().enumerate() {
        *x = finish(*x * scale, weight, bias, k);
    }
}

#[inline(always)]
fn finish(x: f32, weight: &[f32], bias: Option<&[f32]>, k: usize) -> f32 {
    match bias {
        Some(bias) => x.mul_add(weight[k], bias[k]),
        None => x * weight[k],
    }
}

struct NormRows<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
    n_cols: usize,
}

impl LaneOp for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        for row in self.x.chunks_exact_mut(self.n_cols) {
            norm_row(s, row, self.weight, self.bias, self.eps);
        }
    }
}

#[inline(always)]
fn norm_row<S: Lanes>(s: S, row: &mut [f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) {
    let n = row.len() as f32;
    let (whole, rest) = row.as_chunks_mut::<LANES>();
    let mut sum = s.splat(0.0);
    for x in whole.iter() {
        sum = s.add(sum, s.load(x));
    }
    let mut lanes = [0.0; LANES];
    s.store(sum, &mut lanes);
    for (lane, x) in lanes.iter_mut().zip(rest.iter()) {
        *lane += x;
    }
    let mean = float::reduce(&lanes) / n;

    let means = s.splat(mean);
    let mut sum = s.splat(0.0);
    for x in whole.iter_mut() {
        let d = s.sub(s.load(x), means);
        s.store(d, x);
        sum = s.fma(d, d, sum);
    }
    s.store(sum, &mut lanes);
    for (lane, x) in lanes.iter_mut().zip(rest.iter_mut()) {
        *x -= mean;
        *lane = x.mul_add(*x, *lane);
    }
    let scale = float::inverse_rms(float::reduce(&lanes), row.len(), eps);
    // One multiplication and one of two ends per element: plain code that the compiler turns into lanes.
    for (k, x) in row.iter_mut().enumerate() {
        *x = finish(*x * scale, weight, bias, k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_level_and_team_gives_the_bits_of_the_definition() {
        testing::each_kernels(|kernels| {
            for n_cols in [1, 2, 15, 16, 17, 33, 64, 100, 768] {
                for n_rows in [0, 1, 5, 30] {
                    let x = testing::floats(n_cols * n_rows, n_cols as u64);
                    let (w, b) = (testing::floats(n_cols, 5), testing::floats(n_cols, 6));
                    for bias in [None, Some(&b[..])] {
                        let mut expected = x.clone();
                        expected
                            .chunks_exact_mut(n_cols)
                            .for_each(|row| scalar(row, &w, bias, 1e-5));
                        let mut out = vec![9.0; x.len()];
                        kernels.layer_norm(&x, &w, bias, 1e-5, n_cols, &mut out);
                        testing::assert_bits(
                            &out,
                            &expected,
                            &format!("{n_rows} rows of {n_cols}"),
                        );
                    }
                }
            }
            for x in testing::extremes(35) {
                let w = vec![1.0; x.len()];
                let mut expected = x.clone();
                scalar(&mut expected, &w, None, 1e-5);
                let mut out = vec![0.0; x.len()];
                kernels.layer_norm(&x, &w, None, 1e-5, x.len(), &mut out);
                testing::assert_bits(&out, &expected, &format!("{x:?}"));
            }
        });
    }

    #[test]
    fn a_row_whose_squares_overflow_is_not_a_row_of_zeros() {
        testing::each_kernels(|kernels| {
            for n_cols in [2, 32, 35] {
                // Finite, and so is the mean; the squares of the differences are not.
                let x: Vec<f32> = (0..n_cols).map(|k| [1e30, -1e30][k % 2]).collect();
                let (w, b) = (vec![1.0; n_cols], vec![0.5; n_cols]);
                for bias in [None, Some(&b[..])] {
                    let mut out = vec![0.0; n_cols];
                    kernels.layer_norm(&x, &w, bias, 1e-5, n_cols, &mut out);
                    assert!(out.iter().all(|y| y.is_nan()), "{out:?}");
                }
            }
        });
    }

    #[test]
    fn a_normed_row_has_mean_zero_and_variance_one() {
        let mut x: Vec<f32> = testing::floats(4096, 3).iter().map(|x| x + 3.0).collect();
        scalar(&mut x, &vec![1.0; 4096], None, 0.0);
        let mean: f64 = x.iter().map(|x| f64::from(*x)).sum::<f64>() / 4096.0;
        let variance: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 4096.0;
        assert!(
            mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-5,
            "{mean} {variance}"
        );
    }
}
