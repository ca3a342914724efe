//! What a client of the engine hands in, and what comes back.
//!
//! A [`Job`] is one answer to one prompt. Its events arrive on a channel of its own; dropping [`JobEvents`]
//! ends the work at the next step and keeps the pages that are finished.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::mpsc;

use crate::{
    constraint::Constraint,
    error::{EngineError, RequestError},
    reading::Reading,
    request::{FinishReason, Request},
    stats::Statistics,
};

/// Whose work it is. Turns are taken between owners, and nothing of one owner's cache is found by another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// What tells owners apart: the id of a key, or empty for the user of a machine without keys.
    pub name: Arc<str>,
    /// Share of the machine against that of other owners, at least 1.
    pub weight: u32,
}

impl Default for Owner {
    fn default() -> Self {
        Owner {
            name: Arc::from(""),
            weight: 1,
        }
    }
}

/// How urgent a job is: among an owner's jobs, and between owners of equal use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// Nobody does.
    Background,
}

/// A bound on thinking: after so many tokens of it the block is closed and the answer begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinkingBudget {
    /// The most tokens before `close` is written in the model's place.
    pub n_tokens: usize,
    /// What begins the block, if the model writes that itself: an answer that begins otherwise is no thought. `None` when
    /// the prompt ends inside the block.
    pub open_text: Option<String>,
    /// What ends the block: once the answer's text contains it, the budget is void.
    pub close_text: String,
    /// Its tokens.
    pub close: Vec<u32>,
}

/// One answer to one prompt.
#[derive(Clone, Debug)]
pub struct Job {
    /// Prompt, limits, sampling, stops, index of the choice.
    pub request: Request,
    /// Whose it is.
    pub owner: Owner,
    /// How urgent it is.
    pub priority: Priority,
    /// What the answer must look like.
    pub constraint: Option<Constraint>,
    /// Log-probabilities of the tokens drawn, with so many of the best beside each.
    pub n_logprobs: Option<usize>,
    /// The same for the tokens of the prompt.
    pub n_prompt_logprobs: Option<usize>,
    /// A bound on thinking.
    pub thinking_budget: Option<ThinkingBudget>,
    /// How the answer reads: stop strings then end its text only, and everything passes up to the token that completes
    /// one, for an [`AnswerReader`](crate::AnswerReader) to cut.
    pub reading: Option<Reading>,
    /// The work ends here at the latest, with [`JobError::Deadline`].
    pub deadline: Option<Instant>,
}

impl Job {
    /// A request of the local user without any of the rest.
    pub fn new(request: Request) -> Self {
        Job {
            request,
            owner: Owner::default(),
            priority: Priority::default(),
            constraint: None,
            n_logprobs: None,
            n_prompt_logprobs: None,
            thinking_budget: None,
            reading: None,
            deadline: None,
        }
    }
}

/// A token with its log-probability under the model's own distribution (temperature 1, no penalties, no
/// constraint), natural logarithm.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Its log-probability, at most 0.
    pub logprob: f32,
    /// The best tokens, best first, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// What happens to a job, in order: `Prompt`*, `PromptLogprobs`?, `Token`*, then one of `Done` and `Failed`.
#[derive(Clone, Debug)]
pub enum JobEvent {
    /// Part of the prompt was read; sent at least once, first when its turn comes.
    Prompt {
        /// Tokens read or found in the cache so far.
        n_done: usize,
        /// Tokens of the prompt.
        n_total: usize,
        /// Of those, tokens that were not read because the cache had them.
        n_cached: usize,
    },
    /// Log-probabilities of the prompt's tokens; the first has none.
    PromptLogprobs(Vec<Option<TokenLogprob>>),
    /// A token was drawn.
    Token {
        /// The token; at the end also the one that ends the text.
        token: u32,
        /// Text that became certain with it: whole characters, no part of a stop string where the job has no
        /// [`reading`](Job::reading). Often empty.
        text: String,
        /// If it was asked for.
        logprob: Option<TokenLogprob>,
    },
    /// The answer is complete.
    Done {
        /// Text that was held back until now.
        text: String,
        /// Why it ended.
        finish: FinishReason,
        /// What it cost. `statistics.n_reused` is the number of cached tokens.
        statistics: Statistics,
    },
    /// There will be no answer.
    Failed(JobError),
}

/// Why a job that had been accepted ended without an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The time it was given is over.
    #[error("the deadline passed before the answer was complete")]
    Deadline,
    /// The server is going down.
    #[error("the engine is shutting down")]
    ShuttingDown,
    /// The engine's thread ended without a word.
    #[error("the engine ended before the answer was complete")]
    Lost,
    /// It could not go on.
    #[error(transparent)]
    Engine(#[from] Arc<EngineError>),
}

/// Why a job was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The request is bad.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The queue is full.
    #[error("{n_waiting} requests are waiting, the limit is {limit}")]
    QueueFull {
        /// Jobs in the queue.
        n_waiting: usize,
        /// The most it holds.
        limit: usize,
    },
    /// The engine has ended.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

/// The events of one job. Dropping it cancels the job.
#[derive(Debug)]
pub struct JobEvents {
    pub(crate) receiver: mpsc::UnboundedReceiver<JobEvent>,
}

impl JobEvents {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<JobEvent> {
        self.receiver.recv().await
    }

    /// The same for those who wait for several jobs at once.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<JobEvent>> {
        self.receiver.poll_recv(context)
    }

    /// The same for callers that may block.
    pub fn blocking_next(&mut self) -> Option<JobEvent> {
        self.receiver.blocking_recv()
    }
}
