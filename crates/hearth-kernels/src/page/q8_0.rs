//! 8-bit keys and values: integers from −127 to 127 with steps beside them.
//!
//! A head's keys of a page are four groups of 16 positions: the steps `[head_dim / 32][16]`, then the integers
//! `[head_dim / 4][16][4]`, so that four dimensions of 16 positions are one register of bytes. A width that is no multiple of 32
//! has a shorter last block; one that is no multiple of 4 is filled with zeros. A head's values are the steps `[64]`, then the
//! integers `[64 / 2][head_dim_v][2]`: two positions of an element meet in one 16-bit product sum. Steps are little-endian
//! binary32.

use super::PAGE_POSITIONS;
use crate::float::LANES;

/// Dimensions of a key that share a step.
pub(crate) const BLOCK: usize = 32;

/// Magnitudes below 2⁻¹⁰⁰ count as zero, which keeps reciprocals and steps normal numbers; as with activations.
pub(crate) const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// Exponent bits of infinity: where magnitudes that are not finite begin.
const NOT_FINITE: u32 = 0x7f80_0000;

/// Bytes of the keys of 16 positions of one head. The head's keys have been counted.
#[inline(always)]
pub(crate) fn group_bytes(head_dim: usize) -> usize {
    LANES * 4 * (head_dim.div_ceil(BLOCK) + head_dim.div_ceil(4))
}

/// See [`super::KvType::key_bytes`].
pub(super) fn key_bytes(head_dim: usize) -> Option<usize> {
    // Steps and padding less than double the dimensions.
    head_dim.checked_mul(4 * PAGE_POSITIONS)?;
    Some(PAGE_POSITIONS / LANES * group_bytes(head_dim))
}

/// See [`super::KvType::value_bytes`].
pub(super) fn value_bytes(head_dim_v: usize) -> Option<usize> {
    head_dim_v.checked_add(4)?.checked_mul(PAGE_POSITIONS)
}

/// The factor that brings `x` to 8 bits, and the step that brings it back. Zero both for what counts as zero; a NaN step where
/// anything is not finite.
#[inline(always)]
fn factor_and_step(x: &[f32]) -> (f32, f32) {
    // Magnitudes are ordered as their bits are, infinity and NaN above all.
    let bits = x
        .iter()
        .fold(0, |max: u32, x| max.max(x.to_bits() & 0x7fff_ffff));
    let amax = f32::from_bits(bits);
    if bits >= NOT_FINITE {
        (0.0, f32::NAN)
    } else if amax < TINY {
        (0.0, 0.0)
    } else {
        (127.0 / amax, amax / 127.0)
    }
}

#[inline(always)]
fn round(x: f32, factor: f32) -> i8 {
    (x * factor).round_ties_even().clamp(-127.0, 127.0) as i8
}

/// Rounds `x` to 8 bits with one step, which it gives: `x ≈ q * step`. If anything is not finite the step is NaN, `q` unspecified.
#[inline(always)]
pub(crate) fn quantize(x: &[f32], q: &mut [i8]) -> f32 {
    let (factor, step) = factor_and_step(x);
    for (q, x) in q.iter_mut().zip(x) {
        *q = round(*x, factor);
    }
    step
}

/// Writes a key into column `slot % 16` of its group.
#[inline(always)]
pub(super) fn store_key(keys: &mut [u8], slot: usize, k: &[f32]) {
    let len = group_bytes(k.len());
    let group = &mut keys[slot / LANES * len..][..len];
    let (steps, bytes) = group
        .as_chunks_mut::<{ 4 * LANES }>()
        .0
        .split_at_mut(k.len().div_ceil(BLOCK));
    let column = slot % LANES * 4;
    for ((x, step), bytes) in k.chunks(BLOCK).zip(steps).zip(bytes.chunks_mut(BLOCK / 4)) {
        let mut q = [0i8; BLOCK];
        let s = quantize(x, &mut q[..x.len()]);
        step[column..column + 4].copy_from_slice(&s.to_le_bytes());
        for (four, to) in q.as_chunks::<4>().0.iter().zip(bytes) {
            to[column..column + 4].copy_from_slice(&four.map(|q| q as u8));
        }
    }
}

/// Writes a value beside its neighbour's.
#[inline(always)]
pub(super) fn store_value(values: &mut [u8], slot: usize, v: &[f32]) {
    let (steps, rows) = values.split_at_mut(4 * PAGE_POSITIONS);
    let row = &mut rows.as_chunks_mut::<2>().0[slot / 2 * v.len()..][..v.len()];
    let (factor, step) = factor_and_step(v);
    for (to, x) in row.iter_mut().zip(v) {
        to[slot % 2] = round(*x, factor) as u8;
    }
    steps[4 * slot..][..4].copy_from_slice(&step.to_le_bytes());
}
