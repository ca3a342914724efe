//! Softmax attention of query rows over the pages of their sequences, with grouped heads and an optional window.
//!
//! A row at position `p` sees the keys `j <= p`, with a window `w` those with `p - j < w`. Keys are taken in chunks of 512
//! absolute positions: each chunk gives a maximum, a sum of exponentials and a weighted sum of values, and chunks are merged in
//! order (`scalar.rs` is the definition, `docs/numerics.md` the words). Because chunks do not depend on who computes them, a
//! long context can be shared among threads, and a prompt may be read in any portions: same bits.
//!
//! For speed, consecutive rows of one sequence and the query heads that share a key/value head form tiles (`tile.rs`). Steps of
//! up to 12 queries of a tile read each key and value once; what is stored in half precision is converted once for all steps.
//! Positions nobody in the tile sees are skipped, not masked.

mod merge;
mod plan;
pub(crate) mod scalar;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Kernels;
use crate::cpu::Isa;
use crate::disjoint::Disjoint;
use crate::page::{KvPlace, KvRow};
use plan::{Plan, Tile};
use tile::TileScratch;

/// Absolute positions of a chunk.
pub(crate) const CHUNK: usize = 512;

/// Queries of a tile at most: the more, the less often keys and values are read and converted.
pub(crate) const TILE: usize = 192;

/// Queries that go through the registers together; a tile has at least so many if there are.
pub(crate) const STEP: usize = 12;

/// What the largest weight of a chunk becomes when values have 8 bits: 512 products of 32767 and 127 just fit 32 bits.
pub(crate) const MAX_WEIGHT: f32 = 32767.0;

/// What attention needs to know beside the layout of keys and values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttendArgs<'a> {
    /// Query heads, a multiple of the key/value heads.
    pub n_head: usize,
    /// Factor on every score.
    pub scale: f32,
    /// How many positions a row sees, its own included; all without it.
    pub window: Option<u32>,
    /// Scores are bounded softly: `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// A logit per query head that joins its softmax and has no value: it only takes weight away from the others.
    pub sinks: Option<&'a [f32]>,
}

/// Largest shapes of a model's calls, to size a [`Scratch`] once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Rows of a call.
    pub n_rows: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads.
    pub n_head_kv: usize,
    /// Width of a key.
    pub head_dim: usize,
    /// Width of a value.
    pub head_dim_v: usize,
    /// Positions of a sequence.
    pub n_positions: usize,
}

impl Bounds {
    /// Bytes of the large allocations that [`Scratch::reserve`] makes for a team, to be judged before they are made. Counts
    /// beyond what can be addressed come out as the largest number.
    pub fn scratch_bytes(&self, n_threads: usize) -> [u64; 4] {
        let sizes = Sizes::new(self, n_threads);
        let floats = |n: usize| 4u64.saturating_mul(n as u64);
        let converted = tile::converted_bytes(self.head_dim, self.head_dim_v);
        [
            floats(sizes.shared),
            floats(sizes.own.saturating_mul(n_threads)),
            converted.saturating_mul(n_threads) as u64,
            (size_of::<Tile>() as u64).saturating_mul(sizes.n_tiles as u64),
        ]
    }
}

/// How much a scratch holds for calls up to some bounds.
struct Sizes {
    n_tiles: usize,
    /// Tiles whose chunks are tasks.
    n_shared: usize,
    /// Floats of the partial results of those.
    shared: usize,
    /// Floats of the partial results of one thread's tile.
    own: usize,
}

impl Sizes {
    fn new(bounds: &Bounds, n_threads: usize) -> Sizes {
        let n_tiles = plan::max_tiles(bounds);
        let n_chunks = bounds.n_positions.div_ceil(CHUNK).max(1);
        let n_shared = n_tiles.min(n_threads.saturating_mul(plan::SPLIT_TILES));
        let n_queries = n_shared
            .saturating_mul(STEP)
            .min(bounds.n_rows.saturating_mul(bounds.n_head));
        let len = n_chunks.saturating_mul(plan::partial_len(bounds.head_dim_v));
        Sizes {
            n_tiles,
            n_shared,
            shared: n_queries.saturating_mul(len),
            own: plan::longest_own(len),
        }
    }
}

/// Memory that attention reuses from call to call. It grows when a call needs more than it has;
/// [`Scratch::reserve`] makes room beforehand.
#[derive(Debug, Default)]
pub struct Scratch {
    plan: Plan,
    threads: Vec<Mutex<TileScratch>>,
    /// Results of chunks that different threads compute for one tile.
    partials: Vec<f32>,
    /// Chunks still missing, per tile; whoever brings the last one merges.
    missing: Vec<AtomicU32>,
}

impl Scratch {
    /// Empty; grows with use.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Makes room for calls up to `bounds` on `kernels`' team, so that they allocate nothing. Memory that is never touched stays
    /// with the system.
    pub fn reserve(&mut self, kernels: &Kernels, bounds: &Bounds) {
        let sizes = Sizes::new(bounds, kernels.n_threads());
        self.plan.reserve(sizes.n_tiles, bounds.n_rows);
        self.grow(
            kernels.n_threads(),
            sizes.n_shared,
            sizes.shared,
            [bounds.head_dim, bounds.head_dim_v],
            sizes.own,
        );
    }

    fn grow(
        &mut self,
        n_threads: usize,
        n_shared: usize,
        partials: usize,
        head_dims: [usize; 2],
        own: usize,
    ) {
        if self.threads.len() < n_threads {
            self.threads.resize_with(n_threads, Mutex::default);
        }
        for thread in &mut self.threads {
            thread
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .grow(head_dims, own);
        }
        if self.partials.len() < partials {
            self.partials = vec![0.0; partials];
        }
        if self.missing.len() < n_shared {
            self.missing.resize_with(n_shared, AtomicU32::default);
        }
    }
}

/// What all tiles of a call read.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub kv: &'a [u8],
    pub place: &'a KvPlace,
    pub rows: &'a [KvRow],
    pub tables: &'a [&'a [u32]],
    pub args: &'a AttendArgs<'a>,
    pub q: &'a [f32],
}

impl<'a> Inputs<'a> {
    /// Query heads that share a key/value head.
    pub(crate) fn group(&self) -> usize {
        self.args.n_head / self.place.n_head_kv
    }

    /// Positions the row sees.
    pub(crate) fn visible(&self, row: usize) -> Range<usize> {
        visible(self.rows[row].pos, self.args.window)
    }

    fn check(&self, out_len: usize) {
        let Inputs {
            place,
            rows,
            args,
            q,
            ..
        } = *self;
        place.check();
        let n_head = args.n_head;
        assert!(
            n_head.is_multiple_of(place.n_head_kv),
            "{n_head} heads do not share {} key/value heads evenly",
            place.n_head_kv
        );
        assert!(args.window != Some(0), "a row sees at least itself");
        assert!(
            args.soft_cap.is_none_or(|cap| cap > 0.0 && cap.is_finite()),
            "a soft cap is positive and finite: {:?}",
            args.soft_cap
        );
        assert!(
            args.sinks.is_none_or(|sinks| sinks.len() == n_head),
            "one sink per head"
        );
        assert_eq!(
            q.len(),
            rows.len() * n_head * place.head_dim,
            "one query per row and head"
        );
        assert_eq!(
            out_len,
            rows.len() * n_head * place.head_dim_v,
            "one output per row and head"
        );
    }

    /// The query of a row and head.
    pub(crate) fn query(&self, row: usize, head: usize) -> &'a [f32] {
        &self.q[(row * self.args.n_head + head) * self.place.head_dim..][..self.place.head_dim]
    }
}

/// Positions that a row at `pos` sees.
pub(crate) fn visible(pos: u32, window: Option<u32>) -> Range<usize> {
    let end = pos as usize + 1;
    let first = window.map_or(0, |window| end.saturating_sub(window as usize));
    first..end
}

impl Kernels {
    /// Attention of every row's queries `q`, `[n_rows, n_head, head_dim]`, over its sequence, into `out`,
    /// `[n_rows, n_head, head_dim_v]`. The keys and values of the rows' own positions must have been stored. Rows may come from
    /// several sequences and in any order; consecutive positions side by side are fastest.
    ///
    /// A NaN among the visible keys or in the query, or a score that overflows, makes that head's output of the row NaN.
    ///
    /// # Panics
    /// If lengths do not fit, heads are not a multiple of the key/value heads, a window is 0, a soft cap is not a positive number,
    /// or a visible position lies in no page.
    #[allow(clippy::too_many_arguments)]
    pub fn attend(
        &self,
        scratch: &mut Scratch,
        kv: &[u8],
        place: &KvPlace,
        rows: &[KvRow],
        tables: &[&[u32]],
        args: &AttendArgs<'_>,
        q: &[f32],
        out: &mut [f32],
    ) {
        let inputs = Inputs {
            kv,
            place,
            rows,
            tables,
            args,
            q,
        };
        inputs.check(out.len());
        // The definition knows no partial results, so its tiles stay whole.
        let n_sharing = if matches!(self.isa(), Isa::Scalar) {
            1
        } else {
            self.n_threads()
        };
        scratch.plan.build(&inputs, n_sharing);
        let (own, shared) = scratch.plan.partials();
        let n_shared = if shared > 0 {
            scratch.plan.tiles().len()
        } else {
            0
        };
        scratch.grow(
            self.n_threads(),
            n_shared,
            shared,
            [place.head_dim, place.head_dim_v],
            own,
        );
        let Scratch {
            plan,
            threads,
            partials,
            missing,
        } = scratch;
        for (tile, missing) in plan.tiles().iter().zip(missing.iter_mut()) {
            *missing.get_mut() = tile.n_chunks() as u32;
        }
        let call = Call {
            isa: self.isa(),
            inputs,
            out: Disjoint::new(out),
            partials: Disjoint::new(partials),
            missing,
            is_split: shared > 0,
        };
        self.team().run(plan.n_tasks(), |worker| {
            let thread = &threads[worker.index()];
            let mut thread = thread.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(task) = worker.claim() {
                let (index, chunk) = plan.task(task);
                call.run(index, &plan.tiles()[index], chunk, &mut thread);
            }
        });
    }
}

/// One call as its threads see it.
struct Call<'a> {
    isa: Isa,
    inputs: Inputs<'a>,
    out: Disjoint<'a, f32>,
    partials: Disjoint<'a, f32>,
    missing: &'a [AtomicU32],
    /// Chunks of one tile are tasks of their own.
    is_split: bool,
}

impl Call<'_> {
    /// A whole tile, or one chunk of it.
    fn run(&self, index: usize, tile: &Tile, chunk: usize, thread: &mut TileScratch) {
        if matches!(self.isa, Isa::Scalar) {
            self.run_scalar(tile);
        } else if self.is_split {
            self.run_chunk(&self.missing[index], tile, chunk, thread);
        } else {
            let mut partials = std::mem::take(&mut thread.partials);
            let len = tile.partial_len(self.inputs.place.head_dim_v);
            tile::chunks(
                self.isa,
                &self.inputs,
                tile,
                tile.chunks.clone(),
                thread,
                &mut partials[..len],
            );
            self.merge(tile, &partials[..len]);
            thread.partials = partials;
        }
    }

    fn run_scalar(&self, tile: &Tile) {
        for query in tile.queries.clone() {
            let (row, head) = tile.row_and_head(&self.inputs, query);
            scalar::attend(&self.inputs, row, head, self.out_of(row, head));
        }
    }

    fn run_chunk(&self, missing: &AtomicU32, tile: &Tile, chunk: usize, thread: &mut TileScratch) {
        let all = tile.partials.clone();
        let len = all.len() / tile.n_chunks();
        let start = all.start + (chunk - tile.chunks.start) * len;
        {
            // SAFETY: the plan gives every chunk of every tile its own range, and each is claimed once.
            let partial = unsafe { self.partials.part(start..start + len) };
            tile::chunks(
                self.isa,
                &self.inputs,
                tile,
                chunk..chunk + 1,
                thread,
                partial,
            );
        }
        if missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: every chunk of the tile is finished, which the counter made visible here; nobody touches them again.
            let partials = unsafe { self.partials.part(all) };
            self.merge(tile, partials);
        }
    }

    fn merge(&self, tile: &Tile, partials: &[f32]) {
        for query in 0..tile.queries.len() {
            let (row, head) = tile.row_and_head(&self.inputs, tile.queries.start + query);
            merge::merge(
                self.isa,
                &self.inputs,
                tile,
                query,
                (row, head),
                partials,
                self.out_of(row, head),
            );
        }
    }

    /// Output of one query. Every query belongs to one tile.
    #[allow(clippy::mut_from_ref)]
    fn out_of(&self, row: usize, head: usize) -> &mut [f32] {
        let width = self.inputs.place.head_dim_v;
        let start = (row * self.inputs.args.n_head + head) * width;
        // SAFETY: whoever computes or merges the query's tile is the only one to ask for it, and asks once.
        unsafe { self.out.part(start..start + width) }
    }
}
