//! Panels for blocks of 32 weights and activations in the format A32.
//!
//! As in [`super::panel256`], weights become unsigned bytes where an offset makes them small enough, else words. Each
//! block ends in floating point: its dot times the step, fused into the row's sum, in the order of the blocks.

#![allow(
    clippy::needless_range_loop,
    reason = "a tile is a matrix of rows and tokens; indices keep its loops readable"
)]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::panel::{LANES, Panels, STEP, Sums};
use super::signed::{self, Wide};
use super::vec::{dot4, load, load_ps, quad, store, store_ps};
use crate::activation::A32Block;
use crate::matmul::RowTask;
use crate::quant::Block32;

/// Blocks of a step.
const BLOCKS: usize = STEP / 32;

/// How a format's unpacked integers are to be summed.
pub(super) trait Unpack32: Block32 {
    /// Whether weights stay signed bytes and are widened to 16 bits.
    const SIGNED: bool = false;
    /// For unsigned weights: how many `vpmaddubsw` results, each the sum of two products, one signed word holds:
    /// 2 · `GROUP` · (largest unpacked weight) · 127 ≤ 32767. That also keeps `vpmaddubsw` itself, which saturates,
    /// from ever doing so. Divides 8.
    const GROUP: usize = 8;
    /// How far unpacked weights are above the true ones.
    const OFFSET: i32 = 0;

    /// The weights of eight rows: in result i, lane r holds columns 4i to 4i + 3 of row r.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn quads(rows: [&Self; LANES]) -> [__m256i; 8];

    /// The scales of eight rows.
    ///
    /// # Safety
    /// The processor has AVX2 and F16C.
    unsafe fn scales(rows: [&Self; LANES]) -> __m256;

    /// The minima of eight rows.
    ///
    /// # Safety
    /// The processor has AVX2 and F16C.
    unsafe fn mins(_: [&Self; LANES]) -> __m256 {
        // SAFETY: the processor has AVX (contract).
        unsafe { _mm256_setzero_ps() }
    }
}

/// Eight rows of one step.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Panel {
    /// Weights of each block: `[columns / 4][row][4]`, or widened ones, which take twice the room.
    weights: [[[u8; 32]; 16]; BLOCKS],
    scales: [[f32; LANES]; BLOCKS],
    mins: [[f32; LANES]; BLOCKS],
}

/// The family of these formats.
pub(super) struct Short<B, const VNNI: bool>(PhantomData<B>);

// SAFETY: `Panel` is arrays of numbers, aligned to 32 bytes.
unsafe impl<B: Unpack32, const VNNI: bool> Panels for Short<B, VNNI> {
    type Panel = Panel;
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = B::BYTES;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack(rows: [&[u8]; LANES], panel: &mut Panel) {
        for block in 0..rows[0].len() / B::BYTES {
            let blocks = rows.map(|row| B::view(&row[block * B::BYTES..]));
            // SAFETY: this function has the features.
            let (quads, scales, mins) =
                unsafe { (B::quads(blocks), B::scales(blocks), B::mins(blocks)) };
            let to = &mut panel.weights[block];
            if B::SIGNED && !VNNI {
                signed::widen_weights(quads, to);
            } else {
                for (to, quad) in to.iter_mut().zip(quads) {
                    let quad = if B::SIGNED {
                        signed::without_sign(quad)
                    } else {
                        quad
                    };
                    store(to, quad);
                }
            }
            store_ps(&mut panel.scales[block], scales);
            if B::HAS_MIN {
                store_ps(&mut panel.mins[block], mins);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn multiply<const N: usize>(
        task: &RowTask<'_>,
        step: usize,
        token: usize,
        panels: &[Panel],
        sums: &mut [Sums; N],
    ) {
        let first = step * BLOCKS;
        let n_blocks = (task.acts.n_cols / 32 - first).min(BLOCKS);
        // Blocks past the end of a row repeat the last one and are not used.
        let acts: [[&A32Block; N]; BLOCKS] = std::array::from_fn(|block| {
            let block = first + block.min(n_blocks - 1);
            std::array::from_fn(|t| task.acts.a32(block, token + t))
        });
        // The activations as words, for signed weights. Without them not even zeros are written.
        let wide: [[Wide; N]; BLOCKS];
        let wide = if B::SIGNED && !VNNI {
            wide = acts.map(|acts| acts.map(|act| signed::widen(&act.q)));
            &wide[..n_blocks]
        } else {
            &[]
        };
        let acts = &acts[..n_blocks];
        let (pairs, rest) = panels.as_chunks::<2>();
        for (p, pair) in pairs.iter().enumerate() {
            tile::<B, VNNI, 2, N>(pair, acts, wide, sums, p * 2);
        }
        for panel in rest {
            tile::<B, VNNI, 1, N>(
                std::array::from_ref(panel),
                acts,
                wide,
                sums,
                pairs.len() * 2,
            );
        }
    }
}

/// `G` panels by `N` tokens, one step: adds to the outputs of the panels from `first` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<B: Unpack32, const VNNI: bool, const G: usize, const N: usize>(
    panels: &[Panel; G],
    acts: &[[&A32Block; N]],
    wide: &[[Wide; N]],
    sums: &mut [Sums; N],
    first: usize,
) {
    let mut acc = [[_mm256_setzero_ps(); N]; G];
    for g in 0..G {
        for t in 0..N {
            acc[g][t] = load_ps(&sums[t].as_chunks::<LANES>().0[first + g]);
        }
    }
    for (block, acts) in acts.iter().enumerate().take(BLOCKS) {
        let weights: [&_; G] = std::array::from_fn(|g| &panels[g].weights[block]);
        let dots: [[_; N]; G] = if VNNI {
            let offset = if B::SIGNED { 128 } else { B::OFFSET };
            // SAFETY: the caller has the features of the level.
            unsafe { vnni_dots(weights, acts, offset) }
        } else if B::SIGNED {
            signed::dots(weights, std::array::from_fn(|t| &wide[block][t]))
        } else {
            unsigned_dots::<B, G, N>(weights, acts)
        };
        for t in 0..N {
            let step = _mm256_set1_ps(acts[t].step);
            let sum = _mm256_set1_ps(acts[t].sum as f32 * acts[t].step);
            for g in 0..G {
                let dot = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[g][t]), step);
                acc[g][t] = _mm256_fmadd_ps(load_ps(&panels[g].scales[block]), dot, acc[g][t]);
                if B::HAS_MIN {
                    acc[g][t] = _mm256_fmadd_ps(load_ps(&panels[g].mins[block]), sum, acc[g][t]);
                }
            }
        }
    }
    for g in 0..G {
        for t in 0..N {
            store_ps(
                &mut sums[t].as_chunks_mut::<LANES>().0[first + g],
                acc[g][t],
            );
        }
    }
}

/// The dot products of one block with AVX-VNNI. They start at what takes the weights' offset back.
///
/// # Safety
/// The processor has AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn vnni_dots<const G: usize, const N: usize>(
    weights: [&[[u8; 32]; 16]; G],
    acts: &[&A32Block; N],
    offset: i32,
) -> [[__m256i; N]; G] {
    let mut dots = [[_mm256_setzero_si256(); N]; G];
    for t in 0..N {
        let start = _mm256_set1_epi32(-offset * acts[t].sum);
        for g in 0..G {
            dots[g][t] = start;
        }
    }
    for i in 0..8 {
        let w: [__m256i; G] = std::array::from_fn(|g| load(&weights[g][i]));
        for t in 0..N {
            // SAFETY: 32 activations are 8 quadruples; the caller's promise for the instruction.
            unsafe {
                let x = quad(&acts[t].q, i);
                for g in 0..G {
                    dots[g][t] = dot4(dots[g][t], w[g], x);
                }
            }
        }
    }
    dots
}

/// The dot products of one block for unsigned weights, the offset taken back.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unsigned_dots<B: Unpack32, const G: usize, const N: usize>(
    weights: [&[[u8; 32]; 16]; G],
    acts: &[&A32Block; N],
) -> [[__m256i; N]; G] {
    let zero = _mm256_setzero_si256();
    let mut dots = [[zero; N]; G];
    for group in 0..8 / B::GROUP {
        let mut words = [[zero; N]; G];
        for i in 0..B::GROUP {
            let at = group * B::GROUP + i;
            let w: [__m256i; G] = std::array::from_fn(|g| load(&weights[g][at]));
            for t in 0..N {
                // SAFETY: `at` is below `8 / GROUP * GROUP`, and 32 activations are 8 quadruples.
                let x = unsafe { quad(&acts[t].q, at) };
                for g in 0..G {
                    let product = _mm256_maddubs_epi16(w[g], x);
                    words[g][t] = if i == 0 {
                        product
                    } else {
                        _mm256_add_epi16(words[g][t], product)
                    };
                }
            }
        }
        for g in 0..G {
            for t in 0..N {
                let sum = _mm256_madd_epi16(words[g][t], _mm256_set1_epi16(1));
                dots[g][t] = if group == 0 {
                    sum
                } else {
                    _mm256_add_epi32(dots[g][t], sum)
                };
            }
        }
    }
    if B::OFFSET != 0 {
        for t in 0..N {
            let offset = _mm256_set1_epi32(B::OFFSET * acts[t].sum);
            for g in 0..G {
                dots[g][t] = _mm256_sub_epi32(dots[g][t], offset);
            }
        }
    }
    dots
}
