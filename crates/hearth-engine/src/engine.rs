//! The handle of a model that serves many: jobs go in, events come out on each job's own channel.
//!
//! One thread owns the model's pages and runs its steps (`worker`); the handle checks a job, gives it a place in the queue and
//! sends it there. Both the queue and the channel have a bound, and a job beyond it is refused at once.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType};
use hearth_model::Model;
use hearth_text::Tokenizer;
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    constraint::Grammars,
    embed::{EmbedEvents, check_inputs},
    error::EngineError,
    job::{Job, JobEvents, Owner, SubmitError},
    listeners::Listener,
    logprobs,
    prefix::PrefixOptions,
    worker::{self, Command, Setup},
};

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Positions of the context; the model's trained length when absent. Less if the budget cannot hold it.
    pub n_ctx: Option<usize>,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Memory for keys and values, of what runs and of what is kept for later. Without it, one whole context, or a few pages for
    /// each of the jobs that may run at once, whichever is more. Taken page by page as it is used.
    pub kv_budget_bytes: Option<u64>,
    /// Jobs that run at once.
    pub max_sequences: usize,
    /// Jobs that wait.
    pub max_queue: usize,
    /// Rows of a step, prompts and answers together.
    pub max_step_tokens: usize,
    /// How long a step should take while others wait for the next one.
    pub step_target: Duration,
    /// What is kept of prompts and answers for later ones.
    pub prefix: PrefixOptions,
    /// Whether tokens are guessed and tested several at a time, where it pays.
    pub speculate: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            n_ctx: None,
            kv_type: KvType::F16,
            kv_budget_bytes: None,
            max_sequences: 64,
            max_queue: 256,
            max_step_tokens: 512,
            step_target: Duration::from_millis(200),
            prefix: PrefixOptions::default(),
            speculate: true,
        }
    }
}

/// What an engine is doing, and has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct EngineSnapshot {
    /// Jobs that run.
    pub n_running: usize,
    /// Jobs that wait.
    pub n_waiting: usize,
    /// Pages there are.
    pub n_pages: usize,
    /// Of those, pages that running jobs hold.
    pub n_pages_used: usize,
    /// Of those, pages kept for later that no running job holds.
    pub n_pages_cached: usize,
    /// Tokens of prompts that were read, those read again included.
    pub n_read: u64,
    /// Tokens of prompts that were found in the cache.
    pub n_cached: u64,
    /// Whether pages should be written to files and cannot be; the log says why.
    pub is_disk_off: bool,
    /// Tokens drawn.
    pub n_written: u64,
    /// Pages that were read from files.
    pub n_pages_restored: u64,
    /// Pages that were written to files.
    pub n_pages_saved: u64,
    /// Jobs whose pages were taken away for a while.
    pub n_preempted: u64,
    /// Jobs that joined one that ran already.
    pub n_joined: u64,
    /// Jobs that ended because nobody waited for them any more.
    pub n_cancelled: u64,
    /// Steps made.
    pub n_steps: u64,
    /// Duration of the last step, in milliseconds.
    pub last_step_ms: f64,
}

/// A place in the queue; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(crate) fn take(n_waiting: &Arc<AtomicUsize>, limit: usize) -> Result<Place, SubmitError> {
        let place = Place(n_waiting.clone());
        let n_waiting = n_waiting.fetch_add(1, Ordering::Relaxed);
        if n_waiting < limit {
            Ok(place)
        } else {
            Err(SubmitError::QueueFull { n_waiting, limit })
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What handles and thread share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) n_waiting: Arc<AtomicUsize>,
    pub(crate) snapshot: Mutex<EngineSnapshot>,
    is_down: AtomicBool,
}

/// A model that serves many at once. A clone is another handle of the same engine; its thread ends once the last one is dropped
/// and the jobs it had are done, or with [`Engine::shut_down`].
#[derive(Clone)]
pub struct Engine {
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    grammars: Arc<Grammars>,
    n_ctx: usize,
    max_queue: usize,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("model", &self.model.hparams().architecture)
            .field("n_ctx", &self.n_ctx)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Loads the model of a file and starts its thread. `kernels` are those of the process: an engine holds them for
    /// one step at a time.
    ///
    /// # Errors
    ///
    /// The file is no model we run, its tokenizer is not usable, the budget holds no page, or memory or a thread is
    /// refused.
    pub fn start(
        gguf: Arc<Gguf>,
        kernels: Arc<Mutex<Kernels>>,
        options: EngineOptions,
    ) -> Result<Engine, EngineError> {
        let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata())?);
        let shared = Arc::new(Shared::default());
        let setup = Setup::new(gguf, kernels, &options, tokenizer.clone(), shared.clone())?;
        let grammars = Arc::new(Grammars::new(&tokenizer));
        let (model, n_ctx) = (setup.model().clone(), setup.n_ctx());
        // Room for what the queue may hold, for jobs that join others, and for the order to end.
        let (commands, receiver) = mpsc::sync_channel(options.max_queue + 16);
        let thread = std::thread::Builder::new()
            .name("hearth-engine".to_owned())
            .spawn(move || worker::run(setup, receiver))
            .map_err(EngineError::Thread)?;
        Ok(Engine {
            commands,
            shared,
            thread: Arc::new(Mutex::new(Some(thread))),
            model,
            tokenizer,
            grammars,
            n_ctx,
            max_queue: options.max_queue,
        })
    }

    /// Hands in a job. Its events come until one says that it is done or failed.
    ///
    /// # Errors
    ///
    /// The request is bad, the queue is full, or the engine has ended.
    pub fn submit(&self, job: Job) -> Result<JobEvents, SubmitError> {
        let n_vocab = self.model.n_vocab();
        job.request.check(n_vocab, self.n_ctx)?;
        logprobs::check(job.n_logprobs)?;
        logprobs::check(job.n_prompt_logprobs)?;
        if let Some(budget) = &job.thinking_budget {
            budget.check(n_vocab)?;
        }
        let place = self.place()?;
        let (sender, receiver) = unbounded_channel();
        let listener = Listener {
            sender,
            deadline: job.deadline,
        };
        self.send(Command::Job(Box::new(job), listener, place))?;
        Ok(JobEvents { receiver })
    }

    /// Hands in texts to be turned into vectors, one for each, not normalised: rows of the model's last hidden states, pooled as
    /// its file says, else their mean.
    ///
    /// # Errors
    ///
    /// A text is empty, does not fit the context, or names a token outside the vocabulary; the queue is full; or
    /// the engine has ended.
    pub fn embed(&self, owner: Owner, inputs: Vec<Vec<u32>>) -> Result<EmbedEvents, SubmitError> {
        check_inputs(&inputs, self.model.n_vocab(), self.n_ctx)?;
        let place = self.place()?;
        let (sender, receiver) = unbounded_channel();
        let events = EmbedEvents::new(receiver, inputs.len());
        self.send(Command::Embed(owner, inputs, sender, place))?;
        Ok(events)
    }

    fn place(&self) -> Result<Place, SubmitError> {
        if self.shared.is_down.load(Ordering::Acquire) {
            return Err(SubmitError::ShuttingDown);
        }
        Place::take(&self.shared.n_waiting, self.max_queue)
    }

    fn send(&self, command: Command) -> Result<(), SubmitError> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                TrySendError::Full(_) => SubmitError::QueueFull {
                    n_waiting: self.shared.n_waiting.load(Ordering::Relaxed),
                    limit: self.max_queue,
                },
                TrySendError::Disconnected(_) => SubmitError::ShuttingDown,
            })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Makes constraints for its vocabulary.
    pub fn grammars(&self) -> &Arc<Grammars> {
        &self.grammars
    }

    /// Positions that a prompt and its answer may have together.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// What it is doing.
    pub fn snapshot(&self) -> EngineSnapshot {
        let lock = self.shared.snapshot.lock();
        *lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more jobs, lets those it has end for as long as `grace`, fails the rest, writes what is kept to disk and
    /// returns when the thread has ended.
    pub fn shut_down(&self, grace: Duration) {
        self.shared.is_down.store(true, Ordering::Release);
        // Beyond what a clock can tell is for ever.
        let until = Instant::now().checked_add(grace);
        // Refused only when the thread has ended already.
        let _ = self.commands.send(Command::ShutDown(until));
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic of the thread was reported where it happened.
            let _ = thread.join();
        }
    }
}
