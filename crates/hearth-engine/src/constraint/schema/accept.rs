//! Whether a value of the schema's own text satisfies a schema: for `enum`, `const` and names.

use llguidance::derivre::{RegexAst, RegexBuilder};
use serde_json::Value;

use super::{Array, Number, Object, Schema, Text, decimal::Decimal, meet::Place, reader::Reader};
use crate::constraint::error::ConstraintError;

/// Work that deciding one expression may take, in the library's units: a few milliseconds.
const MAX_FUEL: u64 = 100_000;

type Result<T> = std::result::Result<T, ConstraintError>;

/// Whether the schema takes the value.
pub(super) fn accepts(
    reader: &mut Reader<'_>,
    schema: &Schema,
    value: &Value,
    at: Place<'_>,
) -> Result<bool> {
    Ok(match (schema, value) {
        (Schema::Any, _) | (Schema::Null, Value::Null) | (Schema::Boolean, Value::Bool(_)) => true,
        (Schema::Values(values), value) => values.iter().any(|one| is_equal(one, value)),
        (Schema::AnyOf(options), value) => {
            for option in options {
                if accepts(reader, option, value, at)? {
                    return Ok(true);
                }
            }
            false
        }
        (Schema::Reference(index), value) => {
            let definition = reader.definition(*index, at)?;
            accepts(reader, &definition, value, at)?
        }
        (Schema::Number(number), Value::Number(value)) => {
            number_accepts(number, &Decimal::new(value))
        }
        (Schema::String(text), Value::String(value)) => is_string_accepted(text, value),
        (Schema::Array(array), Value::Array(items)) => array_accepts(reader, array, items, at)?,
        (Schema::Object(object), Value::Object(members)) => {
            object_accepts(reader, object, members, at)?
        }
        _ => false,
    })
}

fn number_accepts(number: &Number, value: &Decimal) -> bool {
    let is_above = number
        .min
        .as_ref()
        .is_none_or(|bound| match bound.is_exclusive {
            true => *value > bound.value,
            false => *value >= bound.value,
        });
    let is_below = number
        .max
        .as_ref()
        .is_none_or(|bound| match bound.is_exclusive {
            true => *value < bound.value,
            false => *value <= bound.value,
        });
    let is_multiple = number
        .multiple_of
        .is_none_or(|multiple| is_multiple(value, multiple));
    is_above && is_below && is_multiple && (value.is_integer() || !number.is_integer)
}

/// Long division, digit by digit: the number may be longer than any integer type.
fn is_multiple(value: &Decimal, (coefficient, places): (u32, u32)) -> bool {
    let places = places as usize;
    if value.fraction.len() > places {
        return false;
    }
    let padding = "0".repeat(places - value.fraction.len());
    let digits = value
        .whole
        .bytes()
        .chain(value.fraction.bytes())
        .chain(padding.bytes());
    let rest = digits.fold(0_u64, |rest, digit| {
        (rest * 10 + u64::from(digit - b'0')) % u64::from(coefficient)
    });
    rest == 0
}

fn array_accepts(
    reader: &mut Reader<'_>,
    array: &Array,
    items: &[Value],
    at: Place<'_>,
) -> Result<bool> {
    let n = items.len() as u64;
    if n < array.min || array.max.is_some_and(|max| n > max) {
        return Ok(false);
    }
    for (index, item) in items.iter().enumerate() {
        if !accepts(
            reader,
            array.first.get(index).unwrap_or(&array.rest),
            item,
            at,
        )? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn object_accepts(
    reader: &mut Reader<'_>,
    object: &Object,
    members: &serde_json::Map<String, Value>,
    at: Place<'_>,
) -> Result<bool> {
    let n = members.len() as u64;
    if n < object.min || object.max.is_some_and(|max| n > max) {
        return Ok(false);
    }
    if !object
        .required
        .iter()
        .all(|name| members.contains_key(name))
    {
        return Ok(false);
    }
    for (name, member) in members {
        if !accepts(reader, object.property(name), member, at)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two values are the same to a schema: `1` and `1.0` are.
pub(super) fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Decimal::new(a) == Decimal::new(b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, value)| b.get(name).is_some_and(|other| is_equal(value, other)))
        }
        (a, b) => a == b,
    }
}

/// Whether a string satisfies a schema of strings.
pub(super) fn is_string_accepted(text: &Text, value: &str) -> bool {
    let n = value.chars().count() as u64;
    n >= text.min
        && text.max.is_none_or(|max| n <= max)
        && text.regexes.iter().all(|regex| matches(regex, value))
}

/// Whether a string matches an expression as a whole.
pub(super) fn matches(regex: &RegexAst, value: &str) -> bool {
    let mut builder = RegexBuilder::new();
    let Ok(expression) = builder.mk(regex) else {
        return false;
    };
    builder
        .into_regex_limited(expression, MAX_FUEL)
        .is_ok_and(|mut regex| regex.is_match(value))
}

/// Whether no string satisfies a schema of strings, as far as a bounded search can tell.
pub(super) fn is_text_empty(text: &Text) -> bool {
    text.max.is_some_and(|max| max < text.min)
        || (!text.regexes.is_empty() && is_regex_empty(&text.regex()))
}

/// Whether an expression matches nothing, as far as a bounded search can tell.
pub(super) fn is_regex_empty(regex: &RegexAst) -> bool {
    let mut builder = RegexBuilder::new();
    let Ok(expression) = builder.mk(regex) else {
        return false;
    };
    builder
        .into_regex_limited(expression, MAX_FUEL)
        .is_ok_and(|mut regex| regex.always_empty())
}
