//! Products with AVX2, FMA and F16C.

mod iq4;
mod panel;
mod panel256;
mod panel32;
mod q2_k;
mod q3_k;
mod q4_k;
mod q5_k;
mod q6_k;
mod short;
mod signed;
mod vec;

use panel32::Short;
use panel256::Super;

use super::RowKernel;
use crate::quant::{WeightType, with_block};

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(ty: WeightType) -> Option<RowKernel> {
    with_block!(
        ty,
        |B| Some(panel::rows::<Short<B>> as RowKernel),
        |B| Some(panel::rows::<Super<B>> as RowKernel),
        else None
    )
}
