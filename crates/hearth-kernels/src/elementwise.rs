//! Additions and scalings: one rounding per element, so any width gives the same bits and the compiler may choose it.

use crate::Kernels;
use crate::cpu::Isa;
use crate::lanes::{self, LaneOp, Lanes};

impl Kernels {
    /// `x[i] += y[i]`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "an addition needs vectors of one length");
        self.for_parts(x, 1, |first, x| {
            add(self.isa(), x, &y[first..first + x.len()])
        });
    }

    /// Adds `bias` to every row of `x`.
    ///
    /// # Panics
    /// If `x` is not a whole number of rows as long as `bias`.
    pub fn add_bias(&self, x: &mut [f32], bias: &[f32]) {
        let n_cols = bias.len();
        assert!(
            n_cols > 0 && x.len().is_multiple_of(n_cols),
            "{} elements are not rows of {n_cols}",
            x.len()
        );
        self.for_parts(x, n_cols, |_, x| {
            lanes::run(
                self.isa(),
                Elementwise(|| {
                    for row in x.chunks_exact_mut(n_cols) {
                        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
                    }
                }),
            );
        });
    }

    /// `x[i] *= factor`.
    pub fn scale(&self, x: &mut [f32], factor: f32) {
        self.for_parts(x, 1, |_, x| {
            lanes::run(
                self.isa(),
                Elementwise(|| x.iter_mut().for_each(|x| *x *= factor)),
            )
        });
    }
}

/// `x[i] += y[i]` on this thread.
pub(crate) fn add(isa: Isa, x: &mut [f32], y: &[f32]) {
    let add = || x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    lanes::run(isa, Elementwise(add));
}

/// A plain loop, compiled with the instructions of the level.
struct Elementwise<F: FnOnce()>(F);

impl<F: FnOnce()> LaneOp for Elementwise<F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use crate::testing;

    #[test]
    fn every_level_and_team_gives_the_bits_of_the_plain_loop() {
        testing::each_kernels(|kernels| {
            for n in [0, 1, 15, 16, 17, 1000, 16 * 1024, 40_001] {
                let (x, y) = (testing::floats(n, 1), testing::floats(n, 2));
                let mut out = x.clone();
                kernels.add(&mut out, &y);
                let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
                testing::assert_bits(&out, &expected, "add");
                let mut out = x.clone();
                kernels.scale(&mut out, 0.3);
                let expected: Vec<f32> = x.iter().map(|x| x * 0.3).collect();
                testing::assert_bits(&out, &expected, "scale");
            }
            for (n_rows, n_cols) in [(0, 3), (1, 1), (7, 33), (50, 1000)] {
                let (x, bias) = (
                    testing::floats(n_rows * n_cols, 3),
                    testing::floats(n_cols, 4),
                );
                let mut out = x.clone();
                kernels.add_bias(&mut out, &bias);
                let expected: Vec<f32> = x
                    .iter()
                    .enumerate()
                    .map(|(i, x)| x + bias[i % n_cols])
                    .collect();
                testing::assert_bits(&out, &expected, "add_bias");
            }
        });
    }
}
