//! Products of quantised or float matrices with the activations of one or many tokens.
//!
//! `driver` owns threads and chunks; a level's kernel computes some rows of one matrix for all tokens of the batch and
//! chooses its own regime from their number. `scalar` is the specification. A level without a kernel for a format uses
//! the next lower level's: same bits.

use std::ops::Range;

use crate::activation::ActBatch;
use crate::cpu::Isa;
use crate::error::KernelError;
use crate::quant::{ActFormat, WeightType};

pub(crate) mod acts;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod driver;
pub(crate) mod float;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
mod producer;
pub(crate) mod scalar;
#[cfg(test)]
mod tests;

pub use driver::Scratch;
pub(crate) use driver::ThreadScratch;
pub use producer::Producer;

/// A weight matrix as it lies in a file, row after row.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    ty: WeightType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// Views `data` as `[rows, cols]` weights. No alignment is needed.
    ///
    /// # Errors
    /// When there are no columns, a row is not a whole number of blocks, or `data` is not exactly the matrix.
    pub fn new(
        ty: WeightType,
        rows: usize,
        cols: usize,
        data: &'a [u8],
    ) -> Result<Matrix<'a>, KernelError> {
        if cols == 0 {
            return Err(KernelError::NoColumns { ty, rows });
        }
        if !cols.is_multiple_of(ty.block_len()) {
            return Err(KernelError::PartialBlock { ty, cols });
        }
        let overflow = KernelError::Overflow { ty, rows, cols };
        let Some(row_bytes) = ty.row_bytes(cols) else {
            return Err(overflow);
        };
        let Some(expected) = row_bytes.checked_mul(rows) else {
            return Err(overflow);
        };
        if data.len() != expected {
            return Err(KernelError::MatrixBytes {
                ty,
                rows,
                cols,
                expected,
                found: data.len(),
            });
        }
        Ok(Matrix {
            ty,
            rows,
            cols,
            row_bytes,
            data,
        })
    }

    /// Storage format.
    pub fn weight_type(&self) -> WeightType {
        self.ty
    }

    /// Outputs of the product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of the product.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between rows.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// All bytes.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Bytes of one row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> &'a [u8] {
        &self.data[row * self.row_bytes..][..self.row_bytes]
    }

    /// Bytes of some rows.
    pub(crate) fn rows_data(&self, rows: Range<usize>) -> &'a [u8] {
        &self.data[rows.start * self.row_bytes..rows.end * self.row_bytes]
    }
}

/// One product of a call: a matrix and where its output goes.
#[derive(Debug)]
pub struct MatmulJob<'a> {
    /// `[rows, cols]`; all jobs of a call have the same `cols`.
    pub weight: Matrix<'a>,
    /// `[n_tokens, rows]`, overwritten.
    pub out: &'a mut [f32],
}

/// Work of one kernel call: some rows of one matrix times every token of the batch.
#[derive(Debug, Clone)]
pub(crate) struct RowTask<'a> {
    pub weight: Matrix<'a>,
    pub rows: Range<usize>,
    pub acts: ActBatch<'a>,
    /// What this thread reads after this task, to prefetch near its end; may be empty.
    pub next: &'a [u8],
}

impl<'a> RowTask<'a> {
    /// Bytes of the task's rows.
    pub fn data(&self) -> &'a [u8] {
        self.weight.rows_data(self.rows.clone())
    }
}

/// The outputs of one task: for each token, a run of consecutive floats, one per row of the task.
#[derive(Debug)]
pub(crate) struct OutRows {
    first: *mut f32,
    /// Distance between tokens: all rows of the matrix.
    stride: usize,
    n_tokens: usize,
    n_rows: usize,
}

impl OutRows {
    /// # Safety
    /// For each token below `n_tokens`, the `n_rows` floats at `first + token * stride` are valid and nobody else's for the
    /// life of this value.
    pub unsafe fn new(first: *mut f32, stride: usize, n_tokens: usize, n_rows: usize) -> OutRows {
        OutRows {
            first,
            stride,
            n_tokens,
            n_rows,
        }
    }

    /// Outputs of a token, one per row of the task.
    pub fn token(&mut self, token: usize) -> &mut [f32] {
        assert!(token < self.n_tokens, "token {token} of {}", self.n_tokens);
        // SAFETY: `new`'s contract, and the borrow of `self` keeps the slice alone.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(token * self.stride), self.n_rows) }
    }
}

/// A level's product for one weight format: every row of the task, every token of its batch.
///
/// # Safety
/// The processor has the features of the level whose table the function came from.
pub(crate) type RowKernel =
    unsafe fn(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch);

/// The kernel of the fastest level up to `isa` that has one for the format.
pub(crate) fn row_kernel(isa: Isa, ty: WeightType) -> RowKernel {
    if ty.activations() == ActFormat::Float {
        return float::kernel(isa, ty);
    }
    let found = match isa {
        Isa::Scalar => None,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::kernel(token, ty).or_else(|| portable::kernel(ty)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx512::kernel(ty)
            .or_else(|| avx2::kernel(token.avx2(), ty))
            .or_else(|| portable::kernel(ty)),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => neon::kernel::<neon::Plain>(ty),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod(_) => neon::kernel::<neon::Dotprod>(ty),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(_) => neon::kernel::<neon::I8mm>(ty),
        _ => portable::kernel(ty),
    };
    found.unwrap_or(scalar::rows)
}
