//! Products with AVX-512 and VNNI.
//!
//! One to four tokens stream the matrix ([`stream`]), more multiply unpacked panels ([`panel`]).

use super::RowKernel;
use crate::quant::WeightType;

mod nibble256;
mod ops;
mod panel;
mod q4_k;
mod q5_k;
mod q6_k;
mod stream;
mod tile256;

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(ty: WeightType) -> Option<RowKernel> {
    match ty {
        WeightType::Q4_K => Some(q4_k::rows),
        WeightType::Q5_K => Some(q5_k::rows),
        WeightType::Q6_K => Some(q6_k::rows),
        _ => None,
    }
}
