//! Every level, team and batch against the definition: each token alone, expert after expert, in plain loops.

use std::num::NonZeroUsize;

use super::{Bounds, MoeArgs, Scratch};
use crate::matmul::{self, MatmulJob, Matrix};
use crate::quant::WeightType;
use crate::{Activation, Kernels, Level, testing};

#[derive(Debug, Clone, Copy)]
struct Case {
    n_expert: usize,
    n_expert_used: usize,
    n_embd: usize,
    n_ff: usize,
    gate: WeightType,
    up: WeightType,
    down: WeightType,
}

const CASES: [Case; 5] = [
    Case {
        n_expert: 5,
        n_expert_used: 2,
        n_embd: 40,
        n_ff: 23,
        gate: WeightType::F32,
        up: WeightType::F16,
        down: WeightType::BF16,
    },
    Case {
        n_expert: 8,
        n_expert_used: 3,
        n_embd: 256,
        n_ff: 512,
        gate: WeightType::Q4_K,
        up: WeightType::Q4_K,
        down: WeightType::Q6_K,
    },
    Case {
        n_expert: 6,
        n_expert_used: 6,
        n_embd: 96,
        n_ff: 160,
        gate: WeightType::Q4_0,
        up: WeightType::Q8_0,
        down: WeightType::F32,
    },
    Case {
        n_expert: 1,
        n_expert_used: 1,
        n_embd: 64,
        n_ff: 32,
        gate: WeightType::F32,
        up: WeightType::MXFP4,
        down: WeightType::Q5_1,
    },
    Case {
        n_expert: 40,
        n_expert_used: 4,
        n_embd: 256,
        n_ff: 256,
        gate: WeightType::Q5_K,
        up: WeightType::IQ4_XS,
        down: WeightType::Q8_0,
    },
];

/// Weights of moderate size in any type.
fn weights(ty: WeightType, n: usize, seed: u64) -> Vec<u8> {
    let floats = testing::floats(n, seed);
    match ty {
        WeightType::F32 => floats.iter().flat_map(|x| x.to_le_bytes()).collect(),
        WeightType::F16 => floats
            .iter()
            .flat_map(|x| crate::float::f32_to_f16(*x).to_le_bytes())
            .collect(),
        WeightType::BF16 => floats
            .iter()
            .flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes())
            .collect(),
        _ => {
            let n_bytes = n / ty.block_len() * ty.block_bytes();
            let mut bytes: Vec<u8> = testing::floats(n_bytes, seed)
                .iter()
                .map(|x| (x.to_bits() >> 9) as u8)
                .collect();
            let halves: &[usize] = match ty {
                WeightType::Q4_K | WeightType::Q5_K | WeightType::Q5_1 => &[0, 2],
                WeightType::Q6_K => &[208],
                _ => &[0],
            };
            for block in bytes.chunks_exact_mut(ty.block_bytes()) {
                match ty {
                    WeightType::MXFP4 => block[0] = 122 + block[0] % 4,
                    _ => halves.iter().for_each(|at| block[at + 1] = 0x1c),
                }
            }
            bytes
        }
    }
}

struct Experts {
    case: Case,
    gate: Vec<u8>,
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Experts {
    fn new(case: Case) -> Experts {
        let n = case.n_expert * case.n_embd * case.n_ff;
        Experts {
            case,
            gate: weights(case.gate, n, 1),
            up: weights(case.up, n, 2),
            down: weights(case.down, n, 3),
        }
    }

    fn args(&self) -> MoeArgs<'_> {
        let Case {
            n_expert,
            n_expert_used,
            n_embd,
            n_ff,
            gate,
            up,
            down,
        } = self.case;
        let matrix = |ty, rows: usize, cols, data| {
            Matrix::new(ty, n_expert * rows, cols, data).expect("as many bytes as needed")
        };
        MoeArgs {
            n_expert,
            n_expert_used,
            activation: Activation::Silu,
            gate: matrix(gate, n_ff, n_embd, &self.gate),
            up: matrix(up, n_ff, n_embd, &self.up),
            down: matrix(down, n_embd, n_ff, &self.down),
        }
    }

    /// The product of one token with one expert's matrix.
    fn product(&self, all: &Matrix<'_>, expert: usize, x: &[f32]) -> Vec<f32> {
        let rows = all.rows() / self.case.n_expert;
        let data = all.rows_data(expert * rows..(expert + 1) * rows);
        let weight = Matrix::new(all.weight_type(), rows, all.cols(), data).expect("a part of it");
        let mut out = vec![0.0; rows];
        let kernels = Kernels::new(Level::Scalar, NonZeroUsize::MIN).expect("everywhere");
        let mut jobs = [MatmulJob {
            weight,
            out: &mut out,
        }];
        kernels.matmul(&mut matmul::Scratch::new(), x, 1, &mut jobs);
        out
    }

    /// The definition, for one token.
    fn defined(&self, x: &[f32], logits: &[f32]) -> Vec<f32> {
        let args = self.args();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // Stable: of equals the lower number comes first.
        order.sort_by(|a, b| {
            logits[*b]
                .partial_cmp(&logits[*a])
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let mut chosen = order[..args.n_expert_used].to_vec();
        chosen.sort_unstable();
        let highest = logits[order[0]];
        let weights: Vec<f32> = chosen
            .iter()
            .map(|expert| crate::float::exp(logits[*expert] - highest))
            .collect();
        let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
        let mut out = vec![0.0f32; x.len()];
        for (expert, weight) in chosen.into_iter().zip(weights) {
            let gate = self.product(&args.gate, expert, x);
            let up = self.product(&args.up, expert, x);
            let inner: Vec<f32> = gate
                .iter()
                .zip(&up)
                .map(|(gate, up)| args.activation.apply(*gate) * up)
                .collect();
            let y = self.product(&args.down, expert, &inner);
            for (out, y) in out.iter_mut().zip(y) {
                *out = (weight / sum).mul_add(y, *out);
            }
        }
        out
    }

    fn run(&self, kernels: &Kernels, scratch: &mut Scratch, x: &[f32], logits: &[f32]) -> Vec<f32> {
        let n_rows = x.len() / self.case.n_embd * self.case.n_expert_used;
        let mut inner = vec![7.0; n_rows * self.case.n_ff];
        let mut out = vec![7.0; x.len()];
        kernels.moe(scratch, &self.args(), x, logits, &mut inner, &mut out);
        out
    }
}

/// Inputs of `n` tokens, and logits that make groups of very different sizes.
fn tokens(case: &Case, n: usize) -> (Vec<f32>, Vec<f32>) {
    let x = testing::floats(n * case.n_embd, 4);
    let mut logits = testing::floats(n * case.n_expert, 5);
    for (i, logit) in logits.iter_mut().enumerate() {
        let expert = i % case.n_expert;
        *logit += if expert.is_multiple_of(3) { 1.5 } else { 0.0 };
        // Ties.
        if i % 7 < 2 {
            *logit = 0.5;
        }
    }
    (x, logits)
}

#[test]
fn every_level_team_and_batch_gives_the_bits_of_the_definition() {
    for case in CASES {
        let experts = Experts::new(case);
        let n = 150;
        let (x, logits) = tokens(&case, n);
        let row = |t: usize| &x[t * case.n_embd..][..case.n_embd];
        let scores = |t: usize| &logits[t * case.n_expert..][..case.n_expert];
        let expected: Vec<f32> = (0..n)
            .flat_map(|t| experts.defined(row(t), scores(t)))
            .collect();
        testing::each_kernels(|kernels| {
            // Scratch that has seen other sizes.
            let mut scratch = Scratch::new();
            for n in [1, 3, 7, 20, 150, 2] {
                let got = experts.run(
                    kernels,
                    &mut scratch,
                    &x[..n * case.n_embd],
                    &logits[..n * case.n_expert],
                );
                let what = format!("{case:?}, {n} tokens, {}", kernels.level());
                testing::assert_bits(&got, &expected[..n * case.n_embd], &what);
            }
        });
    }
}

#[test]
fn a_token_that_is_not_finite_is_nan_and_spares_its_neighbours() {
    for case in CASES {
        let experts = Experts::new(case);
        let n = 9;
        let (x, logits) = tokens(&case, n);
        testing::each_kernels(|kernels| {
            let clean = experts.run(kernels, &mut Scratch::new(), &x, &logits);
            let (mut bad_x, mut bad_logits) = (x.clone(), logits.clone());
            bad_x[2 * case.n_embd + 5] = f32::INFINITY;
            bad_logits[6 * case.n_expert] = f32::NEG_INFINITY;
            let got = experts.run(kernels, &mut Scratch::new(), &bad_x, &bad_logits);
            let rows = got.chunks(case.n_embd).zip(clean.chunks(case.n_embd));
            for (token, (got, clean)) in rows.enumerate() {
                if token == 2 || token == 6 {
                    assert!(got.iter().all(|x| x.is_nan()), "{case:?} token {token}");
                } else {
                    testing::assert_bits(got, clean, "a neighbour");
                }
            }
        });
    }
}

#[test]
fn bounds_count_what_grows_with_the_sizes() {
    let bounds = Bounds {
        n_tokens: 512,
        n_expert: 32,
        n_expert_used: 8,
        n_embd: 2048,
        n_ff: 768,
        gate_up: [WeightType::Q4_K; 2],
        down: WeightType::Q6_K,
    };
    let total = |bounds: Bounds| bounds.n_bytes(2).iter().sum::<u64>();
    let n_bytes = total(bounds);
    assert!((10 << 20..40 << 20).contains(&n_bytes), "{n_bytes}");
    let float = Bounds {
        gate_up: [WeightType::F32; 2],
        ..bounds
    };
    assert!(total(float) > 4096 * 2048 * 4);
    // Nothing overflows.
    let absurd = Bounds {
        n_tokens: usize::MAX,
        ..bounds
    };
    assert_eq!(absurd.n_bytes(2)[0], u64::MAX);
}
