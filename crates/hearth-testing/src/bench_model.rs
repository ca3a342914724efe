//! Files with the exact shapes of published models, random weights and a made-up vocabulary, to measure speed with.
//!
//! Speed and memory do not depend on the values of weights, so such a file stands in for the published one in every
//! benchmark; it says nothing about quality. Nothing has to be downloaded, and any program that reads GGUF runs it.

use std::io::{self, Write};

use hearth_gguf::{Array, GgufError, GgufWriter, TensorType, Value};

use crate::tiny_model::{Random, random_weights};

/// Sizes of a model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What people call the model.
    pub name: &'static str,
    /// `general.architecture`.
    pub family: &'static str,
    /// Layers.
    pub n_layer: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key/value heads.
    pub n_head_kv: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Inner width of the MLP.
    pub n_ff: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Whether the embedding serves as output matrix.
    pub is_tied: bool,
    /// Base of the rope frequencies.
    pub rope_freq_base: f32,
    /// Trained length.
    pub n_ctx_train: u32,
    /// Experts of a mixture.
    pub experts: Option<Experts>,
}

/// The mixture of a shape.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// Experts in a layer.
    pub n_expert: u32,
    /// Experts that a token uses.
    pub n_expert_used: u32,
    /// Inner width of one.
    pub n_ff: u32,
}

const QWEN3: Shape = Shape {
    name: "",
    family: "qwen3",
    n_layer: 28,
    n_embd: 1024,
    n_head: 16,
    n_head_kv: 8,
    head_dim: 128,
    n_ff: 3072,
    n_vocab: 151_936,
    is_tied: true,
    rope_freq_base: 1e6,
    n_ctx_train: 40_960,
    experts: None,
};

const LLAMA3: Shape = Shape {
    name: "",
    family: "llama",
    n_layer: 16,
    n_embd: 2048,
    n_head: 32,
    n_head_kv: 8,
    head_dim: 64,
    n_ff: 8192,
    n_vocab: 128_256,
    is_tied: true,
    rope_freq_base: 5e5,
    n_ctx_train: 131_072,
    experts: None,
};

const QWEN3_MOE: Shape = Shape {
    family: "qwen3moe",
    n_embd: 2048,
    n_head: 32,
    n_head_kv: 4,
    n_ff: 6144,
    is_tied: false,
    ..QWEN3
};

/// The shapes there are. `qwen3-moe-8e` is no published model: qwen3-30b-a3b with a quarter of its experts and half of its
/// layers, for machines with little memory.
pub const SHAPES: [Shape; 8] = [
    Shape {
        name: "qwen3-0.6b",
        ..QWEN3
    },
    Shape {
        name: "qwen3-1.7b",
        n_embd: 2048,
        n_ff: 6144,
        ..QWEN3
    },
    Shape {
        name: "qwen3-4b",
        n_layer: 36,
        n_embd: 2560,
        n_head: 32,
        n_ff: 9728,
        ..QWEN3
    },
    Shape {
        name: "qwen3-8b",
        n_layer: 36,
        n_embd: 4096,
        n_head: 32,
        n_ff: 12_288,
        is_tied: false,
        ..QWEN3
    },
    Shape {
        name: "llama-3.2-1b",
        ..LLAMA3
    },
    Shape {
        name: "llama-3.1-8b",
        n_layer: 32,
        n_embd: 4096,
        head_dim: 128,
        n_ff: 14_336,
        is_tied: false,
        ..LLAMA3
    },
    Shape {
        name: "qwen3-moe-8e",
        n_layer: 24,
        experts: Some(Experts {
            n_expert: 32,
            n_expert_used: 8,
            n_ff: 768,
        }),
        ..QWEN3_MOE
    },
    Shape {
        name: "qwen3-30b-a3b",
        n_layer: 48,
        experts: Some(Experts {
            n_expert: 128,
            n_expert_used: 8,
            n_ff: 768,
        }),
        ..QWEN3_MOE
    },
];

/// Which types the matrices of a file have.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// What people call it.
    pub name: &'static str,
    /// Most matrices.
    base: TensorType,
    /// Values and the MLP's way down in the layers that get more bits.
    more: TensorType,
    /// The output matrix, be it the embedding or one of its own.
    head: TensorType,
}

const fn pure(name: &'static str, ty: TensorType) -> Mix {
    Mix {
        name,
        base: ty,
        more: ty,
        head: ty,
    }
}

/// The mixes there are, as published files have them.
pub const MIXES: [Mix; 9] = [
    Mix {
        name: "Q4_K_M",
        base: TensorType::Q4_K,
        more: TensorType::Q6_K,
        head: TensorType::Q6_K,
    },
    Mix {
        name: "Q5_K_M",
        base: TensorType::Q5_K,
        more: TensorType::Q6_K,
        head: TensorType::Q6_K,
    },
    Mix {
        name: "Q4_0",
        base: TensorType::Q4_0,
        more: TensorType::Q4_0,
        head: TensorType::Q6_K,
    },
    pure("Q6_K", TensorType::Q6_K),
    pure("Q8_0", TensorType::Q8_0),
    pure("IQ4_XS", TensorType::IQ4_XS),
    pure("F16", TensorType::F16),
    pure("BF16", TensorType::BF16),
    pure("F32", TensorType::F32),
];

/// What a tensor is filled with.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Weights of that type.
    Matrix(TensorType),
    /// Factors of a norm, near 1, as F32.
    Norm,
}

struct Tensor {
    name: String,
    shape: Vec<u64>,
    fill: Fill,
}

/// Writes the file. The same shape and mix give the same bytes.
///
/// # Errors
/// When the output refuses bytes.
pub fn write<W: Write>(shape: &Shape, mix: &Mix, out: W) -> Result<W, GgufError> {
    let mut writer = GgufWriter::new();
    for (key, value) in metadata(shape, mix) {
        writer.add_value(&key, value)?;
    }
    let tensors = tensors(shape, mix);
    for tensor in &tensors {
        writer.add_tensor(&tensor.name, tensor.fill.ty(), &tensor.shape)?;
    }
    let mut body = writer.begin(out)?;
    for tensor in &tensors {
        body.write_tensor(&tensor.data())?;
    }
    body.finish()
}

/// The shape and the mix of these names.
///
/// # Errors
/// There is none of that name; the text lists those there are.
pub fn find(shape: &str, mix: &str) -> io::Result<(Shape, Mix)> {
    let unknown = |what: &str, name: &str, known: Vec<&str>| {
        io::Error::other(format!(
            "no {what} '{name}'; there are {}",
            known.join(", ")
        ))
    };
    let names = || SHAPES.iter().map(|shape| shape.name).collect();
    let found = SHAPES.iter().find(|known| known.name == shape);
    let shape = found.ok_or_else(|| unknown("shape", shape, names()))?;
    let names = || MIXES.iter().map(|mix| mix.name).collect();
    let found = MIXES.iter().find(|known| known.name == mix);
    let mix = found.ok_or_else(|| unknown("mix", mix, names()))?;
    Ok((*shape, *mix))
}

impl Fill {
    fn ty(self) -> TensorType {
        match self {
            Fill::Matrix(ty) => ty,
            Fill::Norm => TensorType::F32,
        }
    }
}

impl Tensor {
    fn data(&self) -> Vec<u8> {
        let n = self.shape.iter().product::<u64>() as usize;
        let n_cols = self.shape.last().copied().unwrap_or(1) as usize;
        let mut random = Random::new(1, &self.name);
        match self.fill {
            Fill::Matrix(ty) => random_weights(ty, n, n_cols, &mut random),
            Fill::Norm => (0..n)
                .flat_map(|_| (1.0 + 0.1 * random.signed()).to_le_bytes())
                .collect(),
        }
    }
}

/// Layers that get more bits in the mixes: the first and last eighth, and every third between.
fn has_more(layer: u32, n_layer: u32) -> bool {
    let eighth = n_layer / 8;
    layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2
}

fn tensors(shape: &Shape, mix: &Mix) -> Vec<Tensor> {
    let [embd, ff, q, kv, head, vocab] = [
        shape.n_embd,
        shape.n_ff,
        shape.n_head * shape.head_dim,
        shape.n_head_kv * shape.head_dim,
        shape.head_dim,
        shape.n_vocab,
    ]
    .map(u64::from);
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[u64], fill| {
        all.push(Tensor {
            name,
            shape: shape.to_vec(),
            fill,
        });
    };
    let table = if shape.is_tied { mix.head } else { mix.base };
    add(
        "token_embd.weight".into(),
        &[vocab, embd],
        Fill::Matrix(table),
    );
    for layer in 0..shape.n_layer {
        let base = Fill::Matrix(mix.base);
        let more = if has_more(layer, shape.n_layer) {
            Fill::Matrix(mix.more)
        } else {
            base
        };
        let mut add = |name: &str, shape: &[u64], fill| {
            add(format!("blk.{layer}.{name}.weight"), shape, fill)
        };
        add("attn_norm", &[embd], Fill::Norm);
        if shape.family != "llama" {
            add("attn_q_norm", &[head], Fill::Norm);
            add("attn_k_norm", &[head], Fill::Norm);
        }
        add("attn_q", &[q, embd], base);
        add("attn_k", &[kv, embd], base);
        add("attn_v", &[kv, embd], more);
        add("attn_output", &[embd, q], base);
        add("ffn_norm", &[embd], Fill::Norm);
        match shape.experts {
            None => {
                add("ffn_gate", &[ff, embd], base);
                add("ffn_up", &[ff, embd], base);
                add("ffn_down", &[embd, ff], more);
            }
            Some(experts) => {
                let [n, ff] = [experts.n_expert, experts.n_ff].map(u64::from);
                add("ffn_gate_inp", &[n, embd], Fill::Matrix(TensorType::F32));
                add("ffn_gate_exps", &[n, ff, embd], base);
                add("ffn_up_exps", &[n, ff, embd], base);
                add("ffn_down_exps", &[n, embd, ff], more);
            }
        }
    }
    add("output_norm.weight".into(), &[embd], Fill::Norm);
    if !shape.is_tied {
        add(
            "output.weight".into(),
            &[vocab, embd],
            Fill::Matrix(mix.head),
        );
    }
    all
}

fn metadata(shape: &Shape, mix: &Mix) -> Vec<(String, Value)> {
    let own = |suffix: &str| format!("{}.{suffix}", shape.family);
    let mut keys = vec![
        (
            "general.architecture".into(),
            Value::String(shape.family.into()),
        ),
        (
            "general.name".into(),
            Value::String(format!("{} {}, random weights", shape.name, mix.name)),
        ),
        (own("block_count"), Value::U32(shape.n_layer)),
        (own("context_length"), Value::U32(shape.n_ctx_train)),
        (own("embedding_length"), Value::U32(shape.n_embd)),
        (own("feed_forward_length"), Value::U32(shape.n_ff)),
        (own("attention.head_count"), Value::U32(shape.n_head)),
        (own("attention.head_count_kv"), Value::U32(shape.n_head_kv)),
        (own("attention.key_length"), Value::U32(shape.head_dim)),
        (own("attention.value_length"), Value::U32(shape.head_dim)),
        (own("attention.layer_norm_rms_epsilon"), Value::F32(1e-6)),
        (own("rope.freq_base"), Value::F32(shape.rope_freq_base)),
        (own("rope.dimension_count"), Value::U32(shape.head_dim)),
    ];
    if let Some(experts) = shape.experts {
        keys.push((own("expert_count"), Value::U32(experts.n_expert)));
        keys.push((own("expert_used_count"), Value::U32(experts.n_expert_used)));
        keys.push((own("expert_feed_forward_length"), Value::U32(experts.n_ff)));
    }
    keys.extend(vocabulary(shape));
    keys
}

/// A byte-level BPE vocabulary: all bytes, one merge, and as many made-up words as the shape asks for.
fn vocabulary(shape: &Shape) -> Vec<(String, Value)> {
    // Bytes that are printable stand for themselves, the others for the characters from 256 on.
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256..;
    let bytes = (0..=255u8).map(|byte| {
        let code = if is_printable(byte) {
            Some(u32::from(byte))
        } else {
            next.next()
        };
        code.and_then(char::from_u32)
            .expect("below the surrogates")
            .to_string()
    });
    let n_words = (shape.n_vocab as usize).saturating_sub(256 + 2);
    let words = (0..n_words).map(|word| format!("word{word}"));
    let tokens: Vec<String> = bytes
        .chain(["th".to_owned()])
        .chain(words)
        .chain(["<|end|>".to_owned()])
        .collect();
    let last = tokens.len() as u32 - 1;
    let types: Vec<i32> = (0..tokens.len())
        .map(|token| if token == last as usize { 3 } else { 1 })
        .collect();
    let pre = if shape.family == "llama" {
        "llama-bpe"
    } else {
        "qwen2"
    };
    let key = |suffix: &str| format!("tokenizer.ggml.{suffix}");
    let strings = |all: Vec<String>| Value::Array(Array::String(all.into_iter().collect()));
    vec![
        (key("model"), Value::String("gpt2".into())),
        (key("pre"), Value::String(pre.into())),
        (key("tokens"), strings(tokens)),
        (key("token_type"), Value::Array(Array::I32(types))),
        (key("merges"), strings(vec!["t h".into()])),
        (key("bos_token_id"), Value::U32(last)),
        (key("eos_token_id"), Value::U32(last)),
        (key("add_bos_token"), Value::Bool(false)),
    ]
}

#[cfg(test)]
mod tests {
    use hearth_gguf::Gguf;

    use super::*;

    #[test]
    fn a_file_has_the_types_of_its_mix_and_opens() {
        let (mut shape, mix) = find("qwen3-0.6b", "Q4_K_M").unwrap();
        (shape.n_layer, shape.n_embd, shape.n_ff, shape.n_vocab) = (8, 256, 512, 400);
        let gguf = Gguf::from_vec(write(&shape, &mix, Vec::new()).unwrap()).unwrap();
        let ty = |name: &str| {
            gguf.tensors()
                .iter()
                .find(|tensor| tensor.name == name)
                .unwrap()
                .ty
        };
        assert_eq!(ty("token_embd.weight"), TensorType::Q6_K);
        assert_eq!(ty("blk.3.attn_q.weight"), TensorType::Q4_K);
        let more: Vec<bool> = (0..8)
            .map(|layer| ty(&format!("blk.{layer}.ffn_down.weight")) == TensorType::Q6_K)
            .collect();
        assert_eq!(more, [true, false, false, true, false, false, true, true]);
        let tokens = gguf.metadata().get("tokenizer.ggml.tokens").unwrap();
        assert!(matches!(tokens, Value::Array(Array::String(all)) if all.len() == 400));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = find("qwen9", "Q4_K_M").unwrap_err().to_string();
        assert!(
            message.contains("'qwen9'") && message.contains("llama-3.2-1b"),
            "{message}"
        );
        let message = find("qwen3-4b", "Q3").unwrap_err().to_string();
        assert!(
            message.contains("'Q3'") && message.contains("IQ4_XS"),
            "{message}"
        );
    }
}
