//! One entry of the tensor directory.

use crate::tensor_type::TensorType;

/// Name, type, shape and place of a tensor. Its bytes come from [`Gguf::data`](crate::Gguf::data).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique within the model.
    pub name: String,
    /// How the elements are stored.
    pub ty: TensorType,
    /// Shape, row-major, outermost dimension first (the file has it the other way round); 1 to 4 dimensions, none zero.
    pub shape: Vec<u64>,
    pub(crate) offset: u64,
    pub(crate) n_bytes: u64,
    pub(crate) file: u32,
}

impl TensorInfo {
    /// Elements in all; the product was checked when the file was opened.
    #[must_use]
    pub fn n_elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Length of a row: the innermost dimension.
    #[must_use]
    pub fn n_cols(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows in all: the product of the other dimensions.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.shape.iter().rev().skip(1).product()
    }

    /// Bytes of data.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Where the data begins, in bytes from the start of its file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Which file of a split model holds the data, counted from 0.
    #[must_use]
    pub fn file_index(&self) -> usize {
        self.file as usize
    }
}
