//! Lanes as two 256-bit registers: lanes 0–7 and 8–15.

use std::arch::x86_64::*;

use super::{ByteDots, LaneOp, Lanes};
use crate::cpu::Avx2;
use crate::float::LANES;

/// Uses an intrinsic where the token is in reach.
macro_rules! with_token {
    ($token:ident, $call:expr) => {{
        let _: Avx2 = $token;
        // SAFETY: the token exists, so detection found every feature of the level; loads and stores stay inside references to
        // arrays of 16 elements and ask for no alignment.
        unsafe { $call }
    }};
}

/// Lanes 0–7 and lanes 8–15.
#[derive(Clone, Copy)]
pub(crate) struct Pair(__m256, __m256);

#[target_feature(enable = "avx2,fma,f16c")]
fn shell<O: LaneOp>(token: Avx2, op: O) -> O::Output {
    op.run(token)
}

/// Transposes eight by eight elements.
#[inline]
#[target_feature(enable = "avx")]
fn eights(v: [__m256; 8]) -> [__m256; 8] {
    let four = |a, b, c, d| {
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low),
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ]
    };
    // Elements 0 to 3 in the lower half of each, 4 to 7 in the upper one.
    let [a0, a1, a2, a3] = four(v[0], v[1], v[2], v[3]);
    let [b0, b1, b2, b3] = four(v[4], v[5], v[6], v[7]);
    [
        _mm256_permute2f128_ps::<0x20>(a0, b0),
        _mm256_permute2f128_ps::<0x20>(a1, b1),
        _mm256_permute2f128_ps::<0x20>(a2, b2),
        _mm256_permute2f128_ps::<0x20>(a3, b3),
        _mm256_permute2f128_ps::<0x31>(a0, b0),
        _mm256_permute2f128_ps::<0x31>(a1, b1),
        _mm256_permute2f128_ps::<0x31>(a2, b2),
        _mm256_permute2f128_ps::<0x31>(a3, b3),
    ]
}

/// The numbers of the lanes, to compare with.
const LANE_NUMBERS: [i32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

impl Lanes for Avx2 {
    type V = Pair;

    /// 12 of the 16 registers.
    const ACCUMULATORS: usize = 6;

    #[inline]
    fn vectorize<O: LaneOp>(self, op: O) -> O::Output {
        with_token!(self, shell(self, op))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        let half = with_token!(self, _mm256_set1_ps(x));
        Pair(half, half)
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Pair {
        let p = x.as_ptr();
        with_token!(self, Pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))))
    }

    #[inline(always)]
    fn load_f32(self, x: &[u8; 64]) -> Pair {
        let p = x.as_ptr().cast::<f32>();
        with_token!(self, Pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Pair {
        let p = x.as_ptr().cast::<__m128i>();
        with_token!(
            self,
            Pair(
                _mm256_cvtph_ps(_mm_loadu_si128(p)),
                _mm256_cvtph_ps(_mm_loadu_si128(p.add(1)))
            )
        )
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Pair {
        let p = x.as_ptr().cast::<__m128i>();
        with_token!(self, {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(1)));
            Pair(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            )
        })
    }

    #[inline(always)]
    fn store(self, v: Pair, x: &mut [f32; LANES]) {
        let p = x.as_mut_ptr();
        with_token!(self, {
            _mm256_storeu_ps(p, v.0);
            _mm256_storeu_ps(p.add(8), v.1);
        })
    }

    #[inline(always)]
    fn store_f16(self, v: Pair, x: &mut [u8; 32]) {
        let p = x.as_mut_ptr().cast::<__m128i>();
        with_token!(self, {
            _mm_storeu_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0));
            _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.1));
        })
    }

    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        with_token!(self, Pair(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)))
    }

    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        with_token!(self, Pair(_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)))
    }

    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        with_token!(self, Pair(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)))
    }

    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        with_token!(self, Pair(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)))
    }

    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        with_token!(
            self,
            Pair(
                _mm256_fmadd_ps(a.0, b.0, c.0),
                _mm256_fmadd_ps(a.1, b.1, c.1)
            )
        )
    }

    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        with_token!(self, Pair(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)))
    }

    #[inline(always)]
    fn select_less(self, a: Pair, b: Pair, x: Pair, y: Pair) -> Pair {
        with_token!(self, {
            let low = _mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0);
            let high = _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1);
            Pair(
                _mm256_blendv_ps(y.0, x.0, low),
                _mm256_blendv_ps(y.1, x.1, high),
            )
        })
    }

    #[inline(always)]
    fn select_range(self, first: usize, end: usize, x: Pair, y: Pair) -> Pair {
        let numbers = LANE_NUMBERS.as_ptr().cast::<__m256i>();
        with_token!(self, {
            let before = _mm256_set1_epi32(first as i32 - 1);
            let end = _mm256_set1_epi32(end as i32);
            let low = _mm256_loadu_si256(numbers);
            let high = _mm256_loadu_si256(numbers.add(1));
            let low = _mm256_and_si256(
                _mm256_cmpgt_epi32(low, before),
                _mm256_cmpgt_epi32(end, low),
            );
            let high = _mm256_and_si256(
                _mm256_cmpgt_epi32(high, before),
                _mm256_cmpgt_epi32(end, high),
            );
            Pair(
                _mm256_blendv_ps(y.0, x.0, _mm256_castsi256_ps(low)),
                _mm256_blendv_ps(y.1, x.1, _mm256_castsi256_ps(high)),
            )
        })
    }

    #[inline(always)]
    fn round_ties_even(self, a: Pair) -> Pair {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        with_token!(
            self,
            Pair(
                _mm256_round_ps::<NEAREST>(a.0),
                _mm256_round_ps::<NEAREST>(a.1)
            )
        )
    }

    #[inline(always)]
    fn add_exponent(self, p: Pair, n: Pair) -> Pair {
        with_token!(self, {
            let low = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n.0));
            let high = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n.1));
            Pair(
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p.0), low)),
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p.1), high)),
            )
        })
    }

    #[inline(always)]
    fn reduce(self, v: Pair) -> f32 {
        with_token!(self, {
            let eight = _mm256_add_ps(v.0, v.1);
            let four = _mm_add_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // A prefetch is a hint: it reads nothing and cannot fault.
        with_token!(self, _mm_prefetch::<_MM_HINT_T0>(address.cast()))
    }

    #[inline(always)]
    fn prefetch_far(self, address: *const u8) {
        // As above.
        with_token!(self, _mm_prefetch::<_MM_HINT_T1>(address.cast()))
    }

    #[inline(always)]
    fn reduce4(self, [a, b, c, d]: [Pair; 4]) -> [f32; 4] {
        // Halves of a register: both lower, or both upper ones.
        const LOWER: i32 = 0x20;
        const UPPER: i32 = 0x31;
        with_token!(self, {
            let a = _mm256_add_ps(a.0, a.1);
            let b = _mm256_add_ps(b.0, b.1);
            let c = _mm256_add_ps(c.0, c.1);
            let d = _mm256_add_ps(d.0, d.1);
            let ab = _mm256_add_ps(
                _mm256_permute2f128_ps::<LOWER>(a, b),
                _mm256_permute2f128_ps::<UPPER>(a, b),
            );
            let cd = _mm256_add_ps(
                _mm256_permute2f128_ps::<LOWER>(c, d),
                _mm256_permute2f128_ps::<UPPER>(c, d),
            );
            // In each half: two elements of the first, two of the second.
            let two = _mm256_add_ps(
                _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
            );
            let one = _mm256_add_ps(two, _mm256_movehdup_ps(two));
            let mut out = [0.0; 8];
            _mm256_storeu_ps(out.as_mut_ptr(), one);
            [out[0], out[4], out[2], out[6]]
        })
    }

    #[inline(always)]
    fn transpose(self, v: [Pair; LANES]) -> [Pair; LANES] {
        let mut out = [self.splat(0.0); LANES];
        for half in 0..2 {
            let mut low = [v[0].0; 8];
            let mut high = [v[0].0; 8];
            for i in 0..8 {
                low[i] = v[8 * half + i].0;
                high[i] = v[8 * half + i].1;
            }
            let (low, high) = with_token!(self, (eights(low), eights(high)));
            for i in 0..8 {
                if half == 0 {
                    out[i].0 = low[i];
                    out[8 + i].0 = high[i];
                } else {
                    out[i].1 = low[i];
                    out[8 + i].1 = high[i];
                }
            }
        }
        out
    }
}

/// Magnitudes and signed bytes of 8 lanes of four.
#[derive(Clone, Copy)]
pub(crate) struct Signed {
    magnitudes: __m256i,
    signed: __m256i,
}

impl ByteDots for Avx2 {
    type Floats = Pair;
    type Sums = (__m256i, __m256i);
    type Fours = (Signed, Signed);
    /// Widened to 16 bits.
    type Pairs = (__m256i, __m256i);

    #[inline(always)]
    fn dot4_start(self, _sum: i32) -> (__m256i, __m256i) {
        self.dot2_start()
    }

    #[inline(always)]
    fn load_dot4(self, x: &[u8; 64]) -> (Signed, Signed) {
        let p = x.as_ptr().cast::<__m256i>();
        with_token!(self, {
            let (low, high) = (_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1)));
            (
                Signed {
                    magnitudes: _mm256_abs_epi8(low),
                    signed: low,
                },
                Signed {
                    magnitudes: _mm256_abs_epi8(high),
                    signed: high,
                },
            )
        })
    }

    /// Magnitudes times `y` with the signs moved over: two products of at most 128 · 127 fit 16 bits.
    #[inline(always)]
    fn dot4(self, sums: (__m256i, __m256i), x: (Signed, Signed), y: i32) -> (__m256i, __m256i) {
        with_token!(self, {
            let (y, ones) = (_mm256_set1_epi32(y), _mm256_set1_epi16(1));
            let low = _mm256_maddubs_epi16(x.0.magnitudes, _mm256_sign_epi8(y, x.0.signed));
            let high = _mm256_maddubs_epi16(x.1.magnitudes, _mm256_sign_epi8(y, x.1.signed));
            (
                _mm256_add_epi32(sums.0, _mm256_madd_epi16(low, ones)),
                _mm256_add_epi32(sums.1, _mm256_madd_epi16(high, ones)),
            )
        })
    }

    #[inline(always)]
    fn dot2_start(self) -> (__m256i, __m256i) {
        with_token!(self, (_mm256_setzero_si256(), _mm256_setzero_si256()))
    }

    #[inline(always)]
    fn load_dot2(self, x: &[u8; 32]) -> (__m256i, __m256i) {
        let p = x.as_ptr().cast::<__m128i>();
        with_token!(
            self,
            (
                _mm256_cvtepi8_epi16(_mm_loadu_si128(p)),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(p.add(1)))
            )
        )
    }

    #[inline(always)]
    fn dot2(self, sums: (__m256i, __m256i), x: (__m256i, __m256i), y: i32) -> (__m256i, __m256i) {
        with_token!(self, {
            let y = _mm256_set1_epi32(y);
            (
                _mm256_add_epi32(sums.0, _mm256_madd_epi16(x.0, y)),
                _mm256_add_epi32(sums.1, _mm256_madd_epi16(x.1, y)),
            )
        })
    }

    #[inline(always)]
    fn to_float(self, sums: (__m256i, __m256i)) -> Pair {
        with_token!(
            self,
            Pair(_mm256_cvtepi32_ps(sums.0), _mm256_cvtepi32_ps(sums.1))
        )
    }

    #[inline(always)]
    fn store_pairs(self, x: Pair, to: &mut [i32; LANES / 2]) {
        with_token!(self, {
            // Packs each 128-bit half by itself: lanes 0-3, 8-11, 4-7, 12-15.
            let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(x.0), _mm256_cvtps_epi32(x.1));
            let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), pairs);
        })
    }
}
