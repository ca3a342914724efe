//! What this machine can do at most: multiply-adds in a second and bytes read in a second, by a level and its threads.
//!
//! The loops here do nothing else than the instruction that the products spend their time in, on registers that are full,
//! so nothing built of these instructions can be faster. A measured speed says little by itself; its share of such a
//! ceiling says what is left to gain. Each figure takes some hundredths of a second and is the best of several tries,
//! because other programs can only make it smaller.

use std::hint::black_box;
use std::time::Instant;

use crate::Kernels;
use crate::cpu::Isa;
use crate::float::LANES;
use crate::lanes::{self, LaneOp, Lanes};

#[cfg(target_arch = "x86_64")]
mod x86;

/// How often each figure is measured.
const TRIES: usize = 12;

/// Chunks for each thread: enough that one which is held back leaves its share to the others.
const CHUNKS: usize = 32;

/// Turns of an arithmetic loop in a chunk; some ten microseconds.
const TURNS: usize = 4096;

/// Bytes in a chunk of reading.
const READ_BYTES: usize = 1 << 20;

impl Kernels {
    /// Multiply-adds of `f32` in a second, all threads together.
    pub fn float_ceiling(&self) -> f64 {
        let chains = |turns| lanes::run(self.isa(), FloatChains { turns });
        let per_turn = chains(1).0;
        self.best_rate(TURNS * per_turn, || {
            black_box(chains(black_box(TURNS)));
        })
    }

    /// Multiply-adds of 8-bit integers in a second, all threads together, with the instruction that the level's products
    /// use. Unknown for levels that are not made for speed, and for AVX-VNNI and ARM, whose loops could not be timed yet.
    pub fn int8_ceiling(&self) -> Option<f64> {
        let (per_turn, _) = int8_chains(self.isa(), 1)?;
        Some(self.best_rate(TURNS * per_turn, || {
            black_box(int8_chains(self.isa(), black_box(TURNS)));
        }))
    }

    /// Bytes read in a second when all threads go through `data` once from front to back; unknown when it is empty.
    /// `data` should be what a step reads, where it lies: memory and caches are as slow as they are there.
    pub fn read_ceiling(&self, data: &[&[u8]]) -> Option<f64> {
        let chunks: Vec<&[u8]> = data
            .iter()
            .flat_map(|part| part.chunks(READ_BYTES))
            .collect();
        let n_bytes: usize = data.iter().map(|part| part.len()).sum();
        if n_bytes == 0 {
            return None;
        }
        let seconds = self.best_seconds(chunks.len(), |chunk| {
            black_box(lanes::run(self.isa(), ReadThrough(chunks[chunk])));
        });
        Some(n_bytes as f64 / seconds)
    }

    /// Units of work in a second, when `body` does `work` of them.
    fn best_rate(&self, work: usize, body: impl Fn() + Sync) -> f64 {
        let n_chunks = CHUNKS * self.n_threads();
        (n_chunks * work) as f64 / self.best_seconds(n_chunks, |_| body())
    }

    fn best_seconds(&self, n_chunks: usize, body: impl Fn(usize) + Sync) -> f64 {
        let one = |_| {
            let start = Instant::now();
            self.team().run(n_chunks, |worker| {
                while let Some(chunk) = worker.claim() {
                    body(chunk);
                }
            });
            start.elapsed().as_secs_f64()
        };
        // A clock may be too coarse for a tiny model; a billionth of a second is below every real one.
        (0..TRIES).map(one).fold(f64::INFINITY, f64::min).max(1e-9)
    }
}

/// Independent chains of 8-bit multiply-adds: as [`FloatChains`], where the level has an instruction for them.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn int8_chains(isa: Isa, turns: usize) -> Option<(usize, i64)> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => Some(x86::avx512_chains(token, turns)),
        #[cfg(target_arch = "x86_64")]
        // With `vpdpbusd` the products are faster than this loop, and a limit that can be exceeded is none.
        Isa::Avx2(token) if !token.has_vnni() => Some(x86::avx2_chains(token, turns)),
        _ => None,
    }
}

/// Independent chains of fused multiply-adds, as many as hide their latency; returns the multiply-adds of a turn and the
/// sum of all lanes when every product is one.
struct FloatChains {
    turns: usize,
}

impl LaneOp for FloatChains {
    type Output = (usize, f32);

    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) -> (usize, f32) {
        // Where 16 lanes take several registers, fewer chains are as many instructions in flight.
        if S::ACCUMULATORS >= 16 {
            float_chains::<S, 12>(lanes, self.turns)
        } else {
            float_chains::<S, 5>(lanes, self.turns)
        }
    }
}

#[inline(always)]
fn float_chains<S: Lanes, const N: usize>(lanes: S, turns: usize) -> (usize, f32) {
    let one = lanes.splat(black_box(1.0));
    let mut sums = [lanes.splat(0.0); N];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = lanes.fma(one, one, *sum);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += lanes.reduce(sum);
    }
    (N * LANES, total)
}

/// Adds up all bytes as 32-bit words: the cheapest use of them.
struct ReadThrough<'a>(&'a [u8]);

impl LaneOp for ReadThrough<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) -> u32 {
        /// The processor's own prefetching stops at every page of 4 KiB; the products ask ahead as well.
        const AHEAD: usize = 8192;
        let (lines, rest) = self.0.as_chunks::<{ 4 * LANES }>();
        let mut sums = [0u32; LANES];
        for line in lines {
            lanes.prefetch(line.as_ptr().wrapping_add(AHEAD));
            // Two loops, the words in registers between them: together they are not vectorised, and half as fast.
            let mut words = [0u32; LANES];
            for (i, word) in words.iter_mut().enumerate() {
                let at = 4 * i;
                *word = u32::from_le_bytes([line[at], line[at + 1], line[at + 2], line[at + 3]]);
            }
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(word);
            }
        }
        let words = sums
            .into_iter()
            .chain(rest.iter().map(|byte| u32::from(*byte)));
        words.fold(0, u32::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_loops_do_the_work_they_are_counted_for() {
        testing::each_kernels(|kernels| {
            let (per_turn, sum) = lanes::run(kernels.isa(), FloatChains { turns: 100 });
            assert_eq!(sum, 100.0 * per_turn as f32);
            if let Some((per_turn, sum)) = int8_chains(kernels.isa(), 100) {
                assert_eq!(sum, 100 * per_turn as i64);
            }
        });
    }

    #[test]
    fn every_byte_is_read() {
        let data: Vec<u8> = (0..10_007u32).map(|i| (i * 7 + i / 256) as u8).collect();
        let read = |data: &[u8]| {
            let whole = data.len() / 64 * 64;
            let words = data[..whole]
                .as_chunks::<4>()
                .0
                .iter()
                .map(|word| u32::from_le_bytes(*word));
            let rest = data[whole..].iter().map(|byte| u32::from(*byte));
            words.chain(rest).fold(0, u32::wrapping_add)
        };
        testing::each_kernels(|kernels| {
            for n in [0, 1, 63, 64, 300, 10_007] {
                let found = lanes::run(kernels.isa(), ReadThrough(&data[..n]));
                assert_eq!(found, read(&data[..n]), "{n} bytes");
            }
        });
    }

    #[test]
    fn there_is_a_ceiling_for_whatever_a_level_computes_with() {
        testing::each_kernels(|kernels| {
            let is_fast = int8_chains(kernels.isa(), 1).is_some();
            assert!(kernels.float_ceiling().is_normal());
            assert_eq!(kernels.int8_ceiling().is_some_and(f64::is_normal), is_fast);
            assert!(
                kernels
                    .read_ceiling(&[&[1; 5000], &[2; 3]])
                    .is_some_and(f64::is_normal)
            );
            assert_eq!(kernels.read_ceiling(&[]), None);
        });
    }
}
