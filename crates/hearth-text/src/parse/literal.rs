//! Fixed texts found in a stream of characters.

/// Finds texts wherever they stand, and lets everything else through.
#[derive(Debug)]
pub(super) struct Watch {
    texts: Vec<String>,
    held: String,
}

impl Watch {
    pub(super) fn new<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Watch {
            texts: texts.into_iter().map(Into::into).collect(),
            held: String::new(),
        }
    }

    /// Takes a character; what cannot become one of the texts any more is appended to `released`. Returns the
    /// text that is complete.
    pub(super) fn take(&mut self, c: char, released: &mut String) -> Option<&str> {
        self.held.push(c);
        while !self.held.is_empty() {
            if let Some(index) = self.texts.iter().position(|text| *text == self.held) {
                self.held.clear();
                return Some(&self.texts[index]);
            }
            if self.texts.iter().any(|text| text.starts_with(&self.held)) {
                return None;
            }
            released.push(self.held.remove(0));
        }
        None
    }

    /// What is held back, at the end.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// How far a fixed text has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// More of it is needed.
    More,
    /// All of it is there.
    Whole,
    /// The character belongs to something else.
    Refused,
}

/// A fixed text that must come now. White space in it, and around it, may be more or less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal {
    rest: &'static str,
    may_skip: bool,
}

impl Literal {
    pub(super) fn new(text: &'static str) -> Self {
        Literal {
            rest: text.trim(),
            may_skip: true,
        }
    }

    /// Takes a character. After `Whole` it must not be asked again.
    pub(super) fn take(&mut self, c: char) -> Match {
        let rest = match self.may_skip {
            true => self.rest.trim_start(),
            false => self.rest,
        };
        if let Some(rest) = rest.strip_prefix(c) {
            self.rest = rest;
            self.may_skip = rest.starts_with(char::is_whitespace);
            return match rest.is_empty() {
                true => Match::Whole,
                false => Match::More,
            };
        }
        match self.may_skip && c.is_whitespace() {
            true => Match::More,
            false => Match::Refused,
        }
    }
}

/// One of two texts that must come now, after any white space.
#[derive(Debug)]
pub(super) struct OneOf {
    texts: [&'static str; 2],
    held: String,
}

impl OneOf {
    pub(super) fn new(texts: [&'static str; 2]) -> Self {
        OneOf {
            texts,
            held: String::new(),
        }
    }

    /// Takes a character; the index of the text that is complete, `Err` when it can be none of them.
    pub(super) fn take(&mut self, c: char) -> Result<Option<usize>, ()> {
        if self.held.is_empty() && c.is_whitespace() {
            return Ok(None);
        }
        self.held.push(c);
        if let Some(index) = self.texts.iter().position(|text| *text == self.held) {
            return Ok(Some(index));
        }
        let is_begun = self.texts.iter().any(|text| text.starts_with(&self.held));
        if is_begun { Ok(None) } else { Err(()) }
    }
}
