//! Q5_K: 5-bit weights, eight sub-blocks of 32 with 6-bit scales and minimums.
//!
//! Block: d, dmin (halves), 12 bytes of scales and minimums, 32 bytes of fifth bits (bit j of byte l:
//! weight l of sub-block j), 128 bytes of nibbles (sub-block 2p low, 2p + 1 high).

use std::arch::x86_64::*;

use super::format256::Format256;
use super::nibble256::{self, Q5K_BYTES, unpack_header};
use super::ops::{or_masked, store, transpose_16x32};
use super::tile256::{Panel256, tile_of_32};
use crate::activation::{A256Block, StreamToken};

pub(super) struct Q5K;

impl Format256 for Q5K {
    const BLOCK_BYTES: usize = Q5K_BYTES;
    const FITS: u32 = A256Block::FITS_Q5;

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
        unsafe { tile_of_32::<G, N, FITS, 16>(panels, acts, sums, stride) }
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
        unsafe { nibble256::terms::<T, true>(from, n_blocks, at, acts, terms, ahead) }
    }
}

/// # Safety
/// The processor has the features; a block is readable in each of 16 rows.
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn unpack(from: *const u8, row_bytes: usize, panel: &mut Panel256) {
    // SAFETY: the caller's promise.
    unsafe { unpack_header(from, row_bytes, panel) };
    let (low4, bit) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
    // SAFETY: bytes 16..48 of each block.
    let fifth = unsafe { transpose_16x32(from.add(16), row_bytes) };
    for (u, w) in panel.w.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // SAFETY: bytes 48..176 of each block.
        let packed = unsafe { transpose_16x32(from.add(48 + u * 32), row_bytes) };
        // The sub-block's bit of each byte to bit 4; a rotation by a few bits moves none of them out of its byte.
        let (first, second) = (
            _mm512_set1_epi64(4 - 2 * u as i64),
            _mm512_set1_epi64(3 - 2 * u as i64),
        );
        for i in 0..8 {
            let (low, high) = (packed[i], _mm512_srli_epi16::<4>(packed[i]));
            store(
                &mut w[i],
                or_masked(
                    _mm512_and_si512(low, low4),
                    _mm512_rolv_epi64(fifth[i], first),
                    bit,
                ),
            );
            store(
                &mut w[8 + i],
                or_masked(
                    _mm512_and_si512(high, low4),
                    _mm512_rolv_epi64(fifth[i], second),
                    bit,
                ),
            );
        }
    }
}
