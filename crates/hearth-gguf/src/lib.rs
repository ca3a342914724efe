//! GGUF model files: bytes in, checked metadata and a checked tensor directory out, and a writer for the other way.
//!
//! Opening maps the file and reads only its head: names, numbers and places. Weights stay where they lie and are handed
//! out as byte slices, so a model of any size opens in milliseconds and two processes share one copy of it.
//!
//! A file is taken for hostile until it is proven well formed. Every count, length, offset and product is checked
//! before memory is taken for it; memory taken while parsing stays below 16 times the input, and time is linear but for
//! one sort of the names. What is refused is refused with a [`GgufError`] that names the key or tensor and the byte offset, and
//! whose [`hint`](GgufError::hint) says what to do next.
//!
//! This crate never decodes a tensor: what a block of `Q4_K` means is the business of `hearth-kernels`.
//!
//! ```no_run
//! use hearth_gguf::Gguf;
//!
//! let model = Gguf::open("model.gguf".as_ref())?;
//! println!("{}", model.metadata().require_str("general.architecture")?);
//! for tensor in model.tensors() {
//!     println!("{} {} {:?}: {} bytes", tensor.name, tensor.ty, tensor.shape, model.data(tensor).len());
//! }
//! # Ok::<(), hearth_gguf::GgufError>(())
//! ```
//!
//! One promise cannot be kept by any program that maps files: if another process cuts the file while it is open, reading
//! the lost part ends this process (`SIGBUS`). Replace model files with a rename, never by writing into them.

#![deny(unsafe_code)]

mod cursor;
mod error;
mod file;
mod gguf;
pub mod limits;
#[allow(unsafe_code)]
mod map;
mod metadata;
mod parse;
mod sniff;
mod split;
mod tensor;
mod tensor_type;
mod value;
mod writer;

pub use error::{GgufError, Place};
pub use gguf::Gguf;
pub use metadata::Metadata;
pub use sniff::Lookalike;
pub use split::{shard_name, shard_of};
pub use tensor::TensorInfo;
pub use tensor_type::TensorType;
pub use value::{Array, StringArray, Value, ValueType};
pub use writer::{GgufBody, GgufWriter};
