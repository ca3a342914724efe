//! Runs a plan over a batch of rows on the processor.
//!
//! All memory a step needs is taken when the executor is made: the plan's slots, the rope tables, the
//! rows in the kernels' form. A step allocates nothing. Every operation treats its rows independently,
//! except attention, which sees other rows only through their stored keys and values; so a row's result
//! does not depend on what else is in the batch or where chunks of a prompt fall.

mod batch;
mod run;
mod working;

use std::time::{Duration, Instant};

use hearth_kernels::{Kernels, KvRow, RopeTable, attention, matmul, moe};

pub use batch::{Batch, Hidden, Logits, Row};

use crate::{
    error::{ModelError, StepError},
    model::Model,
    plan::{BufferId, Op, Plan, Rows, Step, n_producers},
    state::PagePool,
};

/// Sizes an executor is made for.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorLimits {
    /// The most rows in a step.
    pub max_tokens: usize,
    /// The most rows in a step that want logits.
    pub max_logits: usize,
    /// The most positions of a sequence: attention over more of them takes more working memory.
    pub n_positions: usize,
}

impl Default for ExecutorLimits {
    /// A prompt in chunks of 512, logits for its last row, sequences of 4096.
    fn default() -> Self {
        ExecutorLimits {
            max_tokens: 512,
            max_logits: 1,
            n_positions: 4096,
        }
    }
}

/// Time spent in one operation of the plan. An addition, a norm or a gate that makes the input of a product is timed together with
/// what prepares that input, the last of them for all.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpTime {
    /// How often it ran since the timings were switched on.
    pub n_runs: u64,
    /// Their time together.
    pub time: Duration,
}

/// What an observer of a step sees after each operation.
#[derive(Debug)]
pub struct Observed<'a> {
    /// Place of the operation in the plan.
    pub index: usize,
    /// The operation and its layer.
    pub step: &'a Step,
    /// The last buffer it wrote, `[n_rows, cols]`; empty when it wrote only state.
    pub values: &'a [f32],
}

/// Runs steps of one model.
#[derive(Debug)]
pub struct Executor {
    limits: ExecutorLimits,
    n_steps: usize,
    buffers: Buffers,
    matmul: matmul::Scratch,
    attention: attention::Scratch,
    moe: moe::Scratch,
    ropes: Vec<RopeTable>,
    positions: Vec<u32>,
    kv_rows: Vec<KvRow>,
    wanted: Vec<u32>,
    timings: Option<Box<[OpTime]>>,
}

/// The plan's slots as memory, and how many rows of each kind this step has.
#[derive(Debug)]
struct Buffers {
    slots: Vec<Vec<f32>>,
    slot_of: Vec<usize>,
    cols: Vec<usize>,
    rows: Vec<Rows>,
    n_all: usize,
    n_wanted: usize,
}

impl Buffers {
    /// `limits` have been checked against what the plan needs.
    fn new(plan: &Plan, limits: ExecutorLimits) -> Self {
        Buffers {
            slots: plan
                .memory
                .slots
                .iter()
                .map(|slot| vec![0.0; working::rows(slot.rows, limits) * slot.cols])
                .collect(),
            slot_of: plan.memory.slot_of.clone(),
            cols: plan.buffers.iter().map(|buffer| buffer.cols).collect(),
            rows: plan.buffers.iter().map(|buffer| buffer.rows).collect(),
            n_all: 0,
            n_wanted: 0,
        }
    }

    fn n_rows(&self, id: BufferId) -> usize {
        match self.rows[id.index()] {
            Rows::All => self.n_all,
            Rows::Wanted => self.n_wanted,
        }
    }

    fn len(&self, id: BufferId) -> usize {
        self.n_rows(id) * self.cols[id.index()]
    }

    fn slot(&self, id: BufferId) -> usize {
        self.slot_of[id.index()]
    }

    fn get(&self, id: BufferId) -> &[f32] {
        &self.slots[self.slot(id)][..self.len(id)]
    }

    fn get_mut(&mut self, id: BufferId) -> &mut [f32] {
        let (slot, len) = (self.slot(id), self.len(id));
        &mut self.slots[slot][..len]
    }

    /// Several buffers at once, all to be written or read.
    ///
    /// # Panics
    ///
    /// Two of them share a slot, which the memory plan rules out for the buffers of one operation.
    fn get_many_mut<const N: usize>(&mut self, ids: [BufferId; N]) -> [&mut [f32]; N] {
        let slots = ids.map(|id| self.slot(id));
        let lens = ids.map(|id| self.len(id));
        let mut at = 0;
        self.slots
            .get_disjoint_mut(slots)
            .expect("buffers of one operation lie in slots of their own")
            .map(|slot| {
                at += 1;
                &mut slot[..lens[at - 1]]
            })
    }
}

impl Executor {
    /// Takes all memory that steps within `limits` need on these kernels.
    ///
    /// # Errors
    ///
    /// A limit is zero, there are more logits than rows, or the working memory is more than we take or the
    /// system gives.
    pub fn new(
        model: &Model,
        kernels: &Kernels,
        limits: ExecutorLimits,
    ) -> Result<Self, ModelError> {
        let refuse = |rule| ModelError::ExecutorLimits {
            max_tokens: limits.max_tokens,
            max_logits: limits.max_logits,
            n_positions: limits.n_positions,
            rule,
        };
        if limits.max_tokens == 0 || limits.max_logits == 0 || limits.n_positions == 0 {
            return Err(refuse("each must be at least 1"));
        }
        if limits.max_logits > limits.max_tokens {
            return Err(refuse("there cannot be more rows of logits than rows"));
        }
        let plan = model.plan();
        working::check(plan, kernels, limits)?;
        let mut attention = attention::Scratch::new();
        for bounds in working::attention_bounds(plan, limits) {
            attention.reserve(kernels, &bounds);
        }
        let mut moe = moe::Scratch::new();
        for bounds in working::moe_bounds(plan, limits) {
            moe.reserve(kernels, &bounds);
        }
        Ok(Executor {
            limits,
            n_steps: plan.steps.len(),
            buffers: Buffers::new(plan, limits),
            matmul: matmul::Scratch::new(),
            attention,
            moe,
            ropes: plan
                .ropes
                .iter()
                .map(|freqs| RopeTable::with_capacity(limits.max_tokens, 2 * freqs.inverse().len()))
                .collect(),
            positions: Vec::with_capacity(limits.max_tokens),
            kv_rows: Vec::with_capacity(limits.max_tokens),
            wanted: Vec::with_capacity(limits.max_logits),
            timings: None,
        })
    }

    /// The sizes it was made for.
    pub fn limits(&self) -> ExecutorLimits {
        self.limits
    }

    /// Starts (from zero) or stops measuring every operation.
    pub fn measure(&mut self, on: bool) {
        self.timings = on.then(|| vec![OpTime::default(); self.n_steps].into_boxed_slice());
    }

    /// Time of every operation of the plan since [`Executor::measure`]; empty when it is off.
    pub fn timings(&self) -> &[OpTime] {
        self.timings.as_deref().unwrap_or(&[])
    }

    /// Runs the plan over the rows of `batch`, stores their keys and values, and returns the logits of
    /// the rows that want them, in the batch's order.
    ///
    /// # Errors
    ///
    /// The batch is empty, too large, or names a token, sequence or position that does not exist; or a
    /// logit is not finite. Keys and values may have been stored in the last case only.
    pub fn step(
        &mut self,
        model: &Model,
        kernels: &Kernels,
        pool: &mut PagePool,
        batch: &Batch<'_>,
    ) -> Result<Logits<'_>, StepError> {
        self.step_observed(model, kernels, pool, batch, None)
    }

    /// The same, showing every intermediate result to `observer`.
    ///
    /// # Errors
    ///
    /// As for [`Executor::step`].
    pub fn step_observed(
        &mut self,
        model: &Model,
        kernels: &Kernels,
        pool: &mut PagePool,
        batch: &Batch<'_>,
        observer: Option<&mut dyn FnMut(Observed<'_>)>,
    ) -> Result<Logits<'_>, StepError> {
        self.begin(model, pool, batch)?;
        let plan = model.plan();
        self.run_all(&plan.steps, model, kernels, pool, batch, observer);
        let logits = Logits::new(self.buffers.get(plan.logits), model.n_vocab(), &self.wanted);
        logits.check_finite(batch)?;
        Ok(logits)
    }

    /// Runs all but the output matrix, and returns what that would be multiplied with: the last hidden states, normed, of the
    /// rows that want logits.
    ///
    /// # Errors
    ///
    /// As for [`Executor::step`].
    pub fn step_hidden(
        &mut self,
        model: &Model,
        kernels: &Kernels,
        pool: &mut PagePool,
        batch: &Batch<'_>,
    ) -> Result<Hidden<'_>, StepError> {
        self.begin(model, pool, batch)?;
        let plan = model.plan();
        let (n_steps, input) = plan.output();
        self.run_all(&plan.steps[..n_steps], model, kernels, pool, batch, None);
        let n_embd = plan.buffers[input.index()].cols;
        let hidden = Hidden::new(self.buffers.get(input), n_embd);
        hidden.check_finite(batch, &self.wanted)?;
        Ok(hidden)
    }

    fn run_all(
        &mut self,
        steps: &[Step],
        model: &Model,
        kernels: &Kernels,
        pool: &mut PagePool,
        batch: &Batch<'_>,
        mut observer: Option<&mut dyn FnMut(Observed<'_>)>,
    ) {
        // The product whose input has been prepared, and the operations before it with that.
        let mut prepared = None;
        for (index, step) in steps.iter().enumerate() {
            let start = self.timings.is_some().then(Instant::now);
            let mut timed = index;
            if prepared.is_none_or(|product| product < index) {
                let n = n_producers(&steps[index..]);
                if n > 0 {
                    self.prepare(&steps[index..=index + n], model, kernels);
                    prepared = Some(index + n);
                    timed = index + n - 1;
                } else {
                    self.run(&step.op, model, kernels, pool, batch);
                }
            } else if let Op::MatMul { input, products } = &step.op {
                self.matmul(model, kernels, *input, products, true);
            }
            if let (Some(start), Some(timings)) = (start, &mut self.timings) {
                timings[index].n_runs += 1;
                timings[timed].time += start.elapsed();
            }
            if let Some(observer) = observer.as_mut() {
                let values = step
                    .op
                    .uses()
                    .1
                    .last()
                    .map_or(&[][..], |out| self.buffers.get(*out));
                observer(Observed {
                    index,
                    step,
                    values,
                });
            }
        }
    }

    /// Checks the batch and prepares what all operations share.
    fn begin(
        &mut self,
        model: &Model,
        pool: &PagePool,
        batch: &Batch<'_>,
    ) -> Result<(), StepError> {
        let plan = model.plan();
        if self.n_steps != plan.steps.len() || self.buffers.slot_of != plan.memory.slot_of {
            return Err(StepError::ForeignModel);
        }
        batch.check(model, pool, self.limits)?;
        self.positions.clear();
        self.positions.extend(batch.rows.iter().map(|row| row.pos));
        self.kv_rows.clear();
        self.kv_rows.extend(batch.rows.iter().map(|row| KvRow {
            table: row.seq,
            pos: row.pos,
        }));
        self.wanted.clear();
        self.wanted.extend(batch.wanted());
        self.buffers.n_all = batch.rows.len();
        self.buffers.n_wanted = self.wanted.len();
        for (table, freqs) in self.ropes.iter_mut().zip(&plan.ropes) {
            table.fill(freqs, &self.positions);
        }
        Ok(())
    }
}
