//! Which experts each token goes to, with what weight, and the tokens of every expert together.

use crate::float;
use crate::matmul::acts::Place;

/// What a token with a logit that is not finite weighs its experts with.
const CANONICAL_NAN: f32 = f32::from_bits(0x7fc0_0000);

/// An expert of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub expert: u32,
    /// First the logit, then the weight.
    pub weight: f32,
}

impl Choice {
    const NONE: Choice = Choice {
        expert: 0,
        weight: 0.0,
    };
}

/// The definition of the choice: as many experts as `chosen` has places, those with the largest logits, the lower number of
/// equals, in order of their numbers; the weights are the softmax over the chosen ones.
pub(super) fn choose(logits: &[f32], chosen: &mut [Choice]) {
    if logits.iter().any(|logit| !logit.is_finite()) {
        for (choice, expert) in chosen.iter_mut().zip(0..) {
            *choice = Choice {
                expert,
                weight: CANONICAL_NAN,
            };
        }
        return;
    }
    let mut n = 0;
    for (expert, &weight) in (0..).zip(logits) {
        if n == chosen.len() && weight <= chosen[n - 1].weight {
            continue;
        }
        let at = chosen[..n].partition_point(|other| other.weight >= weight);
        n = (n + 1).min(chosen.len());
        chosen[at..n].rotate_right(1);
        chosen[at] = Choice { expert, weight };
    }
    let highest = chosen[0].weight;
    chosen.sort_unstable_by_key(|choice| choice.expert);
    let mut sum = 0.0;
    for choice in &mut *chosen {
        choice.weight = float::exp(choice.weight - highest);
        sum += choice.weight;
    }
    for choice in chosen {
        choice.weight /= sum;
    }
}

/// The tokens of one expert.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub expert: usize,
    /// Number of its first row.
    pub first: usize,
    /// Rows, at least one.
    pub len: usize,
    /// Rows of the matrices that one claim computes.
    pub chunk_rows: usize,
    /// The first of its claims.
    pub first_chunk: usize,
}

impl Group {
    /// Its rows.
    pub fn rows(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.len
    }
}

/// A token at one of its experts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub token: usize,
    pub weight: f32,
    pub place: Place,
}

/// The tokens of a call by expert. Buffers are used again from call to call.
#[derive(Debug, Default)]
pub(super) struct Routes {
    n_used: usize,
    /// `[n_tokens, n_used]`.
    choices: Vec<Choice>,
    /// `[n_tokens, n_used]`: number of the row.
    row_of: Vec<u32>,
    /// Rows of each expert, then the number of its next one.
    counts: Vec<u32>,
    /// Experts with at least one row, in order.
    pub groups: Vec<Group>,
    /// In order of experts, those of an expert in order of tokens.
    pub rows: Vec<Row>,
}

impl Routes {
    pub fn reserve(&mut self, n_tokens: usize, n_expert: usize, n_used: usize) {
        let n_rows = n_tokens * n_used;
        self.choices.reserve_exact(n_rows);
        self.row_of.reserve_exact(n_rows);
        self.rows.reserve_exact(n_rows);
        self.counts.reserve_exact(n_expert);
        self.groups.reserve_exact(n_expert.min(n_rows));
    }

    /// Bytes that [`Routes::reserve`] takes at most.
    pub fn n_bytes(n_expert: usize, n_rows: usize) -> u64 {
        let row = size_of::<Choice>() + size_of::<u32>() + size_of::<Row>();
        let expert = size_of::<u32>() + size_of::<Group>();
        let bytes = |n: usize, each: usize| (n as u64).saturating_mul(each as u64);
        bytes(n_rows, row).saturating_add(bytes(n_expert, expert))
    }

    /// Chooses experts for every row of `logits`, `[n_tokens, n_expert]`, and sorts the tokens by them.
    pub fn fill(&mut self, logits: &[f32], n_expert: usize, n_used: usize) {
        let n_rows = logits.len() / n_expert * n_used;
        self.n_used = n_used;
        self.choices.clear();
        self.choices.resize(n_rows, Choice::NONE);
        let chosen = self.choices.chunks_exact_mut(n_used);
        for (logits, chosen) in logits.chunks_exact(n_expert).zip(chosen) {
            choose(logits, chosen);
        }
        self.group(n_expert);
    }

    fn group(&mut self, n_expert: usize) {
        self.counts.clear();
        self.counts.resize(n_expert, 0);
        for choice in &self.choices {
            self.counts[choice.expert as usize] += 1;
        }
        self.groups.clear();
        self.rows.clear();
        let mut first = 0;
        for (expert, count) in self.counts.iter_mut().enumerate() {
            let len = std::mem::replace(count, first as u32) as usize;
            if len == 0 {
                continue;
            }
            self.groups.push(Group {
                expert,
                first,
                len,
                chunk_rows: 0,
                first_chunk: 0,
            });
            self.rows.extend((0..len).map(|index| Row {
                token: 0,
                weight: 0.0,
                place: Place { first, len, index },
            }));
            first += len;
        }
        self.row_of.clear();
        for (index, choice) in self.choices.iter().enumerate() {
            let next = &mut self.counts[choice.expert as usize];
            let row = &mut self.rows[*next as usize];
            row.token = index / self.n_used;
            row.weight = choice.weight;
            self.row_of.push(*next);
            *next += 1;
        }
    }

    /// Where the activations of a token go.
    pub fn places(&self, token: usize) -> impl Iterator<Item = Place> {
        let rows = &self.row_of[token * self.n_used..][..self.n_used];
        rows.iter().map(|&row| self.rows[row as usize].place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(logits: &[f32], n_used: usize) -> Vec<(u32, f32)> {
        let mut chosen = vec![Choice::NONE; n_used];
        choose(logits, &mut chosen);
        chosen.iter().map(|c| (c.expert, c.weight)).collect()
    }

    #[test]
    fn the_largest_logits_win_and_the_lower_number_of_equals() {
        let experts = |logits: &[f32], n| -> Vec<u32> {
            chosen(logits, n)
                .into_iter()
                .map(|(expert, _)| expert)
                .collect()
        };
        assert_eq!(experts(&[1.0, 3.0, 2.0, 3.0], 1), [1]);
        assert_eq!(experts(&[1.0, 3.0, 2.0, 3.0], 2), [1, 3]);
        assert_eq!(experts(&[3.0, 1.0, 2.0, 3.0, 4.0], 3), [0, 3, 4]);
        assert_eq!(experts(&[2.0; 5], 2), [0, 1]);
        assert_eq!(experts(&[-0.0, 0.0, -0.0], 2), [0, 1]);
        assert_eq!(experts(&[0.0, -1.0, f32::MAX], 3), [0, 1, 2]);
    }

    #[test]
    fn weights_are_a_softmax_over_the_chosen() {
        let logits = [0.3, -1.0, 2.5, 0.25, 2.0];
        let got = chosen(&logits, 3);
        let p = [0.3f32, 2.5, 2.0].map(|logit| float::exp(logit - 2.5));
        let sum = (0.0 + p[0]) + p[1] + p[2];
        assert_eq!(got, [(0, p[0] / sum), (2, p[1] / sum), (4, p[2] / sum)]);
        assert_eq!(chosen(&[5.0, 5.0], 2), [(0, 0.5), (1, 0.5)]);
        assert_eq!(chosen(&[-1e30, 1e30], 2), [(0, 0.0), (1, 1.0)]);
    }

    #[test]
    fn a_logit_that_is_not_finite_spoils_the_weights_of_its_token() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..4 {
                let mut logits = [1.0, 2.0, 3.0, 4.0];
                logits[at] = bad;
                let got = chosen(&logits, 2);
                assert_eq!([got[0].0, got[1].0], [0, 1], "{bad} at {at}");
                assert!(
                    got.iter()
                        .all(|(_, weight)| weight.to_bits() == 0x7fc0_0000)
                );
            }
        }
    }

    #[test]
    fn tokens_are_grouped_in_order() {
        let logits = [
            [9.0, 0.0, 8.0, 1.0],
            [0.0, 1.0, 8.0, 9.0],
            [9.0, 0.0, 1.0, 8.0],
        ];
        let mut routes = Routes::default();
        // Used before, for something else.
        routes.fill(&[1.0; 12], 6, 5);
        routes.fill(logits.as_flattened(), 4, 2);
        let groups: Vec<_> = routes.groups.iter().map(|g| (g.expert, g.rows())).collect();
        assert_eq!(groups, [(0, 0..2), (2, 2..4), (3, 4..6)]);
        let tokens: Vec<_> = routes.rows.iter().map(|row| row.token).collect();
        assert_eq!(tokens, [0, 2, 0, 1, 1, 2]);
        let places: Vec<_> = (0..3)
            .map(|token| -> Vec<_> {
                let places = routes.places(token);
                places
                    .map(|place| (place.first, place.len, place.index))
                    .collect()
            })
            .collect();
        assert_eq!(places[0], [(0, 2, 0), (2, 2, 0)]);
        assert_eq!(places[1], [(2, 2, 1), (4, 2, 0)]);
        assert_eq!(places[2], [(0, 2, 1), (4, 2, 1)]);
        for (number, row) in routes.rows.iter().enumerate() {
            assert_eq!(row.place.first + row.place.index, number);
        }
    }
}
