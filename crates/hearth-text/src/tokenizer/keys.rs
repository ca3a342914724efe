//! Keys of the tokenizer that nothing else here reads. One that would change tokens is refused, one we do not know
//! is named to the user: read silently, either could mean other tokens than the model was trained on.

use hearth_gguf::{Array, Metadata, Value};

use super::error::TextError;
use super::load::Kind;
use super::meta;

const PREFIX: &str = "tokenizer.ggml.";
const LOWERCASE: &str = "tokenizer.ggml.normalizer.lowercase";
const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const EXTRA_SPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const SEPARATOR: &str = "tokenizer.ggml.add_sep_token";

/// Keys, without their prefix, that are read or say nothing about how a single text becomes tokens. `scores` beside
/// merges, `merges` and `pre` beside scores are leftovers of converters.
const KNOWN: [&str; 36] = [
    "model",
    "pre",
    "tokens",
    "token_type",
    "token_type_count",
    "scores",
    "merges",
    "added_tokens",
    "bos_token_id",
    "eos_token_id",
    "eot_token_id",
    "eom_token_id",
    "unknown_token_id",
    "seperator_token_id",
    "separator_token_id",
    "padding_token_id",
    "cls_token_id",
    "mask_token_id",
    "fim_pre_token_id",
    "fim_suf_token_id",
    "fim_mid_token_id",
    "fim_pad_token_id",
    "fim_rep_token_id",
    "fim_sep_token_id",
    "prefix_token_id",
    "suffix_token_id",
    "middle_token_id",
    "image_token_id",
    "audio_token_id",
    "add_bos_token",
    "add_eos_token",
    // Judged by value in `check`.
    "add_sep_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
    "precompiled_charsmap",
    "normalizer.lowercase",
];

/// Unknown keys that a notice names; a file may have any number.
const NAMED: usize = 8;
/// Characters of a key that a notice shows.
const SHOWN: usize = 80;

/// Looks at every key of the tokenizer.
pub(super) fn check(
    metadata: &Metadata,
    kind: Kind,
    notices: &mut Vec<String>,
) -> Result<(), TextError> {
    let refuse = |key, value: &str| {
        let value = value.to_owned();
        Err(TextError::Unsupported { key, value })
    };
    if meta::flag(metadata, EXTRA_SPACES)? == Some(true) {
        return refuse(EXTRA_SPACES, "true");
    }
    if metadata.get(CHARSMAP).is_some_and(|map| !is_empty(map)) {
        return refuse(CHARSMAP, "not empty");
    }
    if kind != Kind::WordPiece && meta::flag(metadata, LOWERCASE)? == Some(true) {
        return refuse(LOWERCASE, "true");
    }
    // Only between the two texts of a pair, which this tokenizer does not build: any value will do.
    meta::flag(metadata, SEPARATOR)?;
    if kind != Kind::Spm && meta::flag(metadata, SPACE_PREFIX)? == Some(true) {
        notices.push(format!(
            "{SPACE_PREFIX} is true, which only tokenizers of the model \"llama\" heed; it is ignored"
        ));
    }
    note_unknown(metadata, notices);
    Ok(())
}

fn is_empty(map: &Value) -> bool {
    match map {
        Value::Array(Array::U8(bytes)) => bytes.is_empty(),
        Value::Array(Array::I8(bytes)) => bytes.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn note_unknown(metadata: &Metadata, notices: &mut Vec<String>) {
    let unknown = || {
        let ours = metadata.iter().map(|(key, _)| key);
        ours.filter(|key| {
            key.strip_prefix(PREFIX)
                .is_some_and(|k| !KNOWN.contains(&k))
        })
    };
    let n = unknown().count();
    if n == 0 {
        return;
    }
    let named: Vec<String> = unknown()
        .take(NAMED)
        .map(|key| format!("{:?}", key.chars().take(SHOWN).collect::<String>()))
        .collect();
    let more = if n > NAMED { ", …" } else { "" };
    notices.push(format!(
        "{n} keys of the tokenizer are not known and are ignored: {}{more}",
        named.join(", ")
    ));
}
