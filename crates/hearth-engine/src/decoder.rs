//! A model with memory for one sequence: tokens go in, logits come out, positions are taken back.

use std::{ops::ControlFlow, sync::Arc};

use hearth_kernels::{Kernels, KvType};
use hearth_model::{
    Batch, Executor, ExecutorLimits, Logits, Model, PagePool, Row, Sequence, StepError,
};

use crate::error::EngineError;

/// One model, its working memory and the keys and values of one token stream.
pub(crate) struct Decoder {
    model: Arc<Model>,
    executor: Executor,
    pool: PagePool,
    sequence: Sequence,
    /// The tokens whose keys and values `sequence` holds.
    stored: Vec<u32>,
    rows: Vec<Row>,
}

/// Which rows of a step want logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogitsOf {
    None,
    Last,
    All,
}

impl Decoder {
    /// # Errors
    ///
    /// Memory is refused.
    pub(crate) fn new(
        model: Arc<Model>,
        kernels: &Kernels,
        kv_type: KvType,
        limits: ExecutorLimits,
    ) -> Result<Self, EngineError> {
        Ok(Decoder {
            executor: Executor::new(&model, kernels, limits)?,
            pool: PagePool::new(&model, kv_type, limits.n_positions)?,
            sequence: Sequence::new(),
            stored: Vec::new(),
            rows: Vec::with_capacity(limits.max_tokens),
            model,
        })
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(crate) fn pool(&self) -> &PagePool {
        &self.pool
    }

    pub(crate) fn limits(&self) -> ExecutorLimits {
        self.executor.limits()
    }

    /// Tokens stored.
    pub(crate) fn len(&self) -> usize {
        self.stored.len()
    }

    pub(crate) fn clear(&mut self) {
        self.sequence.clear(&mut self.pool);
        self.stored.clear();
    }

    /// Keeps the positions that `tokens` begins with, all but its last token at most: its logits are needed.
    /// The first `n_known` are known to be the same.
    pub(crate) fn keep_common(&mut self, tokens: &[u32], n_known: usize) -> usize {
        let common = n_known
            + tokens[n_known..tokens.len() - 1]
                .iter()
                .zip(&self.stored[n_known..])
                .take_while(|(a, b)| a == b)
                .count();
        let window = self.model.plan().window();
        let n_kept = if self.sequence.can_continue_at(common, window) {
            common
        } else {
            0
        };
        self.keep(n_kept);
        n_kept
    }

    /// Forgets all but the first `n` tokens. After a step over tokens that turned out wrong, what it stored
    /// beyond them is overwritten before any row can see it.
    pub(crate) fn keep(&mut self, n: usize) {
        let n_kept = self.sequence.truncate(n, &mut self.pool);
        self.stored.truncate(n_kept);
    }

    /// Gives back the pages that no further token can see. Not to be done while a token may still be taken
    /// back: those before it see further.
    pub(crate) fn release(&mut self) {
        if let Some(window) = self.model.plan().window() {
            self.sequence.release_outside(window, &mut self.pool);
        }
    }

    /// Appends tokens chunk by chunk, telling `progress` how many are stored before the first and after
    /// each; the logits are those after the last token, if wanted.
    pub(crate) fn read(
        &mut self,
        kernels: &Kernels,
        tokens: &[u32],
        wants_logits: bool,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), &[f32]>, EngineError> {
        let (mut rest, chunk) = (tokens, self.limits().max_tokens);
        if progress(self.len()).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        self.release();
        while rest.len() > chunk {
            let (now, later) = rest.split_at(chunk);
            self.step(kernels, now, LogitsOf::None)?;
            self.release();
            rest = later;
            if progress(self.len()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let n_done = self.len() + rest.len();
        let logits_of = if wants_logits {
            LogitsOf::Last
        } else {
            LogitsOf::None
        };
        let logits = self.step(kernels, rest, logits_of)?;
        if progress(n_done).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(if wants_logits {
            logits.row(0)
        } else {
            &[]
        }))
    }

    /// One step: appends at most a chunk of tokens.
    pub(crate) fn step(
        &mut self,
        kernels: &Kernels,
        tokens: &[u32],
        logits_of: LogitsOf,
    ) -> Result<Logits<'_>, EngineError> {
        Ok(self.try_step(kernels, tokens, logits_of)??)
    }

    /// The same, with a failure of the step itself apart: the sequence is then as it was before.
    pub(crate) fn try_step(
        &mut self,
        kernels: &Kernels,
        tokens: &[u32],
        logits_of: LogitsOf,
    ) -> Result<Result<Logits<'_>, StepError>, EngineError> {
        let start = self.stored.len();
        self.sequence
            .grow_to(start + tokens.len(), &mut self.pool)?;
        self.rows.clear();
        self.rows
            .extend(tokens.iter().enumerate().map(|(index, &token)| Row {
                seq: 0,
                pos: (start + index) as u32,
                token,
                wants_logits: match logits_of {
                    LogitsOf::None => false,
                    LogitsOf::Last => index + 1 == tokens.len(),
                    LogitsOf::All => true,
                },
            }));
        let batch = Batch {
            rows: &self.rows,
            tables: &[self.sequence.table()],
        };
        let step = self
            .executor
            .step(&self.model, kernels, &mut self.pool, &batch);
        if step.is_ok() {
            self.sequence.advance(tokens.len());
            self.stored.extend_from_slice(tokens);
        }
        Ok(step)
    }
}
