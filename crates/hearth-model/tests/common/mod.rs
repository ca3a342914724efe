//! Runs a model for a test.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType, Level};
use hearth_model::{Batch, Executor, ExecutorLimits, Model, ModelOptions, PagePool, Row, Sequence};

/// The best level of this machine on two threads.
pub fn kernels() -> Kernels {
    Kernels::new(Level::best(), NonZeroUsize::new(2).unwrap()).unwrap()
}

/// A model with a sequence and everything it needs.
pub struct Runner {
    pub model: Model,
    pub kernels: Kernels,
    pub pool: PagePool,
    pub executor: Executor,
    pub sequence: Sequence,
}

impl Runner {
    pub fn open(path: &Path, n_ctx: usize, kv_type: KvType, kernels: Kernels) -> Runner {
        let gguf = Gguf::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Runner::new(Arc::new(gguf), n_ctx, kv_type, kernels)
    }

    pub fn new(gguf: Arc<Gguf>, n_ctx: usize, kv_type: KvType, kernels: Kernels) -> Runner {
        let model = Model::load(gguf, ModelOptions { n_ctx: Some(n_ctx) })
            .unwrap_or_else(|error| panic!("{error}"));
        let limits = ExecutorLimits {
            max_tokens: n_ctx,
            max_logits: n_ctx,
            n_positions: 2 * n_ctx,
        };
        Runner {
            pool: PagePool::new(&model, kv_type, 2 * n_ctx).unwrap(),
            executor: Executor::new(&model, &kernels, limits).unwrap(),
            sequence: Sequence::new(),
            model,
            kernels,
        }
    }

    /// Appends tokens and returns the logits after each of them.
    pub fn feed(&mut self, tokens: &[u32]) -> Vec<f32> {
        let start = self.sequence.len();
        self.sequence
            .grow_to(start + tokens.len(), &mut self.pool)
            .unwrap();
        let row = |(index, &token): (usize, &u32)| Row {
            seq: 0,
            pos: (start + index) as u32,
            token,
            wants_logits: true,
        };
        let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
        let batch = Batch {
            rows: &rows,
            tables: &[self.sequence.table()],
        };
        let logits = self
            .executor
            .step(&self.model, &self.kernels, &mut self.pool, &batch)
            .unwrap();
        let all = (0..logits.len())
            .flat_map(|row| logits.row(row))
            .copied()
            .collect();
        self.sequence.advance(tokens.len());
        all
    }

    /// The logits after each token of a fresh sequence.
    pub fn logits(&mut self, tokens: &[u32]) -> Vec<f32> {
        self.sequence.clear(&mut self.pool);
        self.feed(tokens)
    }

    /// The best token, again and again.
    pub fn greedy(&mut self, prompt: &[u32], n: usize) -> Vec<u32> {
        let mut logits = self.logits(prompt);
        let n_vocab = self.model.n_vocab();
        let mut answer = Vec::new();
        while answer.len() < n {
            let last = &logits[logits.len() - n_vocab..];
            let best = (0..n_vocab)
                .reduce(|best, token| {
                    if last[token] > last[best] {
                        token
                    } else {
                        best
                    }
                })
                .unwrap();
            answer.push(best as u32);
            logits = self.feed(&[best as u32]);
        }
        answer
    }
}
