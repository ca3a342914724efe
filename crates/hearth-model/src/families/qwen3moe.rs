//! Qwen 3, mixtures of experts (arch `qwen3moe`).
//!
//! A `qwen3` whose every layer has experts in place of the MLP. A token's weights add up to 1, as in all
//! published models; the file has no key for it. Source: arXiv 2505.09388.

use hearth_kernels::{Activation, RopeKind};

use crate::{
    error::ModelError,
    plan::{Bias, PlanBuilder},
};

pub(crate) fn plan(b: &mut PlanBuilder<'_>) -> Result<(), ModelError> {
    let rope = b.rope_table()?;
    let mut x = b.embed("token_embd")?;
    for layer in 0..b.hparams().n_layer {
        b.layer(layer);
        let y = b.norm(x, "attn_norm")?;
        let (q, k, v) = b.qkv(y, Bias::IfPresent)?;
        b.head_norm(q, "attn_q_norm")?;
        b.head_norm(k, "attn_k_norm")?;
        b.rope(q, rope, RopeKind::Neox);
        b.rope(k, rope, RopeKind::Neox);
        let y = b.attend(q, k, v);
        let y = b.project(y, "attn_output", Bias::None)?;
        x = b.add(x, y);
        let y = b.norm(x, "ffn_norm")?;
        let y = b.gated_experts(y, Activation::Silu)?;
        x = b.add(x, y);
    }
    b.head(x)
}
