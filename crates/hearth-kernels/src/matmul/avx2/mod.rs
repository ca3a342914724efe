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
mod stream;
mod stream256;
mod stream32;
mod vec;

use panel::Panels;
use panel32::Short;
use panel256::Super;
use stream::Strips;
use stream32::ShortStrips;
use stream256::SuperStrips;

use super::{OutRows, RowKernel, RowTask, ThreadScratch};
use crate::quant::{WeightType, with_block};

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(ty: WeightType) -> Option<RowKernel> {
    with_block!(
        ty,
        |B| Some(rows::<ShortStrips<B>, Short<B>> as RowKernel),
        |B| Some(rows::<SuperStrips<B>, Super<B>> as RowKernel),
        else None
    )
}

/// Chooses between reading the matrix like a tape and unpacking it for many tokens, which pays from three on.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
unsafe fn rows<S, P>(task: &RowTask<'_>, out: &mut OutRows, scratch: &mut ThreadScratch)
where
    S: Strips<1> + Strips<2>,
    P: Panels,
{
    // SAFETY: the caller's promise.
    unsafe {
        match task.acts.n_tokens {
            1 => stream::rows::<S, 1>(task, out, scratch),
            2 => stream::rows::<S, 2>(task, out, scratch),
            _ => panel::rows::<P>(task, out, scratch),
        }
    }
}
