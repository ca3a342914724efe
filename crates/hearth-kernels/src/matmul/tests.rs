//! One battery for every level: whatever a level computes must equal the scalar level bit for bit, any NaN equal to any NaN.

use std::num::NonZeroUsize;

use super::{MatmulJob, Matrix, Scratch};
use crate::quant::{ActFormat, WeightType};
use crate::{Kernels, Level};

/// xorshift64*: the battery must be the same everywhere.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.bits() >> 33) as u8).collect()
    }
}

/// What the activations look like; each stresses another branch of the quantisers or of the kernels' paths.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Input {
    /// Outliers make exponents differ inside a super-block.
    HeavyTail,
    /// Nearly equal magnitudes, where 16-bit pair sums do not fit.
    Flat,
    Zero,
    Denormal,
    Huge,
    /// One token with a NaN, one with an infinity.
    NotFinite,
}

impl Input {
    const ALL: [Input; 6] = [
        Input::HeavyTail,
        Input::Flat,
        Input::Zero,
        Input::Denormal,
        Input::Huge,
        Input::NotFinite,
    ];

    fn values(self, random: &mut Random, n_tokens: usize, n_cols: usize) -> Vec<f32> {
        let mut x: Vec<f32> = (0..n_tokens * n_cols)
            .map(|i| {
                let u = random.uniform();
                match self {
                    Input::HeavyTail | Input::NotFinite => u * u * u * u * u * 3.0,
                    Input::Flat if i % 3 == 0 => 1.0 - u.abs() * 0.01,
                    Input::Flat => 0.99f32.copysign(u - 0.8 * (i / 64 % 2) as f32),
                    Input::Zero => 0f32.copysign(u),
                    Input::Denormal if i % 512 < 256 => u * 1e-41,
                    Input::Denormal => u * 1e-30,
                    Input::Huge => u * f32::MAX,
                }
            })
            .collect();
        if self == Input::NotFinite {
            x[n_cols - 1] = f32::NAN;
            x[n_tokens / 2 * n_cols] = f32::NEG_INFINITY;
        }
        x
    }
}

/// What the bytes of the matrix look like.
#[derive(Debug, Clone, Copy)]
enum Weights {
    /// Any bytes: infinite, NaN and denormal scales among them.
    AnyBytes,
    /// Scales of ordinary size.
    Ordinary,
}

impl Weights {
    fn bytes(self, random: &mut Random, ty: WeightType, rows: usize, cols: usize) -> Vec<u8> {
        let n_bytes = ty.row_bytes(cols).expect("whole blocks") * rows;
        let mut bytes = random.bytes(n_bytes);
        if matches!(self, Weights::Ordinary) {
            for block in bytes.chunks_exact_mut(ty.block_bytes()) {
                for &at in half_scales(ty) {
                    // Halves between 2^-11 and 2^-6, of either sign.
                    block[at + 1] = block[at + 1] & 0x83 | (0x10 + (block[at + 1] & 0x10));
                }
                if ty == WeightType::MXFP4 {
                    block[0] = 120 + block[0] % 8;
                }
            }
        }
        bytes
    }
}

/// Offsets of the half-precision scales of a block.
fn half_scales(ty: WeightType) -> &'static [usize] {
    match ty {
        WeightType::F32 | WeightType::F16 | WeightType::BF16 | WeightType::MXFP4 => &[],
        WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 | WeightType::IQ4_NL => &[0],
        WeightType::IQ4_XS => &[0],
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4_K | WeightType::Q5_K => &[0, 2],
        WeightType::Q2_K => &[80, 82],
        WeightType::Q3_K => &[108],
        WeightType::Q6_K => &[208],
    }
}

fn kernels(level: Level, n_threads: usize) -> Kernels {
    let n_threads = NonZeroUsize::new(n_threads).expect("at least one");
    Kernels::new(level, n_threads).expect("an available level")
}

/// The product, computed by `kernels`, of a matrix in a buffer of exactly its size.
fn product(kernels: &Kernels, weight: Matrix<'_>, input: &[f32], n_tokens: usize) -> Vec<f32> {
    // A value no product of the battery has shows what was not written.
    let mut out = vec![-123.456f32; n_tokens * weight.rows()];
    let mut jobs = [MatmulJob {
        weight,
        out: &mut out,
    }];
    kernels.matmul(&mut Scratch::new(), input, n_tokens, &mut jobs);
    out
}

/// First difference between two outputs, any NaN being equal to any NaN.
fn difference(got: &[f32], want: &[f32]) -> Option<String> {
    assert_eq!(got.len(), want.len());
    let unequal = |(g, w): (&f32, &f32)| g.to_bits() != w.to_bits() && !(g.is_nan() && w.is_nan());
    let at = got.iter().zip(want).position(unequal)?;
    let count = got.iter().zip(want).filter(|&pair| unequal(pair)).count();
    Some(format!(
        "{count} of {} differ, first at {at}: {:e} instead of {:e}",
        got.len(),
        got[at],
        want[at]
    ))
}

fn columns(ty: WeightType) -> &'static [usize] {
    match ty.activations() {
        ActFormat::Float => &[1, 15, 16, 17, 48, 256],
        ActFormat::A32 => &[32, 96, 256, 544],
        ActFormat::A256 => &[256, 512, 1280],
    }
}

/// A level's kernels, by name, with every choice that it makes by the processor's maker.
fn variants(level: Level) -> Vec<(String, Kernels)> {
    let one = (level.to_string(), kernels(level, 1));
    #[cfg(target_arch = "x86_64")]
    if let crate::cpu::Isa::Avx512(token) = one.1.isa {
        let mut other = kernels(level, 1);
        other.isa = crate::cpu::Isa::Avx512(token.of_other_maker());
        return vec![one, (format!("{level} of another maker"), other)];
    }
    vec![one]
}

/// Compares one type at one level with the scalar level; returns what differed.
fn check(level: &str, tested: &Kernels, ty: WeightType) -> Vec<String> {
    let specification = kernels(Level::Scalar, 1);
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ ty.block_bytes() as u64);
    let mut failures = Vec::new();
    for (i, n_tokens) in [1, 2, 3, 4, 5, 8, 9, 10, 17, 33, 100]
        .into_iter()
        .enumerate()
    {
        for (j, &cols) in columns(ty).iter().enumerate() {
            for (k, input) in Input::ALL.into_iter().enumerate() {
                let rows = [1, 5, 16, 37, 66][(i + j + k) % 5];
                let weights = if (i + k) % 2 == 0 {
                    Weights::AnyBytes
                } else {
                    Weights::Ordinary
                };
                let bytes = weights.bytes(&mut random, ty, rows, cols);
                let weight = Matrix::new(ty, rows, cols, &bytes).expect("a whole matrix");
                let x = input.values(&mut random, n_tokens, cols);
                let want = product(&specification, weight, &x, n_tokens);
                let got = product(tested, weight, &x, n_tokens);
                if let Some(difference) = difference(&got, &want) {
                    failures.push(format!(
                        "{level} {ty} [{rows}, {cols}] {weights:?}, {n_tokens} tokens {input:?}: {difference}"
                    ));
                }
            }
        }
    }
    failures
}

#[test]
fn every_level_equals_the_specification() {
    let mut failures = Vec::new();
    for level in Level::ALL {
        let missing = level.missing_features();
        if !missing.is_empty() {
            println!(
                "not executed: level {level}, this processor lacks {}",
                missing.join(", ")
            );
            continue;
        }
        for (name, tested) in variants(level) {
            for ty in WeightType::ALL {
                let found = check(&name, &tested, ty);
                println!(
                    "{name} {ty}: {}",
                    if found.is_empty() { "equal" } else { "DIFFERS" }
                );
                failures.extend(found);
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures[..failures.len().min(12)].join("\n")
    );
}

#[test]
fn a_token_gets_the_same_bits_alone_and_in_a_batch() {
    for level in Level::available() {
        let one = kernels(level, 1);
        for ty in WeightType::ALL {
            let (rows, cols, n_tokens) = (21, 512, 13);
            let mut random = Random(77);
            let bytes = Weights::Ordinary.bytes(&mut random, ty, rows, cols);
            let weight = Matrix::new(ty, rows, cols, &bytes).expect("a whole matrix");
            let x = Input::HeavyTail.values(&mut random, n_tokens, cols);
            let together = product(&one, weight, &x, n_tokens);
            for token in 0..n_tokens {
                let alone = product(&one, weight, &x[token * cols..][..cols], 1);
                let difference = difference(&alone, &together[token * rows..][..rows]);
                assert_eq!(difference, None, "{level} {ty} token {token}");
            }
        }
    }
}

#[test]
fn jobs_of_mixed_types_share_a_call_on_any_number_of_threads() {
    let types = [
        WeightType::Q4_K,
        WeightType::Q8_0,
        WeightType::F16,
        WeightType::Q6_K,
        WeightType::Q4_1,
    ];
    let (cols, rows) = (768, [300, 17, 64, 129, 1]);
    let mut random = Random(5);
    let bytes: Vec<Vec<u8>> = types
        .iter()
        .zip(rows)
        .map(|(&ty, rows)| Weights::Ordinary.bytes(&mut random, ty, rows, cols))
        .collect();
    for n_tokens in [1, 3, 6, 40, 130] {
        let x = Input::HeavyTail.values(&mut random, n_tokens, cols);
        let weight =
            |i: usize| Matrix::new(types[i], rows[i], cols, &bytes[i]).expect("a whole matrix");
        let specification = kernels(Level::Scalar, 1);
        let want: Vec<Vec<f32>> = (0..5)
            .map(|i| product(&specification, weight(i), &x, n_tokens))
            .collect();
        for level in Level::available() {
            for n_threads in [1, 2, 3, 8] {
                let mut outs = rows.map(|rows| vec![0f32; rows * n_tokens]);
                let mut jobs: Vec<MatmulJob<'_>> = outs
                    .iter_mut()
                    .enumerate()
                    .map(|(i, out)| MatmulJob {
                        weight: weight(i),
                        out,
                    })
                    .collect();
                let team = kernels(level, n_threads);
                let mut scratch = Scratch::new();
                team.matmul(&mut scratch, &x, n_tokens, &mut jobs);
                // Once more with memory that has been used.
                team.matmul(&mut scratch, &x, n_tokens, &mut jobs);
                for i in 0..5 {
                    let difference = difference(&outs[i], &want[i]);
                    assert_eq!(
                        difference, None,
                        "{level}, {n_threads} threads, {n_tokens} tokens, {}",
                        types[i]
                    );
                }
            }
        }
    }
}

#[test]
fn a_token_that_is_not_finite_has_the_canonical_nan_and_spares_its_neighbours() {
    for level in Level::available() {
        for ty in WeightType::ALL {
            let mut random = Random(3);
            let (rows, cols) = (19, 256);
            let bytes = Weights::Ordinary.bytes(&mut random, ty, rows, cols);
            let weight = Matrix::new(ty, rows, cols, &bytes).expect("a whole matrix");
            let clean = Input::HeavyTail.values(&mut random, 3, cols);
            let mut x = clean.clone();
            x[cols + 200] = f32::INFINITY;
            let one = kernels(level, 1);
            let (got, want) = (
                product(&one, weight, &x, 3),
                product(&one, weight, &clean, 3),
            );
            assert!(
                got[rows..2 * rows]
                    .iter()
                    .all(|v| v.to_bits() == 0x7fc0_0000),
                "{level} {ty}"
            );
            assert_eq!(
                difference(&got[..rows], &want[..rows]),
                None,
                "{level} {ty}"
            );
            assert_eq!(
                difference(&got[2 * rows..], &want[2 * rows..]),
                None,
                "{level} {ty}"
            );
        }
    }
}

/// A scratch remembers the largest call: nothing of it may show in smaller ones of other shapes and formats.
#[test]
fn products_of_changing_shapes_share_a_scratch() {
    use WeightType::{IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_K, Q5_1, Q6_K, Q8_0};
    let calls: [(usize, usize, &[WeightType]); 10] = [
        (100, 1280, &[Q4_K, Q4_0]),
        (3, 2048, &[Q6_K, Q5_1]),
        (2, 512, &[Q8_0]),
        (4, 1088, &[Q4_0]),
        (1, 544, &[Q5_1]),
        (1, 256, &[Q4_K, IQ4_XS]),
        (4, 768, &[Q2_K]),
        (2, 1024, &[Q3_K, Q4_0]),
        (9, 512, &[Q6_K]),
        (4, 512, &[Q4_K]),
    ];
    let rows = 37;
    let specification = kernels(Level::Scalar, 1);
    for level in Level::available() {
        let tested = kernels(level, 2);
        let mut scratch = Scratch::new();
        let mut random = Random(11);
        for (n_tokens, cols, types) in calls {
            let x = Input::HeavyTail.values(&mut random, n_tokens, cols);
            let bytes: Vec<Vec<u8>> = types
                .iter()
                .map(|&ty| Weights::Ordinary.bytes(&mut random, ty, rows, cols))
                .collect();
            let weight =
                |i: usize| Matrix::new(types[i], rows, cols, &bytes[i]).expect("a whole matrix");
            let mut outs = vec![vec![0f32; rows * n_tokens]; types.len()];
            let jobs = outs.iter_mut().enumerate();
            let mut jobs: Vec<MatmulJob<'_>> = jobs
                .map(|(i, out)| MatmulJob {
                    weight: weight(i),
                    out,
                })
                .collect();
            tested.matmul(&mut scratch, &x, n_tokens, &mut jobs);
            for (i, out) in outs.iter().enumerate() {
                let want = product(&specification, weight(i), &x, n_tokens);
                let difference = difference(out, &want);
                assert_eq!(
                    difference, None,
                    "{level} {} of {cols} columns, {n_tokens} tokens",
                    types[i]
                );
            }
        }
    }
}

#[test]
fn matrices_of_the_wrong_size_are_refused() {
    let bytes = [0u8; 144];
    assert!(Matrix::new(WeightType::Q4_K, 1, 256, &bytes).is_ok());
    let message = |rows, cols| {
        let error = Matrix::new(WeightType::Q4_K, rows, cols, &bytes).expect_err("the wrong size");
        error.to_string()
    };
    assert!(message(1, 255).contains("255 Q4_K weights is not a whole number of blocks of 256"));
    assert!(message(2, 256).contains("has 288 bytes, found 144"));
    for ty in WeightType::ALL {
        let error = Matrix::new(ty, 3, 0, &[]).expect_err("no columns");
        let expected = format!("a {ty} matrix of 3 rows has no columns");
        assert_eq!(error.to_string(), expected);
    }
    assert!(message(usize::MAX, 512).contains("larger than the address space"));
}
