//! What the streaming AVX-512 kernels read for one to four tokens: the same activations in the order in which a format's packed
//! bits meet them, and everything else per super-block spread over lanes.
//!
//! Those kernels take four super-blocks at a time without regard to where rows end, so each token's blocks continue with the
//! first ones again.

use std::arch::x86_64::*;

use super::{A32Block, A256Block};
use crate::cpu::Avx512;
use crate::matmul::driver::grow;

/// Super-blocks that follow the last one, repeated from the first.
pub(crate) const CONTINUED: usize = 3;

/// One super-block of one token.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct StreamBlock {
    /// In order.
    pub q: [i8; 256],
    /// In the order of nibbles: runs of 32 numbered 0, 2, 1, 3 and 4, 6, 5, 7. Packed bytes hold run 2p in their low and run
    /// 2p + 1 in their high halves, and a register holds 64 bytes of them.
    pub q_nibble: [i8; 256],
    /// Minus 32 times the sum of each four of `q`.
    pub start4: [i32; 64],
    /// Exponents as `packs(d0, d1)` and `packs(d2, d3)` order the sums of four of `q_nibble`.
    pub e_nibble: [[i16; 32]; 2],
    /// The same for `q`.
    pub e_plain: [[i16; 32]; 2],
    /// Sums of 16 times two to the exponent: at most 16 · 127 · 16 = 32512.
    pub shifted_sum16: [i16; 16],
}

impl StreamBlock {
    const ZERO: StreamBlock = StreamBlock {
        q: [0; 256],
        q_nibble: [0; 256],
        start4: [0; 64],
        e_nibble: [[0; 32]; 2],
        e_plain: [[0; 32]; 2],
        shifted_sum16: [0; 16],
    };
}

/// A256 activations of up to four tokens. Buffers keep the length of the largest call and begin with the present one's.
#[derive(Debug, Default)]
pub(crate) struct Stream256 {
    /// Super-blocks of a row.
    n_blocks: usize,
    /// `[n_tokens, n_blocks + CONTINUED]`, as are the next two.
    blocks: Vec<StreamBlock>,
    /// Sums of 32.
    sum32: Vec<[i16; 8]>,
    /// Exponents.
    e: Vec<[i16; 8]>,
    /// `[n_tokens, n_blocks]`.
    base: Vec<f32>,
}

/// One token of a [`Stream256`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamToken<'a> {
    pub blocks: &'a [StreamBlock],
    pub sum32: &'a [[i16; 8]],
    pub e: &'a [[i16; 8]],
    pub base: &'a [f32],
}

impl Stream256 {
    /// Capacity for so many tokens with rows of so many super-blocks.
    pub fn reserve(&mut self, n_tokens: usize, n_blocks: usize) {
        let n = n_tokens * (n_blocks + CONTINUED);
        self.blocks
            .reserve_exact(n.saturating_sub(self.blocks.len()));
        self.sum32.reserve_exact(n.saturating_sub(self.sum32.len()));
        self.e.reserve_exact(n.saturating_sub(self.e.len()));
        self.base.reserve_exact(n.saturating_sub(self.base.len()));
    }

    /// What a token of so many super-blocks takes at most.
    pub fn token_bytes(n_blocks: usize) -> usize {
        (n_blocks + CONTINUED) * (size_of::<StreamBlock>() + 2 * size_of::<[i16; 8]>() + 4)
    }

    /// Rearranges `[n_blocks, n_tokens]` blocks, at least one per token.
    pub fn fill(&mut self, token: Avx512, acts: &[A256Block], n_tokens: usize) -> &Stream256 {
        self.n_blocks = acts.len() / n_tokens;
        let n = self.n_blocks + CONTINUED;
        grow(&mut self.blocks, n_tokens * n, StreamBlock::ZERO);
        grow(&mut self.sum32, n_tokens * n, [0; 8]);
        grow(&mut self.e, n_tokens * n, [0; 8]);
        grow(&mut self.base, n_tokens * self.n_blocks, 0.0);
        for (t, i) in (0..n_tokens).flat_map(|t| (0..n).map(move |i| (t, i))) {
            let act = &acts[i % self.n_blocks * n_tokens + t];
            fill(token, &mut self.blocks[t * n + i], act);
            self.sum32[t * n + i] = act.sum32;
            self.e[t * n + i] = act.e.map(i16::from);
            if i < self.n_blocks {
                self.base[t * self.n_blocks + i] = act.base;
            }
        }
        self
    }

    /// One token's activations.
    pub fn token(&self, token: usize) -> StreamToken<'_> {
        let n = self.n_blocks + CONTINUED;
        StreamToken {
            blocks: &self.blocks[token * n..][..n],
            sum32: &self.sum32[token * n..][..n],
            e: &self.e[token * n..][..n],
            base: &self.base[token * self.n_blocks..][..self.n_blocks],
        }
    }
}

fn fill(_: Avx512, to: &mut StreamBlock, act: &A256Block) {
    // SAFETY: the token proves the features.
    unsafe { fill_block(to, act) }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn fill_block(to: &mut StreamBlock, act: &A256Block) {
    to.q = act.q;
    let runs = act.q.as_chunks::<32>().0;
    let nibble_runs = to.q_nibble.as_chunks_mut::<32>().0;
    for (place, run) in [0, 2, 1, 3, 4, 6, 5, 7].into_iter().enumerate() {
        nibble_runs[place] = runs[run];
    }
    for (start, q) in to
        .start4
        .as_chunks_mut::<16>()
        .0
        .iter_mut()
        .zip(act.q.as_chunks::<64>().0)
    {
        // SAFETY: 64 readable and 64 writable bytes.
        unsafe {
            let q = _mm512_loadu_si512(q.as_ptr().cast());
            let sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(32), q);
            _mm512_storeu_si512(
                start.as_mut_ptr().cast(),
                _mm512_sub_epi32(_mm512_setzero_si512(), sum),
            );
        }
    }
    // SAFETY: arrays of 32 bytes.
    unsafe {
        let sum16 = _mm256_loadu_si256(act.sum16.as_ptr().cast());
        let e = _mm256_loadu_si256(act.twin_e.as_ptr().cast());
        let shifted = _mm256_sllv_epi16(sum16, e);
        _mm256_storeu_si256(to.shifted_sum16.as_mut_ptr().cast(), shifted);
    }
    // Lane l of the packed sums has four of `d0` and four of `d1`.
    for half in 0..2 {
        let e = |run: usize| i16::from(act.e[half * 4 + run]);
        for lane in 0..4 {
            let (low, high) = to.e_nibble[half][lane * 8..][..8].split_at_mut(4);
            low.fill(e(lane / 2 * 2));
            high.fill(e(lane / 2 * 2 + 1));
            let (low, high) = to.e_plain[half][lane * 8..][..8].split_at_mut(4);
            low.fill(e(lane / 2));
            high.fill(e(2 + lane / 2));
        }
    }
}

/// Eight blocks of 32 activations of one token. Blocks beyond the last are zero.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct StreamUnit {
    /// Registers of 64: blocks j and j + 4.
    pub q_pair: [i8; 256],
    /// Registers of 64: the first halves of blocks 0 to 3, their second halves, and the same of blocks 4 to 7. Packed bytes
    /// hold the first half of a block in their low nibbles.
    pub q_nibble: [i8; 256],
    pub step: [f32; 8],
    pub minus_sum: [i32; 8],
    /// Sum times step, as the products with minimums use it.
    pub sum_step: [f32; 8],
}

impl StreamUnit {
    const ZERO: StreamUnit = StreamUnit {
        q_pair: [0; 256],
        q_nibble: [0; 256],
        step: [0.0; 8],
        minus_sum: [0; 8],
        sum_step: [0.0; 8],
    };
}

/// A32 activations of up to four tokens. The buffer keeps the length of the largest call and begins with the present one's.
#[derive(Debug, Default)]
pub(crate) struct Stream32 {
    n_units: usize,
    /// `[n_tokens, n_units]`.
    units: Vec<StreamUnit>,
}

impl Stream32 {
    /// Capacity for so many tokens with rows of so many blocks.
    pub fn reserve(&mut self, n_tokens: usize, n_blocks: usize) {
        let n = n_tokens * n_blocks.div_ceil(8);
        self.units.reserve_exact(n.saturating_sub(self.units.len()));
    }

    /// What a token of so many blocks takes.
    pub fn token_bytes(n_blocks: usize) -> usize {
        n_blocks.div_ceil(8) * size_of::<StreamUnit>()
    }

    /// Rearranges `[n_blocks, n_tokens]` blocks.
    pub fn fill(&mut self, acts: &[A32Block], n_tokens: usize) -> &Stream32 {
        let n_blocks = acts.len() / n_tokens;
        self.n_units = n_blocks.div_ceil(8);
        grow(&mut self.units, n_tokens * self.n_units, StreamUnit::ZERO);
        if !n_blocks.is_multiple_of(8) {
            for token in 0..n_tokens {
                self.units[(token + 1) * self.n_units - 1] = StreamUnit::ZERO;
            }
        }
        for (block, acts) in acts.chunks_exact(n_tokens).enumerate() {
            for (token, act) in acts.iter().enumerate() {
                let unit = &mut self.units[token * self.n_units + block / 8];
                let j = block % 8;
                unit.q_pair[j % 4 * 64 + j / 4 * 32..][..32].copy_from_slice(&act.q);
                let (first, second) = act.q.split_at(16);
                unit.q_nibble[j / 4 * 128 + j % 4 * 16..][..16].copy_from_slice(first);
                unit.q_nibble[j / 4 * 128 + 64 + j % 4 * 16..][..16].copy_from_slice(second);
                unit.step[j] = act.step;
                unit.minus_sum[j] = act.minus_sum;
                unit.sum_step[j] = act.sum as f32 * act.step;
            }
        }
        self
    }

    /// One token's activations.
    pub fn token(&self, token: usize) -> &[StreamUnit] {
        &self.units[token * self.n_units..][..self.n_units]
    }
}
