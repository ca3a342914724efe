//! Few tokens: the matrix is read strictly in address order, columns are the lanes.
//!
//! Decoding is bound by memory, and memory is fastest when read like a tape. So blocks are taken as they lie, across
//! the ends of rows; their exact sums are reduced several at a time and written to a small buffer; after eight rows
//! the canonical chains of those rows run side by side. [`super::stream256`] and [`super::stream32`] differ in what a
//! block contributes. What a block unpacks to serves all `N` tokens.

use std::arch::x86_64::*;

use crate::matmul::{OutRows, RowTask, ThreadScratch};
use crate::quant::Block;

/// Rows whose chains run side by side, enough to hide the latency of a fused multiply-add.
pub(super) const STRIP: usize = 8;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 8 << 10;

/// What a family of formats does with a strip of rows for `N` tokens.
pub(super) trait Strips<const N: usize> {
    /// Floats of scratch it wants for a matrix of so many columns.
    fn scratch_len(n_cols: usize) -> usize;

    /// Prepares the activations, once per task.
    ///
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    unsafe fn prepare(task: &RowTask<'_>, scratch: &mut [f32]);

    /// Computes up to [`STRIP`] rows: row r in lane r of a token's result.
    ///
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    unsafe fn strip(task: &RowTask<'_>, strip: Strip<'_>, scratch: &mut [f32])
    -> [[f32; STRIP]; N];
}

/// The kernel for batches of `N` tokens: every row of the task.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<S: Strips<N>, const N: usize>(
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let scratch_len = S::scratch_len(task.acts.n_cols);
    // SAFETY: every bit pattern is an f32, and scratch starts at a cache line.
    let (_, scratch, _) = unsafe { scratch.bytes(scratch_len * 4).align_to_mut() };
    let scratch = &mut scratch[..scratch_len];
    // SAFETY: this function has the features.
    unsafe { S::prepare(task, scratch) };
    let data = task.data();
    let strip_bytes = STRIP * task.weight.row_bytes();
    for first in (0..task.rows.len()).step_by(STRIP) {
        let at = first / STRIP * strip_bytes;
        let end = (at + strip_bytes).min(data.len());
        let strip = Strip {
            data,
            at,
            bytes: &data[at..end],
            next: task.next,
        };
        // SAFETY: as above.
        let sums = unsafe { S::strip(task, strip, scratch) };
        let n_rows = (task.rows.len() - first).min(STRIP);
        for (token, sums) in sums.iter().enumerate() {
            out.token(token)[first..first + n_rows].copy_from_slice(&sums[..n_rows]);
        }
    }
}

/// Up to eight rows, and what will be read after them.
#[derive(Clone, Copy)]
pub(super) struct Strip<'a> {
    /// The whole task.
    data: &'a [u8],
    /// Where the strip begins in it.
    at: usize,
    pub bytes: &'a [u8],
    /// What the thread reads after the task.
    next: &'a [u8],
}

impl<'a> Strip<'a> {
    /// The blocks of the strip in groups of `GROUP`. Where they end inside a group, the rest of it repeats the last
    /// block, in `padding`.
    #[inline(always)]
    pub fn group<'b, B: Block, const GROUP: usize>(
        self,
        first: usize,
        padding: &'b mut Option<[B; GROUP]>,
    ) -> &'b [B; GROUP]
    where
        'a: 'b,
    {
        let at = first * B::BYTES;
        match B::view_run(&self.bytes[at..]) {
            Some(run) => run,
            None => {
                let last = self.bytes.len() / B::BYTES - 1;
                let block = |i: usize| *B::view(&self.bytes[(first + i).min(last) * B::BYTES..]);
                padding.insert(std::array::from_fn(block))
            }
        }
    }

    /// Asks for as many bytes as `GROUP` blocks are, [`AHEAD`] beyond block `first` of the strip: of the task, and past
    /// its end of what comes next.
    #[inline(always)]
    pub fn prefetch<B: Block, const GROUP: usize>(self, first: usize) {
        let at = self.at + first * B::BYTES + AHEAD;
        let from = match at.checked_sub(self.data.len()) {
            None => self.data.as_ptr().wrapping_add(at),
            Some(past) => self.next.as_ptr().wrapping_add(past),
        };
        for line in 0..(GROUP * B::BYTES).div_ceil(64) {
            // SAFETY: a prefetch reads nothing and takes any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line * 64).cast()) };
        }
    }
}

/// Sums of the lanes of each half of four registers: `[a, b, c, d]` of the lower halves, then of the upper ones.
#[inline]
#[target_feature(enable = "avx2")]
fn halves_of_4(v: [__m256i; 4]) -> __m256i {
    let [a, b, c, d] = v;
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// Sums of all lanes of four registers, in order.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sums_of_4(v: [__m256i; 4]) -> __m128i {
    let sums = halves_of_4(v);
    _mm_add_epi32(
        _mm256_castsi256_si128(sums),
        _mm256_extracti128_si256::<1>(sums),
    )
}

/// Sums of all lanes of eight registers, in order.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sums_of_8(v: [__m256i; 8]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = v;
    let (low, high) = (halves_of_4([a, b, c, d]), halves_of_4([e, f, g, h]));
    _mm256_add_epi32(
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    )
}

/// Eight columns, from `first` on, of eight rows of `n` floats: row r in lane r of each result. Columns that a row
/// lacks are whatever follows it; after the last row there must be room for them.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn columns_of_rows(rows: &[f32], n: usize, first: usize) -> [__m256; 8] {
    let row = |r: usize| {
        let at = r * n + first;
        super::vec::load(rows[at..].first_chunk::<8>().expect("the buffer is padded"))
    };
    super::vec::transpose8(std::array::from_fn(row)).map(|v| _mm256_castsi256_ps(v))
}
