//! The tokens: their bytes, their types, and the way from bytes to an id.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Token types as GGUF numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl TokenType {
    pub(super) fn from_id(id: i32) -> Option<Self> {
        Some(match id {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// Bytes one behind the other: the text each token stands for.
#[derive(Debug)]
pub(super) struct Vocab {
    bytes: Vec<u8>,
    /// Where each token begins, and one past the last; a file's strings are below 4 GiB.
    starts: Vec<u32>,
    types: Vec<TokenType>,
    /// Tokens that text may become, by their bytes. The hash is kept so that a miss reads no token.
    table: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
    /// Length of the longest token in the table.
    pub(super) longest: usize,
    /// Whether some token in the table has a space after something else.
    pub(super) has_space_inside: bool,
}

impl Vocab {
    /// An empty vocabulary with room for `n_tokens` of `n_bytes` together.
    pub(super) fn with_capacity(n_tokens: usize, n_bytes: usize) -> Self {
        let mut starts = Vec::with_capacity(n_tokens + 1);
        starts.push(0);
        Self {
            bytes: Vec::with_capacity(n_bytes),
            starts,
            types: Vec::with_capacity(n_tokens),
            table: HashTable::with_capacity(n_tokens),
            hasher: DefaultHashBuilder::default(),
            longest: 0,
            has_space_inside: false,
        }
    }

    /// Adds a token; `fill` appends its bytes. Tokens that text may become are found by their bytes from now on,
    /// the first of several with the same bytes; returns false when there was one already.
    pub(super) fn push(
        &mut self,
        kind: TokenType,
        is_in_text: bool,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let id = self.types.len() as u32;
        let start = self.bytes.len();
        fill(&mut self.bytes);
        self.starts.push(self.bytes.len() as u32);
        self.types.push(kind);
        let length = self.bytes.len() - start;
        if !is_in_text || length == 0 {
            return true;
        }
        let text = &self.bytes[start..];
        let hash = self.hash(text);
        if self.find_hashed(hash, text).is_some() {
            return false;
        }
        self.longest = self.longest.max(length);
        self.has_space_inside |= text.windows(2).any(|w| w[0] != b' ' && w[1] == b' ');
        self.table
            .insert_unique(spread(hash), (hash, id), |entry| spread(entry.0));
        true
    }

    /// The token of exactly these bytes.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.find_hashed(self.hash(text), text)
    }

    fn find_hashed(&self, hash: u32, text: &[u8]) -> Option<u32> {
        let is_it = |entry: &(u32, u32)| entry.0 == hash && self.piece(entry.1) == Some(text);
        self.table.find(spread(hash), is_it).map(|entry| entry.1)
    }

    fn hash(&self, text: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(text);
        (hash ^ (hash >> 32)) as u32
    }

    /// Bytes a token stands for.
    pub(super) fn piece(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.starts.get(id + 1)? as usize;
        self.bytes.get(self.starts[id] as usize..end)
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.types.len()
    }
}

/// The table takes its tag from the highest bits of 64: a multiplication carries ours there.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
