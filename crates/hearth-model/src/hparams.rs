//! Hyperparameters: what the metadata says about a model, with every value checked.
//!
//! Sizes are bounded by [`Limits`] before anything multiplies them, and every key under the
//! architecture's prefix must have been read by the end: a key we do not know could be a scale or a
//! cap, and a model that runs without it would be wrong without anybody noticing.

use std::{cell::RefCell, collections::BTreeSet, fmt::Display};

use hearth_gguf::{Metadata, Value};

use crate::{
    error::ModelError,
    registry::{Experts, Family},
};

/// The largest sizes we accept from a file. They are far above any published model, and far below
/// anything whose products could overflow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Layers.
    pub n_layer: usize,
    /// Width of the residual stream, and of the inner layer of the MLP.
    pub width: usize,
    /// Query or key/value heads.
    pub n_head: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Positions.
    pub n_ctx: usize,
    /// Experts of a layer.
    pub n_expert: usize,
}

impl Limits {
    /// The limits in force.
    pub const DEFAULT: Limits = Limits {
        n_layer: 1024,
        width: 1 << 20,
        n_head: 1024,
        head_dim: 1024,
        n_vocab: 1 << 22,
        n_ctx: 1 << 27,
        n_expert: 4096,
    };
}

/// The settings of a model, in the names of the style guide.
#[derive(Clone, Debug, PartialEq)]
pub struct Hparams {
    /// `general.architecture`.
    pub architecture: String,
    /// Transformer layers.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Inner width of the MLP.
    pub n_ff: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads; divides `n_head`.
    pub n_head_kv: usize,
    /// Width of a query and key head.
    pub head_dim: usize,
    /// Width of a value head.
    pub head_dim_v: usize,
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Trained length.
    pub n_ctx_train: usize,
    /// Added to the mean square before its root.
    pub norm_eps: f32,
    /// Factor of the attention scores.
    pub attention_scale: f32,
    /// How many positions back a layer sees, itself included; `None` is all of them.
    pub sliding_window: Option<u32>,
    /// Rotary position embedding.
    pub rope: RopeHparams,
    /// Experts in place of the MLP, if there are any.
    pub experts: Option<ExpertHparams>,
}

/// Settings of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertHparams {
    /// Experts of a layer.
    pub n_expert: usize,
    /// How many of them a token goes to.
    pub n_expert_used: usize,
    /// Inner width of an expert.
    pub n_ff: usize,
}

/// Settings of the rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeHparams {
    /// Rotated dimensions of a head, even.
    pub n_rot: usize,
    /// Base of the frequencies.
    pub freq_base: f32,
    /// How positions beyond the trained length are made to fit.
    pub scaling: RopeScalingHparams,
}

/// `rope.scaling.*` as the file gives it. The llama3 kind has no key: it arrives as a tensor of factors.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScalingHparams {
    /// No scaling.
    None,
    /// Positions divided by a factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// A ramp between divided and undivided frequencies, and a factor on attention.
    Yarn {
        /// The factor.
        factor: f32,
        /// Trained length before scaling.
        n_ctx_original: usize,
        /// Rotations within the trained length above which a frequency stays.
        beta_fast: f32,
        /// Rotations below which it is divided.
        beta_slow: f32,
        /// Multiplies the published factor on cos and sin, `0.1 ln(factor) + 1`.
        attention_multiplier: f32,
    },
    /// One table of factors for short contexts and one for long ones, as tensors.
    LongRope {
        /// Trained length before scaling.
        n_ctx_original: usize,
        /// Factor on cos and sin; `None` is the published formula.
        attention_factor: Option<f32>,
    },
}

/// Keys that say nothing about the arithmetic.
const MEANINGLESS: &[&str] = &[
    "vocab_size",                   // the token list and the embedding's shape say it
    "tensor_data_layout",           // historic note of the first converters
    "rope.scaling.finetuned",       // whether the scaling was trained, not what it is
    "pooling_type",                 // how embeddings of whole texts are made; we return logits
    "attention.layer_norm_epsilon", // written next to the RMS one by old converters, no LayerNorm here
];

const NO_EXPERTS: &str = "experts where this family, or this file, has none";

/// Keys whose presence matters only when the value differs from the neutral one given here.
const NEUTRAL: &[(&str, f64, &str)] = &[
    ("expert_count", 0.0, NO_EXPERTS),
    ("expert_used_count", 0.0, NO_EXPERTS),
    ("expert_feed_forward_length", 0.0, NO_EXPERTS),
    ("expert_shared_count", 0.0, "shared experts"),
    ("expert_shared_feed_forward_length", 0.0, "shared experts"),
    (
        "expert_weights_norm",
        1.0,
        "weights of experts that do not add up to 1",
    ),
    ("expert_weights_scale", 1.0, "scaled weights of experts"),
    (
        "expert_gating_func",
        1.0,
        "experts chosen by other than a softmax",
    ),
    ("logit_scale", 1.0, "scaled logits"),
    ("embedding_scale", 1.0, "scaled embeddings"),
    ("residual_scale", 1.0, "scaled residuals"),
    ("attn_logit_softcapping", 0.0, "capped attention scores"),
    ("final_logit_softcapping", 0.0, "capped logits"),
    (
        "attention.clamp_kqv",
        0.0,
        "clamped queries, keys and values",
    ),
    ("attention.max_alibi_bias", 0.0, "linear position biases"),
    ("attention.causal", 1.0, "attention that looks ahead"),
    (
        "rope.scaling.yarn_ext_factor",
        1.0,
        "a partly applied yarn ramp",
    ),
    (
        "rope.scaling.yarn_log_multiplier",
        0.0,
        "an attention factor that grows with the logarithm",
    ),
    ("use_parallel_residual", 0.0, "parallel attention and MLP"),
];

/// Reads the keys of one architecture and remembers which it has seen.
pub(crate) struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: String,
    seen: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    /// Starts from `general.architecture`.
    pub(crate) fn new(metadata: &'a Metadata) -> Result<Self, ModelError> {
        let key = "general.architecture";
        let architecture = match metadata.get(key) {
            Some(Value::String(name)) => name.to_string(),
            Some(other) => return Err(key_type(key, "a string", other)),
            None => {
                return Err(ModelError::MissingKey {
                    key: key.to_owned(),
                    architecture: "every model".to_owned(),
                });
            }
        };
        Ok(Keys {
            metadata,
            architecture,
            seen: RefCell::new(BTreeSet::new()),
        })
    }

    pub(crate) fn architecture(&self) -> &str {
        &self.architecture
    }

    fn full(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.architecture)
    }

    fn value(&self, suffix: &str) -> Option<&'a Value> {
        let value = self.metadata.get(&self.full(suffix));
        if value.is_some() {
            self.seen.borrow_mut().insert(suffix.to_owned());
        }
        value
    }

    fn missing(&self, suffix: &str) -> ModelError {
        ModelError::MissingKey {
            key: self.full(suffix),
            architecture: self.architecture.clone(),
        }
    }

    fn refuse(&self, suffix: &str, value: impl Display, rule: impl Into<String>) -> ModelError {
        ModelError::KeyValue {
            key: self.full(suffix),
            value: value.to_string(),
            rule: rule.into(),
        }
    }

    /// A count between 1 and `limit`.
    fn count(&self, suffix: &str, limit: usize) -> Result<usize, ModelError> {
        self.optional_count(suffix, limit)?
            .ok_or_else(|| self.missing(suffix))
    }

    fn optional_count(&self, suffix: &str, limit: usize) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.value(suffix) else {
            return Ok(None);
        };
        let number = value
            .as_integer()
            .ok_or_else(|| key_type(&self.full(suffix), "an integer", value))?;
        match usize::try_from(number) {
            Ok(n) if (1..=limit).contains(&n) => Ok(Some(n)),
            _ => Err(self.refuse(suffix, number, format!("must be between 1 and {limit}"))),
        }
    }

    /// A finite number for which `accepted` holds.
    fn optional_number(
        &self,
        suffix: &str,
        rule: &str,
        accepted: impl Fn(f32) -> bool,
    ) -> Result<Option<f32>, ModelError> {
        let Some(value) = self.value(suffix) else {
            return Ok(None);
        };
        let number = float(value).ok_or_else(|| key_type(&self.full(suffix), "a number", value))?;
        if number.is_finite() && accepted(number) {
            Ok(Some(number))
        } else {
            Err(self.refuse(suffix, number, rule))
        }
    }

    fn optional_string(&self, suffix: &str) -> Result<Option<String>, ModelError> {
        match self.value(suffix) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.to_string())),
            Some(other) => Err(key_type(&self.full(suffix), "a string", other)),
        }
    }

    /// Every key of the architecture must have been read, say nothing about the arithmetic, or be neutral.
    fn finish(&self) -> Result<(), ModelError> {
        let prefix = format!("{}.", self.architecture);
        for (key, value) in self.metadata.iter() {
            let Some(suffix) = key.strip_prefix(prefix.as_str()) else {
                continue;
            };
            if self.seen.borrow().contains(suffix) || MEANINGLESS.contains(&suffix) {
                continue;
            }
            let known = NEUTRAL.iter().find(|(name, ..)| *name == suffix);
            if known.is_some_and(|(_, neutral, _)| double(value) == Some(*neutral)) {
                continue;
            }
            return Err(ModelError::UnsupportedKey {
                key: key.to_string(),
                value: describe(value),
                architecture: self.architecture.clone(),
                reason: known.map_or("a setting this version does not know", |(.., reason)| {
                    reason
                }),
            });
        }
        Ok(())
    }
}

impl Hparams {
    /// Reads and checks everything a decoder needs.
    pub(crate) fn read(keys: &Keys<'_>, family: &Family) -> Result<Self, ModelError> {
        let limits = Limits::DEFAULT;
        let n_layer = keys.count("block_count", limits.n_layer)?;
        let n_embd = keys.count("embedding_length", limits.width)?;
        let n_ff = keys.count("feed_forward_length", limits.width)?;
        let n_head = keys.count("attention.head_count", limits.n_head)?;
        let n_head_kv = keys
            .optional_count("attention.head_count_kv", limits.n_head)?
            .unwrap_or(n_head);
        if !n_head.is_multiple_of(n_head_kv) {
            let rule = format!("must divide attention.head_count, which is {n_head}");
            return Err(keys.refuse("attention.head_count_kv", n_head_kv, rule));
        }
        let head_dim = match keys.optional_count("attention.key_length", limits.head_dim)? {
            Some(head_dim) => head_dim,
            None if n_embd.is_multiple_of(n_head) && n_embd / n_head <= limits.head_dim => {
                n_embd / n_head
            }
            None => {
                let rule = format!(
                    "must divide embedding_length, which is {n_embd}, into heads of at most {} when attention.key_length is absent",
                    limits.head_dim
                );
                return Err(keys.refuse("attention.head_count", n_head, rule));
            }
        };
        let head_dim_v = keys
            .optional_count("attention.value_length", limits.head_dim)?
            .unwrap_or(head_dim);
        let norm_eps = keys
            .optional_number(
                "attention.layer_norm_rms_epsilon",
                "must be above 0 and below 1",
                |x| x > 0.0 && x < 1.0,
            )?
            .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?;
        // Zero means "the usual": that is how the reference converter's reader treats it.
        let attention_scale = keys
            .optional_number("attention.scale", "must not be negative", |x| x >= 0.0)?
            .filter(|&scale| scale > 0.0)
            .unwrap_or_else(|| 1.0 / (head_dim as f32).sqrt());
        let n_ctx_train = keys.count("context_length", limits.n_ctx)?;
        let hparams = Hparams {
            architecture: keys.architecture().to_owned(),
            n_layer,
            n_embd,
            n_ff,
            n_head,
            n_head_kv,
            head_dim,
            head_dim_v,
            n_vocab: vocabulary(keys, limits.n_vocab)?,
            n_ctx_train,
            norm_eps,
            attention_scale,
            sliding_window: sliding_window(keys, family.windows_every_layer, n_ctx_train)?,
            rope: RopeHparams::read(keys, head_dim)?,
            experts: ExpertHparams::read(keys, family.experts, n_ff)?,
        };
        keys.finish()?;
        Ok(hparams)
    }
}

/// The token list gives the size; a file without one may still say `vocab_size`.
fn vocabulary(keys: &Keys<'_>, limit: usize) -> Result<usize, ModelError> {
    let key = "tokenizer.ggml.tokens";
    match keys.metadata.get(key) {
        Some(Value::Array(tokens)) => {
            let n = tokens.len();
            if (1..=limit).contains(&n) {
                return Ok(n);
            }
            let rule = format!("must hold between 1 and {limit} tokens");
            Err(ModelError::KeyValue {
                key: key.to_owned(),
                value: format!("a list of {n}"),
                rule,
            })
        }
        Some(other) => Err(key_type(key, "a list of strings", other)),
        None => keys.count("vocab_size", limit),
    }
}

/// Zero stands for "no window" in files that always write the key.
///
/// The published qwen settings name a window that is switched off beside it (`use_sliding_window`), or on
/// for the upper layers only (`max_window_layers`); the usual converter writes no key for them. A file that
/// has one is therefore refused, unless the window spans the trained length: then it never hid anything.
fn sliding_window(
    keys: &Keys<'_>,
    windows_every_layer: bool,
    n_ctx_train: usize,
) -> Result<Option<u32>, ModelError> {
    let suffix = "attention.sliding_window";
    if keys.value(suffix).and_then(Value::as_integer) == Some(0) {
        return Ok(None);
    }
    let window = keys.optional_count(suffix, u32::MAX as usize)?;
    match window {
        Some(window) if !windows_every_layer && window < n_ctx_train => {
            Err(ModelError::UnsupportedKey {
                key: keys.full(suffix),
                value: window.to_string(),
                architecture: keys.architecture.clone(),
                reason: "which layers have the window is not in the file",
            })
        }
        Some(window) if windows_every_layer => Ok(Some(window as u32)),
        _ => Ok(None),
    }
}

impl ExpertHparams {
    fn read(keys: &Keys<'_>, experts: Experts, n_ff: usize) -> Result<Option<Self>, ModelError> {
        let limits = Limits::DEFAULT;
        let is_none = |value: &Value| value.as_integer() == Some(0);
        match (experts, keys.metadata.get(&keys.full("expert_count"))) {
            (Experts::Never, _) | (Experts::Some, None) => return Ok(None),
            (Experts::Some, Some(value)) if is_none(value) => return Ok(None),
            _ => {}
        }
        let n_expert = keys.count("expert_count", limits.n_expert)?;
        let n_expert_used = keys.count("expert_used_count", limits.n_expert)?;
        if n_expert_used > n_expert {
            let rule = format!("must not be above expert_count, which is {n_expert}");
            return Err(keys.refuse("expert_used_count", n_expert_used, rule));
        }
        // Files of the first mixtures have one width for everything.
        let n_ff = keys
            .optional_count("expert_feed_forward_length", limits.width)?
            .unwrap_or(n_ff);
        Ok(Some(ExpertHparams {
            n_expert,
            n_expert_used,
            n_ff,
        }))
    }
}

impl RopeHparams {
    fn read(keys: &Keys<'_>, head_dim: usize) -> Result<Self, ModelError> {
        let n_rot = keys
            .optional_count("rope.dimension_count", head_dim)?
            .unwrap_or(head_dim);
        if !n_rot.is_multiple_of(2) {
            return Err(keys.refuse(
                "rope.dimension_count",
                n_rot,
                "must be even: dimensions are rotated in pairs",
            ));
        }
        let freq_base = keys
            .optional_number("rope.freq_base", "must be above 1", |x| x > 1.0)?
            .unwrap_or(10_000.0);
        Ok(RopeHparams {
            n_rot,
            freq_base,
            scaling: RopeScalingHparams::read(keys)?,
        })
    }
}

impl RopeScalingHparams {
    fn read(keys: &Keys<'_>) -> Result<Self, ModelError> {
        let at_least_one = "must be at least 1";
        let above_zero = "must be above 0";
        // The key of the first GGUF files; newer ones write scaling.type and scaling.factor.
        let old = keys.optional_number("rope.scale_linear", above_zero, |x| x > 0.0)?;
        let factor =
            keys.optional_number("rope.scaling.factor", "must not be negative", |x| x >= 0.0)?;
        let factor = factor.filter(|&factor| factor > 0.0).or(old);
        let n_ctx_original = keys.optional_count(
            "rope.scaling.original_context_length",
            Limits::DEFAULT.n_ctx,
        )?;
        let attn_factor = "rope.scaling.attn_factor";
        let attention = keys.optional_number(attn_factor, above_zero, |x| x > 0.0)?;
        let kind = keys.optional_string("rope.scaling.type")?;
        let original =
            || n_ctx_original.ok_or_else(|| keys.missing("rope.scaling.original_context_length"));
        // 1 says nothing, which is what files that always have the key mean by it.
        if let (None | Some("none" | "linear"), Some(factor)) = (kind.as_deref(), attention)
            && factor != 1.0
        {
            return Err(keys.refuse(attn_factor, factor, "must be 1 without yarn or longrope"));
        }
        match kind.as_deref() {
            Some("none") => Ok(RopeScalingHparams::None),
            None | Some("linear") => Ok(match factor {
                Some(factor) if factor != 1.0 => RopeScalingHparams::Linear { factor },
                _ => RopeScalingHparams::None,
            }),
            Some("yarn") => {
                let factor = factor.ok_or_else(|| keys.missing("rope.scaling.factor"))?;
                if factor < 1.0 {
                    return Err(keys.refuse("rope.scaling.factor", factor, at_least_one));
                }
                let yarn = |name: &str| {
                    keys.optional_number(&format!("rope.scaling.yarn_{name}"), above_zero, |x| {
                        x > 0.0
                    })
                };
                check_yarn_attn_factor(keys, yarn("attn_factor")?, factor)?;
                Ok(RopeScalingHparams::Yarn {
                    factor,
                    n_ctx_original: original()?,
                    beta_fast: yarn("beta_fast")?.unwrap_or(32.0),
                    beta_slow: yarn("beta_slow")?.unwrap_or(1.0),
                    attention_multiplier: attention.unwrap_or(1.0),
                })
            }
            Some("longrope") => Ok(RopeScalingHparams::LongRope {
                n_ctx_original: original()?,
                attention_factor: attention,
            }),
            Some(other) => {
                let rule = "must be none, linear, yarn or longrope";
                Err(keys.refuse("rope.scaling.type", format!("`{other}`"), rule))
            }
        }
    }
}

/// `rope.scaling.attn_factor` multiplies the published factor, in every reader. `yarn_attn_factor` does not
/// have one meaning: the published settings it is copied from replace the factor, some readers multiply it,
/// some ignore it. So it may only say what all of them agree on: nothing (1), or the published factor.
fn check_yarn_attn_factor(
    keys: &Keys<'_>,
    written: Option<f32>,
    factor: f32,
) -> Result<(), ModelError> {
    let published = 0.1 * f64::from(factor).ln() + 1.0;
    match written {
        Some(value) if value != 1.0 && (f64::from(value) - published).abs() > 1e-4 => {
            let rule = format!("must be 1 or the factor of the yarn formula, {published:.4}");
            Err(keys.refuse("rope.scaling.yarn_attn_factor", value, rule))
        }
        _ => Ok(()),
    }
}

/// Files in the wild store some whole floats as integers.
fn float(value: &Value) -> Option<f32> {
    value
        .as_f64()
        .or_else(|| value.as_integer().map(|x| x as f64))
        .map(|x| x as f32)
}

/// Any scalar as a number, for the comparison with a neutral value.
fn double(value: &Value) -> Option<f64> {
    let truth = value.as_bool().map(|x| f64::from(u8::from(x)));
    truth
        .or_else(|| value.as_f64())
        .or_else(|| value.as_integer().map(|x| x as f64))
}

fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{}`", text.chars().take(60).collect::<String>()),
        other => double(other).map_or_else(|| other.describe_type(), |x| x.to_string()),
    }
}

fn key_type(key: &str, expected: &'static str, found: &Value) -> ModelError {
    ModelError::KeyType {
        key: key.to_owned(),
        expected,
        found: found.describe_type(),
    }
}
