//! What a format with super-blocks of 256 has to say; this file makes both regimes' kernels of it.

use std::ops::Range;

use super::super::{OutRows, RowTask, ThreadScratch};
use super::panel::{self, PanelFormat, with_sizes};
use super::stream;
use super::tile256::Panel256;
use crate::activation::{A256Block, ActBatch, StreamToken};

/// How a format with super-blocks of 256 lies in memory and is multiplied.
pub(super) trait Format256 {
    /// Bytes of a super-block.
    const BLOCK_BYTES: usize;

    /// Flags of the activations that make the fast path of [`Format256::tile`] exact.
    const FITS: u32;

    /// Unpacks a super-block of each of 16 rows.
    ///
    /// # Safety
    /// The processor has the features of the level; a block is readable in each row.
    unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256);

    /// Adds the products of `G` panels with `N` tokens to 16 sums per panel at each `token * stride`; `FITS` says that all tokens
    /// have the flags.
    ///
    /// # Safety
    /// The processor has the features of the level; there are such sums.
    unsafe fn tile<const G: usize, const N: usize, const FITS: bool>(
        panels: [&Panel256; G],
        acts: &[A256Block],
        sums: *mut f32,
        stride: usize,
    );

    /// The term of each super-block and token: `terms[t][i]` for block `i` in 0..`n_blocks`, a multiple of [`stream::GROUP`].
    /// Block 0 meets the activations' block `at`, and the last of a row is followed by the first of the next.
    ///
    /// # Safety
    /// The processor has the features of the level, the blocks are readable at `from`, the terms writable; `at` is a block of
    /// the activations.
    unsafe fn terms<const T: usize>(
        from: *const u8,
        n_blocks: usize,
        at: usize,
        acts: &[StreamToken<'_>; T],
        terms: [*mut f32; T],
        ahead: usize,
    );
}

/// Products of such a format.
///
/// # Safety
/// The processor has the features of the level.
pub(super) unsafe fn rows<F: Format256>(
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match task.acts.stream256 {
            Some(acts) => stream::rows::<F>(task, acts, out, scratch),
            None => panel::rows::<Panels<F>>(task, out, scratch),
        }
    }
}

/// Every such format has panels.
struct Panels<F>(F);

impl<F: Format256> PanelFormat for Panels<F> {
    type Panel = Panel256;
    const UNIT_BYTES: usize = F::BLOCK_BYTES;

    unsafe fn unpack(from: *const u8, row_bytes: usize, _: usize, panel: &mut Panel256) {
        // SAFETY: the caller's promise.
        unsafe { F::unpack(from, row_bytes, panel) }
    }

    fn fits(acts: &ActBatch<'_>, unit: usize, tokens: Range<usize>) -> bool {
        acts.all_fit(unit, tokens, F::FITS)
    }

    unsafe fn tile(
        panels: &[Panel256],
        acts: &ActBatch<'_>,
        unit: usize,
        tokens: Range<usize>,
        fits: bool,
        sums: *mut f32,
        stride: usize,
    ) {
        let acts = acts.a256_of(unit, tokens);
        // SAFETY: the caller's promise.
        unsafe {
            match fits {
                true => with_sizes!(panels, acts.len(), F::tile, [true], (acts, sums, stride)),
                false => with_sizes!(panels, acts.len(), F::tile, [false], (acts, sums, stride)),
            }
        }
    }
}
