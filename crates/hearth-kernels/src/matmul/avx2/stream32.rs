//! Few tokens with blocks of 32 and activations in the format A32.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::panel32::Unpack32;
use super::stream::{STRIP, Strip, Strips, columns_of_rows, sums_of_8};
use super::vec::{dot4, load, load_ps, store_ps};
use crate::matmul::RowTask;

/// How a block is read in order of columns. [`Unpack32`] says what its integers may be: they are the same.
pub(super) trait Stream32: Unpack32 {
    /// The 32 weights: unsigned with the format's offset, or signed.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn columns(&self) -> __m256i;
}

/// Blocks reduced together.
const GROUP: usize = 8;

/// The family of these formats.
pub(super) struct ShortStrips<B, const VNNI: bool>(PhantomData<B>);

/// The activations of one token. After the last block they begin again, so that from any block eight can be read.
struct Token<'a> {
    q: &'a mut [[i8; 32]],
    steps: &'a mut [f32],
    /// Sums of the activations times the format's offset.
    offsets: &'a mut [i32],
    /// Sums of the activations times the step.
    sums: &'a mut [f32],
    /// `f32(dot) · step` of every block of a strip.
    dots: &'a mut [f32],
}

/// Floats of a [`Token`], for rows of `n` blocks.
fn token_len(n: usize) -> usize {
    (n + GROUP) * 11 + strip_len(n)
}

/// Floats of one number per block of a strip, with room to read eight at the end.
fn strip_len(n: usize) -> usize {
    STRIP * n + GROUP
}

impl<'a> Token<'a> {
    fn of(scratch: &'a mut [f32], n: usize) -> Token<'a> {
        let n = n + GROUP;
        let (q, rest) = scratch.split_at_mut(n * 8);
        let (steps, rest) = rest.split_at_mut(n);
        let (offsets, rest) = rest.split_at_mut(n);
        let (sums, dots) = rest.split_at_mut(n);
        // SAFETY: bytes and i32 have every bit pattern and no stricter alignment than f32, so nothing is cut off.
        let (q, offsets) = unsafe { (q.align_to_mut().1, offsets.align_to_mut().1) };
        Token {
            q,
            steps,
            offsets,
            sums,
            dots,
        }
    }
}

impl<B: Stream32, const VNNI: bool, const N: usize> Strips<N> for ShortStrips<B, VNNI> {
    /// The tokens, then scales and minima of a strip.
    fn scratch_len(n_cols: usize) -> usize {
        N * token_len(n_cols / 32) + 2 * strip_len(n_cols / 32)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn prepare(task: &RowTask<'_>, scratch: &mut [f32]) {
        let n = task.acts.n_cols / 32;
        for (t, scratch) in scratch.chunks_exact_mut(token_len(n)).take(N).enumerate() {
            let token = Token::of(scratch, n);
            for i in 0..(n + GROUP) * usize::from(n > 0) {
                let act = task.acts.a32(i % n, t);
                token.q[i] = act.q;
                token.steps[i] = act.step;
                token.offsets[i] = B::OFFSET * act.sum;
                token.sums[i] = act.sum as f32 * act.step;
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn strip(
        task: &RowTask<'_>,
        strip: Strip<'_>,
        scratch: &mut [f32],
    ) -> [[f32; STRIP]; N] {
        let n = task.acts.n_cols / 32;
        let (tokens, scales) = scratch.split_at_mut(N * token_len(n));
        let (scales, mins) = scales.split_at_mut(strip_len(n));
        let mut tokens = tokens.chunks_exact_mut(token_len(n));
        let mut tokens: [Token<'_>; N] =
            std::array::from_fn(|_| Token::of(tokens.next().expect("one per token"), n));
        let n_blocks = strip.bytes.len() / B::BYTES;
        let mut act = 0;
        for first in (0..n_blocks).step_by(GROUP) {
            strip.prefetch::<B, GROUP>(first);
            let mut padding = None;
            let blocks: &[B; GROUP] = strip.group(first, &mut padding);
            let columns = columns(blocks);
            for token in &mut tokens {
                let dots = group_dots::<B, VNNI>(&columns, token, act);
                store_ps(eight_mut(&mut token.dots[first..]), dots);
            }
            // SAFETY: this function has the features.
            unsafe {
                store_ps(
                    eight_mut(&mut scales[first..]),
                    B::scales(blocks.each_ref()),
                );
                if B::HAS_MIN {
                    store_ps(eight_mut(&mut mins[first..]), B::mins(blocks.each_ref()));
                }
            }
            act += GROUP;
            while act >= n {
                act -= n;
            }
        }
        chain::<B, N>(n, &tokens, scales, mins)
    }
}

#[inline(always)]
fn eight<T>(from: &[T]) -> &[T; 8] {
    from.first_chunk()
        .expect("buffers have room for eight more")
}

#[inline(always)]
fn eight_mut<T>(from: &mut [T]) -> &mut [T; 8] {
    from.first_chunk_mut()
        .expect("buffers have room for eight more")
}

/// The weights of eight blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn columns<B: Stream32>(blocks: &[B; GROUP]) -> [__m256i; GROUP] {
    let mut columns = [_mm256_setzero_si256(); GROUP];
    for (to, block) in columns.iter_mut().zip(blocks) {
        // SAFETY: this function has the features.
        *to = unsafe { block.columns() };
    }
    columns
}

/// `f32(dot) · step` of eight blocks, the first of which meets the activations of block `act`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn group_dots<B: Stream32, const VNNI: bool>(
    columns: &[__m256i; GROUP],
    token: &Token<'_>,
    act: usize,
) -> __m256 {
    let ones = _mm256_set1_epi16(1);
    let q = eight(&token.q[act..]);
    let mut sums = [_mm256_setzero_si256(); GROUP];
    for i in 0..GROUP {
        let (w, x) = (columns[i], load(&q[i]));
        let (w, x) = if B::SIGNED {
            (_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
        } else {
            (w, x)
        };
        sums[i] = if VNNI {
            // SAFETY: the caller has the features of the level.
            unsafe { dot4(_mm256_setzero_si256(), w, x) }
        } else {
            // No pair of products reaches 2^15, so `vpmaddubsw` does not saturate: at most 128 · 127 · 2.
            _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones)
        };
    }
    let mut dots = sums_of_8(sums);
    if B::OFFSET != 0 {
        dots = _mm256_sub_epi32(dots, load(eight(&token.offsets[act..])));
    }
    _mm256_mul_ps(
        _mm256_cvtepi32_ps(dots),
        load_ps(eight(&token.steps[act..])),
    )
}

/// The canonical chains of a strip: over a row's blocks, `acc = fma(d, f32(dot)·step, acc)`, then the minimum likewise.
/// Rows that a last strip lacks are computed from what an earlier one left; nobody uses them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn chain<B: Stream32, const N: usize>(
    n: usize,
    tokens: &[Token<'_>; N],
    scales: &[f32],
    mins: &[f32],
) -> [[f32; STRIP]; N] {
    let mut acc = [_mm256_setzero_ps(); N];
    for first in (0..n).step_by(8) {
        let d = columns_of_rows(scales, n, first);
        let m = if B::HAS_MIN {
            columns_of_rows(mins, n, first)
        } else {
            d
        };
        for (acc, token) in acc.iter_mut().zip(tokens) {
            let dots = columns_of_rows(token.dots, n, first);
            for i in 0..(n - first).min(8) {
                *acc = _mm256_fmadd_ps(d[i], dots[i], *acc);
                if B::HAS_MIN {
                    *acc = _mm256_fmadd_ps(m[i], _mm256_set1_ps(token.sums[first + i]), *acc);
                }
            }
        }
    }
    let mut out = [[0.0; STRIP]; N];
    for (out, acc) in out.iter_mut().zip(acc) {
        store_ps(out, acc);
    }
    out
}
