//! The tensor types of ggml: number, name, and the size of a block. All that is known by size opens, whether or not
//! there is arithmetic for it, so that a file can be shown even when it cannot be run.

use std::fmt;

macro_rules! tensor_types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $len:literal, $bytes:expr;)*) => {
        /// How the elements of a tensor are stored: plain numbers, or blocks of quantised ones.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types)] // the names are those of the format
        #[non_exhaustive]
        pub enum TensorType { $($(#[$doc])* $variant,)* }

        impl TensorType {
            /// Every type, in the order of its number in the file.
            pub const ALL: &[TensorType] = &[$(TensorType::$variant),*];

            /// The type with this number in a GGUF file, if it has one we know.
            #[must_use]
            pub const fn from_id(id: u32) -> Option<TensorType> {
                match id { $($id => Some(TensorType::$variant),)* _ => None }
            }

            /// The number of the type in a GGUF file.
            #[must_use]
            pub const fn id(self) -> u32 {
                match self { $(TensorType::$variant => $id,)* }
            }

            /// The name people use, such as `Q4_K`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(TensorType::$variant => $name,)* }
            }

            /// Elements in one block; 1 for plain numbers. Rows are whole numbers of blocks.
            #[must_use]
            pub const fn block_len(self) -> u64 {
                match self { $(TensorType::$variant => $len,)* }
            }

            /// Bytes of one block.
            #[must_use]
            pub const fn block_bytes(self) -> u64 {
                match self { $(TensorType::$variant => $bytes,)* }
            }
        }
    };
}

// Sizes are written as the sum of a block's fields: scales first, then the packed elements.
tensor_types! {
    /// 32-bit IEEE float.
    F32 = 0, "F32", 1, 4;
    /// 16-bit IEEE float.
    F16 = 1, "F16", 1, 2;
    /// 4 bits, one scale per 32.
    Q4_0 = 2, "Q4_0", 32, 2 + 16;
    /// 4 bits, scale and minimum per 32.
    Q4_1 = 3, "Q4_1", 32, 2 + 2 + 16;
    /// 5 bits, one scale per 32.
    Q5_0 = 6, "Q5_0", 32, 2 + 4 + 16;
    /// 5 bits, scale and minimum per 32.
    Q5_1 = 7, "Q5_1", 32, 2 + 2 + 4 + 16;
    /// 8 bits, one scale per 32.
    Q8_0 = 8, "Q8_0", 32, 2 + 32;
    /// 8 bits, scale and scaled sum per 32; for activations.
    Q8_1 = 9, "Q8_1", 32, 2 + 2 + 32;
    /// 2 bits in super-blocks of 256.
    Q2_K = 10, "Q2_K", 256, 16 + 64 + 2 + 2;
    /// 3 bits in super-blocks of 256.
    Q3_K = 11, "Q3_K", 256, 32 + 64 + 12 + 2;
    /// 4 bits in super-blocks of 256.
    Q4_K = 12, "Q4_K", 256, 2 + 2 + 12 + 128;
    /// 5 bits in super-blocks of 256.
    Q5_K = 13, "Q5_K", 256, 2 + 2 + 12 + 32 + 128;
    /// 6 bits in super-blocks of 256.
    Q6_K = 14, "Q6_K", 256, 128 + 64 + 16 + 2;
    /// 8 bits in super-blocks of 256; for activations.
    Q8_K = 15, "Q8_K", 256, 4 + 256 + 32;
    /// 2.06 bits, codebook.
    IQ2_XXS = 16, "IQ2_XXS", 256, 2 + 64;
    /// 2.31 bits, codebook.
    IQ2_XS = 17, "IQ2_XS", 256, 2 + 64 + 8;
    /// 3.06 bits, codebook.
    IQ3_XXS = 18, "IQ3_XXS", 256, 2 + 64 + 32;
    /// 1.56 bits, codebook.
    IQ1_S = 19, "IQ1_S", 256, 2 + 32 + 16;
    /// 4 bits, non-linear values, one scale per 32.
    IQ4_NL = 20, "IQ4_NL", 32, 2 + 16;
    /// 3.44 bits, codebook.
    IQ3_S = 21, "IQ3_S", 256, 2 + 64 + 8 + 32 + 4;
    /// 2.5 bits, codebook.
    IQ2_S = 22, "IQ2_S", 256, 2 + 64 + 8 + 8;
    /// 4 bits, non-linear values, super-blocks of 256.
    IQ4_XS = 23, "IQ4_XS", 256, 2 + 2 + 4 + 128;
    /// 8-bit integer.
    I8 = 24, "I8", 1, 1;
    /// 16-bit integer.
    I16 = 25, "I16", 1, 2;
    /// 32-bit integer.
    I32 = 26, "I32", 1, 4;
    /// 64-bit integer.
    I64 = 27, "I64", 1, 8;
    /// 64-bit IEEE float.
    F64 = 28, "F64", 1, 8;
    /// 1.75 bits, codebook.
    IQ1_M = 29, "IQ1_M", 256, 32 + 16 + 8;
    /// 16-bit float with the exponent of F32.
    BF16 = 30, "BF16", 1, 2;
    /// Ternary, 1.69 bits.
    TQ1_0 = 34, "TQ1_0", 256, 48 + 4 + 2;
    /// Ternary, 2.06 bits.
    TQ2_0 = 35, "TQ2_0", 256, 64 + 2;
    /// 4-bit float (E2M1), one power-of-two scale per 32.
    MXFP4 = 39, "MXFP4", 32, 1 + 16;
    /// 4-bit float (E2M1), one 8-bit float scale per 16, in blocks of 64.
    NVFP4 = 40, "NVFP4", 64, 4 + 32;
    /// 1 bit, one scale per 128.
    Q1_0 = 41, "Q1_0", 128, 2 + 16;
    /// 2 bits, one scale per 64.
    Q2_0 = 42, "Q2_0", 64, 2 + 16;
}

impl TensorType {
    /// The name of a type that files once used and the format has since dropped, given its number.
    #[must_use]
    pub const fn removed_name(id: u32) -> Option<&'static str> {
        match id {
            4 => Some("Q4_2"),
            5 => Some("Q4_3"),
            31 => Some("Q4_0_4_4"),
            32 => Some("Q4_0_4_8"),
            33 => Some("Q4_0_8_8"),
            36 => Some("IQ4_NL_4_4"),
            37 => Some("IQ4_NL_4_8"),
            38 => Some("IQ4_NL_8_8"),
            _ => None,
        }
    }

    /// Bytes of a row of `n_cols` elements; `None` when that is not a whole number of blocks or overflows.
    #[must_use]
    pub const fn row_bytes(self, n_cols: u64) -> Option<u64> {
        if !n_cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (n_cols / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::TensorType;

    #[test]
    fn ids_and_types_agree_both_ways() {
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_id(ty.id()), Some(ty));
            assert_eq!(TensorType::removed_name(ty.id()), None);
        }
        let known = (0..1000)
            .filter(|&id| TensorType::from_id(id).is_some())
            .count();
        assert_eq!(known, TensorType::ALL.len());
    }

    #[test]
    fn a_row_is_a_whole_number_of_blocks() {
        assert_eq!(TensorType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(TensorType::Q4_K.row_bytes(32), None);
        assert_eq!(TensorType::F64.row_bytes(u64::MAX), None);
        assert_eq!(TensorType::F32.row_bytes(0), Some(0));
    }
}
