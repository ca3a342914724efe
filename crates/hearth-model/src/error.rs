//! What can go wrong, one enum for each of the three acts: loading a model (the file is bad or asks
//! for something we do not do), taking pages (a budget is spent), and running a step (the call is bad).

/// Why a file cannot be used as a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A key the family needs is not in the file.
    #[error("the file has no key `{key}`, which {architecture} needs")]
    MissingKey {
        /// The key.
        key: String,
        /// The value of `general.architecture`.
        architecture: String,
    },
    /// A key has a value of another kind.
    #[error("key `{key}` holds {found}, expected {expected}")]
    KeyType {
        /// The key.
        key: String,
        /// What the family expects.
        expected: &'static str,
        /// What the file holds.
        found: String,
    },
    /// A key's value lies outside the range we accept.
    #[error("key `{key}` is {value}, {rule}")]
    KeyValue {
        /// The key.
        key: String,
        /// The value, as text.
        value: String,
        /// The rule it breaks, with the limit.
        rule: String,
    },
    /// The file asks for something that would change the result and that we do not do.
    #[error("key `{key}` is {value}, which is not supported for {architecture}: {reason}")]
    UnsupportedKey {
        /// The key.
        key: String,
        /// The value, as text.
        value: String,
        /// The value of `general.architecture`.
        architecture: String,
        /// What it would mean.
        reason: &'static str,
    },
    /// No family of this name.
    #[error("the model family `{found}` is not supported, these are: {supported}")]
    UnsupportedFamily {
        /// The value of `general.architecture`.
        found: String,
        /// The families there are.
        supported: String,
    },
    /// A tensor of the plan is not in the file.
    #[error("the file has no tensor `{name}` of shape {shape:?}")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The shape the plan needs, outermost first.
        shape: Vec<u64>,
    },
    /// A tensor has another shape than the hyperparameters say.
    #[error("tensor `{name}` has shape {found:?}, the model's settings ask for {expected:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// The shape the plan needs, outermost first.
        expected: Vec<u64>,
        /// The shape in the file, outermost first.
        found: Vec<u64>,
    },
    /// A tensor is stored in a type without kernels.
    #[error(
        "tensor `{name}` has type {found}, which is not supported here; supported are {supported}"
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
        /// The types that would do.
        supported: String,
    },
    /// A tensor that the plan does not use: leaving it out would silently change the model.
    #[error(
        "the file has tensor `{name}`, which the {architecture} family does not use ({n_unused} such in all)"
    )]
    UnusedTensor {
        /// The first such tensor in the file's order.
        name: String,
        /// The value of `general.architecture`.
        architecture: String,
        /// How many there are.
        n_unused: usize,
    },
    /// A vector holds a value that is not a number.
    #[error("tensor `{name}` holds {value} at index {index}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Which element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The asked-for context is not usable.
    #[error("a context of {n_ctx} positions was asked for, the limit is {limit}")]
    Context {
        /// What was asked for.
        n_ctx: usize,
        /// The most we take.
        limit: usize,
    },
    /// A rope frequency would be divided by nothing.
    #[error("tensor `{name}` holds {value} at index {index}, a frequency factor must be above 0")]
    RopeFactor {
        /// The tensor.
        name: String,
        /// Which element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The executor was asked for an unusable size.
    #[error(
        "an executor of {max_tokens} rows a step, {max_logits} rows of logits and {n_positions} positions cannot be made: {rule}"
    )]
    ExecutorLimits {
        /// Rows in a step.
        max_tokens: usize,
        /// Rows of logits in a step.
        max_logits: usize,
        /// Positions of a sequence.
        n_positions: usize,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The sizes are possible, the memory for them is not there.
    #[error(
        "steps of {max_tokens} tokens in a context of {n_positions} need {n_bytes} bytes of working memory, {reason}"
    )]
    WorkingMemory {
        /// Rows in a step.
        max_tokens: usize,
        /// Positions of a sequence.
        n_positions: usize,
        /// What they need, from above.
        n_bytes: u64,
        /// Why that is too much.
        reason: String,
    },
}

/// Why pages could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No position at all, or more than addresses exist.
    #[error("a pool of {n_positions} positions cannot be made with pages of {page_bytes} bytes")]
    Size {
        /// What was asked for.
        n_positions: usize,
        /// Bytes of a page.
        page_bytes: usize,
    },
    /// The operating system gave no memory.
    #[error("the system refused {n_bytes} bytes of address space for keys and values")]
    Map {
        /// What was asked for.
        n_bytes: usize,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// Every page is taken.
    #[error("all {n_pages} pages of keys and values are in use")]
    Exhausted {
        /// Pages in the pool.
        n_pages: usize,
    },
}

/// Why a step did not run, or what it found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A batch without rows.
    #[error("a step needs at least one row")]
    Empty,
    /// More rows than the executor was made for.
    #[error("a step of {n_rows} rows, the executor was made for {max_tokens}")]
    TooManyRows {
        /// Rows in the batch.
        n_rows: usize,
        /// The limit.
        max_tokens: usize,
    },
    /// More rows want logits than the executor was made for.
    #[error("{n_rows} rows want logits, the executor was made for {max_logits}")]
    TooManyLogits {
        /// Rows that want logits.
        n_rows: usize,
        /// The limit.
        max_logits: usize,
    },
    /// A token the vocabulary does not have.
    #[error("token {token} in row {row} is outside the vocabulary of {n_vocab}")]
    Token {
        /// Which row of the batch.
        row: usize,
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// A row names a page table that was not given.
    #[error("row {row} names sequence {seq}, the batch has {n_tables} page tables")]
    Sequence {
        /// Which row of the batch.
        row: usize,
        /// The index it names.
        seq: u32,
        /// Page tables in the batch.
        n_tables: usize,
    },
    /// A row needs a position that no page of the pool backs.
    #[error(
        "row {row} at position {pos} needs page {index} of sequence {seq}, which is not in the pool"
    )]
    Page {
        /// Which row of the batch.
        row: usize,
        /// Its position.
        pos: u32,
        /// Its sequence.
        seq: u32,
        /// Which entry of the page table.
        index: usize,
    },
    /// A row would be stored into a page that others hold too.
    #[error("row {row} at position {pos} would change page {page}, which {n_holders} hold")]
    SharedPage {
        /// Which row of the batch.
        row: usize,
        /// Its position.
        pos: u32,
        /// The page.
        page: u32,
        /// How many hold it.
        n_holders: u32,
    },
    /// A position the executor was not made for.
    #[error("row {row} is at position {pos}, the executor was made for {n_positions} positions")]
    Position {
        /// Which row of the batch.
        row: usize,
        /// Its position.
        pos: u32,
        /// The limit.
        n_positions: usize,
    },
    /// The pool was laid out for another model.
    #[error("the pool's pages were laid out for another model")]
    ForeignPool,
    /// The executor was made for another model.
    #[error("the executor was made for another model")]
    ForeignModel,
    /// The model computed something that is not a number.
    #[error(
        "the logits at position {pos} of sequence {seq} are not finite (token {token} is {value})"
    )]
    NotFinite {
        /// Index of the sequence in the batch.
        seq: u32,
        /// Position of the row.
        pos: u32,
        /// The first such token.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// The same before the output matrix.
    #[error("the hidden state at position {pos} of sequence {seq} is not finite")]
    HiddenNotFinite {
        /// Index of the sequence in the batch.
        seq: u32,
        /// Position of the row.
        pos: u32,
    },
}
