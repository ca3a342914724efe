//! A bound on thinking: counts the tokens of a thought, and writes its end when there were enough.

use crate::{error::RequestError, job::ThinkingBudget};

/// Tokens that the end of a thought may have.
const MAX_CLOSE: usize = 64;

impl ThinkingBudget {
    /// Refuses an end without tokens, or with ones the vocabulary does not have.
    pub(crate) fn check(&self, n_vocab: usize) -> Result<(), RequestError> {
        if self.close.is_empty() || self.close.len() > MAX_CLOSE {
            return Err(RequestError::TooMany {
                what: "tokens in the end of a thought, which must have at least one",
                n: self.close.len(),
                limit: MAX_CLOSE,
            });
        }
        match self.close.iter().find(|token| **token as usize >= n_vocab) {
            Some(&token) => Err(RequestError::Token {
                place: "the end of a thought",
                token,
                n_vocab,
            }),
            None => Ok(()),
        }
    }
}

/// Where an answer stands with its thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but blanks was written, so it may still begin.
    Before,
    /// So many tokens of it are written.
    Inside(usize),
    /// So many tokens of its end are written in the model's place.
    Closing(usize),
    /// It is over, or there was none.
    Over,
}

/// Watches one answer.
#[derive(Clone, Debug)]
pub(crate) struct ThinkingWatch {
    budget: ThinkingBudget,
    state: State,
    /// Bytes of the text that were searched for the end already.
    n_searched: usize,
}

impl ThinkingWatch {
    pub(crate) fn new(budget: ThinkingBudget) -> Self {
        let state = match budget.open_text {
            Some(_) => State::Before,
            None => State::Inside(0),
        };
        let mut watch = ThinkingWatch {
            budget,
            state,
            n_searched: 0,
        };
        watch.close_if_spent();
        watch
    }

    /// The token to be written in place of the one the model would draw.
    pub(crate) fn forced(&self) -> Option<u32> {
        match self.state {
            State::Closing(n) => self.budget.close.get(n).copied(),
            _ => None,
        }
    }

    /// Notes a token of the answer, and the text so far with it.
    pub(crate) fn note(&mut self, text: &str) {
        match self.state {
            State::Before => self.begin(text),
            State::Inside(n) => self.state = State::Inside(n + 1),
            State::Closing(n) if n + 1 == self.budget.close.len() => self.state = State::Over,
            State::Closing(n) => self.state = State::Closing(n + 1),
            State::Over => {}
        }
        if let State::Inside(_) = self.state {
            if self.is_closed(text) {
                self.state = State::Over;
            }
            self.close_if_spent();
        }
    }

    fn begin(&mut self, text: &str) {
        let open = self.budget.open_text.as_deref().unwrap_or_default();
        let written = text.trim_start();
        if let Some(at) = text.find(open).filter(|_| written.starts_with(open)) {
            self.n_searched = at + open.len();
            self.state = State::Inside(0);
        } else if !open.starts_with(written) {
            self.state = State::Over;
        }
    }

    /// Whether the model has ended it by itself.
    fn is_closed(&mut self, text: &str) -> bool {
        let close = &self.budget.close_text;
        if close.is_empty() {
            return false;
        }
        let is_closed = text[self.n_searched..].contains(close.as_str());
        // What is found next begins at the earliest where the end of the text could still become it.
        let mut from = text.len().saturating_sub(close.len()).max(self.n_searched);
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        self.n_searched = from;
        is_closed
    }

    fn close_if_spent(&mut self) {
        if self.state == State::Inside(self.budget.n_tokens) {
            self.state = State::Closing(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(n_tokens: usize, open_text: Option<&str>) -> ThinkingWatch {
        ThinkingWatch::new(ThinkingBudget {
            n_tokens,
            open_text: open_text.map(str::to_owned),
            close_text: "</think>".to_owned(),
            close: vec![7, 8],
        })
    }

    /// Writes the pieces one after the other; what was forced before each.
    fn forced(watch: &mut ThinkingWatch, pieces: &[&str]) -> Vec<Option<u32>> {
        let mut text = String::new();
        let mut all = Vec::new();
        for piece in pieces {
            all.push(watch.forced());
            text.push_str(piece);
            watch.note(&text);
        }
        all
    }

    #[test]
    fn after_enough_tokens_the_end_is_written_once() {
        let pieces = ["a", "b", "</thi", "nk>", "x", "y", "z", "u"];
        let expected = [None, None, Some(7), Some(8), None, None, None, None];
        assert_eq!(forced(&mut watch(2, None), &pieces), expected);
        assert_eq!(forced(&mut watch(0, None), &["", ""]), [Some(7), Some(8)]);
    }

    #[test]
    fn a_thought_that_ended_by_itself_is_left_alone() {
        let pieces = ["hm", " </th", "ink> x", "y", "z", "u", "v"];
        assert_eq!(forced(&mut watch(4, None), &pieces), [None; 7]);
    }

    #[test]
    fn an_answer_without_a_thought_is_left_alone() {
        let pieces = ["\n", "<thanks", ">", "b", "c", "d"];
        assert_eq!(forced(&mut watch(1, Some("<think>")), &pieces), [None; 6]);
        let pieces = ["\n", "<thi", "nk>", "a", "b", "", ""];
        let expected = [None, None, None, None, Some(7), Some(8), None];
        assert_eq!(forced(&mut watch(1, Some("<think>")), &pieces), expected);
    }
}
