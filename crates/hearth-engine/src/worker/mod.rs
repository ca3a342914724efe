//! The thread that owns a model and its pages.
//!
//! In a loop: take what clients send, drop what they gave up, admit who fits, ask the scheduler for the next step, run it, pass
//! on what it brought. Without work it sleeps in its channel. A defect in a step costs the jobs that ran their answers, never
//! the thread.

mod admit;
mod setup;
mod step;

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use hearth_kernels::PAGE_POSITIONS;
use hearth_text::Tokenizer;
use tokio::sync::mpsc::UnboundedSender;

pub(crate) use setup::Setup;
use setup::{Memory, lock};
use step::BatchRows;

use crate::{
    embed::EmbedTask,
    engine::{EngineSnapshot, Place},
    error::EngineError,
    job::{Job, JobError, JobEvent, Owner, Priority},
    listeners::Listener,
    scheduler::{JobId, Scheduler},
    task::{Scratch, Task, TaskContext},
};

/// How often an idle engine looks whether more pages can be handed over to be written.
const WRITING_PAUSE: Duration = Duration::from_millis(20);

/// What a handle sends.
pub(crate) enum Command {
    /// One answer to one prompt.
    Job(Box<Job>, Listener, Place),
    /// Texts to be turned into vectors.
    Embed(
        Owner,
        Vec<Vec<u32>>,
        UnboundedSender<Result<Vec<f32>, JobError>>,
        Place,
    ),
    /// Nothing more will come; jobs may end until then, or as long as they take.
    ShutDown(Option<Instant>),
}

/// Runs until the last handle is gone and the jobs are done, or the time of a shutdown is over.
pub(crate) fn run(setup: Setup, commands: Receiver<Command>) {
    let tokenizer = setup.tokenizer.clone();
    Worker::new(setup, &tokenizer, commands).run();
}

/// When it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// When all jobs are done, at the latest then if a time was given.
    WhenDone(Option<Instant>),
}

struct Worker<'t> {
    setup: Setup,
    tokenizer: &'t Tokenizer,
    commands: Receiver<Command>,
    closing: Closing,
    scheduler: Scheduler,
    tasks: BTreeMap<JobId, Task<'t>>,
    embeds: BTreeMap<JobId, EmbedTask>,
    next_id: u64,
    rows: BatchRows,
    /// Working memory of draws, for each thread.
    scratches: Vec<Mutex<Scratch>>,
    counts: EngineSnapshot,
}

impl<'t> Worker<'t> {
    fn new(setup: Setup, tokenizer: &'t Tokenizer, commands: Receiver<Command>) -> Self {
        Worker {
            tokenizer,
            commands,
            closing: Closing::No,
            scheduler: Scheduler::new(setup.limits),
            tasks: BTreeMap::new(),
            embeds: BTreeMap::new(),
            next_id: 0,
            rows: BatchRows::default(),
            scratches: Vec::new(),
            counts: EngineSnapshot::default(),
            setup,
        }
    }

    fn memory(&mut self) -> &mut Memory {
        &mut self.setup.memory
    }

    fn run(mut self) {
        self.report();
        while self.listen() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.turn())) {
                self.recover(&*panic);
            }
            self.report();
        }
        let memory = &mut self.setup.memory;
        memory.store.flush(&memory.pool);
    }

    /// One round of the loop.
    fn turn(&mut self) {
        self.sweep();
        self.admit();
        self.step();
    }

    fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.embeds.is_empty()
    }

    /// Takes what was sent, waiting for it when there is nothing else to do. Whether to go on.
    fn listen(&mut self) -> bool {
        while self.is_idle() && self.closing == Closing::No {
            let memory = &mut self.setup.memory;
            let is_busy = memory.store.work(&mut memory.pool);
            match self.wait(is_busy) {
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    if self.closing == Closing::No {
                        self.closing = Closing::WhenDone(None);
                    }
                    break;
                }
            }
        }
        !self.is_idle() || self.closing == Closing::No
    }

    /// The next command; while pages wait to be written, not for long.
    fn wait(&self, is_busy: bool) -> Result<Command, RecvTimeoutError> {
        if is_busy {
            return self.commands.recv_timeout(WRITING_PAUSE);
        }
        self.commands
            .recv()
            .map_err(|_| RecvTimeoutError::Disconnected)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Job(job, listener, place) => self.take_job(*job, listener, place),
            Command::Embed(owner, inputs, sender, place) => {
                let task = EmbedTask::new(owner, inputs, sender, place);
                if !task.is_done() {
                    let id = self.new_id();
                    let demand = task.demand(self.memory().pool.n_pages());
                    let owner = task.owner.clone();
                    self.scheduler.add(id, owner, Priority::Interactive, demand);
                    self.embeds.insert(id, task);
                }
            }
            Command::ShutDown(until) => self.closing = Closing::WhenDone(until),
        }
    }

    fn new_id(&mut self) -> JobId {
        self.next_id += 1;
        JobId(self.next_id)
    }

    /// Lets a job join one that is the same, or puts it in the queue.
    fn take_job(&mut self, job: Job, listener: Listener, place: Place) {
        let max_joined = self.setup.max_joined;
        let is_same =
            |task: &&mut Task<'_>| task.listeners.len() < max_joined && task.is_same(&job);
        if let Some(task) = self.tasks.values_mut().find(is_same) {
            task.listeners.join(listener);
            self.counts.n_joined += 1;
            return;
        }
        let context = TaskContext {
            tokenizer: self.tokenizer,
            n_ctx: self.setup.n_ctx(),
            speculation: self.setup.speculation,
        };
        let (owner, priority) = (job.owner.clone(), job.priority);
        let sender = listener.sender.clone();
        match Task::new(job, listener, place, &context) {
            Ok(task) => {
                let id = self.new_id();
                self.scheduler.add(id, owner, priority, task.demand(0));
                self.tasks.insert(id, task);
                self.hold_back(id);
            }
            Err(error) => {
                let _ = sender.send(JobEvent::Failed(error.into()));
            }
        }
    }

    /// Drops the jobs that nobody waits for, and all of them when time is up.
    fn sweep(&mut self) {
        let now = Instant::now();
        let is_unwanted = |(id, task): (&JobId, &mut Task<'_>)| {
            let is_wanted = task.listeners.sweep(now);
            (!is_wanted).then_some(*id)
        };
        let unwanted: Vec<JobId> = self.tasks.iter_mut().filter_map(is_unwanted).collect();
        let embeds = self.embeds.iter().filter(|(_, task)| !task.is_wanted());
        let unwanted_embeds: Vec<JobId> = embeds.map(|(id, _)| *id).collect();
        self.counts.n_cancelled += (unwanted.len() + unwanted_embeds.len()) as u64;
        for id in unwanted {
            self.take_away(id);
        }
        for id in unwanted_embeds {
            self.take_embed(id);
        }
        if let Closing::WhenDone(Some(until)) = self.closing
            && until <= now
        {
            self.fail_all(&JobError::ShuttingDown);
        }
    }

    /// Takes a job out, with its pages given back and those that are full remembered.
    fn take_away(&mut self, id: JobId) -> Option<Task<'t>> {
        let mut task = self.tasks.remove(&id)?;
        self.scheduler.remove(id);
        self.free_pages(&mut task);
        Some(task)
    }

    fn take_embed(&mut self, id: JobId) -> Option<EmbedTask> {
        let mut task = self.embeds.remove(&id)?;
        self.scheduler.remove(id);
        task.put_back(&mut self.setup.memory.pool);
        Some(task)
    }

    /// Gives the pages of a task back; those that are full stay in the store as long as there is room.
    fn free_pages(&mut self, task: &mut Task<'_>) {
        let memory = &mut self.setup.memory;
        task.drop_unread(&mut memory.pool);
        memory.keep(task);
        task.pages.clear(&mut memory.pool);
    }

    fn fail(&mut self, id: JobId, error: JobError) {
        if let Some(task) = self.take_away(id) {
            task.fail(error.clone());
        }
        if let Some(task) = self.take_embed(id) {
            task.fail(error);
        }
    }

    fn fail_all(&mut self, error: &JobError) {
        let ids: Vec<JobId> = self
            .tasks
            .keys()
            .chain(self.embeds.keys())
            .copied()
            .collect();
        for id in ids {
            self.fail(id, error.clone());
        }
    }

    /// After a defect nothing is known of the pages: all jobs fail and memory is made anew.
    fn recover(&mut self, panic: &(dyn Any + Send)) {
        let message = panic_text(panic);
        tracing::error!(message, "a step of the engine panicked");
        let error = JobError::from(EngineError::Panic { message });
        for (id, task) in std::mem::take(&mut self.tasks) {
            self.scheduler.remove(id);
            task.fail(error.clone());
        }
        for (id, task) in std::mem::take(&mut self.embeds) {
            self.scheduler.remove(id);
            task.fail(error.clone());
        }
        let kernels = self.setup.kernels.clone();
        let locked = lock(&kernels);
        match self.setup.memory.renewed(&self.setup.model, &locked) {
            Ok(memory) => self.setup.memory = memory,
            // Without memory there is no going on; jobs that come are told that it has ended.
            Err(error) => {
                tracing::error!(%error, "the engine ends: its memory cannot be made anew");
                self.closing = Closing::WhenDone(Some(Instant::now()));
            }
        }
    }

    /// Tells handles what there is.
    fn report(&mut self) {
        let memory = &self.setup.memory;
        let n_pages = memory.pool.n_pages();
        let n_pages_cached = memory.store.n_evictable(&memory.pool);
        let stored = memory.store.statistics();
        let counts = EngineSnapshot {
            n_pages_restored: stored.n_read,
            n_pages_saved: stored.n_written,
            n_running: self.scheduler.n_running(),
            n_waiting: self.scheduler.n_waiting(),
            n_pages,
            n_pages_cached,
            is_disk_off: stored.is_disk_off,
            n_pages_used: n_pages - memory.pool.n_free() - n_pages_cached,
            ..self.counts
        };
        self.counts = counts;
        let shared: &Arc<_> = &self.setup.shared;
        *shared
            .snapshot
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

impl Memory {
    /// Tells the store of the full pages of a task.
    fn keep(&mut self, task: &mut Task<'_>) {
        let n_full = task.pages.len() / PAGE_POSITIONS;
        if n_full > task.n_kept && self.shares() {
            let tokens = &task.history()[..task.pages.len()];
            let owner = &task.job().owner;
            self.store
                .keep(owner, tokens, task.pages.table(), &mut self.pool);
            task.n_kept = n_full;
        }
    }
}

#[cfg(test)]
mod tests;
