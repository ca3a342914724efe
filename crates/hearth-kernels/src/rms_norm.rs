//! RMS norm: every row divided by its root mean square, then weighted.
//!
//! Order: the squares are summed in 16 lanes (element `k` to lane `k % 16`, fused), the lanes by the tree 8-4-2-1;
//! `s = 1 / sqrt(sum / n + eps)`, or NaN if the sum is infinite; `y = (x * s) * w`. Division and square root are exact to
//! the last bit on every machine.

use crate::Kernels;
use crate::cpu::Isa;
use crate::float::{self, LANES};
use crate::lanes::{self, LaneOp, Lanes};

impl Kernels {
    /// Norms every row of `n_cols` of `x` into `out`. `weight` has `n_cols` elements; without it every weight counts as 1 and
    /// no multiplication takes place.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn rms_norm(
        &self,
        x: &[f32],
        weight: Option<&[f32]>,
        eps: f32,
        n_cols: usize,
        out: &mut [f32],
    ) {
        assert_eq!(
            x.len(),
            out.len(),
            "input and output of a norm have one length"
        );
        check(out, weight, n_cols);
        self.for_parts(out, n_cols, |first, part| {
            part.copy_from_slice(&x[first..first + part.len()]);
            norm_rows(self.isa(), part, weight, eps, n_cols);
        });
    }

    /// Norms every row of `n_cols` of `x`, which it overwrites. Norms of q and k per head are this with `n_cols = head_dim`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn rms_norm_in_place(
        &self,
        x: &mut [f32],
        weight: Option<&[f32]>,
        eps: f32,
        n_cols: usize,
    ) {
        check(x, weight, n_cols);
        self.for_parts(x, n_cols, |_, part| {
            norm_rows(self.isa(), part, weight, eps, n_cols)
        });
    }
}

fn check(x: &[f32], weight: Option<&[f32]>, n_cols: usize) {
    assert!(
        n_cols > 0 && x.len().is_multiple_of(n_cols),
        "{} elements are not rows of {n_cols}",
        x.len()
    );
    if let Some(weight) = weight {
        assert_eq!(weight.len(), n_cols, "a norm has one weight per column");
    }
}

/// Norms the rows of `x` on this thread.
pub(crate) fn norm_rows(isa: Isa, x: &mut [f32], weight: Option<&[f32]>, eps: f32, n_cols: usize) {
    match isa {
        Isa::Scalar => x
            .chunks_exact_mut(n_cols)
            .for_each(|row| scalar(row, weight, eps)),
        _ => lanes::run(
            isa,
            NormRows {
                x,
                weight,
                eps,
                n_cols,
            },
        ),
    }
}

/// The definition.
fn scalar(row: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let scale = float::inverse_rms(float::dot(row, row), row.len(), eps);
    match weight {
        Some(weight) => row
            .iter_mut()
            .zip(weight)
            .for_each(|(x, w)| *x = (*x * scale) * w),
        None => row.iter_mut().for_each(|x| *x *= scale),
    }
}

struct NormRows<'a> {
    x: &'a mut [f32],
    weight: Option<&'a [f32]>,
    eps: f32,
    n_cols: usize,
}

impl LaneOp for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        for row in self.x.chunks_exact_mut(self.n_cols) {
            let scale = float::inverse_rms(sum_of_squares(s, row), row.len(), self.eps);
            scale_row(s, row, scale, self.weight);
        }
    }
}

/// [`float::dot`] of a row with itself.
#[inline(always)]
fn sum_of_squares<S: Lanes>(s: S, row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for x in whole {
        let x = s.load(x);
        sum = s.fma(x, x, sum);
    }
    let mut lanes = [0.0; LANES];
    s.store(sum, &mut lanes);
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = x.mul_add(*x, *lane);
    }
    float::reduce(&lanes)
}

#[inline(always)]
fn scale_row<S: Lanes>(s: S, row: &mut [f32], scale: f32, weight: Option<&[f32]>) {
    let scales = s.splat(scale);
    let (whole, rest) = row.as_chunks_mut::<LANES>();
    let Some(weight) = weight else {
        for x in whole {
            s.store(s.mul(s.load(x), scales), x);
        }
        rest.iter_mut().for_each(|x| *x *= scale);
        return;
    };
    let (whole_weight, rest_weight) = weight.as_chunks::<LANES>();
    for (x, w) in whole.iter_mut().zip(whole_weight) {
        s.store(s.mul(s.mul(s.load(x), scales), s.load(w)), x);
    }
    for (x, w) in rest.iter_mut().zip(rest_weight) {
        *x = (*x * scale) * w;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_level_and_team_gives_the_bits_of_the_definition() {
        testing::each_kernels(|kernels| {
            for n_cols in [1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 128, 1000, 1024] {
                for n_rows in [0, 1, 3, 40] {
                    let x = testing::floats(n_cols * n_rows, n_cols as u64);
                    let w = testing::floats(n_cols, 7);
                    for weight in [None, Some(&w[..])] {
                        let mut expected = x.clone();
                        expected
                            .chunks_exact_mut(n_cols)
                            .for_each(|row| scalar(row, weight, 1e-6));
                        let mut out = vec![9.0; x.len()];
                        kernels.rms_norm(&x, weight, 1e-6, n_cols, &mut out);
                        testing::assert_bits(
                            &out,
                            &expected,
                            &format!("{n_rows} rows of {n_cols}"),
                        );
                        let mut in_place = x.clone();
                        kernels.rms_norm_in_place(&mut in_place, weight, 1e-6, n_cols);
                        testing::assert_bits(
                            &in_place,
                            &expected,
                            &format!("in place, {n_rows} rows of {n_cols}"),
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn extremes_give_the_same_bits_everywhere() {
        testing::each_kernels(|kernels| {
            for x in testing::extremes(33) {
                let mut expected = x.clone();
                scalar(&mut expected, None, 1e-5);
                let mut out = x.clone();
                kernels.rms_norm_in_place(&mut out, None, 1e-5, x.len());
                testing::assert_bits(&out, &expected, &format!("{x:?}"));
            }
        });
    }

    #[test]
    fn a_norm_has_mean_square_one() {
        let mut x = testing::floats(4096, 3);
        scalar(&mut x, None, 0.0);
        let mean: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 4096.0;
        // 256 additions per lane of numbers near one: well under 1e-5 relative.
        assert!((mean - 1.0).abs() < 1e-5, "{mean}");
    }

    #[test]
    fn a_row_whose_squares_overflow_is_not_a_row_of_zeros() {
        testing::each_kernels(|kernels| {
            let mut out = vec![0.0; 32];
            kernels.rms_norm(&[1e30; 32], None, 1e-6, 32, &mut out);
            assert!(out.iter().all(|y| y.is_nan()), "{out:?}");
        });
    }
}
