//! Calls written as elements, `<function=name><parameter=key>value</parameter></function>`, turned into JSON.
//!
//! The notation has no escapes, so a value ends only where `</parameter>` is followed by what may follow it:
//! the same text inside a value is data. Strings go out as they come; values of other types are JSON and wait
//! for their end.

use std::sync::Arc;

use serde_json::Value;

use super::{
    OfferedTool,
    call::Step,
    emitter::Emitter,
    json::{MAX_NAME_BYTES, push_escaped},
    literal::{Literal, Match, OneOf},
};

const PARAMETER: &str = "<parameter=";
const END_PARAMETER: &str = "</parameter>";
const END_FUNCTION: &str = "</function>";

/// White space between elements that we wait through.
const MAX_BLANK_BYTES: usize = 64;

/// What may come next.
#[derive(Debug)]
enum At {
    Function(Literal),
    Name,
    /// A parameter, or the end of the function.
    Element(OneOf),
    Key,
    /// A line break before the value.
    ValueBegin,
    Value,
    Close(Literal),
}

/// Reads such a call.
#[derive(Debug)]
pub(super) struct ElementsCall {
    tools: Arc<[OfferedTool]>,
    at: At,
    name: String,
    key: String,
    kind: ValueKind,
    n_parameters: usize,
    /// A value that waits for its end.
    value: String,
    /// Text that may be the end of a value.
    held: String,
}

impl ElementsCall {
    /// `is_inside`: the trigger was the inner element.
    pub(super) fn new(tools: Arc<[OfferedTool]>, is_inside: bool) -> Self {
        ElementsCall {
            tools,
            at: match is_inside {
                true => At::Name,
                false => At::Function(Literal::new("<function=")),
            },
            name: String::new(),
            key: String::new(),
            kind: ValueKind::Text,
            n_parameters: 0,
            value: String::new(),
            held: String::new(),
        }
    }

    pub(super) fn take(&mut self, c: char, emitter: &mut Emitter) -> Step {
        match &mut self.at {
            At::Function(literal) => match literal.take(c) {
                Match::More => Step::More,
                Match::Whole => self.go_to(At::Name),
                Match::Refused => Step::Refused("`<function=` must follow"),
            },
            At::Name if c == '>' => self.end_name(),
            At::Name => take_name(&mut self.name, c),
            At::Element(texts) => match texts.take(c) {
                Ok(None) => Step::More,
                Ok(Some(0)) => self.begin_parameter(emitter),
                Ok(Some(_)) => self.end_function(emitter),
                Err(()) => Step::Refused("a parameter or the end of the function must follow"),
            },
            At::Key if c == '>' => self.begin_value(emitter),
            At::Key => take_name(&mut self.key, c),
            At::ValueBegin => {
                self.at = At::Value;
                match c {
                    '\n' => Step::More,
                    _ => self.take_value(c, emitter),
                }
            }
            At::Value => self.take_value(c, emitter),
            At::Close(literal) => match literal.take(c) {
                Match::More => Step::More,
                Match::Whole => Step::Done,
                Match::Refused => Step::Refused("its end is missing"),
            },
        }
    }

    /// The answer ends inside a value: what was held back is part of it.
    pub(super) fn finish(&mut self, emitter: &mut Emitter) {
        if emitter.is_call_open() {
            let held = std::mem::take(&mut self.held);
            self.push_value(&held, emitter);
            emitter.arguments(&std::mem::take(&mut self.value));
        }
    }

    fn go_to(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn end_name(&mut self) -> Step {
        self.name = self.name.trim().trim_matches('"').to_owned();
        match self.name.is_empty() {
            true => Step::Refused("its name is missing"),
            false => self.go_to(At::Element(OneOf::new([PARAMETER, END_FUNCTION]))),
        }
    }

    fn begin_parameter(&mut self, emitter: &mut Emitter) -> Step {
        if !emitter.is_call_open() {
            emitter.begin_call(&self.name);
        }
        emitter.arguments(match self.n_parameters {
            0 => "{",
            _ => ", ",
        });
        self.n_parameters += 1;
        self.key.clear();
        self.go_to(At::Key)
    }

    fn begin_value(&mut self, emitter: &mut Emitter) -> Step {
        let key = self.key.trim().trim_matches('"');
        let tool = self.tools.iter().find(|tool| tool.name == self.name);
        self.kind = ValueKind::of(tool.and_then(|tool| tool.parameters.as_ref()), key);
        emitter.arguments(&Value::from(key).to_string());
        emitter.arguments(match self.kind {
            ValueKind::Text => ": \"",
            ValueKind::Json { .. } => ": ",
        });
        self.go_to(At::ValueBegin)
    }

    fn take_value(&mut self, c: char, emitter: &mut Emitter) -> Step {
        self.held.push(c);
        while !self.held.is_empty() {
            match Ending::of(&self.held) {
                Ending::No => {
                    let first = self.held.remove(0);
                    self.push_value(first.encode_utf8(&mut [0; 4]), emitter);
                }
                Ending::Perhaps => return Step::More,
                Ending::ThenParameter => {
                    self.end_value(emitter);
                    return self.begin_parameter(emitter);
                }
                Ending::ThenEnd => {
                    self.end_value(emitter);
                    return self.end_function(emitter);
                }
            }
        }
        Step::More
    }

    fn push_value(&mut self, text: &str, emitter: &mut Emitter) {
        match self.kind {
            ValueKind::Json { .. } => self.value.push_str(text),
            ValueKind::Text => {
                let mut escaped = String::with_capacity(text.len());
                text.chars().for_each(|c| push_escaped(c, &mut escaped));
                emitter.arguments(&escaped);
            }
        }
    }

    fn end_value(&mut self, emitter: &mut Emitter) {
        self.held.clear();
        let value = std::mem::take(&mut self.value);
        match self.kind {
            ValueKind::Text => emitter.arguments("\""),
            ValueKind::Json { may_be_text } => emitter.arguments(&json_of(&value, may_be_text)),
        }
    }

    fn end_function(&mut self, emitter: &mut Emitter) -> Step {
        if !emitter.is_call_open() {
            emitter.begin_call(&self.name);
            emitter.arguments("{");
        }
        emitter.arguments("}");
        emitter.end_call();
        self.go_to(At::Close(Literal::new("</tool_call>")))
    }
}

/// Names and keys stand before `>`.
fn take_name(name: &mut String, c: char) -> Step {
    name.push(c);
    match name.len() > MAX_NAME_BYTES || c == '<' {
        true => Step::Refused("a name must end in `>`"),
        false => Step::More,
    }
}

/// Whether a text is the end of a value.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    No,
    Perhaps,
    ThenParameter,
    ThenEnd,
}

impl Ending {
    fn of(held: &str) -> Ending {
        let text = held.strip_prefix('\n').unwrap_or(held);
        let Some(after) = text.strip_prefix(END_PARAMETER) else {
            return Self::begun(END_PARAMETER.starts_with(text));
        };
        let next = after.trim_start();
        match next {
            PARAMETER => Ending::ThenParameter,
            END_FUNCTION => Ending::ThenEnd,
            _ if after.len() - next.len() > MAX_BLANK_BYTES => Ending::No,
            _ => Self::begun(PARAMETER.starts_with(next) || END_FUNCTION.starts_with(next)),
        }
    }

    fn begun(is_begun: bool) -> Ending {
        match is_begun {
            true => Ending::Perhaps,
            false => Ending::No,
        }
    }
}

/// How a parameter's text becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// It is a string, whatever it looks like.
    Text,
    /// It is JSON. Text that is none becomes a string.
    Json {
        /// A string is allowed too: only what is `null`, a list or an object is JSON then.
        may_be_text: bool,
    },
}

impl ValueKind {
    /// By the schema of the tool's arguments; a parameter the schema does not know is JSON if it can be.
    pub fn of(parameters: Option<&Value>, key: &str) -> ValueKind {
        let Some(schema) = parameters.and_then(|parameters| property(parameters, key)) else {
            return ValueKind::Json { may_be_text: false };
        };
        let mut types = Vec::new();
        collect_types(schema, &mut types, 0);
        let may_be_text = types.contains(&"string");
        match may_be_text && types.iter().all(|name| *name == "string") {
            true => ValueKind::Text,
            false => ValueKind::Json { may_be_text },
        }
    }
}

fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(key)
}

/// Types a schema allows, by its own words and those of its alternatives.
fn collect_types<'a>(schema: &'a Value, types: &mut Vec<&'a str>, depth: usize) {
    if depth > 4 {
        return;
    }
    match schema.get("type") {
        Some(Value::String(name)) => types.push(name),
        Some(Value::Array(names)) => types.extend(names.iter().filter_map(Value::as_str)),
        _ => {}
    }
    let values = schema
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    if schema.get("type").is_none() {
        let name_of = |value| -> &'a str { type_of(value) };
        types.extend(values.chain(schema.get("const")).map(name_of));
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        let alternatives = schema.get(word).and_then(Value::as_array);
        for schema in alternatives.into_iter().flatten() {
            collect_types(schema, types, depth + 1);
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// JSON for a value that need not be a string.
fn json_of(text: &str, may_be_text: bool) -> String {
    let trimmed = text.trim();
    let is_json = match serde_json::from_str::<Value>(trimmed) {
        Ok(Value::Null | Value::Array(_) | Value::Object(_)) => true,
        Ok(_) => !may_be_text,
        Err(_) => false,
    };
    match (is_json, trimmed) {
        (true, _) => trimmed.to_owned(),
        // As Python writes them; models mix the two up.
        (_, "True") if !may_be_text => "true".to_owned(),
        (_, "False") if !may_be_text => "false".to_owned(),
        (_, "None") if !may_be_text => "null".to_owned(),
        _ => Value::from(text).to_string(),
    }
}
