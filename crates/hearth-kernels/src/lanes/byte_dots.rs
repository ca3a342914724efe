//! Integer sums of 8-bit products on 16 lanes, for 8-bit keys and values.
//!
//! Sums are exact, so a level may take any route to them. [`plain_byte_dots`] implements the trait for a level that has nothing
//! better.

use super::Lanes;
use crate::float::LANES;

/// What attention over 8-bit keys and values does with integers. All sums fit 32 bits.
pub(crate) trait ByteDots: Copy {
    /// The float lanes of the level.
    type Floats: Copy;
    /// Sixteen 32-bit sums.
    type Sums: Copy;
    /// Sixteen lanes of four bytes, prepared.
    type Fours: Copy;
    /// Sixteen lanes of two bytes, prepared.
    type Pairs: Copy;

    /// What sums of [`ByteDots::dot4`] start with, given the sum of all the bytes that will be multiplied with.
    fn dot4_start(self, sum: i32) -> Self::Sums;
    fn load_dot4(self, x: &[u8; 64]) -> Self::Fours;
    /// Adds to every lane the products of its four signed bytes with those of `y`, which lie in −127..=127.
    fn dot4(self, sums: Self::Sums, x: Self::Fours, y: i32) -> Self::Sums;
    /// Zero sums.
    fn dot2_start(self) -> Self::Sums;
    fn load_dot2(self, x: &[u8; 32]) -> Self::Pairs;
    /// Adds to every lane the products of its two signed bytes with the two 16-bit halves of `y`, the lower one first.
    fn dot2(self, sums: Self::Sums, x: Self::Pairs, y: i32) -> Self::Sums;
    /// Rounds to nearest even.
    fn to_float(self, sums: Self::Sums) -> Self::Floats;
    /// Rounds to nearest even and keeps two neighbours, which fit 16 bits, in one number. Of NaN it makes anything.
    fn store_pairs(self, x: Self::Floats, to: &mut [i32; LANES / 2]);
}

/// One cache line of sums.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct PlainSums(pub [i32; LANES]);

#[inline(always)]
pub(super) fn plain_dot4(mut sums: PlainSums, x: &[u8; 64], y: i32) -> PlainSums {
    let y = y.to_le_bytes();
    for (i, sum) in sums.0.iter_mut().enumerate() {
        for (j, y) in y.iter().enumerate() {
            *sum = sum.wrapping_add(i32::from(x[4 * i + j] as i8) * i32::from(*y as i8));
        }
    }
    sums
}

#[inline(always)]
pub(super) fn plain_dot2(mut sums: PlainSums, x: &[u8; 32], y: i32) -> PlainSums {
    let (low, high) = (i32::from(y as i16), y >> 16);
    for (i, sum) in sums.0.iter_mut().enumerate() {
        *sum = sum
            .wrapping_add(i32::from(x[2 * i] as i8) * low)
            .wrapping_add(i32::from(x[2 * i + 1] as i8) * high);
    }
    sums
}

#[inline(always)]
pub(super) fn plain_store_pairs<S: Lanes>(s: S, x: S::V, to: &mut [i32; LANES / 2]) {
    let mut lanes = [0.0; LANES];
    s.store(s.round_ties_even(x), &mut lanes);
    for (pair, to) in lanes.as_chunks::<2>().0.iter().zip(to) {
        *to = (pair[0] as i32 & 0xffff) | ((pair[1] as i32) << 16);
    }
}

/// Implements [`ByteDots`] with loops over arrays for a level of [`Lanes`].
macro_rules! plain_byte_dots {
    ($level:ty) => {
        impl $crate::lanes::ByteDots for $level {
            type Floats = <$level as $crate::lanes::Lanes>::V;
            type Sums = $crate::lanes::byte_dots::PlainSums;
            type Fours = [u8; 64];
            type Pairs = [u8; 32];

            #[inline(always)]
            fn dot4_start(self, _sum: i32) -> Self::Sums {
                $crate::lanes::byte_dots::PlainSums([0; $crate::float::LANES])
            }

            #[inline(always)]
            fn load_dot4(self, x: &[u8; 64]) -> [u8; 64] {
                *x
            }

            #[inline(always)]
            fn dot4(self, sums: Self::Sums, x: [u8; 64], y: i32) -> Self::Sums {
                $crate::lanes::byte_dots::plain_dot4(sums, &x, y)
            }

            #[inline(always)]
            fn dot2_start(self) -> Self::Sums {
                $crate::lanes::byte_dots::PlainSums([0; $crate::float::LANES])
            }

            #[inline(always)]
            fn load_dot2(self, x: &[u8; 32]) -> [u8; 32] {
                *x
            }

            #[inline(always)]
            fn dot2(self, sums: Self::Sums, x: [u8; 32], y: i32) -> Self::Sums {
                $crate::lanes::byte_dots::plain_dot2(sums, &x, y)
            }

            #[inline(always)]
            fn to_float(self, sums: Self::Sums) -> Self::Floats {
                $crate::lanes::Lanes::load(self, &sums.0.map(|sum| sum as f32))
            }

            #[inline(always)]
            fn store_pairs(self, x: Self::Floats, to: &mut [i32; $crate::float::LANES / 2]) {
                $crate::lanes::byte_dots::plain_store_pairs(self, x, to)
            }
        }
    };
}
pub(super) use plain_byte_dots;
