//! Q6_K: 6-bit weights, sixteen sub-blocks of 16 with signed 8-bit scales.
//!
//! Block: 128 bytes of low nibbles, 64 bytes of high pairs of bits, 16 scales, d (half). Weights are stored 32 too large.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::{OutRows, RowTask, ThreadScratch};
use super::ops::{
    halves_of_rows, load, or_masked, store, store_ps, sum_registers, transpose_16x16,
    transpose_16x32,
};
use super::panel::{self, PanelFormat, with_tokens};
use super::stream::{self, StreamFormat};
use super::tile256::{Panel256, tile_of_16};
use crate::activation::{A256Block, ActBatch, StreamToken};

const BLOCK_BYTES: usize = 210;
const HIGH_BITS: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

/// Products of Q6_K rows.
///
/// # Safety
/// The processor has the features of the level.
pub(super) unsafe fn rows(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    // SAFETY: the caller's promise.
    unsafe {
        match task.acts.stream256 {
            Some(acts) => stream::rows::<Q6K>(task, acts, out, scratch),
            None => panel::rows::<Q6K>(task, out, scratch),
        }
    }
}

struct Q6K;

impl PanelFormat for Q6K {
    type Panel = Panel256;
    const UNIT_BYTES: usize = BLOCK_BYTES;

    unsafe fn unpack(from: *const u8, row_bytes: usize, _: usize, panel: &mut Panel256) {
        // SAFETY: the caller's promise.
        unsafe { unpack(from, row_bytes, panel) }
    }

    fn fits(acts: &ActBatch<'_>, unit: usize, tokens: Range<usize>) -> bool {
        acts.all_fit(unit, tokens, A256Block::FITS_Q6)
    }

    unsafe fn tile(
        panel: &Panel256,
        acts: &ActBatch<'_>,
        unit: usize,
        tokens: Range<usize>,
        fits: bool,
        sums: *mut f32,
        stride: usize,
    ) {
        let acts = acts.a256_of(unit, tokens);
        // SAFETY: the caller's promise.
        unsafe {
            match fits {
                true => with_tokens!(acts.len(), tile_of_16, [true], (panel, acts, sums, stride)),
                false => with_tokens!(acts.len(), tile_of_16, [false], (panel, acts, sums, stride)),
            }
        }
    }
}

/// Stores the signed bytes `scales` (16 per row, transposed) as pairs of words, the later sub-block low.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn store_scales(scales: [__m512i; 4], panel: &mut Panel256) {
    // Each byte into the upper half of its word, then an arithmetic shift extends the sign.
    let pair = |odd: i32, even: i32| {
        let lane = |l: i32| 0x80 | (odd + 4 * l) << 8 | 0x80 << 16 | (even + 4 * l) << 24;
        _mm512_broadcast_i32x4(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3)))
    };
    for (j, v) in scales.into_iter().enumerate() {
        store(
            &mut panel.scales[2 * j],
            _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, pair(1, 0))),
        );
        store(
            &mut panel.scales[2 * j + 1],
            _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, pair(3, 2))),
        );
    }
}

/// # Safety
/// The processor has the features; a block is readable in each of 16 rows.
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
    // SAFETY: scales and d lie inside the block.
    unsafe {
        store_scales(transpose_16x16(from.add(SCALES), row_bytes), panel);
        store_ps(&mut panel.d, halves_of_rows(from.add(D), row_bytes));
    }
    let (low4, top2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    for (n, w) in panel.w.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // SAFETY: bytes 0..192 of each block.
        let (a, b, h) = unsafe {
            (
                transpose_16x32(from.add(n * 64), row_bytes),
                transpose_16x32(from.add(n * 64 + 32), row_bytes),
                transpose_16x32(from.add(HIGH_BITS + n * 32), row_bytes),
            )
        };
        for i in 0..8 {
            let (a_high, b_high) = (_mm512_srli_epi16::<4>(a[i]), _mm512_srli_epi16::<4>(b[i]));
            store(
                &mut w[i],
                or_masked(
                    _mm512_and_si512(a[i], low4),
                    _mm512_slli_epi16::<4>(h[i]),
                    top2,
                ),
            );
            store(
                &mut w[8 + i],
                or_masked(
                    _mm512_and_si512(b[i], low4),
                    _mm512_slli_epi16::<2>(h[i]),
                    top2,
                ),
            );
            store(
                &mut w[16 + i],
                or_masked(_mm512_and_si512(a_high, low4), h[i], top2),
            );
            store(
                &mut w[24 + i],
                or_masked(
                    _mm512_and_si512(b_high, low4),
                    _mm512_srli_epi16::<2>(h[i]),
                    top2,
                ),
            );
        }
    }
}

impl StreamFormat for Q6K {
    const BLOCK_BYTES: usize = BLOCK_BYTES;

    unsafe fn terms<const T: usize>(
        from: *const u8,
        n_blocks: usize,
        at: usize,
        acts: &[StreamToken<'_>; T],
        terms: [*mut f32; T],
        ahead: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { terms_of(from, n_blocks, at, acts, terms, ahead) }
    }
}

/// Where packed sums find their scale: `packs(d0, d1)` of 64 weights each has sub-blocks l and 4 + l in lane l.
const SCALE_ORDER: [i16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = (i / 8 + i % 8 / 4 * 4) as i16;
        i += 1;
    }
    order
};

/// The 256 weights of a block as four registers in order, 32 too large.
///
/// # Safety
/// The processor has the features; a block is readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn weights(block: *const u8) -> [__m512i; 4] {
    let (low4, top2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    // The pairs of bits of 128 weights come from 32 bytes; rotation brings each half's pair to bits 4 and 5.
    let for_low = _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2);
    let for_high = _mm512_setr_epi64(0, 0, 0, 0, 62, 62, 62, 62);
    let half = |n: usize| {
        // SAFETY: bytes 0..192 of the block.
        let (l, h) = unsafe {
            (
                _mm512_loadu_si512(block.add(n * 64).cast()),
                _mm512_broadcast_i64x4(_mm256_loadu_si256(block.add(HIGH_BITS + n * 32).cast())),
            )
        };
        let l_high = _mm512_srli_epi16::<4>(l);
        [
            or_masked(
                _mm512_and_si512(l, low4),
                _mm512_rolv_epi64(h, for_low),
                top2,
            ),
            or_masked(
                _mm512_and_si512(l_high, low4),
                _mm512_rolv_epi64(h, for_high),
                top2,
            ),
        ]
    };
    let ([w0, w1], [w2, w3]) = (half(0), half(1));
    [w0, w1, w2, w3]
}

/// # Safety
/// See [`StreamFormat::terms`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn terms_of<const T: usize>(
    mut from: *const u8,
    n_blocks: usize,
    mut at: usize,
    acts: &[StreamToken<'_>; T],
    terms: [*mut f32; T],
    ahead: usize,
) {
    let zero = _mm512_setzero_si512();
    let order = load(&SCALE_ORDER);
    let order2 = _mm512_add_epi16(order, _mm512_set1_epi16(8));
    let period = acts[0].base.len();
    for first in (0..n_blocks).step_by(stream::GROUP) {
        stream::prefetch(from, ahead, (stream::GROUP * BLOCK_BYTES).div_ceil(64));
        let mut sums = [[zero; 4]; T];
        for r in 0..4 {
            let block = from.wrapping_add(r * BLOCK_BYTES);
            // SAFETY: block r is readable.
            let (w, scales) =
                unsafe { (weights(block), _mm_loadu_si128(block.add(SCALES).cast())) };
            let scales = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(scales));
            let scales = [
                _mm512_permutexvar_epi16(order, scales),
                _mm512_permutexvar_epi16(order2, scales),
            ];
            for t in 0..T {
                debug_assert!(at + r < acts[t].blocks.len());
                // SAFETY: blocks `at..at + 4` exist, as three follow the last.
                let act = unsafe { acts[t].blocks.get_unchecked(at + r) };
                let (q, start) = (act.q.as_chunks::<64>().0, act.start4.as_chunks::<16>().0);
                let dot = |i: usize| _mm512_dpbusd_epi32(load(&start[i]), w[i], load(&q[i]));
                let (d0, d1, d2, d3) = (dot(0), dot(1), dot(2), dot(3));
                // Sums of four products fit 16 bits: 4 · 32 · 127.
                let scales0 = _mm512_sllv_epi16(scales[0], load(&act.e_plain[0]));
                let scales1 = _mm512_sllv_epi16(scales[1], load(&act.e_plain[1]));
                let v = _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(d0, d1), scales0);
                sums[t][r] = _mm512_dpwssd_epi32(v, _mm512_packs_epi32(d2, d3), scales1);
            }
        }
        // SAFETY: the halves lie inside the four blocks.
        let d = [0, 1, 2, 3]
            .map(|r| unsafe { from.add(r * BLOCK_BYTES + D).cast::<i16>().read_unaligned() });
        let d = _mm_cvtph_ps(_mm_setr_epi16(d[0], d[1], d[2], d[3], 0, 0, 0, 0));
        for t in 0..T {
            let [s0, s1, s2, s3] = sums[t];
            let sum = _mm_cvtepi32_ps(sum_registers(s0, s1, s2, s3));
            // SAFETY: terms `first..first + 4` are writable.
            unsafe { _mm_storeu_ps(terms[t].add(first), _mm_mul_ps(d, sum)) };
        }
        from = from.wrapping_add(stream::GROUP * BLOCK_BYTES);
        at += stream::GROUP;
        while at >= period {
            at -= period;
        }
    }
}
