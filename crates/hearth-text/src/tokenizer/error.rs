//! Why no tokenizer could be built from a file.

/// What is wrong with a file's tokenizer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A key the tokenizer cannot do without is absent.
    #[error("metadata key {key:?} is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A key has another type than it must have.
    #[error("metadata key {key:?} must be {expected}, found {found}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// Type needed.
        expected: &'static str,
        /// Type found.
        found: String,
    },
    /// The kind of tokenizer is one we do not have.
    #[error("tokenizer model {name:?} is not supported; known are bert, gpt2 and llama")]
    UnknownModel {
        /// Value of `tokenizer.ggml.model`.
        name: String,
    },
    /// The way to split text before merging is one we do not have; guessing would give wrong ids.
    #[error("pre-tokenizer {name:?} is not supported")]
    UnknownPreTokenizer {
        /// Value of `tokenizer.ggml.pre`.
        name: String,
    },
    /// A key asks for something that changes tokens and that we do not do.
    #[error("metadata key {key:?} is {value}, which this tokenizer does not support")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// What it holds.
        value: String,
    },
    /// The vocabulary has no tokens.
    #[error("the vocabulary is empty")]
    EmptyVocabulary,
    /// The vocabulary has more tokens than ids exist.
    #[error("the vocabulary has {count} tokens, the limit is {limit}")]
    TooManyTokens {
        /// Tokens found.
        count: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// An array that belongs to the tokens has another length.
    #[error("metadata key {key:?} has {found} elements, the vocabulary has {expected} tokens")]
    LengthMismatch {
        /// The key.
        key: &'static str,
        /// Number of tokens.
        expected: usize,
        /// Number of elements.
        found: usize,
    },
    /// A token type that does not exist.
    #[error("token {id} has type {found}, types are 1 to 6")]
    TokenType {
        /// The token.
        id: u32,
        /// Type found.
        found: i128,
    },
    /// A token is not valid UTF-8 where it must be.
    #[error("token {id} is not valid UTF-8")]
    TokenNotUtf8 {
        /// The token.
        id: u32,
    },
    /// A score that cannot be ordered.
    #[error("score of token {id} is not a number")]
    Score {
        /// The token.
        id: u32,
    },
    /// A byte token whose text is not `<0x00>` to `<0xFF>`.
    #[error("byte token {id} has the text {text:?}, expected <0x00> to <0xFF>")]
    ByteToken {
        /// The token.
        id: u32,
        /// Its text.
        text: String,
    },
    /// Two byte tokens for one byte.
    #[error("byte tokens {first} and {second} both stand for byte {byte:#04x}")]
    DuplicateByte {
        /// The earlier token.
        first: u32,
        /// The later token.
        second: u32,
        /// The byte.
        byte: u8,
    },
    /// A merge that is not two tokens with a space between.
    #[error("merge {index} ({text:?}) is not two tokens with one space between them")]
    MergeSyntax {
        /// Position in the list.
        index: usize,
        /// Its text.
        text: String,
    },
    /// A merge that names a token the vocabulary lacks.
    #[error("merge {index} needs the token {token:?}, which the vocabulary lacks")]
    MergeToken {
        /// Position in the list.
        index: usize,
        /// The token.
        token: String,
    },
    /// A special id that is no token.
    #[error("metadata key {key:?} is {id}, the vocabulary has {n_vocab} tokens")]
    SpecialId {
        /// The key.
        key: &'static str,
        /// Id found.
        id: i128,
        /// Number of tokens.
        n_vocab: usize,
    },
}
