//! `oneOf`: exactly one schema may take the value, so no two may share one.

use super::{
    Bound, Number, Object, Schema, Text,
    accept::{accepts, is_text_empty},
    meet::Place,
    reader::Reader,
};
use crate::constraint::error::ConstraintError;

type Result<T> = std::result::Result<T, ConstraintError>;

/// How far references are followed to tell two schemas apart.
const MAX_DEPTH: usize = 8;

/// Schemas of which no two share a value. Objects that differ only in a property which may be missing are made to
/// have it: that is how unions with a tag are written.
pub(super) fn make_exclusive(
    reader: &mut Reader<'_>,
    options: Vec<Schema>,
    at: Place<'_>,
) -> Result<Vec<Schema>> {
    if are_disjoint(reader, &options, at)? {
        return Ok(options);
    }
    if let Some(options) = require_tag(reader, &options, at)? {
        return Ok(options);
    }
    Err(at.refuse("two of its schemas may take the same value; a property with a \"const\" in each tells them apart"))
}

fn are_disjoint(reader: &mut Reader<'_>, options: &[Schema], at: Place<'_>) -> Result<bool> {
    for (index, a) in options.iter().enumerate() {
        for b in &options[index + 1..] {
            if !is_disjoint(reader, a, b, at, 0)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn require_tag(
    reader: &mut Reader<'_>,
    options: &[Schema],
    at: Place<'_>,
) -> Result<Option<Vec<Schema>>> {
    let mut objects = Vec::new();
    for option in options {
        match followed(reader, option, at)? {
            Schema::Object(object) => objects.push(*object),
            _ => return Ok(None),
        }
    }
    let names: Vec<String> = objects[0].properties.keys().cloned().collect();
    for name in names {
        let tags: Vec<Schema> = objects
            .iter()
            .map(|object| object.property(&name).clone())
            .collect();
        if are_disjoint(reader, &tags, at)? {
            for object in &mut objects {
                object.required.insert(name.clone());
            }
            let objects = objects.into_iter().map(Box::new).map(Schema::Object);
            return Ok(Some(objects.collect()));
        }
    }
    Ok(None)
}

fn followed(reader: &mut Reader<'_>, schema: &Schema, at: Place<'_>) -> Result<Schema> {
    let mut schema = schema.clone();
    for _ in 0..MAX_DEPTH {
        match schema {
            Schema::Reference(index) => schema = reader.definition(index, at)?,
            other => return Ok(other),
        }
    }
    Ok(schema)
}

/// Whether no value satisfies both, as far as can be told.
fn is_disjoint(
    reader: &mut Reader<'_>,
    a: &Schema,
    b: &Schema,
    at: Place<'_>,
    depth: usize,
) -> Result<bool> {
    if depth > MAX_DEPTH {
        return Ok(false);
    }
    reader.count(1)?;
    let (a, b) = (followed(reader, a, at)?, followed(reader, b, at)?);
    Ok(match (&a, &b) {
        (Schema::Never, _) | (_, Schema::Never) => true,
        (Schema::AnyOf(options), other) | (other, Schema::AnyOf(options)) => {
            for option in options {
                if !is_disjoint(reader, option, other, at, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Schema::Any, _) | (_, Schema::Any) => false,
        (Schema::Reference(_), _) | (_, Schema::Reference(_)) => false,
        (Schema::Values(values), other) | (other, Schema::Values(values)) => {
            for value in values {
                if accepts(reader, other, value, at)? {
                    return Ok(false);
                }
            }
            true
        }
        (Schema::Null, Schema::Null) | (Schema::Boolean, Schema::Boolean) => false,
        (Schema::Number(a), Schema::Number(b)) => are_apart(a, b),
        (Schema::String(a), Schema::String(b)) => have_no_string(a, b),
        (Schema::Array(a), Schema::Array(b)) => {
            a.max.is_some_and(|max| max < b.min) || b.max.is_some_and(|max| max < a.min)
        }
        (Schema::Object(a), Schema::Object(b)) => differ_in_property(reader, a, b, at, depth)?,
        _ => true,
    })
}

fn differ_in_property(
    reader: &mut Reader<'_>,
    a: &Object,
    b: &Object,
    at: Place<'_>,
    depth: usize,
) -> Result<bool> {
    for name in a.required.union(&b.required) {
        if is_disjoint(reader, a.property(name), b.property(name), at, depth + 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn are_apart(a: &Number, b: &Number) -> bool {
    let is_below = |high: &Option<Bound>, low: &Option<Bound>| match (high, low) {
        (Some(high), Some(low)) => {
            high.value < low.value
                || (high.value == low.value && (high.is_exclusive || low.is_exclusive))
        }
        _ => false,
    };
    is_below(&a.max, &b.min) || is_below(&b.max, &a.min)
}

fn have_no_string(a: &Text, b: &Text) -> bool {
    is_text_empty(&Text {
        min: a.min.max(b.min),
        max: a.max.into_iter().chain(b.max).min(),
        regexes: a.regexes.iter().chain(&b.regexes).cloned().collect(),
    })
}
