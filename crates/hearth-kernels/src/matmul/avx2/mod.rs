//! Products with AVX2, FMA and F16C.

mod panel256;
mod q4_k;
mod q6_k;
mod vec;

use super::RowKernel;
use crate::quant::WeightType;
use crate::quant::q4_k::BlockQ4K;
use crate::quant::q6_k::BlockQ6K;

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(ty: WeightType) -> Option<RowKernel> {
    Some(match ty {
        WeightType::Q4_K => panel256::rows::<BlockQ4K>,
        WeightType::Q6_K => panel256::rows::<BlockQ6K>,
        _ => return None,
    })
}
