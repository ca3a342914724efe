//! What every block format states about itself, and what follows from it.
//!
//! A format says where its bytes lie and how they become small integers and scales; dequantisation and the block
//! dot products are written here once, over those statements. They are the specification every level must equal,
//! so they stay plain: fast code lives in `matmul`.

/// A block as it lies in the file.
///
/// # Safety
/// The type must consist of `u8` and `i8` arrays only (alignment 1, no padding, every bit pattern valid), so that
/// any `size_of::<Self>()` bytes are a block. `block!` declares such types and nothing else implements this.
pub(crate) unsafe trait Block: Copy {
    /// Bytes of one block.
    const BYTES: usize = size_of::<Self>();

    /// Views the first `BYTES` bytes of `bytes` as a block. Panics if there are fewer.
    fn view(bytes: &[u8]) -> &Self {
        let bytes = &bytes[..Self::BYTES];
        // SAFETY: the slice is exactly as long as Self, whose alignment is 1 and whose every bit pattern is valid
        // (contract of this trait); the lifetime is that of `bytes`.
        unsafe { &*bytes.as_ptr().cast::<Self>() }
    }

    /// Views the first `N` blocks of `bytes`, if there are as many.
    #[cfg(target_arch = "x86_64")]
    fn view_run<const N: usize>(bytes: &[u8]) -> Option<&[Self; N]> {
        let bytes = bytes.get(..N * Self::BYTES)?;
        // SAFETY: the slice is exactly as long as the array; the rest as in `view`.
        Some(unsafe { &*bytes.as_ptr().cast::<[Self; N]>() })
    }
}

/// Declares a block struct of byte arrays, checks its size, and makes it viewable.
macro_rules! block {
    ($(#[$doc:meta])* $name:ident, $bytes:expr, { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: $ty,)*
        }
        const _: () = assert!(size_of::<$name>() == $bytes && align_of::<$name>() == 1);
        // SAFETY: alignment 1 leaves only byte-sized fields and no padding, both checked above; the formats
        // declare nothing but arrays of u8 and i8.
        unsafe impl $crate::quant::block::Block for $name {}
    };
}
pub(crate) use block;

/// A half-precision number as the formats store it, exactly as f32.
pub(crate) fn half(bytes: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(bytes).to_f32_const()
}

/// A format with one scale, and perhaps one minimum, per 32 weights: weight = `scale · integer (+ min)`.
/// Its products take activations in the format A32.
pub(crate) trait Block32: Block {
    /// Whether the format adds a minimum to every weight.
    const HAS_MIN: bool = false;

    /// The integer weights in order.
    fn weights(&self) -> [i8; 32];

    /// The factor of the integers.
    fn scale(&self) -> f32;

    /// What is added to every weight.
    fn min(&self) -> f32 {
        0.0
    }

    /// The weights as f32: one rounding for the product and one for the sum, as ggml has it.
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (scale, min) = (self.scale(), self.min());
        for (out, w) in out.iter_mut().zip(self.weights()) {
            *out = f32::from(w) * scale;
            if Self::HAS_MIN {
                *out += min;
            }
        }
    }
}

/// The scales of one super-block: weight = `(d·scales[i/16])·integer − dmin·mins[i/16]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scales {
    pub(crate) d: f32,
    pub(crate) dmin: f32,
    /// One per 16 weights; formats with one per 32 state it twice. 6 bits, or the whole i8 in `Q6_K`.
    pub(crate) scales: [i8; 16],
    /// One per 16 weights, 0..=63; zero in formats without minimum.
    pub(crate) mins: [i8; 16],
}

/// A format with super-blocks of 256 weights: one or two f16 scales above small integer scales per 16 or 32.
/// Its products take activations in the format A256.
pub(crate) trait Block256: Block {
    /// Whether the format subtracts a minimum from every weight.
    const HAS_MIN: bool = false;

    /// The integer weights in order.
    fn weights(&self, out: &mut [i8; 256]);

    /// The scales in order.
    fn scales(&self) -> Scales;

    /// The weights as f32; the order of the products is ggml's.
    fn dequantize(&self, out: &mut [f32; 256]) {
        let mut weights = [0; 256];
        self.weights(&mut weights);
        let s = self.scales();
        for j in 0..16 {
            let scale = s.d * f32::from(s.scales[j]);
            let min = s.dmin * f32::from(s.mins[j]);
            for i in j * 16..j * 16 + 16 {
                out[i] = scale * f32::from(weights[i]);
                if Self::HAS_MIN {
                    out[i] -= min;
                }
            }
        }
    }
}

/// Product of one block of 32 weights with 32 activations, before any rounding.
///
/// With `step` the activations' step, a row's sum over blocks in order is
/// `acc = fma(d, f32(dot)·step, acc)`, then, where the format has a minimum, `acc = fma(m, f32(sum)·step, acc)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dot32 {
    /// The block's scale.
    pub(crate) d: f32,
    /// The block's minimum, 0 for formats without one.
    pub(crate) m: f32,
    /// Σ weight·activation in integers.
    pub(crate) dot: i32,
    /// Σ activation.
    pub(crate) sum: i32,
}

/// Product of one super-block with 256 activations, before any rounding.
///
/// With `base` the activations' base, a row's sum over super-blocks in order is
/// `acc = fma(base, fma(d, f32(sum), −(dmin·f32(min))), acc)`, and `acc = fma(base, d·f32(sum), acc)` where the
/// format has no minimum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dot256 {
    /// The super-block's scale.
    pub(crate) d: f32,
    /// The super-block's scale of the minima, 0 for formats without them.
    pub(crate) dmin: f32,
    /// Σⱼ (scaleⱼ·2^eⱼ)·dotⱼ. Below 2³¹ for every block there can be, in any order of summation: the largest
    /// case is `Q6_K`'s 256 · (128·2⁴) · 32 · 127 = 2.131e9.
    pub(crate) sum: i32,
    /// Σⱼ (minⱼ·2^eⱼ)·Σqⱼ.
    pub(crate) min: i32,
}

/// The block dot product of an A32 format.
pub(crate) fn dot32<B: Block32>(block: &[u8], q: &[i8; 32]) -> Dot32 {
    let block = B::view(block);
    let (mut dot, mut sum) = (0, 0);
    for (w, q) in block.weights().into_iter().zip(q) {
        dot += i32::from(w) * i32::from(*q);
        sum += i32::from(*q);
    }
    Dot32 {
        d: block.scale(),
        m: block.min(),
        dot,
        sum,
    }
}

/// The block dot product of an A256 format.
pub(crate) fn dot256<B: Block256>(block: &[u8], q: &[i8; 256], e: &[u8; 8]) -> Dot256 {
    let block = B::view(block);
    let mut weights = [0; 256];
    block.weights(&mut weights);
    let s = block.scales();
    let (mut sum, mut min) = (0, 0);
    for j in 0..16 {
        let (mut dot, mut q_sum) = (0, 0);
        for i in j * 16..j * 16 + 16 {
            dot += i32::from(weights[i]) * i32::from(q[i]);
            q_sum += i32::from(q[i]);
        }
        sum += (i32::from(s.scales[j]) << e[j / 2]) * dot;
        min += (i32::from(s.mins[j]) << e[j / 2]) * q_sum;
    }
    Dot256 {
        d: s.d,
        dmin: s.dmin,
        sum,
        min,
    }
}

/// Splits 16 bytes of two nibbles each into 32 integers: all low nibbles, then all high ones.
pub(crate) fn nibbles(packed: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, byte) in packed.iter().enumerate() {
        out[i] = byte & 15;
        out[i + 16] = byte >> 4;
    }
    out
}

/// The eight 6-bit scales and eight 6-bit minima that `Q4_K` and `Q5_K` pack into 12 bytes: bytes 0–3 and 4–7
/// hold the first four of each in their low 6 bits and, in their high 2, the tops of the last four, whose low
/// nibbles share bytes 8–11. Each is stated twice, once per 16 weights.
pub(crate) fn scales_and_mins(packed: &[u8; 12]) -> ([i8; 16], [i8; 16]) {
    let (mut scales, mut mins) = ([0; 16], [0; 16]);
    for j in 0..4 {
        let (a, b, c) = (packed[j], packed[j + 4], packed[j + 8]);
        for half in 0..2 {
            scales[j * 2 + half] = (a & 63) as i8;
            mins[j * 2 + half] = (b & 63) as i8;
            scales[j * 2 + half + 8] = ((c & 15) | ((a >> 6) << 4)) as i8;
            mins[j * 2 + half + 8] = ((c >> 4) | ((b >> 6) << 4)) as i8;
        }
    }
    (scales, mins)
}
