//! Products with AVX-512 and VNNI.
//!
//! One to four tokens stream the matrix ([`stream`]), more multiply unpacked panels ([`panel`]).

#![allow(
    clippy::needless_range_loop,
    reason = "one index runs over registers, tokens and addresses at once"
)]

use super::{OutRows, RowKernel, RowTask, ThreadScratch};
use crate::quant::WeightType;

mod nibble256;
mod nibble32;
mod ops;
mod panel;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod stream;
mod stream32;
mod tile256;
mod tile32;

use tile32::{Format32, Panels};

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(ty: WeightType) -> Option<RowKernel> {
    match ty {
        WeightType::Q4_0 => Some(rows32::<nibble32::Q4_0>),
        WeightType::Q4_1 => Some(rows32::<nibble32::Q4_1>),
        WeightType::Q5_0 => Some(rows32::<nibble32::Q5_0>),
        WeightType::Q5_1 => Some(rows32::<nibble32::Q5_1>),
        WeightType::Q8_0 => Some(rows32::<q8_0::Q8_0>),
        WeightType::IQ4_NL => Some(rows32::<nibble32::Iq4Nl>),
        WeightType::MXFP4 => Some(rows32::<nibble32::Mxfp4>),
        WeightType::Q4_K => Some(q4_k::rows),
        WeightType::Q5_K => Some(q5_k::rows),
        WeightType::Q6_K => Some(q6_k::rows),
        _ => None,
    }
}

/// Products of a format with blocks of 32.
///
/// # Safety
/// The processor has the features of the level.
unsafe fn rows32<F: Format32>(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch) {
    // SAFETY: the caller's promise.
    unsafe {
        match task.acts.stream32 {
            Some(acts) => stream32::rows::<F>(task, acts, out, scratch),
            None => panel::rows::<Panels<F>>(task, out, scratch),
        }
    }
}
