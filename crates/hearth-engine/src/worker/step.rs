//! One step: the scheduler's shares become rows, the executor runs them, and every job gets what is its own.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use hearth_model::{Batch, Logits, PageId, Row, StepError};

use super::{Worker, lock, panic_text, setup::Memory};
use crate::{
    embed::{EmbedTask, Piece},
    error::EngineError,
    job::JobError,
    pooling::Pooling,
    request::FinishReason,
    scheduler::{JobId, Share},
    task::{Scratch, Task},
};

/// Rows of a step that guesses leave to those who read.
const KEPT_FOR_PROMPTS: usize = 16;

/// The rows of a step, kept from step to step so that they are not allocated anew.
#[derive(Debug, Default)]
pub(super) struct BatchRows {
    rows: Vec<Row>,
    /// For each share, rows that want logits.
    n_wanted: Vec<usize>,
}

/// How a job stands after a step.
type Outcome = Result<ControlFlow<FinishReason>, EngineError>;

impl BatchRows {
    fn fill(&mut self, tasks: &BTreeMap<JobId, Task<'_>>, shares: &[Share]) {
        self.rows.clear();
        self.n_wanted.clear();
        for (seq, share) in shares.iter().enumerate() {
            let (task, n_before) = (&tasks[&share.id], self.rows.len());
            let start = task.pages.len();
            let rows = task.tokens(share.n_rows).enumerate();
            self.rows.extend(rows.map(|(index, token)| Row {
                seq: seq as u32,
                pos: (start + index) as u32,
                token,
                wants_logits: task.wants_logits(start + index),
            }));
            let wanted = self.rows[n_before..].iter().filter(|row| row.wants_logits);
            self.n_wanted.push(wanted.count());
        }
    }

    fn fill_texts(&mut self, task: &EmbedTask, pieces: &[Piece], pooling: Pooling) {
        self.rows.clear();
        for (seq, piece) in pieces.iter().enumerate() {
            let n_tokens = task.len_of(piece);
            let rows = (piece.start..).zip(task.tokens(piece));
            self.rows.extend(rows.map(|(pos, &token)| Row {
                seq: seq as u32,
                pos: pos as u32,
                token,
                wants_logits: pooling.takes(pos, n_tokens),
            }));
        }
    }
}

/// What one job does with its rows of logits. Jobs do it side by side: a draw from a large vocabulary takes
/// milliseconds.
struct Draw<'a, 't> {
    task: &'a mut Task<'t>,
    share: Share,
    /// The first of its rows of logits.
    first: usize,
    /// Tokens drawn before.
    n_drawn: usize,
    outcome: Outcome,
}

impl<'a, 't> Draw<'a, 't> {
    /// For shares in the order of their jobs, which want so many rows of logits each.
    fn all(
        tasks: &'a mut BTreeMap<JobId, Task<'t>>,
        shares: &[Share],
        n_wanted: &[usize],
    ) -> Vec<Mutex<Self>> {
        let mut shares = shares.iter().zip(n_wanted).peekable();
        let mut first = 0;
        let draws = tasks.iter_mut().filter_map(|(id, task)| {
            let (share, n_wanted) = shares.next_if(|(share, _)| share.id == *id)?;
            first += n_wanted;
            Some(Mutex::new(Draw {
                share: *share,
                first: first - n_wanted,
                n_drawn: task.statistics().n_drawn,
                outcome: Ok(ControlFlow::Continue(())),
                task,
            }))
        });
        draws.collect()
    }

    fn run(&mut self, logits: &Logits<'_>, scratch: &mut Scratch) {
        let (task, share, first) = (&mut *self.task, &self.share, self.first);
        // Constraints are foreign code; a defect there costs one job its answer.
        let accept = || task.accept(share, logits, first, scratch);
        self.outcome = catch_unwind(AssertUnwindSafe(accept)).unwrap_or_else(|panic| {
            let message = panic_text(&*panic);
            Err(EngineError::Panic { message })
        });
    }
}

impl Worker<'_> {
    /// Plans a step and runs it.
    pub(super) fn step(&mut self) {
        self.guess();
        let tasks = &self.tasks;
        let n_guesses = |id| tasks.get(&id).map_or(0, Task::n_guesses);
        let (mut shares, shape) = self.scheduler.plan(n_guesses);
        let n_planned = shares.len();
        self.secure_pages(&mut shares);
        let is_embed = |share: &Share| self.embeds.contains_key(&share.id);
        let (embeds, mut shares): (Vec<Share>, Vec<Share>) = shares.into_iter().partition(is_embed);
        shares.sort_unstable_by_key(|share| share.id);
        let mut seconds = self.run_tasks(&mut shares);
        for share in &embeds {
            seconds += self.run_embed(share);
        }
        if seconds == 0.0 {
            return;
        }
        self.counts.n_steps += 1;
        self.counts.last_step_ms = seconds * 1e3;
        // A step that did less than was planned says nothing about times.
        if n_planned == embeds.len() + shares.len() {
            self.scheduler.note_step(&shape, seconds);
        }
    }

    /// Lets the jobs that draw guess ahead, one after the other: what one puts into the step the next must count in.
    fn guess(&mut self) {
        let drawing: Vec<JobId> = self.scheduler.drawing().collect();
        let mut n_rows = drawing.len();
        for id in drawing {
            let n_free = self.setup.limits.max_rows - n_rows;
            let n_most = n_free.saturating_sub(KEPT_FOR_PROMPTS);
            if let Some(task) = self.tasks.get_mut(&id) {
                n_rows += task.guess(n_rows - 1, n_most);
            }
        }
    }

    /// Runs the rows of the jobs that write, and hands out what came of it. Returns the seconds it took; shares of jobs that
    /// failed are taken out.
    fn run_tasks(&mut self, shares: &mut Vec<Share>) -> f64 {
        self.grow(shares);
        while !shares.is_empty() {
            match self.try_step(shares) {
                Ok((seconds, outcomes)) => {
                    for (id, outcome) in outcomes {
                        self.settle(id, outcome);
                    }
                    return seconds;
                }
                Err(StepError::NotFinite {
                    seq,
                    pos,
                    token,
                    value,
                }) => {
                    let share = &mut shares[seq as usize];
                    if share.is_drawing && share.n_rows > 1 {
                        // Perhaps after a wrong guess only: without guesses it would never have been seen.
                        share.n_rows = 1;
                        if let Some(task) = self.tasks.get_mut(&share.id) {
                            task.withdraw_guesses();
                        }
                        continue;
                    }
                    let share = shares.remove(seq as usize);
                    let error = StepError::NotFinite {
                        seq: 0,
                        pos,
                        token,
                        value,
                    };
                    self.fail(share.id, EngineError::from(error).into());
                }
                Err(error) => {
                    let error = JobError::from(EngineError::from(error));
                    for share in shares.drain(..) {
                        self.fail(share.id, error.clone());
                    }
                }
            }
        }
        0.0
    }

    /// Takes the pages that the rows need.
    fn grow(&mut self, shares: &mut Vec<Share>) {
        let mut failed = Vec::new();
        shares.retain(|share| {
            let Some(task) = self.tasks.get_mut(&share.id) else {
                return false;
            };
            let n_positions = task.pages.len() + share.n_rows;
            let grown = task.pages.grow_to(n_positions, &mut self.setup.memory.pool);
            let is_ok = grown.is_ok();
            failed.extend(grown.err().map(|error| (share.id, error)));
            is_ok
        });
        for (id, error) in failed {
            self.fail(id, EngineError::from(error).into());
        }
    }

    /// One step over the rows of all shares, and what it means for each job.
    fn try_step(&mut self, shares: &[Share]) -> Result<(f64, Vec<(JobId, Outcome)>), StepError> {
        let Worker {
            setup,
            tasks,
            rows,
            scratches,
            counts,
            ..
        } = self;
        rows.fill(tasks, shares);
        let tables: Vec<&[PageId]> = shares
            .iter()
            .map(|share| tasks[&share.id].pages.table())
            .collect();
        let batch = Batch {
            rows: &rows.rows,
            tables: &tables,
        };
        let Memory { executor, pool, .. } = &mut setup.memory;
        let kernels = lock(&setup.kernels);
        let start = Instant::now();
        let logits = executor.step(&setup.model, &kernels, pool, &batch)?;
        let seconds = start.elapsed().as_secs_f64();
        let draws = Draw::all(tasks, shares, &rows.n_wanted);
        scratches.resize_with(kernels.n_threads(), Mutex::default);
        kernels.team().run(draws.len(), |worker| {
            let mut scratch = lock(&scratches[worker.index()]);
            while let Some(index) = worker.claim() {
                lock(&draws[index]).run(&logits, &mut scratch);
            }
        });
        drop(kernels);
        let mut outcomes = Vec::with_capacity(shares.len());
        for draw in draws {
            let draw = draw.into_inner().unwrap_or_else(PoisonError::into_inner);
            counts.n_written += (draw.task.statistics().n_drawn - draw.n_drawn) as u64;
            let is_read = !draw.share.is_drawing;
            counts.n_read += if is_read { draw.share.n_rows as u64 } else { 0 };
            outcomes.push((draw.share.id, draw.outcome));
        }
        Ok((seconds, outcomes))
    }

    /// Brings pages, store and scheduler up to date with a job that was part of a step.
    fn settle(&mut self, id: JobId, outcome: Outcome) {
        match outcome {
            Err(error) => self.fail(id, error.into()),
            Ok(ControlFlow::Break(finish)) => {
                if let Some(task) = self.take_away(id) {
                    task.finish(finish);
                }
            }
            Ok(ControlFlow::Continue(())) => {
                let Some(task) = self.tasks.get_mut(&id) else {
                    return;
                };
                let memory = &mut self.setup.memory;
                task.drop_unread(&mut memory.pool);
                memory.keep(task);
                if let Some(window) = self.setup.limits.window {
                    task.pages.release_outside(window, &mut memory.pool);
                }
                self.scheduler.update(id, task.demand(0));
            }
        }
    }

    /// Runs rows of texts that become vectors. Returns the seconds it took.
    fn run_embed(&mut self, share: &Share) -> f64 {
        match self.try_embed(share) {
            Ok(seconds) => {
                let n_pages = self.setup.memory.pool.n_pages();
                self.counts.n_read += share.n_rows as u64;
                match self.embeds.get(&share.id) {
                    Some(task) if !task.is_done() => {
                        self.scheduler.update(share.id, task.demand(n_pages));
                    }
                    _ => drop(self.take_embed(share.id)),
                }
                seconds
            }
            Err(error) => {
                self.fail(share.id, error.into());
                0.0
            }
        }
    }

    fn try_embed(&mut self, share: &Share) -> Result<f64, EngineError> {
        let Worker {
            setup,
            embeds,
            rows,
            ..
        } = self;
        let Some(task) = embeds.get_mut(&share.id) else {
            return Ok(0.0);
        };
        let Memory { executor, pool, .. } = &mut setup.memory;
        let pieces = task.pieces(share.n_rows, pool.n_pages());
        task.grow(&pieces, pool)?;
        rows.fill_texts(task, &pieces, setup.pooling);
        let tables: Vec<&[PageId]> = pieces.iter().map(|piece| task.table(piece)).collect();
        let batch = Batch {
            rows: &rows.rows,
            tables: &tables,
        };
        let kernels = lock(&setup.kernels);
        let start = Instant::now();
        let hidden = executor.step_hidden(&setup.model, &kernels, pool, &batch)?;
        let seconds = start.elapsed().as_secs_f64();
        drop(kernels);
        task.accept(&pieces, setup.pooling, &hidden, pool);
        Ok(seconds)
    }
}
