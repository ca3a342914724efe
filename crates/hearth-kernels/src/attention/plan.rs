//! How the queries of a call are cut into tiles, and tiles into tasks.
//!
//! Consecutive rows of one sequence at consecutive positions form a run. For each key/value head the queries of a run, rows outer
//! and heads of the group inner, are cut into tiles of up to [`TILE`], shorter ones if those would be too few for the team. A tile
//! is one task, unless there are too few even of [`STEP`]: then every chunk of a tile is a task, and the last to finish merges.

use std::ops::Range;

use super::{Bounds, CHUNK, Inputs, STEP, TILE};

/// Fewer tiles than this per thread are made shorter, then split into chunks: threads should finish within a fourth of a task of
/// each other.
pub(super) const SPLIT_TILES: usize = 4;

/// Queries of one key/value head that see overlapping positions of one sequence.
#[derive(Debug, Clone)]
pub(super) struct Tile {
    /// First row of the run.
    first_row: usize,
    /// Queries of the run and head, numbered row by row.
    pub queries: Range<usize>,
    pub head_kv: usize,
    /// Chunks that any query sees.
    pub chunks: Range<usize>,
    /// Where the partial results lie when chunks are tasks.
    pub partials: Range<usize>,
    /// First task of the tile.
    first_task: usize,
}

impl Tile {
    pub fn n_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Positions that any query sees.
    pub fn visible(&self, inputs: &Inputs<'_>) -> Range<usize> {
        let of = |query| inputs.visible(self.row_and_head(inputs, query).0);
        of(self.queries.start).start..of(self.queries.end - 1).end
    }

    /// Floats of all partial results.
    pub fn partial_len(&self, head_dim_v: usize) -> usize {
        self.n_chunks() * self.queries.len() * partial_len(head_dim_v)
    }

    /// Row of the call and query head of a query.
    pub fn row_and_head(&self, inputs: &Inputs<'_>, query: usize) -> (usize, usize) {
        let group = inputs.group();
        (
            self.first_row + query / group,
            self.head_kv * group + query % group,
        )
    }
}

/// Floats of one query's result for one chunk: weighted values, maximum, sum.
pub(super) fn partial_len(head_dim_v: usize) -> usize {
    head_dim_v + 2
}

/// Floats of the results of one thread's tile, unless that is less than a step: tiles of a long context are shorter.
const OWN_LEN: usize = 2 << 20;

/// Floats of the results of a tile at most, if one query's take `len`.
pub(super) fn longest_own(len: usize) -> usize {
    let most = OWN_LEN.max(len.saturating_mul(STEP));
    most.min(len.saturating_mul(TILE))
}

/// Tiles of a call at most: every row a run of its own.
pub(super) fn max_tiles(bounds: &Bounds) -> usize {
    let group = bounds.n_head / bounds.n_head_kv.max(1);
    bounds
        .n_rows
        .saturating_mul(bounds.n_head_kv)
        .saturating_mul(group.div_ceil(STEP))
}

/// The tiles of a call, and which tasks they make.
#[derive(Debug, Default)]
pub(super) struct Plan {
    tiles: Vec<Tile>,
    runs: Vec<Range<usize>>,
    n_tasks: usize,
    own: usize,
    shared: usize,
}

impl Plan {
    pub fn reserve(&mut self, n_tiles: usize, n_rows: usize) {
        self.tiles.reserve(n_tiles.saturating_sub(self.tiles.len()));
        self.runs.reserve(n_rows.saturating_sub(self.runs.len()));
    }

    #[cfg(test)]
    pub fn capacity(&self) -> (usize, usize) {
        (self.tiles.capacity(), self.runs.capacity())
    }

    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    pub fn n_tasks(&self) -> usize {
        self.n_tasks
    }

    /// Floats for partial results: of one thread's tile, and of all tiles together when chunks are tasks (else 0).
    pub fn partials(&self) -> (usize, usize) {
        (self.own, self.shared)
    }

    /// The tile and the absolute chunk of a task. Where tiles are tasks the chunk means nothing.
    pub fn task(&self, task: usize) -> (usize, usize) {
        if self.shared == 0 {
            return (task, 0);
        }
        let index = self.tiles.partition_point(|tile| tile.first_task <= task) - 1;
        let tile = &self.tiles[index];
        (index, tile.chunks.start + task - tile.first_task)
    }

    pub fn build(&mut self, inputs: &Inputs<'_>, n_threads: usize) {
        self.find_runs(inputs);
        let n_few = SPLIT_TILES * n_threads;
        let n_queries = inputs.rows.len() * inputs.args.n_head;
        let last = inputs.rows.iter().map(|row| row.pos as usize).max();
        let len = (last.unwrap_or(0) / CHUNK + 1) * partial_len(inputs.place.head_dim_v);
        let longest = (n_queries / n_few).min(longest_own(len) / len).max(STEP);
        self.cut(inputs, longest / STEP * STEP);
        let width = inputs.place.head_dim_v;
        let most_chunks = self.tiles.iter().map(Tile::n_chunks).max().unwrap_or(0);
        self.own = self
            .tiles
            .iter()
            .map(|tile| tile.partial_len(width))
            .max()
            .unwrap_or(0);
        self.shared = 0;
        self.n_tasks = self.tiles.len();
        let is_split = n_threads > 1 && most_chunks > 1 && self.tiles.len() < n_few;
        if is_split {
            self.n_tasks = 0;
            for tile in &mut self.tiles {
                tile.first_task = self.n_tasks;
                self.n_tasks += tile.n_chunks();
                tile.partials = self.shared..self.shared + tile.partial_len(width);
                self.shared = tile.partials.end;
            }
        }
    }

    fn find_runs(&mut self, inputs: &Inputs<'_>) {
        self.runs.clear();
        for (i, row) in inputs.rows.iter().enumerate() {
            let last = i.checked_sub(1).map(|before| inputs.rows[before]);
            let continues = last.is_some_and(|last| {
                last.table == row.table && last.pos.checked_add(1) == Some(row.pos)
            });
            match self.runs.last_mut() {
                Some(run) if continues => run.end = i + 1,
                _ => self.runs.push(i..i + 1),
            }
        }
    }

    /// Tiles of about equal length, `longest` at most, whole steps but for the last.
    fn cut(&mut self, inputs: &Inputs<'_>, longest: usize) {
        self.tiles.clear();
        let group = inputs.group();
        for head_kv in 0..inputs.place.n_head_kv {
            for run in &self.runs {
                let n_queries = run.len() * group;
                let n_tiles = n_queries.div_ceil(longest);
                let len = n_queries.div_ceil(n_tiles).next_multiple_of(STEP);
                // From the end: the last rows of a prompt see most, and long tasks should start first.
                for index in (0..n_queries.div_ceil(len)).rev() {
                    let queries = index * len..n_queries.min((index + 1) * len);
                    let first = inputs.visible(run.start + queries.start / group);
                    let last = inputs.visible(run.start + (queries.end - 1) / group);
                    self.tiles.push(Tile {
                        first_row: run.start,
                        queries,
                        head_kv,
                        chunks: first.start / CHUNK..(last.end - 1) / CHUNK + 1,
                        partials: 0..0,
                        first_task: 0,
                    });
                }
            }
        }
    }
}
