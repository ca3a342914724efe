//! Panels for super-blocks of 256 weights and activations in the format A256.
//!
//! Weights are unpacked to unsigned bytes, signed ones with an offset that the sums of the activations take back, so
//! that `vpmaddubsw` applies to all of them. Its 16-bit results are added up in words as long as they cannot overflow,
//! then `vpmaddwd` with the scales brings them to 32 bits. The exponents of the activations multiply the scales.

#![allow(
    clippy::needless_range_loop,
    reason = "a tile is a matrix of rows and tokens; indices keep its loops readable"
)]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::panel::{LANES, Panels, Sums};
use super::signed::{self, Wide};
use super::vec::{dot4, load, load_ps, quad, store, store_ps};
use crate::activation::A256Block;
use crate::matmul::RowTask;
use crate::quant::Block256;

/// How a format's unpacked integers are to be summed.
pub(super) trait Unpack: Block256 {
    /// Weights that share a scale: 16 or 32.
    const SUB: usize;
    /// Whether weights stay signed bytes, which no offset makes small enough for `vpmaddubsw`: then they are widened
    /// to 16 bits, and there are no minima. `SUB` is 32.
    const SIGNED: bool = false;
    /// How many `vpmaddubsw` results, each the sum of two products, one signed word holds:
    /// 2 · `GROUP` · (largest unpacked weight) · 127 ≤ 32767. That also keeps `vpmaddubsw` itself, which saturates,
    /// from ever doing so.
    const GROUP: usize;
    /// Unpacked weights are `2^OFFSET_LOG2` above the true ones. Only formats without a minimum have an offset.
    const OFFSET_LOG2: Option<i32> = None;

    /// Fills a panel from one super-block of each row. With `VNNI` signed weights become bytes 128 too large, with scales and
    /// minima as for weights with an offset.
    ///
    /// # Safety
    /// The processor has AVX2 and F16C.
    unsafe fn unpack<const VNNI: bool>(rows: [&Self; LANES], panel: &mut Panel);
}

/// Eight rows of one super-block.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Panel {
    /// Weights: `[columns / 4][row][4]`, or [`Wide`] ones, which take twice the room.
    pub weights: [[u8; 32]; 128],
    /// Scales, each twice: `[columns / SUB][row][2]`; for widened weights once, in 32 bits.
    pub scales: [[i16; 16]; 16],
    /// What multiplies the sums of 16 activations: `[columns / 32][row][2]`, the minima or, for formats with an
    /// offset, the scales.
    pub mins: [[i16; 16]; 8],
    pub d: [f32; 8],
    pub dmin: [f32; 8],
}

/// What a tile needs of a token beyond its block: everything with the exponents multiplied in.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Shifted {
    /// 2^e per 32, in both halves of a word pair.
    power: [[i16; 2]; 8],
    /// Sums of 16 times 2^e: at most 16 · 127 · 16 = 32512.
    sum16: [[i16; 2]; 8],
}

/// The family of these formats.
pub(super) struct Super<B, const VNNI: bool>(PhantomData<B>);

// SAFETY: `Panel` is arrays of numbers, aligned to 32 bytes.
unsafe impl<B: Unpack, const VNNI: bool> Panels for Super<B, VNNI> {
    type Panel = Panel;
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = B::BYTES;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack(rows: [&[u8]; LANES], panel: &mut Panel) {
        // SAFETY: this function has the features.
        unsafe { B::unpack::<VNNI>(rows.map(B::view), panel) };
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
        let acts = &task.acts.a256[step * task.acts.n_tokens + token..];
        let acts = acts
            .first_chunk::<N>()
            .expect("a tile lies inside the batch");
        let shifted: [Shifted; N] = std::array::from_fn(|t| shift(&acts[t]));
        // The activations as words, for signed weights. Without them not even zeros are written.
        let wide: [[Wide; 8]; N];
        let wide = if B::SIGNED && !VNNI {
            wide = std::array::from_fn(|t| {
                std::array::from_fn(|j| signed::widen(&acts[t].q.as_chunks().0[j]))
            });
            wide.as_slice()
        } else {
            &[]
        };
        let (pairs, rest) = panels.as_chunks::<2>();
        for (p, pair) in pairs.iter().enumerate() {
            tile::<B, VNNI, 2, N>(pair, acts, &shifted, wide, sums, p * 2);
        }
        for panel in rest {
            tile::<B, VNNI, 1, N>(
                std::array::from_ref(panel),
                acts,
                &shifted,
                wide,
                sums,
                pairs.len() * 2,
            );
        }
    }
}

/// Multiplies what is per token with the powers of two.
#[inline]
#[target_feature(enable = "avx2")]
fn shift(act: &A256Block) -> Shifted {
    let mut shifted = Shifted {
        power: [[0; 2]; 8],
        sum16: [[0; 2]; 8],
    };
    // SAFETY: `e` is 8 bytes.
    let e = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(act.e.as_ptr().cast()) });
    let power = _mm256_sllv_epi32(_mm256_set1_epi32(0x0001_0001), e);
    store(&mut shifted.power, power);
    store(
        &mut shifted.sum16,
        _mm256_mullo_epi16(load(&act.sum16), power),
    );
    shifted
}

/// `G` panels by `N` tokens, one super-block: adds to the outputs of the panels from `first` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<B: Unpack, const VNNI: bool, const G: usize, const N: usize>(
    panels: &[Panel; G],
    acts: &[A256Block; N],
    shifted: &[Shifted; N],
    wide: &[[Wide; 8]],
    sums: &mut [Sums; N],
    first: usize,
) {
    let offset_log2 = if VNNI && B::SIGNED {
        Some(7)
    } else {
        B::OFFSET_LOG2
    };
    let totals = if VNNI {
        // SAFETY: the caller has the features of the level.
        unsafe { vnni_totals::<B, G, N>(panels, acts, shifted) }
    } else if B::SIGNED {
        signed_totals(panels, shifted, wide)
    } else {
        unsigned_totals::<B, G, N>(panels, acts, shifted)
    };
    for g in 0..G {
        let d = load_ps(&panels[g].d);
        for t in 0..N {
            let total = totals[g][t];
            let term = if let Some(log2) = offset_log2 {
                let offset =
                    _mm256_sll_epi32(min_total(&panels[g], &shifted[t]), _mm_cvtsi32_si128(log2));
                _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_sub_epi32(total, offset)))
            } else if B::HAS_MIN {
                let min = _mm256_cvtepi32_ps(min_total(&panels[g], &shifted[t]));
                let min = _mm256_mul_ps(load_ps(&panels[g].dmin), min);
                _mm256_fmsub_ps(d, _mm256_cvtepi32_ps(total), min)
            } else {
                _mm256_mul_ps(d, _mm256_cvtepi32_ps(total))
            };
            let out = &mut sums[t].as_chunks_mut::<LANES>().0[first + g];
            store_ps(
                out,
                _mm256_fmadd_ps(_mm256_set1_ps(acts[t].base), term, load_ps(out)),
            );
        }
    }
}

/// Σ scale · 2^e · (dot product of unsigned weights).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unsigned_totals<B: Unpack, const G: usize, const N: usize>(
    panels: &[Panel; G],
    acts: &[A256Block; N],
    shifted: &[Shifted; N],
) -> [[__m256i; N]; G] {
    let zero = _mm256_setzero_si256();
    let mut totals = [[zero; N]; G];
    for sub in 0..256 / B::SUB {
        for group in 0..B::SUB / 4 / B::GROUP {
            let mut words = [[zero; N]; G];
            for i in 0..B::GROUP {
                let at = sub * (B::SUB / 4) + group * B::GROUP + i;
                let weights: [__m256i; G] = std::array::from_fn(|g| load(&panels[g].weights[at]));
                for t in 0..N {
                    // SAFETY: `at` is below `256 / SUB * (SUB / 4)`, and 256 activations are 64 quadruples.
                    let x = unsafe { quad(&acts[t].q, at) };
                    for g in 0..G {
                        let product = _mm256_maddubs_epi16(weights[g], x);
                        words[g][t] = if i == 0 {
                            product
                        } else {
                            _mm256_add_epi16(words[g][t], product)
                        };
                    }
                }
            }
            for t in 0..N {
                let power = pair(shifted[t].power[sub * B::SUB / 32]);
                for g in 0..G {
                    let scale = _mm256_mullo_epi16(load(&panels[g].scales[sub]), power);
                    let product = _mm256_madd_epi16(words[g][t], scale);
                    totals[g][t] = _mm256_add_epi32(totals[g][t], product);
                }
            }
        }
    }
    totals
}

/// The same with AVX-VNNI. Where sums of 16 columns fit words, the two of a sub-block of 32 share a lane and `vpmaddwd` scales
/// them; else sums and their products need 32 bits.
///
/// # Safety
/// The processor has AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn vnni_totals<B: Unpack, const G: usize, const N: usize>(
    panels: &[Panel; G],
    acts: &[A256Block; N],
    shifted: &[Shifted; N],
) -> [[__m256i; N]; G] {
    // `GROUP` results of `vpmaddubsw` in a word are sums of two products each: 16 columns.
    let fit_words = B::SUB == 32 && B::GROUP == 8 && !B::SIGNED;
    let zero = _mm256_setzero_si256();
    let mut totals = [[zero; N]; G];
    for sub in 0..256 / B::SUB {
        let mut dots = [[[zero; N]; G]; 2];
        for i in 0..B::SUB / 4 {
            let at = sub * (B::SUB / 4) + i;
            let half = if fit_words { i / 4 } else { 0 };
            let weights: [__m256i; G] = std::array::from_fn(|g| load(&panels[g].weights[at]));
            for t in 0..N {
                // SAFETY: `at` is below `256 / SUB * (SUB / 4)`, and 256 activations are 64 quadruples.
                let x = unsafe { quad(&acts[t].q, at) };
                for g in 0..G {
                    // SAFETY: the caller's promise.
                    dots[half][g][t] = unsafe { dot4(dots[half][g][t], weights[g], x) };
                }
            }
        }
        for t in 0..N {
            let power = pair(shifted[t].power[sub * B::SUB / 32]);
            for g in 0..G {
                let scale = _mm256_mullo_epi16(load(&panels[g].scales[sub]), power);
                let product = if fit_words {
                    let second = _mm256_slli_epi32::<16>(dots[1][g][t]);
                    let words = _mm256_blend_epi16::<0xaa>(dots[0][g][t], second);
                    _mm256_madd_epi16(words, scale)
                } else {
                    _mm256_mullo_epi32(dots[0][g][t], _mm256_srai_epi32::<16>(scale))
                };
                totals[g][t] = _mm256_add_epi32(totals[g][t], product);
            }
        }
    }
    totals
}

/// Σ scale · 2^e · (dot product of signed weights).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn signed_totals<const G: usize, const N: usize>(
    panels: &[Panel; G],
    shifted: &[Shifted; N],
    wide: &[[Wide; 8]],
) -> [[__m256i; N]; G] {
    let wide: &[[Wide; 8]; N] = wide.try_into().expect("signed weights have them");
    let mut totals = [[_mm256_setzero_si256(); N]; G];
    for sub in 0..8 {
        let weights: [&_; G] = std::array::from_fn(|g| &panels[g].weights.as_chunks::<16>().0[sub]);
        let dots: [[_; N]; G] = signed::dots(weights, std::array::from_fn(|t| &wide[t][sub]));
        for t in 0..N {
            let power = _mm256_set1_epi32(shifted[t].power[sub][0].into());
            for g in 0..G {
                let scale = _mm256_mullo_epi32(load(&panels[g].scales[sub]), power);
                let product = _mm256_mullo_epi32(dots[g][t], scale);
                totals[g][t] = _mm256_add_epi32(totals[g][t], product);
            }
        }
    }
    totals
}

/// Σ min · 2^e · (sum of the activations).
#[inline]
#[target_feature(enable = "avx2")]
fn min_total(panel: &Panel, shifted: &Shifted) -> __m256i {
    let mut total = _mm256_setzero_si256();
    for j in 0..8 {
        let product = _mm256_madd_epi16(load(&panel.mins[j]), pair(shifted.sum16[j]));
        total = _mm256_add_epi32(total, product);
    }
    total
}

/// Widens signed scales, one per 16 weights and four per result of a transposition, into the panel.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scales_per_16(scales: [__m256i; 4], panel: &mut Panel) {
    for j in 0..16 {
        // The byte goes to the top of its lane, and an arithmetic shift brings it down with its sign.
        let shift = _mm256_set1_epi32(8 * (3 - (j % 4)) as i32);
        let word = _mm256_srai_epi32::<24>(_mm256_sllv_epi32(scales[j / 4], shift));
        let twice = _mm256_blend_epi16::<0xaa>(word, _mm256_slli_epi32::<16>(word));
        store(&mut panel.scales[j], twice);
    }
}

/// For formats with an offset and a scale per 16: the scales in pairs are what takes the offset back.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scales_as_mins(panel: &mut Panel) {
    for j in 0..8 {
        let (even, odd) = (load(&panel.scales[2 * j]), load(&panel.scales[2 * j + 1]));
        store(&mut panel.mins[j], _mm256_blend_epi16::<0xaa>(even, odd));
    }
}

/// A pair of words in every 32-bit lane.
#[inline]
#[target_feature(enable = "avx2")]
fn pair(words: [i16; 2]) -> __m256i {
    _mm256_set1_epi32(i32::from(words[0] as u16) | i32::from(words[1]) << 16)
}
