//! `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q8_0` and `MXFP4`: blocks of 32 with nothing to untangle but bits.

use std::arch::x86_64::*;

use super::panel32::Unpack32;
use super::stream32::Stream32;
use super::vec::{
    block16, block32, halves, load, load_ps, nibble_columns, nibble_quads, table, transpose8,
};
use crate::quant::mxfp4::{self, BlockMXFP4};
use crate::quant::q4_0::BlockQ4_0;
use crate::quant::q4_1::BlockQ4_1;
use crate::quant::q5_0::BlockQ5_0;
use crate::quant::q5_1::BlockQ5_1;
use crate::quant::q8_0::BlockQ8_0;

/// The methods that read a format's f16 numbers.
macro_rules! half_scales {
    ($($method:ident = $field:ident),*) => {
        $(
            #[inline]
            #[target_feature(enable = "avx2,f16c")]
            unsafe fn $method(rows: [&Self; 8]) -> __m256 {
                halves(rows.map(|row| row.$field))
            }
        )*
    };
}

impl Unpack32 for BlockQ4_0 {
    // 16 · 15 · 127 = 30480.
    const GROUP: usize = 8;
    const OFFSET: i32 = 8;
    half_scales!(scales = d);

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn quads(rows: [&Self; 8]) -> [__m256i; 8] {
        nibble_quads(rows.map(|row| block16(row, 2)))
    }
}

impl Unpack32 for BlockQ4_1 {
    // 16 · 15 · 127 = 30480.
    const GROUP: usize = 8;
    half_scales!(scales = d, mins = m);

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn quads(rows: [&Self; 8]) -> [__m256i; 8] {
        nibble_quads(rows.map(|row| block16(row, 4)))
    }
}

impl Unpack32 for BlockQ5_0 {
    // 8 · 31 · 127 = 31496.
    const GROUP: usize = 4;
    const OFFSET: i32 = 16;
    half_scales!(scales = d);

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn quads(rows: [&Self; 8]) -> [__m256i; 8] {
        fifth_bits(
            nibble_quads(rows.map(|row| block16(row, 6))),
            rows.map(|row| row.qh),
        )
    }
}

impl Unpack32 for BlockQ5_1 {
    // 8 · 31 · 127 = 31496.
    const GROUP: usize = 4;
    half_scales!(scales = d, mins = m);

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn quads(rows: [&Self; 8]) -> [__m256i; 8] {
        fifth_bits(
            nibble_quads(rows.map(|row| block16(row, 8))),
            rows.map(|row| row.qh),
        )
    }
}

impl Unpack32 for BlockQ8_0 {
    const SIGNED: bool = true;
    half_scales!(scales = d);

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn quads(rows: [&Self; 8]) -> [__m256i; 8] {
        transpose8(rows.map(|row| block32(row, 2)))
    }
}

/// The table of `MXFP4`, made unsigned.
const MXFP4_UNSIGNED: [i8; 16] = {
    let mut values = mxfp4::VALUES;
    let mut i = 0;
    while i < 16 {
        values[i] += 12;
        i += 1;
    }
    values
};

impl Unpack32 for BlockMXFP4 {
    // 8 · 24 · 127 = 24384.
    const GROUP: usize = 4;
    const OFFSET: i32 = 12;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn quads(rows: [&Self; 8]) -> [__m256i; 8] {
        let values = table(&MXFP4_UNSIGNED);
        nibble_quads(rows.map(|row| block16(row, 1))).map(|q| _mm256_shuffle_epi8(values, q))
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn scales(rows: [&Self; 8]) -> __m256 {
        load_ps(&rows.map(|row| mxfp4::half_power(row.e[0])))
    }
}

/// Adds bit i of each row's word to column i as its fifth bit.
#[inline]
#[target_feature(enable = "avx2")]
fn fifth_bits(nibbles: [__m256i; 8], high: [[u8; 4]; 8]) -> [__m256i; 8] {
    let high = load(&high);
    let mut out = nibbles;
    for (i, out) in out.iter_mut().enumerate() {
        // Each lane gets the byte with its four bits four times; comparing with the bit's own mask spreads it.
        let at = i as i32 / 2 * 0x0101_0101;
        let byte = _mm256_setr_epi32(
            at,
            at + 0x0404_0404,
            at + 0x0808_0808,
            at + 0x0c0c_0c0c,
            at,
            at + 0x0404_0404,
            at + 0x0808_0808,
            at + 0x0c0c_0c0c,
        );
        let mask = _mm256_set1_epi32(if i % 2 == 0 {
            0x0804_0201
        } else {
            0x8040_2010u32 as i32
        });
        let set = _mm256_and_si256(_mm256_shuffle_epi8(high, byte), mask);
        let fifth = _mm256_and_si256(_mm256_cmpeq_epi8(set, mask), _mm256_set1_epi8(16));
        *out = _mm256_or_si256(*out, fifth);
    }
    out
}

impl Stream32 for BlockQ4_0 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> __m256i {
        nibble_columns(block16(self, 2))
    }
}

impl Stream32 for BlockQ4_1 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> __m256i {
        nibble_columns(block16(self, 4))
    }
}

impl Stream32 for BlockQ5_0 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> __m256i {
        fifth_columns(nibble_columns(block16(self, 6)), self.qh)
    }
}

impl Stream32 for BlockQ5_1 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> __m256i {
        fifth_columns(nibble_columns(block16(self, 8)), self.qh)
    }
}

impl Stream32 for BlockQ8_0 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> __m256i {
        block32(self, 2)
    }
}

impl Stream32 for BlockMXFP4 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(&self) -> __m256i {
        _mm256_shuffle_epi8(table(&MXFP4_UNSIGNED), nibble_columns(block16(self, 1)))
    }
}

/// Adds bit i of the word to column i as its fifth bit.
#[inline]
#[target_feature(enable = "avx2")]
fn fifth_columns(nibbles: __m256i, high: [u8; 4]) -> __m256i {
    // Every group of eight columns gets its byte eight times; comparing with each column's own mask spreads the bits.
    let byte = _mm256_setr_epi64x(
        0,
        0x0101_0101_0101_0101,
        0x0202_0202_0202_0202,
        0x0303_0303_0303_0303,
    );
    let mask = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
    let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(high)), byte);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, mask), mask);
    _mm256_or_si256(nibbles, _mm256_and_si256(set, _mm256_set1_epi8(16)))
}
