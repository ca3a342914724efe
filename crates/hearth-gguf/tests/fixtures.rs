//! Real files open as they are. Needs the fixtures; without them it says what it skipped.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hearth_gguf::{Gguf, GgufError, TensorType};

/// The folder named by `HEARTH_FIXTURES`, if it is set.
fn fixtures(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("HEARTH_FIXTURES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped {test}: set HEARTH_FIXTURES to the folder with the model files");
    }
    folder
}

fn ggufs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder)
        .expect("a folder of fixtures")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            ggufs(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            found.push(path);
        }
    }
}

#[test]
fn every_fixture_opens_and_its_data_is_there() {
    let Some(folder) = fixtures("every_fixture_opens_and_its_data_is_there") else {
        return;
    };
    let mut paths = Vec::new();
    ggufs(&folder, &mut paths);
    let mut types = std::collections::BTreeSet::new();
    let mut failures = Vec::new();
    for path in &paths {
        match Gguf::open(path) {
            Ok(gguf) => {
                for tensor in gguf.tensors() {
                    types.insert(tensor.ty);
                    assert_eq!(gguf.data(tensor).len() as u64, tensor.n_bytes());
                    assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
                }
            }
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    eprintln!("{} files, {} tensor types", paths.len(), types.len());
    assert!(
        paths.len() > 50 && types.contains(&TensorType::NVFP4) && types.contains(&TensorType::Q2_0)
    );
}

#[test]
fn old_files_without_newer_keys_are_taken_as_they_are() -> Result<(), GgufError> {
    let Some(folder) = fixtures("old_files_without_newer_keys_are_taken_as_they_are") else {
        return Ok(());
    };
    let gguf = Gguf::open(&folder.join("real/stories260K.gguf"))?;
    let metadata = gguf.metadata();
    assert_eq!(metadata.get_u32("general.file_type")?, None);
    assert_eq!(
        metadata.get_u32("tokenizer.ggml.padding_token_id")?,
        Some(u32::MAX)
    );
    assert_eq!(
        metadata.require_strings("tokenizer.ggml.tokens")?.len(),
        512
    );
    let embedding = gguf
        .tensor("token_embd.weight")
        .expect("every llama has one");
    assert_eq!(
        (embedding.shape.as_slice(), embedding.ty),
        (&[512, 64][..], TensorType::F32)
    );
    assert_eq!(
        (
            embedding.n_rows(),
            embedding.n_cols(),
            embedding.n_elements()
        ),
        (512, 64, 32768)
    );
    Ok(())
}

/// Prints how long it takes, for whoever hardens the reader.
#[test]
fn a_vocabulary_of_152_000_tokens_opens() -> Result<(), GgufError> {
    let Some(folder) = fixtures("a_vocabulary_of_152_000_tokens_opens") else {
        return Ok(());
    };
    let path = folder.join("parity/tokenizers/ggml-vocab-qwen2.gguf");
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let gguf = Gguf::open(&path)?;
        best = best.min(start.elapsed());
        assert_eq!(
            gguf.metadata()
                .require_strings("tokenizer.ggml.tokens")?
                .len(),
            151_936
        );
    }
    eprintln!("opened in {best:?}");
    Ok(())
}
