//! Builds a plan from a family's description and binds its tensors.
//!
//! Binding is strict both ways. A tensor the family names must be there, with the shape the settings
//! imply and a type we have kernels for; a tensor of the file that nothing used is an error too, since
//! leaving it out would compute another model.

use std::collections::HashMap;

use hearth_gguf::{Gguf, TensorInfo};
use hearth_kernels::{Activation, RopeFreqs, RopeKind, RopeScaling, WeightType, quant};

use super::{
    BoundMatrix, BoundVector, Buffer, BufferId, MatrixId, MemoryPlan, Op, Plan, Product, RopeId,
    Rows, StateId, StateKind, Step, VectorId,
};
use crate::{
    error::ModelError,
    hparams::{ExpertHparams, Hparams, RopeScalingHparams},
};

/// Tensors that old converters left in their files and that hold nothing the settings do not say.
const IGNORABLE_SUFFIXES: &[&str] = &[
    "attn_rot_embd",        // inverse frequencies of the first llama conversions
    "attn_rot_embd.weight", // the same under a later name
    "rotary_emb.inv_freq",  // the same under the published model's name
    "attn.masked_bias",     // a constant of the training code
];

/// Whether products have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bias {
    /// Never: one in the file is an unused tensor, so an error.
    None,
    /// Where the file has one.
    IfPresent,
    /// Always.
    Required,
}

/// A plan under construction.
pub(crate) struct PlanBuilder<'a> {
    gguf: &'a Gguf,
    hparams: &'a Hparams,
    n_ctx: usize,
    index: HashMap<&'a str, usize>,
    is_used: Vec<bool>,
    layer: Option<usize>,
    steps: Vec<Step>,
    buffers: Vec<Buffer>,
    matrices: Vec<BoundMatrix>,
    vectors: Vec<BoundVector>,
    ropes: Vec<RopeFreqs>,
    states: Vec<StateKind>,
    logits: Option<BufferId>,
}

impl<'a> PlanBuilder<'a> {
    pub(crate) fn new(gguf: &'a Gguf, hparams: &'a Hparams, n_ctx: usize) -> Self {
        let index = gguf
            .tensors()
            .iter()
            .enumerate()
            .map(|(index, tensor)| (tensor.name.as_str(), index))
            .collect();
        PlanBuilder {
            gguf,
            hparams,
            n_ctx,
            index,
            is_used: vec![false; gguf.tensors().len()],
            layer: None,
            steps: Vec::new(),
            buffers: Vec::new(),
            matrices: Vec::new(),
            vectors: Vec::new(),
            ropes: Vec::new(),
            states: Vec::new(),
            logits: None,
        }
    }

    pub(crate) fn hparams(&self) -> &'a Hparams {
        self.hparams
    }

    /// What follows belongs to this layer, and its tensors are named `blk.<layer>.…`.
    pub(crate) fn layer(&mut self, layer: usize) {
        self.layer = Some(layer);
    }

    /// Rows of the embedding.
    pub(crate) fn embed(&mut self, name: &str) -> Result<BufferId, ModelError> {
        let table = self.matrix(name, self.hparams.n_vocab, self.hparams.n_embd)?;
        let out = self.buffer(Rows::All, self.hparams.n_embd);
        self.push(Op::Embed { table, out });
        Ok(out)
    }

    /// Root-mean-square norm of whole rows.
    pub(crate) fn norm(&mut self, x: BufferId, name: &str) -> Result<BufferId, ModelError> {
        let Buffer { rows, cols } = self.buffers[x.index()];
        let weight = self.vector(&format!("{name}.weight"), cols)?;
        let out = self.buffer(rows, cols);
        self.push(Op::Norm {
            input: x,
            weight,
            eps: self.hparams.norm_eps,
            out,
        });
        Ok(out)
    }

    /// Root-mean-square norm of every head of queries or keys.
    pub(crate) fn head_norm(&mut self, x: BufferId, name: &str) -> Result<(), ModelError> {
        let head_dim = self.hparams.head_dim;
        let weight = self.vector(&format!("{name}.weight"), head_dim)?;
        self.push(Op::HeadNorm {
            x,
            weight,
            eps: self.hparams.norm_eps,
            head_dim,
        });
        Ok(())
    }

    /// Queries, keys and values of one input.
    pub(crate) fn qkv(
        &mut self,
        x: BufferId,
        bias: Bias,
    ) -> Result<(BufferId, BufferId, BufferId), ModelError> {
        let h = self.hparams;
        let q = self.product(x, "attn_q", h.n_head * h.head_dim, bias)?;
        let k = self.product(x, "attn_k", h.n_head_kv * h.head_dim, bias)?;
        let v = self.product(x, "attn_v", h.n_head_kv * h.head_dim_v, bias)?;
        self.push(Op::MatMul {
            input: x,
            products: vec![q, k, v],
        });
        Ok((q.out, k.out, v.out))
    }

    /// Rotates queries or keys by their position.
    pub(crate) fn rope(&mut self, x: BufferId, table: RopeId, kind: RopeKind) {
        let head_dim = self.hparams.head_dim;
        let n_head = self.buffers[x.index()].cols / head_dim;
        self.push(Op::Rope {
            x,
            table,
            kind,
            n_head,
            head_dim,
        });
    }

    /// Stores keys and values, then attends over all of the sequence so far.
    pub(crate) fn attend(&mut self, q: BufferId, k: BufferId, v: BufferId) -> BufferId {
        let h = self.hparams;
        let state = StateId(self.states.len() as u32);
        self.states.push(StateKind::Attention {
            n_head_kv: h.n_head_kv,
            head_dim: h.head_dim,
            head_dim_v: h.head_dim_v,
            window: h.sliding_window,
        });
        self.push(Op::StoreKv { state, k, v });
        let out = self.buffer(Rows::All, h.n_head * h.head_dim_v);
        self.push(Op::Attend {
            state,
            q,
            out,
            n_head: h.n_head,
            scale: h.attention_scale,
        });
        out
    }

    /// Back to the width of the residual stream.
    pub(crate) fn project(
        &mut self,
        x: BufferId,
        name: &str,
        bias: Bias,
    ) -> Result<BufferId, ModelError> {
        let product = self.product(x, name, self.hparams.n_embd, bias)?;
        self.push(Op::MatMul {
            input: x,
            products: vec![product],
        });
        Ok(product.out)
    }

    /// `down(activation(gate(x)) · up(x))`.
    pub(crate) fn gated_mlp(
        &mut self,
        x: BufferId,
        activation: Activation,
        bias: Bias,
    ) -> Result<BufferId, ModelError> {
        let gate = self.product(x, "ffn_gate", self.hparams.n_ff, bias)?;
        let up = self.product(x, "ffn_up", self.hparams.n_ff, bias)?;
        self.push(Op::MatMul {
            input: x,
            products: vec![gate, up],
        });
        let out = self.buffer(Rows::All, self.hparams.n_ff);
        self.push(Op::Glu {
            activation,
            gate: gate.out,
            up: up.out,
            out,
        });
        self.project(out, "ffn_down", bias)
    }

    /// The gated MLPs of the experts that a router chooses for each row.
    pub(crate) fn gated_experts(
        &mut self,
        x: BufferId,
        activation: Activation,
    ) -> Result<BufferId, ModelError> {
        let ExpertHparams {
            n_expert,
            n_expert_used,
            n_ff,
        } = self
            .hparams
            .experts
            .expect("the registry says that the family has experts");
        let Buffer { rows, cols } = self.buffers[x.index()];
        let router = self.product(x, "ffn_gate_inp", n_expert, Bias::None)?;
        self.push(Op::MatMul {
            input: x,
            products: vec![router],
        });
        let gate = self.stacked("ffn_gate_exps", n_expert, n_ff, cols)?;
        let up = self.stacked("ffn_up_exps", n_expert, n_ff, cols)?;
        let down = self.stacked("ffn_down_exps", n_expert, cols, n_ff)?;
        let inner = self.buffer(rows, n_expert_used * n_ff);
        let out = self.buffer(rows, cols);
        self.push(Op::Moe {
            input: x,
            logits: router.out,
            gate,
            up,
            down,
            activation,
            n_expert_used,
            inner,
            out,
        });
        Ok(out)
    }

    /// `x += y`.
    pub(crate) fn add(&mut self, x: BufferId, y: BufferId) -> BufferId {
        self.push(Op::Add { x, y });
        x
    }

    /// Final norm and logits, for the rows that want them; without an output matrix the embedding serves.
    pub(crate) fn head(&mut self, x: BufferId) -> Result<(), ModelError> {
        self.layer = None;
        let wanted = self.buffer(Rows::Wanted, self.hparams.n_embd);
        self.push(Op::SelectRows {
            input: x,
            out: wanted,
        });
        let y = self.norm(wanted, "output_norm")?;
        let name = if self.index.contains_key("output.weight") {
            "output"
        } else {
            "token_embd"
        };
        let product = self.product(y, name, self.hparams.n_vocab, Bias::None)?;
        self.push(Op::MatMul {
            input: y,
            products: vec![product],
        });
        self.logits = Some(product.out);
        Ok(())
    }

    /// The rope frequencies of the settings, with the factors the file brings as tensors.
    pub(crate) fn rope_table(&mut self) -> Result<RopeId, ModelError> {
        let rope = &self.hparams.rope;
        let n_pair = rope.n_rot / 2;
        let mut factors = self.optional_vector("rope_freqs.weight", n_pair)?;
        let scaling = match rope.scaling {
            RopeScalingHparams::None => RopeScaling::None,
            RopeScalingHparams::Linear { factor } => RopeScaling::Linear { factor },
            RopeScalingHparams::Yarn {
                factor,
                n_ctx_original,
                beta_fast,
                beta_slow,
                attention_multiplier,
            } => {
                let yarn = |attention_factor| RopeScaling::Yarn {
                    factor,
                    n_ctx_original: n_ctx_original as u32,
                    beta_fast,
                    beta_slow,
                    attention_factor,
                    truncate: true,
                };
                // The formula stands in one place, in the kernels.
                let published = RopeFreqs::new(rope.n_rot, rope.freq_base, yarn(None), None);
                yarn(Some(published.attention_factor() * attention_multiplier))
            }
            RopeScalingHparams::LongRope {
                n_ctx_original,
                attention_factor,
            } => {
                // The context decides, not how far a sequence has come: the frequencies of a
                // sequence must not change under the keys that are already stored.
                let long = self.vector("rope_factors_long.weight", n_pair)?;
                let short = self.vector("rope_factors_short.weight", n_pair)?;
                factors = Some(if self.n_ctx > n_ctx_original {
                    long
                } else {
                    short
                });
                let factor = self.hparams.n_ctx_train as f32 / n_ctx_original as f32;
                RopeScaling::LongRope {
                    factor,
                    n_ctx_original: n_ctx_original as u32,
                    attention_factor,
                }
            }
        };
        let factors = factors.map(|id| &self.vectors[id.index()]);
        if let Some(vector) = factors
            && let Some(index) = vector.values.iter().position(|factor| *factor <= 0.0)
        {
            return Err(ModelError::RopeFactor {
                name: vector.name.clone(),
                index,
                value: vector.values[index],
            });
        }
        let freqs = RopeFreqs::new(
            rope.n_rot,
            rope.freq_base,
            scaling,
            factors.map(|vector| &*vector.values),
        );
        self.ropes.push(freqs);
        Ok(RopeId((self.ropes.len() - 1) as u32))
    }

    /// The finished plan, once every tensor of the file is accounted for.
    pub(crate) fn finish(self, family: &'static str) -> Result<Plan, ModelError> {
        let is_ignorable = |name: &str| {
            IGNORABLE_SUFFIXES
                .iter()
                .any(|suffix| name.ends_with(suffix))
        };
        let mut unused = self
            .gguf
            .tensors()
            .iter()
            .zip(&self.is_used)
            .filter(|(tensor, used)| !**used && !is_ignorable(&tensor.name));
        if let Some((first, _)) = unused.next() {
            return Err(ModelError::UnusedTensor {
                name: first.name.clone(),
                architecture: self.hparams.architecture.clone(),
                n_unused: 1 + unused.count(),
            });
        }
        let logits = self.logits.expect("a family's plan ends with its head");
        let memory = MemoryPlan::new(&self.steps, &self.buffers, logits);
        Ok(Plan {
            family,
            steps: self.steps,
            buffers: self.buffers,
            matrices: self.matrices,
            vectors: self.vectors,
            ropes: self.ropes,
            states: self.states,
            logits,
            memory,
        })
    }

    fn push(&mut self, op: Op) {
        self.steps.push(Step {
            layer: self.layer,
            op,
        });
    }

    fn buffer(&mut self, rows: Rows, cols: usize) -> BufferId {
        self.buffers.push(Buffer { rows, cols });
        BufferId((self.buffers.len() - 1) as u32)
    }

    fn product(
        &mut self,
        x: BufferId,
        name: &str,
        rows: usize,
        bias: Bias,
    ) -> Result<Product, ModelError> {
        let Buffer {
            rows: row_kind,
            cols,
        } = self.buffers[x.index()];
        let weight = self.matrix(name, rows, cols)?;
        let bias_name = format!("{name}.bias");
        let bias = match bias {
            Bias::None => None,
            Bias::IfPresent => self.optional_vector(&bias_name, rows)?,
            Bias::Required => Some(self.vector(&bias_name, rows)?),
        };
        Ok(Product {
            weight,
            bias,
            out: self.buffer(row_kind, rows),
        })
    }

    fn full_name(&self, name: &str) -> String {
        self.layer
            .map_or_else(|| name.to_owned(), |layer| format!("blk.{layer}.{name}"))
    }

    /// The tensor of that name and shape, marked as used.
    fn bind(
        &mut self,
        name: &str,
        shape: &[u64],
    ) -> Result<Option<(usize, &'a TensorInfo)>, ModelError> {
        let Some(&index) = self.index.get(name) else {
            return Ok(None);
        };
        let tensor = &self.gguf.tensors()[index];
        if tensor.shape != shape {
            return Err(ModelError::TensorShape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape.clone(),
            });
        }
        self.is_used[index] = true;
        Ok(Some((index, tensor)))
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<MatrixId, ModelError> {
        self.matrices(name, &[rows as u64, cols as u64], 1, rows, cols)
    }

    /// The matrices of all experts, `[n_expert, rows, cols]`.
    fn stacked(
        &mut self,
        name: &str,
        n_expert: usize,
        rows: usize,
        cols: usize,
    ) -> Result<MatrixId, ModelError> {
        let shape = [n_expert, rows, cols].map(|n| n as u64);
        self.matrices(name, &shape, n_expert, n_expert * rows, cols)
    }

    fn matrices(
        &mut self,
        name: &str,
        shape: &[u64],
        n_stacked: usize,
        rows: usize,
        cols: usize,
    ) -> Result<MatrixId, ModelError> {
        let name = self.full_name(&format!("{name}.weight"));
        let (index, tensor) =
            self.bind(&name, shape)?
                .ok_or_else(|| ModelError::MissingTensor {
                    name: name.clone(),
                    shape: shape.to_vec(),
                })?;
        let ty = weight_type(tensor)?;
        if let Some(known) = self
            .matrices
            .iter()
            .position(|matrix| matrix.tensor == index)
        {
            return Ok(MatrixId(known as u32));
        }
        self.matrices.push(BoundMatrix {
            name,
            ty,
            rows,
            cols,
            n_stacked,
            tensor: index,
        });
        Ok(MatrixId((self.matrices.len() - 1) as u32))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<VectorId, ModelError> {
        self.optional_vector(name, len)?
            .ok_or_else(|| ModelError::MissingTensor {
                name: self.full_name(name),
                shape: vec![len as u64],
            })
    }

    fn optional_vector(&mut self, name: &str, len: usize) -> Result<Option<VectorId>, ModelError> {
        let name = self.full_name(name);
        let Some((_, tensor)) = self.bind(&name, &[len as u64])? else {
            return Ok(None);
        };
        let mut values = vec![0.0; len].into_boxed_slice();
        quant::dequantize(weight_type(tensor)?, self.gguf.data(tensor), &mut values);
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(ModelError::NotFinite {
                name,
                index,
                value: values[index],
            });
        }
        self.vectors.push(BoundVector { name, values });
        Ok(Some(VectorId((self.vectors.len() - 1) as u32)))
    }
}

/// The kernels' type of a tensor.
fn weight_type(tensor: &TensorInfo) -> Result<WeightType, ModelError> {
    let name = tensor.ty.name();
    WeightType::ALL
        .into_iter()
        .find(|ty| ty.name() == name)
        .ok_or_else(|| ModelError::TensorType {
            name: tensor.name.clone(),
            found: tensor.ty.name().to_owned(),
            supported: WeightType::ALL
                .iter()
                .map(|ty| ty.name())
                .collect::<Vec<_>>()
                .join(", "),
        })
}
