//! Helpers of the tests that drive the built program: a way to run it, and a tiny llama model made on the spot.
//!
//! The model is written byte by byte here, not with the project's own writer, so that a mistake shared by writer and
//! reader cannot hide.

// Every test file compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program, with nothing on standard input and a clean environment.
pub fn hearth<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    command.args(arguments).stdin(Stdio::null()).env_remove("HEARTH_CPU");
    command
}

/// Runs to the end with this text on standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hearth starts");
    // The program may refuse its arguments before it reads anything; then this pipe is closed, which is fine.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("hearth ends")
}

/// Runs to the end, requires success, gives standard output as text.
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.output().expect("hearth runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("standard output is UTF-8")
}

/// A file of its own for a test, removed with the value.
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(name: &str, bytes: &[u8]) -> TempFile {
        let path = std::env::temp_dir().join(format!("hearth-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("the temporary folder takes files");
        TempFile(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the temporary folder has a readable name")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What of the tiny model a test wants different.
pub struct TinyModel {
    pub architecture: &'static str,
    /// Type id of the first tensor, as the format numbers them.
    pub first_tensor_type: u32,
    pub n_ctx: u32,
    pub chat_template: Option<&'static str>,
}

pub const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

impl Default for TinyModel {
    fn default() -> TinyModel {
        TinyModel { architecture: "llama", first_tensor_type: TYPE_F32, n_ctx: 128, chat_template: Some(TEMPLATE) }
    }
}

pub const TYPE_F32: u32 = 0;
/// 256 weights in 50 bytes; not computed by this version.
pub const TYPE_IQ1_S: u32 = 19;

const N_EMBD: u64 = 256;
const N_FF: u64 = 64;
const N_HEAD: u32 = 4;
const N_VOCAB: u64 = 3 + 256 + 27;

impl TinyModel {
    /// The GGUF file.
    pub fn bytes(&self) -> Vec<u8> {
        let metadata = self.metadata();
        let tensors = self.tensors();
        let mut file = Vec::from(*b"GGUF");
        file.extend(3u32.to_le_bytes());
        file.extend((tensors.len() as u64).to_le_bytes());
        file.extend((metadata.len() as u64).to_le_bytes());
        metadata.into_iter().for_each(|entry| file.extend(entry));
        let mut data = Vec::new();
        for (name, dims, ty, bytes) in tensors {
            file.extend(string(name));
            file.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| file.extend(dim.to_le_bytes()));
            file.extend(ty.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        file
    }

    fn metadata(&self) -> Vec<Vec<u8>> {
        let architecture = self.architecture;
        let mut tokens = vec!["<unk>".to_string(), "<s>".into(), "</s>".into()];
        tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        tokens.push("\u{2581}".into());
        tokens.extend(('a'..='z').map(String::from));
        let types: Vec<u32> = (0..N_VOCAB).map(|id| [2, 3, 3].get(id as usize).copied().unwrap_or(if id < 259 { 6 } else { 1 })).collect();
        let scores: Vec<f32> = (0..N_VOCAB).map(|id| -(id as f32)).collect();
        let mut entries = vec![
            text("general.architecture", architecture),
            text("general.name", "tiny"),
            number(&format!("{architecture}.block_count"), 1),
            number(&format!("{architecture}.context_length"), self.n_ctx),
            number(&format!("{architecture}.embedding_length"), N_EMBD as u32),
            number(&format!("{architecture}.feed_forward_length"), N_FF as u32),
            number(&format!("{architecture}.attention.head_count"), N_HEAD),
            number(&format!("{architecture}.attention.head_count_kv"), N_HEAD / 2),
            float(&format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5),
            text("tokenizer.ggml.model", "llama"),
            array("tokenizer.ggml.tokens", 8, tokens.iter().map(|token| string(token))),
            array("tokenizer.ggml.scores", 6, scores.iter().map(|score| score.to_le_bytes().to_vec())),
            array("tokenizer.ggml.token_type", 5, types.iter().map(|ty| ty.to_le_bytes().to_vec())),
            number("tokenizer.ggml.bos_token_id", 1),
            number("tokenizer.ggml.eos_token_id", 2),
        ];
        entries.extend(self.chat_template.map(|template| text("tokenizer.chat_template", template)));
        entries
    }

    fn tensors(&self) -> Vec<(&'static str, Vec<u64>, u32, Vec<u8>)> {
        let n_embd_kv = N_EMBD / 2;
        let shapes: [(&'static str, Vec<u64>); 12] = [
            ("token_embd.weight", vec![N_EMBD, N_VOCAB]),
            ("blk.0.attn_norm.weight", vec![N_EMBD]),
            ("blk.0.attn_q.weight", vec![N_EMBD, N_EMBD]),
            ("blk.0.attn_k.weight", vec![N_EMBD, n_embd_kv]),
            ("blk.0.attn_v.weight", vec![N_EMBD, n_embd_kv]),
            ("blk.0.attn_output.weight", vec![N_EMBD, N_EMBD]),
            ("blk.0.ffn_norm.weight", vec![N_EMBD]),
            ("blk.0.ffn_gate.weight", vec![N_EMBD, N_FF]),
            ("blk.0.ffn_up.weight", vec![N_EMBD, N_FF]),
            ("blk.0.ffn_down.weight", vec![N_FF, N_EMBD]),
            ("output_norm.weight", vec![N_EMBD]),
            ("output.weight", vec![N_EMBD, N_VOCAB]),
        ];
        let mut state = 1;
        let tensors = shapes.into_iter().enumerate().map(|(index, (name, dims))| {
            let ty = if index == 0 { self.first_tensor_type } else { TYPE_F32 };
            let n: u64 = dims.iter().product();
            let bytes = match ty {
                TYPE_F32 => (0..n).flat_map(|_| weight(&mut state).to_le_bytes()).collect(),
                _ => vec![0; n as usize / 256 * 50],
            };
            (name, dims, ty, bytes)
        });
        tensors.collect()
    }
}

/// Small numbers without a pattern: a linear congruential generator, upper bits to [-0.1, 0.1).
fn weight(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.2
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn entry(key: &str, ty: u32, value: &[u8]) -> Vec<u8> {
    [&string(key), &ty.to_le_bytes()[..], value].concat()
}

fn number(key: &str, value: u32) -> Vec<u8> {
    entry(key, 4, &value.to_le_bytes())
}

fn float(key: &str, value: f32) -> Vec<u8> {
    entry(key, 6, &value.to_le_bytes())
}

fn text(key: &str, value: &str) -> Vec<u8> {
    entry(key, 8, &string(value))
}

fn array(key: &str, ty: u32, values: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = ty.to_le_bytes().to_vec();
    bytes.extend((values.len() as u64).to_le_bytes());
    values.for_each(|value| bytes.extend(value));
    entry(key, 9, &bytes)
}
