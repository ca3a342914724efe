//! Loads, transposes and reductions that the formats share.

use std::arch::x86_64::*;

/// What a register's bits may be read from and written to.
///
/// # Safety
/// Implemented only for arrays of 64 bytes without padding, any bit pattern of which is a value.
pub(super) unsafe trait Line {}
// SAFETY: numbers, 64 bytes.
unsafe impl Line for [u8; 64] {}
// SAFETY: as above.
unsafe impl Line for [i8; 64] {}
// SAFETY: as above.
unsafe impl Line for [i16; 32] {}
// SAFETY: as above.
unsafe impl Line for [i32; 16] {}
// SAFETY: as above.
unsafe impl Line for [f32; 16] {}

/// A register full.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load<T: Line>(from: &T) -> __m512i {
    // SAFETY: a `Line` is 64 readable bytes.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(from).cast()) }
}

/// A register full of floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_ps(from: &[f32; 16]) -> __m512 {
    // SAFETY: 64 readable bytes.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

/// Writes a register.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store<T: Line>(to: &mut T, v: __m512i) {
    // SAFETY: a `Line` is 64 writable bytes and any bits are a value.
    unsafe { _mm512_storeu_si512(std::ptr::from_mut(to).cast(), v) }
}

/// Writes a register of floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_ps(to: &mut [f32; 16], v: __m512) {
    // SAFETY: 64 writable bytes.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
}

/// Four activations, from `at` on, in every lane.
///
/// # Safety
/// They exist: `at + 4 <= q.len()`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn broadcast4(q: &[i8], at: usize) -> __m512i {
    debug_assert!(at + 4 <= q.len());
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { q.as_ptr().add(at).cast::<i32>().read_unaligned() })
}

/// 32 bytes from each of two addresses.
///
/// # Safety
/// Both are readable.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load_2x32(a: *const u8, b: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    let (a, b) = unsafe { (_mm256_loadu_si256(a.cast()), _mm256_loadu_si256(b.cast())) };
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
}

/// 16 bytes from each of four addresses.
///
/// # Safety
/// All are readable.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load_4x16(from: [*const u8; 4]) -> __m512i {
    // SAFETY: the caller's promise.
    let [a, b, c, d] = from.map(|p| unsafe { _mm_loadu_si128(p.cast()) });
    let v = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
    _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(v, c), d)
}

/// 32 bytes at `from` and at each of the fifteen rows after it, transposed: register i has bytes 4i..4i+4 of every row, row r in
/// lane r.
///
/// # Safety
/// 32 bytes are readable in each row.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose_16x32(from: *const u8, row_bytes: usize) -> [__m512i; 8] {
    // Rows 4 apart share a register, so that the two shuffles at the end put lanes in order.
    let pair = |r: usize| {
        // SAFETY: the caller's promise.
        unsafe { load_2x32(from.add(r * row_bytes), from.add((r + 4) * row_bytes)) }
    };
    transpose([
        pair(0),
        pair(1),
        pair(2),
        pair(3),
        pair(8),
        pair(9),
        pair(10),
        pair(11),
    ])
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(y: [__m512i; 8]) -> [__m512i; 8] {
    let quarter = |y: &[__m512i]| {
        let (a, b) = (
            _mm512_unpacklo_epi32(y[0], y[1]),
            _mm512_unpackhi_epi32(y[0], y[1]),
        );
        let (c, d) = (
            _mm512_unpacklo_epi32(y[2], y[3]),
            _mm512_unpackhi_epi32(y[2], y[3]),
        );
        [
            _mm512_unpacklo_epi64(a, c),
            _mm512_unpackhi_epi64(a, c),
            _mm512_unpacklo_epi64(b, d),
            _mm512_unpackhi_epi64(b, d),
        ]
    };
    let (a, b) = (quarter(&y[..4]), quarter(&y[4..]));
    std::array::from_fn(|i| match i {
        ..4 => _mm512_shuffle_i32x4::<0b10_00_10_00>(a[i], b[i]),
        _ => _mm512_shuffle_i32x4::<0b11_01_11_01>(a[i - 4], b[i - 4]),
    })
}

/// 16 bytes at `from` and at each of the fifteen rows after it, transposed: register i has bytes 4i..4i+4 of every row.
///
/// # Safety
/// 16 bytes are readable in each row.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose_16x16(from: *const u8, row_bytes: usize) -> [__m512i; 4] {
    let four = |r: usize| {
        let row = |i: usize| from.wrapping_add((r + 4 * i) * row_bytes);
        // SAFETY: the caller's promise.
        unsafe { load_4x16([row(0), row(1), row(2), row(3)]) }
    };
    let (y0, y1, y2, y3) = (four(0), four(1), four(2), four(3));
    let (a, b) = (_mm512_unpacklo_epi32(y0, y1), _mm512_unpackhi_epi32(y0, y1));
    let (c, d) = (_mm512_unpacklo_epi32(y2, y3), _mm512_unpackhi_epi32(y2, y3));
    [
        _mm512_unpacklo_epi64(a, c),
        _mm512_unpackhi_epi64(a, c),
        _mm512_unpacklo_epi64(b, d),
        _mm512_unpackhi_epi64(b, d),
    ]
}

/// The half at `from` of each of 16 rows, as single precision.
///
/// # Safety
/// Two bytes are readable in each row.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
pub(super) unsafe fn halves_of_rows(from: *const u8, row_bytes: usize) -> __m512 {
    // SAFETY: the caller's promise.
    let bits: [u16; 16] =
        std::array::from_fn(|r| unsafe { from.add(r * row_bytes).cast::<u16>().read_unaligned() });
    // SAFETY: 32 readable bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bits.as_ptr().cast()) })
}

/// The halves at N addresses `stride` bytes apart, as single precision.
///
/// # Safety
/// Two bytes are readable at each, and the processor has F16C.
#[inline]
#[target_feature(enable = "f16c")]
pub(super) unsafe fn read_halves<const N: usize>(from: *const u8, stride: usize) -> [f32; N] {
    const { assert!(N.is_multiple_of(8)) };
    let mut out = [0f32; N];
    for (group, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let mut bits = [0u16; 8];
        for (i, bits) in bits.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *bits = unsafe {
                from.add((group * 8 + i) * stride)
                    .cast::<u16>()
                    .read_unaligned()
            };
        }
        // SAFETY: 16 readable and 32 writable bytes.
        unsafe {
            _mm256_storeu_ps(
                out.as_mut_ptr(),
                _mm256_cvtph_ps(_mm_loadu_si128(bits.as_ptr().cast())),
            )
        };
    }
    out
}

/// The bits of `a`, and those of `b` that `mask` has.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn or_masked(a: __m512i, b: __m512i, mask: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xf8>(a, b, mask)
}

/// Within each 128-bit lane: the sums of the four lanes of `a`, `b`, `c` and `d`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn sum_lanes(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    let u = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let v = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(u, v), _mm512_unpackhi_epi64(u, v))
}

/// The sums of all sixteen lanes of `a`, `b`, `c` and `d`.
#[inline]
#[target_feature(enable = "avx512f,avx2")]
pub(super) fn sum_registers(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m128i {
    let v = sum_lanes(a, b, c, d);
    let v = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
    _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v))
}

/// Asks for a cache line, to L2: what is asked for early must not push out of L1 what is in use.
#[inline(always)]
#[allow(
    unused_unsafe,
    reason = "the intrinsic became safe after our minimum version"
)]
pub(super) fn prefetch_line(at: *const u8) {
    // SAFETY: a prefetch of any address is allowed and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
}
