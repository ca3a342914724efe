//! The readers of calls, behind one face.

use super::{elements::ElementsCall, emitter::Emitter, marked::MarkedCall, object::ObjectCall};

/// What a reader made of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It belongs to the call.
    More,
    /// It was the last one of the notation.
    Done,
    /// It does not belong here; somebody else must take it.
    Refused(&'static str),
}

/// What follows a trigger.
#[derive(Debug)]
pub(super) enum CallReader {
    Object(ObjectCall),
    Marked(MarkedCall),
    Elements(ElementsCall),
}

impl CallReader {
    pub(super) fn take(&mut self, c: char, emitter: &mut Emitter) -> Step {
        match self {
            CallReader::Object(reader) => reader.take(c, emitter),
            CallReader::Marked(reader) => reader.take(c, emitter),
            CallReader::Elements(reader) => reader.take(c, emitter),
        }
    }

    /// The answer ends here: what a reader holds back of arguments goes out.
    pub(super) fn finish(&mut self, emitter: &mut Emitter) {
        if let CallReader::Elements(reader) = self {
            reader.finish(emitter);
        }
    }
}
