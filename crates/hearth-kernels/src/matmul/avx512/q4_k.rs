//! Q4_K: 4-bit weights, eight sub-blocks of 32 with 6-bit scales and minimums.
//!
//! Block: d, dmin (halves), 12 bytes of scales and minimums, 128 bytes of nibbles (sub-block 2p low, 2p + 1 high).

use std::arch::x86_64::*;

use super::format256::Format256;
use super::nibble256::{self, Q4K_BYTES, unpack_header};
use super::ops::{store, transpose_16x32};
use super::tile256::{Panel256, tile_of_32};
use crate::activation::{A256Block, StreamToken};

pub(super) struct Q4K;

impl Format256 for Q4K {
    const BLOCK_BYTES: usize = Q4K_BYTES;
    const FITS: u32 = A256Block::FITS_Q4;

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
        unsafe { tile_of_32::<G, N, FITS, 0>(panels, acts, sums, stride) }
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
        unsafe { nibble256::terms::<T, false>(from, n_blocks, at, acts, terms, ahead) }
    }
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
