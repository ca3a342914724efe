//! The candidates of a draw, ordered, with their probabilities.

use super::SamplingParams;

/// A candidate and its unnormalised probability.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    token: u32,
    weight: f64,
}

/// Candidates by logit descending, then id ascending.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    keys: Vec<u64>,
    /// Where the keys are moved while they are sorted.
    spare: Vec<u64>,
    list: Vec<Candidate>,
    order: Vec<(f64, usize)>,
}

/// A number that sorts as (logit descending, token ascending). Minus zero counts as zero.
pub(crate) fn sort_key(token: u32, logit: f32) -> u64 {
    let bits = (logit + 0.0).to_bits();
    // The usual order-preserving map of floats to integers, then turned round.
    let ascending = if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    };
    u64::from(!ascending) << 32 | u64::from(token)
}

/// Below this many keys the standard sort is faster.
const MIN_RADIX: usize = 4096;
/// Bits of a logit that one pass sorts by; three passes cover all.
const DIGIT_BITS: u32 = 11;

/// Sorts keys that are in the order of their tokens. A whole vocabulary goes through three passes over the digits of the
/// logit, the least first; each keeps the order of equals, so tokens stay ascending among equal logits.
fn sort(keys: &mut Vec<u64>, spare: &mut Vec<u64>) {
    let is_by_token = keys.is_sorted_by_key(|key| *key as u32);
    if keys.len() < MIN_RADIX || !is_by_token {
        keys.sort_unstable();
        return;
    }
    spare.clear();
    spare.resize(keys.len(), 0);
    for pass in 0..3 {
        let digit = |key: u64| (key >> (32 + pass * DIGIT_BITS)) as usize & ((1 << DIGIT_BITS) - 1);
        let mut starts = [0; 1 << DIGIT_BITS];
        keys.iter().for_each(|key| starts[digit(*key)] += 1);
        let mut start = 0;
        for place in &mut starts {
            start += std::mem::replace(place, start);
        }
        for &key in &*keys {
            let place = &mut starts[digit(key)];
            spare[*place] = key;
            *place += 1;
        }
        std::mem::swap(keys, spare);
    }
}

impl Candidates {
    /// Orders the tokens that are not forbidden and applies the filters.
    pub(super) fn fill(&mut self, logits: &[f32], params: &SamplingParams) {
        self.keys.clear();
        let allowed = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| **logit > f32::NEG_INFINITY);
        self.keys
            .extend(allowed.map(|(token, &logit)| sort_key(token as u32, logit)));
        // Dividing by the temperature keeps the order, so top-k comes before the costly part.
        if params.top_k > 0 && params.top_k < self.keys.len() {
            self.keys.select_nth_unstable(params.top_k);
            self.keys.truncate(params.top_k);
        }
        sort(&mut self.keys, &mut self.spare);
        self.list.clear();
        let Some(&first) = self.keys.first() else {
            return;
        };
        let highest = f64::from(logits[(first as u32) as usize]);
        let temperature = f64::from(params.temperature);
        self.list.extend(self.keys.iter().map(|&key| {
            let token = key as u32;
            let weight = libm::exp((f64::from(logits[token as usize]) - highest) / temperature);
            Candidate { token, weight }
        }));
        self.top_p(params.top_p);
        self.min_p(params.min_p);
        self.typical(params.typical);
    }

    fn total(&self) -> f64 {
        self.list
            .iter()
            .fold(0.0, |sum, candidate| sum + candidate.weight)
    }

    fn top_p(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let enough = f64::from(p) * self.total();
        let mut sum = 0.0;
        let kept = self.list.iter().position(|candidate| {
            sum += candidate.weight;
            sum >= enough
        });
        self.list
            .truncate(kept.map_or(self.list.len(), |last| last + 1));
    }

    fn min_p(&mut self, p: f32) {
        // The best has weight 1, and weights descend.
        let kept = self
            .list
            .partition_point(|candidate| candidate.weight >= f64::from(p));
        self.list.truncate(kept.max(1));
    }

    /// Locally typical sampling (arXiv 2202.00666).
    fn typical(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let total = self.total();
        let surprise = |weight: f64| -libm::log(weight / total);
        let entropy = self
            .list
            .iter()
            .filter(|c| c.weight > 0.0)
            .fold(0.0, |sum, c| sum + c.weight / total * surprise(c.weight));
        self.order.clear();
        let distances = self
            .list
            .iter()
            .enumerate()
            .map(|(place, c)| ((surprise(c.weight) - entropy).abs(), place));
        self.order.extend(distances);
        self.order
            .sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut sum = 0.0;
        let enough = f64::from(p) * total;
        let kept = self.order.iter().position(|&(_, place)| {
            sum += self.list[place].weight;
            sum >= enough
        });
        self.order
            .truncate(kept.map_or(self.order.len(), |last| last + 1));
        self.order.sort_unstable_by_key(|&(_, place)| place);
        for (to, &(_, from)) in self.order.iter().enumerate() {
            // Places ascend, so what is overwritten has been read.
            self.list[to] = self.list[from];
        }
        self.list.truncate(self.order.len());
    }

    /// The candidate at which the running sum passes `uniform` of the total.
    pub(super) fn pick(&self, uniform: f64) -> Option<u32> {
        let target = uniform * self.total();
        let mut sum = 0.0;
        let found = self.list.iter().find(|candidate| {
            sum += candidate.weight;
            sum > target
        });
        // `uniform` is below 1, but its product with the total may round up to the total.
        found
            .or_else(|| {
                self.list
                    .iter()
                    .rev()
                    .find(|candidate| candidate.weight > 0.0)
            })
            .map(|candidate| candidate.token)
    }

    #[cfg(test)]
    pub(super) fn tokens(&self) -> Vec<u32> {
        self.list.iter().map(|candidate| candidate.token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_vocabulary_is_sorted_as_a_small_one() {
        let mut state = 7_u32;
        for n in [MIN_RADIX - 1, MIN_RADIX, 20_000] {
            let mut logit = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match state >> 29 {
                    0 => (state >> 20 & 3) as f32 - 1.5,
                    1 => [f32::MIN, f32::MAX, -0.0, 0.0, 1e-40][(state >> 10) as usize % 5],
                    _ => f32::from_bits(state & 0xbfff_ffff),
                }
            };
            let logits: Vec<f32> = (0..n).map(&mut logit).collect();
            let all = logits.iter().enumerate();
            let mut keys: Vec<u64> = all.map(|(id, logit)| sort_key(id as u32, *logit)).collect();
            let mut expected = keys.clone();
            expected.sort_unstable();
            sort(&mut keys, &mut Vec::new());
            assert!(keys == expected, "{n} keys");
        }
    }
}
