//! Draws the next token from a row of logits.
//!
//! The order, which is the one `transformers` applies and most servers follow:
//!
//! 1. **logit bias** is added to the logits it names;
//! 2. **repetition penalty** divides a positive logit and multiplies a negative one of every token
//!    among the last `repeat_window` tokens of prompt and answer;
//! 3. **frequency and presence penalty** subtract, for every token of the answer so far, so often it
//!    occurs times the first and once the second (the prompt does not count);
//! 4. **temperature** divides the logits; 0 takes the best one (the lowest id of equals) and ends here;
//! 5. **top-k** keeps the k best;
//! 6. **top-p** keeps the shortest run of the best whose probabilities reach p;
//! 7. **min-p** keeps those at least p times as probable as the best;
//! 8. **typical** keeps the tokens whose surprise is nearest to the expected one until their
//!    probabilities reach p.
//!
//! At least one candidate always stays. Candidates are ordered by logit, descending, then by id,
//! ascending; probabilities are `libm` exponentials in f64, and all sums run in f64 in that order. The
//! uniform number comes from [`philox`], keyed by (seed, choice, position of the token drawn): the draw
//! does not depend on what was drawn before, so nothing that reorders or repeats work can change it.

mod candidates;
mod params;
mod penalty;
pub mod philox;

use candidates::Candidates;
pub(crate) use candidates::sort_key;
pub use params::SamplingParams;
use penalty::Penalties;

use crate::error::RequestError;

/// Draws tokens for one choice of one request.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    seed: u64,
    choice: u32,
    n_prompt: usize,
    scratch: Scratch,
}

/// Working memory of a draw: some bytes for each token of the vocabulary, so samplers that take turns share one.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    logits: Vec<f32>,
    penalties: Penalties,
    candidates: Candidates,
}

impl Sampler {
    /// Checks the settings. `n_prompt` tells where in the history the answer starts, `choice` which of a
    /// request's answers this is.
    ///
    /// # Errors
    ///
    /// A setting is not a number, outside its range, or names a token outside the vocabulary.
    pub fn new(
        params: SamplingParams,
        n_vocab: usize,
        n_prompt: usize,
        choice: u32,
    ) -> Result<Self, RequestError> {
        params.check(n_vocab)?;
        let seed = params.seed.unwrap_or_else(philox::fresh_seed);
        Ok(Sampler {
            params,
            seed,
            choice,
            n_prompt,
            scratch: Scratch::default(),
        })
    }

    /// The seed in use: the one given, or the one drawn when none was.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Draws the token that follows `history` (prompt and answer so far).
    ///
    /// # Errors
    ///
    /// Biases of minus infinity forbid every token.
    pub fn draw(&mut self, logits: &[f32], history: &[u32]) -> Result<u32, RequestError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let drawn = self.draw_with(&mut scratch, logits, history);
        self.scratch = scratch;
        drawn
    }

    /// The same with working memory that others use too.
    pub(crate) fn draw_with(
        &self,
        scratch: &mut Scratch,
        logits: &[f32],
        history: &[u32],
    ) -> Result<u32, RequestError> {
        let pos = history.len();
        let (params, nothing) = (&self.params, RequestError::NothingToDraw { pos });
        let is_greedy = params.temperature == 0.0;
        if is_greedy && params.keeps_logits() {
            return best(logits).ok_or(nothing);
        }
        scratch.logits.clear();
        scratch.logits.extend_from_slice(logits);
        for &(token, bias) in &params.logit_bias {
            scratch.logits[token as usize] += bias;
        }
        let penalties = &mut scratch.penalties;
        penalties.apply(params, history, self.n_prompt, &mut scratch.logits);
        if is_greedy {
            return best(&scratch.logits).ok_or(nothing);
        }
        scratch.candidates.fill(&scratch.logits, params);
        let uniform = philox::uniform(self.seed, self.choice, pos as u64);
        scratch.candidates.pick(uniform).ok_or(nothing)
    }
}

/// The highest logit, the lowest id of equals; `None` when all are minus infinity.
pub fn best(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if best.map_or(logit > f32::NEG_INFINITY, |(_, highest)| logit > highest) {
            best = Some((token as u32, logit));
        }
    }
    best.map(|(token, _)| token)
}

#[cfg(test)]
mod tests;
