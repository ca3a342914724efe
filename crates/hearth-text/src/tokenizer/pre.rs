//! Pre-tokenizers: how text is cut into words before bytes are merged.
//!
//! Each is a list of patterns. The first cuts the text into matches and gaps, the next cuts each of these again.
//! The originals end in `\s+(?!\S)|\s+`: a run of spaces leaves its last one to the word that follows. Our matcher
//! is linear and has no look-ahead, so the patterns end in plain `\s+` and the last space is given back here.
//!
//! Sources: the `tokenizer.json` files of the model families; names as llama.cpp's converter writes them.

use std::sync::{Arc, Mutex, PoisonError};

use regex::bytes::Regex;

use super::error::TextError;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const QWEN2: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const QWEN35: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
);
const DEEPSEEK_V3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"
);
/// The cased letters of the original, by code point: several look alike and editors change them.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-z",
    r"\x{00B5}\x{00C0}-\x{00D6}\x{00D8}-\x{00F6}\x{00F8}-\x{01BA}\x{01BC}-\x{01BF}\x{01C4}-\x{0293}",
    r"\x{0295}-\x{02AF}\x{0370}-\x{0373}\x{0376}\x{0377}\x{037B}-\x{037D}\x{037F}\x{0386}",
    r"\x{0388}-\x{038A}\x{038C}\x{038E}-\x{03A1}\x{03A3}-\x{03F5}\x{03F7}-\x{0481}\x{048A}-\x{052F}",
    r"\x{0531}-\x{0556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}",
    r"\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}",
    r"\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
    r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}",
    r"\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}",
    r"\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}",
    r"\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}",
    r"\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}",
    r"\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}",
    r"\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}",
    r"\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}",
    r"\x{1E900}-\x{1E943}",
    r"]+"
);

/// What happens to the last space of a run before a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spaces {
    /// The pattern has no rule for it.
    Keep,
    /// A match of spaces only gives its last one back.
    GiveBack,
    /// The same, but a match that ends in a line break came from a rule of its own and stays whole.
    GiveBackUnlessLineEnd,
}

struct Stage {
    pattern: &'static str,
    spaces: Spaces,
}

const fn plain(pattern: &'static str) -> Stage {
    Stage {
        pattern,
        spaces: Spaces::Keep,
    }
}

const fn words(pattern: &'static str) -> Stage {
    Stage {
        pattern,
        spaces: Spaces::GiveBackUnlessLineEnd,
    }
}

const GPT2_STAGE: Stage = Stage {
    pattern: GPT2,
    spaces: Spaces::GiveBack,
};

/// The stages of a named pre-tokenizer and whether a word that is a token is taken whole, without merging.
fn stages(name: &str) -> Option<(Vec<Stage>, bool)> {
    let (stages, ignore_merges) = match name {
        "default" => (
            vec![
                plain(r"[\p{P}\$\+<=>\^~\|]+"),
                GPT2_STAGE,
                plain(r"\p{N}+"),
                plain("[0-9][0-9][0-9]"),
            ],
            false,
        ),
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling"
        | "exaone4" | "roberta-bpe" | "modern-bert" | "jina-es" | "jina-de" | "jina-v1-en"
        | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" | "gigachat" | "a.x-4.0" | "mellum" => {
            (vec![GPT2_STAGE], false)
        }
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" => (vec![words(LLAMA3)], true),
        "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" => (vec![words(LLAMA3)], false),
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "hunyuan" | "megrez" | "kormo" => {
            (vec![words(QWEN2)], false)
        }
        "qwen35" => (vec![words(QWEN35)], false),
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" => {
            (vec![plain(r"\p{N}"), GPT2_STAGE], false)
        }
        "falcon" => (
            vec![
                plain(r"[\p{P}\$\+<=>\^~\|`]+"),
                GPT2_STAGE,
                plain("[0-9][0-9][0-9]"),
            ],
            false,
        ),
        "deepseek-llm" => (
            vec![
                plain(r"[\r\n]"),
                plain(DEEPSEEK_LETTERS),
                plain(
                    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+",
                ),
                plain(r"\s+$"),
                plain(r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+"),
                plain(r"\p{N}+"),
            ],
            false,
        ),
        "deepseek-coder" => (
            vec![
                plain(r"[\r\n]"),
                plain(r"\s?\p{L}+"),
                plain(r"\s?\p{P}+"),
                plain(r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+"),
                plain(r"\p{N}"),
            ],
            false,
        ),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => (
            vec![
                plain(r"\p{N}{1,3}"),
                plain(r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"),
                words(DEEPSEEK_V3),
            ],
            false,
        ),
        "tekken" => (vec![words(TEKKEN)], true),
        "gpt-4o" | "llama4" | "kanana2" => (vec![words(GPT4O)], false),
        _ => return None,
    };
    Some((stages, ignore_merges))
}

/// A compiled pre-tokenizer.
#[derive(Debug, Clone)]
pub(super) struct PreTokenizer {
    stages: Arc<[(Regex, Spaces)]>,
    ignore_merges: bool,
}

/// Those compiled so far: it takes milliseconds, and models of a process often share one.
static COMPILED: Mutex<Vec<(String, PreTokenizer)>> = Mutex::new(Vec::new());

impl PreTokenizer {
    /// The one of this name; compiled when it is asked for the first time.
    ///
    /// # Errors
    /// There is none of this name.
    pub(super) fn named(name: &str) -> Result<Self, TextError> {
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = compiled.iter().find(|(known, _)| known == name) {
            return Ok(found.clone());
        }
        let (stages, ignore_merges) =
            stages(name).ok_or_else(|| TextError::UnknownPreTokenizer {
                name: name.to_owned(),
            })?;
        let compile = |stage: &Stage| {
            let regex = Regex::new(stage.pattern).expect("the patterns are constant and valid");
            (regex, stage.spaces)
        };
        let pre = Self {
            stages: stages.iter().map(compile).collect(),
            ignore_merges,
        };
        compiled.push((name.to_owned(), pre.clone()));
        Ok(pre)
    }

    pub(super) fn ignores_merges(&self) -> bool {
        self.ignore_merges
    }

    /// Calls `take` with each word, in order; the words together are the text.
    pub(super) fn for_each_word<'t>(&self, text: &'t [u8], take: &mut dyn FnMut(&'t [u8])) {
        cut(&self.stages, text, take);
    }
}

fn cut<'t>(stages: &[(Regex, Spaces)], text: &'t [u8], take: &mut dyn FnMut(&'t [u8])) {
    let Some(((regex, spaces), rest)) = stages.split_first() else {
        take(text);
        return;
    };
    let mut at = 0;
    while at < text.len() {
        let Some(found) = regex.find_at(text, at) else {
            break;
        };
        // No pattern matches the empty text, and none looks behind, so each step moves on.
        let end =
            found.start() + length_of_word(found.as_bytes(), found.end() == text.len(), *spaces);
        if at < found.start() {
            cut(rest, &text[at..found.start()], take);
        }
        cut(rest, &text[found.start()..end], take);
        at = end;
    }
    if at < text.len() {
        cut(rest, &text[at..], take);
    }
}

/// How much of a match is kept: all, or all but the last space of a run that a word follows.
fn length_of_word(found: &[u8], is_at_end: bool, spaces: Spaces) -> usize {
    let all = found.len();
    let ends_a_line = matches!(found.last(), Some(b'\r' | b'\n'));
    if is_at_end
        || spaces == Spaces::Keep
        || (ends_a_line && spaces == Spaces::GiveBackUnlessLineEnd)
    {
        return all;
    }
    let Ok(text) = std::str::from_utf8(found) else {
        return all;
    };
    let mut characters = text.char_indices().rev();
    match characters.next() {
        Some((last, c))
            if last > 0 && c.is_whitespace() && text.chars().all(char::is_whitespace) =>
        {
            last
        }
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(name: &str, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        PreTokenizer::named(name)
            .unwrap()
            .for_each_word(text.as_bytes(), &mut |w| {
                out.push(String::from_utf8(w.to_vec()).unwrap());
            });
        out
    }

    #[test]
    fn a_run_of_spaces_leaves_its_last_to_the_word() {
        assert_eq!(words_of("gpt-2", "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(words_of("gpt-2", "a \n\n b"), ["a", " \n\n", " b"]);
        assert_eq!(
            words_of("llama-bpe", "a \n\n  b\t\tc"),
            ["a", " \n\n", " ", " b", "\t", "\tc"]
        );
        assert_eq!(
            words_of("qwen2", "It's 2024!\n"),
            ["It", "'s", " ", "2", "0", "2", "4", "!\n"]
        );
        assert_eq!(words_of("llama-bpe", "x12345"), ["x", "123", "45"]);
    }

    #[test]
    fn words_join_to_the_text_whatever_it_is() {
        let text = "Hello  wörld\u{a0}\u{3000}日本 1234\r\n\n  x'LL ok… 🦙  ";
        let bytes = [text.as_bytes(), b"\xff\xfe a \x80", text.as_bytes()].concat();
        for name in [
            "default",
            "gpt-2",
            "llama-bpe",
            "qwen2",
            "qwen35",
            "starcoder",
            "falcon",
            "deepseek-llm",
            "deepseek-coder",
            "deepseek-v3",
            "tekken",
            "gpt-4o",
            "dbrx",
        ] {
            let mut joined = Vec::new();
            PreTokenizer::named(name)
                .unwrap()
                .for_each_word(&bytes, &mut |w| {
                    assert!(!w.is_empty());
                    joined.extend_from_slice(w);
                });
            assert_eq!(joined, bytes, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = PreTokenizer::named("nonsense").unwrap_err();
        assert_eq!(
            error,
            TextError::UnknownPreTokenizer {
                name: "nonsense".to_owned()
            }
        );
    }
}
