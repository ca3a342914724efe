//! Many tokens: eight rows are the lanes of a register.
//!
//! The matrix is walked in steps of 256 columns. Eight rows of a step are unpacked into a panel once, for all tokens;
//! panels of up to 64 rows stay in the first cache while every token passes by, and the outputs stay in scratch until
//! the last step. What a panel is and how it is multiplied depends on the activations: [`super::panel256`],
//! [`super::panel32`].

use std::arch::x86_64::*;

use crate::matmul::{OutRows, RowTask, ThreadScratch};

/// Rows of a panel: 32-bit lanes of a register.
pub(super) const LANES: usize = 8;
/// Panels unpacked together.
const PANELS: usize = 8;
/// Tokens of a tile. With two panels, twelve sums and their operands just fit sixteen registers.
const TOKENS: usize = 3;
/// Columns of a step: a super-block, or eight blocks of 32.
pub(super) const STEP: usize = 256;

/// Outputs of one token for the rows unpacked together.
pub(super) type Sums = [f32; PANELS * LANES];

/// A family of weight formats with one shape of panel.
///
/// # Safety
/// `Panel` consists of plain numbers, for which every bit pattern is valid, and its alignment divides 64.
pub(super) unsafe trait Panels {
    /// Eight rows of a step, unpacked.
    type Panel;
    /// Weights of a block of the file.
    const BLOCK_LEN: usize;
    /// Bytes of a block of the file.
    const BLOCK_BYTES: usize;

    /// Fills a panel from eight rows, each cut to the step: `STEP / BLOCK_LEN` blocks, or fewer at a row's end.
    ///
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    unsafe fn unpack(rows: [&[u8]; LANES], panel: &mut Self::Panel);

    /// Adds the products of a step with `N` tokens from `token` on to their outputs.
    ///
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    unsafe fn multiply<const N: usize>(
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
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<P: Panels>(
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let (panels, sums) = carve::<P>(scratch, task.acts.n_tokens);
    for first in (0..task.rows.len()).step_by(PANELS * LANES) {
        let n_rows = (task.rows.len() - first).min(PANELS * LANES);
        let panels = &mut panels[..n_rows.div_ceil(LANES)];
        sums.fill([0.0; PANELS * LANES]);
        for step in 0..task.acts.n_cols.div_ceil(STEP) {
            unpack::<P>(task, first, n_rows, step, panels);
            multiply::<P>(task, step, panels, sums);
        }
        for (token, sums) in sums.iter().enumerate() {
            out.token(token)[first..first + n_rows].copy_from_slice(&sums[..n_rows]);
        }
    }
}

/// Divides the scratch into panels and outputs.
fn carve<P: Panels>(
    scratch: &mut ThreadScratch,
    n_tokens: usize,
) -> (&mut [P::Panel], &mut [Sums]) {
    const { assert!(64 % align_of::<P::Panel>() == 0 && 64 % align_of::<Sums>() == 0) };
    let panel_bytes = (PANELS * size_of::<P::Panel>()).next_multiple_of(64);
    let bytes = scratch.bytes(panel_bytes + n_tokens * size_of::<Sums>());
    let (panels, sums) = bytes.split_at_mut(panel_bytes);
    // SAFETY: both types are plain numbers (contract of `Panels`). Scratch starts at a cache line, and so do both
    // parts, so nothing is cut off in front.
    let (panels, sums) = unsafe { (panels.align_to_mut().1, sums.align_to_mut().1) };
    (&mut panels[..PANELS], &mut sums[..n_tokens])
}

/// Unpacks one step of `n_rows` rows from `first` on, and asks for the next step.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack<P: Panels>(
    task: &RowTask<'_>,
    first: usize,
    n_rows: usize,
    step: usize,
    panels: &mut [P::Panel],
) {
    let step_bytes = STEP / P::BLOCK_LEN * P::BLOCK_BYTES;
    let start = step * step_bytes;
    let end = (start + step_bytes).min(task.weight.row_bytes());
    for (p, panel) in panels.iter_mut().enumerate() {
        // The last panel repeats the last row rather than reading past the matrix.
        let row = |lane: usize| (p * LANES + lane).min(n_rows - 1);
        let rows: [&[u8]; LANES] =
            std::array::from_fn(|lane| task.weight.row(task.rows.start + first + row(lane)));
        for lane in 0..LANES {
            let next = upcoming(task, first + row(lane), end);
            for line in 0..step_bytes.div_ceil(64) {
                let at = next.wrapping_add(line * 64);
                #[allow(
                    unused_unsafe,
                    reason = "the intrinsic became safe after our minimum version"
                )]
                // SAFETY: a prefetch of any address is allowed and never faults.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(at.cast());
                }
            }
        }
        // SAFETY: this function has the features.
        unsafe { P::unpack(rows.map(|row| &row[start..end]), panel) };
    }
}

/// Where the bytes lie that follow byte `end` of a row in this walk: in the row, then in the row that takes its place
/// in the next panels, which may be another task's. The address is for prefetching only.
#[inline(always)]
fn upcoming(task: &RowTask<'_>, row: usize, end: usize) -> *const u8 {
    let row_bytes = task.weight.row_bytes();
    let data = task.data();
    let at = if end < row_bytes {
        row * row_bytes + end
    } else {
        (row + PANELS * LANES) * row_bytes
    };
    match at.checked_sub(data.len()) {
        None => data.as_ptr().wrapping_add(at),
        Some(past) => task.next.as_ptr().wrapping_add(past),
    }
}

/// Multiplies the panels with one step of every token.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply<P: Panels>(task: &RowTask<'_>, step: usize, panels: &[P::Panel], sums: &mut [Sums]) {
    let (tiles, rest) = sums.as_chunks_mut::<TOKENS>();
    let n_tiles = tiles.len();
    for (i, sums) in tiles.iter_mut().enumerate() {
        // SAFETY: this function has the features, here and below.
        unsafe { P::multiply(task, step, i * TOKENS, panels, sums) };
    }
    let (tiles, rest) = rest.as_chunks_mut::<2>();
    for sums in &mut *tiles {
        // SAFETY: as above.
        unsafe { P::multiply(task, step, n_tiles * TOKENS, panels, sums) };
    }
    let token = n_tiles * TOKENS + tiles.len() * 2;
    for sums in rest.as_chunks_mut::<1>().0 {
        // SAFETY: as above.
        unsafe { P::multiply(task, step, token, panels, sums) };
    }
}
