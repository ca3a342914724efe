//! Loads, stores and transposes shared by the AVX2 kernels.
//!
//! Loads take references to blocks or arrays, so that nothing is ever read outside a matrix; the offsets are constants
//! and their checks disappear.

use std::arch::x86_64::*;

use crate::quant::Block;

/// 32 bytes of a block, from `offset` on.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn block32<B: Block>(block: &B, offset: usize) -> __m256i {
    assert!(offset + 32 <= size_of::<B>());
    // SAFETY: the 32 bytes lie inside the block;
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(block).cast::<u8>().add(offset).cast()) }
}

/// 16 bytes of a block, from `offset` on.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn block16<B: Block>(block: &B, offset: usize) -> __m128i {
    assert!(offset + 16 <= size_of::<B>());
    // SAFETY: the 16 bytes lie inside the block.
    unsafe { _mm_loadu_si128(std::ptr::from_ref(block).cast::<u8>().add(offset).cast()) }
}

/// What a register's bits may be read from and written to.
///
/// # Safety
/// Implemented only for arrays of 32 bytes without padding, any bit pattern of which is a value.
pub(super) unsafe trait Register {}
// SAFETY: numbers, 32 bytes.
unsafe impl Register for [u8; 32] {}
// SAFETY: as above.
unsafe impl Register for [i8; 32] {}
// SAFETY: as above.
unsafe impl Register for [i16; 16] {}
// SAFETY: as above.
unsafe impl Register for [[i16; 2]; 8] {}
// SAFETY: as above.
unsafe impl Register for [[u8; 4]; 8] {}
// SAFETY: as above.
unsafe impl Register for [i32; 8] {}
// SAFETY: as above.
unsafe impl Register for [f32; 8] {}

/// A whole register from an array of its size.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load<T: Register>(from: &T) -> __m256i {
    // SAFETY: a `Register` is 32 readable bytes.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(from).cast()) }
}

/// A whole register into an array of its size.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store<T: Register>(to: &mut T, v: __m256i) {
    // SAFETY: a `Register` is 32 writable bytes and any bits are a value.
    unsafe { _mm256_storeu_si256(std::ptr::from_mut(to).cast(), v) }
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_ps(from: &[f32; 8]) -> __m256 {
    // SAFETY: the array is 32 bytes.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_ps(to: &mut [f32; 8], v: __m256) {
    // SAFETY: the array is 32 bytes.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v) }
}

/// Four activations, the `i`-th quadruple of `q`, in every 32-bit lane.
///
/// # Safety
/// There is such a quadruple: `i < N / 4`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn quad<const N: usize>(q: &[i8; N], i: usize) -> __m256i {
    let quads = q.as_chunks::<4>().0;
    debug_assert!(i < quads.len());
    // SAFETY: the caller's promise.
    let quad = unsafe { quads.get_unchecked(i) };
    _mm256_set1_epi32(i32::from_le_bytes(quad.map(|b| b as u8)))
}

/// `sums` plus, in each 32-bit lane, four products of an unsigned weight and a signed activation.
///
/// The instruction is named to the assembler rather than through its intrinsic, which would stay a call in functions that are
/// compiled for AVX2 alone; and all of them are, to be written once for both levels.
///
/// # Safety
/// The processor has AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn dot4(sums: __m256i, weights: __m256i, acts: __m256i) -> __m256i {
    let mut sums = sums;
    // SAFETY: the caller's promise; the instruction touches nothing but the three registers.
    unsafe {
        std::arch::asm!(
            "{{vex}} vpdpbusd {sums}, {weights}, {acts}",
            sums = inout(ymm_reg) sums,
            weights = in(ymm_reg) weights,
            acts = in(ymm_reg) acts,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// 8 × 8 transposition of 32-bit groups: lane r of result i is group i of input r.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose8(rows: [__m256i; 8]) -> [__m256i; 8] {
    let mut halves = [[_mm256_setzero_si256(); 4]; 2];
    for (half, y) in halves.iter_mut().zip(rows.as_chunks::<4>().0) {
        let a = _mm256_unpacklo_epi32(y[0], y[1]);
        let b = _mm256_unpackhi_epi32(y[0], y[1]);
        let c = _mm256_unpacklo_epi32(y[2], y[3]);
        let d = _mm256_unpackhi_epi32(y[2], y[3]);
        *half = [
            _mm256_unpacklo_epi64(a, c),
            _mm256_unpackhi_epi64(a, c),
            _mm256_unpacklo_epi64(b, d),
            _mm256_unpackhi_epi64(b, d),
        ];
    }
    let [lo, hi] = halves;
    let mut out = [_mm256_setzero_si256(); 8];
    for j in 0..4 {
        out[j] = _mm256_permute2x128_si256::<0x20>(lo[j], hi[j]);
        out[4 + j] = _mm256_permute2x128_si256::<0x31>(lo[j], hi[j]);
    }
    out
}

/// The same for 16 bytes per row: four results.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose4(rows: [__m128i; 8]) -> [__m256i; 4] {
    let y: [__m256i; 4] = std::array::from_fn(|r| _mm256_set_m128i(rows[r + 4], rows[r]));
    let a = _mm256_unpacklo_epi32(y[0], y[1]);
    let b = _mm256_unpackhi_epi32(y[0], y[1]);
    let c = _mm256_unpacklo_epi32(y[2], y[3]);
    let d = _mm256_unpackhi_epi32(y[2], y[3]);
    [
        _mm256_unpacklo_epi64(a, c),
        _mm256_unpackhi_epi64(a, c),
        _mm256_unpacklo_epi64(b, d),
        _mm256_unpackhi_epi64(b, d),
    ]
}

/// Eight half-precision numbers, exactly.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn halves(h: [[u8; 2]; 8]) -> __m256 {
    // SAFETY: the array is 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(h.as_ptr().cast()) })
}

/// A byte pattern for `_mm256_shuffle_epi8`, the same in both halves: 16-bit element i of each half takes the byte
/// `low[i]` and zero above it.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn widen_bytes(low: [i8; 8]) -> __m256i {
    let mut pattern = [-1i8; 16];
    for (i, at) in low.into_iter().enumerate() {
        pattern[2 * i] = at;
    }
    // SAFETY: the array is 16 bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(pattern.as_ptr().cast()) })
}

/// The nibbles of 16 bytes per row, all low ones before all high ones, as quadruples with a row per lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn nibble_quads(rows: [__m128i; 8]) -> [__m256i; 8] {
    let nibble = _mm256_set1_epi8(15);
    let mut out = [_mm256_setzero_si256(); 8];
    for (i, q) in transpose4(rows).into_iter().enumerate() {
        out[i] = _mm256_and_si256(q, nibble);
        out[i + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(q), nibble);
    }
    out
}

/// A table of 16 bytes for `_mm256_shuffle_epi8`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn table(values: &[i8; 16]) -> __m256i {
    // SAFETY: the array is 16 bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

/// The two f16 numbers of four blocks.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn half_quads(h: [[[u8; 2]; 2]; 4]) -> (__m128, __m128) {
    let all = halves([
        h[0][0], h[1][0], h[2][0], h[3][0], h[0][1], h[1][1], h[2][1], h[3][1],
    ]);
    (_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all))
}

/// The nibbles of 16 bytes as 32 bytes: all low ones, then all high ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn nibble_columns(bytes: __m128i) -> __m256i {
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}
