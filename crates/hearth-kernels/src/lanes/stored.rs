//! Elements of files and pages, sixteen at a time: little-endian, unaligned, converted exactly.

use super::Lanes;
use crate::float::{self, LANES};

/// How an element is stored.
pub(crate) trait Stored {
    /// Sixteen elements.
    type Block;

    /// Bytes of one element.
    const BYTES: usize;

    /// All whole blocks of `bytes`.
    fn blocks(bytes: &[u8]) -> &[Self::Block];
    fn load<S: Lanes>(s: S, block: &Self::Block) -> S::V;
    /// Sixteen blocks, transposed: vector `j` has element `j` of each.
    fn columns<S: Lanes>(s: S, blocks: [&Self::Block; LANES]) -> [S::V; LANES];
    /// Fewer than sixteen elements, the other lanes zero.
    fn load_part<S: Lanes>(s: S, bytes: &[u8]) -> S::V;
    /// One element, of exactly `BYTES` bytes.
    fn element(bytes: &[u8]) -> f32;
}

/// Half precision.
pub(crate) struct F16;
/// Upper halves of single precision.
pub(crate) struct Bf16;
/// Single precision.
pub(crate) struct F32;

macro_rules! stored {
    ($name:ident, $bytes:literal, $block:literal, $load:ident, $columns:ident, $element:expr) => {
        impl Stored for $name {
            type Block = [u8; $block];

            const BYTES: usize = $bytes;

            #[inline(always)]
            fn blocks(bytes: &[u8]) -> &[[u8; $block]] {
                bytes.as_chunks().0
            }

            #[inline(always)]
            fn load<S: Lanes>(s: S, block: &[u8; $block]) -> S::V {
                s.$load(block)
            }

            #[inline(always)]
            fn columns<S: Lanes>(s: S, blocks: [&[u8; $block]; LANES]) -> [S::V; LANES] {
                s.$columns(blocks)
            }

            #[inline(always)]
            fn load_part<S: Lanes>(s: S, bytes: &[u8]) -> S::V {
                let mut padded = [0; $block];
                padded[..bytes.len()].copy_from_slice(bytes);
                s.$load(&padded)
            }

            #[inline(always)]
            fn element(bytes: &[u8]) -> f32 {
                let mut exact = [0; $bytes];
                exact.copy_from_slice(bytes);
                $element(exact)
            }
        }
    };
}

stored!(F16, 2, 32, load_f16, columns_f16, |bytes| {
    float::f16_to_f32(u16::from_le_bytes(bytes))
});
stored!(Bf16, 2, 32, load_bf16, columns_bf16, |bytes| {
    float::bf16_to_f32(u16::from_le_bytes(bytes))
});
stored!(F32, 4, 64, load_f32, columns_f32, f32::from_le_bytes);
