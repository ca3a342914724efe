//! Lanes as one 512-bit register.

use std::arch::x86_64::*;

use super::{ByteDots, LaneOp, Lanes};
use crate::cpu::Avx512;
use crate::float::LANES;

/// Uses an intrinsic where the token is in reach.
macro_rules! with_token {
    ($token:ident, $call:expr) => {{
        let _: Avx512 = $token;
        // SAFETY: the token exists, so detection found every feature of the level; loads and stores get references to arrays of
        // exactly the register's size and ask for no alignment.
        unsafe { $call }
    }};
}

#[target_feature(
    enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2"
)]
fn shell<O: LaneOp>(token: Avx512, op: O) -> O::Output {
    op.run(token)
}

/// Transposes the four by four elements in each quarter of four vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters(a: __m512, b: __m512, c: __m512, d: __m512) -> [__m512; 4] {
    let pair = |a, b| (_mm512_castps_pd(a), _mm512_castps_pd(b));
    let (ab_low, ab_high) = pair(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let (cd_low, cd_high) = pair(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    [
        _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high)),
    ]
}

/// Sixteen times four words of 32 bits, transposed.
#[inline]
#[target_feature(enable = "avx512f")]
fn dwords(from: [&[u8; 16]; LANES]) -> [__m512; 4] {
    let mut v = [_mm512_setzero_ps(); 4];
    for i in 0..4 {
        // SAFETY: each array is 16 bytes.
        let [a, b, c, d] = unsafe {
            [
                _mm_loadu_ps(from[i].as_ptr().cast()),
                _mm_loadu_ps(from[i + 4].as_ptr().cast()),
                _mm_loadu_ps(from[i + 8].as_ptr().cast()),
                _mm_loadu_ps(from[i + 12].as_ptr().cast()),
            ]
        };
        let ab = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(a), b);
        v[i] = _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(ab, c), d);
    }
    quarters(v[0], v[1], v[2], v[3])
}

/// The even words of 16 bits, then the odd ones.
const APART: [u16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = (i % 16 * 2 + i / 16) as u16;
        i += 1;
    }
    order
};

impl Lanes for Avx512 {
    type V = __m512;

    /// 32 registers less two key or weight vectors and the broadcasts in flight.
    const ACCUMULATORS: usize = 24;

    #[inline]
    fn vectorize<O: LaneOp>(self, op: O) -> O::Output {
        with_token!(self, shell(self, op))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        with_token!(self, _mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        with_token!(self, _mm512_loadu_ps(x.as_ptr()))
    }

    #[inline(always)]
    fn load_f32(self, x: &[u8; 64]) -> __m512 {
        with_token!(self, _mm512_loadu_ps(x.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> __m512 {
        // `_mm512_cvtph_ps` forbids exceptions, which only the register form of the instruction can: one operation more.
        with_token!(self, {
            let half = _mm256_loadu_si256(x.as_ptr().cast());
            _mm512_cvt_roundph_ps::<_MM_FROUND_CUR_DIRECTION>(half)
        })
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> __m512 {
        with_token!(self, {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }

    #[inline(always)]
    fn store(self, v: __m512, x: &mut [f32; LANES]) {
        with_token!(self, _mm512_storeu_ps(x.as_mut_ptr(), v))
    }

    #[inline(always)]
    fn store_f16(self, v: __m512, x: &mut [u8; 32]) {
        with_token!(self, {
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            _mm256_storeu_si256(x.as_mut_ptr().cast(), half);
        })
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        with_token!(self, _mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        with_token!(self, _mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        with_token!(self, _mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        with_token!(self, _mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with_token!(self, _mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        with_token!(self, _mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        with_token!(
            self,
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x)
        )
    }

    #[inline(always)]
    fn select_range(self, first: usize, end: usize, x: __m512, y: __m512) -> __m512 {
        let mask = ((1u32 << end) - 1) & !((1u32 << first) - 1);
        with_token!(self, _mm512_mask_blend_ps(mask as u16, y, x))
    }

    #[inline(always)]
    fn round_ties_even(self, a: __m512) -> __m512 {
        with_token!(
            self,
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        )
    }

    #[inline(always)]
    fn add_exponent(self, p: __m512, n: __m512) -> __m512 {
        with_token!(self, {
            let shift = _mm512_slli_epi32::<23>(_mm512_cvtps_epi32(n));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), shift))
        })
    }

    #[inline(always)]
    fn reduce(self, v: __m512) -> f32 {
        with_token!(self, {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let four = _mm_add_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn reduce4(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // Selects quarters: the lower or upper two of both operands, then the even or odd ones.
        const LOWER: i32 = 0b01_00_01_00;
        const UPPER: i32 = 0b11_10_11_10;
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        with_token!(self, {
            let ab = _mm512_add_ps(
                _mm512_shuffle_f32x4::<LOWER>(a, b),
                _mm512_shuffle_f32x4::<UPPER>(a, b),
            );
            let cd = _mm512_add_ps(
                _mm512_shuffle_f32x4::<LOWER>(c, d),
                _mm512_shuffle_f32x4::<UPPER>(c, d),
            );
            let four = _mm512_add_ps(
                _mm512_shuffle_f32x4::<EVEN>(ab, cd),
                _mm512_shuffle_f32x4::<ODD>(ab, cd),
            );
            let two = _mm512_add_ps(four, _mm512_permute_ps::<0b11_10_11_10>(four));
            let one = _mm512_add_ps(two, _mm512_movehdup_ps(two));
            let index = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            let mut out = [0.0; 4];
            _mm_storeu_ps(
                out.as_mut_ptr(),
                _mm512_castps512_ps128(_mm512_permutexvar_ps(index, one)),
            );
            out
        })
    }

    #[inline(always)]
    fn transpose(self, v: [__m512; LANES]) -> [__m512; LANES] {
        let zero = self.splat(0.0);
        // Element j of the vectors 4q..4q + 4 in each quarter of `fours[q][j % 4]`, the quarter being j / 4.
        let mut fours = [[zero; 4]; 4];
        for q in 0..4 {
            let (a, b, c, d) = (v[4 * q], v[4 * q + 1], v[4 * q + 2], v[4 * q + 3]);
            fours[q] = with_token!(self, quarters(a, b, c, d));
        }
        let mut out = [zero; LANES];
        for j in 0..4 {
            let (a, b, c, d) = (fours[0][j], fours[1][j], fours[2][j], fours[3][j]);
            with_token!(self, {
                // Of each pair the lower two quarters, then the upper two.
                let (ab, cd) = (
                    _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
                    _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d),
                );
                out[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd);
                out[4 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd);
                let (ab, cd) = (
                    _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
                    _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d),
                );
                out[8 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd);
                out[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd);
            });
        }
        out
    }

    #[inline(always)]
    fn columns_f32(self, blocks: [&[u8; 64]; LANES]) -> [__m512; LANES] {
        let mut out = [self.splat(0.0); LANES];
        for i in 0..4 {
            let four = with_token!(self, dwords(blocks.map(|block| &block.as_chunks().0[i])));
            for j in 0..4 {
                out[4 * i + j] = four[j];
            }
        }
        out
    }

    /// Two neighbours are transposed as one word of 32 bits.
    #[inline(always)]
    fn columns_f16(self, blocks: [&[u8; 32]; LANES]) -> [__m512; LANES] {
        let mut out = [self.splat(0.0); LANES];
        for i in 0..2 {
            let four = with_token!(self, dwords(blocks.map(|block| &block.as_chunks().0[i])));
            for j in 0..4 {
                let at = 8 * i + 2 * j;
                with_token!(self, {
                    let order = _mm512_loadu_si512(APART.as_ptr().cast());
                    let pair = _mm512_permutexvar_epi16(order, _mm512_castps_si512(four[j]));
                    out[at] = _mm512_cvtph_ps(_mm512_castsi512_si256(pair));
                    out[at + 1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(pair));
                });
            }
        }
        out
    }

    /// As above; the upper neighbour needs no shift.
    #[inline(always)]
    fn columns_bf16(self, blocks: [&[u8; 32]; LANES]) -> [__m512; LANES] {
        let mut out = [self.splat(0.0); LANES];
        for i in 0..2 {
            let four = with_token!(self, dwords(blocks.map(|block| &block.as_chunks().0[i])));
            for j in 0..4 {
                let at = 8 * i + 2 * j;
                with_token!(self, {
                    let pair = _mm512_castps_si512(four[j]);
                    let upper = _mm512_and_si512(pair, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                    out[at] = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pair));
                    out[at + 1] = _mm512_castsi512_ps(upper);
                });
            }
        }
        out
    }

    #[inline(always)]
    fn load_part(self, x: &[f32]) -> __m512 {
        assert!(x.len() <= LANES, "a part has at most 16 lanes");
        let mask = ((1u32 << x.len()) - 1) as u16;
        // The mask keeps the load inside `x`: masked lanes are not read.
        with_token!(self, _mm512_maskz_loadu_ps(mask, x.as_ptr()))
    }

    #[inline(always)]
    fn store_part(self, v: __m512, x: &mut [f32]) {
        assert!(x.len() <= LANES, "a part has at most 16 lanes");
        let mask = ((1u32 << x.len()) - 1) as u16;
        // The mask keeps the store inside `x`.
        with_token!(self, _mm512_mask_storeu_ps(x.as_mut_ptr(), mask, v))
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
}

impl ByteDots for Avx512 {
    type Floats = __m512;
    type Sums = __m512i;
    /// Unsigned, 128 added: what `vpdpbusd` asks of its first factor.
    type Fours = __m512i;
    /// Widened to 16 bits.
    type Pairs = __m512i;

    #[inline(always)]
    fn dot4_start(self, sum: i32) -> __m512i {
        with_token!(self, _mm512_set1_epi32(-128 * sum))
    }

    #[inline(always)]
    fn load_dot4(self, x: &[u8; 64]) -> __m512i {
        with_token!(
            self,
            _mm512_xor_si512(
                _mm512_loadu_si512(x.as_ptr().cast()),
                _mm512_set1_epi8(-128)
            )
        )
    }

    #[inline(always)]
    fn dot4(self, sums: __m512i, x: __m512i, y: i32) -> __m512i {
        with_token!(self, _mm512_dpbusd_epi32(sums, x, _mm512_set1_epi32(y)))
    }

    #[inline(always)]
    fn dot2_start(self) -> __m512i {
        with_token!(self, _mm512_setzero_si512())
    }

    #[inline(always)]
    fn load_dot2(self, x: &[u8; 32]) -> __m512i {
        with_token!(
            self,
            _mm512_cvtepi8_epi16(_mm256_loadu_si256(x.as_ptr().cast()))
        )
    }

    #[inline(always)]
    fn dot2(self, sums: __m512i, x: __m512i, y: i32) -> __m512i {
        with_token!(self, _mm512_dpwssd_epi32(sums, x, _mm512_set1_epi32(y)))
    }

    #[inline(always)]
    fn to_float(self, sums: __m512i) -> __m512 {
        with_token!(self, _mm512_cvtepi32_ps(sums))
    }

    #[inline(always)]
    fn store_pairs(self, x: __m512, to: &mut [i32; LANES / 2]) {
        with_token!(self, {
            let pairs = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), pairs);
        })
    }
}
