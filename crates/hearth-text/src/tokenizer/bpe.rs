//! Byte-level BPE: a word's bytes, merged pair by pair in the order the vocabulary learned its merges.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use hearth_gguf::StringArray;

use super::byte_map;
use super::error::TextError;
use super::pre::PreTokenizer;
use super::vocab::{TokenType, Vocab};

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Merge {
    rank: u32,
    id: u32,
}

/// Everything but the vocabulary.
#[derive(Debug)]
pub(super) struct Bpe {
    merges: HashMap<(u32, u32), Merge>,
    /// Token of each single byte.
    bytes: [u32; 256],
    pre: PreTokenizer,
    /// What stands for a byte the vocabulary lacks.
    unknown: Option<u32>,
}

impl Bpe {
    pub(super) fn new(
        vocab: &Vocab,
        merges: &StringArray,
        pre: PreTokenizer,
        unknown: Option<u32>,
    ) -> Result<Self, TextError> {
        let mut table = HashMap::with_capacity(merges.len());
        let mut scratch = Vec::new();
        let mut guess = 0;
        for (index, merge) in merges.iter().enumerate() {
            let (left, right, id) = resolve(vocab, merge, index, guess, &mut scratch)?;
            guess = id.saturating_add(1);
            let rank = u32::try_from(index).unwrap_or(u32::MAX);
            // Of two equal merges the earlier one decides.
            table.entry((left, right)).or_insert(Merge { rank, id });
        }
        let bytes = std::array::from_fn(|byte| vocab.find(&[byte as u8]).unwrap_or(NONE));
        Ok(Self {
            merges: table,
            bytes,
            pre,
            unknown,
        })
    }

    /// Number of bytes that no token stands for.
    pub(super) fn n_missing_bytes(&self) -> usize {
        self.bytes.iter().filter(|&&id| id == NONE).count()
    }

    pub(super) fn encode(&self, vocab: &Vocab, text: &[u8], out: &mut Vec<u32>) {
        let mut work = Work::default();
        self.pre.for_each_word(text, &mut |word| {
            self.encode_word(vocab, word, &mut work, out)
        });
    }

    fn encode_word(&self, vocab: &Vocab, word: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        if self.pre.ignores_merges()
            && let Some(id) = vocab.find(word)
        {
            out.push(id);
            return;
        }
        work.fill(word.iter().map(|&byte| self.bytes[usize::from(byte)]));
        let mut candidates = std::mem::take(&mut work.queue).into_vec();
        candidates.extend((1..work.symbols.len()).filter_map(|i| work.candidate(self, i - 1, i)));
        work.queue = candidates.into();
        while let Some(Reverse(next)) = work.queue.pop() {
            work.apply(self, &next);
        }
        for symbol in &work.symbols {
            match (symbol.is_alive, symbol.id) {
                (false, _) => {}
                (true, NONE) => out.extend(self.unknown),
                (true, id) => out.push(id),
            }
        }
    }
}

/// The ids of a merge's two sides and of its result; `guess` is the likely result. Texts are compared as bytes, so no string is built.
fn resolve(
    vocab: &Vocab,
    merge: &[u8],
    index: usize,
    guess: u32,
    scratch: &mut Vec<u8>,
) -> Result<(u32, u32, u32), TextError> {
    let syntax = || TextError::MergeSyntax {
        index,
        text: String::from_utf8_lossy(merge).into_owned(),
    };
    let text = std::str::from_utf8(merge).map_err(|_| syntax())?;
    // A space inside the alphabet is written as another character, so the first one separates.
    let (left, right) = text.split_once(' ').ok_or_else(syntax)?;
    if left.is_empty() || right.is_empty() || right.contains(' ') {
        return Err(syntax());
    }
    scratch.clear();
    let missing = |token: &str| TextError::MergeToken {
        index,
        token: token.to_owned(),
    };
    if !byte_map::decode(left, scratch) {
        scratch.extend_from_slice(left.as_bytes());
    }
    let middle = scratch.len();
    if !byte_map::decode(right, scratch) {
        scratch.extend_from_slice(right.as_bytes());
    }
    let left_id = vocab
        .find(&scratch[..middle])
        .ok_or_else(|| missing(left))?;
    let right_id = vocab
        .find(&scratch[middle..])
        .ok_or_else(|| missing(right))?;
    // Most vocabularies number their tokens in the order of the merges, and looking is cheaper than searching.
    let id = if vocab.kind(guess) == Some(TokenType::Normal) && vocab.piece(guess) == Some(scratch)
    {
        guess
    } else {
        vocab
            .find(scratch)
            .ok_or_else(|| missing(&format!("{left}{right}")))?
    };
    Ok((left_id, right_id, id))
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
    is_alive: bool,
}

/// A possible merge; the lowest rank first, then the leftmost.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    right: u32,
    ids: (u32, u32),
    merged: u32,
}

/// The word as a linked list and the queue of merges; a word of n bytes takes n log n steps.
#[derive(Debug, Default)]
struct Work {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Work {
    fn fill(&mut self, ids: impl Iterator<Item = u32>) {
        self.symbols.clear();
        self.queue.clear();
        for (i, id) in ids.enumerate() {
            let i = i as u32;
            self.symbols.push(Symbol {
                id,
                previous: i.wrapping_sub(1),
                next: i + 1,
                is_alive: true,
            });
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
    }

    fn candidate(&self, bpe: &Bpe, left: usize, right: usize) -> Option<Reverse<Candidate>> {
        let ids = (self.symbols[left].id, self.symbols[right].id);
        let merge = bpe.merges.get(&ids)?;
        let (left, right) = (left as u32, right as u32);
        Some(Reverse(Candidate {
            rank: merge.rank,
            left,
            right,
            ids,
            merged: merge.id,
        }))
    }

    fn apply(&mut self, bpe: &Bpe, next: &Candidate) {
        let (left, right) = (next.left as usize, next.right as usize);
        let is_current = self.symbols[left].is_alive
            && self.symbols[right].is_alive
            && (self.symbols[left].id, self.symbols[right].id) == next.ids;
        if !is_current {
            return;
        }
        let after = self.symbols[right].next;
        self.symbols[right].is_alive = false;
        self.symbols[left].id = next.merged;
        self.symbols[left].next = after;
        if after != NONE {
            self.symbols[after as usize].previous = next.left;
            self.queue.extend(self.candidate(bpe, left, after as usize));
        }
        let before = self.symbols[left].previous;
        if before != NONE {
            self.queue
                .extend(self.candidate(bpe, before as usize, left));
        }
    }
}
