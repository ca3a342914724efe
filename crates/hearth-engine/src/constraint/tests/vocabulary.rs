//! A vocabulary that makes life hard, and a writer that draws from what is allowed.

use std::sync::{Arc, OnceLock};

use hearth_gguf::{Array, Gguf, GgufWriter, Value};
use hearth_text::Tokenizer;

use crate::constraint::{Constraint, ConstraintError, Grammars};

/// Tokens beside the 256 bytes: pieces of JSON that cross its borders, digits, words, halves of markers.
const WORDS: &[&str] = &[
    "{\"",
    "\":",
    "\",",
    "\"}",
    "\": ",
    "\": \"",
    "\", \"",
    "\"]",
    "[\"",
    "{}",
    "[]",
    "[[",
    "]]",
    "}}",
    "\"\"",
    ",\"",
    "},",
    "],",
    "\\\"",
    "\\\\",
    "\\n",
    "\\u",
    "\\u00",
    "  ",
    "\n ",
    "\n\n",
    "\n",
    ", ",
    ": ",
    " {",
    "true",
    "false",
    "null",
    "tru",
    "12",
    "00",
    "0.",
    ".5",
    "-1",
    "e1",
    "99",
    "123",
    "a",
    "b",
    "ab",
    "abc",
    "th",
    "the",
    "value",
    "prop",
    "erty_",
    "\u{e9}",
    "\u{4e2d}",
    "\u{1f600}",
    "\":{\"",
    "\":[",
    "\":1,\"",
    "</",
    "think",
    ">",
    ">\n\n",
    ">x",
    "<tool",
    "_call>",
    "call>\n",
    "name",
    "arguments",
    "\"name\"",
    "\"arguments\"",
    "-01",
    "T0",
    "Z\"",
    "@x.",
    ".com",
    "://",
];

/// Control tokens, which stand for no text, and user-defined ones, which do.
const SPECIAL: &[(&str, i32)] = &[
    ("<s>", 3),
    ("</s>", 3),
    ("<|end|>", 3),
    ("[CALL]", 3),
    ("<think>", 4),
    ("</think>", 4),
    ("<tool_call>", 4),
];

/// The tokenizer, built once.
pub(super) fn tokenizer() -> &'static Arc<Tokenizer> {
    static TOKENIZER: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let mut tokens = vec!["<unk>".to_owned()];
        let mut types = vec![2];
        for (text, kind) in SPECIAL {
            tokens.push((*text).to_owned());
            types.push(*kind);
        }
        tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        types.extend([6; 256]);
        tokens.extend(WORDS.iter().map(|word| word.replace(' ', "\u{2581}")));
        types.extend(WORDS.iter().map(|_| 1));
        let scores: Vec<f32> = (0..tokens.len()).map(|index| -(index as f32)).collect();
        let keys = [
            ("general.architecture", Value::String("test".to_owned())),
            ("tokenizer.ggml.model", Value::String("llama".to_owned())),
            (
                "tokenizer.ggml.tokens",
                Value::Array(Array::String(tokens.iter().collect())),
            ),
            ("tokenizer.ggml.token_type", Value::from(types)),
            ("tokenizer.ggml.scores", Value::from(scores)),
            ("tokenizer.ggml.bos_token_id", Value::from(1_u32)),
            ("tokenizer.ggml.eos_token_id", Value::from(2_u32)),
            ("tokenizer.ggml.eot_token_id", Value::from(3_u32)),
            ("tokenizer.ggml.unknown_token_id", Value::from(0_u32)),
        ];
        let mut writer = GgufWriter::new();
        for (key, value) in keys {
            writer.add_value(key, value).expect("keys are new");
        }
        let file = writer
            .begin(Vec::new())
            .and_then(|writer| writer.finish())
            .expect("it fits");
        let gguf = Gguf::from_vec(file).expect("it was written here");
        Arc::new(Tokenizer::from_metadata(gguf.metadata()).expect("it is whole"))
    })
}

/// Grammars for it, built once.
pub(in crate::constraint) fn grammars() -> &'static Grammars {
    static GRAMMARS: OnceLock<Grammars> = OnceLock::new();
    GRAMMARS.get_or_init(|| Grammars::new(tokenizer()))
}

/// How a token is drawn from those that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// All alike.
    Any,
    /// The end as soon as it may come, else all alike.
    Short,
    /// The end only when nothing else may come.
    Long,
    /// Tokens with a quotation mark or a bracket rather than others.
    Quotes,
    /// Blanks wherever they may come.
    Blanks,
}

/// Writes an answer of at most `max` tokens; says whether it ended.
pub(super) fn write(
    constraint: Constraint,
    draw: Draw,
    seed: u64,
    max: usize,
) -> Result<(String, bool), ConstraintError> {
    write_behind(constraint, "", draw, seed, max)
}

/// The same behind a beginning, every token of which must be allowed.
pub(super) fn write_behind(
    mut constraint: Constraint,
    beginning: &str,
    draw: Draw,
    seed: u64,
    max: usize,
) -> Result<(String, bool), ConstraintError> {
    let tokenizer = tokenizer();
    let mut random = Random(seed);
    let mut bytes = Vec::new();
    for token in tokens(beginning) {
        assert!(
            allowed(&mut constraint)?.contains(&token),
            "{token} of {beginning:?} is not allowed"
        );
        constraint.take(token)?;
        bytes.extend_from_slice(tokenizer.piece(token).unwrap_or_default());
    }
    for _ in 0..max {
        let token = next(&mut constraint, draw, &mut random)?;
        let must_end = constraint.must_end();
        constraint.take(token)?;
        if tokenizer.is_end_of_generation(token) {
            return Ok((text(bytes), true));
        }
        assert!(!must_end, "it must end, and {token} was allowed");
        bytes.extend_from_slice(tokenizer.piece(token).unwrap_or_default());
    }
    Ok((text(bytes), false))
}

/// The token of exactly this text.
pub(super) fn token(text: &str) -> u32 {
    let mut all = 0..tokenizer().n_vocab() as u32;
    all.find(|&token| tokenizer().piece(token) == Some(text.as_bytes()))
        .expect(text)
}

/// The tokens of a text, control tokens among them.
pub(super) fn tokens(text: &str) -> Vec<u32> {
    let how = hearth_text::Encode {
        add_special: false,
        parse_special: true,
    };
    let tokens = tokenizer().encode(text, how);
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|&token| tokenizer().piece(token).unwrap_or_default())
        .copied()
        .collect();
    // Some vocabularies put a space in front.
    assert_eq!(
        String::from_utf8_lossy(&bytes).trim_start(),
        text.trim_start()
    );
    match bytes.len() > text.len() {
        true => text.bytes().map(byte_token).collect(),
        false => tokens,
    }
}

fn byte_token(byte: u8) -> u32 {
    1 + SPECIAL.len() as u32 + u32::from(byte)
}

/// Free text may be anything, also what is no UTF-8.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The tokens that may come next.
pub(super) fn allowed(constraint: &mut Constraint) -> Result<Vec<u32>, ConstraintError> {
    let mut logits = vec![0.0_f32; tokenizer().n_vocab()];
    constraint.apply(&mut logits)?;
    Ok((0..logits.len() as u32)
        .filter(|&token| logits[token as usize] == 0.0)
        .collect())
}

fn next(
    constraint: &mut Constraint,
    draw: Draw,
    random: &mut Random,
) -> Result<u32, ConstraintError> {
    let tokenizer = tokenizer();
    let allowed = allowed(constraint)?;
    let is_end = |token: &u32| tokenizer.is_end_of_generation(*token);
    let has_mark = |token: &u32| {
        tokenizer
            .piece(*token)
            .is_some_and(|piece| piece.iter().any(|byte| b"\"]}".contains(byte)))
    };
    let is_blank = |token: &u32| {
        let piece = tokenizer.piece(*token).unwrap_or_default();
        !piece.is_empty() && piece.trim_ascii().is_empty()
    };
    let preferred: Vec<u32> = match draw {
        Draw::Any => Vec::new(),
        Draw::Blanks => allowed.iter().copied().filter(is_blank).collect(),
        Draw::Short => allowed.iter().copied().filter(is_end).collect(),
        Draw::Long => allowed
            .iter()
            .copied()
            .filter(|token| !is_end(token))
            .collect(),
        Draw::Quotes if random.below(4) > 0 => allowed
            .iter()
            .copied()
            .filter(|token| has_mark(token) || is_end(token))
            .collect(),
        Draw::Quotes => Vec::new(),
    };
    let from = if preferred.is_empty() {
        &allowed
    } else {
        &preferred
    };
    assert!(!from.is_empty(), "nothing is allowed");
    Ok(from[random.below(from.len())])
}

/// A generator of which nothing is asked but that it repeats itself.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % n as u64) as usize
    }
}
