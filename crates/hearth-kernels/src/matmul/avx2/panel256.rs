//! Many tokens with super-blocks of 256: eight rows are the lanes.
//!
//! A format unpacks eight rows of a super-block into a [`Panel`] of unsigned bytes and 16-bit scales, once for all
//! tokens; [`tile`] multiplies one or two panels with a few tokens. Signed weights are stored with an offset that the
//! sums of the activations take back, so that `vpmaddubsw` applies to all of them. Panels of up to 64 rows go through
//! the matrix super-block by super-block, with the outputs in scratch.

use std::arch::x86_64::*;

use super::vec::{load, load_ps, quad, store, store_ps};
use crate::activation::A256Block;
use crate::matmul::{OutRows, RowTask, ThreadScratch};
use crate::quant::Block256;

/// Rows of a panel: the lanes of a register of 32-bit sums.
const LANES: usize = 8;
/// Panels unpacked together: 64 rows, whose unpacked form stays in the first cache.
const PANELS: usize = 8;
/// Tokens of a tile. With two panels the twelve sums and their operands just fit sixteen registers.
const TOKENS: usize = 3;

/// How a format's unpacked integers are to be summed.
pub(super) trait Unpack: Block256 {
    /// Weights that share a scale: 16 or 32.
    const SUB: usize;
    /// How many `vpmaddubsw` results, each the sum of two products, one signed word holds:
    /// 2 · `GROUP` · (largest unpacked weight) · 127 ≤ 32767. That also keeps `vpmaddubsw` itself, which saturates,
    /// from ever doing so.
    const GROUP: usize;
    /// Unpacked weights are `2^OFFSET_LOG2` above the true ones. Only formats without a minimum have an offset.
    const OFFSET_LOG2: Option<i32>;

    /// Fills a panel from one super-block of each row.
    ///
    /// # Safety
    /// The processor has AVX2 and F16C.
    unsafe fn unpack(rows: [&Self; LANES], panel: &mut Panel);
}

/// Eight rows of one super-block.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Panel {
    /// Weights: `[columns / 4][row][4]`.
    pub weights: [[u8; 32]; 64],
    /// Scales, each twice: `[columns / SUB][row][2]`.
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

/// The kernel: every row of the task for every token.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<B: Unpack>(
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    let n_tokens = task.acts.n_tokens;
    let (panels, sums) = carve(scratch, n_tokens);
    for first in (0..task.rows.len()).step_by(PANELS * LANES) {
        let n_rows = (task.rows.len() - first).min(PANELS * LANES);
        let panels = &mut panels[..n_rows.div_ceil(LANES)];
        sums.fill([0.0; PANELS * LANES]);
        for block in 0..task.acts.n_cols / 256 {
            unpack_panels::<B>(task, first, n_rows, block, panels);
            multiply::<B>(task, block, panels, sums);
        }
        for (token, sums) in sums.iter().enumerate() {
            out.token(token)[first..first + n_rows].copy_from_slice(&sums[..n_rows]);
        }
    }
}

/// Outputs of a token in one pass.
type Sums = [f32; PANELS * LANES];

/// Divides the scratch into panels and outputs.
fn carve(scratch: &mut ThreadScratch, n_tokens: usize) -> (&mut [Panel], &mut [Sums]) {
    let panel_bytes = PANELS * size_of::<Panel>();
    let bytes = scratch.bytes(panel_bytes + n_tokens * size_of::<Sums>());
    let (panels, sums) = bytes.split_at_mut(panel_bytes);
    // SAFETY: both types are plain numbers, for which every bit pattern is valid; the scratch starts at a cache line
    // and the size of the panels is a multiple of 32, so nothing falls off the front.
    let (panels, sums) = unsafe { (panels.align_to_mut().1, sums.align_to_mut().1) };
    (panels, &mut sums[..n_tokens])
}

/// Unpacks one super-block of `n_rows` rows from `first` on, and asks for the next one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_panels<B: Unpack>(
    task: &RowTask<'_>,
    first: usize,
    n_rows: usize,
    block: usize,
    panels: &mut [Panel],
) {
    let at = block * B::BYTES;
    for (p, panel) in panels.iter_mut().enumerate() {
        // The last panel repeats the last row rather than reading past the matrix.
        let row = |lane: usize| {
            task.weight
                .row(task.rows.start + first + (p * LANES + lane).min(n_rows - 1))
        };
        let rows: [&[u8]; LANES] = std::array::from_fn(row);
        for row in rows {
            let next = row.as_ptr().wrapping_add(at + B::BYTES).cast::<i8>();
            for line in 0..B::BYTES.div_ceil(64) {
                _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(line * 64));
            }
        }
        // SAFETY: this function's own features.
        unsafe { B::unpack(rows.map(|row| B::view(&row[at..])), panel) };
    }
}

/// Multiplies the panels with one super-block of every token.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply<B: Unpack>(task: &RowTask<'_>, block: usize, panels: &[Panel], sums: &mut [Sums]) {
    let n_tokens = task.acts.n_tokens;
    let acts = &task.acts.a256[block * n_tokens..][..n_tokens];
    let (acts, acts_rest) = acts.as_chunks::<TOKENS>();
    let (sums, sums_rest) = sums.as_chunks_mut::<TOKENS>();
    for (acts, sums) in acts.iter().zip(sums) {
        multiply_tokens::<B, TOKENS>(acts, panels, sums);
    }
    if let Ok(acts) = acts_rest.try_into()
        && let Ok(sums) = sums_rest.try_into()
    {
        multiply_tokens::<B, 2>(acts, panels, sums);
    } else {
        for (act, sums) in acts_rest.iter().zip(sums_rest) {
            multiply_tokens::<B, 1>(
                std::array::from_ref(act),
                panels,
                std::array::from_mut(sums),
            );
        }
    }
}

/// Multiplies the panels with `N` tokens.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_tokens<B: Unpack, const N: usize>(
    acts: &[A256Block; N],
    panels: &[Panel],
    sums: &mut [Sums; N],
) {
    let shifted: [Shifted; N] = std::array::from_fn(|t| shift(&acts[t]));
    let (pairs, rest) = panels.as_chunks::<2>();
    for (p, pair) in pairs.iter().enumerate() {
        tile::<B, 2, N>(pair, acts, &shifted, sums, p * 2);
    }
    for panel in rest {
        tile::<B, 1, N>(
            std::array::from_ref(panel),
            acts,
            &shifted,
            sums,
            pairs.len() * 2,
        );
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
fn tile<B: Unpack, const G: usize, const N: usize>(
    panels: &[Panel; G],
    acts: &[A256Block; N],
    shifted: &[Shifted; N],
    sums: &mut [Sums; N],
    first: usize,
) {
    let zero = _mm256_setzero_si256();
    let mut total = [[zero; N]; G];
    for sub in 0..256 / B::SUB {
        for group in 0..B::SUB / 4 / B::GROUP {
            let mut words = [[zero; N]; G];
            for i in 0..B::GROUP {
                let quad_index = sub * (B::SUB / 4) + group * B::GROUP + i;
                let weights: [__m256i; G] =
                    std::array::from_fn(|g| load(&panels[g].weights[quad_index]));
                for t in 0..N {
                    let x = quad(&acts[t].q, quad_index);
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
                    total[g][t] =
                        _mm256_add_epi32(total[g][t], _mm256_madd_epi16(words[g][t], scale));
                }
            }
        }
    }
    for g in 0..G {
        for t in 0..N {
            let mut min = zero;
            for j in 0..8 {
                let product =
                    _mm256_madd_epi16(load(&panels[g].mins[j]), pair(shifted[t].sum16[j]));
                min = _mm256_add_epi32(min, product);
            }
            let out = &mut sums[t].as_chunks_mut::<LANES>().0[first + g];
            let d = load_ps(&panels[g].d);
            let term = match B::OFFSET_LOG2 {
                Some(log2) => {
                    let offset = _mm256_sll_epi32(min, _mm_cvtsi32_si128(log2));
                    _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_sub_epi32(total[g][t], offset)))
                }
                None => {
                    let min = _mm256_mul_ps(load_ps(&panels[g].dmin), _mm256_cvtepi32_ps(min));
                    _mm256_fmsub_ps(d, _mm256_cvtepi32_ps(total[g][t]), min)
                }
            };
            store_ps(
                out,
                _mm256_fmadd_ps(_mm256_set1_ps(acts[t].base), term, load_ps(out)),
            );
        }
    }
}

/// Widens signed scales, one per 16 weights and four per result of a transposition, into the panel: as scales and, in
/// pairs, as what takes the offset back.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scales_per_16(scales: [__m256i; 4], panel: &mut Panel) {
    for j in 0..16 {
        // The byte goes to the upper half of the word, and an arithmetic shift brings it down with its sign.
        let shift = _mm256_set1_epi32(8 * (3 - (j % 4)) as i32);
        let high = _mm256_srai_epi32::<24>(_mm256_sllv_epi32(scales[j / 4], shift));
        let twice = _mm256_blend_epi16::<0xaa>(high, _mm256_slli_epi32::<16>(high));
        store(&mut panel.scales[j], twice);
    }
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
