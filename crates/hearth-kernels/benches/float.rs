//! Products with float weights: fused multiply-adds per second and their share of this machine's peak for many tokens, bytes
//! of weights per second for one.
//!
//! `cargo bench -p hearth-kernels --bench float [-- THREADS] [TYPE...] [avx2|avx512] [ROWSxCOLSxTOKENS...]`. Each figure is the best of many short runs.

use std::num::NonZeroUsize;
use std::time::Instant;

use hearth_kernels::matmul::Scratch;
use hearth_kernels::{Kernels, Level, MatmulJob, Matrix, WeightType};

/// Rows, columns, tokens. The last ones are larger than the caches, so that memory answers.
const SHAPES: [[usize; 3]; 9] = [
    [1024, 1024, 512],
    [2048, 1024, 512],
    [3072, 1024, 512],
    [1024, 3072, 512],
    [2048, 8192, 512],
    [3072, 1024, 32],
    [3072, 1024, 8],
    [32 * 1024, 2048, 1],
    [32 * 1024, 2048, 4],
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let threads = args.iter().filter_map(|arg| arg.parse().ok());
    let threads = or_all(
        threads.collect(),
        &[NonZeroUsize::MIN, NonZeroUsize::MIN.saturating_add(1)],
    );
    let types = [WeightType::F32, WeightType::F16, WeightType::BF16];
    let types = or_all(named(&args, &types), &types);
    let levels = [Level::Avx2, Level::Avx512];
    let levels = or_all(named(&args, &levels), &levels);
    let shapes = or_all(args.iter().filter_map(|arg| shape(arg)).collect(), &SHAPES);
    for n_threads in threads {
        for level in &levels {
            let Ok(kernels) = Kernels::new(*level, n_threads) else {
                continue;
            };
            let peak = kernels.float_ceiling();
            println!(
                "{level} {n_threads} thread(s): peak {:.1} GFMA/s",
                peak * 1e-9
            );
            for ty in &types {
                for [rows, cols, n_tokens] in &shapes {
                    bench(&kernels, *ty, *rows, *cols, *n_tokens, peak);
                }
            }
        }
    }
}

fn named<T: Copy + std::fmt::Display>(args: &[String], all: &[T]) -> Vec<T> {
    let is_named = |item: &&T| args.contains(&item.to_string());
    all.iter().filter(is_named).copied().collect()
}

fn or_all<T: Copy>(chosen: Vec<T>, all: &[T]) -> Vec<T> {
    if chosen.is_empty() {
        all.to_vec()
    } else {
        chosen
    }
}

fn shape(arg: &str) -> Option<[usize; 3]> {
    let sizes: Vec<usize> = arg
        .split('x')
        .filter_map(|part| part.parse().ok())
        .collect();
    sizes.try_into().ok()
}

fn bench(kernels: &Kernels, ty: WeightType, rows: usize, cols: usize, n_tokens: usize, peak: f64) {
    let n_bytes = rows * cols * ty.block_bytes();
    let data: Vec<u8> = (0..n_bytes)
        .map(|i| if i % 2 == 1 { 0x3c } else { i as u8 })
        .collect();
    let weight = Matrix::new(ty, rows, cols, &data).expect("whole rows");
    let input: Vec<f32> = (0..n_tokens * cols)
        .map(|i| (i % 37) as f32 * 0.05 - 0.9)
        .collect();
    let mut out = vec![0.0; n_tokens * rows];
    let mut scratch = Scratch::new();
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.25 {
        let run = Instant::now();
        kernels.matmul(
            &mut scratch,
            &input,
            n_tokens,
            &mut [MatmulJob {
                weight,
                out: &mut out,
            }],
        );
        times.push(run.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[times.len() / 2]);
    let products = (rows * cols * n_tokens) as f64;
    println!(
        "{:8} {} thread(s) {ty}: {rows}x{cols}, {n_tokens} token(s): {:.2} ms, {:.1} GFMA/s, {:.1} % of the peak (median {:.1} %), {:.1} GB/s of weights",
        kernels.level(),
        kernels.n_threads(),
        best * 1e3,
        products / best * 1e-9,
        products / best / peak * 100.0,
        products / median / peak * 100.0,
        n_bytes as f64 / best * 1e-9,
    );
}
