//! What is known of a model from the head of its file, without loading it.

use std::{collections::BTreeMap, time::SystemTime};

use hearth_gguf::{Gguf, TensorInfo};
use hearth_text::{ChatTemplate, parse::AnswerFormat};
use sha2::{Digest, Sha256};

use crate::ids;

/// Facts of a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    /// Bytes of all its files.
    pub size: u64,
    /// When the file was last changed.
    pub modified: SystemTime,
    /// Its identity, 64 hexadecimal digits.
    pub digest: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Weights.
    pub n_params: u64,
    /// The type of most of them: `Q4_K_M`.
    pub quantization: String,
    /// Tokens it was trained to read.
    pub n_ctx_train: usize,
    /// What it can do, in Ollama's words.
    pub capabilities: Vec<&'static str>,
    /// Its licence, as the file says.
    pub license: Option<String>,
}

impl Details {
    /// Reads them; `modified` is the file's.
    pub fn of(gguf: &Gguf, modified: SystemTime) -> Details {
        let metadata = gguf.metadata();
        let text = |key: &str| metadata.get_str(key).ok().flatten().map(str::to_owned);
        let architecture = text("general.architecture").unwrap_or_default();
        let n_ctx_train = metadata.get_u64(&format!("{architecture}.context_length"));
        Details {
            size: gguf.file_bytes(),
            modified,
            digest: digest(gguf),
            n_params: gguf.tensors().iter().map(TensorInfo::n_elements).sum(),
            quantization: quantization(gguf),
            n_ctx_train: n_ctx_train.ok().flatten().unwrap_or_default() as usize,
            capabilities: capabilities(gguf, &architecture),
            license: text("general.license"),
            architecture,
        }
    }

    /// `8.0B`, `494.0M`.
    pub fn parameter_size(&self) -> String {
        let n = self.n_params as f64;
        match self.n_params {
            1_000_000_000.. => format!("{:.1}B", n / 1e9),
            1_000_000.. => format!("{:.1}M", n / 1e6),
            _ => format!("{:.1}K", n / 1e3),
        }
    }
}

/// Samples of the weights in a digest, and bytes of each.
const SAMPLES: usize = 64;
const SAMPLE_BYTES: usize = 4096;

/// The model's identity: its heads, its size, and samples of its weights. Reading all of a large file would cost minutes.
fn digest(gguf: &Gguf) -> String {
    let mut sha = Sha256::new();
    for file in 0..gguf.n_files() {
        let (head, weights) = gguf.file(file).split_at(gguf.head_bytes(file));
        sha.update((gguf.file(file).len() as u64).to_le_bytes());
        sha.update(head);
        let stride = (weights.len() / SAMPLES).max(SAMPLE_BYTES);
        for part in weights.chunks(stride) {
            sha.update(&part[..part.len().min(SAMPLE_BYTES)]);
        }
    }
    ids::hex(&sha.finalize())
}

fn capabilities(gguf: &Gguf, architecture: &str) -> Vec<&'static str> {
    let metadata = gguf.metadata();
    let template = ChatTemplate::from_metadata(metadata).ok().flatten();
    let format = template.map(|template| AnswerFormat::detect(template.source()));
    let pools = metadata
        .get(&format!("{architecture}.pooling_type"))
        .is_some();
    let fills_in = [
        "tokenizer.ggml.fim_pre_token_id",
        "tokenizer.ggml.prefix_token_id",
    ]
    .iter()
    .any(|key| metadata.get(key).is_some());
    let all = [
        ("completion", !pools),
        (
            "tools",
            format.as_ref().is_some_and(|format| format.tools.is_some()),
        ),
        (
            "thinking",
            format
                .as_ref()
                .is_some_and(|format| format.thinking.is_some()),
        ),
        ("insert", fills_in),
        ("embedding", pools),
    ];
    all.into_iter()
        .filter(|(_, can)| *can)
        .map(|(name, _)| name)
        .collect()
}

/// The mixture the file says it is, else the type of most of its bytes.
fn quantization(gguf: &Gguf) -> String {
    let declared = gguf.metadata().get_u64("general.file_type").ok().flatten();
    if let Some(name) = declared.and_then(mixture) {
        return name.to_owned();
    }
    let mut bytes_of: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in gguf.tensors() {
        *bytes_of.entry(tensor.ty.name()).or_default() += tensor.n_bytes();
    }
    let most = bytes_of.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.map(|(name, _)| name.to_owned()).unwrap_or_default()
}

/// Names of the mixtures that `general.file_type` numbers, as llama.cpp gives them out.
fn mixture(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        25 => "IQ4_NL",
        30 => "IQ4_XS",
        32 => "BF16",
        38 => "MXFP4",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use hearth_gguf::TensorType;
    use hearth_testing::TinyModel;

    use super::*;

    #[test]
    fn a_file_is_described_without_loading_it() {
        let gguf = Gguf::from_vec(TinyModel::new("llama", TensorType::Q8_0).build()).unwrap();
        let details = Details::of(&gguf, SystemTime::UNIX_EPOCH);
        assert_eq!(details.architecture, "llama");
        assert_eq!(details.quantization, "Q8_0");
        assert_eq!(details.n_ctx_train, 512);
        assert_eq!(details.capabilities, ["completion"]);
        assert_eq!(details.size, gguf.file_bytes());
        let is_hex = details.digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(details.digest.len() == 64 && is_hex, "{}", details.digest);
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        let gguf = Gguf::from_vec(TinyModel::new("llama", TensorType::F32).build()).unwrap();
        let mut details = Details::of(&gguf, SystemTime::UNIX_EPOCH);
        for (n, text) in [
            (8_030_000_000, "8.0B"),
            (494_000_000, "494.0M"),
            (12_345, "12.3K"),
        ] {
            details.n_params = n;
            assert_eq!(details.parameter_size(), text);
        }
    }
}
