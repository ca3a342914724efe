//! Turns a loaded model into answers: a request comes in, its prompt is read in chunks, tokens are
//! drawn one after the other, text goes out through a callback.
//!
//! What a request draws depends on the model, the request and its seed alone: not on how the prompt
//! was cut, what ran before, which tokens were guessed ahead, or how many threads there are. This crate knows nothing of HTTP or of
//! file formats, and never does arithmetic on weights.
//!
//! ```no_run
//! use std::{num::NonZeroUsize, ops::ControlFlow, path::Path, sync::Arc};
//! use hearth_engine::{Event, Generator, GeneratorOptions, Request};
//! use hearth_kernels::{Kernels, Level};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gguf = Arc::new(hearth_gguf::Gguf::open(Path::new("model.gguf"))?);
//! let kernels = Kernels::new(Level::best(), NonZeroUsize::MIN)?;
//! let mut generator = Generator::load(gguf, kernels, GeneratorOptions::default())?;
//! let request = Request::new(generator.encode("Once upon a time"));
//! generator.generate(&request, &mut |event| {
//!     if let Event::Text(text) = event {
//!         print!("{text}");
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod constraint;
mod decoder;
mod embed;
mod engine;
mod error;
mod generator;
mod job;
mod listeners;
mod logprobs;
mod output;
mod pooling;
pub mod prefix;
mod reading;
mod request;
pub mod sampler;
mod scheduler;
pub mod speculation;
mod stats;
mod stop;
mod task;
mod thinking;
mod worker;

pub use constraint::{
    AnswerGrammar, Constraint, ConstraintError, Grammar, Grammars, Thinking, ToolGrammarChoice,
    ToolSpec,
};
pub use embed::EmbedEvents;
pub use engine::{Engine, EngineOptions, EngineSnapshot};

pub use error::{EngineError, RequestError};
pub use generator::{Callback, Event, Generator, GeneratorOptions};
pub use job::{
    Job, JobError, JobEvent, JobEvents, Owner, Priority, SubmitError, ThinkingBudget, TokenLogprob,
};
pub use prefix::{DiskOptions, PrefixOptions};
pub use reading::{AnswerReader, Reading};
pub use request::{Answer, FinishReason, Request, Speculate};
pub use sampler::{Sampler, SamplingParams};
pub use stats::{Guesses, Statistics};
