//! Tiny models of each family, with seeded weights of any type.
//!
//! They have two layers, sizes that leave tails in every kernel where the weight type allows it, and a
//! vocabulary of all bytes and a few words. Their text is noise; what they are for is comparing two ways of
//! computing the same thing.

use hearth_gguf::{Array, GgufWriter, TensorType, Value};

/// What a tiny model is made of; `build` writes it as a GGUF file.
#[derive(Clone, Debug)]
pub struct TinyModel {
    /// `general.architecture`: `llama`, `qwen2`, `qwen3` or `qwen3moe`.
    pub family: &'static str,
    /// Type of all matrices.
    pub weight: TensorType,
    /// Seed of the weights.
    pub seed: u64,
    /// Width of the residual stream; a multiple of the type's block.
    pub n_embd: u32,
    /// Inner width of the MLP; a multiple of the type's block.
    pub n_ff: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key/value heads.
    pub n_head_kv: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Trained length.
    pub n_ctx_train: u32,
    /// `attention.sliding_window`.
    pub sliding_window: Option<u32>,
    /// Experts in place of the MLP, each `n_ff` wide, and how many a token goes to.
    pub experts: Option<(u32, u32)>,
    /// Whether the embedding serves as output matrix.
    pub is_tied: bool,
    /// Further keys, or other values for the usual ones; `None` leaves a key out.
    pub keys: Vec<(String, Option<Value>)>,
    /// Tensors of the family that are left out.
    pub without: Vec<String>,
    /// Further F32 tensors, `(name, shape outermost first, value of all elements)`.
    pub extra: Vec<(String, Vec<u64>, f32)>,
}

/// Layers of a tiny model.
pub const N_LAYER: u32 = 2;

/// Words of the vocabulary after the special tokens and the bytes.
const WORDS: &[&str] = &[
    "\u{2581}the",
    "\u{2581}a",
    "\u{2581}fire",
    "\u{2581}is",
    "\u{2581}warm",
    "\u{2581}and",
    "ing",
    "er",
    "\u{2581}",
    "t",
    "e",
    "th",
    "he",
    "in",
    "an",
    "\u{2581}t",
    "\u{2581}th",
    "\u{2581}f",
    "\u{2581}fi",
    "re",
    "s",
    "n",
    "i",
    "a",
    "h",
    "f",
    "r",
    "w",
    "m",
    "g",
    "d",
    "o",
    "\u{2581}w",
    "ar",
];

/// Key of the vocabulary's texts.
const TOKENS: &str = "tokenizer.ggml.tokens";

/// Tokens of the usual vocabulary.
pub const N_VOCAB: u32 = 3 + 256 + WORDS.len() as u32;

impl TinyModel {
    /// A model of `family` whose matrices are all of type `weight`.
    pub fn new(family: &'static str, weight: TensorType) -> Self {
        // 256 columns are the least that every block type divides; types with small blocks get odd sizes.
        let (n_embd, n_ff, head_dim) = match weight.block_len() {
            1 => (72, 44, 20),
            32 => (96, 160, 24),
            _ => (256, 512, 64),
        };
        // The width of a head is not n_embd / n_head where the type allows it.
        let n_head = if weight.block_len() == 256 { 4 } else { 8 };
        TinyModel {
            family,
            weight,
            seed: 1,
            n_embd,
            n_ff,
            n_head,
            n_head_kv: n_head / 2,
            head_dim,
            n_ctx_train: 512,
            sliding_window: None,
            experts: (family == "qwen3moe").then_some((8, 3)),
            is_tied: family == "qwen2",
            keys: Vec::new(),
            without: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// The file.
    ///
    /// # Panics
    ///
    /// The settings make no file, such as a width that is not a whole number of blocks.
    pub fn build(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        for (key, value) in self.metadata() {
            writer.add_value(&key, value).expect("a key of its own");
        }
        let tensors = self.tensors();
        let data: Vec<(TensorType, Vec<u8>)> = tensors
            .iter()
            .map(|(name, shape, kind)| self.tensor_data(name, shape, *kind))
            .collect();
        for ((name, shape, _), (ty, _)) in tensors.iter().zip(&data) {
            writer
                .add_tensor(name, *ty, shape)
                .expect("a shape of whole blocks");
        }
        let mut body = writer.begin(Vec::new()).expect("memory takes all");
        for (_, data) in &data {
            body.write_tensor(data).expect("as many bytes as declared");
        }
        body.finish().expect("every tensor was written")
    }

    /// Tokens of the vocabulary: [`N_VOCAB`], unless `keys` bring another one.
    pub fn n_vocab(&self) -> u32 {
        let tokens = self.keys.iter().find(|(key, _)| key == TOKENS);
        match tokens {
            Some((_, Some(Value::Array(Array::String(tokens))))) => tokens.len() as u32,
            _ => N_VOCAB,
        }
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let own = |suffix: &str| format!("{}.{suffix}", self.family);
        let mut keys = vec![
            (
                "general.architecture".to_owned(),
                Value::String(self.family.to_owned()),
            ),
            (
                "general.name".to_owned(),
                Value::String(format!("tiny {}", self.family)),
            ),
            (own("block_count"), Value::U32(N_LAYER)),
            (own("context_length"), Value::U32(self.n_ctx_train)),
            (own("embedding_length"), Value::U32(self.n_embd)),
            (own("feed_forward_length"), Value::U32(self.n_ff)),
            (own("attention.head_count"), Value::U32(self.n_head)),
            (own("attention.head_count_kv"), Value::U32(self.n_head_kv)),
            (own("attention.key_length"), Value::U32(self.head_dim)),
            (own("attention.value_length"), Value::U32(self.head_dim)),
            (own("attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
            (own("rope.freq_base"), Value::F32(10_000.0)),
        ];
        if let Some(window) = self.sliding_window {
            keys.push((own("attention.sliding_window"), Value::U32(window)));
        }
        if let Some((n_expert, n_expert_used)) = self.experts {
            keys.push((own("expert_count"), Value::U32(n_expert)));
            keys.push((own("expert_used_count"), Value::U32(n_expert_used)));
            keys.push((own("expert_feed_forward_length"), Value::U32(self.n_ff)));
        }
        keys.extend(vocabulary());
        for (key, value) in &self.keys {
            keys.retain(|(known, _)| known != key);
            keys.extend(value.clone().map(|value| (key.clone(), value)));
        }
        keys
    }

    fn tensors(&self) -> Vec<(String, Vec<u64>, Kind)> {
        let [embd, ff, q, kv] = [
            self.n_embd,
            self.n_ff,
            self.n_head * self.head_dim,
            self.n_head_kv * self.head_dim,
        ]
        .map(u64::from);
        let vocab = u64::from(self.n_vocab());
        let mut all = vec![(
            "token_embd.weight".to_owned(),
            vec![vocab, embd],
            Kind::Matrix,
        )];
        for layer in 0..N_LAYER {
            let mut add = |name: &str, shape: &[u64], kind| {
                all.push((format!("blk.{layer}.{name}"), shape.to_vec(), kind))
            };
            add("attn_norm.weight", &[embd], Kind::Norm);
            add("attn_q.weight", &[q, embd], Kind::Matrix);
            add("attn_k.weight", &[kv, embd], Kind::Matrix);
            add("attn_v.weight", &[kv, embd], Kind::Matrix);
            add("attn_output.weight", &[embd, q], Kind::Matrix);
            match self.family {
                "qwen2" => {
                    add("attn_q.bias", &[q], Kind::Bias);
                    add("attn_k.bias", &[kv], Kind::Bias);
                    add("attn_v.bias", &[kv], Kind::Bias);
                }
                "qwen3" | "qwen3moe" => {
                    add(
                        "attn_q_norm.weight",
                        &[u64::from(self.head_dim)],
                        Kind::Norm,
                    );
                    add(
                        "attn_k_norm.weight",
                        &[u64::from(self.head_dim)],
                        Kind::Norm,
                    );
                }
                _ => {}
            }
            add("ffn_norm.weight", &[embd], Kind::Norm);
            match self.experts.map(|(n_expert, _)| u64::from(n_expert)) {
                None => {
                    add("ffn_gate.weight", &[ff, embd], Kind::Matrix);
                    add("ffn_up.weight", &[ff, embd], Kind::Matrix);
                    add("ffn_down.weight", &[embd, ff], Kind::Matrix);
                }
                Some(n) => {
                    add("ffn_gate_inp.weight", &[n, embd], Kind::Router);
                    add("ffn_gate_exps.weight", &[n, ff, embd], Kind::Matrix);
                    add("ffn_up_exps.weight", &[n, ff, embd], Kind::Matrix);
                    add("ffn_down_exps.weight", &[n, embd, ff], Kind::Matrix);
                }
            }
        }
        all.push(("output_norm.weight".to_owned(), vec![embd], Kind::Norm));
        if !self.is_tied {
            all.push(("output.weight".to_owned(), vec![vocab, embd], Kind::Matrix));
        }
        all.retain(|(name, ..)| !self.without.contains(name));
        all.extend(
            self.extra
                .iter()
                .map(|(name, shape, value)| (name.clone(), shape.clone(), Kind::Constant(*value))),
        );
        all
    }

    fn tensor_data(&self, name: &str, shape: &[u64], kind: Kind) -> (TensorType, Vec<u8>) {
        let n = shape.iter().product::<u64>() as usize;
        let mut random = Random::new(self.seed, name);
        let floats = |f: &mut dyn FnMut() -> f32| {
            (
                TensorType::F32,
                (0..n).flat_map(|_| f().to_le_bytes()).collect(),
            )
        };
        match kind {
            Kind::Norm => floats(&mut || 1.0 + 0.3 * random.signed()),
            Kind::Bias => floats(&mut || 0.3 * random.signed()),
            Kind::Constant(value) => floats(&mut || value),
            Kind::Router => floats(&mut || 0.3 * random.signed()),
            Kind::Matrix => (
                self.weight,
                random_weights(self.weight, n, shape[shape.len() - 1] as usize, &mut random),
            ),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Matrix,
    /// F32 in every file.
    Router,
    Norm,
    Bias,
    Constant(f32),
}

/// A SentencePiece vocabulary: three special tokens, all bytes, some words.
fn vocabulary() -> Vec<(String, Value)> {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let words = WORDS.iter().map(|word| (*word).to_owned());
    let tokens: Vec<String> = special.into_iter().chain(bytes).chain(words).collect();
    let scores = (0..tokens.len()).map(|index| -(index as f32)).collect();
    // unknown, control, byte, normal
    let types = (0..tokens.len()).map(|index| match index {
        0 => 2,
        1 | 2 => 3,
        3..=258 => 6,
        _ => 1,
    });
    let key = |suffix: &str| format!("tokenizer.ggml.{suffix}");
    vec![
        (key("model"), Value::String("llama".to_owned())),
        (
            key("tokens"),
            Value::Array(Array::String(tokens.into_iter().collect())),
        ),
        (key("scores"), Value::Array(Array::F32(scores))),
        (key("token_type"), Value::Array(Array::I32(types.collect()))),
        (key("bos_token_id"), Value::U32(1)),
        (key("eos_token_id"), Value::U32(2)),
        (key("unknown_token_id"), Value::U32(0)),
    ]
}

/// SplitMix64, seeded by a number and a name so that tensors do not depend on their order.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        Random(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (-1, 1).
    pub(crate) fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// `n` weights of a type, of a size that keeps a product of `cols` inputs near that of its input.
pub(crate) fn random_weights(
    ty: TensorType,
    n: usize,
    cols: usize,
    random: &mut Random,
) -> Vec<u8> {
    let size = 1.7 / (cols as f32).sqrt();
    match ty {
        TensorType::F32 => (0..n)
            .flat_map(|_| (size * random.signed()).to_le_bytes())
            .collect(),
        TensorType::F16 => (0..n)
            .flat_map(|_| f16_bits(size * random.signed()).to_le_bytes())
            .collect(),
        TensorType::BF16 => (0..n)
            .flat_map(|_| (((size * random.signed()).to_bits() >> 16) as u16).to_le_bytes())
            .collect(),
        _ => {
            let block = usize::try_from(ty.block_bytes()).expect("a block is small");
            let n_blocks = n / usize::try_from(ty.block_len()).expect("a block is small");
            let mut data: Vec<u8> = (0..n_blocks * block).map(|_| random.next() as u8).collect();
            for block in data.chunks_exact_mut(block) {
                set_scales(ty, block, size * (1.0 + 0.5 * random.signed()));
            }
            data
        }
    }
}

/// Gives a block of random bytes scales that make its largest weights about `size`.
fn set_scales(ty: TensorType, block: &mut [u8], size: f32) {
    // Place of the scale, what its largest factor is, and place of the minimum's scale.
    let (at, largest, minimum) = match ty {
        TensorType::Q4_0 => (0, 8.0, None),
        TensorType::Q4_1 => (0, 8.0, Some((2, -8.0))),
        TensorType::Q5_0 => (0, 16.0, None),
        TensorType::Q5_1 => (0, 16.0, Some((2, -16.0))),
        TensorType::Q8_0 => (0, 127.0, None),
        TensorType::Q2_K => (80, 15.0 * 3.0, Some((82, 1.5))),
        TensorType::Q3_K => (108, 32.0 * 4.0, None),
        TensorType::Q4_K => (0, 63.0 * 15.0, Some((2, 7.5))),
        TensorType::Q5_K => (0, 63.0 * 31.0, Some((2, 15.5))),
        TensorType::Q6_K => (208, 128.0 * 32.0, None),
        TensorType::IQ4_NL => (0, 127.0, None),
        TensorType::IQ4_XS => (0, 32.0 * 127.0, None),
        TensorType::MXFP4 => {
            // One exponent byte; the largest value of the table is 12 halves.
            block[0] = (127.0 + (size / 6.0).log2().floor()) as u8;
            return;
        }
        // A type nobody computes with: noise will do to see it refused.
        _ => return,
    };
    let scale = size / largest;
    block[at..at + 2].copy_from_slice(&f16_bits(scale).to_le_bytes());
    if let Some((at, factor)) = minimum {
        block[at..at + 2].copy_from_slice(&f16_bits(scale * factor).to_le_bytes());
    }
}

/// The nearest half below in size; numbers here are far from the ends of the range.
fn f16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    let mantissa = bits & 0x7f_ffff;
    match exponent {
        ..=-10 => sign,
        -9..=0 => sign | ((mantissa | 0x80_0000) >> (14 - exponent)) as u16,
        1..=30 => sign | (exponent as u16) << 10 | (mantissa >> 13) as u16,
        _ => sign | 0x7bff,
    }
}
