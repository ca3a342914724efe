//! Where a JSON value ends, found character by character.
//!
//! Brackets are counted outside strings only, so markup inside a string stays data. Whether the value is valid
//! is somebody else's question.

/// The longest name or key we keep.
pub(super) const MAX_NAME_BYTES: usize = 1024;

/// What a character is to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Inside.
    Inside,
    /// Its last one.
    Last,
    /// Not part of it: the value, a number or a word, ended before.
    After,
}

/// Scans one value. The first character must not be white space.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ValueScan {
    depth: usize,
    is_begun: bool,
    is_in_string: bool,
    is_escaped: bool,
}

impl ValueScan {
    pub(super) fn take(&mut self, c: char) -> Part {
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        if self.is_in_string {
            return self.take_in_string(c);
        }
        match c {
            '"' if is_first || self.depth > 0 => {
                self.is_in_string = true;
                Part::Inside
            }
            '{' | '[' if is_first || self.depth > 0 => {
                self.depth += 1;
                Part::Inside
            }
            '}' | ']' if self.depth > 0 => {
                self.depth -= 1;
                self.last_if_closed()
            }
            _ if self.depth > 0 || is_first => Part::Inside,
            // A number or a word goes on as long as it can.
            _ if c.is_ascii_alphanumeric() || "+-.".contains(c) => Part::Inside,
            _ => Part::After,
        }
    }

    fn take_in_string(&mut self, c: char) -> Part {
        if std::mem::take(&mut self.is_escaped) {
            return Part::Inside;
        }
        match c {
            '\\' => self.is_escaped = true,
            '"' => {
                self.is_in_string = false;
                return self.last_if_closed();
            }
            _ => {}
        }
        Part::Inside
    }

    fn last_if_closed(&self) -> Part {
        match self.depth {
            0 => Part::Last,
            _ => Part::Inside,
        }
    }
}

/// Appends a character as it is written inside a JSON string.
pub(super) fn push_escaped(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

/// The text of a JSON string, quotes included.
pub(super) fn decode_string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}
