//! Guesses of a second, smaller model with the same vocabulary.

use std::{ops::ControlFlow, sync::Arc};

use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType};
use hearth_model::{ExecutorLimits, Model, ModelOptions};
use hearth_text::Tokenizer;

use crate::{
    decoder::{Decoder, LogitsOf},
    error::EngineError,
    sampler::Sampler,
};

/// A draft model with memory for the same sequence.
pub(crate) struct Draft {
    decoder: Decoder,
    /// Of what the decoder holds, so many tokens are known to be those of the text.
    n_common: usize,
    /// Its logits were not finite, or nothing could be drawn from them. The answer does not need it.
    has_failed: bool,
    cost: f32,
    /// The text and the guesses after it.
    text: Vec<u32>,
}

impl Draft {
    /// Loads the model of a file. Its context is its own, at most that of the model it guesses for.
    ///
    /// # Errors
    ///
    /// The file is no model we run, its vocabulary is another one, or memory is refused.
    pub(crate) fn load(
        gguf: Arc<Gguf>,
        target: &Model,
        tokenizer: &Tokenizer,
        kernels: &Kernels,
        kv_type: KvType,
        limits: ExecutorLimits,
    ) -> Result<Self, EngineError> {
        let own = Tokenizer::from_metadata(gguf.metadata())?;
        check_vocabulary(&own, tokenizer)?;
        let n_file_bytes = gguf.file_bytes();
        let model = Arc::new(Model::load(gguf, ModelOptions { n_ctx: None })?);
        if model.n_vocab() != own.n_vocab() {
            let (n_tokens, n_vocab) = (own.n_vocab(), model.n_vocab());
            return Err(EngineError::Vocabulary { n_tokens, n_vocab });
        }
        let n_positions = limits.n_positions.min(model.n_ctx());
        let limits = ExecutorLimits {
            max_tokens: limits.max_tokens.min(n_positions),
            max_logits: 1,
            n_positions,
        };
        Ok(Draft {
            decoder: Decoder::new(model, kernels, kv_type, limits)?,
            n_common: 0,
            has_failed: false,
            cost: n_file_bytes as f32 / target.gguf().file_bytes() as f32,
            text: Vec::new(),
        })
    }

    /// Forgets what it read.
    pub(crate) fn clear(&mut self) {
        self.decoder.clear();
        self.n_common = 0;
    }

    /// What a guess costs, in steps of the model it guesses for: one token reads all weights of either.
    pub(crate) fn cost(&self) -> f32 {
        self.cost
    }

    /// Starts over with a text, keeping what is known of its beginning.
    pub(crate) fn begin(&mut self, text: &[u32]) {
        self.n_common = self.decoder.keep_common(text, 0);
        self.has_failed = false;
    }

    /// How many guesses after a text of `n_text` tokens its context has room for.
    pub(crate) fn room(&self, n_text: usize) -> usize {
        // The last guess is never read.
        let n_free = (self.decoder.limits().n_positions + 1).saturating_sub(n_text);
        if self.has_failed { 0 } else { n_free }
    }

    /// Appends up to `n` guesses of what follows `text`, which continues the one seen last: what `sampler`, the
    /// request's own, draws from the draft model's logits. The random number is the one that the position has, so
    /// two models that agree about the probabilities agree about the token.
    pub(crate) fn guess(
        &mut self,
        kernels: &Kernels,
        sampler: &mut Sampler,
        text: &[u32],
        n: usize,
        out: &mut Vec<u32>,
    ) {
        self.has_failed = self.try_guess(kernels, sampler, text, n, out).is_err();
    }

    fn try_guess(
        &mut self,
        kernels: &Kernels,
        sampler: &mut Sampler,
        text: &[u32],
        n: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), EngineError> {
        let decoder = &mut self.decoder;
        self.n_common = decoder.keep_common(text, self.n_common);
        let unread = &text[self.n_common..];
        let mut go_on = |_| ControlFlow::Continue(());
        let read = decoder.read(kernels, unread, true, &mut go_on)?;
        let ControlFlow::Continue(mut logits) = read else {
            unreachable!("nobody asks for an end");
        };
        self.n_common = text.len();
        self.text.clear();
        self.text.extend_from_slice(text);
        for index in 0..n {
            let token = sampler.draw(logits, &self.text)?;
            self.text.push(token);
            out.push(token);
            if index + 1 < n {
                logits = decoder.step(kernels, &[token], LogitsOf::Last)?.row(0);
            }
        }
        Ok(())
    }
}

/// A token must mean the same to both models.
fn check_vocabulary(draft: &Tokenizer, target: &Tokenizer) -> Result<(), EngineError> {
    let (n_draft, n_target) = (draft.n_vocab(), target.n_vocab());
    if n_draft != n_target {
        return Err(EngineError::DraftSize { n_draft, n_target });
    }
    let differs = |token: &u32| draft.piece(*token) != target.piece(*token);
    if let Some(token) = (0..n_target as u32).find(differs) {
        let piece = |tokenizer: &Tokenizer| {
            String::from_utf8_lossy(tokenizer.piece(token).unwrap_or_default()).into_owned()
        };
        return Err(EngineError::DraftToken {
            token,
            draft: piece(draft),
            target: piece(target),
        });
    }
    Ok(())
}
