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
    /// Where each token begins, and one past the last.
    starts: Vec<usize>,
    types: Vec<TokenType>,
    /// Ids of the tokens that text may become, by their bytes.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Length of the longest token in the table.
    pub(super) longest: usize,
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
        self.starts.push(self.bytes.len());
        self.types.push(kind);
        let length = self.bytes.len() - start;
        if !is_in_text || length == 0 {
            return true;
        }
        if self.find(&self.bytes[start..]).is_some() {
            return false;
        }
        self.longest = self.longest.max(length);
        let Self {
            bytes,
            starts,
            hasher,
            table,
            ..
        } = self;
        let hash =
            |id: &u32| hasher.hash_one(&bytes[starts[*id as usize]..starts[*id as usize + 1]]);
        table.insert_unique(hash(&id), id, hash);
        true
    }

    /// The token of exactly these bytes.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.table
            .find(hash, |&id| self.piece(id) == Some(text))
            .copied()
    }

    /// Bytes a token stands for.
    pub(super) fn piece(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.starts.get(id + 1)?;
        self.bytes.get(self.starts[id]..end)
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.types.len()
    }
}
