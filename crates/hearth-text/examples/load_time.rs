//! How long the tokenizer of a model file takes to build and to read a megabyte of text.
//!
//! `cargo run --release --example load_time -- MODEL.gguf`

use std::time::Instant;

use hearth_gguf::Gguf;
use hearth_text::{Encode, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args_os().nth(1) else {
        return Err("expected the path of a GGUF file".into());
    };
    let start = Instant::now();
    let gguf = Gguf::open(path.as_ref())?;
    println!("file opened in {:?}", start.elapsed());
    for _ in 0..5 {
        let start = Instant::now();
        let tokenizer = Tokenizer::from_metadata(gguf.metadata())?;
        println!(
            "{} tokens ready in {:?}",
            tokenizer.n_vocab(),
            start.elapsed()
        );
    }
    let tokenizer = Tokenizer::from_metadata(gguf.metadata())?;
    let prose =
        "The hearth is warm; 3 cats sleep beside it, and nobody's in a hurry. ".repeat(1 << 14);
    for (what, text) in [
        ("prose", prose),
        ("one letter", "a".repeat(1 << 20)),
        ("spaces", " ".repeat(1 << 20)),
    ] {
        let start = Instant::now();
        let n_tokens = tokenizer.encode(&text, Encode::default()).len();
        println!(
            "{what}: {} bytes are {n_tokens} tokens, {:?}",
            text.len(),
            start.elapsed()
        );
    }
    Ok(())
}
