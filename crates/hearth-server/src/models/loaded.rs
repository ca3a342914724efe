//! A model in memory: what it takes to load one, what is known of it then, and when it was used.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use hearth_engine::{Engine, EngineOptions};
use hearth_kernels::Kernels;
use hearth_model::PageLayout;
use hearth_text::{ChatTemplate, parse::AnswerFormat};

use super::{Details, ModelFile, budget, lock};

/// Why a model named on the command line could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is no model file.
    #[error(transparent)]
    File(#[from] hearth_gguf::GgufError),
    /// Its chat template is unusable.
    #[error(transparent)]
    Template(#[from] hearth_text::TemplateError),
    /// Its settings or tensors are none we run.
    #[error(transparent)]
    Model(#[from] hearth_model::ModelError),
    /// Its engine does not start.
    #[error(transparent)]
    Engine(#[from] hearth_engine::EngineError),
}

/// A model that can answer.
#[derive(Debug)]
pub struct Loaded {
    /// Runs it.
    pub engine: Engine,
    /// Renders conversations; `None` for a model without turns.
    pub template: Option<ChatTemplate>,
    /// How it writes thinking and calls.
    pub format: AnswerFormat,
    /// What clients call it.
    pub name: String,
    /// Facts of its file.
    pub details: Details,
    /// What loading took.
    pub load_time: Duration,
    page_bytes: u64,
    usage: Mutex<Usage>,
}

/// When a model was used and how long it stays afterwards.
#[derive(Clone, Copy, Debug)]
struct Usage {
    last: Instant,
    /// `None`: for good.
    keep: Option<Duration>,
}

impl Loaded {
    /// Sets how long the model stays after its last use; `None` for good, zero to unload as soon as nobody uses it.
    pub fn keep_alive(&self, keep: Option<Duration>) {
        lock(&self.usage).keep = keep;
    }

    /// When it will be unloaded if nobody uses it before then.
    pub fn expires_at(&self) -> Option<SystemTime> {
        let usage = *lock(&self.usage);
        let left = usage.keep?.saturating_sub(usage.last.elapsed());
        SystemTime::now().checked_add(left)
    }

    /// Bytes of weights and of the pages in use.
    pub fn memory_bytes(&self) -> u64 {
        let snapshot = self.engine.snapshot();
        let n_pages = (snapshot.n_pages_used + snapshot.n_pages_cached) as u64;
        self.details.size + n_pages * self.page_bytes
    }

    /// Notes that it is in use.
    pub(super) fn touch(&self) {
        lock(&self.usage).last = Instant::now();
    }

    /// Whether nobody has used it for as long as it was to stay.
    pub(super) fn is_expired(&self) -> bool {
        let usage = *lock(&self.usage);
        usage.keep.is_some_and(|keep| usage.last.elapsed() >= keep)
    }

    /// When it was used last.
    pub(super) fn last_used(&self) -> Instant {
        lock(&self.usage).last
    }
}

/// What it takes to load a model.
pub(super) struct Load {
    pub(super) name: String,
    pub(super) file: ModelFile,
    pub(super) kernels: Arc<Mutex<Kernels>>,
    pub(super) options: EngineOptions,
    pub(super) memory_bytes: Option<u64>,
    pub(super) keep: Option<Duration>,
}

impl Load {
    /// Loads it; may take a while.
    pub(super) fn run(mut self) -> Result<Loaded, LoadError> {
        let started = Instant::now();
        let gguf = self.file.open()?;
        let template = ChatTemplate::from_metadata(gguf.metadata())?;
        let format = match &template {
            Some(template) => AnswerFormat::detect(template.source()),
            None => AnswerFormat::default(),
        };
        let details = Details::of(&gguf, self.file.modified());
        if let Some(memory_bytes) = self
            .memory_bytes
            .filter(|_| self.options.kv_budget_bytes.is_none())
        {
            budget::set(&mut self.options, &gguf, memory_bytes)?;
        }
        let kv_type = self.options.kv_type;
        let engine = Engine::start(gguf, self.kernels, self.options)?;
        prepare_grammars(&engine);
        let page_bytes = PageLayout::new(engine.model().plan(), kv_type).page_bytes() as u64;
        let usage = Usage {
            last: Instant::now(),
            keep: self.keep,
        };
        Ok(Loaded {
            engine,
            template,
            format,
            name: self.name,
            details,
            load_time: started.elapsed(),
            page_bytes,
            usage: Mutex::new(usage),
        })
    }
}

/// Lets a model's vocabulary be taken in beside other work, so that the first request with a schema or tools does not wait
/// for it. Without a thread for it that request does it.
fn prepare_grammars(engine: &Engine) {
    let grammars = Arc::clone(engine.grammars());
    let thread = std::thread::Builder::new().name("hearth-grammars".to_owned());
    if let Err(error) = thread.spawn(move || grammars.prepare()) {
        tracing::debug!(%error, "no thread to prepare grammars");
    }
}
