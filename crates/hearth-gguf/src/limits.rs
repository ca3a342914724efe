//! What we refuse to believe a model file needs. Each limit is far above every file seen in the wild, and each exists
//! so that the memory and time of parsing are bounded by something other than the file's own claims.

/// Metadata keys in one file. Real models have 20 to 60. Together with the size of an entry in memory this keeps the
/// directory of keys below the 16 MiB that parsing may take beside a multiple of the input.
pub const MAX_KEYS: u64 = 1 << 16;

/// Bytes of one metadata key: the limit of the format's own specification.
pub const MAX_KEY_BYTES: u64 = (1 << 16) - 1;

/// Tensors in one file. The largest mixtures with one tensor per expert stay below a tenth of this.
pub const MAX_TENSORS: u64 = 1 << 20;

/// Bytes of one tensor name. ggml stops at 63; some converters wrote longer ones.
pub const MAX_NAME_BYTES: u64 = 255;

/// Dimensions of a tensor, as in ggml.
pub const MAX_DIMS: u32 = 4;

/// Alignment of tensor data. Page-aligned files use up to 64 KiB.
pub const MAX_ALIGNMENT: u64 = 1 << 20;

/// Alignment of a file that does not state one.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// Bytes of text in one array of strings, so that offsets into it fit 32 bits.
pub const MAX_STRING_ARRAY_BYTES: u64 = u32::MAX as u64;

/// Smallest possible metadata entry: key length, one byte of key, type, one byte of value.
pub(crate) const MIN_KEY_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;

/// Smallest possible tensor entry: name length, one byte of name, dimension count, one dimension, type, offset.
pub(crate) const MIN_TENSOR_ENTRY_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;
