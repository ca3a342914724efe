//! The settings of a draw, and which values they may have.

use crate::error::RequestError;

/// Entries of `logit_bias` we take; far beyond the 300 of the usual interfaces.
const MAX_BIASES: usize = 1 << 16;

/// How tokens are drawn. The default is greedy: temperature 0, nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 takes the best token; otherwise logits are divided by it.
    pub temperature: f32,
    /// Keeps the k best candidates; 0 keeps all.
    pub top_k: usize,
    /// Keeps the best candidates that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps candidates at least this share as probable as the best; 0 keeps all.
    pub min_p: f32,
    /// Keeps the most typical candidates that together reach this probability; 1 keeps all.
    pub typical: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens, prompt and answer, the repetition penalty looks at; 0 is all of them.
    pub repeat_window: usize,
    /// Subtracted from a logit for each time its token occurs in the answer.
    pub frequency_penalty: f32,
    /// Subtracted from a logit once if its token occurs in the answer.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens; minus infinity forbids one.
    pub logit_bias: Vec<(u32, f32)>,
    /// Key of the random numbers; without one it is drawn and reported.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical: 1.0,
            repeat_penalty: 1.0,
            repeat_window: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

impl SamplingParams {
    /// Whether a draw sees the logits as the model gave them: no bias, no penalty.
    pub(crate) fn keeps_logits(&self) -> bool {
        self.logit_bias.is_empty()
            && self.repeat_penalty == 1.0
            && self.frequency_penalty == 0.0
            && self.presence_penalty == 0.0
    }

    /// Whether the answer is given by the request alone: nothing is left to chance.
    pub fn is_determined(&self) -> bool {
        self.temperature == 0.0 || self.seed.is_some()
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// The first setting that is not a number or outside its range, with the rule.
    pub fn check(&self, n_vocab: usize) -> Result<(), RequestError> {
        let rules: [(
            &'static str,
            f32,
            std::ops::RangeInclusive<f32>,
            &'static str,
        ); 7] = [
            (
                "temperature",
                self.temperature,
                0.0..=100.0,
                "must be between 0 and 100",
            ),
            (
                "top_p",
                self.top_p,
                f32::MIN_POSITIVE..=1.0,
                "must be above 0 and at most 1",
            ),
            ("min_p", self.min_p, 0.0..=1.0, "must be between 0 and 1"),
            (
                "typical",
                self.typical,
                f32::MIN_POSITIVE..=1.0,
                "must be above 0 and at most 1",
            ),
            (
                "repeat_penalty",
                self.repeat_penalty,
                0.01..=100.0,
                "must be between 0.01 and 100",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                -100.0..=100.0,
                "must be between -100 and 100",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                -100.0..=100.0,
                "must be between -100 and 100",
            ),
        ];
        for (name, value, range, rule) in rules {
            // NaN is in no range.
            if !range.contains(&value) {
                return Err(RequestError::Parameter {
                    name,
                    value: f64::from(value),
                    rule,
                });
            }
        }
        // Below this the quotient of two logits could overflow; 0 is greedy.
        if self.temperature > 0.0 && self.temperature < 1e-4 {
            let rule = "must be 0 or at least 0.0001";
            return Err(RequestError::Parameter {
                name: "temperature",
                value: f64::from(self.temperature),
                rule,
            });
        }
        self.check_biases(n_vocab)
    }

    fn check_biases(&self, n_vocab: usize) -> Result<(), RequestError> {
        if self.logit_bias.len() > MAX_BIASES {
            let n = self.logit_bias.len();
            return Err(RequestError::TooMany {
                what: "logit biases",
                n,
                limit: MAX_BIASES,
            });
        }
        let mut seen = std::collections::HashSet::new();
        for &(token, bias) in &self.logit_bias {
            if token as usize >= n_vocab {
                return Err(RequestError::Token {
                    place: "logit bias",
                    token,
                    n_vocab,
                });
            }
            if bias.is_nan() || bias == f32::INFINITY || bias.is_finite() && bias.abs() > 1e6 {
                let rule = "must be a number between -1000000 and 1000000, or minus infinity";
                return Err(RequestError::Parameter {
                    name: "logit bias",
                    value: f64::from(bias),
                    rule,
                });
            }
            if !seen.insert(token) {
                return Err(RequestError::DuplicateBias { token });
            }
        }
        Ok(())
    }
}
