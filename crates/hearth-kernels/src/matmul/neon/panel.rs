//! Many tokens: four rows are the lanes of a register.
//!
//! The matrix is walked in steps of 256 columns. Four rows of a step are unpacked into a panel once, for all tokens; eight panels
//! stay in the first cache while every token passes by, and the outputs stay in scratch until the last step. What a panel is and
//! how it is multiplied depends on the activations: [`super::panel256`], [`super::panel32`].

use std::arch::aarch64::*;

use super::int8::{Int8, Rows4};
use super::vec::store_pair;
use crate::lanes::neon::prefetch;
use crate::matmul::{OutRows, RowTask, ThreadScratch};

/// Rows of a panel: 32-bit lanes of a register.
pub(super) const LANES: usize = 4;
/// Panels unpacked together: 13 KiB, which leaves room in the smallest first caches.
const PANELS: usize = 8;
/// Rows unpacked together.
const ROWS: usize = PANELS * LANES;
/// Tokens of a tile. With two panels, sixteen sums of products and eight of blocks fit 32 registers with their operands.
const TOKENS: usize = 4;
/// Columns of a step: a super-block, or eight blocks of 32.
pub(super) const STEP: usize = 256;

/// Outputs of one token for the rows unpacked together.
pub(super) type Sums = [f32; ROWS];

/// A family of weight formats with one shape of panel.
///
/// # Safety
/// `Panel` consists of plain numbers, for which every bit pattern is valid, and its alignment divides 64.
pub(super) unsafe trait Panels {
    /// Four rows of a step, unpacked.
    type Panel;
    /// Bytes of a whole step of one row.
    const STEP_BYTES: usize;

    /// Fills a panel from four rows, each cut to the step: 256 columns, or fewer at a row's end.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn unpack(rows: [&[u8]; LANES], panel: &mut Self::Panel);

    /// Adds the products of a step with `N` tokens from `token` on to their outputs. Tokens beyond the last repeat it.
    ///
    /// # Safety
    /// The processor has the instructions of `I`.
    unsafe fn multiply<I: Int8, const N: usize>(
        task: &RowTask<'_>,
        step: usize,
        token: usize,
        panels: &[Self::Panel],
        sums: &mut [Sums; N],
    );
}

/// The kernel: every row of the task for every token.
///
/// # Safety
/// The processor has the instructions of `I`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn rows<I: Int8, P: Panels>(
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let n_tokens = task.acts.n_tokens;
    let (panels, sums) = carve::<P>(scratch, n_tokens);
    for first in (0..task.rows.len()).step_by(ROWS) {
        let n_rows = (task.rows.len() - first).min(ROWS);
        let panels = &mut panels[..n_rows.div_ceil(LANES)];
        sums.fill([[0.0; ROWS]; TOKENS]);
        for step in 0..task.acts.n_cols.div_ceil(STEP) {
            unpack::<P>(task, first, n_rows, step, panels);
            for (tile, sums) in sums.iter_mut().enumerate() {
                let token = tile * TOKENS;
                let (pair, _) = sums.split_first_chunk_mut::<2>().expect("tiles of four");
                // SAFETY: the caller's promise.
                unsafe {
                    match n_tokens - token {
                        1 | 2 => P::multiply::<I, 2>(task, step, token, panels, pair),
                        _ => P::multiply::<I, TOKENS>(task, step, token, panels, sums),
                    }
                }
            }
        }
        let sums = sums.as_flattened();
        for (token, sums) in sums[..n_tokens].iter().enumerate() {
            out.token(token)[first..first + n_rows].copy_from_slice(&sums[..n_rows]);
        }
    }
}

/// Divides the scratch into panels and outputs.
fn carve<P: Panels>(
    scratch: &mut ThreadScratch,
    n_tokens: usize,
) -> (&mut [P::Panel], &mut [[Sums; TOKENS]]) {
    const { assert!(64 % align_of::<P::Panel>() == 0 && 64 % align_of::<Sums>() == 0) };
    let n_tiles = n_tokens.div_ceil(TOKENS);
    let panel_bytes = (PANELS * size_of::<P::Panel>()).next_multiple_of(64);
    let bytes = scratch.bytes(panel_bytes + n_tiles * size_of::<[Sums; TOKENS]>());
    let (panels, sums) = bytes.split_at_mut(panel_bytes);
    // SAFETY: both types are plain numbers (contract of `Panels`). Scratch starts at a cache line, and so do both parts, so
    // nothing is cut off in front.
    let (panels, sums) = unsafe { (panels.align_to_mut().1, sums.align_to_mut().1) };
    (&mut panels[..PANELS], &mut sums[..n_tiles])
}

/// Unpacks one step of `n_rows` rows from `first` on, and asks for the next step.
#[inline]
#[target_feature(enable = "neon")]
fn unpack<P: Panels>(
    task: &RowTask<'_>,
    first: usize,
    n_rows: usize,
    step: usize,
    panels: &mut [P::Panel],
) {
    let start = step * P::STEP_BYTES;
    let end = (start + P::STEP_BYTES).min(task.weight.row_bytes());
    for (p, panel) in panels.iter_mut().enumerate() {
        // The last panel repeats the last row rather than reading past the matrix.
        let row = |lane: usize| first + (p * LANES + lane).min(n_rows - 1);
        let mut rows: [&[u8]; LANES] = [&[]; LANES];
        for (lane, bytes) in rows.iter_mut().enumerate() {
            *bytes = &task.weight.row(task.rows.start + row(lane))[start..end];
            let next = upcoming(task, row(lane), end);
            for line in 0..P::STEP_BYTES.div_ceil(64) {
                prefetch(next.wrapping_add(line * 64));
            }
        }
        // SAFETY: this function has NEON.
        unsafe { P::unpack(rows, panel) };
    }
}

/// Where the bytes lie that follow byte `end` of a row in this walk: in the row, then in the row that takes its place in the next
/// panels, which may be another task's. The address is for prefetching only.
#[inline(always)]
fn upcoming(task: &RowTask<'_>, row: usize, end: usize) -> *const u8 {
    let row_bytes = task.weight.row_bytes();
    let data = task.data();
    let at = if end < row_bytes {
        row * row_bytes + end
    } else {
        (row + ROWS) * row_bytes
    };
    match at.checked_sub(data.len()) {
        None => data.as_ptr().wrapping_add(at),
        Some(past) => task.next.as_ptr().wrapping_add(past),
    }
}

/// Puts 16 columns of four rows into a panel.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn interleave(rows: [int8x16_t; LANES], to: &mut [Rows4; 2]) {
    let halves = |a: int8x16_t, b: int8x16_t| {
        let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
        [vzip1q_s64(a, b), vzip2q_s64(a, b)].map(|v| vreinterpretq_s8_s64(v))
    };
    let (low, high) = (halves(rows[0], rows[1]), halves(rows[2], rows[3]));
    for (i, to) in to.iter_mut().enumerate() {
        let pairs = to.as_chunks_mut::<2>().0;
        store_pair(&mut pairs[0], low[i]);
        store_pair(&mut pairs[1], high[i]);
    }
}

/// Activations of `N` tokens, eight columns at a time side by side.
#[inline]
pub(super) fn side_by_side<const C: usize, const N: usize>(
    tokens: [&[[i8; 8]; C]; N],
) -> [[[i8; 8]; N]; C] {
    let mut out = [[[0; 8]; N]; C];
    for (c, out) in out.iter_mut().enumerate() {
        for (t, out) in out.iter_mut().enumerate() {
            *out = tokens[t][c];
        }
    }
    out
}
