//! Penalties for tokens that were there before.

use super::SamplingParams;

/// Working memory of the penalties.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    tokens: Vec<u32>,
}

impl Penalties {
    /// Applies all three to `logits`; `history[n_prompt..]` is the answer so far.
    pub(super) fn apply(
        &mut self,
        params: &SamplingParams,
        history: &[u32],
        n_prompt: usize,
        logits: &mut [f32],
    ) {
        if params.repeat_penalty != 1.0 {
            let window = if params.repeat_window == 0 {
                history.len()
            } else {
                params.repeat_window
            };
            let recent = &history[history.len().saturating_sub(window)..];
            self.for_each(recent, |token, _| {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = if *logit > 0.0 {
                        *logit / params.repeat_penalty
                    } else {
                        *logit * params.repeat_penalty
                    };
                }
            });
        }
        if params.frequency_penalty != 0.0 || params.presence_penalty != 0.0 {
            self.for_each(&history[n_prompt.min(history.len())..], |token, count| {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit -= count as f32 * params.frequency_penalty + params.presence_penalty;
                }
            });
        }
    }

    /// Every distinct token and how often it occurs.
    fn for_each(&mut self, tokens: &[u32], mut then: impl FnMut(u32, usize)) {
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        self.tokens.sort_unstable();
        for run in self.tokens.chunk_by(|a, b| a == b) {
            then(run[0], run.len());
        }
    }
}
