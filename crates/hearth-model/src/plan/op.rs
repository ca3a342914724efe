//! The operations a model is made of.
//!
//! An operation names its buffers, weights and settings, and nothing else: no sizes of a batch, no
//! threads, no instruction sets. Where an operation says *in place*, its first buffer is read and written.

use hearth_kernels::{Activation, RopeKind};

use super::Step;

/// A numbered buffer of the plan: `[n_rows, cols]` while a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub(crate) u32);

/// A bound matrix of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatrixId(pub(crate) u32);

/// A bound vector of the file (norm weights, biases), held as f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VectorId(pub(crate) u32);

/// A table of rope frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RopeId(pub(crate) u32);

/// One piece of a sequence's state, such as the keys and values of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateId(pub(crate) u32);

impl BufferId {
    /// Its place in the plan's list of buffers.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl MatrixId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl VectorId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl RopeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl StateId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One product of a [`Op::MatMul`]: `out[row] = weight · input[row] (+ bias)`.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// `[rows, cols]`.
    pub weight: MatrixId,
    /// `[rows]`.
    pub bias: Option<VectorId>,
    /// `[n, rows]`.
    pub out: BufferId,
}

/// The most products that share an input: queries, keys and values.
pub(crate) const MAX_PRODUCTS: usize = 3;

/// One operation over the rows of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Op {
    /// `out[row]` is the table's row of the token.
    Embed {
        /// `[n_vocab, n_embd]`.
        table: MatrixId,
        /// `[n, n_embd]`.
        out: BufferId,
    },
    /// Root-mean-square norm of every row.
    Norm {
        /// `[n, cols]`.
        input: BufferId,
        /// `[cols]`.
        weight: VectorId,
        /// Added to the mean square.
        eps: f32,
        /// `[n, cols]`.
        out: BufferId,
    },
    /// Root-mean-square norm of every head of every row, in place.
    HeadNorm {
        /// `[n, n_head · head_dim]`.
        x: BufferId,
        /// `[head_dim]`.
        weight: VectorId,
        /// Added to the mean square.
        eps: f32,
        /// Width of a head.
        head_dim: usize,
    },
    /// One to three products of the same input.
    MatMul {
        /// `[n, cols]`.
        input: BufferId,
        /// What it is multiplied with.
        products: Vec<Product>,
    },
    /// Rotates the first dimensions of every head by the row's position, in place.
    Rope {
        /// `[n, n_head · head_dim]`.
        x: BufferId,
        /// Its frequencies.
        table: RopeId,
        /// Which dimensions make a pair.
        kind: RopeKind,
        /// Heads in a row.
        n_head: usize,
        /// Width of a head.
        head_dim: usize,
    },
    /// Writes the rows' keys and values to their pages.
    StoreKv {
        /// Where.
        state: StateId,
        /// `[n, n_head_kv · head_dim]`.
        k: BufferId,
        /// `[n, n_head_kv · head_dim_v]`.
        v: BufferId,
    },
    /// Softmax attention of the rows' queries over the pages of their sequences.
    Attend {
        /// Which keys and values.
        state: StateId,
        /// `[n, n_head · head_dim]`.
        q: BufferId,
        /// `[n, n_head · head_dim_v]`.
        out: BufferId,
        /// Query heads.
        n_head: usize,
        /// Factor of the scores.
        scale: f32,
    },
    /// `out = activation(gate) · up`, element by element.
    Glu {
        /// Which activation.
        activation: Activation,
        /// `[n, n_ff]`.
        gate: BufferId,
        /// `[n, n_ff]`.
        up: BufferId,
        /// `[n, n_ff]`.
        out: BufferId,
    },
    /// For every row the gated MLPs of the experts with the largest logits, summed with the softmax of those
    /// logits as weights.
    Moe {
        /// `[n, n_embd]`.
        input: BufferId,
        /// The router's, `[n, n_expert]`.
        logits: BufferId,
        /// `[n_expert · n_ff, n_embd]`, all experts one after the other.
        gate: MatrixId,
        /// `[n_expert · n_ff, n_embd]`.
        up: MatrixId,
        /// `[n_expert · n_embd, n_ff]`.
        down: MatrixId,
        /// Which activation.
        activation: Activation,
        /// How many experts a row goes to.
        n_expert_used: usize,
        /// Working memory, `[n, n_expert_used · n_ff]`.
        inner: BufferId,
        /// `[n, n_embd]`.
        out: BufferId,
    },
    /// `x += y`, in place.
    Add {
        /// `[n, cols]`.
        x: BufferId,
        /// `[n, cols]`.
        y: BufferId,
    },
    /// Keeps the rows whose logits are wanted.
    SelectRows {
        /// `[n, cols]`.
        input: BufferId,
        /// `[n_wanted, cols]`.
        out: BufferId,
    },
}

/// How many operations at the start of `steps` do nothing but make the input of the product behind them: the executor runs them
/// row by row with what prepares that product.
pub(crate) fn n_producers(steps: &[Step]) -> usize {
    let op = |index: usize| steps.get(index).map(|step| &step.op);
    match [op(0), op(1), op(2)] {
        [
            Some(Op::Add { x, .. }),
            Some(Op::Norm { input, out, .. }),
            Some(Op::MatMul { input: made, .. }),
        ] if x == input && out == made => 2,
        [
            Some(Op::Norm { out, .. } | Op::Glu { out, .. }),
            Some(Op::MatMul { input, .. }),
            _,
        ] if out == input => 1,
        _ => 0,
    }
}

impl Op {
    /// The buffers read and those written, for the planning of memory.
    pub(crate) fn uses(&self) -> (Vec<BufferId>, Vec<BufferId>) {
        match self {
            Op::Embed { out, .. } => (vec![], vec![*out]),
            Op::Norm { input, out, .. } | Op::SelectRows { input, out } => {
                (vec![*input], vec![*out])
            }
            Op::HeadNorm { x, .. } | Op::Rope { x, .. } => (vec![*x], vec![*x]),
            Op::MatMul { input, products } => {
                (vec![*input], products.iter().map(|p| p.out).collect())
            }
            Op::StoreKv { k, v, .. } => (vec![*k, *v], vec![]),
            Op::Attend { q, out, .. } => (vec![*q], vec![*out]),
            Op::Glu { gate, up, out, .. } => (vec![*gate, *up], vec![*out]),
            Op::Moe {
                input,
                logits,
                inner,
                out,
                ..
            } => (vec![*input, *logits], vec![*inner, *out]),
            Op::Add { x, y } => (vec![*x, *y], vec![*x]),
        }
    }

    /// Short name, as `show --plan` and the timings print it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "embed",
            Op::Norm { .. } => "norm",
            Op::HeadNorm { .. } => "head_norm",
            Op::MatMul { .. } => "matmul",
            Op::Rope { .. } => "rope",
            Op::StoreKv { .. } => "store_kv",
            Op::Attend { .. } => "attend",
            Op::Glu { .. } => "glu",
            Op::Moe { .. } => "moe",
            Op::Add { .. } => "add",
            Op::SelectRows { .. } => "select_rows",
        }
    }
}
