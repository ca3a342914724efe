//! The loops over 8-bit multiply-adds with x86-64's instructions. Every product is of ones, so the sum of a loop tells how
//! many it has done.

use std::arch::x86_64::*;
use std::hint::black_box;

use crate::cpu::{Avx2, Avx512};

/// Chains that hide the latency of five cycles at two instructions a cycle, and leave registers for the operands.
const CHAINS: usize = 12;

/// `vpdpbusd` on 512 bits: multiply-adds of a turn, sum of all products.
pub(super) fn avx512_chains(_: Avx512, turns: usize) -> (usize, i64) {
    // SAFETY: the token proves the features.
    (CHAINS * 64, unsafe { avx512(turns) })
}

/// `vpmaddubsw` and `vpaddw` on 256 bits: multiply-adds of a turn, sum of all products.
pub(super) fn avx2_chains(_: Avx2, turns: usize) -> (usize, i64) {
    // SAFETY: the token proves the features.
    (CHAINS * 32, unsafe { avx2(turns) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn avx512(turns: usize) -> i64 {
    let ones = _mm512_set1_epi8(black_box(1));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, ones, ones);
        }
    }
    let mut total = 0;
    for sum in sums {
        total += i64::from(_mm512_reduce_add_epi32(sum));
    }
    total
}

#[target_feature(enable = "avx2")]
fn avx2(turns: usize) -> i64 {
    let ones = _mm256_set1_epi8(black_box(1));
    let mut sums = [_mm256_setzero_si256(); CHAINS];
    let others = [ones; CHAINS];
    for _ in 0..turns {
        // Not known to be the same in every turn and chain, or a product would be computed once for all.
        let others = black_box(&others);
        for (sum, other) in sums.iter_mut().zip(others) {
            *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(ones, *other));
        }
    }
    let mut total = 0;
    for sum in sums {
        let words = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
        let halves = _mm_add_epi32(
            _mm256_castsi256_si128(words),
            _mm256_extracti128_si256::<1>(words),
        );
        let pairs = _mm_hadd_epi32(halves, halves);
        total += i64::from(_mm_cvtsi128_si32(_mm_hadd_epi32(pairs, pairs)));
    }
    total
}
