//! Qwen 2 and 2.5 (arch `qwen2`).
//!
//! A llama with biases on queries, keys and values, and rotary positions on the two halves of a head.
//! Source: arXiv 2407.10671.

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
        let (q, k, v) = b.qkv(y, Bias::Required)?;
        b.rope(q, rope, RopeKind::Neox);
        b.rope(k, rope, RopeKind::Neox);
        let y = b.attend(q, k, v);
        let y = b.project(y, "attn_output", Bias::IfPresent)?;
        x = b.add(x, y);
        let y = b.norm(x, "ffn_norm")?;
        let y = b.gated_mlp(y, Activation::Silu, Bias::None)?;
        x = b.add(x, y);
    }
    b.head(x)
}
