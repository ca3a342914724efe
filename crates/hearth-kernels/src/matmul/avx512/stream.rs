//! One to four tokens: the matrix is read strictly in address order, 256 columns of one row after the other, with software
//! prefetch ahead that continues in the next chunk of this thread.
//!
//! Columns are the lanes here. A format turns four super-blocks at a time into one float each ([`Format256::terms`]); this
//! file then runs the canonical chain of each row over its terms.

use super::super::{OutRows, RowTask, ThreadScratch};
use super::format256::Format256;
use super::ops::prefetch_line;
use crate::activation::{Stream256, StreamToken};

/// How far ahead of the present address memory is asked for.
const AHEAD: usize = 8 << 10;

/// Rows whose terms are collected before their chains run.
const ROWS: usize = 16;

/// Super-blocks a format takes at a time.
pub(super) const GROUP: usize = 4;

/// The kernel for one to four tokens.
///
/// # Safety
/// The processor has the features of the level.
pub(super) unsafe fn rows<F: Format256>(
    task: &RowTask<'_>,
    acts: &Stream256,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match task.acts.n_tokens {
            1 => rows_of::<F, 1>(task, acts, out, scratch),
            2 => rows_of::<F, 2>(task, acts, out, scratch),
            3 => rows_of::<F, 3>(task, acts, out, scratch),
            4 => rows_of::<F, 4>(task, acts, out, scratch),
            n => unreachable!("{n} tokens are not streamed"),
        }
    }
}

unsafe fn rows_of<F: Format256, const T: usize>(
    task: &RowTask<'_>,
    acts: &Stream256,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let acts: [StreamToken<'_>; T] = std::array::from_fn(|t| acts.token(t));
    let n_blocks = acts[0].base.len();
    let n_terms = (ROWS * n_blocks).next_multiple_of(GROUP);
    let (terms, edge) = scratch
        .bytes(T * n_terms * 4 + GROUP * F::BLOCK_BYTES)
        .split_at_mut(T * n_terms * 4);
    // SAFETY: the scratch is aligned to 64 bytes, and floats take any bytes.
    let terms =
        unsafe { std::slice::from_raw_parts_mut(terms.as_mut_ptr().cast::<f32>(), T * n_terms) };
    let data = task.data();
    let row_bytes = task.weight.row_bytes();
    for first in (0..task.rows.len()).step_by(ROWS) {
        let n_rows = ROWS.min(task.rows.len() - first);
        let rows = &data[first * row_bytes..][..n_rows * row_bytes];
        let whole = n_rows * n_blocks / GROUP * GROUP;
        // Formats write through these addresses: nobody may look at `terms` until the last of them has.
        let base = terms.as_mut_ptr();
        let at = |i: usize| std::array::from_fn(|t| base.wrapping_add(t * n_terms + i));
        let ahead = prefetch_distance(rows.as_ptr(), data, task.next);
        // SAFETY: the caller's promise for the features; `whole` blocks are inside `rows`, and each token has `n_terms` terms.
        unsafe { F::terms(rows.as_ptr(), whole, 0, &acts, at(0), ahead) };
        let rest = &rows[whole * F::BLOCK_BYTES..];
        if !rest.is_empty() {
            // The file may end here: the last blocks are completed by zeros in a copy.
            edge[..GROUP * F::BLOCK_BYTES].fill(0);
            edge[..rest.len()].copy_from_slice(rest);
            // SAFETY: as above; the copy has a whole group, and so do the terms.
            unsafe { F::terms(edge.as_ptr(), GROUP, whole % n_blocks, &acts, at(whole), 0) };
        }
        for t in 0..T {
            let out = &mut out.token(t)[first..first + n_rows];
            // SAFETY: the caller's promise.
            unsafe { chain(&terms[t * n_terms..], acts[t].base, out) };
        }
    }
}

/// Distance from `from` to the address to prefetch: [`AHEAD`], or what lies as far behind the seam to the next chunk.
pub(super) fn prefetch_distance(from: *const u8, data: &[u8], next: &[u8]) -> usize {
    let end = data.as_ptr_range().end.addr();
    let target = from.addr() + AHEAD;
    if target < end || next.is_empty() {
        return AHEAD;
    }
    (next.as_ptr().addr() + (target - end)).wrapping_sub(from.addr())
}

/// Asks for `n_lines` cache lines `ahead` of `from`.
#[inline(always)]
pub(super) fn prefetch(from: *const u8, ahead: usize, n_lines: usize) {
    for line in 0..n_lines {
        let at = from.wrapping_add(ahead).wrapping_add(line * 64);
        prefetch_line(at);
    }
}

/// `out[r]` = the chain of `fma(base[b], terms[r][b], acc)` over the blocks of row r. Eight rows at a time hide the latency.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
fn chain(terms: &[f32], base: &[f32], out: &mut [f32]) {
    let n = base.len();
    let mut rows = out.chunks_exact_mut(8);
    let mut terms = terms;
    for out in &mut rows {
        let run: [&[f32]; 8] = std::array::from_fn(|r| &terms[r * n..][..n]);
        let mut acc = [0f32; 8];
        for (b, &base) in base.iter().enumerate() {
            for r in 0..8 {
                acc[r] = base.mul_add(run[r][b], acc[r]);
            }
        }
        out.copy_from_slice(&acc);
        terms = &terms[8 * n..];
    }
    for (out, terms) in rows.into_remainder().iter_mut().zip(terms.chunks_exact(n)) {
        *out = terms
            .iter()
            .zip(base)
            .fold(0.0, |acc, (&term, &base)| base.mul_add(term, acc));
    }
}
