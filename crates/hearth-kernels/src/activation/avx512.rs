//! A256 with AVX-512: equal to the scalar definition bit for bit.

use std::arch::x86_64::*;

use super::TINY;
use super::a256::A256Block;
use crate::cpu::Avx512;

/// [`A256Block::quantize`].
pub(crate) fn quantize_a256(_: Avx512, x: &[f32; 256], block: &mut A256Block) {
    // SAFETY: the token proves the features.
    unsafe { quantize(x, block) }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
fn quantize(x: &[f32; 256], block: &mut A256Block) {
    let mut v = [_mm512_setzero_ps(); 16];
    for (v, x) in v.iter_mut().zip(x.as_chunks().0) {
        *v = load_ps(x);
    }
    let x = v;
    let magnitude = magnitudes(&x);
    let amax = max8(magnitude);
    if amax < TINY {
        *block = A256Block::ZERO;
        return;
    }
    let base = amax / 2032.0;
    let e = exponents(magnitude, 127.0 * base);
    // 2^-e by subtracting from the exponent field: the result is normal, so this is the exact product.
    let scale = _mm256_castps_si256(_mm256_set1_ps(2032.0 / amax));
    let scales = to_array_ps(_mm256_castsi256_ps(_mm256_sub_epi32(
        scale,
        _mm256_slli_epi32::<23>(e),
    )));
    block.base = base;
    let mut sums = [_mm512_setzero_si512(); 4];
    let mut magnitudes = sums;
    for j in 0..4 {
        let q = quantize64(&x.as_chunks().0[j], scales[2 * j], scales[2 * j + 1]);
        store(&mut block.q.as_chunks_mut::<64>().0[j], q);
        let ones = _mm512_set1_epi8(1);
        sums[j] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, q);
        magnitudes[j] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_abs_epi8(q), ones);
    }
    derive(block, sums_of_16(sums), sums_of_16(magnitudes), e);
}

/// 64 activations, the first 32 times `a`, the others times `b`. Their magnitude is at most 127 and a few ulp, so that packing,
/// which saturates, does the clamping.
#[target_feature(enable = "avx512f,avx512bw")]
fn quantize64(x: &[__m512; 4], a: f32, b: f32) -> __m512i {
    let (a, b) = (_mm512_set1_ps(a), _mm512_set1_ps(b));
    let lo = _mm512_packs_epi32(
        _mm512_cvtps_epi32(_mm512_mul_ps(x[0], a)),
        _mm512_cvtps_epi32(_mm512_mul_ps(x[1], a)),
    );
    let hi = _mm512_packs_epi32(
        _mm512_cvtps_epi32(_mm512_mul_ps(x[2], b)),
        _mm512_cvtps_epi32(_mm512_mul_ps(x[3], b)),
    );
    _mm512_permutexvar_epi32(by_lane(), _mm512_packs_epi16(lo, hi))
}

/// Undoes the order that two rounds of packing within 128-bit lanes leave.
#[target_feature(enable = "avx512f")]
fn by_lane() -> __m512i {
    _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
}

/// Largest magnitude of each 32 values.
#[target_feature(enable = "avx512f,avx512dq")]
fn magnitudes(x: &[__m512; 16]) -> __m256 {
    let sign = _mm512_set1_ps(-0.0);
    let mut m = [_mm512_setzero_ps(); 8];
    for (m, [a, b]) in m.iter_mut().zip(x.as_chunks().0) {
        *m = _mm512_max_ps(_mm512_andnot_ps(sign, *a), _mm512_andnot_ps(sign, *b));
    }
    let tree = |m: &[__m512]| {
        let a = _mm512_max_ps(
            _mm512_unpacklo_ps(m[0], m[1]),
            _mm512_unpackhi_ps(m[0], m[1]),
        );
        let b = _mm512_max_ps(
            _mm512_unpacklo_ps(m[2], m[3]),
            _mm512_unpackhi_ps(m[2], m[3]),
        );
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        _mm512_max_ps(
            _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)),
        )
    };
    let (a, b) = (tree(&m[..4]), tree(&m[4..]));
    // Each 128-bit lane holds four partial maxima; fold four lanes into one for both halves at once.
    let two = _mm512_max_ps(
        _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
        _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
    );
    let one = _mm512_max_ps(two, _mm512_shuffle_f32x4::<0b10_11_00_01>(two, two));
    _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0b00_00_10_00>(one, one))
}

#[target_feature(enable = "avx2")]
fn max8(m: __m256) -> f32 {
    let m = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps::<1>(m));
    let m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)))
}

/// How many of the four limits each magnitude exceeds.
#[target_feature(enable = "avx2")]
fn exponents(magnitude: __m256, limit: f32) -> __m256i {
    let mut e = _mm256_setzero_si256();
    for factor in [1.0, 2.0, 4.0, 8.0] {
        let above = _mm256_cmp_ps::<_CMP_GT_OQ>(magnitude, _mm256_set1_ps(limit * factor));
        e = _mm256_sub_epi32(e, _mm256_castps_si256(above));
    }
    e
}

/// 64 sums of 4 in order to 16 sums of 16 in order.
#[target_feature(enable = "avx512f")]
fn sums_of_16(s: [__m512i; 4]) -> __m512i {
    let a = _mm512_add_epi32(
        _mm512_unpacklo_epi32(s[0], s[1]),
        _mm512_unpackhi_epi32(s[0], s[1]),
    );
    let b = _mm512_add_epi32(
        _mm512_unpacklo_epi32(s[2], s[3]),
        _mm512_unpackhi_epi32(s[2], s[3]),
    );
    let c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    _mm512_permutexvar_epi32(by_lane(), c)
}

/// Everything that follows from the sums, as [`A256Block::quantize`] defines it.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
fn derive(block: &mut A256Block, sum16: __m512i, magnitude16: __m512i, e: __m256i) {
    store(
        &mut block.start6,
        _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32::<5>(sum16)),
    );
    store256(&mut block.sum16, _mm512_cvtepi32_epi16(sum16));
    let sum32 = pairs(sum16);
    let words = _mm256_cvtepi32_epi16(sum32);
    store128(&mut block.sum32, words);
    store128(&mut block.pair_sum, _mm_rol_epi32::<16>(words));
    store128(
        &mut block.pair_e,
        _mm_rol_epi32::<16>(_mm256_cvtepi32_epi16(e)),
    );
    store256(
        &mut block.twin_e,
        _mm256_or_si256(e, _mm256_slli_epi32::<16>(e)),
    );
    block.e = _mm_cvtsi128_si64(_mm256_cvtepi32_epi8(e)).to_le_bytes();
    let magnitude32 = pairs(magnitude16);
    let above32 = |limit| _mm256_cmpgt_epi32_mask(magnitude32, _mm256_set1_epi32(limit)) != 0;
    let above16 = _mm512_cmpgt_epi32_mask(magnitude16, _mm512_set1_epi32(A256Block::MAX_Q6)) != 0;
    block.fits = u32::from(!above32(A256Block::MAX_Q4)) * A256Block::FITS_Q4
        + u32::from(!above32(A256Block::MAX_Q5)) * A256Block::FITS_Q5
        + u32::from(!above16) * A256Block::FITS_Q6;
}

/// Sums of neighbours.
#[target_feature(enable = "avx512f")]
fn pairs(v: __m512i) -> __m256i {
    let v = _mm512_add_epi32(v, _mm512_srli_epi64::<32>(v));
    _mm512_cvtepi64_epi32(v)
}

#[target_feature(enable = "avx512f")]
fn load_ps(from: &[f32; 16]) -> __m512 {
    // SAFETY: 64 readable bytes.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[target_feature(enable = "avx2")]
fn to_array_ps(v: __m256) -> [f32; 8] {
    let mut out = [0f32; 8];
    // SAFETY: 32 writable bytes.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), v) };
    out
}

/// What any bits are a value of.
///
/// # Safety
/// Implemented only for integers.
unsafe trait Integer {}
// SAFETY: an integer.
unsafe impl Integer for i8 {}
// SAFETY: an integer.
unsafe impl Integer for i16 {}
// SAFETY: an integer.
unsafe impl Integer for i32 {}

#[target_feature(enable = "avx512f")]
fn store<T: Integer, const N: usize>(to: &mut [T; N], v: __m512i) {
    const { assert!(size_of::<[T; N]>() == 64) };
    // SAFETY: 64 writable bytes of integers.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) }
}

#[target_feature(enable = "avx2")]
fn store256<T: Integer, const N: usize>(to: &mut [T; N], v: __m256i) {
    const { assert!(size_of::<[T; N]>() == 32) };
    // SAFETY: 32 writable bytes of integers.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), v) }
}

#[target_feature(enable = "sse2")]
fn store128<T: Integer, const N: usize>(to: &mut [T; N], v: __m128i) {
    const { assert!(size_of::<[T; N]>() == 16) };
    // SAFETY: 16 writable bytes of integers.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), v) }
}
