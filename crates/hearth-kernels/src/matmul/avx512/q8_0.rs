//! Q8_0: a half and 32 signed bytes.

use std::arch::x86_64::*;

use super::ops::{load_2x32, read_halves, transpose_16x32};
use super::tile32::Format32;

pub(super) struct Q8_0;

impl Format32 for Q8_0 {
    const BLOCK_BYTES: usize = 34;
    const OFFSET: i32 = 128;
    const HAS_MIN: bool = false;
    const IS_NIBBLE: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn rows(from: *const u8, row_bytes: usize) -> [__m512i; 8] {
        // SAFETY: the caller's promise.
        let mut lines = unsafe { transpose_16x32(from.add(2), row_bytes) };
        for line in &mut lines {
            *line = _mm512_xor_si512(*line, _mm512_set1_epi8(-128));
        }
        lines
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn unit(from: *const u8) -> [__m512i; 4] {
        let pair = |j: usize| {
            // SAFETY: blocks j and j + 4 of the caller's eight.
            let w = unsafe { load_2x32(from.add(j * 34 + 2), from.add((j + 4) * 34 + 2)) };
            _mm512_xor_si512(w, _mm512_set1_epi8(-128))
        };
        [pair(0), pair(1), pair(2), pair(3)]
    }

    #[inline]
    unsafe fn scales<const N: usize>(from: *const u8, stride: usize) -> [f32; N] {
        // SAFETY: the caller's promise.
        unsafe { read_halves(from, stride) }
    }
}
