//! What can be wrong with a file, and what to do about it.

use std::{fmt, io, path::PathBuf};

use crate::{sniff::Lookalike, tensor_type::TensorType, value::ValueType};

/// Where in the head of a file something was found. Names from a file are shown quoted and escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The fixed fields at the start.
    Header,
    /// The metadata entry with this number, counted from 0, before its key is known.
    KeyNumber(u64),
    /// The metadata entry with this key.
    Key(String),
    /// The tensor entry with this number, counted from 0, before its name is known.
    TensorNumber(u64),
    /// The tensor entry with this name.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("the header"),
            Place::KeyNumber(n) => write!(f, "metadata entry {n}"),
            Place::Key(key) => write!(f, "metadata key {key:?}"),
            Place::TensorNumber(n) => write!(f, "tensor entry {n}"),
            Place::Tensor(name) => write!(f, "tensor {name:?}"),
        }
    }
}

/// Everything this crate refuses. Offsets are bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the message of each variant names its fields
#[non_exhaustive]
pub enum GgufError {
    // The path.
    /// The operating system refuses the file.
    #[error("cannot open {path:?}: {source}")]
    Open { path: PathBuf, source: io::Error },
    /// The path leads to a directory.
    #[error("{path:?} is a directory, not a GGUF file")]
    Directory { path: PathBuf },
    /// The path leads to a pipe, a device or the like, which cannot be mapped.
    #[error("{path:?} is not a regular file")]
    NotRegular { path: PathBuf },

    // The first bytes.
    /// There is nothing in the file.
    #[error("the file is empty")]
    Empty,
    /// The file is of another, recognisable kind.
    #[error("not a GGUF file: it looks like {found}")]
    OtherFormat { found: Lookalike },
    /// The file does not begin with the letters of the format.
    #[error("not a GGUF file: it begins with the bytes \"{}\", not \"GGUF\"", found.escape_ascii())]
    Magic { found: [u8; 4] },
    /// The file is meant for a machine with the other byte order.
    #[error("the file is big-endian, at offset 4: hearth reads little-endian files")]
    BigEndian,
    /// The version of the format is not one we read.
    #[error("GGUF version {found} at offset 4; hearth reads versions 2 and 3")]
    Version { found: u32 },

    // Sizes.
    /// The file ends inside its head.
    #[error(
        "the file ends too soon: {place}, {field} at offset {offset} needs {need} bytes, {have} are left"
    )]
    Truncated {
        place: Place,
        field: &'static str,
        offset: u64,
        need: u64,
        have: u64,
    },
    /// A count of entries is above our limit.
    #[error("the file claims {count} {what} at offset {offset}; the limit is {limit}")]
    CountLimit {
        what: &'static str,
        count: u64,
        limit: u64,
        offset: u64,
    },
    /// A count of entries cannot fit the file, however small they are.
    #[error(
        "the file ends too soon: it claims {count} {what} at offset {offset}, which need at least {need} bytes, and {have} are left"
    )]
    CountExceedsFile {
        what: &'static str,
        count: u64,
        need: u64,
        have: u64,
        offset: u64,
    },
    /// A key or name is longer than our limit.
    #[error("{place}: a name of {len} bytes at offset {offset}; the limit is {limit}")]
    NameTooLong {
        place: Place,
        len: u64,
        limit: u64,
        offset: u64,
    },

    // Metadata entries.
    /// A key without a letter.
    #[error("metadata entry {index} at offset {offset} has an empty key")]
    EmptyKey { index: u64, offset: u64 },
    /// A key that is no text.
    #[error("metadata entry {index} at offset {offset} has a key that is not UTF-8")]
    KeyNotUtf8 { index: u64, offset: u64 },
    /// The same key twice.
    #[error("metadata key {key:?} stands at offset {first} and again at offset {second}")]
    DuplicateKey {
        key: String,
        first: u64,
        second: u64,
    },
    /// A number that stands for no type of value.
    #[error("metadata key {key:?} at offset {offset} has the unknown value type {id}")]
    UnknownValueType { key: String, id: u32, offset: u64 },
    /// A truth value that is neither 0 nor 1.
    #[error("metadata key {key:?} at offset {offset} has a bool of {found}; it must be 0 or 1")]
    BadBool { key: String, found: u8, offset: u64 },
    /// An array of arrays.
    #[error("metadata key {key:?} at offset {offset} is an array of arrays, which no model uses")]
    NestedArray { key: String, offset: u64 },
    /// An array that cannot fit the file.
    #[error(
        "metadata key {key:?} at offset {offset} claims an array of {count} {element}, which needs at least {need} bytes, and {have} are left"
    )]
    ArrayExceedsFile {
        key: String,
        element: ValueType,
        count: u64,
        need: u128,
        have: u64,
        offset: u64,
    },
    /// An array of strings with more text than 32 bits can count.
    #[error("metadata key {key:?} at offset {offset} has more than {limit} bytes of text")]
    StringArrayLimit {
        key: String,
        limit: u64,
        offset: u64,
    },
    /// `general.alignment` is not a power of two within bounds.
    #[error("general.alignment is {found}; it must be a power of two of at most {limit}")]
    Alignment { found: u64, limit: u64 },

    // Asking for metadata.
    /// A key that a reader needs is absent.
    #[error("the metadata has no key {key:?} ({expected})")]
    MissingKey { key: String, expected: &'static str },
    /// The key has a value of another type.
    #[error("metadata key {key:?} at offset {offset} must be {expected}, and is {found}")]
    WrongType {
        key: String,
        expected: &'static str,
        found: String,
        offset: u64,
    },
    /// The key has a number its reader cannot hold.
    #[error("metadata key {key:?} at offset {offset} must be {expected}, and is {found}")]
    OutOfRange {
        key: String,
        expected: &'static str,
        found: i128,
        offset: u64,
    },
    /// The key has an array of another length.
    #[error(
        "metadata key {key:?} at offset {offset} must have {expected} elements, and has {found}"
    )]
    WrongLength {
        key: String,
        expected: usize,
        found: usize,
        offset: u64,
    },

    // Tensor entries.
    /// A tensor without a name.
    #[error("tensor entry {index} at offset {offset} has an empty name")]
    EmptyName { index: u64, offset: u64 },
    /// A tensor name that is no text.
    #[error("tensor entry {index} at offset {offset} has a name that is not UTF-8")]
    NameNotUtf8 { index: u64, offset: u64 },
    /// The same name twice.
    #[error("tensor {name:?} stands twice in the directory")]
    DuplicateTensor { name: String },
    /// No dimensions, or more than the format has.
    #[error(
        "tensor {tensor:?} at offset {offset} has {found} dimensions; it must have 1 to {limit}"
    )]
    DimensionCount {
        tensor: String,
        found: u32,
        limit: u32,
        offset: u64,
    },
    /// A dimension of zero.
    #[error("tensor {tensor:?} at offset {offset}: dimension {dimension} is zero")]
    ZeroDimension {
        tensor: String,
        dimension: u32,
        offset: u64,
    },
    /// Element or byte count beyond 63 bits.
    #[error(
        "tensor {tensor:?} at offset {offset}: a shape of {shape:?} has too many elements to count"
    )]
    ShapeOverflow {
        tensor: String,
        shape: Vec<u64>,
        offset: u64,
    },
    /// A type we do not know the size of.
    #[error("tensor {tensor:?} at offset {offset} has the unknown type {id}")]
    UnknownTensorType {
        tensor: String,
        id: u32,
        offset: u64,
    },
    /// A type the format has dropped.
    #[error(
        "tensor {tensor:?} at offset {offset} has type {name} ({id}), which the format has dropped"
    )]
    RemovedTensorType {
        tensor: String,
        id: u32,
        name: &'static str,
        offset: u64,
    },
    /// Rows that are not whole blocks.
    #[error("tensor {tensor:?} at offset {offset}: rows of {n_cols} elements are not whole blocks of {ty} ({} elements)", ty.block_len())]
    PartialBlock {
        tensor: String,
        ty: TensorType,
        n_cols: u64,
        offset: u64,
    },
    /// Data that does not begin where the alignment allows.
    #[error(
        "tensor {tensor:?} at offset {offset}: its data begins at {data_offset}, not a multiple of the alignment {alignment}"
    )]
    Misaligned {
        tensor: String,
        data_offset: u64,
        alignment: u64,
        offset: u64,
    },
    /// Data outside the file.
    #[error(
        "tensor {tensor:?} at offset {offset}: its {n_bytes} bytes of data begin {data_offset} bytes into the data, and there are {have} bytes of data"
    )]
    DataOutsideFile {
        tensor: String,
        data_offset: u64,
        n_bytes: u64,
        have: u64,
        offset: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap at offset {offset}")]
    Overlap {
        first: String,
        second: String,
        offset: u64,
    },

    // Split models.
    /// One part of a split model where the whole was expected.
    #[error("this is part {no} of a model split into {count} files")]
    NotFirstShard { no: u64, count: u64 },
    /// Bytes in memory that belong to a split model.
    #[error("this is one of the {count} files of a split model; it must be opened by its path")]
    SplitNeedsPath { count: u64 },
    /// The name of the file does not say which the other parts are.
    #[error("the model is split into {count} files, but {path:?} is not named like …{}", crate::split::suffix(0, *count))]
    ShardName { path: PathBuf, count: u64 },
    /// A part is not there.
    #[error("part {no} of {count} is missing: {path:?}")]
    MissingShard { no: u64, count: u64, path: PathBuf },
    /// A part is damaged.
    #[error("{path:?}: {source}")]
    Shard {
        path: PathBuf,
        source: Box<GgufError>,
    },
    /// A part says it has another place.
    #[error("{path:?} should be part {expected}, and says it is part {found}")]
    ShardOrder {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    /// A part belongs to a model of another number of files.
    #[error("{path:?} says the model has {found} files, the first part says {expected}")]
    ShardCount {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    /// The parts together do not have the tensors they should.
    #[error("the files have {found} tensors together, split.tensors.count says {expected}")]
    ShardTensors { expected: u64, found: u64 },

    // Writing.
    /// The output refuses bytes.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    /// The data given for a tensor has another size than its declaration.
    #[error("tensor {tensor:?} has {expected} bytes, and {found} were given")]
    WrongDataSize {
        tensor: String,
        expected: u64,
        found: u64,
    },
    /// More tensors were given than declared.
    #[error("data was given for more tensors than the {count} declared")]
    UndeclaredTensor { count: usize },
    /// The file was finished before all tensors were given.
    #[error("no data was given for tensor {tensor:?}")]
    UnwrittenTensor { tensor: String },
}

const DAMAGED: &str =
    "the file is damaged or was made by a faulty converter; download or convert it again";
const INCOMPLETE: &str =
    "the download is probably incomplete; compare the size of the file and download it again";

impl GgufError {
    /// The next step for the person who met the error.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        use GgufError::*;
        match self {
            Open { source, .. } if source.kind() == io::ErrorKind::NotFound => "check the path",
            Open { .. } => "may you read this file?",
            Directory { .. } => "give the path of one GGUF file",
            NotRegular { .. } => {
                "save the data to a file first; models are mapped from disk, not read from a stream"
            }
            Empty => "the download probably failed; download the file again",
            OtherFormat { found } => found.hint(),
            Magic { .. } => "give a GGUF file; models in other formats must be converted first",
            BigEndian => {
                "get the little-endian file of the model, or convert it again on a little-endian machine"
            }
            Version { found: 0 | 1 } => {
                "the file is from 2023; convert the model again, or find a newer file"
            }
            Version { .. } => "the file may be newer than this version of hearth, or damaged",
            Truncated { .. }
            | CountExceedsFile { .. }
            | ArrayExceedsFile { .. }
            | DataOutsideFile { .. } => INCOMPLETE,
            CountLimit { .. } | NameTooLong { .. } | StringArrayLimit { .. } => DAMAGED,
            MissingKey { .. } | WrongType { .. } | OutOfRange { .. } | WrongLength { .. } => {
                "the file was made for another purpose or by a faulty converter; try another file of the same model"
            }
            UnknownTensorType { .. } => {
                "the file may be newer than this version of hearth; try another quantisation of it"
            }
            RemovedTensorType { .. } => {
                "the type is no longer used; get a Q4_0 or Q4_K_M file of the same model"
            }
            NotFirstShard { .. } => {
                "give the first part, the file whose name ends in -00001-of-….gguf"
            }
            SplitNeedsPath { .. } => {
                "open the first part from disk, or merge the parts into one file"
            }
            ShardName { .. } => {
                "give the parts their original names, such as model-00001-of-00003.gguf"
            }
            MissingShard { .. } => "download the missing part into the same directory",
            Shard { source, .. } => source.hint(),
            ShardOrder { .. } | ShardCount { .. } | ShardTensors { .. } => {
                "parts of different models are mixed, or were renamed; download them again"
            }
            Write(_) => "is there room on the disk?",
            WrongDataSize { .. } | UndeclaredTensor { .. } | UnwrittenTensor { .. } => {
                "the program that writes the file declares something else than it writes"
            }
            EmptyKey { .. }
            | KeyNotUtf8 { .. }
            | DuplicateKey { .. }
            | UnknownValueType { .. }
            | BadBool { .. }
            | NestedArray { .. }
            | Alignment { .. }
            | EmptyName { .. }
            | NameNotUtf8 { .. }
            | DuplicateTensor { .. }
            | DimensionCount { .. }
            | ZeroDimension { .. }
            | ShapeOverflow { .. }
            | PartialBlock { .. }
            | Misaligned { .. }
            | Overlap { .. } => DAMAGED,
        }
    }
}
