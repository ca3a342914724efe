//! Products on arrays of lanes, for any processor.
//!
//! A few rows at a time: each block is unpacked once, its scales multiplied into the integers where 16 bits allow,
//! and the result met with every token. The inner loops are sums of 16-bit products of fixed length without
//! branches, the form that compilers turn into whatever multiply-add the target has. No intrinsics here.

mod a256;
mod a32;

use super::RowKernel;
use crate::quant::{WeightType, with_block};

/// Rows that share one pass over the activations.
const ROWS: usize = 4;

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(ty: WeightType) -> Option<RowKernel> {
    with_block!(
        ty,
        |B| Some(a32::rows::<B> as RowKernel),
        |B| Some(a256::rows::<B> as RowKernel),
        else None
    )
}
