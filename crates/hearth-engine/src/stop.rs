//! Stop strings, found across the borders of tokens.
//!
//! Text that could still become a stop string is held back, everything else passes at once, and nothing
//! is ever lost: what was held back comes out as soon as it cannot match any more, or at the end. Which
//! stop string counts does not depend on how the text is cut: it is the one that is complete first, and
//! of those complete at the same place the one that began first.

/// The text that passed before a stop string, and which one it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Text that may be shown; ends before the stop string if one was found.
    pub text: String,
    /// Index of the stop string that was found.
    pub stop: Option<usize>,
}

/// Watches a stream of text for stop strings.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// Watches for `stops`; empty ones never match.
    pub fn new(stops: &[String]) -> Self {
        StopMatcher {
            stops: stops.to_vec(),
            held: String::new(),
        }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> Stopped {
        self.held.push_str(text);
        if let Some((start, stop)) = self.first_match() {
            let text = self.held[..start].to_owned();
            self.held.clear();
            return Stopped {
                text,
                stop: Some(stop),
            };
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| longest_overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Stopped {
            text: std::mem::replace(&mut self.held, rest),
            stop: None,
        }
    }

    /// Text that is still held back when nothing more will come.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Start and index of the match that ends first, of those the one that starts first.
    fn first_match(&self) -> Option<(usize, usize)> {
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty());
        found
            .filter_map(|(index, stop)| {
                self.held
                    .find(stop.as_str())
                    .map(|start| (start + stop.len(), start, index))
            })
            .min()
            .map(|(_, start, index)| (start, index))
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`, but not all of it.
fn longest_overlap(text: &str, stop: &str) -> usize {
    let borders = stop.char_indices().map(|(at, _)| at).rev();
    borders
        .filter(|&n| n > 0)
        .find(|&n| text.ends_with(&stop[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces cut where the bits of `cuts` say, and returns what came out.
    fn run(stops: &[&str], text: &str, cuts: u32) -> (String, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut out = String::new();
        let mut piece = String::new();
        for (index, c) in text.chars().enumerate() {
            piece.push(c);
            if cuts >> index & 1 == 1 {
                let stopped = matcher.push(&std::mem::take(&mut piece));
                out.push_str(&stopped.text);
                if stopped.stop.is_some() {
                    return (out, stopped.stop);
                }
            }
        }
        let stopped = matcher.push(&piece);
        out.push_str(&stopped.text);
        if stopped.stop.is_none() {
            out.push_str(&matcher.finish());
        }
        (out, stopped.stop)
    }

    #[test]
    fn the_answer_is_the_same_however_the_text_is_cut() {
        let cases: &[(&[&str], &str, &str, Option<usize>)] = &[
            (&["END"], "one END two", "one ", Some(0)),
            (&["END"], "one EN two", "one EN two", None),
            (&["END"], "ENEND", "EN", Some(0)),
            (&["bcd", "c"], "abcd", "ab", Some(1)),
            (&["abc", "bc"], "xabc", "x", Some(0)),
            (&["aab"], "aaaab", "aa", Some(0)),
            (&["\n\n", "User:"], "a\nUser:\n\n", "a\n", Some(1)),
            (&["né"], "anée", "a", Some(0)),
            (&["é🙂"], "aé🙂", "a", Some(0)),
            (&[], "plain", "plain", None),
            (&["n"], "", "", None),
        ];
        for (stops, text, expected, stop) in cases {
            for cuts in 0..1 << text.chars().count() {
                let got = run(stops, text, cuts);
                assert_eq!(
                    got,
                    ((*expected).to_owned(), *stop),
                    "{stops:?} in {text:?} cut {cuts:b}"
                );
            }
        }
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut matcher = StopMatcher::new(&["stop".to_owned()]);
        assert_eq!(matcher.push("a stat").text, "a stat");
        assert_eq!(matcher.push("a st").text, "a ");
        assert_eq!(matcher.push("op").stop, Some(0));
        assert_eq!(matcher.finish(), "");
    }
}
