//! From metadata to a tokenizer. Nothing in the file is trusted: lengths must agree, ids must exist.

use hearth_gguf::{Metadata, StringArray};

use super::bpe::Bpe;
use super::byte_map;
use super::error::TextError;
use super::keys;
use super::meta;
use super::pre::PreTokenizer;
use super::special::{self, SpecialTokens};
use super::spm::Spm;
use super::vocab::{TokenType, Vocab};
use super::wordpiece::WordPiece;
use super::{Algorithm, Infill, SpecialIds, Tokenizer};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";

/// Ids are `u32`, and the largest one means "none" in old files.
const MAX_TOKENS: usize = u32::MAX as usize - 1;

/// Control tokens that end a turn in some family, whether or not the file says so.
const KNOWN_ENDS: [&str; 18] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "_<EOT>",
    "</s>",
];

/// The algorithm a file asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bpe,
    Spm,
    WordPiece,
}

pub(super) fn load(metadata: &Metadata) -> Result<Tokenizer, TextError> {
    let kind = match meta::string(metadata, MODEL)?.ok_or(TextError::MissingKey { key: MODEL })? {
        "gpt2" => Kind::Bpe,
        "llama" => Kind::Spm,
        "bert" => Kind::WordPiece,
        other => {
            return Err(TextError::UnknownModel {
                name: other.to_owned(),
            });
        }
    };
    let tokens = meta::strings(metadata, TOKENS)?.ok_or(TextError::MissingKey { key: TOKENS })?;
    if tokens.is_empty() {
        return Err(TextError::EmptyVocabulary);
    }
    if tokens.len() > MAX_TOKENS {
        return Err(TextError::TooManyTokens {
            count: tokens.len(),
            limit: MAX_TOKENS,
        });
    }
    let mut notices = Vec::new();
    keys::check(metadata, kind, &mut notices)?;
    let types = types(metadata, tokens, kind)?;
    let (vocab, bytes) = vocabulary(tokens, &types, kind, &mut notices)?;
    let pre = pre_tokenizer(metadata, kind, &mut notices)?;
    let ids = special_ids(metadata, kind, pre.as_ref(), vocab.len(), &mut notices)?;
    let algorithm = match (kind, pre) {
        (Kind::Bpe, Some(pre)) => Algorithm::Bpe(Box::new(byte_level(
            metadata,
            &vocab,
            pre,
            &ids,
            &mut notices,
        )?)),
        (Kind::Spm, _) => {
            let scores = scores(metadata, vocab.len())?;
            Algorithm::Spm(Box::new(Spm {
                scores,
                bytes,
                unknown: ids.unknown,
            }))
        }
        _ => {
            let lowercase =
                meta::flag(metadata, "tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
            Algorithm::WordPiece(Box::new(WordPiece {
                unknown: ids.unknown,
                lowercase,
            }))
        }
    };
    let special = SpecialTokens::new(&vocab);
    if special.n_too_long > 0 {
        notices.push(format!(
            "{} special tokens have more than {} bytes and are not looked for in text",
            special.n_too_long,
            special::LONGEST
        ));
    }
    let is_end = end_of_generation(&vocab, &ids);
    Ok(Tokenizer {
        vocab,
        special,
        algorithm,
        ids,
        is_end,
        notices,
    })
}

fn types(
    metadata: &Metadata,
    tokens: &StringArray,
    kind: Kind,
) -> Result<Vec<TokenType>, TextError> {
    let Some(types) = meta::ints(metadata, TYPES)? else {
        // Without types only the spelling of byte tokens tells them from text.
        let guess = |token: &[u8]| match byte_token(token) {
            Some(_) if kind == Kind::Spm => TokenType::Byte,
            _ => TokenType::Normal,
        };
        return Ok(tokens.iter().map(guess).collect());
    };
    if types.len() != tokens.len() {
        return Err(TextError::LengthMismatch {
            key: TYPES,
            expected: tokens.len(),
            found: types.len(),
        });
    }
    let typed = |(id, &found): (usize, &i32)| {
        TokenType::from_id(found).ok_or(TextError::TokenType {
            id: id as u32,
            found: i128::from(found),
        })
    };
    types.iter().enumerate().map(typed).collect()
}

/// Tokens with their texts undone from the file's spelling, and the token of each byte.
fn vocabulary(
    tokens: &StringArray,
    types: &[TokenType],
    kind: Kind,
    notices: &mut Vec<String>,
) -> Result<(Vocab, [Option<u32>; 256]), TextError> {
    let mut vocab = Vocab::with_capacity(tokens.len(), tokens.total_bytes());
    let mut bytes = [None; 256];
    let mut n_duplicates = 0usize;
    for (id, (token, &token_type)) in tokens.iter().zip(types).enumerate() {
        let id = id as u32;
        // Byte-level and WordPiece alphabets are characters; SentencePiece tokens may hold any bytes.
        let text = std::str::from_utf8(token);
        if text.is_err() && kind != Kind::Spm {
            return Err(TextError::TokenNotUtf8 { id });
        }
        if token_type == TokenType::Byte && kind == Kind::Spm {
            let byte = byte_token(token).ok_or_else(|| TextError::ByteToken {
                id,
                text: String::from_utf8_lossy(token).into_owned(),
            })?;
            if let Some(first) = bytes[usize::from(byte)].replace(id) {
                return Err(TextError::DuplicateByte {
                    first,
                    second: id,
                    byte,
                });
            }
            vocab.push(token_type, false, |out| out.push(byte));
            continue;
        }
        let is_text = matches!(token_type, TokenType::Normal | TokenType::Byte);
        let is_new = vocab.push(token_type, is_text, |out| match (kind, text) {
            (Kind::Bpe, Ok(text)) if is_text => {
                if !byte_map::decode(text, out) {
                    out.extend_from_slice(token);
                }
            }
            (Kind::Spm | Kind::WordPiece, Ok(text)) if is_text => spaces(text, out),
            _ => out.extend_from_slice(token),
        });
        n_duplicates += usize::from(!is_new);
    }
    if n_duplicates > 0 {
        notices.push(format!(
            "{n_duplicates} tokens repeat the text of an earlier one and are never chosen for text"
        ));
    }
    Ok((vocab, bytes))
}

/// U+2581 stands for a space.
fn spaces(text: &str, out: &mut Vec<u8>) {
    for (i, piece) in text.split('\u{2581}').enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(piece.as_bytes());
    }
}

/// The byte of `<0x00>` to `<0xFF>`: two digits, no sign.
fn byte_token(token: &[u8]) -> Option<u8> {
    let digits = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let [high, low] = digits else { return None };
    let digit = |c: &u8| char::from(*c).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn pre_tokenizer(
    metadata: &Metadata,
    kind: Kind,
    notices: &mut Vec<String>,
) -> Result<Option<PreTokenizer>, TextError> {
    if kind != Kind::Bpe {
        return Ok(None);
    }
    let name = meta::string(metadata, PRE)?.unwrap_or_else(|| {
        notices.push(format!(
            "the file does not say how text is split ({PRE} is missing); \"default\" is used"
        ));
        "default"
    });
    PreTokenizer::named(name).map(Some)
}

fn special_ids(
    metadata: &Metadata,
    kind: Kind,
    pre: Option<&PreTokenizer>,
    n_vocab: usize,
    notices: &mut Vec<String>,
) -> Result<SpecialIds, TextError> {
    let id = |key| meta::token_id(metadata, key, n_vocab);
    // Cut vocabularies keep ids of roles that text generation never uses: note them and go on.
    let mut optional = |key| match id(key) {
        Err(TextError::SpecialId { key, id, .. }) => {
            notices.push(format!("{key} is {id}, which is no token; it is ignored"));
            Ok(None)
        }
        other => other,
    };
    let separator = match optional("tokenizer.ggml.seperator_token_id")? {
        Some(id) => Some(id),
        None => optional("tokenizer.ggml.separator_token_id")?,
    };
    let padding = optional("tokenizer.ggml.padding_token_id")?;
    let cls = optional("tokenizer.ggml.cls_token_id")?;
    // The second name is that of older files.
    let mut either = |new, old| Ok::<_, TextError>(optional(new)?.or(optional(old)?));
    let infill = [
        either(
            "tokenizer.ggml.fim_pre_token_id",
            "tokenizer.ggml.prefix_token_id",
        )?,
        either(
            "tokenizer.ggml.fim_suf_token_id",
            "tokenizer.ggml.suffix_token_id",
        )?,
        either(
            "tokenizer.ggml.fim_mid_token_id",
            "tokenizer.ggml.middle_token_id",
        )?,
    ];
    let infill = match infill {
        [Some(prefix), Some(suffix), Some(middle)] => Some(Infill {
            prefix,
            suffix,
            middle,
        }),
        _ => None,
    };
    let flag = |key, default| Ok::<bool, TextError>(meta::flag(metadata, key)?.unwrap_or(default));
    // Families that begin every text with `bos` also take whole words; files from before the flag rely on it.
    let adds_bos = match kind {
        Kind::Bpe => pre.is_some_and(PreTokenizer::ignores_merges),
        Kind::Spm | Kind::WordPiece => true,
    };
    Ok(SpecialIds {
        bos: id("tokenizer.ggml.bos_token_id")?.or(if kind == Kind::WordPiece {
            cls
        } else {
            None
        }),
        eos: id("tokenizer.ggml.eos_token_id")?,
        eot: id("tokenizer.ggml.eot_token_id")?,
        eom: id("tokenizer.ggml.eom_token_id")?,
        unknown: id("tokenizer.ggml.unknown_token_id")?,
        separator,
        padding,
        infill,
        adds_bos: flag("tokenizer.ggml.add_bos_token", adds_bos)?,
        adds_eos: flag("tokenizer.ggml.add_eos_token", kind == Kind::WordPiece)?,
        adds_space: kind == Kind::Spm && flag("tokenizer.ggml.add_space_prefix", true)?,
    })
}

fn byte_level(
    metadata: &Metadata,
    vocab: &Vocab,
    pre: PreTokenizer,
    ids: &SpecialIds,
    notices: &mut Vec<String>,
) -> Result<Bpe, TextError> {
    let merges = meta::strings(metadata, MERGES)?.ok_or(TextError::MissingKey { key: MERGES })?;
    let bpe = Bpe::new(vocab, merges, pre, ids.unknown)?;
    if bpe.n_missing_bytes() > 0 {
        let n = bpe.n_missing_bytes();
        let what = if ids.unknown.is_some() {
            "become the unknown token"
        } else {
            "are left out"
        };
        notices.push(format!(
            "{n} byte values have no token; in a text they {what}"
        ));
    }
    Ok(bpe)
}

fn scores(metadata: &Metadata, n_vocab: usize) -> Result<Vec<f32>, TextError> {
    let scores = meta::floats(metadata, SCORES)?.ok_or(TextError::MissingKey { key: SCORES })?;
    if scores.len() != n_vocab {
        return Err(TextError::LengthMismatch {
            key: SCORES,
            expected: n_vocab,
            found: scores.len(),
        });
    }
    let checked = |(id, &score): (usize, &f32)| {
        // Adding zero makes the two zeros one.
        if score.is_nan() {
            Err(TextError::Score { id: id as u32 })
        } else {
            Ok(score + 0.0)
        }
    };
    scores.iter().enumerate().map(checked).collect()
}

/// The ids the file names, and control tokens that are known to end a turn.
fn end_of_generation(vocab: &Vocab, ids: &SpecialIds) -> Vec<u32> {
    let mut ends: Vec<u32> = [ids.eos, ids.eot, ids.eom].into_iter().flatten().collect();
    let is_known = |id: &u32| {
        vocab.kind(*id) == Some(TokenType::Control)
            && vocab
                .piece(*id)
                .is_some_and(|piece| KNOWN_ENDS.iter().any(|known| known.as_bytes() == piece))
    };
    ends.extend((0..vocab.len() as u32).filter(is_known));
    ends.sort_unstable();
    ends.dedup();
    ends
}
