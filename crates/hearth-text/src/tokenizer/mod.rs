//! Tokenizers, built from the metadata of a GGUF file.
//!
//! Three algorithms are in use: byte-level BPE (`gpt2`), SentencePiece-style BPE (`llama`) and WordPiece (`bert`).
//! All work on bytes, so a prompt that is not UTF-8 loses nothing where the vocabulary has all bytes.
//!
//! Why no tokenizer library: input is bytes, not text; SentencePiece models come as scores, not as merges; and
//! loading must stay fast and bounded on a file that wants neither.

mod bpe;
mod byte_map;
mod error;
mod keys;
mod load;
mod meta;
mod pre;
mod special;
mod spm;
mod vocab;
mod wordpiece;

#[cfg(test)]
mod tests;

pub use error::TextError;

use hearth_gguf::Metadata;
use special::{Part, SpecialTokens};
use vocab::{TokenType, Vocab};

/// How a text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encode {
    /// Add the tokens the model wants around a text: beginning, end, separator.
    pub add_special: bool,
    /// Read the text of a control token as that token. Off, such text is plain text.
    pub parse_special: bool,
}

impl Default for Encode {
    /// A prompt: special tokens added, none read from the text.
    fn default() -> Self {
        Self {
            add_special: true,
            parse_special: false,
        }
    }
}

/// A vocabulary and the way of cutting text into it.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    special: SpecialTokens,
    algorithm: Algorithm,
    ids: SpecialIds,
    is_end: Vec<u32>,
    notices: Vec<String>,
}

#[derive(Debug)]
enum Algorithm {
    Bpe(Box<bpe::Bpe>),
    Spm(Box<spm::Spm>),
    WordPiece(Box<wordpiece::WordPiece>),
}

/// The tokens before each part of a text with a gap, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Infill {
    /// Before the text in front of the gap.
    pub prefix: u32,
    /// Before the text behind it.
    pub suffix: u32,
    /// Before what the model writes.
    pub middle: u32,
}

/// The ids a file names, and what is added around a text.
#[derive(Debug, Clone, Default)]
struct SpecialIds {
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    eom: Option<u32>,
    unknown: Option<u32>,
    separator: Option<u32>,
    padding: Option<u32>,
    infill: Option<Infill>,
    adds_bos: bool,
    adds_eos: bool,
    adds_space: bool,
}

impl Tokenizer {
    /// Builds the tokenizer a model file describes.
    ///
    /// # Errors
    /// The file's tokenizer is of a kind we do not have, or broken; the error names the key, token or merge.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TextError> {
        load::load(metadata)
    }

    /// Tokens of a text.
    pub fn encode(&self, text: &str, how: Encode) -> Vec<u32> {
        self.encode_bytes(text.as_bytes(), how)
    }

    /// Tokens of bytes that need not be text.
    pub fn encode_bytes(&self, text: &[u8], how: Encode) -> Vec<u32> {
        let mut out = Vec::new();
        if how.add_special && self.ids.adds_bos {
            out.extend(self.ids.bos);
        }
        // A space goes in front of a text at the beginning and after every control token. User-defined tokens are
        // words among words, and a space after them would not go away again.
        let mut needs_space = self.ids.adds_space;
        for part in self.special.split(&self.vocab, text, how.parse_special) {
            match part {
                Part::Token(id) => {
                    out.push(id);
                    needs_space = self.ids.adds_space && self.is_control(id);
                }
                Part::Text(text) => {
                    self.encode_text(text, needs_space, &mut out);
                    needs_space = false;
                }
            }
        }
        if how.add_special && self.ids.adds_eos {
            // WordPiece models end in their separator where they have no end.
            out.extend(self.end_token());
        }
        out
    }

    fn end_token(&self) -> Option<u32> {
        match self.algorithm {
            Algorithm::WordPiece(_) => self.ids.separator.or(self.ids.eos),
            _ => self.ids.eos,
        }
    }

    fn encode_text(&self, text: &[u8], with_space: bool, out: &mut Vec<u32>) {
        match &self.algorithm {
            Algorithm::Bpe(bpe) => bpe.encode(&self.vocab, text, out),
            Algorithm::WordPiece(wordpiece) => wordpiece.encode(&self.vocab, text, out),
            Algorithm::Spm(spm) if with_space => {
                spm.encode(&self.vocab, &[b" ", text].concat(), out)
            }
            Algorithm::Spm(spm) => spm.encode(&self.vocab, text, out),
        }
    }

    /// Bytes a token stands for; a special token's own text. `None` when there is no such token.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        self.vocab.piece(id)
    }

    /// The text of a whole sequence, as bytes. Control and unknown tokens, and ids that are none, give nothing.
    pub fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut strips_space = self.strips_first_space();
        for &id in tokens {
            out.extend_from_slice(self.next_piece(id, &mut strips_space));
        }
        out
    }

    /// What a token adds inside a text: nothing if it is a control or unknown token or none at all.
    pub fn text_of(&self, id: u32) -> &[u8] {
        match self.vocab.kind(id) {
            Some(TokenType::Control | TokenType::Unknown) | None => &[],
            Some(_) => self.vocab.piece(id).unwrap_or_default(),
        }
    }

    /// What a token adds to a text; the first one that adds something loses the space encoding put there.
    pub(crate) fn next_piece(&self, id: u32, strips_space: &mut bool) -> &[u8] {
        let piece = self.text_of(id);
        if piece.is_empty() || !std::mem::replace(strips_space, false) {
            return piece;
        }
        // No space is put in front of a user-defined token, so one at its beginning is its own.
        match self.vocab.kind(id) {
            Some(TokenType::UserDefined) => piece,
            _ => piece.strip_prefix(b" ").unwrap_or(piece),
        }
    }

    /// Whether the first space of a text was put there by the tokenizer.
    pub(crate) fn strips_first_space(&self) -> bool {
        self.ids.adds_space || matches!(self.algorithm, Algorithm::WordPiece(_))
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.vocab.len()
    }

    /// Token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.ids.bos
    }

    /// Token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.ids.eos
    }

    /// Token that ends a turn of a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.ids.eot
    }

    /// Token that ends a message which a tool will answer.
    pub fn eom(&self) -> Option<u32> {
        self.ids.eom
    }

    /// Token for what the vocabulary cannot spell.
    pub fn unknown(&self) -> Option<u32> {
        self.ids.unknown
    }

    /// Token between two texts.
    pub fn separator(&self) -> Option<u32> {
        self.ids.separator
    }

    /// Token that fills up a batch.
    pub fn padding(&self) -> Option<u32> {
        self.ids.padding
    }

    /// Tokens that ask for the text between two others, for models that were trained to fill in.
    pub fn infill(&self) -> Option<Infill> {
        self.ids.infill
    }

    /// Whether special tokens begin with `bos`.
    pub fn adds_bos(&self) -> bool {
        self.ids.adds_bos && self.ids.bos.is_some()
    }

    /// Whether special tokens end with `eos`.
    pub fn adds_eos(&self) -> bool {
        self.ids.adds_eos && self.end_token().is_some()
    }

    /// Whether generation stops at this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.is_end.binary_search(&id).is_ok()
    }

    /// All tokens at which generation stops, ascending.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.is_end
    }

    /// Whether a token is a control token, which stands for no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.kind(id) == Some(TokenType::Control)
    }

    /// Whether a token is matched as a whole: control, user-defined or unknown.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(
            self.vocab.kind(id),
            Some(TokenType::Control | TokenType::UserDefined | TokenType::Unknown)
        )
    }

    /// What was odd about the file and how it was read, for the user to see.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}
