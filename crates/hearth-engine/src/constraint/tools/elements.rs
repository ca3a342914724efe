//! Arguments as elements, where a string stands as it is, without quotes or escapes.
//!
//! The reader of such a call decides by the tool's schema whether a value is text or JSON; here the same decision says
//! how a value is written, so that what is read is what the schema asks for.

use hearth_text::parse::ValueKind;
use llguidance::derivre::RegexAst;
use serde_json::Value;

use crate::constraint::{
    ConstraintError, ToolSpec,
    builder::{Builder, Node},
    json,
    schema::{Document, Object, Schema},
};

type Result<T> = std::result::Result<T, ConstraintError>;

/// The texts around a key and a value.
pub(super) struct Notation {
    pub begin: &'static str,
    pub middle: &'static str,
    pub end: &'static str,
}

/// How far references are followed from one value.
const MAX_FOLLOWED: usize = 16;
/// The most arguments of a tool without a schema.
const MAX_FREE: usize = 32;

/// The arguments of a tool; any at all where there is no schema to hold them to.
pub(super) fn emit(
    builder: &mut Builder,
    notation: &Notation,
    tool: &ToolSpec,
    document: Option<&Document>,
) -> Result<Node> {
    let Some(document) = document else {
        return free(builder, notation);
    };
    let Schema::Object(object) = follow(document, &document.root)? else {
        return Err(refuse(
            "anyOf",
            "arguments that are one of several objects cannot be written as elements",
        ));
    };
    check(object)?;
    let mut writer = Writer {
        builder,
        notation,
        document,
        parameters: tool.schema.as_ref(),
    };
    let mut parts = Vec::new();
    for (name, schema) in &object.properties {
        let is_required = object.required.contains(name);
        match (schema, is_required) {
            (Schema::Never, _) => {}
            (schema, true) => parts.push(writer.element(name, schema)?),
            (schema, false) => {
                let element = writer.element(name, schema)?;
                parts.push(writer.builder.optional(element));
            }
        }
    }
    Ok(builder.join(&parts))
}

fn refuse(keyword: &str, reason: &str) -> ConstraintError {
    ConstraintError::keyword(keyword, "#", reason)
}

fn check(object: &Object) -> Result<()> {
    if object.min > object.required.len() as u64 || object.max.is_some() {
        return Err(refuse(
            "minProperties",
            "arguments written as elements are not counted",
        ));
    }
    if object
        .required
        .iter()
        .any(|name| !object.properties.contains_key(name))
    {
        return Err(refuse(
            "required",
            "arguments written as elements must be listed in \"properties\"",
        ));
    }
    let is_plain = |name: &String| {
        !name.is_empty() && name.trim() == name && !name.contains(['<', '>', '"', '\n'])
    };
    match object.properties.keys().find(|name| !is_plain(name)) {
        Some(_) => Err(refuse(
            "properties",
            "a name has characters that the model's notation of calls cannot hold",
        )),
        None => Ok(()),
    }
}

fn follow<'a>(document: &'a Document, schema: &'a Schema) -> Result<&'a Schema> {
    let mut schema = schema;
    for _ in 0..MAX_FOLLOWED {
        match schema {
            Schema::Reference(index) => schema = &document.definitions[*index],
            other => return Ok(other),
        }
    }
    Err(refuse("$ref", "too many references in a row"))
}

fn free(builder: &mut Builder, notation: &Notation) -> Result<Node> {
    let begin = builder.literal(notation.begin)?;
    let key = format!("[A-Za-z0-9_.-]{{1,64}}{}", escaped(notation.middle));
    let key = builder.terminal(RegexAst::Regex(key))?;
    let value = builder.terminal(ended(notation, anything()))?;
    let element = builder.join(&[begin, key, value]);
    Ok(builder.repeat(element, 0, Some(MAX_FREE)))
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| format!("\\x{{{:X}}}", u32::from(c)))
        .collect()
}

fn anything() -> RegexAst {
    RegexAst::Regex("(?s:.*)".to_owned())
}

/// Content that does not contain the end's tag, and the end. One terminal: content alone would run on into the tag.
fn ended(notation: &Notation, content: RegexAst) -> RegexAst {
    let tag = RegexAst::Literal(notation.end.trim().to_owned());
    let with_tag = RegexAst::Concat(vec![anything(), tag, anything()]);
    let without_tag = RegexAst::Not(Box::new(with_tag));
    let content = RegexAst::And(vec![anything(), content, without_tag]);
    RegexAst::Concat(vec![content, RegexAst::Literal(notation.end.to_owned())])
}

/// Text that the reader would take for JSON where a string is only one of several types.
fn looks_like_json() -> RegexAst {
    RegexAst::Regex(r"(?s:\s*([\[{].*|null\s*))".to_owned())
}

struct Writer<'a> {
    builder: &'a mut Builder,
    notation: &'a Notation,
    document: &'a Document,
    parameters: Option<&'a Value>,
}

impl Writer<'_> {
    fn element(&mut self, name: &str, schema: &Schema) -> Result<Node> {
        let head = format!("{}{name}{}", self.notation.begin, self.notation.middle);
        let head = self.builder.literal(&head)?;
        let value = match ValueKind::of(self.parameters, name) {
            ValueKind::Text => {
                let content = self.text(schema)?;
                self.builder.terminal(ended(self.notation, content))?
            }
            ValueKind::Json { may_be_text: false } => self.json(schema)?,
            ValueKind::Json { may_be_text: true } => self.either(schema)?,
        };
        Ok(self.builder.join(&[head, value]))
    }

    fn json(&mut self, schema: &Schema) -> Result<Node> {
        let value = json::emit_part(self.builder, self.document, schema)?;
        let end = self.builder.literal(self.notation.end)?;
        Ok(self.builder.join(&[value, end]))
    }

    /// The content of strings, and of nothing else.
    fn text(&self, schema: &Schema) -> Result<RegexAst> {
        Ok(match follow(self.document, schema)? {
            Schema::Any => anything(),
            Schema::String(text) => text.regex(),
            Schema::Values(values) => {
                let texts = values.iter().filter_map(Value::as_str);
                RegexAst::Or(
                    texts
                        .map(|text| RegexAst::Literal(text.to_owned()))
                        .collect(),
                )
            }
            Schema::AnyOf(options) => {
                let texts = options.iter().map(|option| self.text(option));
                RegexAst::Or(texts.collect::<Result<_>>()?)
            }
            _ => RegexAst::NoMatch,
        })
    }

    /// Strings as text, and `null`, arrays and objects as JSON; numbers would be read as strings.
    fn either(&mut self, schema: &Schema) -> Result<Node> {
        let text = self.text(schema)?;
        let text = RegexAst::And(vec![text, RegexAst::Not(Box::new(looks_like_json()))]);
        let mut options = vec![self.builder.terminal(ended(self.notation, text))?];
        let schema = follow(self.document, schema)?.clone();
        let parts = match schema {
            Schema::AnyOf(parts) => parts,
            other => vec![other],
        };
        for part in parts {
            let part = follow(self.document, &part)?.clone();
            match part {
                Schema::Null | Schema::Array(_) | Schema::Object(_) => {
                    options.push(self.json(&part)?)
                }
                Schema::Values(values) => {
                    let is_read =
                        |value: &Value| value.is_null() || value.is_array() || value.is_object();
                    let values: Vec<Value> = values.into_iter().filter(is_read).collect();
                    if !values.is_empty() {
                        options.push(self.json(&Schema::Values(values))?);
                    }
                }
                _ => {}
            }
        }
        Ok(self.builder.choose(&options))
    }
}
