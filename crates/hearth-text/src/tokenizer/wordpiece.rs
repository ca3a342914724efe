//! WordPiece: words cut at spaces and punctuation, each spelled by the longest tokens from left to right.
//!
//! Lower-casing models see letters without their accents: of each character's decomposition only the base is kept.
//! For Hangul that leaves the first sound of a syllable, as other programs read these files; the tokenizer such a
//! model was trained with keeps all of them. Vectors already stored by those programs decide for the former.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

use super::vocab::Vocab;

/// A longer word becomes one unknown token, as in the reference.
const MAX_WORD_CHARS: usize = 100;

static MARKS: LazyLock<Regex> = LazyLock::new(|| compile(r"\p{Mn}+"));

/// Punctuation, all other ASCII symbols, and ideographs are words of one character.
static SINGLE: LazyLock<Regex> = LazyLock::new(|| {
    compile(concat!(
        r"[\p{P}!-/:-@\[-`{-~\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}",
        r"\x{2B740}-\x{2B81F}\x{2B920}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]"
    ))
});

/// Control characters but those that separate words.
static DROPPED: LazyLock<Regex> =
    LazyLock::new(|| compile(r"[\x{0}\x{FFFD}\p{Cc}\p{Cf}\p{Co}\p{Cn}&&[^\t\n\r]]+"));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is constant and valid")
}

/// Everything but the vocabulary. Tokens that begin a word carry a leading space in the vocabulary.
#[derive(Debug)]
pub(super) struct WordPiece {
    pub(super) unknown: Option<u32>,
    pub(super) lowercase: bool,
}

impl WordPiece {
    pub(super) fn encode(&self, vocab: &Vocab, text: &[u8], out: &mut Vec<u32>) {
        let text = String::from_utf8_lossy(text);
        let text = DROPPED.replace_all(&text, "");
        let normal: String = if self.lowercase {
            let bases: String = text
                .chars()
                .filter_map(|c| std::iter::once(c).nfd().next())
                .collect();
            MARKS.replace_all(&bases, "").to_lowercase()
        } else {
            text.into_owned()
        };
        for chunk in normal.split_whitespace() {
            let mut at = 0;
            for symbol in SINGLE.find_iter(chunk) {
                self.encode_word(vocab, &chunk[at..symbol.start()], out);
                self.encode_word(vocab, symbol.as_str(), out);
                at = symbol.end();
            }
            self.encode_word(vocab, &chunk[at..], out);
        }
    }

    fn encode_word(&self, vocab: &Vocab, word: &str, out: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let first = out.len();
        if word.chars().count() > MAX_WORD_CHARS || !spell(vocab, word, out) {
            out.truncate(first);
            out.extend(self.unknown);
        }
    }
}

/// Appends the tokens of a word; false when some part of it has none.
fn spell(vocab: &Vocab, word: &str, out: &mut Vec<u32>) -> bool {
    let spaced = format!(" {word}");
    let mut at = 0;
    while at < spaced.len() {
        let longest = spaced.len().min(at + vocab.longest);
        let ends = (at + 1..=longest)
            .rev()
            .filter(|&end| spaced.is_char_boundary(end));
        let Some((end, id)) = ends
            .filter_map(|end| Some((end, vocab.find(&spaced.as_bytes()[at..end])?)))
            .next()
        else {
            return false;
        };
        // A lone space is no spelling of a word's beginning.
        if at == 0 && end == 1 {
            return false;
        }
        out.push(id);
        at = end;
    }
    true
}
