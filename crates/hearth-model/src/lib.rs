//! Model families as plans, and the processor that runs them.
//!
//! A GGUF file becomes [`Hparams`] (every value bounded), a family turns those and the tensor names
//! into a [`Plan`] (a flat list of operations over numbered buffers), and an [`Executor`] runs the plan
//! over a batch of (sequence, position, token) rows, keeping keys and values in the pages of a
//! [`PagePool`]. Weights stay where they lie in the mapped file.
//!
//! What this crate never does: choose threads, decide which request runs next, turn text into
//! tokens, or sample.
//!
//! ```no_run
//! use std::{num::NonZeroUsize, path::Path, sync::Arc};
//! use hearth_kernels::{KvType, Kernels, Level};
//! use hearth_model::{Batch, Executor, ExecutorLimits, Model, ModelOptions, PagePool, Row, Sequence};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gguf = Arc::new(hearth_gguf::Gguf::open(Path::new("model.gguf"))?);
//! let model = Model::load(gguf, ModelOptions::default())?;
//! let kernels = Kernels::new(Level::best(), NonZeroUsize::MIN)?;
//! let mut pool = PagePool::new(&model, KvType::F16, 4096)?;
//! let mut executor = Executor::new(&model, &kernels, ExecutorLimits::default())?;
//! let mut sequence = Sequence::new();
//! sequence.grow_to(1, &mut pool)?;
//! let rows = [Row { seq: 0, pos: 0, token: 1, wants_logits: true }];
//! let batch = Batch { rows: &rows, tables: &[sequence.table()] };
//! let logits = executor.step(&model, &kernels, &mut pool, &batch)?;
//! println!("{:?}", logits.row(0));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod error;
mod executor;
mod families;
mod hparams;
mod model;
pub mod plan;
mod registry;
mod state;
mod work;

pub use error::{ModelError, PoolError, StepError};
pub use executor::{Batch, Executor, ExecutorLimits, Hidden, Logits, Observed, OpTime, Row};
pub use hparams::{ExpertHparams, Hparams, Limits, RopeHparams, RopeScalingHparams};
pub use model::{Model, ModelOptions};
pub use plan::Plan;
pub use registry::supported_families;
pub use state::{PageId, PageLayout, PagePool, Sequence};
pub use work::Work;
