//! Finds special tokens inside a text.

use super::vocab::{TokenType, Vocab};

/// Longest special token that is looked for in a text. Matching costs up to this much per byte of text; the longest
/// in use have well under 100 bytes.
pub(super) const LONGEST: usize = 1024;

/// A stretch of input: plain text or one token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a [u8]),
    Token(u32),
}

/// The tokens that are matched as a whole, sorted by their bytes.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    ids: Vec<u32>,
    /// Whether some token begins with this byte: most positions of a text need no further look.
    is_first: [bool; 256],
    /// Special tokens above [`LONGEST`], which are left out.
    pub(super) n_too_long: usize,
}

impl SpecialTokens {
    /// Collects user-defined tokens, always matched, and control tokens, matched when the caller asks for it.
    pub(super) fn new(vocab: &Vocab) -> Self {
        let is_special = |id: &u32| {
            let kind = vocab.kind(*id);
            let special = [
                TokenType::Control,
                TokenType::UserDefined,
                TokenType::Unknown,
            ];
            kind.is_some_and(|k| special.contains(&k))
                && vocab.piece(*id).is_some_and(|p| !p.is_empty())
        };
        let mut ids: Vec<u32> = (0..vocab.len() as u32).filter(is_special).collect();
        let n_special = ids.len();
        ids.retain(|&id| vocab.piece(id).is_some_and(|p| p.len() <= LONGEST));
        let n_too_long = n_special - ids.len();
        ids.sort_by_key(|&id| (vocab.piece(id), id));
        drop_repeated(vocab, &mut ids);
        let mut is_first = [false; 256];
        for &id in &ids {
            if let Some(&byte) = vocab.piece(id).and_then(<[u8]>::first) {
                is_first[usize::from(byte)] = true;
            }
        }
        Self {
            ids,
            is_first,
            n_too_long,
        }
    }

    /// Cuts a text at its special tokens: the leftmost first, the longest where several begin.
    pub(super) fn split<'a>(
        &self,
        vocab: &Vocab,
        text: &'a [u8],
        parse_control: bool,
    ) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let (mut plain_from, mut at) = (0, 0);
        while at < text.len() {
            if !self.is_first[usize::from(text[at])] {
                at += 1;
                continue;
            }
            let Some((id, length)) = self.longest_at(vocab, &text[at..], parse_control) else {
                at += 1;
                continue;
            };
            if plain_from < at {
                parts.push(Part::Text(&text[plain_from..at]));
            }
            parts.push(Part::Token(id));
            at += length;
            plain_from = at;
        }
        if plain_from < text.len() {
            parts.push(Part::Text(&text[plain_from..]));
        }
        parts
    }

    /// Walks the sorted list byte by byte, keeping the range of tokens that still agree with the text.
    fn longest_at(&self, vocab: &Vocab, text: &[u8], parse_control: bool) -> Option<(u32, usize)> {
        let piece = |id: u32| vocab.piece(id).unwrap_or_default();
        let mut range = self.ids.as_slice();
        let mut best = None;
        for (depth, &byte) in text.iter().enumerate() {
            let from = range.partition_point(|&id| piece(id).get(depth).is_none_or(|&b| b < byte));
            let to = range.partition_point(|&id| piece(id).get(depth).is_none_or(|&b| b <= byte));
            range = &range[from..to];
            // Of those that agree, the ones that end here come first, the lowest id in front; two at most.
            let complete = range.iter().take_while(|&&id| piece(id).len() == depth + 1);
            let mut allowed = complete
                .filter(|&&id| parse_control || vocab.kind(id) == Some(TokenType::UserDefined));
            if let Some(&id) = allowed.next() {
                best = Some((id, depth + 1));
            }
            if range.is_empty() {
                break;
            }
        }
        best
    }
}

/// Of tokens with one text only the first user-defined and the first other one can ever match: the rest go, since a
/// file may repeat one text any number of times.
fn drop_repeated(vocab: &Vocab, ids: &mut Vec<u32>) {
    let (mut text, mut seen) = (None, [false; 2]);
    ids.retain(|&id| {
        let piece = vocab.piece(id);
        if piece != text {
            (text, seen) = (piece, [false; 2]);
        }
        let class = usize::from(vocab.kind(id) == Some(TokenType::UserDefined));
        !std::mem::replace(&mut seen[class], true)
    });
}
