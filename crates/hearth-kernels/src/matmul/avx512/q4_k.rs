//! Q4_K: 4-bit weights, eight sub-blocks of 32 with 6-bit scales and minimums.
//!
//! Block: d, dmin (halves), 12 bytes of scales and minimums, 128 bytes of nibbles (sub-block 2p low, 2p + 1 high).

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::{OutRows, RowTask, ThreadScratch};
use super::ops::{
    load, load_4x16, or_masked, store, store_ps, sum_registers, transpose_16x16, transpose_16x32,
};
use super::panel::{self, PanelFormat, with_tokens};
use super::stream::{self, StreamFormat};
use super::tile256::{Panel256, tile_of_32};
use crate::activation::{A256Block, ActBatch, StreamToken};

const BLOCK_BYTES: usize = 144;

/// Products of Q4_K rows.
///
/// # Safety
/// The processor has the features of the level.
pub(super) unsafe fn rows(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    // SAFETY: the caller's promise.
    unsafe {
        match task.acts.stream256 {
            Some(acts) => stream::rows::<Q4K>(task, acts, out, scratch),
            None => panel::rows::<Q4K>(task, out, scratch),
        }
    }
}

struct Q4K;

impl PanelFormat for Q4K {
    type Panel = Panel256;
    const UNIT_BYTES: usize = BLOCK_BYTES;

    unsafe fn unpack(from: *const u8, row_bytes: usize, _: usize, panel: &mut Panel256) {
        // SAFETY: the caller's promise.
        unsafe { unpack(from, row_bytes, panel) }
    }

    fn fits(acts: &ActBatch<'_>, unit: usize, tokens: Range<usize>) -> bool {
        acts.all_fit(unit, tokens, A256Block::FITS_Q4)
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
                true => with_tokens!(
                    acts.len(),
                    tile_of_32,
                    [true, 0],
                    (panel, acts, sums, stride)
                ),
                false => with_tokens!(
                    acts.len(),
                    tile_of_32,
                    [false, 0],
                    (panel, acts, sums, stride)
                ),
            }
        }
    }
}

/// Scales, minimums, d and dmin of 16 rows, which Q4_K and Q5_K store alike in the first 16 bytes of a block.
///
/// # Safety
/// The processor has the features; 16 bytes are readable in each row.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn unpack_header(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
    // SAFETY: the caller's promise.
    let [dd, a, b, c] = unsafe { transpose_16x16(from, row_bytes) };
    let (low6, low4, top2) = (
        _mm512_set1_epi8(63),
        _mm512_set1_epi8(15),
        _mm512_set1_epi8(0x30),
    );
    let scales0 = _mm512_and_si512(a, low6);
    let mins0 = _mm512_and_si512(b, low6);
    let scales1 = or_masked(_mm512_and_si512(c, low4), _mm512_srli_epi32::<2>(a), top2);
    let c_high = _mm512_and_si512(_mm512_srli_epi32::<4>(c), low4);
    let mins1 = or_masked(c_high, _mm512_srli_epi32::<2>(b), top2);
    // Byte `odd` of each lane into its low half, byte `even` into its high half.
    let pair = |odd: i32, even: i32| {
        let lane = |l: i32| (odd + 4 * l) | 0x8000 | (even + 4 * l) << 16 | 0x8000 << 16;
        _mm512_broadcast_i32x4(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3)))
    };
    let (first, second) = (pair(1, 0), pair(3, 2));
    for (i, (scales, mins)) in [(scales0, mins0), (scales1, mins1)].into_iter().enumerate() {
        store(&mut panel.scales[2 * i], _mm512_shuffle_epi8(scales, first));
        store(
            &mut panel.scales[2 * i + 1],
            _mm512_shuffle_epi8(scales, second),
        );
        store(&mut panel.mins[2 * i], _mm512_shuffle_epi8(mins, first));
        store(
            &mut panel.mins[2 * i + 1],
            _mm512_shuffle_epi8(mins, second),
        );
    }
    store_ps(&mut panel.d, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(dd)));
    store_ps(
        &mut panel.dmin,
        _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(dd))),
    );
}

/// # Safety
/// The processor has the features; a block is readable in each of 16 rows.
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
    // SAFETY: the caller's promise.
    unsafe { unpack_header(from, row_bytes, panel) };
    let low4 = _mm512_set1_epi8(15);
    for (u, w) in panel.w.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // SAFETY: bytes 16..144 of each block.
        let packed = unsafe { transpose_16x32(from.add(16 + u * 32), row_bytes) };
        for (i, v) in packed.into_iter().enumerate() {
            store(&mut w[i], _mm512_and_si512(v, low4));
            store(
                &mut w[8 + i],
                _mm512_and_si512(_mm512_srli_epi16::<4>(v), low4),
            );
        }
    }
}

impl StreamFormat for Q4K {
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

/// The first 16 bytes of four blocks of `block_bytes`, with scales and minimums spread to bytes.
pub(super) struct Headers {
    /// Per 128-bit lane: eight scales, eight minimums.
    bytes: __m512i,
    pub d: __m128,
    pub dmin: __m128,
}

impl Headers {
    /// # Safety
    /// The processor has the features; four headers are readable `block_bytes` apart.
    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn load(from: *const u8, block_bytes: usize) -> Headers {
        // SAFETY: the caller's promise.
        let raw = unsafe { load_4x16([0, 1, 2, 3].map(|i| from.add(i * block_bytes))) };
        let per_lane = |a, b, c, d| _mm512_broadcast_i32x4(_mm_setr_epi32(a, b, c, d));
        // Words per lane: scales 0-3, scales 4-7, minimums 0-3, minimums 4-7.
        let low = _mm512_srlv_epi32(
            _mm512_shuffle_epi32::<0b11_10_11_01>(raw),
            per_lane(0, 0, 0, 4),
        );
        let low = _mm512_and_si512(
            low,
            per_lane(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f),
        );
        let top = _mm512_srli_epi32::<2>(_mm512_shuffle_epi32::<0b10_10_01_01>(raw));
        let bytes = or_masked(low, top, per_lane(0, 0x3030_3030, 0, 0x3030_3030));
        // Word 0 of each lane, then all four d before all four dmin.
        let first = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
        let halves = _mm512_castsi512_si128(_mm512_permutexvar_epi32(first, raw));
        let order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        let floats = _mm256_cvtph_ps(_mm_shuffle_epi8(halves, order));
        Headers {
            bytes,
            d: _mm256_castps256_ps128(floats),
            dmin: _mm256_extractf128_ps::<1>(floats),
        }
    }

    /// Scales of block `r` as words, in the order of packed sums; `half` selects sub-blocks 0-3 or 4-7.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub fn scales(&self, r: i8, half: i8) -> __m512i {
        const ORDER: [u8; 64] = {
            let mut order = [0; 64];
            let mut i = 0;
            while i < 64 {
                order[i] = (i / 32 * 2 + i % 16 / 8) as u8;
                i += 1;
            }
            order
        };
        let at = _mm512_add_epi8(load(&ORDER), _mm512_set1_epi8(r * 16 + half * 4));
        _mm512_maskz_permutexvar_epi8(0x5555_5555_5555_5555, at, self.bytes)
    }

    /// Σ min·2^e·Σq of the four blocks.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn minimums(&self, act: &StreamToken<'_>, at: usize) -> __m128i {
        let words = _mm_setr_epi8(8, -1, 9, -1, 10, -1, 11, -1, 12, -1, 13, -1, 14, -1, 15, -1);
        let mins = _mm512_shuffle_epi8(self.bytes, _mm512_broadcast_i32x4(words));
        let four = |of: &[[i16; 8]]| {
            debug_assert!(at + 4 <= of.len());
            // SAFETY: blocks `at..at + 4` exist, as three follow the last.
            unsafe { _mm512_loadu_si512(of.as_ptr().add(at).cast()) }
        };
        let mins = _mm512_sllv_epi16(mins, four(act.e));
        let v = _mm512_dpwssd_epi32(_mm512_setzero_si512(), mins, four(act.sum32));
        let v = _mm512_add_epi32(v, _mm512_shuffle_epi32::<0b10_11_00_01>(v));
        let v = _mm512_add_epi32(v, _mm512_shuffle_epi32::<0b01_00_11_10>(v));
        let first = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
        _mm512_castsi512_si128(_mm512_permutexvar_epi32(first, v))
    }
}

/// # Safety
/// See [`StreamFormat::terms`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn terms_of<const T: usize>(
    mut from: *const u8,
    n_blocks: usize,
    mut at: usize,
    acts: &[StreamToken<'_>; T],
    terms: [*mut f32; T],
    ahead: usize,
) {
    let low4 = _mm512_set1_epi8(15);
    let zero = _mm512_setzero_si512();
    let period = acts[0].base.len();
    for first in (0..n_blocks).step_by(stream::GROUP) {
        stream::prefetch(from, ahead, stream::GROUP * BLOCK_BYTES / 64);
        // SAFETY: four blocks are readable.
        let headers = unsafe { Headers::load(from, BLOCK_BYTES) };
        let mut sums = [[zero; 4]; T];
        for r in 0..4 {
            // SAFETY: block r has 128 bytes of nibbles from byte 16 on.
            let (a, b) = unsafe {
                let packed = from.add(r * BLOCK_BYTES + 16);
                (
                    _mm512_loadu_si512(packed.cast()),
                    _mm512_loadu_si512(packed.add(64).cast()),
                )
            };
            let (a_low, a_high) = (
                _mm512_and_si512(a, low4),
                _mm512_and_si512(_mm512_srli_epi16::<4>(a), low4),
            );
            let (b_low, b_high) = (
                _mm512_and_si512(b, low4),
                _mm512_and_si512(_mm512_srli_epi16::<4>(b), low4),
            );
            let scales = [headers.scales(r as i8, 0), headers.scales(r as i8, 1)];
            for t in 0..T {
                debug_assert!(at + r < acts[t].blocks.len());
                // SAFETY: blocks `at..at + 4` exist, as three follow the last.
                let act = unsafe { acts[t].blocks.get_unchecked(at + r) };
                let q = act.q_nibble.as_chunks::<64>().0;
                let d0 = _mm512_dpbusd_epi32(zero, a_low, load(&q[0]));
                let d1 = _mm512_dpbusd_epi32(zero, a_high, load(&q[1]));
                let d2 = _mm512_dpbusd_epi32(zero, b_low, load(&q[2]));
                let d3 = _mm512_dpbusd_epi32(zero, b_high, load(&q[3]));
                // Sums of four products fit 16 bits: 4 · 15 · 127.
                let scales0 = _mm512_sllv_epi16(scales[0], load(&act.e_nibble[0]));
                let scales1 = _mm512_sllv_epi16(scales[1], load(&act.e_nibble[1]));
                let v = _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(d0, d1), scales0);
                sums[t][r] = _mm512_dpwssd_epi32(v, _mm512_packs_epi32(d2, d3), scales1);
            }
        }
        for t in 0..T {
            let [a, b, c, d] = sums[t];
            let sum = _mm_cvtepi32_ps(sum_registers(a, b, c, d));
            let min = _mm_mul_ps(
                headers.dmin,
                _mm_cvtepi32_ps(headers.minimums(&acts[t], at)),
            );
            // SAFETY: terms `first..first + 4` are writable.
            unsafe { _mm_storeu_ps(terms[t].add(first), _mm_fmsub_ps(headers.d, sum, min)) };
        }
        from = from.wrapping_add(stream::GROUP * BLOCK_BYTES);
        at += stream::GROUP;
        while at >= period {
            at -= period;
        }
    }
}
