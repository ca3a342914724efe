//! Few tokens with super-blocks of 256 and activations in the format A256.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::panel256::Unpack;
use super::stream::{STRIP, Strip, Strips, columns_of_rows, sums_of_4};
use super::vec::{half_quads, load, store_ps, table};
use crate::activation::A256Block;
use crate::matmul::RowTask;

/// How a super-block is read in order of columns. [`Unpack`] says what its integers may be: they are the same.
pub(super) trait Stream: Unpack {
    /// The weights of columns 32j to 32j + 31 in result j: unsigned with the format's offset, or signed.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn columns(&self) -> [__m256i; 8];

    /// Scales and minima as words, one per 16 weights.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn scales_and_mins(&self) -> (__m256i, __m256i);

    /// The f16 scale of the scales, and that of the minima or anything.
    fn d_and_dmin(&self) -> [[u8; 2]; 2];
}

/// Super-blocks reduced together.
const GROUP: usize = 4;

/// The family of these formats.
pub(super) struct SuperStrips<B>(PhantomData<B>);

/// Floats for the terms of a strip of rows of `n` super-blocks: whole groups, and room to read eight at the end.
fn terms_len(n: usize) -> usize {
    STRIP * n + 8
}

impl<B: Stream, const N: usize> Strips<N> for SuperStrips<B> {
    fn scratch_len(n_cols: usize) -> usize {
        N * terms_len(n_cols / 256)
    }

    unsafe fn prepare(_: &RowTask<'_>, _: &mut [f32]) {}

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn strip(
        task: &RowTask<'_>,
        strip: Strip<'_>,
        scratch: &mut [f32],
    ) -> [[f32; STRIP]; N] {
        let n = task.acts.n_cols / 256;
        let acts = &task.acts.a256.as_chunks::<N>().0[..n];
        let n_blocks = strip.bytes.len() / B::BYTES;
        let mut act = 0;
        for first in (0..n_blocks).step_by(GROUP) {
            strip.prefetch::<B, GROUP>(first);
            let mut padding = None;
            let blocks: &[B; GROUP] = strip.group(first, &mut padding);
            let mut group_acts = [&acts[0]; GROUP];
            for to in &mut group_acts {
                *to = &acts[act];
                act = if act + 1 == n { 0 } else { act + 1 };
            }
            let terms = group_terms(blocks, group_acts);
            for (t, terms) in terms.into_iter().enumerate() {
                let to = &mut scratch[t * terms_len(n) + first..];
                let to = to.first_chunk_mut::<GROUP>().expect("whole groups");
                // SAFETY: the array is 16 bytes.
                unsafe { _mm_storeu_ps(to.as_mut_ptr(), terms) };
            }
        }
        std::array::from_fn(|t| chain(acts, t, &scratch[t * terms_len(n)..][..terms_len(n)]))
    }
}

/// `fma(d, f32(sum), −(dmin·f32(min)))` of four super-blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn group_terms<B: Stream, const N: usize>(
    blocks: &[B; GROUP],
    acts: [&[A256Block; N]; GROUP],
) -> [__m128; N] {
    let mut totals = [[_mm256_setzero_si256(); GROUP]; N];
    let mut mins = [[_mm256_setzero_si256(); GROUP]; N];
    for i in 0..GROUP {
        // SAFETY: this function has the features.
        let (columns, scales) = unsafe { (blocks[i].columns(), blocks[i].scales_and_mins()) };
        for t in 0..N {
            (totals[t][i], mins[t][i]) = block_sums::<B>(&columns, scales, &acts[i][t]);
        }
    }
    let (d, dmin) = half_quads(std::array::from_fn(|i| blocks[i].d_and_dmin()));
    let mut terms = [_mm_setzero_ps(); N];
    for t in 0..N {
        let total = _mm_cvtepi32_ps(sums_of_4(totals[t]));
        terms[t] = if B::HAS_MIN {
            _mm_fmsub_ps(
                d,
                total,
                _mm_mul_ps(dmin, _mm_cvtepi32_ps(sums_of_4(mins[t]))),
            )
        } else {
            _mm_mul_ps(d, total)
        };
    }
    terms
}

/// Eight partial sums each of Σ scale·2^e·dot, the offset taken back, and of Σ min·2^e·Σq.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn block_sums<B: Stream>(
    columns: &[__m256i; 8],
    (scales, mins): (__m256i, __m256i),
    act: &A256Block,
) -> (__m256i, __m256i) {
    let power = powers(&act.e);
    let scales = _mm256_mullo_epi16(scales, power);
    let sums = load(&act.sum16);
    let mut total = match B::OFFSET_LOG2 {
        Some(log2) => {
            let offset = _mm256_madd_epi16(scales, sums);
            let offset = _mm256_sll_epi32(offset, _mm_cvtsi32_si128(log2));
            _mm256_sub_epi32(_mm256_setzero_si256(), offset)
        }
        None => _mm256_setzero_si256(),
    };
    // Both halves hold scales 0–7, then 8–15, so that a shuffle inside halves reaches them.
    let low = _mm256_permute4x64_epi64::<0b01_00_01_00>(scales);
    let high = _mm256_permute4x64_epi64::<0b11_10_11_10>(scales);
    for (j, (&w, x)) in columns.iter().zip(act.q.as_chunks::<32>().0).enumerate() {
        let x = load(x);
        // No pair of products reaches 2^15, so `vpmaddubsw` does not saturate: 63 · 127 · 2, or 127 · 127 · 2.
        let words = if B::SIGNED {
            _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
        } else {
            _mm256_maddubs_epi16(w, x)
        };
        let at = (j % 4) as i16 * 4;
        let scale = _mm256_set_m128i(
            _mm_set1_epi16((at + 2) | (at + 3) << 8),
            _mm_set1_epi16(at | (at + 1) << 8),
        );
        let scale = _mm256_shuffle_epi8(if j < 4 { low } else { high }, scale);
        total = _mm256_add_epi32(total, _mm256_madd_epi16(words, scale));
    }
    let min = if B::HAS_MIN {
        _mm256_madd_epi16(_mm256_mullo_epi16(mins, power), sums)
    } else {
        _mm256_setzero_si256()
    };
    (total, min)
}

/// 2^e as words, each twice.
#[inline]
#[target_feature(enable = "avx2")]
fn powers(e: &[u8; 8]) -> __m256i {
    // SAFETY: the array is 8 bytes.
    let e = unsafe { _mm_loadl_epi64(e.as_ptr().cast()) };
    let e = _mm_unpacklo_epi8(e, e);
    let two = table(&[1, 2, 4, 8, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    _mm256_cvtepu8_epi16(_mm_shuffle_epi8(_mm256_castsi256_si128(two), e))
}

/// The canonical chains of a strip: over a row's super-blocks, `acc = fma(base, term, acc)`. Rows that a last strip
/// lacks are computed from what an earlier one left; nobody uses them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn chain<const N: usize>(acts: &[[A256Block; N]], t: usize, terms: &[f32]) -> [f32; STRIP] {
    let n = acts.len();
    let mut acc = _mm256_setzero_ps();
    for (group, acts) in acts.chunks(8).enumerate() {
        let columns = columns_of_rows(terms, n, group * 8);
        for (act, column) in acts.iter().zip(columns) {
            acc = _mm256_fmadd_ps(_mm256_set1_ps(act[t].base), column, acc);
        }
    }
    let mut out = [0.0; STRIP];
    store_ps(&mut out, acc);
    out
}
