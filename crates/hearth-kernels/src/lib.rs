//! hearth-kernels: the arithmetic of hearth, on slices.
//!
//! Every operation has one scalar function that defines its result bit for bit, and versions for instruction sets that give
//! the same bits faster. [`Kernels`] holds the choice of level and the thread team; results depend on neither, nor on how many
//! tokens share a call. This crate knows blocks of weights, not models, and its hot calls allocate nothing once their
//! scratch has grown. `docs/numerics.md` is the specification in words.

use std::num::NonZeroUsize;

mod activation;
pub mod attention;
mod ceiling;
mod cpu;
mod disjoint;
mod elementwise;
mod error;
pub mod float;
mod glu;
mod lanes;
mod layer_norm;
pub mod matmul;
pub mod moe;
mod page;
pub mod quant;
mod rms_norm;
mod rope;
pub mod team;
#[cfg(test)]
mod testing;

pub use attention::AttendArgs;
pub use cpu::Level;
pub use error::KernelError;
pub use glu::Activation;
pub use matmul::{MatmulJob, Matrix};
pub use moe::MoeArgs;
pub use page::{KvPlace, KvRow, KvType, PAGE_POSITIONS, RELEASED_PAGE};
pub use quant::WeightType;
pub use rope::{RopeFreqs, RopeKind, RopeScaling, RopeTable};

use cpu::Isa;
use team::Team;

/// A level of the processor and a team of threads: all operations are its methods.
pub struct Kernels {
    isa: Isa,
    team: Team,
}

impl Kernels {
    /// Checks the level and starts the threads. The calling thread takes part, so `n_threads` of 1 starts none.
    ///
    /// # Errors
    /// [`KernelError::LevelUnavailable`], or [`KernelError::Thread`] when the system refuses a thread.
    pub fn new(level: Level, n_threads: NonZeroUsize) -> Result<Kernels, KernelError> {
        Ok(Kernels {
            isa: Isa::new(level)?,
            team: Team::new(n_threads)?,
        })
    }

    /// The level in use.
    pub fn level(&self) -> Level {
        self.isa.level()
    }

    /// Threads in use, the calling one included.
    pub fn n_threads(&self) -> usize {
        self.team.n_threads()
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The team, for fork-join work of a caller's own.
    pub fn team(&self) -> &Team {
        &self.team
    }
}
