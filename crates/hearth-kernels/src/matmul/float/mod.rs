//! Products with float weights: F32, F16 and BF16, each converted exactly.
//!
//! Element `k` of a row goes to lane `k % 16`, one fused multiply-add each, and the lanes meet in the tree 8-4-2-1, on every
//! level and for any number of tokens. [`scalar`] is the definition, [`tile`] the one algorithm that the levels compile.

mod scalar;
#[cfg(test)]
mod tests;
mod tile;

use super::{OutRows, RowKernel, RowTask, ThreadScratch};
use crate::cpu::{Isa, Level};
use crate::quant::WeightType;

/// The kernel of a level; one function serves all three formats.
pub(crate) fn kernel(isa: Isa, _: WeightType) -> RowKernel {
    match isa {
        Isa::Scalar => scalar::rows,
        Isa::Portable => portable,
        Isa::Avx2(_) => avx2,
        Isa::Avx512(_) => avx512,
        // The three differ in products of bytes only.
        Isa::Neon(_) | Isa::NeonDotprod(_) | Isa::NeonI8mm(_) => neon,
    }
}

fn portable(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    tile::rows(Isa::Portable, task, out, scratch);
}

fn avx2(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    at(Level::Avx2, task, out, scratch);
}

fn avx512(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    at(Level::Avx512, task, out, scratch);
}

fn neon(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    at(Level::Neon, task, out, scratch);
}

/// A plain function pointer carries no token; asking again costs some nanoseconds per task and needs no promise.
fn at(level: Level, task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    tile::rows(Isa::new(level).unwrap_or(Isa::Portable), task, out, scratch);
}
