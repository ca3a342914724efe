//! A job on its way: what it has read and written, and what it still needs.
//!
//! Reading a prompt, writing, and reading everything again after its pages were taken away are one thing to a task:
//! there are tokens (`history`), some of them are stored in pages, and after the last one the next is drawn. What
//! is drawn depends on the history and on nothing else, so losing pages loses time only.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use hearth_kernels::{Level, PAGE_POSITIONS};
use hearth_model::{Logits, PagePool, Sequence};
use hearth_text::Tokenizer;

use crate::{
    constraint::Constraint,
    engine::Place,
    error::EngineError,
    generator::Event,
    job::{Job, JobError, JobEvent, TokenLogprob},
    listeners::{Listener, Listeners},
    logprobs,
    output::Output,
    request::{FinishReason, Speculate},
    sampler::{self, Sampler},
    scheduler::{Demand, HORIZON, JobId, Share},
    speculation::{MAX_GUESSES, Speculation},
    stats::Statistics,
    thinking::ThinkingWatch,
};

/// Rows a step may have whose log-probabilities are wanted: each takes a row of logits as wide as the vocabulary.
const MAX_LOGPROB_ROWS: usize = 64;

/// Working memory of what is done with a row of logits; one for all tasks.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    masked: Vec<f32>,
    sampler: sampler::Scratch,
    logprobs: logprobs::Scratch,
}

/// What a task was made of besides its job.
pub(crate) struct TaskContext<'t> {
    pub(crate) tokenizer: &'t Tokenizer,
    pub(crate) n_ctx: usize,
    /// For guesses: the processor's level, whether the model has experts; `None` makes none.
    pub(crate) speculation: Option<(Level, bool)>,
}

/// A job on its way.
pub(crate) struct Task<'t> {
    job: Job,
    pub(crate) listeners: Listeners,
    /// The positions stored.
    pub(crate) pages: Sequence,
    /// Prompt and answer so far.
    history: Vec<u32>,
    /// Tokens at its end that were drawn and are in no step yet: one or none.
    n_unread: usize,
    /// The length at which it ends at the latest.
    n_end: usize,
    sampler: Sampler,
    output: Output<'t>,
    thinking: Option<ThinkingWatch>,
    speculation: Option<Speculation>,
    speculates: Option<(Level, bool)>,
    prompt_logprobs: Option<PromptLogprobs>,
    statistics: Statistics,
    is_started: bool,
    /// Its place in the queue, until it runs first.
    pub(crate) place: Option<Place>,
    /// The task that reads the beginning of this one's prompt, and up to which position.
    pub(crate) held_by: Option<(JobId, usize)>,
    /// Full pages that the store knows of.
    pub(crate) n_kept: usize,
    /// Tokens of the prompt that the listeners know to be read.
    n_told: usize,
    times: Times,
}

struct Times {
    submitted: Instant,
    started: Option<Instant>,
    read: Option<Instant>,
}

/// Log-probabilities of a prompt as far as they are known.
struct PromptLogprobs {
    n_top: usize,
    values: Vec<Option<TokenLogprob>>,
}

impl<'t> Task<'t> {
    /// # Errors
    ///
    /// A setting of the sampler is bad.
    pub(crate) fn new(
        job: Job,
        listener: Listener,
        place: Place,
        context: &TaskContext<'t>,
    ) -> Result<Self, EngineError> {
        let request = &job.request;
        let n_prompt = request.prompt.len();
        let n_vocab = context.tokenizer.n_vocab();
        let sampler = Sampler::new(request.sampling.clone(), n_vocab, n_prompt, request.choice)?;
        let n_wanted = request.max_tokens.unwrap_or(usize::MAX);
        let may_guess = request.speculate != Speculate::Off && job.constraint.is_none();
        Ok(Task {
            pages: Sequence::new(),
            history: request.prompt.clone(),
            n_unread: 0,
            n_end: n_prompt + n_wanted.min(context.n_ctx - n_prompt),
            output: Output::new(request, context.tokenizer, job.reading.as_ref()),
            thinking: job.thinking_budget.clone().map(ThinkingWatch::new),
            speculation: None,
            speculates: context.speculation.filter(|_| may_guess),
            prompt_logprobs: job.n_prompt_logprobs.map(|n_top| PromptLogprobs {
                n_top,
                values: vec![None],
            }),
            statistics: Statistics {
                n_prompt,
                seed: sampler.seed(),
                ..Statistics::default()
            },
            listeners: Listeners::new(listener, is_joinable(&job)),
            sampler,
            is_started: false,
            place: Some(place),
            held_by: None,
            n_kept: 0,
            n_told: 0,
            times: Times {
                submitted: Instant::now(),
                started: None,
                read: None,
            },
            job,
        })
    }

    pub(crate) fn job(&self) -> &Job {
        &self.job
    }

    pub(crate) fn history(&self) -> &[u32] {
        &self.history
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn n_prompt(&self) -> usize {
        self.job.request.prompt.len()
    }

    /// Whether `job` would get the very same events.
    pub(crate) fn is_same(&self, job: &Job) -> bool {
        let own = &self.job;
        self.listeners.takes_more()
            && is_joinable(job)
            && own.owner.name == job.owner.name
            && own.priority == job.priority
            && own.n_logprobs == job.n_logprobs
            && own.n_prompt_logprobs == job.n_prompt_logprobs
            && own.thinking_budget == job.thinking_budget
            && own.reading == job.reading
            && own.request == job.request
            && match (&own.constraint, &job.constraint) {
                (Some(own), Some(other)) => own.has_grammar_of(other),
                (own, other) => own.is_none() && other.is_none(),
            }
    }

    /// What it needs now, if it had `n_found` more pages.
    pub(crate) fn demand(&self, n_found: usize) -> Demand {
        let n_stored = self.pages.len().max(n_found * PAGE_POSITIONS);
        let wants_logprobs = self.wants_prompt_logprobs();
        Demand {
            n_stored,
            n_left: self.history.len() - n_stored,
            max_rows: if wants_logprobs {
                MAX_LOGPROB_ROWS
            } else {
                usize::MAX
            },
            draws: self.history.len() < self.n_end,
            n_pages: self.pages.table().len().max(n_found),
            n_pages_wanted: (self.history.len() + HORIZON)
                .min(self.n_end)
                .div_ceil(PAGE_POSITIONS),
        }
    }

    /// Pages it lacks for `n_rows` more rows.
    pub(crate) fn n_missing(&self, n_rows: usize) -> usize {
        let n_pages = (self.pages.len() + n_rows).div_ceil(PAGE_POSITIONS);
        n_pages.saturating_sub(self.pages.table().len())
    }

    /// Whether the logits of its whole prompt are needed, so that no part of it may come from the cache.
    pub(crate) fn wants_prompt_logprobs(&self) -> bool {
        let wanted = self.prompt_logprobs.as_ref();
        wanted.is_some_and(|wanted| wanted.values.len() < self.n_prompt())
    }

    /// Tells that its turn has come, with what was found in the cache.
    pub(crate) fn start(&mut self) {
        self.is_started = true;
        self.place = None;
        self.held_by = None;
        self.n_kept = self.pages.len() / PAGE_POSITIONS;
        if self.times.started.is_none() {
            self.times.started = Some(Instant::now());
            self.statistics.n_reused = self.pages.len();
            self.tell_progress(self.pages.len());
        }
    }

    /// Notes that its place was taken away.
    pub(crate) fn stop(&mut self) {
        self.is_started = false;
        self.n_kept = 0;
    }

    fn tell_progress(&mut self, n_done: usize) {
        self.n_told = n_done;
        self.listeners.send(JobEvent::Prompt {
            n_done,
            n_total: self.n_prompt(),
            n_cached: self.statistics.n_reused,
        });
    }

    /// Guesses what follows the token it reads next; `n_beside` rows of others are in the step.
    pub(crate) fn guess(&mut self, n_beside: usize, n_most: usize) -> usize {
        let Some((level, has_experts)) = self.speculates else {
            return 0;
        };
        if self.speculation.is_none() && n_beside >= MAX_GUESSES {
            // Beside so many nothing would pay; the index is made when it may.
            return 0;
        }
        let speculation = self.speculation.get_or_insert_with(|| {
            let mut new = Speculation::new(level, has_experts);
            new.begin(&self.history, self.job.request.speculate);
            new
        });
        let n_room = self.n_end - self.history.len() - 1;
        let n_most = n_most.min(n_room);
        speculation
            .guess(&self.history, n_beside, n_most, None)
            .len()
    }

    /// Guesses made for the next step.
    pub(crate) fn n_guesses(&self) -> usize {
        self.speculation.as_ref().map_or(0, |s| s.guesses().len())
    }

    /// Whether it runs.
    pub(crate) fn is_started(&self) -> bool {
        self.is_started
    }

    /// Takes the guesses of this step back.
    pub(crate) fn withdraw_guesses(&mut self) {
        if let Some(speculation) = &mut self.speculation {
            speculation.withdraw();
        }
    }

    /// The tokens of its next rows: of its history, and guesses after that.
    pub(crate) fn tokens(&self, n_rows: usize) -> impl Iterator<Item = u32> {
        let guesses = self
            .speculation
            .as_ref()
            .map_or(&[][..], Speculation::guesses);
        let unread = &self.history[self.pages.len()..];
        unread.iter().chain(guesses).copied().take(n_rows)
    }

    /// Whether the logits after the row at `pos` are needed.
    pub(crate) fn wants_logits(&self, pos: usize) -> bool {
        let draws = pos + 1 >= self.history.len() && self.history.len() < self.n_end;
        draws || self.wants_logprob_after(pos)
    }

    /// Whether the row at `pos` tells the log-probability of a token of the prompt that is not known yet.
    fn wants_logprob_after(&self, pos: usize) -> bool {
        let wanted = self.prompt_logprobs.as_ref();
        wanted.is_some_and(|wanted| pos + 1 < self.n_prompt() && pos + 1 >= wanted.values.len())
    }

    /// Takes what a step computed for it: `n_rows` rows are stored, and `logits` has the rows it wanted, from
    /// `first` on. `Break` when the answer is complete.
    pub(crate) fn accept(
        &mut self,
        share: &Share,
        logits: &Logits<'_>,
        first: usize,
        scratch: &mut Scratch,
    ) -> Result<ControlFlow<FinishReason>, EngineError> {
        let start = self.pages.len();
        self.pages.advance(share.n_rows);
        if share.is_drawing {
            // The first row that draws may be the prompt's last one.
            self.statistics.n_steps += usize::from(self.times.read.is_some());
            self.tell_read();
            return self.write(share.n_rows, logits, first, scratch);
        }
        let mut row = first;
        for pos in start..self.pages.len() {
            if self.wants_logprob_after(pos) {
                self.note_prompt_logprob(pos, logits.row(row), scratch);
                row += 1;
            }
        }
        self.tell_read();
        if self.pages.len() < self.history.len() {
            return Ok(ControlFlow::Continue(()));
        }
        if self.history.len() == self.n_end {
            return Ok(ControlFlow::Break(FinishReason::Length));
        }
        self.withdraw_guesses();
        self.write(1, logits, row, scratch)
    }

    fn note_prompt_logprob(&mut self, pos: usize, logits: &[f32], scratch: &mut Scratch) {
        let token = self.history[pos + 1];
        if let Some(wanted) = &mut self.prompt_logprobs {
            let found = logprobs::of_token(&mut scratch.logprobs, logits, token, wanted.n_top);
            wanted.values.push(Some(found));
        }
    }

    /// Tells how far the prompt is read, the first time it is.
    fn tell_read(&mut self) {
        let n_prompt = self.n_prompt();
        let n_done = self.pages.len().min(n_prompt);
        if n_done > self.n_told {
            self.tell_progress(n_done);
        }
        if n_done == n_prompt && self.times.read.is_none() {
            self.times.read = Some(Instant::now());
            if let Some(known) = self.prompt_logprobs.take() {
                self.listeners.send(JobEvent::PromptLogprobs(known.values));
            }
        }
    }

    /// Draws after the present token, and after every guess that was right.
    fn write(
        &mut self,
        n_rows: usize,
        logits: &Logits<'_>,
        first: usize,
        scratch: &mut Scratch,
    ) -> Result<ControlFlow<FinishReason>, EngineError> {
        for row in first..first + n_rows {
            let flow = self.draw(logits.row(row), scratch)?;
            if flow.is_break() {
                return Ok(flow);
            }
            let drawn = self.speculation.as_mut();
            let is_right = drawn.is_some_and(|s| s.drawn(&self.history, &mut self.statistics));
            if !is_right {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Draws one token and tells it.
    fn draw(
        &mut self,
        logits: &[f32],
        scratch: &mut Scratch,
    ) -> Result<ControlFlow<FinishReason>, EngineError> {
        let token = self.next_token(logits, scratch)?;
        let logprob = self
            .job
            .n_logprobs
            .map(|n_top| logprobs::of_token(&mut scratch.logprobs, logits, token, n_top));
        self.statistics.n_drawn += 1;
        let submitted = self.times.submitted;
        (self.statistics.first_token).get_or_insert_with(|| submitted.elapsed());
        let mut text = String::new();
        let flow = self.output.take(token, logits, &mut |event| {
            if let Event::Text(piece) = event {
                text.push_str(piece);
            }
            ControlFlow::Continue(())
        });
        if let Some(thinking) = &mut self.thinking {
            thinking.note(self.output.text());
        }
        self.listeners.send(JobEvent::Token {
            token,
            text,
            logprob,
        });
        self.n_unread = usize::from(flow.is_continue());
        if flow.is_break() {
            return Ok(flow);
        }
        self.history.push(token);
        Ok(match self.history.len() < self.n_end {
            true => flow,
            false => ControlFlow::Break(self.reason_at_limit()),
        })
    }

    /// Why an answer ends that has all tokens it may have: not for want of more, if its form allows nothing but the end.
    fn reason_at_limit(&self) -> FinishReason {
        let constraint = self.job.constraint.as_ref();
        let end = self.output.end_of_generation();
        match end.filter(|_| constraint.is_some_and(Constraint::must_end)) {
            Some(token) => FinishReason::EndOfGeneration { token },
            None => FinishReason::Length,
        }
    }

    fn next_token(&mut self, logits: &[f32], scratch: &mut Scratch) -> Result<u32, EngineError> {
        let forced = self.thinking.as_ref().and_then(ThinkingWatch::forced);
        let Scratch {
            masked, sampler, ..
        } = scratch;
        let Some(constraint) = &mut self.job.constraint else {
            return match forced {
                Some(token) => Ok(token),
                None => Ok(self.sampler.draw_with(sampler, logits, &self.history)?),
            };
        };
        let token = match forced {
            Some(token) => token,
            None => {
                masked.clear();
                masked.extend_from_slice(logits);
                constraint.apply(masked)?;
                self.sampler.draw_with(sampler, masked, &self.history)?
            }
        };
        constraint.take(token)?;
        Ok(token)
    }

    /// Forgets what was stored beyond the tokens of the history that are known to be read: wrong guesses, and a
    /// last token that was drawn only.
    pub(crate) fn drop_unread(&mut self, pool: &mut PagePool) {
        self.pages
            .truncate(self.history.len() - self.n_unread, pool);
    }

    /// Tells the end.
    pub(crate) fn finish(mut self, finish: FinishReason) {
        let mut rest = String::new();
        let (_, _, finish) = self.output.finish(finish, &mut |event| {
            if let Event::Text(piece) = event {
                rest.push_str(piece);
            }
            ControlFlow::Continue(())
        });
        let mut statistics = self.statistics;
        let started = self.times.started.unwrap_or(self.times.submitted);
        let read = self.times.read.unwrap_or(started);
        statistics.prefill = read - started;
        statistics.decode = read.elapsed();
        self.listeners.send(JobEvent::Done {
            text: rest,
            finish,
            statistics,
        });
    }

    /// Tells that there will be no answer.
    pub(crate) fn fail(mut self, error: JobError) {
        self.listeners.send(JobEvent::Failed(error));
    }
}

impl From<EngineError> for JobError {
    fn from(error: EngineError) -> Self {
        JobError::Engine(Arc::new(error))
    }
}

/// Whether others with the same request may have the same answer.
fn is_joinable(job: &Job) -> bool {
    job.request.sampling.is_determined()
}
