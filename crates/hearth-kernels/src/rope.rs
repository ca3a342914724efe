//! Rotary position embedding: pairs of elements of every head turned by an angle that grows with the position.
//!
//! A pair `(x0, x1)` becomes `y0 = fma(x0, c, -(x1 * s))`, `y1 = fma(x1, c, x0 * s)`. Angles are `position * inverse frequency`
//! in f32 and go through `libm`, as the reference implementation does it; they are computed once per step in a
//! [`RopeTable`] and serve every layer and head. Which pairs exist depends on how a family stores its weights: [`RopeKind`].

mod freqs;

pub use freqs::{RopeFreqs, RopeScaling};

use crate::Kernels;
use crate::lanes::{self, LaneOp, Lanes};

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeKind {
    /// Neighbours: `(2i, 2i + 1)`.
    Normal,
    /// Halves of the rotated part: `(i, i + n_rot / 2)`.
    Neox,
}

/// Cosines and sines of a step: `[n_tokens, n_rot / 2]`, already multiplied by the attention factor.
#[derive(Debug, Clone, Default)]
pub struct RopeTable {
    n_pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// A table with room for `n_tokens` rows of `n_rot / 2`, so that filling it allocates nothing.
    pub fn with_capacity(n_tokens: usize, n_rot: usize) -> RopeTable {
        let capacity = n_tokens * (n_rot / 2);
        RopeTable {
            n_pairs: n_rot / 2,
            cos: Vec::with_capacity(capacity),
            sin: Vec::with_capacity(capacity),
        }
    }

    /// Computes the rows for `positions`, replacing what was there.
    pub fn fill(&mut self, freqs: &RopeFreqs, positions: &[u32]) {
        self.n_pairs = freqs.inverse().len();
        self.cos.clear();
        self.sin.clear();
        for pos in positions {
            for inverse in freqs.inverse() {
                let angle = *pos as f32 * inverse;
                self.cos.push(libm::cosf(angle) * freqs.attention_factor());
                self.sin.push(libm::sinf(angle) * freqs.attention_factor());
            }
        }
    }

    /// Rows in the table.
    pub fn n_tokens(&self) -> usize {
        self.cos.len().checked_div(self.n_pairs).unwrap_or(0)
    }

    /// Elements of a head that are rotated.
    pub fn n_rot(&self) -> usize {
        2 * self.n_pairs
    }

    fn row(&self, token: usize) -> (&[f32], &[f32]) {
        let range = token * self.n_pairs..(token + 1) * self.n_pairs;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

impl Kernels {
    /// Rotates `x`, `[n_tokens, n_head, head_dim]`, by the angles of `table`; elements of a head from `n_rot` on stay.
    ///
    /// # Panics
    /// If `x` has not one row per row of the table, or heads are shorter than what is rotated.
    pub fn rope(
        &self,
        kind: RopeKind,
        table: &RopeTable,
        x: &mut [f32],
        n_head: usize,
        head_dim: usize,
    ) {
        let row_len = n_head * head_dim;
        assert!(
            table.n_rot() <= head_dim,
            "{} rotated elements in heads of {head_dim}",
            table.n_rot()
        );
        assert_eq!(
            x.len(),
            table.n_tokens() * row_len,
            "rope needs one row of the table per token"
        );
        if table.n_pairs == 0 || n_head == 0 {
            return;
        }
        self.for_parts(x, row_len, |first, x| {
            lanes::run(
                self.isa(),
                Rotate {
                    kind,
                    table,
                    x,
                    first_token: first / row_len,
                    row_len,
                    head_dim,
                },
            );
        });
    }
}

/// One level for all: two rounded operations per element in plain loops, which the compiler turns into lanes.
struct Rotate<'a> {
    kind: RopeKind,
    table: &'a RopeTable,
    x: &'a mut [f32],
    first_token: usize,
    row_len: usize,
    head_dim: usize,
}

impl LaneOp for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        let n_pairs = self.table.n_pairs;
        for (i, row) in self.x.chunks_exact_mut(self.row_len).enumerate() {
            let (cos, sin) = self.table.row(self.first_token + i);
            for head in row.chunks_exact_mut(self.head_dim) {
                match self.kind {
                    RopeKind::Neox => {
                        let (low, high) = head.split_at_mut(n_pairs);
                        rotate_halves(low, &mut high[..n_pairs], cos, sin);
                    }
                    RopeKind::Normal => rotate_neighbours(&mut head[..2 * n_pairs], cos, sin),
                }
            }
        }
    }
}

#[inline(always)]
fn rotate_halves(low: &mut [f32], high: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (((x0, x1), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*x0, *x1) = rotate(*x0, *x1, *c, *s);
    }
}

#[inline(always)]
fn rotate_neighbours(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, c), s) in x.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        (pair[0], pair[1]) = rotate(pair[0], pair[1], *c, *s);
    }
}

/// The definition.
#[inline(always)]
fn rotate(x0: f32, x1: f32, c: f32, s: f32) -> (f32, f32) {
    (x0.mul_add(c, -(x1 * s)), x1.mul_add(c, x0 * s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn table(n_rot: usize, positions: &[u32]) -> RopeTable {
        let freqs = RopeFreqs::new(n_rot, 10_000.0, RopeScaling::None, None);
        let mut table = RopeTable::with_capacity(positions.len(), n_rot);
        table.fill(&freqs, positions);
        table
    }

    #[test]
    fn every_level_and_team_gives_the_bits_of_the_definition() {
        testing::each_kernels(|kernels| {
            for (n_tokens, n_head, head_dim, n_rot) in [
                (0, 2, 8, 8),
                (1, 1, 2, 2),
                (3, 2, 16, 16),
                (5, 3, 40, 20),
                (2, 4, 128, 128),
                (40, 8, 64, 62),
            ] {
                let positions: Vec<u32> = (0..n_tokens).map(|t| t * 31 + 5).collect();
                let table = table(n_rot, &positions);
                let x = testing::floats(n_tokens as usize * n_head * head_dim, 9);
                for kind in [RopeKind::Normal, RopeKind::Neox] {
                    let mut expected = x.clone();
                    by_the_book(kind, &table, &mut expected, n_head, head_dim);
                    let mut out = x.clone();
                    kernels.rope(kind, &table, &mut out, n_head, head_dim);
                    testing::assert_bits(
                        &out,
                        &expected,
                        &format!("{kind:?} {n_tokens} {n_head} {head_dim} {n_rot}"),
                    );
                }
            }
        });
    }

    fn by_the_book(
        kind: RopeKind,
        table: &RopeTable,
        x: &mut [f32],
        n_head: usize,
        head_dim: usize,
    ) {
        let n_pairs = table.n_rot() / 2;
        for i in 0..table.n_tokens() * n_head {
            for pair in 0..n_pairs {
                let (a, b) = match kind {
                    RopeKind::Normal => (2 * pair, 2 * pair + 1),
                    RopeKind::Neox => (pair, pair + n_pairs),
                };
                let (a, b) = (i * head_dim + a, i * head_dim + b);
                let angle_row = (i / n_head) * n_pairs + pair;
                (x[a], x[b]) = rotate(x[a], x[b], table.cos[angle_row], table.sin[angle_row]);
            }
        }
    }

    #[test]
    fn a_rotation_keeps_lengths_and_adds_angles() {
        let kernels =
            Kernels::new(crate::Level::Scalar, std::num::NonZeroUsize::MIN).expect("scalar");
        for kind in [RopeKind::Normal, RopeKind::Neox] {
            let x = testing::floats(64, 4);
            let mut twice = x.clone();
            kernels.rope(kind, &table(64, &[3]), &mut twice, 1, 64);
            kernels.rope(kind, &table(64, &[4]), &mut twice, 1, 64);
            let mut once = x.clone();
            kernels.rope(kind, &table(64, &[7]), &mut once, 1, 64);
            for (a, b) in twice.iter().zip(&once) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
            let length = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            assert!((length(&once) / length(&x) - 1.0).abs() < 1e-6);
        }
    }
}
