//! Guesses from the text itself: where the last tokens stood before, what followed them then?
//!
//! An index of all pairs of tokens: the newest place of a pair by its hash, and from each place the one
//! before it with the same hash. While a guess comes true its source moves along by one token, which
//! costs nothing; only after a wrong one the index is asked, for a bounded number of places. So a
//! token costs the same however long the text is. Memory: four bytes for each token of the text, and a
//! table of fixed size.

/// Tokens that must agree before anything is guessed.
const MIN_MATCH: usize = 2;
/// Longer agreement is not told apart.
pub(crate) const MAX_MATCH: usize = 32;
/// Places of a pair that are looked at, newest first.
const MAX_PLACES: usize = 48;
/// Tokens after a source that went wrong in which the text may fall back into step: a changed line.
const NEARBY: usize = 64;
const TABLE_BITS: u32 = 15;
const NONE: u32 = u32::MAX;

/// The index over one text, and the place that the text seems to repeat.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    /// By the hash of a pair: the newest place after such a pair.
    newest: Vec<u32>,
    /// For each place, the place before it whose pair has the same hash.
    before: Vec<u32>,
    source: Option<Source>,
    /// Where the last source went wrong.
    lost_at: Option<usize>,
}

/// The text ends as it did before place `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    /// Place of the token that would come next.
    at: usize,
    /// How many tokens before it agree.
    n_agree: usize,
}

impl Lookup {
    /// Starts over with `text`.
    pub(crate) fn begin(&mut self, text: &[u32]) {
        self.newest.clear();
        self.newest.resize(1 << TABLE_BITS, NONE);
        self.before.clear();
        self.before.push(NONE);
        (self.source, self.lost_at) = (None, None);
        for end in 1..text.len() {
            self.insert(text, end);
        }
        if !text.is_empty() {
            self.source = self.find(text);
            self.insert(text, text.len());
        }
    }

    /// The token that comes next if the text repeats itself.
    pub(crate) fn next(&self, text: &[u32]) -> Option<u32> {
        self.source.map(|source| text[source.at])
    }

    /// How many tokens before the guess agree with its source; 0 without a guess.
    pub(crate) fn n_agree(&self) -> usize {
        self.source.map_or(0, |source| source.n_agree)
    }

    /// Appends the `n` tokens that come next if the text repeats itself. A source near the end goes on
    /// with what was just guessed: the text then runs in a circle.
    pub(crate) fn continuation(&self, text: &[u32], n: usize, out: &mut Vec<u32>) {
        let Some(Source { at, .. }) = self.source else {
            return;
        };
        let start = out.len();
        for place in at..at + n {
            let token = match text.get(place) {
                Some(&token) => token,
                None => out[start + place - text.len()],
            };
            out.push(token);
        }
    }

    /// Notes the last token of `text`, which is new.
    pub(crate) fn push(&mut self, text: &[u32]) {
        let last = text.len() - 1;
        self.source = match self.source {
            Some(Source { at, n_agree }) if text[at] == text[last] => Some(Source {
                at: at + 1,
                n_agree: (n_agree + 1).min(MAX_MATCH),
            }),
            other => {
                if let Some(Source { at, .. }) = other {
                    self.lost_at = Some(at);
                }
                self.find(text)
            }
        };
        self.insert(text, text.len());
    }

    /// Enters the pair that ends before place `end`.
    fn insert(&mut self, text: &[u32], end: usize) {
        debug_assert_eq!(self.before.len(), end, "every place once, in order");
        if end < MIN_MATCH {
            self.before.push(NONE);
            return;
        }
        let newest = &mut self.newest[hash(text, end)];
        self.before.push(*newest);
        *newest = end as u32;
    }

    /// The place before which most tokens agree with the end of `text`: of equals one shortly after the
    /// last source, then the newest. The end itself is not entered yet.
    fn find(&self, text: &[u32]) -> Option<Source> {
        if text.len() < MIN_MATCH {
            return None;
        }
        let mut best: Option<Source> = None;
        let mut consider = |at: usize| {
            let n_agree = n_agree(text, at);
            if n_agree >= MIN_MATCH && best.is_none_or(|best| n_agree > best.n_agree) {
                best = Some(Source { at, n_agree });
            }
        };
        if let Some(lost_at) = self.lost_at {
            (lost_at + 1..(lost_at + NEARBY).min(text.len())).for_each(&mut consider);
        }
        let mut place = self.newest[hash(text, text.len())];
        for _ in 0..MAX_PLACES {
            if place == NONE {
                break;
            }
            consider(place as usize);
            place = self.before[place as usize];
        }
        best
    }
}

/// How many tokens before place `at` agree with the end of `text`.
fn n_agree(text: &[u32], at: usize) -> usize {
    let earlier = text[..at].iter().rev();
    let ending = text.iter().rev();
    earlier
        .zip(ending)
        .take(MAX_MATCH)
        .take_while(|(a, b)| a == b)
        .count()
}

/// Slot of the pair that ends before place `end`.
fn hash(text: &[u32], end: usize) -> usize {
    let pair = u64::from(text[end - 2]) << 32 | u64::from(text[end - 1]);
    // Fibonacci hashing; the multiplier mixes the upper half down as well.
    let mixed = (pair ^ pair >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - TABLE_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(text: &[u32], n: usize) -> Vec<u32> {
        let mut lookup = Lookup::default();
        lookup.begin(text);
        let mut out = Vec::new();
        lookup.continuation(text, n, &mut out);
        out
    }

    #[test]
    fn a_text_continues_as_it_did_before() {
        assert_eq!(guess(&[1, 2, 3, 4, 5, 9, 2, 3], 3), [4, 5, 9]);
        assert_eq!(guess(&[1, 2, 3, 4, 5], 3), [0; 0], "nothing repeats");
        assert_eq!(guess(&[1], 3), [0; 0]);
        assert_eq!(guess(&[], 3), [0; 0]);
    }

    #[test]
    fn the_longest_agreement_wins_and_of_equals_the_newest() {
        assert_eq!(guess(&[7, 1, 2, 30, 8, 1, 2, 40, 7, 1, 2], 1), [30]);
        assert_eq!(guess(&[5, 1, 2, 30, 6, 1, 2, 40, 9, 1, 2], 1), [40]);
    }

    #[test]
    fn a_circle_is_guessed_beyond_the_end() {
        assert_eq!(guess(&[1, 2, 3, 1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
        assert_eq!(guess(&[4, 4, 4], 4), [4; 4]);
    }

    #[test]
    fn after_a_changed_token_the_old_text_is_found_again() {
        // The pair (8, 9) stands in many places; the one after the change is preferred.
        let old = [1, 2, 3, 4, 8, 9, 50, 60];
        let mut text = [&old[..], &[8, 9, 70, 8, 9, 71]].concat();
        text.extend([1, 2, 3]);
        let mut lookup = Lookup::default();
        lookup.begin(&text);
        assert_eq!(lookup.next(&text), Some(4));
        for token in [5, 8, 9] {
            text.push(token);
            lookup.push(&text);
        }
        assert_eq!(lookup.next(&text), Some(50));
    }

    /// Token by token or all at once: the same index, the same guess, unless one was followed meanwhile.
    #[test]
    fn growing_is_starting_over() {
        let mut state = 1_u32;
        let mut text = Vec::new();
        let mut grown = Lookup::default();
        grown.begin(&text);
        for _ in 0..3000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push(state >> 29);
            grown.push(&text);
            let mut fresh = Lookup::default();
            fresh.begin(&text);
            assert_eq!(
                (&grown.newest, &grown.before),
                (&fresh.newest, &fresh.before)
            );
            let agreed = n_agree(&text, grown.source.map_or(0, |source| source.at));
            assert_eq!(grown.n_agree(), agreed, "a guess agrees as far as it says");
        }
    }
}
