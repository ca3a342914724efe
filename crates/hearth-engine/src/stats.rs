//! What an answer cost.

use std::time::Duration;

/// Counts and times of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of those, tokens whose keys and values were still there from the request before.
    pub n_reused: usize,
    /// Tokens drawn, including one that ended the text.
    pub n_drawn: usize,
    /// Steps made after the prompt: fewer than tokens when guesses were right.
    pub n_steps: usize,
    /// Guesses from the text itself.
    pub lookup: Guesses,
    /// Guesses of a draft model.
    pub draft: Guesses,
    /// Time to read the prompt, up to the logits after it.
    pub prefill: Duration,
    /// Time from there to the end.
    pub decode: Duration,
    /// Time from the request to the first token drawn.
    pub first_token: Option<Duration>,
    /// The seed in use: with it the same request gives the same answer.
    pub seed: u64,
}

/// Tokens that were guessed and tested in a step that was due anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guesses {
    /// Tokens guessed.
    pub n_made: usize,
    /// Of those, tokens that were then drawn.
    pub n_right: usize,
}

impl Statistics {
    /// Prompt tokens read in a second, reused ones not counted.
    pub fn prefill_tok_s(&self) -> f64 {
        rate(self.n_prompt - self.n_reused, self.prefill)
    }

    /// Tokens written in a second. The first one comes out of the prompt's last step, so it is not counted.
    pub fn decode_tok_s(&self) -> f64 {
        rate(self.n_drawn.saturating_sub(1), self.decode)
    }
}

fn rate(n: usize, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        n as f64 / time.as_secs_f64()
    }
}
