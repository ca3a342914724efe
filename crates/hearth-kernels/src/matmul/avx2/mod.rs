//! Products with AVX2, FMA and F16C, and with AVX-VNNI where the processor has it.
//!
//! Both are one program: `VNNI` says whether bytes are multiplied and added in fours, exactly in 32 bits, or in pairs into words.

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
use crate::cpu::Avx2;
use crate::quant::{WeightType, with_block};

/// This level's kernel for a format, if it has one.
pub(crate) fn kernel(token: Avx2, ty: WeightType) -> Option<RowKernel> {
    match token.has_vnni() {
        true => kernel_of::<true>(ty),
        false => kernel_of::<false>(ty),
    }
}

fn kernel_of<const VNNI: bool>(ty: WeightType) -> Option<RowKernel> {
    with_block!(
        ty,
        |B| Some(rows::<ShortStrips<B, VNNI>, Short<B, VNNI>> as RowKernel),
        |B| Some(rows::<SuperStrips<B>, Super<B, VNNI>> as RowKernel),
        else None
    )
}

/// Chooses between reading the matrix like a tape and unpacking it for many tokens, which pays from three on.
///
/// # Safety
/// The processor has the features of the level whose `S` and `P` these are.
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
