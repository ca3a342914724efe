//! SentencePiece-style BPE: characters merged into the neighbouring pair whose token has the best score, and bytes
//! for what the vocabulary cannot spell.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::vocab::Vocab;

const NONE: usize = usize::MAX;

/// Everything but the vocabulary.
#[derive(Debug)]
pub(super) struct Spm {
    /// Score of each token; finite or infinite, never NaN.
    pub(super) scores: Vec<f32>,
    /// Token of each single byte.
    pub(super) bytes: [Option<u32>; 256],
    pub(super) unknown: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    length: usize,
    previous: usize,
    next: usize,
}

/// A possible merge; the best score first, then the leftmost.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// Length of the two together when it was found; another length means that one of them has changed.
    length: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
            .then(other.length.cmp(&self.length))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl Spm {
    /// Encodes a text. Where no token goes on after a word into a space, no merge does either, so words are
    /// independent and the queues stay short.
    pub(super) fn encode(&self, vocab: &Vocab, text: &[u8], out: &mut Vec<u32>) {
        if vocab.has_space_inside {
            self.encode_run(vocab, text, out);
            return;
        }
        let mut from = 0;
        for at in 1..text.len() {
            if text[at] == b' ' && text[at - 1] != b' ' {
                self.encode_run(vocab, &text[from..at], out);
                from = at;
            }
        }
        self.encode_run(vocab, &text[from..], out);
    }

    fn encode_run(&self, vocab: &Vocab, text: &[u8], out: &mut Vec<u32>) {
        let mut work = Work {
            text,
            symbols: split_characters(text),
            queue: BinaryHeap::new(),
        };
        for i in 1..work.symbols.len() {
            work.offer(self, vocab, i - 1, i);
        }
        while let Some(next) = work.queue.pop() {
            work.apply(self, vocab, next);
        }
        for symbol in work.symbols.iter().filter(|s| s.length > 0) {
            self.emit(
                vocab,
                &text[symbol.start..symbol.start + symbol.length],
                out,
            );
        }
    }

    fn emit(&self, vocab: &Vocab, piece: &[u8], out: &mut Vec<u32>) {
        if let Some(id) = vocab.find(piece) {
            out.push(id);
            return;
        }
        let mut was_unknown = false;
        for &byte in piece {
            match self.bytes[usize::from(byte)] {
                Some(id) => out.push(id),
                // One unknown token per character, not one per byte.
                None if !was_unknown => {
                    was_unknown = true;
                    out.extend(self.unknown);
                }
                None => {}
            }
        }
    }
}

/// Whole characters where the bytes are UTF-8, single bytes where they are not.
fn split_characters(text: &[u8]) -> Vec<Symbol> {
    let mut symbols = Vec::with_capacity(text.len());
    let mut push = |start: usize, length: usize| {
        let i: usize = symbols.len();
        symbols.push(Symbol {
            start,
            length,
            previous: i.wrapping_sub(1),
            next: i + 1,
        });
    };
    let mut at = 0;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(at, c.len_utf8());
            at += c.len_utf8();
        }
        for _ in chunk.invalid() {
            push(at, 1);
            at += 1;
        }
    }
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    symbols
}

struct Work<'a> {
    text: &'a [u8],
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
}

impl Work<'_> {
    fn offer(&mut self, spm: &Spm, vocab: &Vocab, left: usize, right: usize) {
        let start = self.symbols[left].start;
        let length = self.symbols[left].length + self.symbols[right].length;
        if length > vocab.longest {
            return;
        }
        if let Some(id) = vocab.find(&self.text[start..start + length]) {
            let score = spm.scores.get(id as usize).copied().unwrap_or(0.0);
            self.queue.push(Candidate {
                score,
                left,
                right,
                length,
            });
        }
    }

    fn apply(&mut self, spm: &Spm, vocab: &Vocab, next: Candidate) {
        let (left, right) = (self.symbols[next.left], self.symbols[next.right]);
        if left.length == 0 || right.length == 0 || left.length + right.length != next.length {
            return;
        }
        self.symbols[next.right].length = 0;
        self.symbols[next.left].length = next.length;
        self.symbols[next.left].next = right.next;
        if right.next != NONE {
            self.symbols[right.next].previous = next.left;
            self.offer(spm, vocab, next.left, right.next);
        }
        if left.previous != NONE {
            self.offer(spm, vocab, left.previous, next.left);
        }
    }
}
