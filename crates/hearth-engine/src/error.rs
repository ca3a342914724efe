//! What can go wrong between a request and its answer.

use hearth_gguf::GgufError;
use hearth_model::{ModelError, PoolError, StepError};
use hearth_text::TextError;

use crate::constraint::ConstraintError;

/// Why a request cannot be run: it is the caller's to change.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A setting of the sampler is not a number or outside its range.
    #[error("{name} is {value}, {rule}")]
    Parameter {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The rule it breaks, with the limit.
        rule: &'static str,
    },
    /// A token the vocabulary does not have.
    #[error("{place} names token {token}, the vocabulary has {n_vocab}")]
    Token {
        /// Where it stands.
        place: &'static str,
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// The same token twice.
    #[error("logit bias names token {token} twice")]
    DuplicateBias {
        /// The token.
        token: u32,
    },
    /// An empty stop string would end every answer at once.
    #[error("stop string {index} is empty")]
    EmptyStop {
        /// Which one, from 0.
        index: usize,
    },
    /// More of something than we take.
    #[error("{n} {what}, the limit is {limit}")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many there are.
        n: usize,
        /// The most we take.
        limit: usize,
    },
    /// Nothing to continue.
    #[error("the prompt has no tokens, and the model has no token that starts a text")]
    EmptyPrompt,
    /// The prompt and at least one token of an answer do not fit the context.
    #[error(
        "the prompt has {n_prompt} tokens, the context holds {n_ctx} with at least one of the answer"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Positions of the context.
        n_ctx: usize,
    },
    /// A text to be turned into a vector does not fit the context.
    #[error("the text has {n_prompt} tokens, the context holds {n_ctx}")]
    TextTooLong {
        /// Tokens of the text.
        n_prompt: usize,
        /// Positions of the context.
        n_ctx: usize,
    },
    /// Every token was forbidden by the request's own settings.
    #[error("no token can be drawn at position {pos}: logit biases forbid all of them")]
    NothingToDraw {
        /// Position of the token that was to be drawn.
        pos: usize,
    },
}

/// Why a model could not be loaded or an answer not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The request is bad.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file is no model we run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file's tokenizer is not usable.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Tokenizer and model disagree.
    #[error("the tokenizer has {n_tokens} tokens, the model {n_vocab}")]
    Vocabulary {
        /// Tokens of the tokenizer.
        n_tokens: usize,
        /// Rows of the model's output.
        n_vocab: usize,
    },
    /// The draft model has another number of tokens.
    #[error(
        "the draft model's vocabulary has {n_draft} tokens, the model's {n_target}: they must be the same"
    )]
    DraftSize {
        /// Tokens of the draft model.
        n_draft: usize,
        /// Tokens of the model it would guess for.
        n_target: usize,
    },
    /// A token means something else to the draft model.
    #[error(
        "token {token} is {draft:?} to the draft model and {target:?} to the model: the vocabularies must be the same"
    )]
    DraftToken {
        /// The token.
        token: u32,
        /// Its text in the draft model's vocabulary.
        draft: String,
        /// Its text in the model's.
        target: String,
    },
    /// No memory for keys and values.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// What the answer must look like could not be enforced.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// A value of the file has the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The budget for keys and values holds no page.
    #[error(
        "the memory for keys and values is {budget_bytes} bytes, 64 positions of this model take {page_bytes}"
    )]
    Budget {
        /// Bytes allowed.
        budget_bytes: u64,
        /// Bytes of a page.
        page_bytes: usize,
    },
    /// A number of jobs or rows that nothing could run with.
    #[error("{name} is 0, it must be at least 1")]
    Zero {
        /// Which.
        name: &'static str,
    },
    /// The system gave no thread.
    #[error("the system refused a thread for the engine")]
    Thread(#[source] std::io::Error),
    /// A defect of ours; the engine goes on without the jobs that were running.
    #[error("internal error: {message}")]
    Panic {
        /// What the program said.
        message: String,
    },
}
