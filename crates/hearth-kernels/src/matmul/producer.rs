//! What a product reads, made row by row right before it is quantised: the row is in the first-level cache then, and needs no
//! fork of its own. The functions are those of the operations by themselves, so the bits are too.

use crate::cpu::Isa;
use crate::disjoint::Disjoint;
use crate::glu::Activation;
use crate::{elementwise, glu, rms_norm};

/// How the rows of a product's input come about.
#[derive(Debug)]
pub struct Producer<'a>(Kind<'a>);

#[derive(Debug)]
enum Kind<'a> {
    RmsNorm {
        x: Disjoint<'a, f32>,
        add: Option<&'a [f32]>,
        weight: &'a [f32],
        eps: f32,
    },
    Glu {
        activation: Activation,
        gate: &'a [f32],
        up: &'a [f32],
    },
}

impl<'a> Producer<'a> {
    /// [`crate::Kernels::rms_norm`] of every row of `x`, after [`crate::Kernels::add`] has added `add` to it. Both are
    /// `[n_tokens, n_cols]`, `weight` is `[n_cols]`.
    pub fn rms_norm(
        x: &'a mut [f32],
        add: Option<&'a [f32]>,
        weight: &'a [f32],
        eps: f32,
    ) -> Producer<'a> {
        Producer(Kind::RmsNorm {
            x: Disjoint::new(x),
            add,
            weight,
            eps,
        })
    }

    /// [`crate::Kernels::glu`]; `gate` and `up` are `[n_tokens, n_cols]`.
    pub fn glu(activation: Activation, gate: &'a [f32], up: &'a [f32]) -> Producer<'a> {
        Producer(Kind::Glu {
            activation,
            gate,
            up,
        })
    }

    /// # Panics
    /// When a slice does not have the length its shape demands.
    pub(crate) fn check(&self, n_tokens: usize, n_cols: usize) {
        let len = n_tokens * n_cols;
        let fits = match &self.0 {
            Kind::RmsNorm { x, add, weight, .. } => {
                x.len() == len && add.is_none_or(|add| add.len() == len) && weight.len() == n_cols
            }
            Kind::Glu { gate, up, .. } => gate.len() == len && up.len() == len,
        };
        assert!(fits, "what makes an input is not [{n_tokens}, {n_cols}]");
    }

    /// Makes row `index` in `out`.
    ///
    /// # Safety
    /// No other thread makes this row.
    pub(crate) unsafe fn make(&self, isa: Isa, index: usize, out: &mut [f32]) {
        let range = index * out.len()..(index + 1) * out.len();
        match self.0 {
            Kind::RmsNorm {
                ref x,
                add,
                weight,
                eps,
            } => {
                // SAFETY: rows do not overlap, and the caller promises that this one is made once.
                let x = unsafe { x.part(range.clone()) };
                if let Some(add) = add {
                    elementwise::add(isa, x, &add[range]);
                }
                out.copy_from_slice(x);
                rms_norm::norm_rows(isa, out, Some(weight), eps, out.len());
            }
            Kind::Glu {
                activation,
                gate,
                up,
            } => glu::glu(isa, activation, &gate[range.clone()], &up[range], out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::{MatmulJob, Matrix, Scratch};
    use crate::quant::WeightType;
    use crate::{Kernels, testing};

    const COLS: usize = 512;
    const ROWS: usize = 32;

    /// Every level and format, few tokens and many, with two inputs.
    fn each(body: impl Fn(&Kernels, WeightType, &[f32], &[f32])) {
        for n_tokens in [1, 3, 40] {
            let (x, y) = (
                testing::floats(n_tokens * COLS, 2),
                testing::floats(n_tokens * COLS, 3),
            );
            for ty in [WeightType::Q4_K, WeightType::Q8_0, WeightType::BF16] {
                testing::each_kernels(|kernels| body(kernels, ty, &x, &y));
            }
        }
    }

    /// Rows and products of a made input are those of the same rows given.
    fn check(kernels: &Kernels, ty: WeightType, expected: &[f32], producer: Producer<'_>) {
        let n_tokens = expected.len() / COLS;
        let n_bytes = ty.row_bytes(COLS).expect("whole blocks") * ROWS;
        let bytes: Vec<u8> = (0..n_bytes).map(|i| (i * 37 % 61) as u8).collect();
        let weight = Matrix::new(ty, ROWS, COLS, &bytes).expect("a whole matrix");
        let (mut given, mut made) = (vec![8.0; ROWS * n_tokens], vec![9.0; ROWS * n_tokens]);
        let job = |out| [MatmulJob { weight, out }];
        kernels.matmul(
            &mut Scratch::new(),
            expected,
            n_tokens,
            &mut job(&mut given),
        );
        let (mut scratch, mut input) = (Scratch::new(), vec![7.0; expected.len()]);
        kernels.prepare(
            &mut scratch,
            producer,
            &mut input,
            n_tokens,
            [ty].into_iter(),
        );
        kernels.matmul_prepared(&mut scratch, &input, n_tokens, &mut job(&mut made));
        let name = format!("{ty}, {n_tokens} tokens at level {}", kernels.level());
        testing::assert_bits(&input, expected, &name);
        testing::assert_bits(&made, &given, &name);
    }

    #[test]
    fn norms_are_those_of_the_operations() {
        let weight = testing::floats(COLS, 1);
        each(|kernels, ty, x, y| {
            let mut normed = vec![0.0; x.len()];
            for add in [None, Some(y)] {
                let (mut sum, mut x) = (x.to_vec(), x.to_vec());
                if let Some(add) = add {
                    kernels.add(&mut sum, add);
                }
                kernels.rms_norm(&sum, Some(&weight), 1e-6, COLS, &mut normed);
                let producer = Producer::rms_norm(&mut x, add, &weight, 1e-6);
                check(kernels, ty, &normed, producer);
                testing::assert_bits(&x, &sum, "the sum is kept");
            }
        });
    }

    #[test]
    fn gates_are_those_of_the_operation() {
        each(|kernels, ty, gate, up| {
            let activation = Activation::Silu;
            let mut expected = vec![0.0; gate.len()];
            kernels.glu(activation, gate, up, &mut expected);
            let producer = Producer::glu(activation, gate, up);
            check(kernels, ty, &expected, producer);
        });
    }
}
