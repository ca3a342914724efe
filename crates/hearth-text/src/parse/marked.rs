//! Calls whose name stands between fixed texts, followed by arguments as JSON.

use super::{
    call::Step,
    emitter::Emitter,
    json::{MAX_NAME_BYTES, Part, ValueScan},
    literal::{Literal, Match, OneOf},
    syntax::CallSyntax,
};

/// An id some models write after the name; ours take its place.
const CALL_ID: &str = "[CALL_ID]";

/// What may come next.
#[derive(Debug)]
enum At {
    Begin(Literal),
    /// The name, and the text after it.
    Name,
    Value,
    ValueText(ValueScan),
    End(Literal),
    /// Another call, or the end of them all.
    Between(OneOf),
}

/// Reads such calls.
#[derive(Debug)]
pub(super) struct MarkedCall {
    syntax: &'static CallSyntax,
    at: At,
    name: String,
}

impl MarkedCall {
    /// The trigger was the text before all calls.
    pub(super) fn after_open(syntax: &'static CallSyntax) -> Self {
        MarkedCall {
            syntax,
            at: At::Begin(Literal::new(syntax.begin)),
            name: String::new(),
        }
    }

    /// The trigger was the text before a name.
    pub(super) fn after_begin(syntax: &'static CallSyntax) -> Self {
        MarkedCall {
            at: At::Name,
            ..Self::after_open(syntax)
        }
    }

    pub(super) fn take(&mut self, c: char, emitter: &mut Emitter) -> Step {
        match &mut self.at {
            At::Begin(literal) => match literal.take(c) {
                Match::More => Step::More,
                Match::Whole => self.go_to(At::Name),
                Match::Refused => Step::Refused("a call must follow"),
            },
            At::Name => self.take_name(c),
            At::Value if c.is_whitespace() => Step::More,
            At::Value if c != '{' => Step::Refused("the arguments must be an object"),
            At::Value => {
                emitter.begin_call(&std::mem::take(&mut self.name));
                self.at = At::ValueText(ValueScan::default());
                self.take(c, emitter)
            }
            At::ValueText(scan) => {
                let part = scan.take(c);
                emitter.arguments(c.encode_utf8(&mut [0; 4]));
                match part {
                    Part::Last => self.end_call(emitter),
                    _ => Step::More,
                }
            }
            At::End(literal) => match literal.take(c) {
                Match::More => Step::More,
                Match::Whole => self.end_notation(emitter),
                Match::Refused => Step::Refused("its end is missing"),
            },
            At::Between(texts) => match texts.take(c) {
                Ok(None) => Step::More,
                Ok(Some(0)) => self.go_to(At::Name),
                Ok(Some(_)) => Step::Done,
                Err(()) => Step::Refused("the end of the calls is missing"),
            },
        }
    }

    fn go_to(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    /// A name is one word; what follows it must be able to become the text after names.
    fn take_name(&mut self, c: char) -> Step {
        self.name.push(c);
        if self.name.len() > MAX_NAME_BYTES {
            return Step::Refused("its name is too long");
        }
        let middle = self.syntax.middle.trim();
        let text = self.name.trim_start();
        if let Some(name) = text.strip_suffix(middle) {
            let name = name.split(CALL_ID).next().unwrap_or_default().trim_end();
            if name.is_empty() {
                return Step::Refused("its name is missing");
            }
            self.name = name.to_owned();
            return self.go_to(At::Value);
        }
        match text.split_once(char::is_whitespace) {
            Some((_, rest)) if !middle.starts_with(rest.trim_start()) => {
                Step::Refused("its name must be one word")
            }
            _ => Step::More,
        }
    }

    fn end_call(&mut self, emitter: &mut Emitter) -> Step {
        emitter.end_call();
        match self.syntax.end {
            "" => Step::Done,
            end => self.go_to(At::End(Literal::new(end))),
        }
    }

    fn end_notation(&mut self, emitter: &mut Emitter) -> Step {
        emitter.accept_raw();
        let syntax = self.syntax;
        self.go_to(At::Between(OneOf::new([syntax.begin, syntax.close])))
    }
}
