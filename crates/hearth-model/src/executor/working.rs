//! How much memory an executor takes, found out before it is taken: an allocation that fails ends the
//! process, and the sizes come from a file and from flags.

use hearth_kernels::{Kernels, attention::Bounds, moe};

use super::ExecutorLimits;
use crate::{
    error::ModelError,
    plan::{Op, Plan, Rows, StateKind},
};

/// The most working memory of an executor. Far above what any published model needs with a sensible chunk.
const MAX_BYTES: u64 = 64 << 30;

/// Rows that a buffer of this kind has at most.
pub(super) fn rows(kind: Rows, limits: ExecutorLimits) -> usize {
    match kind {
        Rows::All => limits.max_tokens,
        Rows::Wanted => limits.max_logits,
    }
}

/// What each attention of the plan is reserved for.
pub(super) fn attention_bounds(
    plan: &Plan,
    limits: ExecutorLimits,
) -> impl Iterator<Item = Bounds> {
    plan.steps.iter().filter_map(move |step| {
        let Op::Attend { state, n_head, .. } = step.op else {
            return None;
        };
        let StateKind::Attention {
            n_head_kv,
            head_dim,
            head_dim_v,
            ..
        } = plan.states[state.index()];
        Some(Bounds {
            n_rows: limits.max_tokens,
            n_head,
            n_head_kv,
            head_dim,
            head_dim_v,
            n_positions: limits.n_positions,
        })
    })
}

/// What each mixture of experts of the plan is reserved for.
pub(super) fn moe_bounds(plan: &Plan, limits: ExecutorLimits) -> impl Iterator<Item = moe::Bounds> {
    plan.steps.iter().filter_map(move |step| {
        let Op::Moe {
            gate,
            up,
            down,
            n_expert_used,
            ..
        } = step.op
        else {
            return None;
        };
        let [gate, up, down] = [gate, up, down].map(|id| &plan.matrices[id.index()]);
        Some(moe::Bounds {
            n_tokens: limits.max_tokens,
            n_expert: gate.n_stacked,
            n_expert_used,
            n_embd: gate.cols,
            n_ff: down.cols,
            gate_up: [gate.ty, up.ty],
            down: down.ty,
        })
    })
}

/// Refuses limits whose memory is beyond [`MAX_BYTES`] or more than the system would give.
pub(super) fn check(
    plan: &Plan,
    kernels: &Kernels,
    limits: ExecutorLimits,
) -> Result<(), ModelError> {
    let slots = plan
        .memory
        .slots
        .iter()
        .map(|slot| floats(&[rows(slot.rows, limits), slot.cols]));
    // The kernels keep one scratch, as large as the largest attention asks for.
    let attention = attention_bounds(plan, limits)
        .map(|bounds| bounds.scratch_bytes(kernels.n_threads()))
        .max_by_key(|parts| total(parts))
        .unwrap_or_default();
    let moe = moe_bounds(plan, limits)
        .map(|bounds| bounds.n_bytes(kernels.n_threads()))
        .max_by_key(|parts| total(parts))
        .unwrap_or_default();
    let parts: Vec<u64> = slots.chain(attention).chain(moe).collect();
    let n_bytes = total(&parts);
    let reason = if n_bytes > MAX_BYTES {
        format!("the limit is {MAX_BYTES}")
    } else if !parts.iter().all(|&part| is_given(part)) {
        "more than the system gives".to_owned()
    } else {
        return Ok(());
    };
    Err(ModelError::WorkingMemory {
        max_tokens: limits.max_tokens,
        n_positions: limits.n_positions,
        n_bytes,
        reason,
    })
}

fn floats(factors: &[usize]) -> u64 {
    factors.iter().fold(4, |product: u64, &factor| {
        product.saturating_mul(factor as u64)
    })
}

fn total(parts: &[u64]) -> u64 {
    parts.iter().copied().fold(0, u64::saturating_add)
}

/// Whether the system gives so many bytes at once. They are not touched, so this costs no memory.
fn is_given(n_bytes: u64) -> bool {
    let mut probe: Vec<u8> = Vec::new();
    let answer = usize::try_from(n_bytes).is_ok_and(|n| probe.try_reserve_exact(n).is_ok());
    // The compiler may leave out an allocation that nobody looks at, and then every answer would be yes.
    std::hint::black_box(&probe);
    answer
}
