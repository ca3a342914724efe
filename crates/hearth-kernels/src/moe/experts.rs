//! The products of the chosen experts, shared by the threads of a team.
//!
//! Gate and up products are cut into rows of one expert's matrices for all its tokens. The down products are cut into strips of
//! the output for all experts, because a strip's weighted sum is then one thread's own: every claim costs the same however
//! uneven the groups are, and no expert's output is kept.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::MoeArgs;
use super::route::{Group, Routes, Row};
use crate::Kernels;
use crate::activation::ActBatch;
use crate::cpu::Isa;
use crate::disjoint::Disjoint;
use crate::float::LANES;
use crate::glu::glu;
use crate::lanes::{self, LaneOp, Lanes};
use crate::matmul::acts::{Acts, Streams};
use crate::matmul::driver::{FEW_TOKENS, chunk_rows, spoil};
use crate::matmul::{Matrix, OutRows, RowKernel, RowTask, ThreadScratch, row_kernel};

/// Floats of a tile, the outputs of some rows for some tokens: they stay in the second-level cache.
const TILE: usize = 32 << 10;

/// Rows are cut at multiples of this, the rows of a panel.
const ROW_UNIT: usize = 32;

/// Bytes of a strip of one down matrix where a group streams it: enough for the processor's own prefetcher.
const STRIP_BYTES: usize = 32 << 10;

/// Rows of a strip where no group does.
const STRIP_ROWS: usize = 64;

/// Claims per thread below which strips get narrower.
const CLAIMS: usize = 4;

/// More than any kernel asks for. Groups differ from step to step, so kernels do not get to see their largest shapes early.
const KERNEL_BYTES: usize = 512 << 10;

/// Memory of one thread.
#[derive(Debug, Default)]
pub(super) struct Thread {
    kernel: ThreadScratch,
    tiles: Vec<f32>,
}

impl Thread {
    /// Room for two tiles of any group among so many tokens.
    pub fn grow(&mut self, n_tokens: usize) {
        let n = 2 * tile_len(n_tokens);
        if self.tiles.len() < n {
            self.tiles.resize(n, 0.0);
        }
        self.kernel.bytes(KERNEL_BYTES);
    }

    pub fn n_bytes(n_tokens: usize) -> u64 {
        (tile_len(n_tokens) as u64)
            .saturating_mul(8)
            .saturating_add(KERNEL_BYTES as u64)
    }
}

fn tile_len(n_tokens: usize) -> usize {
    n_tokens.saturating_mul(ROW_UNIT).max(TILE)
}

/// At most `rows`, so many that a tile of `n_tokens` has room, and a multiple of the unit.
fn rows_of_tile(rows: usize, n_tokens: usize) -> usize {
    (rows.min(TILE / n_tokens) / ROW_UNIT).max(1) * ROW_UNIT
}

/// What both halves need to know about the groups.
#[derive(Clone, Copy)]
struct Groups<'a> {
    args: &'a MoeArgs<'a>,
    routes: &'a Routes,
    acts: &'a Acts,
    streams: &'a [Streams],
    isa: Isa,
}

impl<'a> Groups<'a> {
    /// `out = weight[rows] · activations of the group`, `[len, rows]`. `rows` are counted in the expert's own matrix, which has
    /// `height` of them; `next` is what this thread reads afterwards.
    #[allow(
        clippy::too_many_arguments,
        reason = "one product, called in three places"
    )]
    fn product(
        &self,
        kernel: RowKernel,
        weight: Matrix<'a>,
        rows: Range<usize>,
        acts: ActBatch<'a>,
        group: &Group,
        next: &'a [u8],
        out: &mut [f32],
        scratch: &mut ThreadScratch,
    ) {
        let n_rows = rows.len();
        assert_eq!(out.len(), group.len * n_rows, "a tile of the group");
        let task = RowTask {
            weight,
            rows,
            acts,
            next,
        };
        // SAFETY: `out` is exclusively borrowed and has `n_rows` floats for each row of the group.
        let mut out = unsafe { OutRows::new(out.as_mut_ptr(), n_rows, group.len, n_rows) };
        // SAFETY: the kernel comes from the table of an `Isa`, which exists only where the processor has its features.
        unsafe { kernel(&task, &mut out, scratch) };
        spoil(&mut out, self.acts.is_finite(group.rows()));
    }

    fn kernel(&self, weight: &Matrix<'_>) -> RowKernel {
        row_kernel(self.isa, weight.weight_type())
    }
}

/// Rows of one expert's gate and up matrices.
fn stacked(group: &Group, height: usize, rows: &Range<usize>) -> Range<usize> {
    let first = group.expert * height;
    first + rows.start..first + rows.end
}

/// `inner = act(gate · x) · (up · x)`.
pub(super) struct GateUp<'a> {
    groups: Groups<'a>,
    gate: RowKernel,
    up: RowKernel,
}

impl<'a> GateUp<'a> {
    /// Cuts the work of each group into chunks.
    pub fn plan(args: &MoeArgs<'_>, groups: &mut [Group], n_threads: usize) {
        let row_bytes = args.gate.row_bytes() + args.up.row_bytes();
        let total_bytes = groups.len() * args.n_ff() * row_bytes;
        let mut first_chunk = 0;
        for group in groups {
            let rows = chunk_rows(row_bytes, group.len, total_bytes, n_threads);
            group.chunk_rows = rows_of_tile(rows, group.len);
            group.first_chunk = first_chunk;
            first_chunk += args.n_ff().div_ceil(group.chunk_rows);
        }
    }

    pub fn new(
        args: &'a MoeArgs<'a>,
        routes: &'a Routes,
        acts: &'a Acts,
        streams: &'a [Streams],
        isa: Isa,
    ) -> Self {
        let groups = Groups {
            args,
            routes,
            acts,
            streams,
            isa,
        };
        GateUp {
            gate: groups.kernel(&args.gate),
            up: groups.kernel(&args.up),
            groups,
        }
    }

    /// All chunks of a planned call, into `inner`, `[rows, n_ff]`.
    pub fn run(&self, kernels: &Kernels, threads: &[Mutex<Thread>], inner: &mut [f32]) {
        let inner = Disjoint::new(inner);
        let n_chunks = self.groups.routes.groups.last().map_or(0, |last| {
            last.first_chunk + self.groups.args.n_ff().div_ceil(last.chunk_rows)
        });
        kernels.team().run(n_chunks, |worker| {
            let mut thread = lock(&threads[worker.index()]);
            // One chunk ahead, so that a kernel can prefetch across the seam.
            let mut present = worker.claim();
            while let Some(chunk) = present {
                let next = worker.claim();
                self.chunk(chunk, next, &mut thread, &inner);
                present = next;
            }
        });
    }

    /// The group of a chunk, its number, and the rows of the expert's matrices.
    fn rows(&self, chunk: usize) -> (usize, Range<usize>) {
        let groups = &self.groups.routes.groups;
        let index = groups.partition_point(|group| group.first_chunk <= chunk) - 1;
        let group = &groups[index];
        let first = (chunk - group.first_chunk) * group.chunk_rows;
        let end = (first + group.chunk_rows).min(self.groups.args.n_ff());
        (index, first..end)
    }

    fn chunk(
        &self,
        chunk: usize,
        next: Option<usize>,
        thread: &mut Thread,
        inner: &Disjoint<'_, f32>,
    ) {
        let Groups {
            args,
            routes,
            acts,
            streams,
            isa,
        } = self.groups;
        let n_ff = args.n_ff();
        let (index, rows) = self.rows(chunk);
        let group = &routes.groups[index];
        let gate_rows = stacked(group, n_ff, &rows);
        let after = next.map_or(&[][..], |next| {
            let (index, rows) = self.rows(next);
            let rows = stacked(&routes.groups[index], n_ff, &rows);
            args.gate.rows_data(rows)
        });
        let batch = acts.batch(group.rows(), acts.gathered(group.rows()), &streams[index]);
        let Thread { kernel, tiles } = thread;
        let (gate, rest) = tiles.split_at_mut(group.len * rows.len());
        let up = &mut rest[..group.len * rows.len()];
        let between = args.up.rows_data(gate_rows.clone());
        self.groups.product(
            self.gate,
            args.gate,
            gate_rows.clone(),
            batch,
            group,
            between,
            gate,
            kernel,
        );
        self.groups
            .product(self.up, args.up, gate_rows, batch, group, after, up, kernel);
        let tiles = gate
            .chunks_exact(rows.len())
            .zip(up.chunks_exact(rows.len()));
        for (row, (gate, up)) in group.rows().zip(tiles) {
            // SAFETY: these rows of the expert are this chunk's alone, and a chunk is claimed once.
            let out = unsafe { inner.part(row * n_ff + rows.start..row * n_ff + rows.end) };
            glu(isa, args.activation, gate, up, out);
        }
    }
}

/// `out = Σ weight · (down · inner)`.
pub(super) struct Down<'a> {
    groups: Groups<'a>,
    down: RowKernel,
    /// `[rows, n_ff]`.
    inner: &'a [f32],
    strip_rows: usize,
}

impl<'a> Down<'a> {
    pub fn new(
        args: &'a MoeArgs<'a>,
        routes: &'a Routes,
        acts: &'a Acts,
        streams: &'a [Streams],
        inner: &'a [f32],
        kernels: &Kernels,
    ) -> Self {
        let groups = Groups {
            args,
            routes,
            acts,
            streams,
            isa: kernels.isa(),
        };
        let is_streamed = routes.groups.iter().any(|group| group.len <= FEW_TOKENS);
        let rows = match is_streamed {
            true => STRIP_ROWS.max(STRIP_BYTES / args.down.row_bytes()),
            false => STRIP_ROWS,
        };
        let n_tokens = routes.rows.len() / args.n_expert_used;
        let shared = args.n_embd().div_ceil(kernels.n_threads() * CLAIMS);
        Down {
            down: groups.kernel(&args.down),
            groups,
            inner,
            strip_rows: rows_of_tile(rows.min(shared), n_tokens),
        }
    }

    /// All strips of `out`, `[n_tokens, n_embd]`.
    pub fn run(&self, kernels: &Kernels, threads: &[Mutex<Thread>], out: &mut [f32]) {
        let out = Disjoint::new(out);
        let n_strips = self.groups.args.n_embd().div_ceil(self.strip_rows);
        kernels.team().run(n_strips, |worker| {
            let mut thread = lock(&threads[worker.index()]);
            let mut present = worker.claim();
            while let Some(strip) = present {
                let next = worker.claim();
                self.strip(strip, next, &mut thread, &out);
                present = next;
            }
        });
    }

    fn rows(&self, strip: usize) -> Range<usize> {
        let first = strip * self.strip_rows;
        first..(first + self.strip_rows).min(self.groups.args.n_embd())
    }

    fn strip(
        &self,
        strip: usize,
        next: Option<usize>,
        thread: &mut Thread,
        out: &Disjoint<'_, f32>,
    ) {
        let Groups {
            args,
            routes,
            acts,
            streams,
            isa,
        } = self.groups;
        let (n_embd, n_ff) = (args.n_embd(), args.n_ff());
        let rows = self.rows(strip);
        let n_tokens = routes.rows.len() / args.n_expert_used;
        let Thread { kernel, tiles } = thread;
        let (sums, tile) = tiles.split_at_mut(n_tokens * rows.len());
        sums.fill(0.0);
        for (index, group) in routes.groups.iter().enumerate() {
            let after = match (routes.groups.get(index + 1), next) {
                (Some(group), _) => args.down.rows_data(stacked(group, n_embd, &rows)),
                (None, Some(next)) => {
                    let rows = stacked(&routes.groups[0], n_embd, &self.rows(next));
                    args.down.rows_data(rows)
                }
                (None, None) => &[],
            };
            let input = &self.inner[group.first * n_ff..][..group.len * n_ff];
            let tile = &mut tile[..group.len * rows.len()];
            self.groups.product(
                self.down,
                args.down,
                stacked(group, n_embd, &rows),
                acts.batch(group.rows(), input, &streams[index]),
                group,
                after,
                tile,
                kernel,
            );
            let weighted = Weighted {
                rows: &routes.rows[group.rows()],
                n: rows.len(),
                tile,
                sums,
            };
            weighted.add(isa);
        }
        for (token, sums) in sums.chunks_exact(rows.len()).enumerate() {
            let range = token * n_embd + rows.start..token * n_embd + rows.end;
            // SAFETY: these columns are this strip's alone, and a strip is claimed once.
            unsafe { out.part(range).copy_from_slice(sums) };
        }
    }
}

/// A panic under the lock leaves memory that is still memory.
fn lock(thread: &Mutex<Thread>) -> std::sync::MutexGuard<'_, Thread> {
    thread.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `sums[token] = fma(weight, tile[row], sums[token])` for the rows of a group.
struct Weighted<'a> {
    rows: &'a [Row],
    /// Columns.
    n: usize,
    /// `[rows, n]`.
    tile: &'a [f32],
    /// `[n_tokens, n]`.
    sums: &'a mut [f32],
}

impl Weighted<'_> {
    fn add(self, isa: Isa) {
        match isa {
            Isa::Scalar => {
                for (row, tile) in self.rows.iter().zip(self.tile.chunks_exact(self.n)) {
                    let sums = &mut self.sums[row.token * self.n..][..self.n];
                    for (sum, y) in sums.iter_mut().zip(tile) {
                        *sum = row.weight.mul_add(*y, *sum);
                    }
                }
            }
            isa => lanes::run(isa, self),
        }
    }
}

impl LaneOp for Weighted<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        for (row, tile) in self.rows.iter().zip(self.tile.chunks_exact(self.n)) {
            let weight = s.splat(row.weight);
            let sums = &mut self.sums[row.token * self.n..][..self.n];
            let (sums, sums_rest) = sums.as_chunks_mut::<LANES>();
            let (tile, tile_rest) = tile.as_chunks::<LANES>();
            for (sum, y) in sums.iter_mut().zip(tile) {
                s.store(s.fma(weight, s.load(y), s.load(sum)), sum);
            }
            let rest = s.fma(weight, s.load_part(tile_rest), s.load_part(sums_rest));
            s.store_part(rest, sums_rest);
        }
    }
}
