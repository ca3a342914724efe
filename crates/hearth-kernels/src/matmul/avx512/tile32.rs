//! Tiles of tokens for formats with blocks of 32: unsigned weights against A32 activations.

use std::arch::x86_64::*;
use std::ops::Range;

use super::ops::{broadcast4, load, load_ps, store};
use super::panel::{PanelFormat, with_sizes};
use crate::activation::{A32Block, ActBatch};

/// Blocks of a unit.
pub(super) const BLOCKS: usize = 8;

/// 256 columns of 16 rows; row r is lane r.
#[repr(C, align(64))]
pub(super) struct Panel32 {
    /// Weights plus the format's offset: line 8b + i has columns 4i..4i+4 of block b of every row.
    pub w: [[u8; 64]; 64],
    pub d: [[f32; 16]; BLOCKS],
    pub m: [[f32; 16]; BLOCKS],
}

/// How a format with blocks of 32 lies in memory.
pub(super) trait Format32 {
    /// Bytes of a block.
    const BLOCK_BYTES: usize;
    /// The loaders return weights this much too large, so that none is negative: a power of two or 0.
    const OFFSET: i32;
    /// Whether blocks have a minimum.
    const HAS_MIN: bool;
    /// Order of [`Format32::unit`]: packed nibbles, or pairs of blocks.
    const IS_NIBBLE: bool;

    /// A block of each of 16 rows: register i has columns 4i..4i+4, row r in lane r.
    ///
    /// # Safety
    /// The processor has the features of the level; a block is readable in each row.
    unsafe fn rows(from: *const u8, row_bytes: usize) -> [__m512i; 8];

    /// Eight blocks of one row in the order of `q_nibble` or `q_pair`.
    ///
    /// # Safety
    /// The processor has the features of the level; eight blocks are readable.
    unsafe fn unit(from: *const u8) -> [__m512i; 4];

    /// Scales of `N` blocks `stride` bytes apart.
    ///
    /// # Safety
    /// The blocks are readable.
    unsafe fn scales<const N: usize>(from: *const u8, stride: usize) -> [f32; N];

    /// Minimums of `N` blocks, where the format has them.
    ///
    /// # Safety
    /// The blocks are readable.
    unsafe fn mins<const N: usize>(from: *const u8, stride: usize) -> [f32; N] {
        let _ = (from, stride);
        [0.0; N]
    }
}

/// Every block format of 32 has panels.
pub(super) struct Panels<F>(F);

impl<F: Format32> PanelFormat for Panels<F> {
    type Panel = Panel32;
    const UNIT_BYTES: usize = BLOCKS * F::BLOCK_BYTES;

    unsafe fn unpack(from: *const u8, row_bytes: usize, n_blocks: usize, panel: &mut Panel32) {
        // SAFETY: the caller's promise.
        unsafe { unpack::<F>(from, row_bytes, n_blocks, panel) }
    }

    fn fits(_: &ActBatch<'_>, _: usize, _: Range<usize>) -> bool {
        true
    }

    unsafe fn tile(
        panels: &[Panel32],
        acts: &ActBatch<'_>,
        unit: usize,
        tokens: Range<usize>,
        _: bool,
        sums: *mut f32,
        stride: usize,
    ) {
        let first = unit * BLOCKS;
        let n_blocks = BLOCKS.min(acts.n_cols / 32 - first);
        let (n_tokens, stride_acts) = (tokens.len(), acts.n_tokens);
        let acts = &acts.a32[first * stride_acts + tokens.start..];
        // SAFETY: the caller's promise.
        unsafe {
            with_sizes!(
                panels,
                n_tokens,
                tile,
                [F],
                (n_blocks, acts, stride_acts, sums, stride)
            )
        }
    }
}

/// # Safety
/// See [`PanelFormat::unpack`].
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
unsafe fn unpack<F: Format32>(
    from: *const u8,
    row_bytes: usize,
    n_blocks: usize,
    panel: &mut Panel32,
) {
    for b in 0..n_blocks.min(BLOCKS) {
        // SAFETY: block b of each row.
        let (lines, d) = unsafe {
            let block = from.add(b * F::BLOCK_BYTES);
            if F::HAS_MIN {
                panel.m[b] = F::mins(block, row_bytes);
            }
            (F::rows(block, row_bytes), F::scales(block, row_bytes))
        };
        panel.d[b] = d;
        for i in 0..8 {
            store(&mut panel.w[b * 8 + i], lines[i]);
        }
    }
}

/// The chains of G · 16 rows and N tokens over the blocks of a unit. `acts` begins with the first token of the first block.
///
/// # Safety
/// The processor has the features; `sums` has 16 floats per panel at each `token * stride` for N tokens.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<const G: usize, const N: usize, F: Format32>(
    panels: [&Panel32; G],
    n_blocks: usize,
    acts: &[A32Block],
    stride_acts: usize,
    sums: *mut f32,
    stride: usize,
) {
    let mut sum = [[_mm512_setzero_ps(); N]; G];
    for g in 0..G {
        for t in 0..N {
            // SAFETY: the caller's promise.
            sum[g][t] = unsafe { _mm512_loadu_ps(sums.add(t * stride + g * 16)) };
        }
    }
    let of =
        |b: usize| -> &[A32Block; N] { acts[b * stride_acts..][..N].try_into().expect("N tokens") };
    // Two blocks side by side: a dot product takes four or five cycles to add to, so that many must be under way at once.
    let n_blocks = n_blocks.min(BLOCKS);
    for b in (0..n_blocks - n_blocks % 2).step_by(2) {
        add_blocks::<G, N, 2, F>(&mut sum, panels, b, [of(b), of(b + 1)]);
    }
    if n_blocks % 2 == 1 {
        add_blocks::<G, N, 1, F>(&mut sum, panels, n_blocks - 1, [of(n_blocks - 1)]);
    }
    for g in 0..G {
        for t in 0..N {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(sums.add(t * stride + g * 16), sum[g][t]) };
        }
    }
}

/// Continues the chains over K blocks from block `b` on.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn add_blocks<const G: usize, const N: usize, const K: usize, F: Format32>(
    sum: &mut [[__m512; N]; G],
    panels: [&Panel32; G],
    b: usize,
    acts: [&[A32Block; N]; K],
) {
    let mut dots = [[[_mm512_setzero_si512(); N]; G]; K];
    if F::OFFSET != 0 {
        for k in 0..K {
            for t in 0..N {
                let minus_sum = _mm512_set1_epi32(acts[k][t].minus_sum);
                let start = match F::OFFSET {
                    8 => _mm512_slli_epi32::<3>(minus_sum),
                    16 => _mm512_slli_epi32::<4>(minus_sum),
                    128 => _mm512_slli_epi32::<7>(minus_sum),
                    _ => unreachable!("offsets are 0, 8, 16 or 128"),
                };
                for g in 0..G {
                    dots[k][g][t] = start;
                }
            }
        }
    }
    assert!(b + K <= BLOCKS, "blocks of one unit");
    for i in 0..8 {
        for k in 0..K {
            let mut w = [_mm512_setzero_si512(); G];
            for g in 0..G {
                w[g] = load(&panels[g].w[(b + k) * 8 + i]);
            }
            for t in 0..N {
                // SAFETY: eight times four are the 32 activations.
                let q = unsafe { broadcast4(&acts[k][t].q, i * 4) };
                for g in 0..G {
                    dots[k][g][t] = _mm512_dpbusd_epi32(dots[k][g][t], w[g], q);
                }
            }
        }
    }
    for k in 0..K {
        for t in 0..N {
            let act = &acts[k][t];
            let (step, scaled) = (
                _mm512_set1_ps(act.step),
                _mm512_set1_ps(act.sum as f32 * act.step),
            );
            for g in 0..G {
                let dot = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[k][g][t]), step);
                sum[g][t] = _mm512_fmadd_ps(load_ps(&panels[g].d[b + k]), dot, sum[g][t]);
                if F::HAS_MIN {
                    sum[g][t] = _mm512_fmadd_ps(load_ps(&panels[g].m[b + k]), scaled, sum[g][t]);
                }
            }
        }
    }
}
