//! Float products on every level and team against the definition; rows of every length, unlike those of block formats.

use super::scalar;
use crate::matmul::{MatmulJob, Matrix, Scratch};
use crate::quant::WeightType;
use crate::testing;

const TYPES: [WeightType; 3] = [WeightType::F32, WeightType::F16, WeightType::BF16];

fn encode(ty: WeightType, weights: &[f32]) -> Vec<u8> {
    let f16 = |x: &f32| half::f16::from_f32(*x).to_le_bytes();
    let bf16 = |x: &f32| half::bf16::from_f32(*x).to_le_bytes();
    match ty {
        WeightType::F16 => weights.iter().flat_map(f16).collect(),
        WeightType::BF16 => weights.iter().flat_map(bf16).collect(),
        _ => weights.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn check(ty: WeightType, rows: usize, cols: usize, bytes: &[u8], n_tokens: usize, x: &[f32]) {
    // One byte off any alignment, and nothing behind the last row.
    let mut shifted = vec![0u8];
    shifted.extend_from_slice(bytes);
    let weight = Matrix::new(ty, rows, cols, &shifted[1..]).expect("a whole matrix");
    let mut expected = vec![0.0f32; rows * n_tokens];
    for (i, out) in expected.iter_mut().enumerate() {
        let x = &x[i / rows * cols..][..cols];
        let is_finite = x.iter().all(|x| x.is_finite());
        *out = if is_finite {
            scalar::dot(ty, weight.row(i % rows), x)
        } else {
            f32::NAN
        };
    }
    testing::each_kernels(|kernels| {
        let mut out = vec![9.0f32; rows * n_tokens];
        let mut jobs = [MatmulJob {
            weight,
            out: &mut out,
        }];
        kernels.matmul(&mut Scratch::new(), x, n_tokens, &mut jobs);
        let level = kernels.level();
        testing::assert_bits(
            &out,
            &expected,
            &format!("{ty} {rows}x{cols}, {n_tokens} tokens at level {level}"),
        );
    });
}

#[test]
fn rows_of_every_length_and_any_number_of_tokens() {
    for ty in TYPES {
        for cols in [
            1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 100, 256, 1023, 1040, 2100,
        ] {
            for (rows, n_tokens) in [
                (1, 1),
                (3, 2),
                (4, 3),
                (7, 4),
                (18, 5),
                (66, 7),
                (5, 12),
                (6, 19),
                (34, 20),
                (49, 31),
            ] {
                let bytes = encode(ty, &testing::floats(rows * cols, cols as u64));
                check(
                    ty,
                    rows,
                    cols,
                    &bytes,
                    n_tokens,
                    &testing::floats(cols * n_tokens, 5),
                );
            }
        }
    }
}

/// So many tokens that a task has more rows than a panel.
#[test]
fn several_panels_of_a_task() {
    let (rows, cols, n_tokens) = (70, 4108, 97);
    let bytes = encode(WeightType::BF16, &testing::floats(rows * cols, 3));
    let x = testing::floats(cols * n_tokens, 4);
    check(WeightType::BF16, rows, cols, &bytes, n_tokens, &x);
}

#[test]
fn extreme_activations_and_weights() {
    let rows = 5;
    for ty in TYPES {
        for (special, n_tokens) in testing::extremes(33)
            .into_iter()
            .flat_map(|special| [(special.clone(), 3), (special, 13)])
        {
            let mut x = testing::floats(33 * n_tokens, 5);
            x[33..66].copy_from_slice(&special);
            let mut weights = testing::floats(rows * 33, 6);
            check(ty, rows, 33, &encode(ty, &weights), n_tokens, &x);
            weights[66..99].copy_from_slice(&special);
            let x = testing::floats(33 * n_tokens, 7);
            check(ty, rows, 33, &encode(ty, &weights), n_tokens, &x);
        }
    }
}

/// 16 chains of 256 roundings and 4 more: relative to the sum of magnitudes an error of 260 * 6e-8 at the very worst.
#[test]
fn the_definition_is_accurate() {
    let (w, x) = (testing::floats(4096, 1), testing::floats(4096, 2));
    let terms: Vec<f64> = w
        .iter()
        .zip(&x)
        .map(|(w, x)| f64::from(*w) * f64::from(*x))
        .collect();
    let found = f64::from(scalar::dot(
        WeightType::F32,
        &encode(WeightType::F32, &w),
        &x,
    ));
    let magnitude: f64 = terms.iter().map(|x| x.abs()).sum();
    assert!((found - terms.iter().sum::<f64>()).abs() < 1.6e-5 * magnitude);
}
