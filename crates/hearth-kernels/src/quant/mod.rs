//! Weight formats as they lie in a file: blocks of a fixed number of weights in a fixed number of bytes.

use std::fmt;

/// Storage format of a weight matrix.
#[allow(
    non_camel_case_types,
    reason = "the formats' own names, as files and people write them"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single-precision number.
    BF16,
    /// 4 bits, one scale per 32.
    Q4_0,
    /// 4 bits, one scale and one minimum per 32.
    Q4_1,
    /// 5 bits, one scale per 32.
    Q5_0,
    /// 5 bits, one scale and one minimum per 32.
    Q5_1,
    /// 8 bits, one scale per 32.
    Q8_0,
    /// 2 bits, super-blocks of 256.
    Q2_K,
    /// 3 bits, super-blocks of 256.
    Q3_K,
    /// 4 bits, super-blocks of 256.
    Q4_K,
    /// 5 bits, super-blocks of 256.
    Q5_K,
    /// 6 bits, super-blocks of 256.
    Q6_K,
    /// 4 bits through a table, one scale per 32.
    IQ4_NL,
    /// 4 bits through a table, super-blocks of 256.
    IQ4_XS,
    /// 4-bit floats, one power of two per 32.
    MXFP4,
}

/// The form in which a product reads its activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActFormat {
    /// Unchanged `f32`.
    Float,
    /// 8 bits, one step per 32.
    A32,
    /// 8 bits, one base per 256 and a power of two per 32.
    A256,
}

impl WeightType {
    /// Every format.
    pub const ALL: [WeightType; 16] = [
        WeightType::F32,
        WeightType::F16,
        WeightType::BF16,
        WeightType::Q4_0,
        WeightType::Q4_1,
        WeightType::Q5_0,
        WeightType::Q5_1,
        WeightType::Q8_0,
        WeightType::Q2_K,
        WeightType::Q3_K,
        WeightType::Q4_K,
        WeightType::Q5_K,
        WeightType::Q6_K,
        WeightType::IQ4_NL,
        WeightType::IQ4_XS,
        WeightType::MXFP4,
    ];

    /// Weights in a block.
    pub const fn block_len(self) -> usize {
        match self {
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => 1,
            WeightType::Q4_0
            | WeightType::Q4_1
            | WeightType::Q5_0
            | WeightType::Q5_1
            | WeightType::Q8_0
            | WeightType::IQ4_NL
            | WeightType::MXFP4 => 32,
            WeightType::Q2_K
            | WeightType::Q3_K
            | WeightType::Q4_K
            | WeightType::Q5_K
            | WeightType::Q6_K
            | WeightType::IQ4_XS => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            WeightType::F32 => 4,
            WeightType::F16 | WeightType::BF16 => 2,
            WeightType::Q4_0 | WeightType::IQ4_NL => 18,
            WeightType::Q4_1 => 20,
            WeightType::Q5_0 => 22,
            WeightType::Q5_1 => 24,
            WeightType::Q8_0 => 34,
            WeightType::Q2_K => 84,
            WeightType::Q3_K => 110,
            WeightType::Q4_K => 144,
            WeightType::Q5_K => 176,
            WeightType::Q6_K => 210,
            WeightType::IQ4_XS => 136,
            WeightType::MXFP4 => 17,
        }
    }

    /// Bytes of a row; none when the row would end inside a block or its size overflows.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if cols % self.block_len() != 0 {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The format's own name.
    pub const fn name(self) -> &'static str {
        match self {
            WeightType::F32 => "F32",
            WeightType::F16 => "F16",
            WeightType::BF16 => "BF16",
            WeightType::Q4_0 => "Q4_0",
            WeightType::Q4_1 => "Q4_1",
            WeightType::Q5_0 => "Q5_0",
            WeightType::Q5_1 => "Q5_1",
            WeightType::Q8_0 => "Q8_0",
            WeightType::Q2_K => "Q2_K",
            WeightType::Q3_K => "Q3_K",
            WeightType::Q4_K => "Q4_K",
            WeightType::Q5_K => "Q5_K",
            WeightType::Q6_K => "Q6_K",
            WeightType::IQ4_NL => "IQ4_NL",
            WeightType::IQ4_XS => "IQ4_XS",
            WeightType::MXFP4 => "MXFP4",
        }
    }

    /// Whether blocks carry a minimum beside the scale, which takes part in the product with the sum of the activations.
    pub const fn has_minimum(self) -> bool {
        matches!(
            self,
            WeightType::Q4_1
                | WeightType::Q5_1
                | WeightType::Q2_K
                | WeightType::Q4_K
                | WeightType::Q5_K
        )
    }

    /// The activation format that products with this weight format read.
    pub const fn activations(self) -> ActFormat {
        match self.block_len() {
            1 => ActFormat::Float,
            32 => ActFormat::A32,
            _ => ActFormat::A256,
        }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Exact part of the product of one block of 32 weights with 32 activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dot32 {
    /// Scale of the block.
    pub d: f32,
    /// Minimum of the block, 0 for formats without one.
    pub m: f32,
    /// Sum of weight times activation.
    pub dot: i32,
    /// Sum of the activations.
    pub sum: i32,
}

/// Exact part of the product of one super-block of 256 weights with 256 activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dot256 {
    /// Scale of the super-block.
    pub d: f32,
    /// Scale of the minimums, 0 for formats without one.
    pub dmin: f32,
    /// Sum over sub-blocks of scale · 2^e · (sum of weight times activation).
    pub sum: i32,
    /// Sum over sub-blocks of minimum · 2^e · (sum of activations).
    pub min: i32,
}

/// The exact product of one block with 32 activations, as the format's own module defines it.
pub(crate) fn dot32(ty: WeightType, _block: &[u8], _q: &[i8; 32]) -> Dot32 {
    unreachable!("{ty} has no blocks of 32")
}

/// The exact product of one super-block with 256 activations, as the format's own module defines it.
pub(crate) fn dot256(ty: WeightType, _block: &[u8], _q: &[i8; 256], _e: &[u8; 8]) -> Dot256 {
    unreachable!("{ty} has no blocks of 256")
}
