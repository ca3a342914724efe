//! `tojson` as transformers defines it: `json.dumps` with `ensure_ascii`, `indent`, `separators` and `sort_keys`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::env::{spend, spend_bytes};
use super::formatting::{charge_walk, float};

/// Python stops a dump at about a thousand levels, published schemas at ten.
const MAX_DEPTH: usize = 200;

struct Style {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// The filter.
pub(super) fn tojson(state: &mut State, value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let style = style(&kwargs)?;
    charge_walk(state, &value)?;
    let mut out = String::new();
    Writer { state, style }.value(&value, 0, &mut out)?;
    Ok(Value::from(out))
}

fn style(kwargs: &Kwargs) -> Result<Style, Error> {
    let indent = match kwargs.get::<Option<Value>>("indent")? {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            // Python takes a bool for a number, and a negative width for none.
            None => " ".repeat(width(&value)?),
        }),
    };
    let separators = match kwargs.get::<Option<Value>>("separators")? {
        Some(value) if !value.is_none() => Some((text_at(&value, 0)?, text_at(&value, 1)?)),
        _ => None,
    };
    let (item_separator, key_separator) = separators.unwrap_or_else(|| {
        let item = if indent.is_some() { "," } else { ", " };
        (item.to_owned(), ": ".to_owned())
    });
    let style = Style {
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        item_separator,
        key_separator,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    Ok(style)
}

fn width(value: &Value) -> Result<usize, Error> {
    const WIDEST: i64 = 1024;
    let width = match value.kind() {
        ValueKind::Bool => i64::from(value.is_true()),
        _ => i64::try_from(value.clone())?,
    };
    if width > WIDEST {
        let message = format!("indent of tojson is {width}, the limit is {WIDEST}");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(usize::try_from(width).unwrap_or(0))
}

fn text_at(pair: &Value, index: usize) -> Result<String, Error> {
    let item = pair.get_item_by_index(index)?;
    item.as_str().map(str::to_owned).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            "separators of tojson must be two strings",
        )
    })
}

struct Writer<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    style: Style,
}

impl Writer<'_, '_, '_> {
    fn value(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::BadSerialization,
                "value nests too deeply for JSON",
            ));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)?),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out)?,
            ValueKind::Map => self.object(value, depth, out)?,
            ValueKind::Seq | ValueKind::Iterable => self.array(value, depth, out)?,
            kind => {
                let message = format!("value of type {kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    fn array(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let mut is_empty = true;
        out.push('[');
        for item in value.try_iter()? {
            self.before_item(is_empty, depth + 1, out)?;
            is_empty = false;
            self.value(&item, depth + 1, out)?;
        }
        self.close(']', is_empty, depth, out)
    }

    fn object(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let mut is_empty = true;
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.style.sort_keys {
            keys.sort();
        }
        out.push('{');
        for key in keys {
            self.before_item(is_empty, depth + 1, out)?;
            is_empty = false;
            self.key(&key, out)?;
            out.push_str(&self.style.key_separator);
            self.value(&value.get_item(&key)?, depth + 1, out)?;
        }
        self.close('}', is_empty, depth, out)
    }

    /// JSON keys are texts; Python spells the simple other ones out.
    fn key(&self, key: &Value, out: &mut String) -> Result<(), Error> {
        let text = match key.kind() {
            ValueKind::String => return self.string(key.as_str().unwrap_or_default(), out),
            ValueKind::None => "null".to_owned(),
            ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
            ValueKind::Number => number(key)?,
            kind => {
                let message = format!("keys of a JSON object must be simple values, found {kind}");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        };
        self.string(&text, out)
    }

    fn before_item(&self, is_first: bool, depth: usize, out: &mut String) -> Result<(), Error> {
        if !is_first {
            out.push_str(&self.style.item_separator);
        }
        self.new_line(depth, out)
    }

    fn close(
        &self,
        bracket: char,
        is_empty: bool,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        if !is_empty {
            self.new_line(depth, out)?;
        }
        out.push(bracket);
        Ok(())
    }

    fn new_line(&self, depth: usize, out: &mut String) -> Result<(), Error> {
        let added = self.style.item_separator.len() + self.style.key_separator.len();
        let Some(indent) = &self.style.indent else {
            return spend_bytes(self.state, added);
        };
        spend_bytes(
            self.state,
            added.saturating_add(indent.len().saturating_mul(depth)),
        )?;
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) -> Result<(), Error> {
        spend_bytes(self.state, text.len())?;
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if u32::from(c) < 0x20 || (self.style.ascii && !c.is_ascii()) => {
                    escape(c, out);
                }
                c => out.push(c),
            }
        }
        out.push('"');
        spend(self.state, 1)
    }
}

/// `\uXXXX`, twice for what lies beyond the first plane.
fn escape(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let number = f64::try_from(value.clone())?;
    Ok(match number {
        n if n.is_nan() => "NaN".to_owned(),
        n if n.is_infinite() => if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        n => float(n),
    })
}
