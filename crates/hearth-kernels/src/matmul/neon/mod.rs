//! Products with NEON, for three kinds of processors.
//!
//! Every format unpacks to signed bytes in order of columns, which is all that is written per format: [`short`] and [`long`].
//! One to four tokens read the matrix in address order ([`stream`]); more go through panels of rows ([`panel`]). How signed bytes
//! are multiplied is a parameter of both, [`int8::Int8`]: the processors differ in nothing else.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over register tiles are unrolled before registers are chosen; iterators not always"
)]

mod int8;
mod long;
mod panel;
mod panel256;
mod panel32;
mod short;
mod stream;
mod vec;

pub(crate) use int8::{Dotprod, I8mm, Int8, Plain};

use super::driver::FEW_TOKENS;
use super::{OutRows, RowKernel, RowTask, ThreadScratch};
use crate::quant::{WeightType, with_block};
use panel::Panels;
use panel32::Short;
use panel256::Super;
use stream::Dot;

/// The kernel for a format of the level that has these instructions.
pub(crate) fn kernel<I: Int8>(ty: WeightType) -> Option<RowKernel> {
    with_block!(
        ty,
        |B| Some(rows::<I, Short<B>> as RowKernel),
        |B| Some(rows::<I, Super<B>> as RowKernel),
        else None
    )
}

/// Chooses between reading the matrix like a tape and unpacking it for many tokens.
///
/// # Safety
/// The processor has the instructions of `I`.
unsafe fn rows<I: Int8, F: Dot + Panels>(
    task: &RowTask<'_>,
    out: &mut OutRows,
    scratch: &mut ThreadScratch,
) {
    const { assert!(FEW_TOKENS == 4) };
    // SAFETY: the caller's promise.
    unsafe {
        match task.acts.n_tokens {
            1 => stream::rows::<I, F, 1>(task, out),
            2 => stream::rows::<I, F, 2>(task, out),
            3 => stream::rows::<I, F, 3>(task, out),
            4 => stream::rows::<I, F, 4>(task, out),
            _ => panel::rows::<I, F>(task, out, scratch),
        }
    }
}
