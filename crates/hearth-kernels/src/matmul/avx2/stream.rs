//! One token: the matrix is read strictly in address order, columns are the lanes.
//!
//! Decoding is bound by memory, and memory is fastest when read like a tape. So blocks are taken as they lie, across
//! the ends of rows; their exact sums are reduced several at a time and written to a small buffer; after eight rows
//! the canonical chains of those rows run side by side. [`super::stream256`] and [`super::stream32`] differ in what a
//! block contributes.

use std::arch::x86_64::*;

use crate::matmul::{OutRows, RowTask, ThreadScratch};

/// Rows whose chains run side by side, enough to hide the latency of a fused multiply-add.
pub(super) const STRIP: usize = 8;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 8 << 10;

/// What a family of formats does with a strip of rows.
pub(super) trait Strips {
    /// Floats of scratch it wants for a matrix of so many columns.
    fn scratch_len(n_cols: usize) -> usize;

    /// Prepares the activations, once per task.
    ///
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    unsafe fn prepare(task: &RowTask<'_>, scratch: &mut [f32]);

    /// Computes up to [`STRIP`] rows, whose bytes are `strip`.
    ///
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    unsafe fn strip(
        task: &RowTask<'_>,
        strip: &[u8],
        ahead: Ahead<'_>,
        scratch: &mut [f32],
        out: &mut [f32],
    );
}

/// The kernel for batches of one token: every row of the task.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<S: Strips>(
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let scratch_len = S::scratch_len(task.acts.n_cols);
    // SAFETY: every bit pattern is an f32, and scratch starts at a cache line.
    let (_, scratch, _) = unsafe { scratch.bytes(scratch_len * 4).align_to_mut() };
    let scratch = &mut scratch[..scratch_len];
    let data = task.data();
    if data.is_empty() {
        out.token(0).fill(0.0);
        return;
    }
    // SAFETY: this function has the features.
    unsafe { S::prepare(task, scratch) };
    let strip_bytes = STRIP * task.weight.row_bytes();
    let strips = data.chunks(strip_bytes).zip(out.token(0).chunks_mut(STRIP));
    for (i, (strip, out)) in strips.enumerate() {
        let ahead = Ahead {
            data,
            at: i * strip_bytes,
            next: task.next,
        };
        // SAFETY: as above.
        unsafe { S::strip(task, strip, ahead, scratch, out) };
    }
}

/// Where to prefetch: the task's bytes and, past their end, what the thread reads next.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    data: &'a [u8],
    /// Where the strip begins.
    at: usize,
    next: &'a [u8],
}

impl Ahead<'_> {
    /// Asks for `LINES` cache lines, [`AHEAD`] bytes beyond byte `at` of the strip.
    #[inline(always)]
    pub fn prefetch<const LINES: usize>(self, at: usize) {
        let at = self.at + at + AHEAD;
        let from = match at.checked_sub(self.data.len()) {
            None => self.data.as_ptr().wrapping_add(at),
            Some(past) => self.next.as_ptr().wrapping_add(past),
        };
        for line in 0..LINES {
            // SAFETY: a prefetch reads nothing and takes any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line * 64).cast()) };
        }
    }
}

/// Sums of the lanes of each half of four registers: `[a, b, c, d]` of the lower halves, then of the upper ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn halves_of_4(v: [__m256i; 4]) -> __m256i {
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
