//! Products with AVX2.

use super::RowKernel;
use crate::quant::WeightType;

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(_ty: WeightType) -> Option<RowKernel> {
    None
}
