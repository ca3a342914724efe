//! IQ4_XS: nibbles that are indices into a table of signed bytes, eight sub-blocks of 32 with 6-bit scales.
//!
//! Block: d (half), two high bits of each scale (16 bits), four low bits of each (32 bits), 128 bytes of nibbles (16 per
//! sub-block, the first half of it low).

use std::arch::x86_64::*;

use super::format256::Format256;
use super::ops::{load, load_4x16, or_masked, store, store_ps, sum_registers, transpose_16x16};
use super::sixteen256::four_halves;
use super::stream;
use super::tile256::{Panel256, tile_wide};
use crate::activation::{A256Block, StreamToken};
use crate::quant::iq4_nl::VALUES;

const BLOCK_BYTES: usize = 136;
const NIBBLES: usize = 8;

pub(super) struct IQ4XS;

impl Format256 for IQ4XS {
    const BLOCK_BYTES: usize = BLOCK_BYTES;
    // There is one path only.
    const FITS: u32 = 0;

    unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
        // SAFETY: the caller's promise.
        unsafe { unpack(from, row_bytes, panel) }
    }

    unsafe fn tile<const G: usize, const N: usize, const FITS: bool>(
        panels: [&Panel256; G],
        acts: &[A256Block],
        sums: *mut f32,
        stride: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile_wide::<G, N>(panels, acts, sums, stride) }
    }

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

/// The values plus 128 or, for `offset` 0, without their signs.
const fn table(offset: i16) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (VALUES[i] as i16 + offset).unsigned_abs() as u8;
        i += 1;
    }
    table
}

/// A table in every 128-bit lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn lookup(table: &[u8; 16]) -> __m512i {
    // SAFETY: the array is 16 bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

/// # Safety
/// The processor has the features; a block is readable in each of 16 rows.
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
    // SAFETY: the first 16 bytes of each block.
    let [head, low, ..] = unsafe { transpose_16x16(from, row_bytes) };
    store_ps(&mut panel.d, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(head)));
    for (j, to) in panel.scales.iter_mut().enumerate() {
        let low = _mm512_srlv_epi32(low, _mm512_set1_epi32(4 * j as i32));
        // The scale's two high bits are 16 + 2j and the next one: to bits 4 and 5.
        let high = _mm512_srlv_epi32(head, _mm512_set1_epi32(12 + 2 * j as i32));
        let low = _mm512_and_si512(low, _mm512_set1_epi32(15));
        let scale = or_masked(low, high, _mm512_set1_epi32(0x30));
        let scale = _mm512_sub_epi32(scale, _mm512_set1_epi32(32));
        let times256 = _mm512_slli_epi32::<24>(scale);
        store(to, or_masked(times256, scale, _mm512_set1_epi32(0xffff)));
    }
    let (values, low4) = (lookup(&const { table(128) }), _mm512_set1_epi8(15));
    for (j, w) in panel.w.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // SAFETY: bytes 8..136 of each block.
        let packed = unsafe { transpose_16x16(from.add(NIBBLES + j * 16), row_bytes) };
        for (i, v) in packed.into_iter().enumerate() {
            let high = _mm512_srli_epi16::<4>(v);
            let value = |nibbles| _mm512_shuffle_epi8(values, _mm512_and_si512(nibbles, low4));
            store(&mut w[i], value(v));
            store(&mut w[4 + i], value(high));
        }
    }
}

/// The scales of four blocks as words, block r in lane r of 128 bits.
///
/// # Safety
/// The processor has the features; four blocks are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn scales(from: *const u8) -> __m512i {
    // SAFETY: the first 16 bytes of each block.
    let head = unsafe { load_4x16([0, 1, 2, 3].map(|r| from.add(r * BLOCK_BYTES))) };
    let head = _mm512_unpacklo_epi64(head, head);
    // From which bit of the block's first 64 on each byte is taken; only the lower byte of each word counts.
    let bits = |first: i64, step: i64| {
        let four = |j: i64| (0..4).fold(0, |all, i| all | (first + step * (j + i)) << (16 * i));
        _mm512_broadcast_i32x4(_mm_set_epi64x(four(4), four(0)))
    };
    let low = _mm512_multishift_epi64_epi8(bits(32, 4), head);
    let high = _mm512_multishift_epi64_epi8(bits(12, 2), head);
    let low = _mm512_and_si512(low, _mm512_set1_epi16(15));
    let scale = or_masked(low, high, _mm512_set1_epi16(0x30));
    _mm512_sub_epi16(scale, _mm512_set1_epi16(32))
}

/// The nibbles of 64 columns in order, in the low halves of bytes.
///
/// # Safety
/// The processor has the features; 32 bytes are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn nibbles(from: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    let v = _mm512_castsi256_si512(unsafe { _mm256_loadu_si256(from.cast()) });
    let v = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3), v);
    let v = _mm512_srlv_epi64(v, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
    _mm512_and_si512(v, _mm512_set1_epi8(15))
}

/// Two sub-blocks of 32 words-to-be, `2i` and `2i + 1`: where each word finds its scale among a block's eight words.
const SCALE_ORDER: [[u8; 64]; 4] = {
    let mut order = [[0; 64]; 4];
    let mut at = 0;
    while at < 256 {
        let (i, byte) = (at / 64, at % 64);
        order[i][byte] = (2 * (2 * i + byte / 32) + byte % 2) as u8;
        at += 1;
    }
    order
};

/// Values lose their signs and the activations take them over: 2 · 127 · 127 fits the words that `vpmaddubsw` makes.
///
/// # Safety
/// See [`Format256::terms`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn terms_of<const T: usize>(
    mut from: *const u8,
    n_blocks: usize,
    mut at: usize,
    acts: &[StreamToken<'_>; T],
    terms: [*mut f32; T],
    ahead: usize,
) {
    let zero = _mm512_setzero_si512();
    let magnitudes = lookup(&const { table(0) });
    let period = acts[0].base.len();
    for first in (0..n_blocks).step_by(stream::GROUP) {
        stream::prefetch(from, ahead, (stream::GROUP * BLOCK_BYTES).div_ceil(64));
        // SAFETY: four blocks are readable.
        let scales = unsafe { scales(from) };
        let scales: [__m512i; T] = std::array::from_fn(|t| {
            debug_assert!(at + 4 <= acts[t].e.len());
            // SAFETY: blocks `at..at + 4` exist, as three follow the last.
            let e = unsafe { _mm512_loadu_si512(acts[t].e.as_ptr().add(at).cast()) };
            _mm512_sllv_epi16(scales, e)
        });
        let mut sums = [[zero; 4]; T];
        for r in 0..4 {
            let mut block_scales = [zero; T];
            for t in 0..T {
                let lane = _mm512_set1_epi64(2 * r as i64);
                let lane = _mm512_add_epi64(lane, _mm512_setr_epi64(0, 1, 0, 1, 0, 1, 0, 1));
                block_scales[t] = _mm512_permutexvar_epi64(lane, scales[t]);
            }
            for i in 0..4 {
                // SAFETY: block r is readable.
                let w = unsafe { nibbles(from.add(r * BLOCK_BYTES + NIBBLES + i * 32)) };
                // The first eight values are the negative ones.
                let negative = _mm512_testn_epi8_mask(w, _mm512_set1_epi8(8));
                let w = _mm512_shuffle_epi8(magnitudes, w);
                for t in 0..T {
                    // SAFETY: as above.
                    let act = unsafe { acts[t].blocks.get_unchecked(at + r) };
                    let q = load(&act.q.as_chunks::<64>().0[i]);
                    let q = _mm512_mask_sub_epi8(q, negative, zero, q);
                    let scale = _mm512_shuffle_epi8(block_scales[t], load(&SCALE_ORDER[i]));
                    let pairs = _mm512_maddubs_epi16(w, q);
                    sums[t][r] = _mm512_dpwssd_epi32(sums[t][r], pairs, scale);
                }
            }
        }
        // SAFETY: the halves lie inside the four blocks.
        let d = unsafe { four_halves(from, BLOCK_BYTES) };
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
