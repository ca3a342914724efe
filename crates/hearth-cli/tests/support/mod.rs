//! Helpers of the tests that drive the built program: a way to run it, and a tiny llama model made on the spot.

// Every test file compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use hearth_gguf::{TensorType, Value};
use hearth_testing::TinyModel;

/// The program, with nothing on standard input and a clean environment.
pub fn hearth<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env("HEARTH_HOME", no_home())
        .env_remove("HEARTH_KEY")
        .env_remove("HEARTH_LOG")
        .env_remove("HEARTH_CPU");
    command
}

/// A folder that is not there, so that no test reads what the user of this machine has.
fn no_home() -> PathBuf {
    std::env::temp_dir().join("hearth-no-home")
}

/// Runs to the end with this text on standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hearth starts");
    // The program may refuse its arguments before it reads anything; then this pipe is closed, which is fine.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("hearth ends")
}

/// Runs to the end, requires success, gives standard output as text.
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.output().expect("hearth runs");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
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
        self.0
            .to_str()
            .expect("the temporary folder has a readable name")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A chat template that shows what it was given.
pub const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

/// A llama of two layers with a chat template and room for 128 tokens; what it writes is noise.
pub fn tiny_model() -> TinyModel {
    let mut model = TinyModel::new("llama", TensorType::F32);
    model.n_ctx_train = 128;
    model.keys.push((
        "tokenizer.chat_template".into(),
        Some(Value::String(TEMPLATE.into())),
    ));
    model
}

/// The same file with its first tensor declared as integers of the same size, which no model is made of.
pub fn with_integer_weights(mut file: Vec<u8>) -> Vec<u8> {
    const I32: u32 = 26;
    let name = b"token_embd.weight";
    let start = file
        .windows(name.len())
        .position(|window| window == name)
        .expect("every model has embeddings");
    let n_dims = start + name.len();
    let ty = n_dims + 4 + 8 * usize::from(file[n_dims]);
    file[ty..ty + 4].copy_from_slice(&I32.to_le_bytes());
    file
}

/// Checks that a command ended as after a user's mistake: two lines that say what they must, exit code 2, no data.
pub fn refused(output: &Output, error: &str, hint: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        output.stdout.is_empty(),
        "data on standard output: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(lines.len(), 2, "not two lines:\n{stderr}");
    assert!(
        lines[0].starts_with("error: ") && lines[0].contains(error),
        "expected '{error}' in:\n{stderr}"
    );
    assert!(
        lines[1].starts_with("hint: ") && lines[1].contains(hint),
        "expected '{hint}' in:\n{stderr}"
    );
}
