//! Runs schedules and takes their times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_kernels::{Kernels, KvType, PAGE_POSITIONS};
use hearth_model::{Batch, Executor, ExecutorLimits, Model, PagePool, Row, Sequence};
use indicatif::{ProgressBar, ProgressStyle};

use super::schedule::{Schedule, StepRows};
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// An executor with room for certain schedules.
pub struct Runner<'a> {
    model: Arc<Model>,
    kernels: &'a Kernels,
    executor: Executor,
    pool: PagePool,
    sequences: Vec<Sequence>,
    interrupt: Interrupt,
    bar: ProgressBar,
}

/// Times of one schedule.
pub struct Times {
    /// One for each repetition.
    pub runs: Vec<Duration>,
    /// Of one further run: the whole, and each kind of operation.
    pub ops: Option<(Duration, Vec<OpTimes>)>,
}

/// Time of one kind of operation in a run.
pub struct OpTimes {
    /// The operation, and the weights it multiplies with.
    pub name: String,
    /// Which operations of the plan they are.
    pub indices: Vec<usize>,
    /// How often they ran.
    pub n_runs: u64,
    /// Their time together.
    pub time: Duration,
}

impl<'a> Runner<'a> {
    /// Takes the memory that the schedules need: pages for their sequences, buffers for their largest steps.
    pub fn new(
        model: Arc<Model>,
        kernels: &'a Kernels,
        kv_type: KvType,
        schedules: &[&Schedule],
        interrupt: Interrupt,
    ) -> Result<Runner<'a>, Failure> {
        let steps = || schedules.iter().flat_map(|schedule| schedule.all());
        let mut lengths: Vec<usize> = Vec::new();
        for row in steps().flatten() {
            let (seq, end) = (row.seq as usize, row.pos as usize + 1);
            lengths.resize(lengths.len().max(seq + 1), 0);
            lengths[seq] = lengths[seq].max(end);
        }
        let n_wanted = |step: &StepRows| step.iter().filter(|row| row.wants_logits).count();
        let limits = ExecutorLimits {
            max_tokens: steps().map(Vec::len).max().unwrap_or(1),
            max_logits: steps().map(n_wanted).max().unwrap_or(1).max(1),
            n_positions: lengths.iter().copied().max().unwrap_or(1),
        };
        let n_pages: usize = lengths.iter().map(|n| n.div_ceil(PAGE_POSITIONS)).sum();
        let mut pool = PagePool::new(&model, kv_type, n_pages.max(1) * PAGE_POSITIONS)?;
        let mut sequences = Vec::with_capacity(lengths.len());
        for n in lengths {
            let mut sequence = Sequence::new();
            sequence.grow_to(n, &mut pool)?;
            sequences.push(sequence);
        }
        Ok(Runner {
            executor: Executor::new(&model, kernels, limits)?,
            model,
            kernels,
            pool,
            sequences,
            interrupt,
            bar: progress_bar(),
        })
    }

    /// A warm-up and the repetitions, and with `ops` one further run in which every operation is timed.
    pub fn measure(
        &mut self,
        what: &str,
        schedule: &Schedule,
        reps: usize,
        ops: bool,
    ) -> Result<Times, Failure> {
        // Drawn between runs only: a redraw inside one would be measured with it.
        self.bar.reset();
        self.bar.set_length((reps + 1 + usize::from(ops)) as u64);
        self.bar.set_message(what.to_owned());
        self.run(&schedule.before)?;
        self.run(&schedule.steps)?;
        let mut runs = Vec::with_capacity(reps);
        for _ in 0..reps {
            self.bar.inc(1);
            runs.push(self.run(&schedule.steps)?);
        }
        let ops = match ops {
            true => Some(self.measure_ops(schedule)?),
            false => None,
        };
        self.bar.finish_and_clear();
        Ok(Times { runs, ops })
    }

    fn measure_ops(&mut self, schedule: &Schedule) -> Result<(Duration, Vec<OpTimes>), Failure> {
        self.bar.inc(1);
        self.executor.measure(true);
        let whole = self.run(&schedule.steps)?;
        let mut kinds: BTreeMap<String, OpTimes> = BTreeMap::new();
        let steps = self.model.plan().steps.iter();
        for (index, (step, op)) in steps.zip(self.executor.timings()).enumerate() {
            let weights = self.model.weight_names(&step.op).join(" ");
            let name = format!("{} {weights}", step.op.name())
                .trim_end()
                .to_owned();
            let kind = kinds.entry(name.clone()).or_insert_with(|| OpTimes {
                name,
                indices: Vec::new(),
                n_runs: 0,
                time: Duration::ZERO,
            });
            kind.indices.push(index);
            kind.n_runs += op.n_runs;
            kind.time += op.time;
        }
        self.executor.measure(false);
        let mut kinds: Vec<OpTimes> = kinds.into_values().collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.time));
        Ok((whole, kinds))
    }

    /// Runs the steps once. Positions are written again in every run, so nothing has to be undone between two.
    fn run(&mut self, steps: &[StepRows]) -> Result<Duration, Failure> {
        let tables: Vec<&[u32]> = self.sequences.iter().map(Sequence::table).collect();
        let start = Instant::now();
        for rows in steps {
            self.interrupt.check()?;
            let rows: &[Row] = rows;
            let batch = Batch {
                rows,
                tables: &tables,
            };
            self.executor
                .step(&self.model, self.kernels, &mut self.pool, &batch)?;
        }
        Ok(start.elapsed())
    }
}

/// Progress on standard error; invisible when that is no terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} runs, {eta} left");
    ProgressBar::no_length().with_style(style.expect("the template is valid"))
}
