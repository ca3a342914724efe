//! One token with blocks of 32 and activations in the format A32.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::panel32::Unpack32;
use super::stream::{Ahead, STRIP, Strips, sums_of_8};
use super::vec::{load, load_ps, store_ps};
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
pub(super) struct ShortStrips<B>(PhantomData<B>);

/// The parts of the scratch.
struct Parts<'a> {
    /// Activations of eight consecutive blocks, for each block of a row to start from: `[n + 8]` of 32 bytes, going
    /// on from the beginning after the end, as do the next two.
    q: &'a mut [f32],
    steps: &'a mut [f32],
    /// Sums of the activations times the format's offset, as bits.
    offsets: &'a mut [f32],
    /// Sums of the activations times the step.
    sums: &'a mut [f32],
    /// Scale, minimum and scaled dot of every block of a strip.
    scales: &'a mut [f32],
    mins: &'a mut [f32],
    dots: &'a mut [f32],
}

impl<'a> Parts<'a> {
    fn of(scratch: &'a mut [f32], n_cols: usize) -> Parts<'a> {
        let n = n_cols / 32;
        let periodic = n + GROUP;
        let strip = STRIP * n + GROUP;
        let (q, rest) = scratch.split_at_mut(periodic * 8);
        let (steps, rest) = rest.split_at_mut(periodic);
        let (offsets, rest) = rest.split_at_mut(periodic);
        let (sums, rest) = rest.split_at_mut(n);
        let (scales, rest) = rest.split_at_mut(strip);
        let (mins, rest) = rest.split_at_mut(strip);
        let (dots, _) = rest.split_at_mut(strip);
        Parts {
            q,
            steps,
            offsets,
            sums,
            scales,
            mins,
            dots,
        }
    }
}

impl<B: Stream32> Strips for ShortStrips<B> {
    fn scratch_len(n_cols: usize) -> usize {
        let n = n_cols / 32;
        (n + GROUP) * 10 + n + 3 * (STRIP * n + GROUP)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn prepare(task: &RowTask<'_>, scratch: &mut [f32]) {
        let parts = Parts::of(scratch, task.acts.n_cols);
        let acts = task.acts.a32;
        for (i, act) in acts.iter().cycle().take(acts.len() + GROUP).enumerate() {
            for (to, q) in parts.q[i * 8..].iter_mut().zip(act.q.as_chunks::<4>().0) {
                *to = f32::from_ne_bytes(q.map(|q| q as u8));
            }
            parts.steps[i] = act.step;
            parts.offsets[i] = f32::from_bits((B::OFFSET * act.sum) as u32);
        }
        for (sum, act) in parts.sums.iter_mut().zip(acts) {
            *sum = act.sum as f32 * act.step;
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
        let n = task.acts.n_cols / 32;
        let parts = Parts::of(scratch, task.acts.n_cols);
        let n_blocks = strip.len() / B::BYTES;
        let mut act = 0;
        for first in (0..n_blocks).step_by(GROUP) {
            ahead.prefetch::<5>(first * B::BYTES);
            // Past the strip's end the last block is taken again; what comes of it is not used.
            let blocks: [&B; GROUP] = std::array::from_fn(|i| {
                B::view(&strip[(first + i).min(n_blocks - 1) * B::BYTES..])
            });
            let q = parts.q[act * 8..]
                .first_chunk::<64>()
                .expect("eight blocks follow any");
            let dots = group_dots(blocks, q);
            let offsets = parts.offsets[act..]
                .first_chunk::<8>()
                .expect("eight follow any");
            let steps = parts.steps[act..]
                .first_chunk::<8>()
                .expect("eight follow any");
            let dots = _mm256_sub_epi32(dots, load(offsets));
            let dots = _mm256_mul_ps(_mm256_cvtepi32_ps(dots), load_ps(steps));
            // SAFETY: this function has the features.
            let (scales, mins) = unsafe { (B::scales(blocks), B::mins(blocks)) };
            let at = |part: &'_ mut [f32], v| {
                store_ps(
                    part[first..].first_chunk_mut::<8>().expect("whole groups"),
                    v,
                );
            };
            at(parts.dots, dots);
            at(parts.scales, scales);
            if B::HAS_MIN {
                at(parts.mins, mins);
            }
            act += GROUP;
            while act >= n {
                act -= n;
            }
        }
        chain::<B>(n, &parts, out);
    }
}

/// The dot products of eight blocks, without the offset.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn group_dots<B: Stream32>(blocks: [&B; GROUP], q: &[f32; 64]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); GROUP];
    for i in 0..GROUP {
        // SAFETY: this function has the features.
        let w = unsafe { blocks[i].columns() };
        let x = load(&q.as_chunks::<8>().0[i]);
        // No pair of products reaches 2^15, so `vpmaddubsw` does not saturate: at most 128 · 127 · 2.
        let words = if B::SIGNED {
            _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
        } else {
            _mm256_maddubs_epi16(w, x)
        };
        sums[i] = _mm256_madd_epi16(words, ones);
    }
    sums_of_8(sums)
}

/// The canonical chains of a strip: over a row's blocks, `acc = fma(d, f32(dot)·step, acc)`, then the minimum likewise.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn chain<B: Stream32>(n: usize, parts: &Parts<'_>, out: &mut [f32]) {
    let mut acc = [0f32; STRIP];
    // Rows a last strip lacks are computed from what an earlier one left and not used.
    let scales: [&[f32]; STRIP] = std::array::from_fn(|r| &parts.scales[r * n..(r + 1) * n]);
    let mins: [&[f32]; STRIP] = std::array::from_fn(|r| &parts.mins[r * n..(r + 1) * n]);
    let dots: [&[f32]; STRIP] = std::array::from_fn(|r| &parts.dots[r * n..(r + 1) * n]);
    for i in 0..n {
        for (r, acc) in acc.iter_mut().enumerate() {
            *acc = scales[r][i].mul_add(dots[r][i], *acc);
            if B::HAS_MIN {
                *acc = mins[r][i].mul_add(parts.sums[i], *acc);
            }
        }
    }
    out.copy_from_slice(&acc[..out.len()]);
}
