//! Products with float weights: fused multiply-adds per second for many tokens, bytes of weights per second for one.
//!
//! `cargo bench -p hearth-kernels --bench float [-- THREADS]`. Each figure is the best of the runs.

use std::num::NonZeroUsize;
use std::time::Instant;

use hearth_kernels::matmul::Scratch;
use hearth_kernels::{Kernels, Level, MatmulJob, Matrix, WeightType};

fn main() {
    let threads: Vec<usize> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let threads = if threads.is_empty() {
        vec![1, 2]
    } else {
        threads
    };
    for n_threads in threads.into_iter().filter_map(NonZeroUsize::new) {
        for level in [Level::Avx2, Level::Avx512] {
            let Ok(kernels) = Kernels::new(level, n_threads) else {
                continue;
            };
            for ty in [WeightType::F32, WeightType::F16, WeightType::BF16] {
                for (rows, cols) in [(1024, 1024), (1024, 3072), (2048, 8192)] {
                    bench(&kernels, ty, rows, cols, 512);
                }
                // Larger than the caches, so that memory answers.
                bench(&kernels, ty, 32 * 1024, 2048, 1);
                bench(&kernels, ty, 32 * 1024, 2048, 4);
            }
        }
    }
}

fn bench(kernels: &Kernels, ty: WeightType, rows: usize, cols: usize, n_tokens: usize) {
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
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.4 {
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
        best = best.min(run.elapsed().as_secs_f64());
    }
    let products = (rows * cols * n_tokens) as f64;
    println!(
        "{:8} {} thread(s) {ty}: {rows}x{cols}, {n_tokens} token(s): {:.2} ms, {:.1} GFMA/s, {:.1} GB/s of weights",
        kernels.level(),
        kernels.n_threads(),
        best * 1e3,
        products / best * 1e-9,
        n_bytes as f64 / best * 1e-9,
    );
}
