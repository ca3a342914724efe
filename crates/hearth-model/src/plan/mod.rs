//! The plan of a model: a flat list of operations over numbered buffers.
//!
//! A family builds it once with the plan builder, the executor runs it, and its `Display` is what
//! `show --plan` prints. Tensor names are resolved here and appear nowhere later.

mod builder;
mod display;
mod memory;
mod op;

use hearth_kernels::{RopeFreqs, WeightType};

pub(crate) use builder::{Bias, PlanBuilder};
pub use memory::{MemoryPlan, Slot};
pub use op::{BufferId, MatrixId, Op, Product, RopeId, StateId, VectorId};
pub(crate) use op::{MAX_PRODUCTS, n_producers};

/// Which rows of a batch a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All of them.
    All,
    /// Those whose logits are wanted.
    Wanted,
}

/// A buffer of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Which rows it holds.
    pub rows: Rows,
    /// Values in a row.
    pub cols: usize,
}

/// A matrix of the file, bound by the plan.
#[derive(Clone, Debug)]
pub struct BoundMatrix {
    /// Its name in the file.
    pub name: String,
    /// Its type.
    pub ty: WeightType,
    /// Rows, the outputs of a product; of all experts together.
    pub rows: usize,
    /// Columns, its inputs.
    pub cols: usize,
    /// How many matrices of equal height it consists of: one for each expert, where there are experts.
    pub n_stacked: usize,
    /// Its place in the file's list of tensors.
    pub(crate) tensor: usize,
}

/// A vector of the file, converted to f32 when the model is loaded: some kilobytes a layer.
#[derive(Clone, Debug)]
pub struct BoundVector {
    /// Its name in the file.
    pub name: String,
    /// Its values.
    pub values: Box<[f32]>,
}

/// One piece of state that a sequence carries from step to step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateKind {
    /// Keys and values of every position, in pages.
    Attention {
        /// Key/value heads.
        n_head_kv: usize,
        /// Width of a key.
        head_dim: usize,
        /// Width of a value.
        head_dim_v: usize,
        /// How many positions back a query sees, itself included; `None` is all of them.
        window: Option<u32>,
    },
}

/// An operation and the layer it belongs to.
#[derive(Clone, Debug)]
pub struct Step {
    /// `None` before the first and after the last layer.
    pub layer: Option<usize>,
    /// What is done.
    pub op: Op,
}

/// Everything an executor has to know about a model.
#[derive(Debug)]
pub struct Plan {
    /// The family's name.
    pub family: &'static str,
    /// The operations in order.
    pub steps: Vec<Step>,
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// The matrices.
    pub matrices: Vec<BoundMatrix>,
    /// The vectors.
    pub vectors: Vec<BoundVector>,
    /// The rope tables.
    pub ropes: Vec<RopeFreqs>,
    /// The state of a sequence.
    pub states: Vec<StateKind>,
    /// Where the logits end up.
    pub logits: BufferId,
    /// Which buffers share memory.
    pub memory: MemoryPlan,
}

impl Plan {
    /// Whether a buffer holds only the rows whose logits are wanted.
    pub(crate) fn is_wanted(&self, id: BufferId) -> bool {
        self.buffers[id.index()].rows == Rows::Wanted
    }

    /// Place of the operation that computes the logits, and what it multiplies the output matrix with.
    pub(crate) fn output(&self) -> (usize, BufferId) {
        let found = self.steps.iter().enumerate().find_map(|(index, step)| {
            let Op::MatMul { input, products } = &step.op else {
                return None;
            };
            let is_output = products.iter().any(|one| one.out == self.logits);
            is_output.then_some((index, *input))
        });
        found.expect("a family's plan ends with its head, which is a product")
    }

    /// The positions back, at most, that any layer looks, if every layer has a window.
    pub fn window(&self) -> Option<u32> {
        let mut widest = 0;
        for state in &self.states {
            let StateKind::Attention { window, .. } = state;
            widest = widest.max((*window)?);
        }
        (widest > 0).then_some(widest)
    }
}
