//! Many tokens: panels of rows are unpacked once into cache, with 16 rows as the lanes of a register, and multiplied with every
//! token of the batch.
//!
//! The unit of work is 256 columns of 16 rows. A format says how to unpack that ([`PanelFormat::unpack`]) and how to multiply it
//! with a tile of tokens; this file blocks rows and tokens for the caches and handles what is left at the edges.

use super::super::{OutRows, RowTask, ThreadScratch};
use super::ops::prefetch_line;
use crate::activation::ActBatch;

/// Rows of one unpacked group: the 32-bit lanes of a register.
pub(super) const LANES: usize = 16;

/// Most tokens of a tile, which has one or two groups of rows. Two groups take two registers each per token for the sums of
/// present sub-blocks and one for those of the super-block: 24 of 32. A broadcast activation serves both groups, so that loads
/// do not hold up the arithmetic.
const TILE: usize = 4;

/// Tokens whose outputs of one panel stay in L2 (128 KiB with 64 rows).
const TOKENS: usize = 512;

/// Columns unpacked at a time.
const UNIT: usize = 256;

/// How a weight format becomes a panel and is multiplied.
pub(super) trait PanelFormat {
    /// 16 rows of one unit, unpacked. Plain numbers; any bytes are a value.
    type Panel;

    /// Bytes of one unit of a row when it is whole.
    const UNIT_BYTES: usize;

    /// Unpacks 16 rows. `n_blocks` is the number of blocks of the format's own length in this unit.
    ///
    /// # Safety
    /// The processor has the features of the level; the blocks are readable at `from + r * row_bytes` for r in 0..16.
    unsafe fn unpack(from: *const u8, row_bytes: usize, n_blocks: usize, panel: &mut Self::Panel);

    /// Whether the fast path of the tile is exact for these tokens.
    fn fits(acts: &ActBatch<'_>, unit: usize, tokens: std::ops::Range<usize>) -> bool;

    /// Adds the products of one or two panels with tokens `tokens` to `sums`, `[tokens, ..stride]`, the panels' rows first.
    ///
    /// # Safety
    /// The processor has the features of the level; `sums` has 16 floats per panel at each `token * stride`.
    unsafe fn tile(
        panels: &[Self::Panel],
        acts: &ActBatch<'_>,
        unit: usize,
        tokens: std::ops::Range<usize>,
        fits: bool,
        sums: *mut f32,
        stride: usize,
    );
}

/// Rows of a panel: more rows amortise the reading of activations, fewer keep few tokens' work balanced.
fn panel_rows(n_tokens: usize) -> usize {
    match n_tokens {
        0..=96 => 32,
        _ => 64,
    }
}

/// The kernel for many tokens.
///
/// # Safety
/// The processor has the features of the level.
pub(super) unsafe fn rows<F: PanelFormat>(
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    const { assert!(align_of::<F::Panel>() <= 64 && size_of::<F::Panel>().is_multiple_of(64)) };
    let n_rows = panel_rows(task.acts.n_tokens);
    let n_groups = n_rows / LANES;
    let panel_bytes = n_groups * size_of::<F::Panel>();
    let sums_bytes = TOKENS.min(task.acts.n_tokens) * n_rows * 4;
    let edge_bytes = LANES * F::UNIT_BYTES;
    let (panels, rest) = scratch
        .bytes(panel_bytes + sums_bytes + edge_bytes.next_multiple_of(64))
        .split_at_mut(panel_bytes);
    let (sums, edge) = rest.split_at_mut(sums_bytes);
    // SAFETY: the scratch is aligned to 64 bytes, both sizes are multiples of 64, and panels and floats take any bytes.
    let (panels, sums) = unsafe {
        (
            std::slice::from_raw_parts_mut(panels.as_mut_ptr().cast::<F::Panel>(), n_groups),
            std::slice::from_raw_parts_mut(sums.as_mut_ptr().cast::<f32>(), sums_bytes / 4),
        )
    };
    let mut work = Work::<F> {
        task,
        panels,
        sums,
        edge,
        stride: n_rows,
    };
    for first in (0..task.acts.n_tokens).step_by(TOKENS) {
        let tokens = first..(first + TOKENS).min(task.acts.n_tokens);
        for row in (0..task.rows.len()).step_by(n_rows) {
            let rows = row..(row + n_rows).min(task.rows.len());
            // SAFETY: the caller's promise.
            unsafe { work.panel(rows.clone(), tokens.clone()) };
            for token in tokens.clone() {
                let sums = &work.sums[(token - first) * n_rows..][..rows.len()];
                out.token(token)[rows.clone()].copy_from_slice(sums);
            }
        }
    }
}

/// What the panels of one task share.
struct Work<'a, F: PanelFormat> {
    task: &'a RowTask<'a>,
    panels: &'a mut [F::Panel],
    /// `[tokens, stride]`.
    sums: &'a mut [f32],
    edge: &'a mut [u8],
    stride: usize,
}

impl<F: PanelFormat> Work<'_, F> {
    /// All columns of some rows of the task, into `sums`.
    ///
    /// # Safety
    /// The processor has the features of the level.
    unsafe fn panel(&mut self, rows: std::ops::Range<usize>, tokens: std::ops::Range<usize>) {
        self.sums[..tokens.len() * self.stride].fill(0.0);
        let n_groups = rows.len().div_ceil(LANES);
        for unit in 0..self.task.acts.n_cols.div_ceil(UNIT) {
            for group in 0..n_groups {
                let first = rows.start + group * LANES;
                // SAFETY: the caller's promise.
                unsafe { self.unpack(unit, first..(first + LANES).min(rows.end), group) };
                self.prefetch_after(unit, first..(first + LANES).min(rows.end), rows.len());
            }
            let mut first = tokens.start;
            while first < tokens.end {
                let tile = first..first + tile_len(tokens.end - first);
                let fits = F::fits(&self.task.acts, unit, tile.clone());
                for (pair, panels) in self.panels[..n_groups].chunks(2).enumerate() {
                    let at = (first - tokens.start) * self.stride + pair * 2 * LANES;
                    let sums = self.sums[at..].as_mut_ptr();
                    // SAFETY: the caller's promise; `sums` has `stride` floats per token, 16 of them per group.
                    unsafe {
                        F::tile(
                            panels,
                            &self.task.acts,
                            unit,
                            tile.clone(),
                            fits,
                            sums,
                            self.stride,
                        )
                    };
                }
                first = tile.end;
            }
        }
    }

    /// Unpacks up to 16 rows; missing ones become zero blocks, whose products nobody copies out.
    ///
    /// # Safety
    /// The processor has the features of the level.
    unsafe fn unpack(&mut self, unit: usize, rows: std::ops::Range<usize>, group: usize) {
        let weight = &self.task.weight;
        let (block_len, block_bytes) = (
            weight.weight_type().block_len(),
            weight.weight_type().block_bytes(),
        );
        let n_blocks = (weight.cols() - unit * UNIT).min(UNIT) / block_len;
        let n_bytes = n_blocks * block_bytes;
        let data = &self.task.data()[rows.start * weight.row_bytes() + unit * F::UNIT_BYTES..];
        let panel = &mut self.panels[group];
        if rows.len() == LANES {
            debug_assert!(data.len() >= (LANES - 1) * weight.row_bytes() + n_bytes);
            // SAFETY: sixteen rows of the task, each with `n_blocks` blocks from this unit on.
            unsafe { F::unpack(data.as_ptr(), weight.row_bytes(), n_blocks, panel) };
            return;
        }
        let edge = &mut self.edge[..LANES * F::UNIT_BYTES];
        edge.fill(0);
        for (to, row) in edge.chunks_exact_mut(F::UNIT_BYTES).zip(0..rows.len()) {
            to[..n_bytes].copy_from_slice(&data[row * weight.row_bytes()..][..n_bytes]);
        }
        // SAFETY: sixteen rows of a whole unit each.
        unsafe { F::unpack(edge.as_ptr(), F::UNIT_BYTES, n_blocks, panel) };
    }

    /// Asks for what replaces these rows in the cache: their next unit, or the first unit of the next panel.
    fn prefetch_after(&self, unit: usize, rows: std::ops::Range<usize>, panel_rows: usize) {
        let row_bytes = self.task.weight.row_bytes();
        let next_unit = (unit + 1) * F::UNIT_BYTES;
        let data = if next_unit < row_bytes {
            &self.task.data()[rows.start * row_bytes + next_unit..]
        } else {
            let at = (rows.start + panel_rows) * row_bytes;
            let task = self.task.data();
            task.get(at..)
                .filter(|rest| !rest.is_empty())
                .or(self.task.next.get(at.saturating_sub(task.len())..))
                .unwrap_or(&[])
        };
        let first = data.as_ptr();
        for row in 0..rows.len() {
            for line in 0..F::UNIT_BYTES.div_ceil(64) {
                let at = first.wrapping_add(row * row_bytes + line * 64);
                prefetch_line(at);
            }
        }
    }
}

/// Tokens of the next tile when `left` remain: whole tiles, and the last two of about equal size.
fn tile_len(left: usize) -> usize {
    match left {
        ..=TILE => left,
        l if l >= TILE + 4 => TILE,
        _ => left.div_ceil(2),
    }
}

/// Calls `$tile::<G, N, …>` with the numbers of panels and of tokens as constants.
macro_rules! with_sizes {
    ($panels:expr, $n:expr, $($tile:ident)::+, [$($generic:tt),*], ($($arg:expr),*)) => {
        match ($panels, $n) {
            ([a], 1) => $($tile)::+::<1, 1 $(, $generic)*>([a], $($arg),*),
            ([a], 2) => $($tile)::+::<1, 2 $(, $generic)*>([a], $($arg),*),
            ([a], 3) => $($tile)::+::<1, 3 $(, $generic)*>([a], $($arg),*),
            ([a], 4) => $($tile)::+::<1, 4 $(, $generic)*>([a], $($arg),*),
            ([a, b], 1) => $($tile)::+::<2, 1 $(, $generic)*>([a, b], $($arg),*),
            ([a, b], 2) => $($tile)::+::<2, 2 $(, $generic)*>([a, b], $($arg),*),
            ([a, b], 3) => $($tile)::+::<2, 3 $(, $generic)*>([a, b], $($arg),*),
            ([a, b], 4) => $($tile)::+::<2, 4 $(, $generic)*>([a, b], $($arg),*),
            (panels, n) => unreachable!("{} panels by {n} tokens are no tile", panels.len()),
        }
    };
}
pub(super) use with_sizes;
