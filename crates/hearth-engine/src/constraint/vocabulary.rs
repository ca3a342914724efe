//! A model's tokens as the grammar's parser wants them: a tree of byte strings.
//!
//! Tokens that end an answer and tokens that stand for no text are kept out of the tree's text: a grammar meets them
//! by their id or not at all. Building takes a third of a second and 40 MiB for 152,000 tokens, so it is done beside
//! other work or waits for the first request that needs it.

use std::sync::Arc;

use hearth_text::Tokenizer;
use llguidance::{
    ParserFactory,
    api::{GrammarInit, ParserLimits},
    toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie},
};

use super::{builder::Builder, builder::Node, error::ConstraintError};

/// First byte of what is no text in the tree; it is never part of UTF-8.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// Sets of tokens that are looked at as one: most of a vocabulary may come inside of a string or not at all.
///
/// The library proposes four. Its set of blanks is never taken whole, as ours are few, and its set of short words took a third
/// of the time to build and made no mask faster.
fn slices() -> [String; 2] {
    [r#"[^"\\\x00-\x1F\x7F]{1,30}"#, r#"[^"\\\x00-\x1F\x7F]+"#].map(str::to_owned)
}

/// Work the parser may do, in its own units. They count steps, not time, so hitting one is the same on every machine.
///
/// The library's defaults fail on grammars that a slow step would still get through; these let a step take about a
/// tenth of a second before the answer fails.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 20_000,
        initial_lexer_fuel: 5_000_000,
        step_lexer_fuel: 2_000_000,
        step_max_items: 1_000_000,
        max_lexer_states: 50_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

/// The tokens of a model, ready for grammars.
pub(super) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    factory: ParserFactory,
    /// Control tokens with a text, longest first, for finding them in a marker.
    control: Vec<(Vec<u8>, u32)>,
    /// Tokens that have one quotation mark in them at least, and those that have two.
    quoting: [Vec<u32>; 2],
}

impl Vocabulary {
    pub(super) fn new(tokenizer: &Arc<Tokenizer>) -> Result<Self, ConstraintError> {
        let words: Vec<Vec<u8>> = (0..tokenizer.n_vocab() as u32)
            .map(|id| word(tokenizer, id))
            .collect();
        let ends = tokenizer.end_of_generation();
        let Some(&end) = ends.first() else {
            return Err(ConstraintError::Vocabulary {
                problem: "it has no token that ends an answer".to_owned(),
            });
        };
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        let trie = trie.with_eos_tokens(ends);
        // Not canonical: any way of cutting a text into tokens is allowed, and nothing is written in the model's place.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new(&environment, InferenceCapabilities::default(), &slices()).map_err(
                |error| ConstraintError::Vocabulary {
                    problem: error.to_string(),
                },
            )?;
        *factory.quiet().limits_mut() = limits();
        Ok(Vocabulary {
            control: control_texts(tokenizer),
            tokenizer: Arc::clone(tokenizer),
            factory,
            quoting: [quoting(&words, 1), quoting(&words, 2)],
        })
    }

    /// A parser at the beginning of a grammar.
    pub(super) fn matcher(
        &self,
        language: &'static str,
        grammar: GrammarInit,
    ) -> Result<llguidance::Matcher, ConstraintError> {
        let parser = self
            .factory
            .create_parser_from_init_default(grammar)
            .map_err(|error| ConstraintError::grammar(language, error))?;
        Ok(llguidance::Matcher::new(Ok(parser)))
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.tokenizer.n_vocab()
    }

    /// All tokens at which an answer ends.
    pub(super) fn ends(&self) -> &[u32] {
        self.tokenizer.end_of_generation()
    }

    /// Whether an answer ends at this token.
    pub(super) fn is_end(&self, token: u32) -> bool {
        self.tokenizer.is_end_of_generation(token)
    }

    /// What a token stands for; the own text of one that stands for none.
    pub(super) fn text(&self, token: u32) -> &[u8] {
        self.tokenizer.piece(token).unwrap_or_default()
    }

    /// Tokens of text that have one quotation mark in them at least, or two.
    pub(super) fn quoting(&self, n_quotes: usize) -> &[u32] {
        &self.quoting[usize::from(n_quotes > 1)]
    }

    /// A text that may name control tokens: they are expected as such, the rest as text.
    pub(super) fn marker(
        &self,
        builder: &mut Builder,
        text: &str,
    ) -> Result<Node, ConstraintError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some((at, length, id)) = self.next_control(rest) else {
                parts.push(builder.literal(rest)?);
                break;
            };
            if at > 0 {
                parts.push(builder.literal(&rest[..at])?);
            }
            parts.push(builder.control_token(id)?);
            rest = &rest[at + length..];
        }
        Ok(builder.join(&parts))
    }

    fn next_control(&self, text: &str) -> Option<(usize, usize, u32)> {
        self.control
            .iter()
            .filter_map(|(piece, id)| {
                let piece = std::str::from_utf8(piece).ok()?;
                Some((text.find(piece)?, piece.len(), *id))
            })
            .min_by_key(|&(at, length, id)| (at, std::cmp::Reverse(length), id))
    }
}

/// What the tree holds for a token: its bytes, or the marker and its text, or nothing for what must never come.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let piece = tokenizer.piece(id).unwrap_or_default();
    if tokenizer.is_control(id) || tokenizer.is_end_of_generation(id) {
        return [&[MARKER], piece].concat();
    }
    let is_unknown = tokenizer.unknown() == Some(id);
    // A piece that begins with the marker's byte would be taken for a control token; no text begins so.
    if is_unknown || (piece.first() == Some(&MARKER) && piece.len() > 1) {
        return Vec::new();
    }
    piece.to_vec()
}

fn quoting(words: &[Vec<u8>], n_quotes: usize) -> Vec<u32> {
    let n_in = |word: &Vec<u8>| word.iter().filter(|&&byte| byte == b'"').count();
    (0..words.len() as u32)
        .filter(|&id| {
            let word = &words[id as usize];
            word.first() != Some(&MARKER) && n_in(word) >= n_quotes
        })
        .collect()
}

fn control_texts(tokenizer: &Tokenizer) -> Vec<(Vec<u8>, u32)> {
    (0..tokenizer.n_vocab() as u32)
        .filter(|&id| tokenizer.is_control(id))
        .map(|id| (tokenizer.piece(id).unwrap_or_default().to_vec(), id))
        .filter(|(piece, _)| !piece.is_empty())
        .collect()
}
