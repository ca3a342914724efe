//! The float arithmetic every level shares: half-precision conversions, the 16 lanes and their reduction tree, exp.
//!
//! These functions are the specification (`docs/numerics.md`); the lane types in `lanes.rs` mirror them bit for bit.
//! `mul_add` always means one rounding.

/// Lanes of every long float sum: element `k` belongs to lane `k % LANES`, on every machine.
pub const LANES: usize = 16;

/// The exact value of an IEEE half-precision number.
#[inline]
pub fn f16_to_f32(bits: u16) -> f32 {
    // Without branches, so that loops become lanes: the exponent field moves over by a product with a power of two, which is
    // exact and makes subnormal numbers normal; infinity and NaN get the full exponent.
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let finite = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = magnitude | 0x7f80_0000;
    let magnitude = if magnitude >= 0x0f80_0000 {
        special
    } else {
        finite
    };
    f32::from_bits(magnitude | u32::from(bits & 0x8000) << 16)
}

/// Rounds to half precision, nearest even; magnitudes from 65520 on become infinite.
#[inline]
pub fn f32_to_f16(x: f32) -> u16 {
    half::f16::from_f32(x).to_bits()
}

/// The exact value of a bfloat16 number: the upper half of an `f32`.
#[inline]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Adds 16 lanes in the one order everybody uses: upper half onto lower half, 8-4-2-1.
#[inline]
pub fn reduce(lanes: &[f32; LANES]) -> f32 {
    let mut sums = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Sum of `a[k] * b[k]` in 16 lanes of fused multiply-adds.
///
/// # Panics
/// If the lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(
        a.len(),
        b.len(),
        "a dot product needs vectors of one length"
    );
    let mut lanes = [0.0f32; LANES];
    for (k, (x, y)) in a.iter().zip(b).enumerate() {
        lanes[k % LANES] = x.mul_add(*y, lanes[k % LANES]);
    }
    reduce(&lanes)
}

/// One over the root of the mean of `n` squares with the given sum, which both norms multiply by. NaN when the squares overflow:
/// one over infinity would turn a row that is out of range into plausible zeros.
#[inline(always)]
pub(crate) fn inverse_rms(squares: f32, n: usize, eps: f32) -> f32 {
    if squares.is_infinite() {
        return f32::NAN;
    }
    1.0 / (squares / n as f32 + eps).sqrt()
}

/// Below this, just above ln(2^-126), [`exp`] is 0: subnormal results are defined away instead of depending on a processor mode.
pub const EXP_LOWEST: f32 = -87.336_54;
/// Above this, the largest value whose exponential is finite, [`exp`] is infinite.
pub const EXP_HIGHEST: f32 = 88.722_83;
pub(crate) const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// The upper 15 bits of ln 2: multiplied by any exponent the product is exact, so the first reduction step loses nothing.
pub(crate) const LN2_HIGH: f32 = 0.693_145_75;
/// What [`LN2_HIGH`] leaves.
pub(crate) const LN2_LOW: f32 = 1.428_606_8e-6;
/// exp(r) for |r| <= ln(2)/2, highest power first: the polynomial 1 + r + r²(…) of degree 6 with the smallest relative error
/// (3.1e-9, found by Lawson's iteration, then rounded coefficient by coefficient with the others fitted again).
pub(crate) const EXP_COEFFICIENTS: [f32; 7] = [
    1.382_063_4e-3,
    8.368_674e-3,
    4.166_826_6e-2,
    0.166_665_21,
    0.499_999_94,
    1.0,
    1.0,
];

/// e^x, accurate to about one unit in the last place; 0 below [`EXP_LOWEST`], infinite above [`EXP_HIGHEST`], NaN for NaN.
#[inline]
pub fn exp(x: f32) -> f32 {
    if x < EXP_LOWEST {
        return 0.0;
    }
    if x > EXP_HIGHEST {
        return f32::INFINITY;
    }
    let n = (x * LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_HIGH, x);
    let r = n.mul_add(-LN2_LOW, r);
    let mut p = EXP_COEFFICIENTS[0];
    for c in &EXP_COEFFICIENTS[1..] {
        p = p.mul_add(r, *c);
    }
    // p lies in 0.7..1.42 and n in -126..=128: adding n to the exponent field multiplies by 2^n exactly.
    f32::from_bits(p.to_bits().wrapping_add((n as i32 as u32) << 23))
}

/// Below this magnitude [`tanh`] is its odd polynomial.
pub(crate) const TANH_SMALL: f32 = 0.55;
/// (tanh(x) / x - 1) / x² for |x| < [`TANH_SMALL`] in powers of x², highest first: relative error of x (1 + x² p) 1.0e-9.
pub(crate) const TANH_COEFFICIENTS: [f32; 5] = [
    -6.282_473e-3,
    2.107_775_8e-2,
    -5.385_386e-2,
    0.133_326_02,
    -0.333_333_2,
];

/// tanh(x), accurate to two units in the last place. Attention's soft cap uses it, because lanes can follow; the gated
/// activations keep that of `libm`.
#[inline]
pub fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    if magnitude < TANH_SMALL {
        let square = x * x;
        let mut p = TANH_COEFFICIENTS[0];
        for c in &TANH_COEFFICIENTS[1..] {
            p = p.mul_add(square, *c);
        }
        return (x * square).mul_add(p, x);
    }
    let t = exp(-2.0 * magnitude);
    let y = (1.0 - t) / (1.0 + t);
    if x < 0.0 { -y } else { y }
}

/// x / (1 + e^-x).
#[inline]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// 0.5 x (1 + erf(x / √2)), the exact form of GELU.
#[inline]
pub fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), the approximation most models were trained with.
#[inline]
pub fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let inner = (0.044_715 * x * x).mul_add(x, x);
    0.5 * x * (1.0 + libm::tanhf(SQRT_2_OVER_PI * inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two units in the last place: one of exp, which loses a third of it in `1 - t`, one of each operation after it.
    #[test]
    fn tanh_is_accurate_everywhere() {
        let mut worst = 0.0f64;
        for i in 0..200_000 {
            let x = i as f32 * 5e-5;
            for x in [x, -x] {
                let truth = f64::from(x).tanh();
                let error = (f64::from(tanh(x)) - truth).abs();
                worst = worst.max(error / truth.abs().max(1e-30));
            }
        }
        assert!(worst < 2.4e-7, "{worst:e}");
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(f32::NAN).is_nan());
        assert_eq!(tanh(-0.0), 0.0);
    }

    #[test]
    fn half_precision_round_trips_and_rounds_to_even() {
        for bits in 0..=u16::MAX {
            let x = f16_to_f32(bits);
            let reference = half::f16::from_bits(bits).to_f32();
            assert!(x.to_bits() == reference.to_bits() || (x.is_nan() && reference.is_nan()));
            if !x.is_nan() {
                assert_eq!(f32_to_f16(x), bits);
            }
        }
        assert_eq!(f32_to_f16(1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(f32_to_f16(1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!(f32_to_f16(65519.9), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(bf16_to_f32(0xc040), -3.0);
    }

    #[test]
    fn lanes_are_reduced_by_halves() {
        let mut lanes = [0.0f32; LANES];
        // 1e8 + 1 rounds to 1e8: the result tells which neighbour was added first.
        lanes[0] = 1e8;
        lanes[8] = -1e8;
        lanes[1] = 1.0;
        lanes[15] = 0.25;
        assert_eq!(reduce(&lanes), 1.25);
        lanes.swap(8, 7);
        assert_eq!(reduce(&lanes), 0.0);
    }

    #[test]
    fn exp_is_within_two_units_everywhere_and_exact_at_its_corners() {
        let mut worst = 0.0f64;
        // Every 61st float between the clamps, both signs; the step is prime so that all low bits occur.
        for sign in [0u32, 0x8000_0000] {
            let end = if sign == 0 { EXP_HIGHEST } else { -EXP_LOWEST }.to_bits();
            for bits in (0x3300_0000..=end).step_by(61).chain(end - 100_000..=end) {
                let x = f32::from_bits(bits | sign);
                let truth = f64::from(x).exp();
                let error = (f64::from(exp(x)) / truth - 1.0).abs();
                worst = worst.max(error);
            }
        }
        // 1.2e-7 is one unit at the lower end of a binade.
        assert!(worst < 1.3e-7, "relative error {worst:e}");
        assert_eq!(exp(0.0).to_bits(), 1.0f32.to_bits());
        assert_eq!(exp(-0.0).to_bits(), 1.0f32.to_bits());
        assert_eq!(exp(f32::from_bits(EXP_LOWEST.to_bits() + 1)), 0.0);
        assert!(exp(EXP_LOWEST) >= f32::MIN_POSITIVE);
        assert!(exp(EXP_HIGHEST).is_finite());
        assert_eq!(
            exp(f32::from_bits(EXP_HIGHEST.to_bits() + 1)),
            f32::INFINITY
        );
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn activations_match_their_definitions() {
        for i in -2000..2000 {
            let x = i as f32 * 0.01;
            let wide = f64::from(x);
            let silu_truth = wide / (1.0 + (-wide).exp());
            assert!(
                (f64::from(silu(x)) - silu_truth).abs() <= 4e-7 * silu_truth.abs().max(1e-30),
                "silu({x})"
            );
            let gelu_truth = 0.5 * wide * (1.0 + libm::erf(wide / 2f64.sqrt()));
            assert!((f64::from(gelu(x)) - gelu_truth).abs() < 2e-6, "gelu({x})");
            // The tanh form was fitted to the exact one: they stay within 5e-4.
            assert!((gelu_tanh(x) - gelu(x)).abs() < 5e-4, "gelu_tanh({x})");
        }
        assert_eq!(silu(-200.0), 0.0);
        assert_eq!(silu(200.0), 200.0);
        assert!(silu(f32::NAN).is_nan());
    }
}
