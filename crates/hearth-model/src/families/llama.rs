//! Llama 1 to 3, Mistral, Mixtral and their many derivatives (arch `llama`).
//!
//! Pre-norm decoder with grouped-query attention, rotary positions on neighbouring pairs (the converter
//! permutes the published weights so), SwiGLU, no biases in the published models but read where a
//! derivative has them, and an output matrix that may be the embedding's. The llama3 kind of rope
//! scaling arrives as the tensor `rope_freqs.weight`, Mistral's window as `attention.sliding_window`
//! and holds for every layer; a Mixtral has experts in place of the MLP. Source: arXiv 2302.13971,
//! 2307.09288, 2310.06825, 2401.04088, 2407.21783.

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
        b.rope(q, rope, RopeKind::Normal);
        b.rope(k, rope, RopeKind::Normal);
        let y = b.attend(q, k, v);
        let y = b.project(y, "attn_output", Bias::IfPresent)?;
        x = b.add(x, y);
        let y = b.norm(x, "ffn_norm")?;
        let y = match b.hparams().experts {
            None => b.gated_mlp(y, Activation::Silu, Bias::IfPresent)?,
            Some(_) => b.gated_experts(y, Activation::Silu)?,
        };
        x = b.add(x, y);
    }
    b.head(x)
}
