//! Products with AVX-512 and VNNI.
//!
//! Few tokens stream the matrix ([`stream`]), more multiply unpacked panels ([`panel`]).

#![allow(
    clippy::needless_range_loop,
    reason = "one index runs over registers, tokens and addresses at once"
)]

use super::{OutRows, RowKernel, RowTask, ThreadScratch};
use crate::cpu::Avx512;
use crate::quant::WeightType;

mod format256;
mod iq4_xs;
mod nibble256;
mod nibble32;
mod ops;
mod panel;
mod q2_k;
mod q3_k;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod sixteen256;
mod stream;
mod stream32;
mod tile256;
mod tile32;

use tile32::{Format32, Panels};

/// Most tokens that stream. Where both were measured from memory, on Emerald Rapids, panels cost less from two tokens on: every
/// token adds a third to what streaming costs, as shuffles have one port there. On Zen 4 streaming costs a tenth more per
/// token, and unpacking as much as four tokens of it.
pub(crate) fn stream_tokens(token: Avx512) -> usize {
    if token.is_amd() { 4 } else { 1 }
}

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
        WeightType::Q2_K => Some(format256::rows::<q2_k::Q2K>),
        WeightType::Q3_K => Some(format256::rows::<q3_k::Q3K>),
        WeightType::Q4_K => Some(format256::rows::<q4_k::Q4K>),
        WeightType::Q5_K => Some(format256::rows::<q5_k::Q5K>),
        WeightType::Q6_K => Some(format256::rows::<q6_k::Q6K>),
        WeightType::IQ4_XS => Some(format256::rows::<iq4_xs::IQ4XS>),
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
