//! Attention: fused multiply-adds per second when a prompt is read, bytes of keys and values per second when text is written.
//!
//! `cargo bench -p hearth-kernels --bench attention [-- THREADS]`. Only visible positions count, so what tiles compute in vain
//! shows as lost speed. Each figure is the best of the runs.

use std::num::NonZeroUsize;
use std::time::Instant;

use hearth_kernels::attention::Scratch;
use hearth_kernels::{AttendArgs, Kernels, KvPlace, KvRow, KvType, Level, PAGE_POSITIONS};

const N_HEAD: usize = 16;
const N_HEAD_KV: usize = 8;
const HEAD_DIM: usize = 128;

fn main() {
    let threads: Vec<usize> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let threads = if threads.is_empty() {
        vec![1, 2]
    } else {
        threads
    };
    println!("{N_HEAD} heads, {N_HEAD_KV} key/value heads of {HEAD_DIM}");
    for n_threads in threads.into_iter().filter_map(NonZeroUsize::new) {
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            let Ok(kernels) = Kernels::new(level, n_threads) else {
                continue;
            };
            for kv_type in KvType::ALL {
                bench(&kernels, kv_type, "prompt", 0..512);
                bench(&kernels, kv_type, "prompt", 3584..4096);
                bench(&kernels, kv_type, "decode", 4095..4096);
            }
        }
    }
}

fn bench(kernels: &Kernels, kv_type: KvType, what: &str, positions: std::ops::Range<u32>) {
    let mut place = KvPlace {
        kv_type,
        page_bytes: 0,
        key_offset: 0,
        value_offset: 0,
        n_head_kv: N_HEAD_KV,
        head_dim: HEAD_DIM,
        head_dim_v: HEAD_DIM,
    };
    place.value_offset = place.key_bytes();
    place.page_bytes = place.key_bytes() + place.value_bytes();
    let n_positions = positions.end;
    let table: Vec<u32> = (0..n_positions.div_ceil(PAGE_POSITIONS as u32)).collect();
    let mut kv = vec![0; table.len() * place.page_bytes];
    let all: Vec<KvRow> = (0..n_positions)
        .map(|pos| KvRow { table: 0, pos })
        .collect();
    let stored = floats(all.len() * N_HEAD_KV * HEAD_DIM);
    kernels.store_kv(&mut kv, &place, &all, &[&table], &stored, &stored);

    let rows = &all[positions.start as usize..];
    let q = floats(rows.len() * N_HEAD * HEAD_DIM);
    let mut out = vec![0.0; q.len()];
    let mut scratch = Scratch::new();
    let args = AttendArgs {
        n_head: N_HEAD,
        scale: 1.0 / (HEAD_DIM as f32).sqrt(),
        window: None,
        soft_cap: None,
        sinks: None,
    };
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.6 {
        let run = Instant::now();
        kernels.attend(
            &mut scratch,
            &kv,
            &place,
            rows,
            &[&table],
            &args,
            &q,
            &mut out,
        );
        best = best.min(run.elapsed().as_secs_f64());
    }
    let visible: f64 = rows.iter().map(|row| f64::from(row.pos + 1)).sum();
    let products = visible * (2 * N_HEAD * HEAD_DIM) as f64;
    let bytes = visible * (place.page_bytes / PAGE_POSITIONS) as f64;
    println!(
        "{:8} {} thread(s) {}: {what} {positions:?}: {:.3} ms, {:.1} GFMA/s, {:.1} GB/s of keys and values",
        kernels.level(),
        kernels.n_threads(),
        kv_type.name(),
        best * 1e3,
        products / best * 1e-9,
        bytes / best * 1e-9,
    );
}

/// Numbers between -1 and 1.
fn floats(n: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}
