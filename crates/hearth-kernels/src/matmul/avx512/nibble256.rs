//! What Q4_K and Q5_K share: the header of scales and minimums, and streaming of packed nibbles.

use std::arch::x86_64::*;

use super::ops::{load, load_4x16, or_masked, store, store_ps, sum_registers, transpose_16x16};
use super::stream;
use super::tile256::Panel256;
use crate::activation::StreamToken;

/// Bytes of a Q4_K block: header, nibbles.
pub(super) const Q4K_BYTES: usize = 144;
/// Bytes of a Q5_K block: header, 32 bytes of fifth bits, nibbles.
pub(super) const Q5K_BYTES: usize = 176;

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
    ///
    /// # Safety
    /// The activations have blocks `at..at + 4`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub unsafe fn minimums(&self, act: &StreamToken<'_>, at: usize) -> __m128i {
        let words = _mm_setr_epi8(8, -1, 9, -1, 10, -1, 11, -1, 12, -1, 13, -1, 14, -1, 15, -1);
        let mins = _mm512_shuffle_epi8(self.bytes, _mm512_broadcast_i32x4(words));
        let four = |of: &[[i16; 8]]| {
            debug_assert!(at + 4 <= of.len());
            // SAFETY: the caller's promise.
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

/// The 256 weights of a block as four registers, in the order of `q_nibble`.
///
/// # Safety
/// The processor has the features; a block is readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn weights<const FIFTH_BIT: bool>(block: *const u8) -> [__m512i; 4] {
    let low4 = _mm512_set1_epi8(15);
    // SAFETY: the nibbles are the last 128 bytes of the block.
    let (a, b) = unsafe {
        let packed = block.add(if FIFTH_BIT { Q5K_BYTES } else { Q4K_BYTES } - 128);
        (
            _mm512_loadu_si512(packed.cast()),
            _mm512_loadu_si512(packed.add(64).cast()),
        )
    };
    let w = [
        _mm512_and_si512(a, low4),
        _mm512_and_si512(_mm512_srli_epi16::<4>(a), low4),
        _mm512_and_si512(b, low4),
        _mm512_and_si512(_mm512_srli_epi16::<4>(b), low4),
    ];
    if !FIFTH_BIT {
        return w;
    }
    // Bit j of byte l is the fifth bit of weight l of sub-block j: rotate it to bit 4. Registers hold sub-blocks 0 and 2, 1 and
    // 3, 4 and 6, 5 and 7.
    // SAFETY: 32 bytes from byte 16 on.
    let h = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(block.add(16).cast()) });
    let bit = _mm512_set1_epi8(16);
    let by = |a, b| _mm512_setr_epi64(a, a, a, a, b, b, b, b);
    [
        or_masked(w[0], _mm512_rolv_epi64(h, by(4, 2)), bit),
        or_masked(w[1], _mm512_rolv_epi64(h, by(3, 1)), bit),
        or_masked(w[2], _mm512_rolv_epi64(h, by(0, 62)), bit),
        or_masked(w[3], _mm512_rolv_epi64(h, by(63, 61)), bit),
    ]
}

/// The terms of Q4_K or, with the fifth bit, Q5_K.
///
/// # Safety
/// See [`super::format256::Format256::terms`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
pub(super) unsafe fn terms<const T: usize, const FIFTH_BIT: bool>(
    mut from: *const u8,
    n_blocks: usize,
    mut at: usize,
    acts: &[StreamToken<'_>; T],
    terms: [*mut f32; T],
    ahead: usize,
) {
    let block_bytes = if FIFTH_BIT { Q5K_BYTES } else { Q4K_BYTES };
    let zero = _mm512_setzero_si512();
    let period = acts[0].base.len();
    for first in (0..n_blocks).step_by(stream::GROUP) {
        stream::prefetch(from, ahead, stream::GROUP * block_bytes / 64);
        // SAFETY: four blocks are readable.
        let headers = unsafe { Headers::load(from, block_bytes) };
        let mut sums = [[zero; 4]; T];
        for r in 0..4 {
            // SAFETY: block r is readable.
            let w = unsafe { weights::<FIFTH_BIT>(from.add(r * block_bytes)) };
            let scales = [headers.scales(r as i8, 0), headers.scales(r as i8, 1)];
            for t in 0..T {
                debug_assert!(at + r < acts[t].blocks.len());
                // SAFETY: blocks `at..at + 4` exist, as three follow the last.
                let act = unsafe { acts[t].blocks.get_unchecked(at + r) };
                let q = act.q_nibble.as_chunks::<64>().0;
                let d0 = _mm512_dpbusd_epi32(zero, w[0], load(&q[0]));
                let d1 = _mm512_dpbusd_epi32(zero, w[1], load(&q[1]));
                let d2 = _mm512_dpbusd_epi32(zero, w[2], load(&q[2]));
                let d3 = _mm512_dpbusd_epi32(zero, w[3], load(&q[3]));
                // Sums of four products fit 16 bits: 4 · 31 · 127.
                let scales0 = _mm512_sllv_epi16(scales[0], load(&act.e_nibble[0]));
                let scales1 = _mm512_sllv_epi16(scales[1], load(&act.e_nibble[1]));
                let v = _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(d0, d1), scales0);
                sums[t][r] = _mm512_dpwssd_epi32(v, _mm512_packs_epi32(d2, d3), scales1);
            }
        }
        for t in 0..T {
            let [a, b, c, d] = sums[t];
            let sum = _mm_cvtepi32_ps(sum_registers(a, b, c, d));
            // SAFETY: blocks `at..at + 4` exist, as three follow the last.
            let min = unsafe { headers.minimums(&acts[t], at) };
            let min = _mm_mul_ps(headers.dmin, _mm_cvtepi32_ps(min));
            // SAFETY: terms `first..first + 4` are writable.
            unsafe { _mm_storeu_ps(terms[t].add(first), _mm_fmsub_ps(headers.d, sum, min)) };
        }
        from = from.wrapping_add(stream::GROUP * block_bytes);
        at += stream::GROUP;
        while at >= period {
            at -= period;
        }
    }
}
