//! Keeps an object from having one name twice.
//!
//! A grammar without memory cannot say it for names that the schema leaves open. This reads the answer's JSON beside
//! the grammar and remembers the names of the objects that are open.

use std::collections::HashSet;

use super::json::FreeNames;

/// A place in JSON text, with the names of all objects around it.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Quotation marks count outside of objects and arrays too. Around tool calls there may be any text.
    is_all_json: bool,
    /// Names may have to match something, so that all of them may be taken.
    pub is_limited: bool,
    open: Vec<Level>,
    string: Option<Text>,
}

#[derive(Clone, Debug)]
struct Level {
    is_object: bool,
    expects_name: bool,
    /// As they are written. The grammar writes a name it does not list in one way only.
    names: HashSet<Vec<u8>>,
}

/// A string that has not ended.
#[derive(Clone, Debug)]
struct Text {
    is_name: bool,
    /// As it is written, without the quotation marks.
    raw: Vec<u8>,
    is_escaped: bool,
}

impl Names {
    /// A guard for an answer, if it needs one.
    pub(super) fn guard(free_names: FreeNames, is_all_json: bool) -> Option<Self> {
        let names = Names {
            is_limited: free_names == FreeNames::Limited,
            ..Names::new(is_all_json)
        };
        (free_names != FreeNames::None).then_some(names)
    }

    /// At the beginning of a text.
    pub(super) fn new(is_all_json: bool) -> Self {
        Names {
            is_all_json,
            is_limited: false,
            open: Vec::new(),
            string: None,
        }
    }

    /// Quotation marks the next token needs to end a name that could be one too many; `None` when none can.
    pub(super) fn n_quotes_at_risk(&self) -> Option<usize> {
        let is_in_name = self.string.as_ref().is_some_and(|text| text.is_name);
        let has_names = self.open.iter().any(|level| !level.names.is_empty());
        has_names.then_some(if is_in_name { 1 } else { 2 })
    }

    /// Whether `piece` may come next: no object gets a name it has already.
    pub(super) fn allows(&self, piece: &[u8]) -> bool {
        self.clone().push(piece)
    }

    /// Whether [`is_at_risk`](Self::is_at_risk) can be true behind `piece`: a quick look, as there are many tokens.
    pub(super) fn may_be_at_risk_behind(&self, piece: &[u8]) -> bool {
        let has_quote = piece.contains(&b'"');
        match (&self.string, self.open.last()) {
            (Some(text), Some(level)) if text.is_name && !has_quote => {
                level.names.iter().any(|name| {
                    let rest = name.strip_prefix(text.raw.as_slice());
                    rest.is_some_and(|rest| rest.starts_with(piece))
                })
            }
            (Some(_), _) => has_quote,
            (None, _) => self.open.iter().any(|level| !level.names.is_empty()),
        }
    }

    /// Whether a name is needed next, or is being written, that may turn out to be one of those the object has.
    pub(super) fn is_at_risk(&self) -> bool {
        let Some(level) = self.open.last().filter(|level| !level.names.is_empty()) else {
            return false;
        };
        match &self.string {
            Some(text) => {
                text.is_name && level.names.iter().any(|name| name.starts_with(&text.raw))
            }
            None => level.expects_name,
        }
    }

    /// Takes a piece; false when an object has a name twice.
    pub(super) fn push(&mut self, piece: &[u8]) -> bool {
        piece.iter().all(|&byte| self.take(byte))
    }

    fn take(&mut self, byte: u8) -> bool {
        if self.string.is_some() {
            return self.take_in_string(byte);
        }
        match byte {
            b'"' if self.is_all_json || !self.open.is_empty() => self.begin_string(),
            b'{' | b'[' => self.open.push(Level {
                is_object: byte == b'{',
                expects_name: byte == b'{',
                names: HashSet::new(),
            }),
            b'}' | b']' => {
                self.open.pop();
            }
            b',' => self.expect_name(true),
            b':' => self.expect_name(false),
            _ => {}
        }
        true
    }

    fn expect_name(&mut self, is_next: bool) {
        if let Some(level) = self.open.last_mut() {
            level.expects_name = is_next && level.is_object;
        }
    }

    fn begin_string(&mut self) {
        self.string = Some(Text {
            is_name: self.open.last().is_some_and(|level| level.expects_name),
            raw: Vec::new(),
            is_escaped: false,
        });
    }

    fn take_in_string(&mut self, byte: u8) -> bool {
        let Some(text) = &mut self.string else {
            return true;
        };
        let was_escaped = std::mem::replace(&mut text.is_escaped, false);
        match byte {
            b'"' if !was_escaped => return self.end_string(),
            b'\\' if !was_escaped => text.is_escaped = true,
            _ => {}
        }
        if text.is_name {
            text.raw.push(byte);
        }
        true
    }

    fn end_string(&mut self) -> bool {
        let Some(text) = self.string.take().filter(|text| text.is_name) else {
            return true;
        };
        self.open
            .last_mut()
            .is_none_or(|level| level.names.insert(text.raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_come_once_in_each_object() {
        let cases = [
            (r#"{"a":1,"b":{"a":2},"c":["a","a"]}"#, true),
            (r#"[{"a":1},{"a":1}]"#, true),
            (r#"{"a":1, "a":2}"#, false),
            (r#"{"a":{"b":1,"b":2}}"#, false),
            (r#"{"\n":1,"\n":2}"#, false),
            (r#"{"a\"":1,"a":2}"#, true),
            (r#"{"x":"a","a":"x"}"#, true),
            (r#""{\"a\":1,\"a\":2}""#, true),
        ];
        for (text, expected) in cases {
            assert_eq!(Names::new(true).push(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn text_around_calls_is_no_json() {
        let text = r#"say "<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>"#;
        let mut names = Names::new(false);
        assert!(names.push(text.as_bytes()));
        assert!(!names.push(br#"{"a":1,"a":1"#));
    }
}
