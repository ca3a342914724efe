//! One model, one sequence: reads a prompt in chunks, draws tokens, sends events.
//!
//! The keys and values of the last request stay, and a prompt that begins with the same tokens does not
//! read them again: a chat pays for its new turn only. Guesses of the next tokens are tested in the step that
//! is due anyway ([`speculation`](crate::speculation)). What comes out is the same either way.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType};
use hearth_model::{ExecutorLimits, Model, ModelOptions, PagePool, StepError};
use hearth_text::{Encode, Tokenizer};

use crate::{
    decoder::{Decoder, LogitsOf},
    error::{EngineError, RequestError},
    output::Output,
    request::{Answer, FinishReason, Request, Speculate},
    sampler::Sampler,
    speculation::{Draft, MAX_GUESSES, Speculation},
    stats::Statistics,
};

/// How a generator is set up.
#[derive(Clone, Copy, Debug)]
pub struct GeneratorOptions {
    /// Positions of the context; the model's trained length when absent.
    pub n_ctx: Option<usize>,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Prompt tokens in a step. Larger is faster up to a point and takes more memory; results are the same.
    pub chunk: usize,
    /// Positions that memory is made for, at most the context; all of it when absent.
    pub n_positions: Option<usize>,
    /// Rows of logits a step can return: 1 to generate, one more for each guess it may test
    /// ([`MAX_GUESSES`] are ever made), up to `chunk` for the logits of a whole prompt.
    pub max_logits: usize,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        GeneratorOptions {
            n_ctx: None,
            kv_type: KvType::F16,
            chunk: 512,
            n_positions: None,
            max_logits: 1 + MAX_GUESSES,
        }
    }
}

/// What happens while an answer is made. After each, the callback says whether to go on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Part of the prompt was read.
    Prefill {
        /// Tokens read or reused so far.
        n_done: usize,
        /// Tokens of the prompt.
        n_total: usize,
    },
    /// A token was drawn; text may follow now or with a later token.
    Token {
        /// The token.
        token: u32,
        /// What it was drawn from.
        logits: &'a [f32],
    },
    /// Text that is certain: whole characters, no part of a stop string.
    Text(&'a str),
}

/// Receives events; `Break` ends the answer at the next step.
pub type Callback<'a> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'a;

/// A loaded model with memory for one sequence.
pub struct Generator {
    target: Decoder,
    draft: Option<Draft>,
    tokenizer: Arc<Tokenizer>,
    kernels: Kernels,
    speculation: Speculation,
    /// The present token and the guesses after it.
    tokens: Vec<u32>,
}

impl Generator {
    /// Loads model and tokenizer of a file.
    ///
    /// # Errors
    ///
    /// The file is no model we run, its tokenizer is not usable, or memory is refused.
    pub fn load(
        gguf: Arc<Gguf>,
        kernels: Kernels,
        options: GeneratorOptions,
    ) -> Result<Self, EngineError> {
        let model = Arc::new(Model::load(
            gguf.clone(),
            ModelOptions {
                n_ctx: options.n_ctx,
            },
        )?);
        let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata())?);
        Generator::new(model, tokenizer, kernels, options)
    }

    /// A generator for a model that is already loaded. `options.n_ctx` was the model's to take.
    ///
    /// # Errors
    ///
    /// Tokenizer and model disagree about the vocabulary, or memory is refused.
    pub fn new(
        model: Arc<Model>,
        tokenizer: Arc<Tokenizer>,
        kernels: Kernels,
        options: GeneratorOptions,
    ) -> Result<Self, EngineError> {
        let (n_tokens, n_vocab) = (tokenizer.n_vocab(), model.n_vocab());
        if n_tokens != n_vocab {
            return Err(EngineError::Vocabulary { n_tokens, n_vocab });
        }
        let n_positions = options
            .n_positions
            .map_or(model.n_ctx(), |n| n.min(model.n_ctx()));
        let chunk = options.chunk.min(n_positions);
        let limits = ExecutorLimits {
            max_tokens: chunk,
            max_logits: options.max_logits.min(chunk),
            n_positions,
        };
        let has_experts = model.hparams().experts.is_some();
        Ok(Generator {
            target: Decoder::new(model, &kernels, options.kv_type, limits)?,
            draft: None,
            tokenizer,
            speculation: Speculation::new(kernels.level(), has_experts),
            kernels,
            tokens: Vec::with_capacity(1 + MAX_GUESSES),
        })
    }

    /// Loads a smaller model of the same vocabulary that guesses tokens; what the answers are does not depend on it.
    ///
    /// # Errors
    ///
    /// The file is no model we run, its vocabulary is another one, or memory is refused.
    pub fn add_draft(&mut self, gguf: Arc<Gguf>) -> Result<(), EngineError> {
        self.draft = Some(Draft::load(
            gguf,
            self.target.model(),
            &self.tokenizer,
            &self.kernels,
            self.target.pool().layout().kv_type(),
            self.target.limits(),
        )?);
        Ok(())
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.target.model()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The processor level and threads.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// The pages of keys and values.
    pub fn pool(&self) -> &PagePool {
        self.target.pool()
    }

    /// Tokens of plain text, with the special tokens the model expects around it.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(
            text,
            Encode {
                add_special: true,
                parse_special: false,
            },
        )
    }

    /// Forgets the last request, so that the next one reads its whole prompt.
    pub fn reset(&mut self) {
        self.target.clear();
        if let Some(draft) = &mut self.draft {
            draft.clear();
        }
    }

    /// Runs a request to its end. Events come in order: the prompt's progress, then for each token the
    /// token and the text that it made certain.
    ///
    /// # Errors
    ///
    /// The request is bad, or a step found logits that are not finite.
    pub fn generate(
        &mut self,
        request: &Request,
        callback: &mut Callback<'_>,
    ) -> Result<Answer, EngineError> {
        self.run(request, None, callback)
    }

    /// Runs a request whose answer is given: each token is drawn as ever, and then the next one of `answer` is
    /// taken in its place. The work is that of a model which writes this answer, so its speed can be
    /// measured with any weights.
    ///
    /// # Errors
    ///
    /// As for [`Generator::generate`]; or `answer` names a token outside the vocabulary.
    pub fn replay(
        &mut self,
        request: &Request,
        answer: &[u32],
        callback: &mut Callback<'_>,
    ) -> Result<Answer, EngineError> {
        self.check_vocabulary("the answer", answer)?;
        self.run(request, Some(answer), callback)
    }

    fn run(
        &mut self,
        request: &Request,
        answer: Option<&[u32]>,
        callback: &mut Callback<'_>,
    ) -> Result<Answer, EngineError> {
        let start = Instant::now();
        let n_positions = self.target.limits().n_positions;
        request.check(self.model().n_vocab(), n_positions)?;
        let n_prompt = request.prompt.len();
        let sampler = Sampler::new(
            request.sampling.clone(),
            self.model().n_vocab(),
            n_prompt,
            request.choice,
        )?;
        let n_most = answer.map_or(usize::MAX, <[u32]>::len);
        let n_most = request.max_tokens.unwrap_or(usize::MAX).min(n_most);
        let n_wanted = n_most.min(n_positions - n_prompt);
        let tokenizer = self.tokenizer.clone();
        let mut writer = Writer {
            statistics: Statistics {
                n_prompt,
                seed: sampler.seed(),
                n_reused: self.target.keep_common(&request.prompt, 0),
                ..Statistics::default()
            },
            sampler,
            answer,
            output: Output::new(request, &tokenizer, None),
            history: request.prompt.clone(),
            start,
            callback,
        };
        let is_read = self.target.read(
            &self.kernels,
            &request.prompt[writer.statistics.n_reused..],
            n_wanted > 0,
            &mut |n_done| {
                (writer.callback)(Event::Prefill {
                    n_done,
                    n_total: n_prompt,
                })
            },
        )?;
        writer.statistics.prefill = start.elapsed();
        let decode = Instant::now();
        let finish = match is_read {
            ControlFlow::Break(()) => FinishReason::Cancelled,
            ControlFlow::Continue(_) if n_wanted == 0 => FinishReason::Length,
            ControlFlow::Continue(logits) => match writer.take(logits)? {
                ControlFlow::Break(reason) => reason,
                ControlFlow::Continue(_) => {
                    self.write(&mut writer, request.speculate, n_prompt + n_wanted)?
                }
            },
        };
        let (tokens, text, finish) = writer.output.finish(finish, writer.callback);
        let mut statistics = writer.statistics;
        statistics.decode = decode.elapsed();
        Ok(Answer {
            tokens,
            text,
            finish,
            statistics,
        })
    }

    /// Steps and draws until the answer ends, at the latest when the text has `n_end` tokens.
    fn write(
        &mut self,
        writer: &mut Writer<'_, '_>,
        speculate: Speculate,
        n_end: usize,
    ) -> Result<FinishReason, EngineError> {
        let speculates = speculate != Speculate::Off;
        if speculates {
            self.speculation.begin(&writer.history, speculate);
            if let Some(draft) = &mut self.draft {
                draft.begin(&writer.history);
            }
        }
        while writer.history.len() < n_end {
            let history = &writer.history;
            self.tokens.clear();
            self.tokens.extend(history.last());
            if speculates {
                let n_most = (n_end - history.len()).min(self.target.limits().max_logits) - 1;
                let (kernels, sampler) = (&self.kernels, &mut writer.sampler);
                let draft = self.draft.as_mut().map(|draft| (draft, kernels, sampler));
                let guesses = self.speculation.guess(history, 0, n_most, draft);
                self.tokens.extend_from_slice(guesses);
            }
            let flow = self.step(writer, speculates);
            // Wrong guesses were read as well: nothing of them stays, nor of what stands after the end of an
            // answer. A token just drawn is not read yet.
            let n_unread = usize::from(matches!(flow, Ok(ControlFlow::Continue(()))));
            self.target.keep(writer.history.len() - n_unread);
            self.target.release();
            if let ControlFlow::Break(reason) = flow? {
                return Ok(reason);
            }
        }
        Ok(FinishReason::Length)
    }

    /// One step over the present token and the guesses after it, and all the tokens it lets us draw.
    fn step(
        &mut self,
        writer: &mut Writer<'_, '_>,
        speculates: bool,
    ) -> Result<ControlFlow<FinishReason>, EngineError> {
        writer.statistics.n_steps += 1;
        loop {
            let step = self
                .target
                .try_step(&self.kernels, &self.tokens, LogitsOf::All)?;
            let logits = match step {
                Ok(logits) => logits,
                // Perhaps after a wrong guess only: without guesses it would never have been seen.
                Err(StepError::NotFinite { .. }) if self.tokens.len() > 1 => {
                    self.speculation.withdraw();
                    self.tokens.truncate(1);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for index in 0..logits.len() {
                if let ControlFlow::Break(reason) = writer.take(logits.row(index))? {
                    return Ok(ControlFlow::Break(reason));
                }
                let is_right = speculates
                    && self
                        .speculation
                        .drawn(&writer.history, &mut writer.statistics);
                if !is_right {
                    break;
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
    }

    /// Reads `tokens` from the start and shows the logits after the last one, or after each of them, until
    /// `show` breaks.
    ///
    /// # Errors
    ///
    /// There are no tokens, one is outside the vocabulary, or they do not fit the context; or a step found
    /// logits that are not finite.
    pub fn logits(
        &mut self,
        tokens: &[u32],
        all: bool,
        show: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.reset();
        self.check_tokens(tokens)?;
        if !all {
            let mut go_on = |_| ControlFlow::Continue(());
            let read = self.target.read(&self.kernels, tokens, true, &mut go_on)?;
            if let ControlFlow::Continue(logits) = read {
                // The only row: whether to go on is no question.
                let _ = show(tokens.len() - 1, logits);
            }
            return Ok(());
        }
        let mut pos = 0;
        for chunk in tokens.chunks(self.target.limits().max_logits) {
            self.target.release();
            let logits = self.target.step(&self.kernels, chunk, LogitsOf::All)?;
            for index in 0..logits.len() {
                if show(pos + index, logits.row(index)).is_break() {
                    return Ok(());
                }
            }
            pos += chunk.len();
        }
        Ok(())
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), RequestError> {
        let (n_prompt, n_ctx) = (tokens.len(), self.target.limits().n_positions);
        if tokens.is_empty() {
            return Err(RequestError::EmptyPrompt);
        }
        if n_prompt > n_ctx {
            return Err(RequestError::PromptTooLong { n_prompt, n_ctx });
        }
        self.check_vocabulary("the prompt", tokens)
    }

    fn check_vocabulary(&self, place: &'static str, tokens: &[u32]) -> Result<(), RequestError> {
        let n_vocab = self.model().n_vocab();
        match tokens.iter().find(|token| **token as usize >= n_vocab) {
            Some(&token) => Err(RequestError::Token {
                place,
                token,
                n_vocab,
            }),
            None => Ok(()),
        }
    }
}

/// Draws the tokens of one answer and passes them on.
struct Writer<'a, 'c> {
    sampler: Sampler,
    /// What is taken in place of the tokens drawn.
    answer: Option<&'a [u32]>,
    output: Output<'a>,
    /// Prompt and answer so far.
    history: Vec<u32>,
    statistics: Statistics,
    start: Instant,
    callback: &'a mut Callback<'c>,
}

impl Writer<'_, '_> {
    /// Draws the next token of the history; `Break` when the answer ends with it.
    fn take(&mut self, logits: &[f32]) -> Result<ControlFlow<FinishReason>, RequestError> {
        let drawn = self.sampler.draw(logits, &self.history)?;
        let token = self
            .answer
            .map_or(drawn, |answer| answer[self.statistics.n_drawn]);
        self.statistics.n_drawn += 1;
        self.statistics
            .first_token
            .get_or_insert_with(|| self.start.elapsed());
        let flow = self.output.take(token, logits, self.callback);
        if flow.is_continue() {
            self.history.push(token);
        }
        Ok(flow)
    }
}
