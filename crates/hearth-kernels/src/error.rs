//! What can go wrong before arithmetic starts. Once a [`crate::Matrix`] and a [`crate::Kernels`] exist, products cannot fail;
//! slices of the wrong length are a mistake of the caller and panic with the two lengths.

use crate::cpu::Level;
use crate::quant::WeightType;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The processor lacks instructions the level needs.
    #[error("this processor cannot run level {level}: it lacks {}", missing.join(", "))]
    LevelUnavailable {
        /// The level asked for.
        level: Level,
        /// Names of the missing instruction sets, as `/proc/cpuinfo` or the vendor's manual spells them.
        missing: Vec<&'static str>,
    },
    /// No level has this name.
    #[error("unknown level {name:?}, expected one of {}", Level::ALL.map(Level::name).join(", "))]
    UnknownLevel {
        /// What was given.
        name: String,
    },
    /// The operating system refused a thread.
    #[error("cannot start worker thread {index} of {n_threads}")]
    Thread {
        /// Which worker, counted from 1 (0 is the calling thread).
        index: usize,
        /// How many the team should have.
        n_threads: usize,
        /// The refusal.
        source: std::io::Error,
    },
    /// A row does not end at a block boundary.
    #[error("a row of {cols} {ty} weights is not a whole number of blocks of {}", ty.block_len())]
    PartialBlock {
        /// Type of the weights.
        ty: WeightType,
        /// Columns of the matrix.
        cols: usize,
    },
    /// A product of nothing.
    #[error("a {ty} matrix of {rows} rows has no columns")]
    NoColumns {
        /// Type of the weights.
        ty: WeightType,
        /// Rows of the matrix.
        rows: usize,
    },
    /// `rows * cols` does not fit the address space.
    #[error("a {ty} matrix of {rows} rows and {cols} columns is larger than the address space")]
    Overflow {
        /// Type of the weights.
        ty: WeightType,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// The bytes given are not the bytes of the matrix.
    #[error("a {ty} matrix of {rows} rows and {cols} columns has {expected} bytes, found {found}")]
    MatrixBytes {
        /// Type of the weights.
        ty: WeightType,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Bytes such a matrix has.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}
