//! What a worker is made of: the model, its memory, and what that memory may be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType, Level, PAGE_POSITIONS};
use hearth_model::{Executor, ExecutorLimits, Model, ModelOptions, PageLayout, PagePool};
use hearth_text::Tokenizer;

use crate::{
    engine::{EngineOptions, Shared},
    error::EngineError,
    pooling::Pooling,
    prefix::{ModelIdentity, PrefixOptions, PrefixStore},
    scheduler::SchedulerLimits,
};

/// Positions that there are pages for at least, for each job that may run at once, when no budget is given.
const POSITIONS_PER_SEQUENCE: usize = 256;

/// Everything a worker starts with.
pub(crate) struct Setup {
    pub(super) model: Arc<Model>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) kernels: Arc<Mutex<Kernels>>,
    pub(super) shared: Arc<Shared>,
    pub(super) memory: Memory,
    pub(super) limits: SchedulerLimits,
    pub(super) pooling: Pooling,
    /// For guesses: the processor's level and whether the model has experts; absent when there are to be none.
    pub(super) speculation: Option<(Level, bool)>,
    /// Jobs that may join one that runs.
    pub(super) max_joined: usize,
}

/// Where keys and values are, and the memory of a step.
pub(super) struct Memory {
    pub(super) executor: Executor,
    pub(super) pool: PagePool,
    pub(super) store: PrefixStore,
    plan: MemoryPlan,
}

/// What memory is made from: after a defect it is made anew.
#[derive(Clone)]
struct MemoryPlan {
    limits: ExecutorLimits,
    kv_type: KvType,
    n_positions: usize,
    prefix: PrefixOptions,
}

impl Setup {
    /// # Errors
    ///
    /// The file is no model we run, the budget holds no page, an option is zero, or memory is refused.
    pub(crate) fn new(
        gguf: Arc<Gguf>,
        kernels: Arc<Mutex<Kernels>>,
        options: &EngineOptions,
        tokenizer: Arc<Tokenizer>,
        shared: Arc<Shared>,
    ) -> Result<Self, EngineError> {
        let (model, n_pages) = load(gguf, options)?;
        let (n_tokens, n_vocab) = (tokenizer.n_vocab(), model.n_vocab());
        if n_tokens != n_vocab {
            return Err(EngineError::Vocabulary { n_tokens, n_vocab });
        }
        let sizes = [
            ("max_sequences", options.max_sequences),
            ("max_queue", options.max_queue),
            ("max_step_tokens", options.max_step_tokens),
        ];
        if let Some(&(name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(EngineError::Zero { name });
        }
        let max_rows = options.max_step_tokens;
        let plan = MemoryPlan {
            limits: ExecutorLimits {
                max_tokens: max_rows,
                max_logits: max_rows,
                n_positions: model.n_ctx(),
            },
            kv_type: options.kv_type,
            n_positions: n_pages * PAGE_POSITIONS,
            prefix: options.prefix.clone(),
        };
        let locked = lock(&kernels);
        let memory = Memory::new(&model, &locked, plan)?;
        let level = locked.level();
        drop(locked);
        let has_experts = model.hparams().experts.is_some();
        Ok(Setup {
            memory,
            limits: SchedulerLimits {
                max_sequences: options.max_sequences.min(max_rows),
                max_rows,
                target: options.step_target.as_secs_f64(),
                window: model.plan().window(),
            },
            pooling: Pooling::of(&model)?,
            speculation: options.speculate.then_some((level, has_experts)),
            max_joined: options.max_queue,
            model,
            tokenizer,
            kernels,
            shared,
        })
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(crate) fn n_ctx(&self) -> usize {
        self.model.n_ctx()
    }
}

/// The model with a context that its pages can hold, and the number of pages.
fn load(gguf: Arc<Gguf>, options: &EngineOptions) -> Result<(Arc<Model>, usize), EngineError> {
    let n_ctx = options.n_ctx;
    let model = Model::load(gguf.clone(), ModelOptions { n_ctx })?;
    let whole = model.n_ctx().div_ceil(PAGE_POSITIONS);
    let Some(budget_bytes) = options.kv_budget_bytes else {
        let several = options.max_sequences * POSITIONS_PER_SEQUENCE / PAGE_POSITIONS;
        return Ok((Arc::new(model), whole.max(several)));
    };
    let page_bytes = PageLayout::new(model.plan(), options.kv_type).page_bytes();
    let n_pages = usize::try_from(budget_bytes / page_bytes as u64).unwrap_or(usize::MAX);
    if n_pages == 0 {
        return Err(EngineError::Budget {
            budget_bytes,
            page_bytes,
        });
    }
    if n_pages >= whole {
        return Ok((Arc::new(model), n_pages));
    }
    // The length of the context is part of what a model computes, so it is told anew.
    let n_ctx = Some(n_pages * PAGE_POSITIONS);
    let model = Model::load(gguf, ModelOptions { n_ctx })?;
    Ok((Arc::new(model), n_pages))
}

impl Memory {
    fn new(model: &Model, kernels: &Kernels, plan: MemoryPlan) -> Result<Self, EngineError> {
        let pool = PagePool::new(model, plan.kv_type, plan.n_positions)?;
        let identity = ModelIdentity::of(model);
        Ok(Memory {
            executor: Executor::new(model, kernels, plan.limits)?,
            store: PrefixStore::new(identity, pool.layout(), &plan.prefix),
            pool,
            plan,
        })
    }

    /// The same, empty.
    pub(super) fn renewed(&self, model: &Model, kernels: &Kernels) -> Result<Self, EngineError> {
        Memory::new(model, kernels, self.plan.clone())
    }

    /// Pages that are free or can be made so.
    pub(super) fn n_available(&self) -> usize {
        self.pool.n_free() + self.store.n_evictable(&self.pool)
    }

    /// Whether prompts share what was read.
    pub(super) fn shares(&self) -> bool {
        self.plan.prefix.is_on
    }

    /// Whether they do so between owners.
    pub(super) fn shares_between_owners(&self) -> bool {
        self.plan.prefix.share_between_owners
    }

    /// Makes room for `n_pages`.
    pub(super) fn make_room(&mut self, n_pages: usize) -> bool {
        n_pages <= self.pool.n_free() || self.store.evict(n_pages, &mut self.pool)
    }
}

/// What a mutex guards: kernels and working memory, about which a panic in a step says nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
