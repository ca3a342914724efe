//! One to four tokens times formats with blocks of 32, read strictly in address order.
//!
//! Eight blocks of a row at a time become eight exact dots, times the activations' steps; the canonical chains then run over
//! those terms and the blocks' scales.

use std::arch::x86_64::*;

use super::super::{OutRows, RowTask, ThreadScratch};
use super::ops::{load, sum_lanes};
use super::stream::{prefetch, prefetch_distance};
use super::tile32::{BLOCKS, Format32};
use crate::activation::{Stream32, StreamUnit};

/// Rows whose terms are collected before their chains run.
const ROWS: usize = 16;

/// The kernel for one to four tokens.
///
/// # Safety
/// The processor has the features of the level.
pub(super) unsafe fn rows<F: Format32>(
    task: &RowTask<'_>,
    acts: &Stream32,
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

/// Terms, scales and minimums of up to 16 rows, each `[rows, n_units * 8]`.
struct Terms<'a, const T: usize> {
    row_len: usize,
    tokens: [&'a mut [f32]; T],
    d: &'a mut [f32],
    m: &'a mut [f32],
}

unsafe fn rows_of<F: Format32, const T: usize>(
    task: &RowTask<'_>,
    acts: &Stream32,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let acts: [&[StreamUnit]; T] = std::array::from_fn(|t| acts.token(t));
    let unit_bytes = BLOCKS * F::BLOCK_BYTES;
    let row_len = acts[0].len() * BLOCKS;
    let (edge, floats) = scratch
        .bytes(unit_bytes.next_multiple_of(64) + (T + 2) * ROWS * row_len * 4)
        .split_at_mut(unit_bytes.next_multiple_of(64));
    // SAFETY: the scratch is aligned to 64 bytes, and floats take any bytes.
    let floats = unsafe {
        std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast::<f32>(), (T + 2) * ROWS * row_len)
    };
    let mut parts = floats.chunks_exact_mut(ROWS * row_len);
    let mut part = || parts.next().expect("T + 2 parts");
    let mut terms = Terms::<T> {
        row_len,
        d: part(),
        m: part(),
        tokens: std::array::from_fn(|_| part()),
    };
    let data = task.data();
    let row_bytes = task.weight.row_bytes();
    let n_blocks = task.weight.cols() / 32;
    for first in (0..task.rows.len()).step_by(ROWS) {
        let n_rows = ROWS.min(task.rows.len() - first);
        let ahead = prefetch_distance(data[first * row_bytes..].as_ptr(), data, task.next);
        for row in 0..n_rows {
            let mut bytes = &data[(first + row) * row_bytes..][..row_bytes];
            for unit in 0..acts[0].len() {
                prefetch(bytes.as_ptr(), ahead, unit_bytes.div_ceil(64));
                let from = if bytes.len() >= unit_bytes {
                    bytes.as_ptr()
                } else {
                    // The matrix may end here: the last blocks are completed by zeros in a copy.
                    edge.fill(0);
                    edge[..bytes.len()].copy_from_slice(bytes);
                    edge.as_ptr()
                };
                // SAFETY: the caller's promise for the features; a whole unit is readable.
                unsafe { unit_terms::<F, T>(from, &acts, unit, &mut terms, row * row_len) };
                bytes = bytes.get(unit_bytes..).unwrap_or(&[]);
            }
        }
        for t in 0..T {
            let out = &mut out.token(t)[first..first + n_rows];
            // SAFETY: the caller's promise.
            unsafe { chains::<F, T>(&terms, t, acts[t], n_blocks, out) };
        }
    }
}

/// Eight terms of one row for each token, and the scales that go with them.
///
/// # Safety
/// The processor has the features; eight blocks are readable at `from`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn unit_terms<F: Format32, const T: usize>(
    from: *const u8,
    acts: &[&[StreamUnit]; T],
    unit: usize,
    terms: &mut Terms<'_, T>,
    row: usize,
) {
    let zero = _mm512_setzero_si512();
    let at = row + unit * BLOCKS;
    // SAFETY: the caller's promise.
    let (w, d) = unsafe { (F::unit(from), F::scales::<BLOCKS>(from, F::BLOCK_BYTES)) };
    terms.d[at..at + BLOCKS].copy_from_slice(&d);
    if F::HAS_MIN {
        // SAFETY: as above.
        let m = unsafe { F::mins::<BLOCKS>(from, F::BLOCK_BYTES) };
        terms.m[at..at + BLOCKS].copy_from_slice(&m);
    }
    for t in 0..T {
        let act = &acts[t][unit];
        let dots = if F::IS_NIBBLE {
            let q = act.q_nibble.as_chunks::<64>().0;
            let v0 = _mm512_dpbusd_epi32(
                _mm512_dpbusd_epi32(zero, w[0], load(&q[0])),
                w[1],
                load(&q[1]),
            );
            let v1 = _mm512_dpbusd_epi32(
                _mm512_dpbusd_epi32(zero, w[2], load(&q[2])),
                w[3],
                load(&q[3]),
            );
            // Block l of the four is lane l; fold each lane, both registers at once.
            let v = _mm512_add_epi32(_mm512_unpacklo_epi32(v0, v1), _mm512_unpackhi_epi32(v0, v1));
            let v = _mm512_add_epi32(v, _mm512_shuffle_epi32::<0b01_00_11_10>(v));
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
            _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, v))
        } else {
            let q = act.q_pair.as_chunks::<64>().0;
            let dot = |i: usize| _mm512_dpbusd_epi32(zero, w[i], load(&q[i]));
            let v = sum_lanes(dot(0), dot(1), dot(2), dot(3));
            let v = _mm512_shuffle_i32x4::<0b11_01_10_00>(v, v);
            _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v))
        };
        // SAFETY: arrays of eight.
        let (minus_sum, step) = unsafe {
            (
                _mm256_loadu_si256(act.minus_sum.as_ptr().cast()),
                _mm256_loadu_ps(act.step.as_ptr()),
            )
        };
        let dots = match F::OFFSET {
            0 => dots,
            8 => _mm256_add_epi32(dots, _mm256_slli_epi32::<3>(minus_sum)),
            16 => _mm256_add_epi32(dots, _mm256_slli_epi32::<4>(minus_sum)),
            128 => _mm256_add_epi32(dots, _mm256_slli_epi32::<7>(minus_sum)),
            _ => unreachable!("offsets are 0, 8, 16 or 128"),
        };
        let to = &mut terms.tokens[t][at..at + BLOCKS];
        // SAFETY: eight writable floats.
        unsafe {
            _mm256_storeu_ps(
                to.as_mut_ptr(),
                _mm256_mul_ps(_mm256_cvtepi32_ps(dots), step),
            )
        };
    }
}

/// The canonical chains of up to 16 rows for one token, eight rows as the lanes. Rows beyond the last of the task have the terms
/// of earlier ones, and nobody reads their sums.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
fn chains<F: Format32, const T: usize>(
    terms: &Terms<'_, T>,
    token: usize,
    acts: &[StreamUnit],
    n_blocks: usize,
    out: &mut [f32],
) {
    let n_units = terms.row_len / BLOCKS;
    for (group, out) in out.chunks_mut(8).enumerate() {
        let rows = group * 8 * terms.row_len..(group + 1) * 8 * terms.row_len;
        let eight = |of: &[f32]| (of[rows.clone()].as_ptr(), of[rows.clone()].len());
        let (term, d) = (eight(terms.tokens[token]), eight(terms.d));
        debug_assert!(term.1 == 8 * n_units * BLOCKS && d.1 == term.1);
        let mut acc = _mm256_setzero_ps();
        for unit in 0..n_units {
            // SAFETY: eight rows of `row_len` floats, of which this unit is eight.
            let (term, d) = unsafe {
                let at = unit * BLOCKS;
                (
                    transpose_8x8(term.0.add(at), terms.row_len),
                    transpose_8x8(d.0.add(at), terms.row_len),
                )
            };
            let n = BLOCKS.min(n_blocks - unit * BLOCKS);
            if F::HAS_MIN {
                // SAFETY: as above.
                let m = unsafe {
                    transpose_8x8(
                        terms.m[rows.start + unit * BLOCKS..].as_ptr(),
                        terms.row_len,
                    )
                };
                for b in 0..n {
                    acc = _mm256_fmadd_ps(d[b], term[b], acc);
                    acc = _mm256_fmadd_ps(m[b], _mm256_set1_ps(acts[unit].sum_step[b]), acc);
                }
            } else if n == BLOCKS {
                for b in 0..BLOCKS {
                    acc = _mm256_fmadd_ps(d[b], term[b], acc);
                }
            } else {
                for b in 0..n {
                    acc = _mm256_fmadd_ps(d[b], term[b], acc);
                }
            }
        }
        let mut sums = [0f32; 8];
        // SAFETY: eight writable floats.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), acc) };
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// Eight floats of each of eight rows; register i has float i of every row.
///
/// # Safety
/// Eight floats are readable at each `row * stride`.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
unsafe fn transpose_8x8(from: *const f32, stride: usize) -> [__m256; 8] {
    let mut y = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        // Rows 4 apart share a register.
        let half = |row: usize, at: usize| {
            // SAFETY: the caller's promise.
            unsafe { _mm_loadu_ps(from.add(row * stride + at)) }
        };
        let pair = |at: usize| {
            _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(half(i, at)), half(i + 4, at))
        };
        y[i] = pair(0);
        y[i + 4] = pair(4);
    }
    let mut out = [_mm256_setzero_ps(); 8];
    for h in 0..2 {
        let row = |i: usize| y[4 * h + i];
        let (a, b) = (
            _mm256_unpacklo_ps(row(0), row(1)),
            _mm256_unpackhi_ps(row(0), row(1)),
        );
        let (c, d) = (
            _mm256_unpacklo_ps(row(2), row(3)),
            _mm256_unpackhi_ps(row(2), row(3)),
        );
        out[4 * h] = _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(c)));
        out[4 * h + 1] =
            _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(c)));
        out[4 * h + 2] =
            _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(b), _mm256_castps_pd(d)));
        out[4 * h + 3] =
            _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(b), _mm256_castps_pd(d)));
    }
    out
}
