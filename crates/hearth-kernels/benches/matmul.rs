//! Speed of products: GB/s of weights for one token, billions of multiply-adds per second for many.
//!
//! `cargo bench -p hearth-kernels --bench matmul -- [--threads N] [--level L] [--rows N] [--cols N] [--tokens 1,512] [TYPE …]`
//!
//! The matrices together exceed every cache, so one token is measured from memory. Each figure is the best and the median of
//! the rounds; the machine's own reading speed in the same minute stands beside the first.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use hearth_kernels::matmul::Scratch;
use hearth_kernels::{Kernels, Level, MatmulJob, Matrix, WeightType};

/// Bytes of weights that take turns: more than the last-level cache of a server.
const WORKING_SET: usize = 640 << 20;

struct Options {
    n_threads: NonZeroUsize,
    level: Level,
    rows: usize,
    cols: usize,
    tokens: Vec<usize>,
    seconds: f64,
    types: Vec<WeightType>,
}

fn options() -> Options {
    let mut options = Options {
        n_threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        level: Level::best(),
        rows: 3072,
        cols: 1024,
        tokens: vec![1, 512],
        seconds: 0.5,
        types: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--bench" => {}
            "--threads" => options.n_threads = value().parse().expect("a number of threads"),
            "--level" => options.level = value().parse().expect("a level"),
            "--rows" => options.rows = value().parse().expect("a number of rows"),
            "--cols" => options.cols = value().parse().expect("a number of columns"),
            "--seconds" => options.seconds = value().parse().expect("seconds"),
            "--tokens" => {
                options.tokens = value()
                    .split(',')
                    .map(|n| n.parse().expect("a number"))
                    .collect();
            }
            name => options.types.push(
                WeightType::ALL
                    .into_iter()
                    .find(|ty| ty.name() == name)
                    .expect("a weight type"),
            ),
        }
    }
    if options.types.is_empty() {
        options.types = WeightType::ALL.to_vec();
    }
    options
}

/// Bytes that are no special numbers in any format: products of NaN or denormals may be slower on some processors.
fn weights(ty: WeightType, n_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes: Vec<u8> = (0..n_bytes.div_ceil(8))
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(n_bytes)
        .collect();
    let scales: &[usize] = match ty {
        WeightType::F16 => &[0],
        WeightType::F32 | WeightType::BF16 | WeightType::MXFP4 => &[],
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4_K | WeightType::Q5_K => &[0, 2],
        WeightType::Q2_K => &[80, 82],
        WeightType::Q3_K => &[108],
        WeightType::Q6_K => &[208],
        _ => &[0],
    };
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        for &at in scales {
            block[at + 1] = 0x10;
        }
        match ty {
            WeightType::F32 => block[3] = 0x3c,
            WeightType::BF16 => block[1] = 0x3c,
            WeightType::MXFP4 => block[0] = 120,
            _ => {}
        }
    }
    bytes
}

/// Best and median of the times of `body`, called with 0, 1, 2, …
fn measure(seconds: f64, mut body: impl FnMut(usize)) -> (Duration, Duration) {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed().as_secs_f64() < seconds || times.len() < 5 {
        let round = Instant::now();
        body(times.len());
        times.push(round.elapsed());
    }
    times.sort();
    (times[0], times[times.len() / 2])
}

/// GB/s at which the team reads memory it does not have in its caches, as fast as a plain loop does it.
fn read_speed(kernels: &Kernels, data: &[u8], seconds: f64) -> f64 {
    const PART: usize = 256 << 10;
    let n = 8 << 20;
    let (best, _) = measure(seconds, |round| {
        let from = round * n % (data.len() - n);
        let data = &data[from..from + n];
        kernels.team().run(n / PART, |worker| {
            while let Some(part) = worker.claim() {
                let words = data[part * PART..][..PART].as_chunks::<8>().0;
                let sum = words
                    .iter()
                    .fold(0, |sum: u64, word| sum ^ u64::from_le_bytes(*word));
                std::hint::black_box(sum);
            }
        });
    });
    n as f64 / best.as_nanos() as f64
}

fn main() {
    let options = options();
    let kernels = Kernels::new(options.level, options.n_threads).expect("a level this machine has");
    let (rows, cols) = (options.rows, options.cols);
    println!(
        "level {}, {} threads, [{rows}, {cols}]",
        options.level, options.n_threads
    );
    for &ty in &options.types {
        let n_bytes = ty.row_bytes(cols).expect("whole blocks") * rows;
        let copies = WORKING_SET.div_ceil(n_bytes);
        let data = weights(ty, n_bytes * copies);
        for &n_tokens in &options.tokens {
            let input: Vec<f32> = (0..n_tokens * cols)
                .map(|i| ((i * 7919 % 2003) as f32 / 1001.0 - 1.0).powi(3))
                .collect();
            let mut out = vec![0f32; n_tokens * rows];
            let mut scratch = Scratch::new();
            let (best, median) = measure(options.seconds, |round| {
                let bytes = &data[round % copies * n_bytes..][..n_bytes];
                let weight = Matrix::new(ty, rows, cols, bytes).expect("a whole matrix");
                kernels.matmul(
                    &mut scratch,
                    &input,
                    n_tokens,
                    &mut [MatmulJob {
                        weight,
                        out: &mut out,
                    }],
                );
            });
            let per_ns = |amount: usize, time: Duration| amount as f64 / time.as_nanos() as f64;
            let macs = rows * cols * n_tokens;
            print!(
                "{ty:7} {n_tokens:4} tokens: {:8.1} us best, {:6.1} GB/s ({:6.1}), {:7.1} GMAC/s ({:7.1})",
                best.as_nanos() as f64 / 1e3,
                per_ns(n_bytes, best),
                per_ns(n_bytes, median),
                per_ns(macs, best),
                per_ns(macs, median),
            );
            if n_tokens <= 4 {
                print!(
                    ", plain read {:.1} GB/s",
                    read_speed(&kernels, &data, options.seconds / 4.0)
                );
            }
            println!();
        }
    }
}
