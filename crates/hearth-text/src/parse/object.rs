//! Calls that are JSON objects with the name and the arguments as members, in any order.

use super::{
    call::Step,
    emitter::Emitter,
    json::{MAX_NAME_BYTES, Part, ValueScan, decode_string},
    literal::{Literal, Match},
};

/// What stands around the objects.
#[derive(Debug)]
pub(super) enum ObjectForm {
    /// One object, then this text.
    Enclosed {
        /// The text.
        close: &'static str,
    },
    /// Objects one after the other, and nothing else; only those that name one of these tools.
    Bare {
        /// The tools.
        names: Vec<String>,
    },
    /// A list of objects.
    List,
}

/// Which member a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Name,
    Arguments,
    Other,
}

/// What may come next.
#[derive(Debug)]
enum At {
    /// `{`, in a list also `[`.
    Object,
    /// A key, or `}`.
    Key,
    KeyText(ValueScan),
    Colon,
    Value,
    ValueText(ValueScan),
    /// `,` or `}`.
    Comma,
    /// What follows the object.
    Tail(Option<Literal>),
}

/// Reads such calls.
#[derive(Debug)]
pub(super) struct ObjectCall {
    form: ObjectForm,
    at: At,
    is_in_list: bool,
    member: Member,
    /// The key or value being read, unless it is sent on at once.
    text: String,
    name: Option<String>,
    /// Arguments that came before the name.
    early: Option<String>,
    is_call_over: bool,
}

impl ObjectCall {
    pub(super) fn new(form: ObjectForm) -> Self {
        ObjectCall {
            form,
            at: At::Object,
            is_in_list: false,
            member: Member::Other,
            text: String::new(),
            name: None,
            early: None,
            is_call_over: false,
        }
    }

    pub(super) fn take(&mut self, c: char, emitter: &mut Emitter) -> Step {
        match &mut self.at {
            At::KeyText(scan) => {
                let part = scan.take(c);
                self.take_key(c, part)
            }
            At::ValueText(scan) => {
                let part = scan.take(c);
                self.take_value(c, part, emitter)
            }
            At::Tail(Some(literal)) => match literal.take(c) {
                Match::More => Step::More,
                Match::Whole => Step::Done,
                Match::Refused => Step::Refused("its end is missing"),
            },
            _ if c.is_whitespace() => Step::More,
            _ => self.take_mark(c, emitter),
        }
    }

    /// A character between keys and values.
    fn take_mark(&mut self, c: char, emitter: &mut Emitter) -> Step {
        match (&self.at, c) {
            (At::Object, '{') => self.go_to(At::Key),
            (At::Object, '[') if matches!(self.form, ObjectForm::List) && !self.is_in_list => {
                self.is_in_list = true;
                Step::More
            }
            (At::Object, _) => Step::Refused("no JSON object follows"),
            (At::Key, '"') => {
                let mut scan = ValueScan::default();
                scan.take(c);
                self.text = c.to_string();
                self.go_to(At::KeyText(scan))
            }
            (At::Key | At::Comma, '}') => self.end_object(emitter),
            (At::Key, _) => Step::Refused("a key must follow"),
            (At::Colon, ':') => self.go_to(At::Value),
            (At::Colon, _) => Step::Refused("`:` must follow"),
            (At::Value, _) => self.begin_value(c, emitter),
            (At::Comma, ',') => self.go_to(At::Key),
            (At::Comma, _) => Step::Refused("`,` or `}` must follow"),
            (At::Tail(_), _) => self.take_tail(c),
            (At::KeyText(_) | At::ValueText(_), _) => unreachable!("taken above"),
        }
    }

    fn go_to(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn take_key(&mut self, c: char, part: Part) -> Step {
        self.text.push(c);
        if self.text.len() > MAX_NAME_BYTES {
            return Step::Refused("a key is too long");
        }
        if part != Part::Last {
            return Step::More;
        }
        self.member = match decode_string(&self.text).as_deref() {
            Some("name") => Member::Name,
            Some("arguments" | "parameters") => Member::Arguments,
            Some(_) => Member::Other,
            None => return Step::Refused("a key is no JSON string"),
        };
        self.go_to(At::Colon)
    }

    fn begin_value(&mut self, c: char, emitter: &mut Emitter) -> Step {
        match (self.member, c) {
            (Member::Name, '"') if self.name.is_none() => {}
            (Member::Name, _) => return Step::Refused("the name must be a string"),
            (Member::Arguments, '{' | '"' | 'n') if !self.has_arguments() => {}
            (Member::Arguments, _) => return Step::Refused("the arguments must be an object"),
            (Member::Other, _) => {}
        }
        if let (Member::Arguments, '{', Some(name)) = (self.member, c, &self.name) {
            emitter.begin_call(name);
        }
        self.text.clear();
        let mut scan = ValueScan::default();
        let part = scan.take(c);
        self.at = At::ValueText(scan);
        self.take_value(c, part, emitter)
    }

    fn has_arguments(&self) -> bool {
        self.is_call_over || self.early.is_some()
    }

    fn take_value(&mut self, c: char, part: Part, emitter: &mut Emitter) -> Step {
        if emitter.is_call_open() {
            emitter.arguments(c.encode_utf8(&mut [0; 4]));
            if part == Part::Last {
                self.end_call(emitter);
                self.at = At::Comma;
            }
            return Step::More;
        }
        if part != Part::After && self.member != Member::Other {
            self.text.push(c);
        }
        if part == Part::Inside {
            return match self.member {
                Member::Name if self.text.len() > MAX_NAME_BYTES => {
                    Step::Refused("the name is too long")
                }
                _ => Step::More,
            };
        }
        self.at = At::Comma;
        if let Err(why) = self.end_value(emitter) {
            return Step::Refused(why);
        }
        match part {
            // The character after a number or a word is a mark of its own.
            Part::After => self.take(c, emitter),
            _ => Step::More,
        }
    }

    /// A value that was held back is complete.
    fn end_value(&mut self, emitter: &mut Emitter) -> Result<(), &'static str> {
        let text = std::mem::take(&mut self.text);
        match self.member {
            Member::Other => return Ok(()),
            Member::Name => {
                let name = decode_string(&text).filter(|name| !name.is_empty());
                self.name = Some(name.ok_or("the name is no JSON string")?);
                self.check_name()?;
            }
            Member::Arguments => self.early = Some(object_in(text)?),
        }
        if let (Some(name), Some(arguments)) = (&self.name, &self.early) {
            emitter.begin_call(name);
            emitter.arguments(arguments);
            self.end_call(emitter);
        }
        Ok(())
    }

    /// Objects without any marker are calls only when they name a tool.
    fn check_name(&self) -> Result<(), &'static str> {
        match (&self.form, &self.name) {
            (ObjectForm::Bare { names }, Some(name)) if !names.contains(name) => {
                Err("it names no tool")
            }
            _ => Ok(()),
        }
    }

    fn end_call(&mut self, emitter: &mut Emitter) {
        emitter.end_call();
        self.early = None;
        self.is_call_over = true;
    }

    /// `}`: a name alone is a call without arguments.
    fn end_object(&mut self, emitter: &mut Emitter) -> Step {
        match self.name.take() {
            None => return Step::Refused("it has no name"),
            Some(name) if !self.is_call_over => {
                emitter.begin_call(&name);
                emitter.arguments("{}");
                emitter.end_call();
            }
            Some(_) => {}
        }
        emitter.accept_raw();
        self.is_call_over = false;
        self.go_to(At::Tail(match self.form {
            ObjectForm::Enclosed { close } => Some(Literal::new(close)),
            _ => None,
        }))
    }

    /// What follows an object that is not enclosed.
    fn take_tail(&mut self, c: char) -> Step {
        match (&self.form, c) {
            (ObjectForm::List, ']') if self.is_in_list => Step::Done,
            (ObjectForm::List, ',') if self.is_in_list => self.go_to(At::Object),
            (ObjectForm::Bare { .. }, ';' | ',') => self.go_to(At::Object),
            (ObjectForm::Bare { .. }, '{') => self.go_to(At::Key),
            _ => Step::Refused("text follows a call"),
        }
    }
}

/// Arguments that are no object at first sight: none at all, or an object written as a string.
fn object_in(text: String) -> Result<String, &'static str> {
    if text == "null" {
        return Ok("{}".to_owned());
    }
    if text.starts_with('{') {
        return Ok(text);
    }
    let inner = decode_string(&text).ok_or("the arguments are no JSON object")?;
    match inner.trim_start().starts_with('{') {
        true => Ok(inner),
        false if inner.trim().is_empty() => Ok("{}".to_owned()),
        false => Err("the arguments are no JSON object"),
    }
}
