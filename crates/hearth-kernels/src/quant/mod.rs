//! Weight formats as they lie in a file: blocks of a fixed number of weights in a fixed number of bytes.

use std::fmt;

mod block;
mod float;
pub(crate) mod iq4_nl;
pub(crate) mod iq4_xs;
pub(crate) mod mxfp4;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q4_k;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;

pub(crate) use block::{Block, Block32, Block256, Dot32, Dot256};

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
        if !cols.is_multiple_of(self.block_len()) {
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

/// Calls a function generic over a 32-weight block, or one generic over a super-block, with the block of a format.
///
/// `quant::with_block!(ty, |B32| expression, |B256| expression, else expression)`: the one list of which struct belongs to
/// which format. `else` is taken for weights stored as numbers.
macro_rules! with_block {
    ($ty:expr, |$b32:ident| $then32:expr, |$b256:ident| $then256:expr, else $other:expr) => {{
        macro_rules! short {
            ($module:ident::$block:ident) => {{
                type $b32 = $crate::quant::$module::$block;
                $then32
            }};
        }
        macro_rules! long {
            ($module:ident::$block:ident) => {{
                type $b256 = $crate::quant::$module::$block;
                $then256
            }};
        }
        match $ty {
            $crate::quant::WeightType::F32
            | $crate::quant::WeightType::F16
            | $crate::quant::WeightType::BF16 => $other,
            $crate::quant::WeightType::Q4_0 => short!(q4_0::BlockQ4_0),
            $crate::quant::WeightType::Q4_1 => short!(q4_1::BlockQ4_1),
            $crate::quant::WeightType::Q5_0 => short!(q5_0::BlockQ5_0),
            $crate::quant::WeightType::Q5_1 => short!(q5_1::BlockQ5_1),
            $crate::quant::WeightType::Q8_0 => short!(q8_0::BlockQ8_0),
            $crate::quant::WeightType::IQ4_NL => short!(iq4_nl::BlockIQ4NL),
            $crate::quant::WeightType::MXFP4 => short!(mxfp4::BlockMXFP4),
            $crate::quant::WeightType::Q2_K => long!(q2_k::BlockQ2K),
            $crate::quant::WeightType::Q3_K => long!(q3_k::BlockQ3K),
            $crate::quant::WeightType::Q4_K => long!(q4_k::BlockQ4K),
            $crate::quant::WeightType::Q5_K => long!(q5_k::BlockQ5K),
            $crate::quant::WeightType::Q6_K => long!(q6_k::BlockQ6K),
            $crate::quant::WeightType::IQ4_XS => long!(iq4_xs::BlockIQ4XS),
        }
    }};
}
pub(crate) use with_block;

/// The exact product of one block with 32 activations.
///
/// # Panics
/// When the format has no blocks of 32, or `block` is not one.
pub(crate) fn dot32(ty: WeightType, block: &[u8], q: &[i8; 32]) -> Dot32 {
    with_block!(ty, |B| block::dot32::<B>(block, q), |_B| unreachable!("{ty} has no blocks of 32"), else unreachable!("{ty} has no blocks"))
}

/// The exact product of one super-block with 256 activations.
///
/// # Panics
/// When the format has no blocks of 256, or `block` is not one.
pub(crate) fn dot256(ty: WeightType, block: &[u8], q: &[i8; 256], e: &[u8; 8]) -> Dot256 {
    with_block!(ty, |_B| unreachable!("{ty} has no blocks of 256"), |B| block::dot256::<B>(block, q, e), else unreachable!("{ty} has no blocks"))
}

/// Converts whole blocks to f32 exactly as the format's definition says: the order and rounding of ggml.
///
/// # Panics
/// When `bytes` is not a whole number of blocks of `ty`, or `out` is not their number of weights.
pub fn dequantize(ty: WeightType, bytes: &[u8], out: &mut [f32]) {
    assert!(
        bytes.len().is_multiple_of(ty.block_bytes())
            && out.len() == bytes.len() / ty.block_bytes() * ty.block_len(),
        "{} bytes of {ty} are not {} weights",
        bytes.len(),
        out.len()
    );
    with_block!(
        ty,
        |B| dequantize_blocks::<B, 32>(bytes, out, B::dequantize),
        |B| dequantize_blocks::<B, 256>(bytes, out, B::dequantize),
        else match ty {
            WeightType::F16 => float::dequantize_f16(bytes, out),
            WeightType::BF16 => float::dequantize_bf16(bytes, out),
            _ => float::dequantize_f32(bytes, out),
        }
    );
}

fn dequantize_blocks<B: Block, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: fn(&B, &mut [f32; N]),
) {
    let (out, _) = out.as_chunks_mut::<N>();
    for (block, out) in bytes.chunks_exact(B::BYTES).zip(out) {
        decode(B::view(block), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look random, from a multiplicative generator.
    fn noise(seed: u64) -> impl Iterator<Item = u8> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
    }

    /// Sets the block's scales to 1, so that its weights are integers and f32 shows them exactly.
    fn unit_scales(ty: WeightType, block: &mut [u8]) {
        let offsets: &[usize] = match ty {
            WeightType::MXFP4 => {
                block[0] = 128;
                return;
            }
            WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4_K | WeightType::Q5_K => &[0, 2],
            WeightType::Q2_K => &[80, 82],
            WeightType::Q3_K => &[108],
            WeightType::Q6_K => &[208],
            _ => &[0],
        };
        for &at in offsets {
            block[at..at + 2].copy_from_slice(&[0x00, 0x3c]);
        }
    }

    #[test]
    fn block_products_are_those_of_the_dequantised_weights() {
        for ty in WeightType::ALL.into_iter().filter(|ty| ty.block_len() > 1) {
            for seed in 0..20 {
                let mut block: Vec<u8> = noise(seed).take(ty.block_bytes()).collect();
                unit_scales(ty, &mut block);
                let q: Vec<i8> = noise(seed + 1000)
                    .take(256)
                    .map(|b| (b as i8).max(-127))
                    .collect();
                let e: [u8; 8] = std::array::from_fn(|j| ((seed as usize + j) % 5) as u8);
                let mut weights = vec![0.0; ty.block_len()];
                dequantize(ty, &block, &mut weights);
                let product = |e: &dyn Fn(usize) -> u8| -> f64 {
                    let term = |(i, w): (usize, &f32)| {
                        f64::from(*w) * f64::from(q[i]) * f64::from(1u32 << e(i))
                    };
                    weights.iter().enumerate().map(term).sum()
                };
                if ty.block_len() == 32 {
                    let dot = dot32(ty, &block, q[..32].try_into().unwrap());
                    let sum = f64::from(dot.d) * f64::from(dot.dot)
                        + f64::from(dot.m) * f64::from(dot.sum);
                    assert_eq!(sum, product(&|_| 0), "{ty}");
                    assert_eq!(dot.m != 0.0, ty.has_minimum(), "{ty}");
                } else {
                    let dot = dot256(ty, &block, q[..].try_into().unwrap(), &e);
                    let sum = f64::from(dot.d) * f64::from(dot.sum)
                        - f64::from(dot.dmin) * f64::from(dot.min);
                    assert_eq!(sum, product(&|i| e[i / 32]), "{ty}");
                    assert_eq!(dot.dmin != 0.0, ty.has_minimum(), "{ty}");
                }
            }
        }
    }

    #[test]
    fn the_largest_products_fit_32_bits() {
        // All bytes 0x80, 0x00 or 0xff reach the extremes of every format: scale −128 with weight −32 in Q6_K,
        // scale −32 with weight −127 in IQ4_XS. Overflow would panic here, where arithmetic is checked.
        for ty in WeightType::ALL
            .into_iter()
            .filter(|ty| ty.block_len() == 256)
        {
            for low in [0x00, 0x80, 0xff] {
                for scale in [0x00, 0x80, 0xff] {
                    for q in [-127, 127] {
                        let mut block = vec![low; ty.block_bytes()];
                        let scales = match ty {
                            WeightType::Q6_K => 192..208,
                            WeightType::IQ4_XS => 2..8,
                            WeightType::Q3_K => 96..108,
                            WeightType::Q2_K => 0..16,
                            _ => 4..16,
                        };
                        block[scales].fill(scale);
                        let product = dot256(ty, &block, &[q; 256], &[4; 8]);
                        assert!(product.sum > i32::MIN);
                    }
                }
            }
        }
    }
}
