//! Tokens to text as a stream.
//!
//! A token may end in the middle of a character. What is not whole yet is held back until the next token completes
//! it or proves it broken; broken bytes become U+FFFD, as they would if the whole text were decoded at once.

use crate::tokenizer::Tokenizer;

/// Turns tokens into text one by one.
///
/// However the tokens are spread over calls, the texts together are the lossy UTF-8 reading of
/// [`Tokenizer::decode`].
#[derive(Debug)]
pub struct Detokenizer<'a> {
    tokenizer: &'a Tokenizer,
    /// The beginning of a character whose rest has not come yet; at most three bytes.
    tail: Vec<u8>,
    text: String,
    strips_space: bool,
}

impl<'a> Detokenizer<'a> {
    /// For tokens that begin a text: the space that some tokenizers put in front is taken away.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            strips_space: tokenizer.strips_first_space(),
            ..Self::continuing(tokenizer)
        }
    }

    /// For tokens that continue a text: a leading space belongs to it.
    pub fn continuing(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            tail: Vec::new(),
            text: String::new(),
            strips_space: false,
        }
    }

    /// Takes one token and returns what became readable by it, often nothing.
    pub fn push(&mut self, id: u32) -> &str {
        let tokenizer = self.tokenizer;
        let piece = tokenizer.next_piece(id, &mut self.strips_space);
        self.text.clear();
        self.tail.extend_from_slice(piece);
        let held = append_lossy(&self.tail, &mut self.text);
        self.tail.drain(..self.tail.len() - held);
        &self.text
    }

    /// Ends the text: what is still held back can no longer become a character.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.tail.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.tail.clear();
        }
        &self.text
    }
}

/// Appends what is readable and returns the length of the unfinished character at the end.
fn append_lossy(bytes: &[u8], out: &mut String) -> usize {
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        out.push_str(chunk.valid());
        if chunk.invalid().is_empty() {
            continue;
        }
        let is_last = chunks.peek().is_none();
        if is_last && is_unfinished(chunk.invalid()) {
            return chunk.invalid().len();
        }
        out.push(char::REPLACEMENT_CHARACTER);
    }
    0
}

/// Whether more bytes could make these a character.
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
