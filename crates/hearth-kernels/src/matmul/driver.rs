//! Runs the products of one call: quantises the input, cuts all jobs into chunks, and lets the team take them.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::acts::{Acts, Needs, Streams};
use super::producer::Producer;
use super::{MatmulJob, OutRows, RowKernel, RowTask, row_kernel};
use crate::Kernels;
use crate::activation::ActBatch;
use crate::disjoint::Disjoint;
use crate::quant::WeightType;
use crate::team::Worker;

/// Up to this many tokens, reading the matrix takes the time, and chunks are measured in bytes.
pub(crate) const FEW_TOKENS: usize = 4;

/// What every product writes for a token whose activations are not all finite.
const CANONICAL_NAN: f32 = f32::from_bits(0x7fc0_0000);

/// Memory that products reuse from call to call, so that a step allocates nothing once it has seen its largest shapes.
#[derive(Debug, Default)]
pub struct Scratch {
    acts: Acts,
    streams: Streams,
    chunks: Vec<Chunk>,
    kernels: Vec<RowKernel>,
    outs: Vec<SharedOut>,
    threads: Vec<Mutex<ThreadScratch>>,
}

impl Scratch {
    /// Empty; grows with use.
    pub fn new() -> Scratch {
        Scratch::default()
    }
}

/// Memory of one thread inside a kernel.
#[derive(Debug, Default)]
pub(crate) struct ThreadScratch {
    lines: Vec<Line>,
}

/// Panels start at a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl ThreadScratch {
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.lines.capacity()
    }

    /// At least `n_bytes` bytes at a cache line, with whatever the last kernel left in them.
    pub fn bytes(&mut self, n_bytes: usize) -> &mut [u8] {
        let n_lines = n_bytes.div_ceil(64);
        if self.lines.len() < n_lines {
            self.lines.resize(n_lines, Line([0; 64]));
        }
        // SAFETY: a `Line` is 64 initialised bytes without padding.
        unsafe {
            std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 64)
        }
    }
}

/// Some rows of one job.
#[derive(Debug, Clone)]
struct Chunk {
    job: usize,
    rows: Range<usize>,
}

/// Output of a job, shared by the threads that fill different rows of it.
#[derive(Debug, Clone, Copy)]
struct SharedOut(*mut f32);

// SAFETY: threads write through it only the rows of chunks they have claimed, and each chunk is claimed once.
unsafe impl Send for SharedOut {}
// SAFETY: as above.
unsafe impl Sync for SharedOut {}

impl Kernels {
    /// `out = weight · input` for every job. `input` is `[n_tokens, cols]`, each output `[n_tokens, rows]`.
    ///
    /// All products of the call take place in one fork of the team. A token with an activation that is not finite gets the
    /// canonical NaN as all its outputs.
    ///
    /// # Panics
    /// When a slice does not have the length its shape demands.
    pub fn matmul(
        &self,
        scratch: &mut Scratch,
        input: &[f32],
        n_tokens: usize,
        jobs: &mut [MatmulJob<'_>],
    ) {
        let Some(first) = jobs.first() else { return };
        let n_cols = first.weight.cols();
        check_lengths(input, n_tokens, n_cols, jobs);
        let needs = Needs::of(jobs.iter().map(|job| job.weight.weight_type()));
        let row = |token: usize| &input[token * n_cols..][..n_cols];
        scratch.acts.quantize(self, needs, n_cols, n_tokens, row);
        self.matmul_prepared(scratch, input, n_tokens, jobs);
    }

    /// Makes the rows of `input`, `[n_tokens, cols]`, and prepares them for products with weights of these types:
    /// [`Kernels::matmul_prepared`] is to follow.
    ///
    /// # Panics
    /// When a slice does not have the length its shape demands.
    pub fn prepare(
        &self,
        scratch: &mut Scratch,
        producer: Producer<'_>,
        input: &mut [f32],
        n_tokens: usize,
        types: impl Iterator<Item = WeightType> + Clone,
    ) {
        if n_tokens == 0 {
            return;
        }
        let n_cols = input.len() / n_tokens;
        assert_eq!(
            input.len(),
            n_tokens * n_cols,
            "input is not {n_tokens} rows"
        );
        producer.check(n_tokens, n_cols);
        let out = Disjoint::new(input);
        let row = |token: usize| {
            // SAFETY: rows do not overlap, and each is asked for once.
            unsafe {
                let out = out.part(token * n_cols..(token + 1) * n_cols);
                producer.make(self.isa(), token, out);
                &*out
            }
        };
        scratch
            .acts
            .quantize(self, Needs::of(types), n_cols, n_tokens, row);
    }

    /// [`Kernels::matmul`] with an input that [`Kernels::prepare`] made last, for weights of the same types.
    ///
    /// # Panics
    /// When a slice does not have the length its shape demands, or the input last prepared has another shape.
    pub fn matmul_prepared(
        &self,
        scratch: &mut Scratch,
        input: &[f32],
        n_tokens: usize,
        jobs: &mut [MatmulJob<'_>],
    ) {
        let Some(first) = jobs.first() else { return };
        let n_cols = first.weight.cols();
        check_lengths(input, n_tokens, n_cols, jobs);
        if n_tokens == 0 {
            return;
        }
        assert_eq!(
            scratch.acts.shape(),
            [n_tokens, n_cols],
            "another input was prepared"
        );
        let Scratch { acts, streams, .. } = scratch;
        let types = jobs.iter().map(|job| job.weight.weight_type());
        streams.fill(self.isa(), types, acts, 0..n_tokens);
        scratch.plan(self, n_tokens, jobs);
        let Scratch {
            acts,
            streams,
            chunks,
            kernels,
            outs,
            threads,
        } = scratch;
        let jobs: &[MatmulJob<'_>] = jobs;
        let run = Run {
            acts: acts.batch(0..n_tokens, input, streams),
            is_finite: acts.is_finite(0..n_tokens),
            chunks,
            kernels,
            outs,
            jobs,
        };
        self.team().run(run.chunks.len(), |worker| {
            let mut scratch = threads[worker.index()]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            run.work(worker, &mut scratch);
        });
        equalize(threads);
    }
}

impl Scratch {
    /// Chooses kernels and cuts the jobs into chunks.
    fn plan(&mut self, kernels: &Kernels, n_tokens: usize, jobs: &mut [MatmulJob<'_>]) {
        let n_threads = kernels.n_threads();
        if self.threads.len() < n_threads {
            self.threads.resize_with(n_threads, Mutex::default);
        }
        let total_bytes: usize = jobs.iter().map(|job| job.weight.data().len()).sum();
        self.chunks.clear();
        self.kernels.clear();
        self.outs.clear();
        for (index, job) in jobs.iter_mut().enumerate() {
            self.kernels
                .push(row_kernel(kernels.isa(), job.weight.weight_type()));
            self.outs.push(SharedOut(job.out.as_mut_ptr()));
            let step = chunk_rows(job.weight.row_bytes(), n_tokens, total_bytes, n_threads);
            let rows = job.weight.rows();
            let starts = (0..rows).step_by(step);
            self.chunks.extend(starts.map(|start| Chunk {
                job: index,
                rows: start..(start + step).min(rows),
            }));
        }
    }
}

fn check_lengths(input: &[f32], n_tokens: usize, n_cols: usize, jobs: &[MatmulJob<'_>]) {
    assert_eq!(
        input.len(),
        n_tokens * n_cols,
        "input is not [{n_tokens}, {n_cols}]"
    );
    for job in jobs {
        let (rows, cols) = (job.weight.rows(), job.weight.cols());
        assert_eq!(cols, n_cols, "jobs of one call differ in columns");
        assert_eq!(
            job.out.len(),
            n_tokens * rows,
            "output is not [{n_tokens}, {rows}]"
        );
    }
}

/// Gives every thread as much memory as the one that needed most: which thread met the largest chunk is chance, and a later
/// call of the same shapes must not have to allocate because another one meets it.
fn equalize(threads: &mut [Mutex<ThreadScratch>]) {
    let scratches = threads.iter_mut().map(get_mut);
    let largest = scratches.map(|scratch| scratch.lines.len()).max();
    for scratch in threads.iter_mut().map(get_mut) {
        scratch.bytes(largest.unwrap_or(0) * size_of::<Line>());
    }
}

/// A poisoned lock only says that a kernel panicked; its memory is still memory.
fn get_mut(scratch: &mut Mutex<ThreadScratch>) -> &mut ThreadScratch {
    scratch.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// Rows of a chunk, a multiple of 32, the rows of a panel; for few tokens of 16.
///
/// Few tokens: bytes count, enough per chunk that the hardware's own prefetcher gets going, few enough that threads finish
/// together. Many: one panel, whose unpacked form and outputs fit the cache.
pub(crate) fn chunk_rows(
    row_bytes: usize,
    n_tokens: usize,
    total_bytes: usize,
    n_threads: usize,
) -> usize {
    let by_bytes = |target: usize| (target / row_bytes.max(1)).max(16) / 16 * 16;
    match n_tokens {
        0..=FEW_TOKENS => by_bytes((total_bytes / (n_threads * 6)).clamp(24 << 10, 256 << 10)),
        5..=32 => by_bytes((total_bytes / (n_threads * 4)).clamp(16 << 10, 128 << 10))
            .next_multiple_of(32),
        33..=96 => 32,
        _ => 64,
    }
}

/// What the threads of one call share.
struct Run<'a> {
    acts: ActBatch<'a>,
    is_finite: &'a [bool],
    chunks: &'a [Chunk],
    kernels: &'a [RowKernel],
    outs: &'a [SharedOut],
    jobs: &'a [MatmulJob<'a>],
}

impl Run<'_> {
    /// One thread's share. It claims one chunk ahead, so that a kernel can prefetch across the seam.
    fn work(&self, worker: &Worker<'_>, scratch: &mut ThreadScratch) {
        let claim = || worker.claim().map(|index| &self.chunks[index]);
        let mut present = claim();
        while let Some(chunk) = present {
            let next = claim();
            self.run_chunk(chunk, next, scratch);
            present = next;
        }
    }

    fn run_chunk(&self, chunk: &Chunk, next: Option<&Chunk>, scratch: &mut ThreadScratch) {
        let weight = self.jobs[chunk.job].weight;
        let next = next.map_or(&[][..], |next| {
            self.jobs[next.job].weight.rows_data(next.rows.clone())
        });
        let task = RowTask {
            weight,
            rows: chunk.rows.clone(),
            acts: self.acts,
            next,
        };
        let n_tokens = self.acts.n_tokens;
        // SAFETY: `matmul` checked that the output is [n_tokens, rows]; its borrow lives in `jobs`, which nobody writes
        // through, and these rows are this chunk's alone.
        let mut out = unsafe {
            let first = self.outs[chunk.job].0.add(chunk.rows.start);
            OutRows::new(first, weight.rows(), n_tokens, chunk.rows.len())
        };
        // SAFETY: the kernel comes from the table of an `Isa`, which exists only where the processor has its features.
        unsafe { self.kernels[chunk.job](&task, &mut out, scratch) };
        spoil(&mut out, self.is_finite);
    }
}

/// Gives tokens with an activation that is not finite the canonical NaN.
pub(crate) fn spoil(out: &mut OutRows, is_finite: &[bool]) {
    for (token, _) in is_finite.iter().enumerate().filter(|(_, finite)| !**finite) {
        out.token(token).fill(CANONICAL_NAN);
    }
}

/// Makes it at least as long. It never gets shorter, so that calls of different widths do not fill again and again what they
/// overwrite anyway.
pub(crate) fn grow<T: Copy>(buffer: &mut Vec<T>, len: usize, fill: T) {
    if buffer.len() < len {
        buffer.resize(len, fill);
    }
}
