//! The formats with blocks of 32 weights in 16 bytes of nibbles: Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, MXFP4.
//!
//! They differ in what stands before the nibbles and in what a nibble means.

use std::arch::x86_64::*;

use super::ops::{load_4x16, read_halves, transpose_16x16};
use super::tile32::Format32;
use crate::quant::{iq4_nl, mxfp4};

/// What a nibble means.
#[derive(Clone, Copy, PartialEq)]
enum Meaning {
    /// Itself.
    Number,
    /// Itself and a fifth bit, stored in 32 bits before the nibbles.
    FifthBit,
    /// An index into values, which are stored plus the format's offset.
    Table([u8; 16]),
}

/// Values plus an offset that leaves none negative.
const fn table(values: &[i8; 16], offset: i8) -> Meaning {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (values[i] as u8).wrapping_add(offset as u8);
        i += 1;
    }
    Meaning::Table(table)
}

/// Declares a format: bytes, offset, whether it has a minimum, meaning, how scales are read.
macro_rules! format {
    ($name:ident, $bytes:literal, $offset:literal, $has_min:literal, $meaning:expr, $scales:path) => {
        pub(super) struct $name;

        impl Format32 for $name {
            const BLOCK_BYTES: usize = $bytes;
            const OFFSET: i32 = $offset;
            const HAS_MIN: bool = $has_min;
            const IS_NIBBLE: bool = true;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn rows(from: *const u8, row_bytes: usize) -> [__m512i; 8] {
                const MEANING: Meaning = $meaning;
                // SAFETY: the caller's promise; the nibbles are the block's last 16 bytes.
                unsafe { rows(from.add($bytes - 16), row_bytes, MEANING) }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn unit(from: *const u8) -> [__m512i; 4] {
                const MEANING: Meaning = $meaning;
                // SAFETY: as above.
                unsafe { unit(from.add($bytes - 16), $bytes, MEANING) }
            }

            #[inline]
            unsafe fn scales<const N: usize>(from: *const u8, stride: usize) -> [f32; N] {
                // SAFETY: the caller's promise.
                unsafe { $scales(from, stride) }
            }

            #[inline]
            unsafe fn mins<const N: usize>(from: *const u8, stride: usize) -> [f32; N] {
                // SAFETY: the caller's promise; called only where a minimum follows the scale.
                unsafe { read_halves(from.add(2), stride) }
            }
        }
    };
}

format!(Q4_0, 18, 8, false, Meaning::Number, read_halves);
format!(Q4_1, 20, 0, true, Meaning::Number, read_halves);
format!(Q5_0, 22, 16, false, Meaning::FifthBit, read_halves);
format!(Q5_1, 24, 0, true, Meaning::FifthBit, read_halves);
format!(
    Iq4Nl,
    18,
    128,
    false,
    table(&iq4_nl::VALUES, -128),
    read_halves
);
format!(Mxfp4, 17, 16, false, table(&mxfp4::VALUES, 16), read_powers);

/// # Safety
/// A byte is readable at each of N addresses.
#[inline]
unsafe fn read_powers<const N: usize>(from: *const u8, stride: usize) -> [f32; N] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|i| mxfp4::half_power(unsafe { *from.add(i * stride) }))
}

/// Nibbles as weights plus offset. `fifth` has, for each byte, a byte with its bit; `bits` says which.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn decode(nibbles: __m512i, meaning: Meaning, fifth: __m512i, bits: __m512i) -> __m512i {
    match meaning {
        Meaning::Number => nibbles,
        Meaning::FifthBit => {
            let is_set = _mm512_test_epi8_mask(fifth, bits);
            _mm512_mask_add_epi8(nibbles, is_set, nibbles, _mm512_set1_epi8(16))
        }
        Meaning::Table(values) => {
            // SAFETY: 16 readable bytes.
            let values = unsafe { _mm_loadu_si128(values.as_ptr().cast()) };
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), nibbles)
        }
    }
}

/// See [`Format32::rows`]; `from` is where the nibbles are.
///
/// # Safety
/// The processor has the features; 16 bytes are readable in each row, and four before them where there is a fifth bit.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn rows(from: *const u8, row_bytes: usize, meaning: Meaning) -> [__m512i; 8] {
    let low4 = _mm512_set1_epi8(15);
    // SAFETY: the caller's promise.
    let packed = unsafe { transpose_16x16(from, row_bytes) };
    let mut fifths = [0u32; 16];
    if meaning == Meaning::FifthBit {
        for (r, fifth) in fifths.iter_mut().enumerate() {
            // SAFETY: as above.
            *fifth = unsafe {
                from.sub(4)
                    .add(r * row_bytes)
                    .cast::<u32>()
                    .read_unaligned()
            };
        }
    }
    // SAFETY: 64 readable bytes.
    let fifths = unsafe { _mm512_loadu_si512(fifths.as_ptr().cast()) };
    let mut lines = [_mm512_setzero_si512(); 8];
    for i in 0..8 {
        let nibbles = if i < 4 {
            packed[i]
        } else {
            _mm512_srli_epi16::<4>(packed[i - 4])
        };
        // Line i needs bits 4i..4i+4 of its row: spread the byte that has them over the lane.
        let spread = _mm512_add_epi8(lane_starts(), _mm512_set1_epi8(i as i8 / 2));
        let bits = if i % 2 == 0 {
            0x0804_0201
        } else {
            0x8040_2010u32 as i32
        };
        let fifth = _mm512_shuffle_epi8(fifths, spread);
        lines[i] = decode(
            _mm512_and_si512(nibbles, low4),
            meaning,
            fifth,
            _mm512_set1_epi32(bits),
        );
    }
    lines
}

/// For each byte, where its 32-bit lane starts within the 128-bit one.
#[inline]
#[target_feature(enable = "avx512f")]
fn lane_starts() -> __m512i {
    _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c))
}

/// See [`Format32::unit`]; `from` is where the nibbles of the first block are.
///
/// # Safety
/// The processor has the features; 16 bytes are readable in each of eight blocks, and four before them where there is a
/// fifth bit.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn unit(from: *const u8, block_bytes: usize, meaning: Meaning) -> [__m512i; 4] {
    let low4 = _mm512_set1_epi8(15);
    let mut lines = [_mm512_setzero_si512(); 4];
    for g in 0..2 {
        let block = |l: usize| from.wrapping_add((g * 4 + l) * block_bytes);
        // SAFETY: the caller's promise.
        let packed = unsafe { load_4x16([block(0), block(1), block(2), block(3)]) };
        let mut fifths = _mm512_setzero_si512();
        if meaning == Meaning::FifthBit {
            // SAFETY: as above.
            let fifth = |l: usize| unsafe { block(l).sub(4).cast::<i32>().read_unaligned() };
            let four = _mm_setr_epi32(fifth(0), fifth(1), fifth(2), fifth(3));
            let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            fifths = _mm512_permutexvar_epi32(lanes, _mm512_castsi128_si512(four));
        }
        let bits = _mm512_set1_epi64(0x8040_2010_0804_0201u64 as i64);
        // Bytes 0 and 1 of the 32 bits belong to the low nibbles, 2 and 3 to the high ones.
        let low = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0x0101_0101, 0x0101_0101));
        let high = _mm512_add_epi8(low, _mm512_set1_epi8(2));
        let nibbles = _mm512_and_si512(packed, low4);
        lines[2 * g] = decode(nibbles, meaning, _mm512_shuffle_epi8(fifths, low), bits);
        let nibbles = _mm512_and_si512(_mm512_srli_epi16::<4>(packed), low4);
        lines[2 * g + 1] = decode(nibbles, meaning, _mm512_shuffle_epi8(fifths, high), bits);
    }
    lines
}
