//! Where pieces go, and what must wait: white space before a call, and the text of a call not yet certain.

use serde_json::Value;

use super::Piece;

/// Collects pieces and decides which white space belongs to the answer.
#[derive(Debug, Default)]
pub(super) struct Emitter {
    pieces: Vec<Piece>,
    /// White space at the end of a text: dropped before a call, delivered before text.
    blank: String,
    /// What a call that has not begun was read from; text if it never begins.
    raw: String,
    /// Arguments of the call being read.
    arguments: String,
    is_call_open: bool,
    is_after_call: bool,
    /// Whether calls may follow, so that white space has to wait.
    may_call: bool,
}

impl Emitter {
    pub(super) fn new(may_call: bool) -> Self {
        Emitter {
            may_call,
            ..Emitter::default()
        }
    }

    /// Hands over what there is.
    pub(super) fn drain_into(&mut self, out: &mut Vec<Piece>) {
        out.append(&mut self.pieces);
    }

    pub(super) fn is_call_open(&self) -> bool {
        self.is_call_open
    }

    /// Thinking; line breaks at its end are the notation's.
    pub(super) fn reasoning(&mut self, text: &str) {
        let kept = text.trim_end_matches(['\n', '\r']);
        if !kept.is_empty() {
            let text = std::mem::take(&mut self.blank) + kept;
            self.push_reasoning(text);
        }
        self.blank.push_str(&text[kept.len()..]);
    }

    /// The block is closed.
    pub(super) fn end_reasoning(&mut self) {
        self.blank.clear();
    }

    /// The answer ended inside the block.
    pub(super) fn finish_reasoning(&mut self) {
        let blank = std::mem::take(&mut self.blank);
        self.push_reasoning(blank);
    }

    fn push_reasoning(&mut self, text: String) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Reasoning(last)) => last.push_str(&text),
            _ => self.pieces.push(Piece::Reasoning(text)),
        }
    }

    /// Text of the answer.
    pub(super) fn text(&mut self, text: &str) {
        let kept = match self.may_call {
            true => text.trim_end(),
            false => text,
        };
        if !kept.is_empty() {
            let text = std::mem::take(&mut self.blank) + kept;
            self.push_text(text);
        }
        self.blank.push_str(&text[kept.len()..]);
    }

    /// The answer is over: white space at its end is part of it, unless only calls came before.
    pub(super) fn finish_text(&mut self) {
        let blank = std::mem::take(&mut self.blank);
        if !self.is_after_call {
            self.push_text(blank);
        }
    }

    fn push_text(&mut self, text: String) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => return,
            Some(Piece::Text(last)) => last.push_str(&text),
            _ => self.pieces.push(Piece::Text(text)),
        }
        self.is_after_call = false;
    }

    pub(super) fn notice(&mut self, text: impl Into<String>) {
        self.pieces.push(Piece::Notice(text.into()));
    }

    /// Remembers what is read of a call that has not begun.
    pub(super) fn keep_raw(&mut self, text: &str) {
        if !self.is_call_open {
            self.raw.push_str(text);
        }
    }

    /// The last character is somebody else's.
    pub(super) fn forget_last(&mut self, c: char) {
        if self.raw.ends_with(c) {
            self.raw.pop();
        }
    }

    /// What was read is certain to be notation.
    pub(super) fn accept_raw(&mut self) {
        self.raw.clear();
    }

    /// A call is certain.
    pub(super) fn begin_call(&mut self, name: &str) {
        self.blank.clear();
        self.raw.clear();
        self.arguments.clear();
        self.is_call_open = true;
        self.is_after_call = true;
        self.pieces.push(Piece::CallBegin {
            name: name.to_owned(),
        });
    }

    pub(super) fn arguments(&mut self, text: &str) {
        self.arguments.push_str(text);
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::CallArguments(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::CallArguments(text.to_owned())),
        }
    }

    /// The call's arguments are complete.
    pub(super) fn end_call(&mut self) {
        self.pieces.push(Piece::CallEnd);
        self.is_call_open = false;
        let is_object = serde_json::from_str::<Value>(&self.arguments).is_ok_and(|v| v.is_object());
        if !is_object {
            self.notice("the arguments of a call are not a JSON object");
        }
    }

    /// What was being read is no call, or no longer one: what is not certain becomes text.
    pub(super) fn give_up(&mut self, why: &str) {
        let raw = std::mem::take(&mut self.raw);
        if self.is_call_open {
            self.is_call_open = false;
            self.notice(format!("a call broke off: {why}"));
        } else if !raw.trim().is_empty() {
            self.notice(format!("text that begins like a call is content: {why}"));
        }
        self.text(&raw);
    }
}
