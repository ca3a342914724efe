//! Any vocabulary: refused, or every text becomes tokens that exist, and comes back where all bytes have one.
//!
//! The input is a GGUF file, or a description of a vocabulary that is easier to guess: a line of flags, a line of
//! tokens, a line of merges, and the text.

#![no_main]

use hearth_gguf::{Array, Gguf, GgufWriter, Value};
use hearth_text::{Detokenizer, Encode, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    hearth_fuzz::within_budget(input, |input| {
        if input.starts_with(b"GGUF") {
            if let Ok(gguf) = Gguf::from_vec(input.to_vec()) {
                try_tokenizer(&gguf, input, false);
            }
            return;
        }
        let mut lines = input.splitn(4, |&b| b == b'\n');
        let mut line = || lines.next().unwrap_or_default();
        let (flags, tokens, merges, text) = (line(), line(), line(), line());
        if let Some(gguf) = describe(flags, tokens, merges) {
            // WordPiece does not keep spaces and case.
            let has = |flag: u8| flags.contains(&flag);
            try_tokenizer(&gguf, text, has(b'a') && (has(b's') || !has(b'w')));
        }
    });
});

fn try_tokenizer(gguf: &Gguf, text: &[u8], has_all_bytes: bool) {
    let tokenizer = match Tokenizer::from_metadata(gguf.metadata()) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for (add_special, parse_special) in [(false, false), (true, true)] {
        let tokens = tokenizer.encode_bytes(
            text,
            Encode {
                add_special,
                parse_special,
            },
        );
        assert!(tokens.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
        let whole = tokenizer.decode(&tokens);
        let mut stream = Detokenizer::new(&tokenizer);
        let mut streamed: String = tokens
            .iter()
            .map(|&id| stream.push(id).to_owned())
            .collect();
        streamed.push_str(stream.finish());
        assert_eq!(streamed, String::from_utf8_lossy(&whole));
        if has_all_bytes && !add_special {
            assert_eq!(whole, text);
        }
    }
}

/// Flags: `s`, `b`, `w` choose the kind of tokenizer, a digit the pre-tokenizer, `a` adds a token for every byte.
fn describe(flags: &[u8], tokens: &[u8], merges: &[u8]) -> Option<Gguf> {
    const PRE: [&str; 10] = [
        "default",
        "gpt-2",
        "llama-bpe",
        "qwen2",
        "qwen35",
        "starcoder",
        "deepseek-llm",
        "deepseek-v3",
        "tekken",
        "gpt-4o",
    ];
    let digit = flags
        .iter()
        .find(|b| b.is_ascii_digit())
        .map_or(0, |b| usize::from(b - b'0'));
    let has = |flag: u8| flags.contains(&flag);
    let kind = if has(b's') {
        "llama"
    } else if has(b'w') {
        "bert"
    } else {
        "gpt2"
    };
    let (mut pieces, mut types) = (Vec::<Vec<u8>>::new(), Vec::<i32>::new());
    // A token's first byte is its type; anything else is a mistake we want to see refused.
    for token in tokens.split(|&b| b == b' ').filter(|t| !t.is_empty()) {
        types.push(i32::from(token[0]) - i32::from(b'0'));
        pieces.push(token[1..].to_vec());
    }
    if has(b'a') && kind == "llama" {
        pieces.extend((0..256).map(|byte| format!("<0x{byte:02X}>").into_bytes()));
        types.extend([6; 256]);
    } else if has(b'a') {
        // The byte-level alphabet: printable bytes are themselves, the others follow from U+0100 on.
        let printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        pieces.extend(
            (0..0x144)
                .filter(|&c| printable(c) || c >= 0x100)
                .filter_map(char::from_u32)
                .map(|c| c.to_string().into_bytes()),
        );
        types.resize(pieces.len(), 1);
    }
    let scores: Vec<f32> = (0..pieces.len())
        .map(|i| -((i * 7919 % 101) as f32))
        .collect();
    let mut file = GgufWriter::new();
    let mut put = |key: &str, value: Value| file.add_value(key, value).ok();
    put("general.architecture", Value::String("fuzz".to_owned()))?;
    put("tokenizer.ggml.model", Value::String(kind.to_owned()))?;
    put("tokenizer.ggml.pre", Value::String(PRE[digit].to_owned()))?;
    put(
        "tokenizer.ggml.tokens",
        Value::Array(Array::String(pieces.iter().collect())),
    )?;
    put("tokenizer.ggml.token_type", Value::from(types))?;
    put("tokenizer.ggml.scores", Value::from(scores))?;
    let merges = merges.split(|&b| b == b'\t').filter(|m| !m.is_empty());
    put(
        "tokenizer.ggml.merges",
        Value::Array(Array::String(merges.collect())),
    )?;
    put("tokenizer.ggml.add_space_prefix", Value::from(!has(b'n')))?;
    if has(b'u') {
        put("tokenizer.ggml.unknown_token_id", Value::from(0u32))?;
    }
    Gguf::from_vec(file.begin(Vec::new()).ok()?.finish().ok()?).ok()
}
