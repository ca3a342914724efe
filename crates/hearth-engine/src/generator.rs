//! One model, one sequence: reads a prompt in chunks, draws tokens, sends events.
//!
//! The keys and values of the last request stay, and a prompt that begins with the same tokens does not
//! read them again: a chat pays for its new turn only. What comes out is the same either way.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType};
use hearth_model::{
    Batch, Executor, ExecutorLimits, Logits, Model, ModelOptions, PagePool, Row, Sequence,
};
use hearth_text::{Encode, Tokenizer};

use crate::{
    error::{EngineError, RequestError},
    output::Output,
    request::{Answer, FinishReason, Request},
    sampler::Sampler,
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
    /// Rows of logits a step can return: 1 to generate, up to `chunk` for the logits of a whole prompt.
    pub max_logits: usize,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        GeneratorOptions {
            n_ctx: None,
            kv_type: KvType::F16,
            chunk: 512,
            n_positions: None,
            max_logits: 1,
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
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    kernels: Kernels,
    executor: Executor,
    pool: PagePool,
    sequence: Sequence,
    /// The tokens whose keys and values `sequence` holds.
    stored: Vec<u32>,
    rows: Vec<Row>,
    chunk: usize,
    n_positions: usize,
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
        Ok(Generator {
            executor: Executor::new(&model, &kernels, limits)?,
            pool: PagePool::new(&model, options.kv_type, n_positions)?,
            sequence: Sequence::new(),
            stored: Vec::new(),
            rows: Vec::with_capacity(chunk),
            chunk,
            n_positions,
            model,
            tokenizer,
            kernels,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
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
        &self.pool
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
        self.sequence.clear(&mut self.pool);
        self.stored.clear();
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
        let start = Instant::now();
        request.check(self.model.n_vocab(), self.n_positions)?;
        let n_prompt = request.prompt.len();
        let mut sampler = Sampler::new(
            request.sampling.clone(),
            self.model.n_vocab(),
            n_prompt,
            request.choice,
        )?;
        let room = self.n_positions - n_prompt;
        let n_wanted = request.max_tokens.unwrap_or(room).min(room);
        let tokenizer = self.tokenizer.clone();
        let mut output = Output::new(request, &tokenizer);
        let mut statistics = Statistics {
            n_prompt,
            seed: sampler.seed(),
            ..Statistics::default()
        };
        statistics.n_reused = self.keep_common(&request.prompt);
        let mut history = request.prompt.clone();
        let is_read = self.read(
            &history[statistics.n_reused..],
            n_wanted > 0,
            n_prompt,
            callback,
        )?;
        statistics.prefill = start.elapsed();
        let decode = Instant::now();
        let mut finish = FinishReason::Length;
        match is_read {
            ControlFlow::Break(()) => finish = FinishReason::Cancelled,
            ControlFlow::Continue(mut logits) => {
                while history.len() < n_prompt + n_wanted {
                    let token = sampler.draw(logits, &history)?;
                    statistics.n_drawn += 1;
                    statistics
                        .first_token
                        .get_or_insert_with(|| start.elapsed());
                    if let ControlFlow::Break(reason) = output.take(token, logits, callback) {
                        finish = reason;
                        break;
                    }
                    history.push(token);
                    if history.len() < n_prompt + n_wanted {
                        logits = self.step(&[token], LogitsOf::Last)?.row(0);
                    }
                }
            }
        }
        let (tokens, text, finish) = output.finish(finish, callback);
        statistics.decode = decode.elapsed();
        Ok(Answer {
            tokens,
            text,
            finish,
            statistics,
        })
    }

    /// Appends `tokens` to what is stored, in chunks, and returns the logits after the last one.
    ///
    /// # Errors
    ///
    /// There are no tokens, one is outside the vocabulary, or they do not fit the context.
    fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], EngineError> {
        let n_total = self.stored.len() + tokens.len();
        self.check_tokens(tokens)?;
        match self.read(tokens, true, n_total, &mut |_| ControlFlow::Continue(()))? {
            ControlFlow::Continue(logits) => Ok(logits),
            ControlFlow::Break(()) => unreachable!("the callback never breaks"),
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
            // The only row: whether to go on is no question.
            let _ = show(tokens.len() - 1, self.feed(tokens)?);
            return Ok(());
        }
        let mut pos = 0;
        for chunk in tokens.chunks(self.chunk.min(self.executor.limits().max_logits)) {
            let logits = self.step(chunk, LogitsOf::All)?;
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
        let (n_vocab, n_ctx) = (self.model.n_vocab(), self.n_positions);
        let n_prompt = self.stored.len() + tokens.len();
        if tokens.is_empty() {
            return Err(RequestError::EmptyPrompt);
        }
        if n_prompt > n_ctx {
            return Err(RequestError::PromptTooLong { n_prompt, n_ctx });
        }
        match tokens.iter().find(|token| **token as usize >= n_vocab) {
            Some(&token) => Err(RequestError::Token {
                place: "the prompt",
                token,
                n_vocab,
            }),
            None => Ok(()),
        }
    }

    /// Keeps the positions that `prompt` begins with, all but its last token at most: its logits are needed.
    fn keep_common(&mut self, prompt: &[u32]) -> usize {
        let common = prompt[..prompt.len() - 1]
            .iter()
            .zip(&self.stored)
            .take_while(|(a, b)| a == b)
            .count();
        let window = self.model.plan().window();
        let n_kept = if self.sequence.can_continue_at(common, window) {
            common
        } else {
            0
        };
        self.sequence.truncate(n_kept, &mut self.pool);
        self.stored.truncate(n_kept);
        n_kept
    }

    /// Appends tokens chunk by chunk; the logits are those after the last one, if wanted.
    fn read(
        &mut self,
        tokens: &[u32],
        wants_logits: bool,
        n_total: usize,
        callback: &mut Callback<'_>,
    ) -> Result<ControlFlow<(), &[f32]>, EngineError> {
        let (mut rest, chunk) = (tokens, self.chunk);
        if callback(Event::Prefill {
            n_done: self.stored.len(),
            n_total,
        })
        .is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        while rest.len() > chunk {
            let (now, later) = rest.split_at(chunk);
            self.step(now, LogitsOf::None)?;
            rest = later;
            if callback(Event::Prefill {
                n_done: self.stored.len(),
                n_total,
            })
            .is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        let n_done = self.stored.len() + rest.len();
        let logits = self.step(
            rest,
            if wants_logits {
                LogitsOf::Last
            } else {
                LogitsOf::None
            },
        )?;
        if callback(Event::Prefill { n_done, n_total }).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(if wants_logits {
            logits.row(0)
        } else {
            &[]
        }))
    }

    /// One step: appends at most a chunk of tokens.
    fn step(&mut self, tokens: &[u32], logits_of: LogitsOf) -> Result<Logits<'_>, EngineError> {
        let start = self.stored.len();
        self.sequence
            .grow_to(start + tokens.len(), &mut self.pool)?;
        self.rows.clear();
        self.rows
            .extend(tokens.iter().enumerate().map(|(index, &token)| Row {
                seq: 0,
                pos: (start + index) as u32,
                token,
                wants_logits: match logits_of {
                    LogitsOf::None => false,
                    LogitsOf::Last => index + 1 == tokens.len(),
                    LogitsOf::All => true,
                },
            }));
        let batch = Batch {
            rows: &self.rows,
            tables: &[self.sequence.table()],
        };
        let logits = self
            .executor
            .step(&self.model, &self.kernels, &mut self.pool, &batch)?;
        self.sequence.advance(tokens.len());
        self.stored.extend_from_slice(tokens);
        if let Some(window) = self.model.plan().window() {
            self.sequence.release_outside(window, &mut self.pool);
        }
        Ok(logits)
    }
}

/// Which rows of a step want logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogitsOf {
    None,
    Last,
    All,
}
