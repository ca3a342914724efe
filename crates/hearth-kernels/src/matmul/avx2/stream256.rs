//! One token with super-blocks of 256 and activations in the format A256.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::panel256::Unpack;
use super::stream::{Ahead, STRIP, Strips, sums_of_4};
use super::vec::{half_quads, load, table};
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

impl<B: Stream> Strips for SuperStrips<B> {
    /// A term per super-block of a strip, padded to whole groups, and a base per super-block of a row.
    fn scratch_len(n_cols: usize) -> usize {
        (STRIP + 1) * (n_cols / 256) + GROUP
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn prepare(task: &RowTask<'_>, scratch: &mut [f32]) {
        for (base, act) in scratch.iter_mut().zip(task.acts.a256) {
            *base = act.base;
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn strip(
        task: &RowTask<'_>,
        strip: &[u8],
        ahead: Ahead<'_>,
        scratch: &mut [f32],
        out: &mut [f32],
    ) {
        let acts = task.acts.a256;
        let (bases, terms) = scratch.split_at_mut(acts.len());
        let n_blocks = strip.len() / B::BYTES;
        let mut act = 0;
        for (group, terms) in terms.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let first = group * GROUP;
            if first >= n_blocks {
                break;
            }
            ahead.prefetch_group::<B>(first * B::BYTES);
            // Past the strip's end the last block is taken again; its terms are not used.
            let blocks: [&B; GROUP] = std::array::from_fn(|i| {
                B::view(&strip[(first + i).min(n_blocks - 1) * B::BYTES..])
            });
            let acts: [&A256Block; GROUP] = std::array::from_fn(|_| {
                let present = &acts[act];
                act = if act + 1 == acts.len() { 0 } else { act + 1 };
                present
            });
            group_terms(blocks, acts, terms);
        }
        chain(bases, terms, out);
    }
}

impl Ahead<'_> {
    /// As many lines as a group of super-blocks touches.
    #[inline(always)]
    fn prefetch_group<B: Stream>(self, at: usize) {
        match (GROUP * B::BYTES).div_ceil(64) {
            ..=6 => self.prefetch::<6>(at),
            7 => self.prefetch::<7>(at),
            8..=9 => self.prefetch::<9>(at),
            10..=11 => self.prefetch::<11>(at),
            _ => self.prefetch::<14>(at),
        }
    }
}

/// `fma(d, f32(sum), −(dmin·f32(min)))` of four super-blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn group_terms<B: Stream>(
    blocks: [&B; GROUP],
    acts: [&A256Block; GROUP],
    terms: &mut [f32; GROUP],
) {
    let mut totals = [_mm256_setzero_si256(); GROUP];
    let mut mins = [_mm256_setzero_si256(); GROUP];
    for i in 0..GROUP {
        (totals[i], mins[i]) = block_sums(blocks[i], acts[i]);
    }
    let (d, dmin) = half_quads(blocks.map(B::d_and_dmin));
    let total = _mm_cvtepi32_ps(sums_of_4(totals));
    let term = if B::HAS_MIN {
        _mm_fmsub_ps(d, total, _mm_mul_ps(dmin, _mm_cvtepi32_ps(sums_of_4(mins))))
    } else {
        _mm_mul_ps(d, total)
    };
    // SAFETY: the array is 16 bytes.
    unsafe { _mm_storeu_ps(terms.as_mut_ptr(), term) };
}

/// Eight partial sums each of Σ scale·2^e·dot, the offset taken back, and of Σ min·2^e·Σq.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn block_sums<B: Stream>(block: &B, act: &A256Block) -> (__m256i, __m256i) {
    let power = powers(&act.e);
    // SAFETY: this function has the features.
    let (columns, (scales, mins)) = unsafe { (block.columns(), block.scales_and_mins()) };
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
    for (j, (w, x)) in columns
        .into_iter()
        .zip(act.q.as_chunks::<32>().0)
        .enumerate()
    {
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

/// The canonical chains of a strip: over a row's super-blocks, `acc = fma(base, term, acc)`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn chain(bases: &[f32], terms: &[f32], out: &mut [f32]) {
    let n = bases.len();
    let row = |r: usize| &terms[r * n..(r + 1) * n];
    let mut acc = [0f32; STRIP];
    if out.len() == STRIP {
        let rows: [&[f32]; STRIP] = std::array::from_fn(row);
        for (i, base) in bases.iter().enumerate() {
            for (acc, row) in acc.iter_mut().zip(rows) {
                *acc = base.mul_add(row[i], *acc);
            }
        }
    } else {
        for (r, acc) in acc.iter_mut().enumerate().take(out.len()) {
            *acc = bases
                .iter()
                .zip(row(r))
                .fold(0.0, |acc, (base, term)| base.mul_add(*term, acc));
        }
    }
    out.copy_from_slice(&acc[..out.len()]);
}
