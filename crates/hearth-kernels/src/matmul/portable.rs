//! Products on arrays of lanes, for any processor.

use super::RowKernel;
use crate::quant::WeightType;

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(_ty: WeightType) -> Option<RowKernel> {
    None
}
