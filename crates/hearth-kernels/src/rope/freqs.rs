//! Inverse frequencies of a rope, with the ways to stretch them over more positions than a model was trained on.
//!
//! All in f32 and in the order of the reference implementation (transformers, `modeling_rope_utils.py`), so that
//! angles agree to the last bits: a relative error of 1e-7 in a frequency is 0.01 radians at position 100,000.

/// How a model stretches its rope. Llama 3's scaling is no kind of its own: files carry it as factors per frequency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// How many times longer than trained.
        factor: f32,
    },
    /// High frequencies stay, low ones are divided by `factor`, a ramp between (arXiv 2309.00071).
    Yarn {
        /// How many times longer than trained.
        factor: f32,
        /// Positions the model was trained on.
        n_ctx_original: u32,
        /// Rotations within the trained length from which on a frequency stays; 32 unless the file says otherwise.
        beta_fast: f32,
        /// Rotations below which a frequency is divided; 1 unless the file says otherwise.
        beta_slow: f32,
        /// Multiplies cosines and sines; `0.1 ln(factor) + 1` when absent.
        attention_factor: Option<f32>,
        /// Round the ends of the ramp to whole frequencies: true for all models but gpt-oss.
        truncate: bool,
    },
    /// Every frequency divided by its own factor, given apart, and cosines and sines scaled (arXiv 2402.13753).
    LongRope {
        /// How many times longer than trained.
        factor: f32,
        /// Positions the model was trained on.
        n_ctx_original: u32,
        /// Multiplies cosines and sines; `sqrt(1 + ln(factor) / ln(n_ctx_original))` when absent.
        attention_factor: Option<f32>,
    },
}

/// What a position is multiplied with to give the angle of each pair, and the factor on cosines and sines.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeFreqs {
    inverse: Vec<f32>,
    attention_factor: f32,
}

impl RopeFreqs {
    /// Inverse frequencies for `n_rot / 2` pairs. `freq_factors` (Llama 3, LongRope) divides each frequency by its own factor
    /// before any other scaling.
    ///
    /// # Panics
    /// If `n_rot` is odd, or `freq_factors` is shorter than `n_rot / 2` (files may carry more than a partial rope needs).
    pub fn new(
        n_rot: usize,
        base: f32,
        scaling: RopeScaling,
        freq_factors: Option<&[f32]>,
    ) -> RopeFreqs {
        assert!(
            n_rot.is_multiple_of(2),
            "rope turns pairs, and {n_rot} is odd"
        );
        let n_pairs = n_rot / 2;
        assert!(
            freq_factors.is_none_or(|factors| factors.len() >= n_pairs),
            "rope needs a frequency factor for each of {n_pairs} pairs"
        );
        let periods = (0..n_pairs).map(|i| {
            let exponent = (2 * i) as f32 / n_rot as f32;
            let period = libm::powf(base, exponent);
            // Rounded as the reference rounds: LongRope multiplies the period, Llama 3 has its factors on frequencies.
            freq_factors.map_or(period, |factors| factors[i] * period)
        });
        let inverse = match scaling {
            RopeScaling::None | RopeScaling::LongRope { .. } => {
                periods.map(|period| 1.0 / period).collect()
            }
            RopeScaling::Linear { factor } => {
                periods.map(|period| (1.0 / period) / factor).collect()
            }
            RopeScaling::Yarn {
                factor,
                n_ctx_original,
                beta_fast,
                beta_slow,
                truncate,
                ..
            } => {
                let ramp = Ramp::new(n_rot, base, n_ctx_original, beta_fast, beta_slow, truncate);
                periods
                    .enumerate()
                    .map(|(i, period)| ramp.blend(i, period, factor))
                    .collect()
            }
        };
        RopeFreqs {
            inverse,
            attention_factor: attention_factor(scaling),
        }
    }

    /// One inverse frequency per pair.
    pub fn inverse(&self) -> &[f32] {
        &self.inverse
    }

    /// What cosines and sines are multiplied with.
    pub fn attention_factor(&self) -> f32 {
        self.attention_factor
    }
}

fn attention_factor(scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => 1.0,
        RopeScaling::Yarn {
            attention_factor: Some(given),
            ..
        }
        | RopeScaling::LongRope {
            attention_factor: Some(given),
            ..
        } => given,
        RopeScaling::Yarn { factor, .. } if factor <= 1.0 => 1.0,
        RopeScaling::Yarn { factor, .. } => (0.1 * libm::log(f64::from(factor)) + 1.0) as f32,
        RopeScaling::LongRope { factor, .. } if factor <= 1.0 => 1.0,
        RopeScaling::LongRope {
            factor,
            n_ctx_original,
            ..
        } => {
            let stretch = libm::log(f64::from(factor)) / libm::log(f64::from(n_ctx_original));
            libm::sqrt(1.0 + stretch) as f32
        }
    }
}

/// YaRN's blend between trained and divided frequencies over the pairs `low..high`.
struct Ramp {
    low: f32,
    high: f32,
}

impl Ramp {
    fn new(
        n_rot: usize,
        base: f32,
        n_ctx_original: u32,
        beta_fast: f32,
        beta_slow: f32,
        truncate: bool,
    ) -> Ramp {
        // The pair whose frequency makes `rotations` turns within the trained length.
        let pair_with = |rotations: f32| {
            let turns =
                f64::from(n_ctx_original) / (f64::from(rotations) * 2.0 * std::f64::consts::PI);
            n_rot as f64 * libm::log(turns) / (2.0 * libm::log(f64::from(base)))
        };
        let (mut low, mut high) = (pair_with(beta_fast), pair_with(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        low = low.max(0.0);
        high = high.min(n_rot as f64 - 1.0);
        if low == high {
            // The reference widens an empty ramp by the same amount.
            high += 0.001;
        }
        Ramp {
            low: low as f32,
            high: high as f32,
        }
    }

    fn blend(&self, pair: usize, period: f32, factor: f32) -> f32 {
        let divided = ((pair as f32 - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        let kept = 1.0 - divided;
        1.0 / (factor * period) * (1.0 - kept) + 1.0 / period * kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (x, y) in found.iter().zip(expected) {
            assert!(
                (f64::from(*x) / y - 1.0).abs() < 3e-7,
                "{found:?} should be {expected:?}"
            );
        }
    }

    #[test]
    fn frequencies_fall_by_powers_of_the_base() {
        let freqs = RopeFreqs::new(8, 10_000.0, RopeScaling::None, None);
        assert_close(freqs.inverse(), &[1.0, 0.1, 0.01, 0.001]);
        let freqs = RopeFreqs::new(8, 10_000.0, RopeScaling::Linear { factor: 4.0 }, None);
        assert_close(freqs.inverse(), &[0.25, 0.025, 0.0025, 0.00025]);
        assert_eq!(freqs.attention_factor(), 1.0);
    }

    #[test]
    fn factors_divide_frequencies() {
        let freqs = RopeFreqs::new(4, 10_000.0, RopeScaling::None, Some(&[1.0, 8.0, 9.0]));
        assert_close(freqs.inverse(), &[1.0, 0.00125]);
    }

    #[test]
    fn yarn_keeps_the_fast_and_divides_the_slow() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            n_ctx_original: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            truncate: true,
        };
        let freqs = RopeFreqs::new(128, 10_000.0, scaling, None);
        let plain = RopeFreqs::new(128, 10_000.0, RopeScaling::None, None);
        // 64 ln(4096 / (2π 32)) / ln 10000 = 20.9 and 64 ln(4096 / 2π) / ln 10000 = 45.03.
        assert_eq!(freqs.inverse()[..=20], plain.inverse()[..=20]);
        assert_close(
            &freqs.inverse()[46..],
            &plain.inverse()[46..]
                .iter()
                .map(|x| f64::from(*x) / 4.0)
                .collect::<Vec<_>>(),
        );
        // Half way up the ramp from 20 to 46: the mean of whole and quarter.
        assert_close(
            &freqs.inverse()[33..34],
            &[f64::from(plain.inverse()[33]) * 0.625],
        );
        assert!((freqs.attention_factor() - 1.138_629_4).abs() < 1e-6);
    }

    #[test]
    fn longrope_scales_attention_by_the_stretch() {
        let scaling = RopeScaling::LongRope {
            factor: 32.0,
            n_ctx_original: 4096,
            attention_factor: None,
        };
        let freqs = RopeFreqs::new(4, 10_000.0, scaling, Some(&[1.5, 30.0]));
        assert_close(freqs.inverse(), &[1.0 / 1.5, 0.01 / 30.0]);
        // sqrt(1 + ln 32 / ln 4096) = sqrt(1 + 5/12)
        assert!((freqs.attention_factor() - 1.190_238_1).abs() < 1e-6);
    }
}
