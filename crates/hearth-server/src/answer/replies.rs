//! The stream of an answer: the jobs of all choices, merged.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::Stream;
use hearth_engine::{JobEvent, JobEvents, Statistics};

use super::{collect::Collected, reader::ChoiceReader};
use crate::{
    error::ApiError,
    exchange::{Reply, Usage},
    metrics::Metrics,
    models::Loaded,
};

/// The replies to one [`Ask`](crate::exchange::Ask). Dropping them cancels the work; while they live, the model stays loaded.
pub struct Replies {
    loaded: Arc<Loaded>,
    prompt: Arc<[u32]>,
    running: Vec<Running>,
    /// Where to look first, so that no choice waits for another's stream to run dry.
    turn: usize,
    has_begun: bool,
    ready: VecDeque<Reply>,
    usage: Usage,
    wants_prompt_logprobs: bool,
    clock: Clock,
    is_over: bool,
}

/// When the request came, and where times are noted.
pub(super) struct Clock {
    metrics: Arc<Metrics>,
    began: Instant,
    load: Duration,
    has_token: bool,
}

impl Clock {
    pub(super) fn new(metrics: Arc<Metrics>, began: Instant, load: Duration) -> Self {
        Clock {
            metrics,
            began,
            load,
            has_token: false,
        }
    }

    fn token(&mut self, model: &str) {
        if !std::mem::replace(&mut self.has_token, true) {
            self.metrics.first_token(model, self.began.elapsed());
        }
    }
}

/// One job and who reads it.
pub(super) struct Running {
    pub(super) events: JobEvents,
    pub(super) reader: ChoiceReader,
}

impl Replies {
    pub(super) fn new(
        loaded: Arc<Loaded>,
        prompt: Arc<[u32]>,
        running: Vec<Running>,
        wants_prompt_logprobs: bool,
        clock: Clock,
    ) -> Self {
        Replies {
            loaded,
            usage: Usage {
                n_prompt: prompt.len(),
                n_cached: usize::MAX,
                load: clock.load,
                ..Usage::default()
            },
            prompt,
            running,
            turn: 0,
            has_begun: false,
            ready: VecDeque::new(),
            wants_prompt_logprobs,
            clock,
            is_over: false,
        }
    }

    /// The model that answers.
    pub fn loaded(&self) -> &Arc<Loaded> {
        &self.loaded
    }

    /// The tokens it was asked to continue.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// Waits for all of it.
    ///
    /// # Errors
    ///
    /// The work could not be finished.
    pub async fn collect(mut self) -> Result<Collected, ApiError> {
        let mut collected = Collected::default();
        while let Some(reply) =
            std::future::poll_fn(|context| Pin::new(&mut self).poll_next(context)).await
        {
            collected.take(reply?);
        }
        Ok(collected)
    }

    /// The next event of any choice is taken; `Ok` when something may have become ready.
    fn poll_jobs(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        if self.running.is_empty() {
            self.end();
            return Poll::Ready(Ok(()));
        }
        // The first replies are about the prompt, so until they have come the other choices wait in their channels.
        let n = if self.has_begun {
            self.running.len()
        } else {
            1
        };
        for i in 0..n {
            let at = (self.turn + i) % n;
            if let Poll::Ready(event) = self.running[at].events.poll_next(context) {
                self.turn = at + 1;
                let event = event.ok_or_else(|| {
                    ApiError::internal("the engine ended in the middle of an answer")
                });
                return Poll::Ready(event.and_then(|event| self.take(at, event)));
            }
        }
        Poll::Pending
    }

    fn take(&mut self, at: usize, event: JobEvent) -> Result<(), ApiError> {
        let Running { reader, .. } = &mut self.running[at];
        match event {
            JobEvent::Prompt {
                n_done,
                n_total,
                n_cached,
            } => {
                if reader.choice() == 0 {
                    self.has_begun |= !self.wants_prompt_logprobs;
                    self.ready.push_back(Reply::Reading {
                        n_done,
                        n_prompt: n_total,
                        n_cached,
                    });
                }
            }
            JobEvent::PromptLogprobs(logprobs) => {
                self.has_begun = true;
                self.ready.push_back(Reply::PromptLogprobs(logprobs));
            }
            JobEvent::Token {
                token,
                text,
                logprob,
            } => {
                self.clock.token(&self.loaded.name);
                reader.token(token, text, logprob, &mut self.ready);
            }
            JobEvent::Done {
                text,
                finish,
                statistics,
            } => {
                reader.done(text, finish, &statistics, &mut self.ready);
                let n_reasoning = reader.n_reasoning();
                let is_first = reader.choice() == 0;
                self.running.remove(at);
                self.has_begun = true;
                self.count(&statistics, n_reasoning, is_first);
            }
            JobEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn count(&mut self, statistics: &Statistics, n_reasoning: usize, is_first: bool) {
        let usage = &mut self.usage;
        // What one choice has from another was not there before.
        usage.n_cached = usage.n_cached.min(statistics.n_reused);
        usage.n_completion += statistics.n_drawn;
        usage.n_reasoning += n_reasoning;
        usage.prefill = usage.prefill.max(statistics.prefill);
        usage.decode = usage.decode.max(statistics.decode);
        if is_first {
            usage.seed = statistics.seed;
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.usage.total = self.clock.began.elapsed();
        self.ready.push_back(Reply::End { usage: self.usage });
    }
}

impl Stream for Replies {
    type Item = Result<Reply, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(reply) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(reply)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            match self.poll_jobs(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.is_over = true;
                    self.running.clear();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
