//! One page per model family: which tensors it has, and the plan in the order of its paper.
//!
//! No arithmetic, no fusion, no threads here; what two families share is an operation of the builder.

pub(crate) mod llama;
pub(crate) mod qwen2;
pub(crate) mod qwen3;
pub(crate) mod qwen3moe;
