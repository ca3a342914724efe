//! What two schemas have in common.

use super::{
    Array, Bound, MAX_DEPTH, MAX_SUBSCHEMAS, Number, Object, Schema, Text, accept::accepts,
    reader::Reader,
};
use crate::constraint::error::ConstraintError;

type Result<T> = std::result::Result<T, ConstraintError>;

/// The keyword that brings two schemas together, and where it stands: for errors.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub keyword: &'a str,
    pub path: &'a str,
}

impl Place<'_> {
    pub(super) fn refuse(&self, reason: impl Into<String>) -> ConstraintError {
        ConstraintError::keyword(self.keyword, self.path, reason)
    }
}

impl Reader<'_> {
    /// The values that both take.
    pub(super) fn meet(
        &mut self,
        a: Schema,
        b: Schema,
        at: Place<'_>,
        depth: usize,
    ) -> Result<Schema> {
        if depth > MAX_DEPTH {
            return Err(at.refuse("schemas that contain themselves cannot be merged"));
        }
        self.count(1)?;
        Ok(match (a, b) {
            (Schema::Any, other) | (other, Schema::Any) => other,
            (Schema::Never, _) | (_, Schema::Never) => Schema::Never,
            (Schema::Values(values), other) | (other, Schema::Values(values)) => {
                let mut kept = Vec::new();
                for value in values {
                    if accepts(self, &other, &value, at)? {
                        kept.push(value);
                    }
                }
                if kept.is_empty() {
                    Schema::Never
                } else {
                    Schema::Values(kept)
                }
            }
            (Schema::Reference(a), Schema::Reference(b)) if a == b => Schema::Reference(a),
            (Schema::Reference(index), other) => {
                let definition = self.definition(index, at)?;
                self.meet(definition, other, at, depth + 1)?
            }
            (other, Schema::Reference(index)) => {
                let definition = self.definition(index, at)?;
                self.meet(other, definition, at, depth + 1)?
            }
            (Schema::AnyOf(options), other) => self.meet_each(options, &other, at, depth, false)?,
            (other, Schema::AnyOf(options)) => self.meet_each(options, &other, at, depth, true)?,
            (Schema::Null, Schema::Null) => Schema::Null,
            (Schema::Boolean, Schema::Boolean) => Schema::Boolean,
            (Schema::Number(a), Schema::Number(b)) => meet_numbers(a, b, at)?,
            (Schema::String(a), Schema::String(b)) => meet_strings(a, b),
            (Schema::Array(a), Schema::Array(b)) => self.meet_arrays(*a, *b, at, depth)?,
            (Schema::Object(a), Schema::Object(b)) => self.meet_objects(*a, *b, at, depth)?,
            _ => Schema::Never,
        })
    }

    fn meet_each(
        &mut self,
        options: Vec<Schema>,
        other: &Schema,
        at: Place<'_>,
        depth: usize,
        is_turned: bool,
    ) -> Result<Schema> {
        let mut kept = Vec::new();
        for option in options {
            // The order of properties follows the schema that stands first.
            let (a, b) = match is_turned {
                true => (other.clone(), option),
                false => (option, other.clone()),
            };
            match self.meet(a, b, at, depth + 1)? {
                Schema::Never => {}
                Schema::AnyOf(more) => kept.extend(more),
                one => kept.push(one),
            }
            if kept.len() > MAX_SUBSCHEMAS {
                return Err(at.refuse("too many combinations"));
            }
        }
        Ok(any_of(kept))
    }

    fn meet_arrays(&mut self, a: Array, b: Array, at: Place<'_>, depth: usize) -> Result<Schema> {
        let n_first = a.first.len().max(b.first.len());
        let mut first = Vec::new();
        for index in 0..n_first {
            let item = |array: &Array| array.first.get(index).unwrap_or(&array.rest).clone();
            first.push(self.meet(item(&a), item(&b), at, depth + 1)?);
        }
        let rest = self.meet(a.rest, b.rest, at, depth + 1)?;
        let (min, max) = (a.min.max(b.min), smaller(a.max, b.max));
        Ok(match max {
            Some(max) if max < min => Schema::Never,
            _ => Schema::Array(Box::new(Array {
                first,
                rest,
                min,
                max,
            })),
        })
    }

    fn meet_objects(
        &mut self,
        a: Object,
        b: Object,
        at: Place<'_>,
        depth: usize,
    ) -> Result<Schema> {
        let mut both = Object {
            required: a.required.union(&b.required).cloned().collect(),
            names: a.names.iter().chain(&b.names).cloned().collect(),
            min: a.min.max(b.min),
            max: smaller(a.max, b.max),
            ..Object::default()
        };
        let more = b
            .properties
            .keys()
            .filter(|name| !a.properties.contains_key(*name));
        let names: Vec<String> = a.properties.keys().chain(more).cloned().collect();
        for name in names {
            let (in_a, in_b) = (a.property(&name).clone(), b.property(&name).clone());
            let schema = self.meet(in_a, in_b, at, depth + 1)?;
            both.properties.insert(name, schema);
        }
        both.patterns = meet_patterns(&a, &b, at)?;
        both.rest = match (a.rest, b.rest) {
            (None, rest) | (rest, None) => rest,
            (Some(a), Some(b)) => Some(self.meet(a, b, at, depth + 1)?),
        };
        let is_missing = |name: &String| matches!(both.property(name), Schema::Never);
        let is_never = both.required.iter().any(is_missing);
        Ok(
            match is_never || both.max.is_some_and(|max| max < both.min) {
                true => Schema::Never,
                false => Schema::Object(Box::new(both)),
            },
        )
    }
}

fn meet_patterns(
    a: &Object,
    b: &Object,
    at: Place<'_>,
) -> Result<Vec<(llguidance::derivre::RegexAst, Schema)>> {
    match (a.patterns.is_empty(), b.patterns.is_empty()) {
        (true, true) => Ok(Vec::new()),
        (false, true) if b.rest.is_none() => Ok(a.patterns.clone()),
        (true, false) if a.rest.is_none() => Ok(b.patterns.clone()),
        _ => Err(at.refuse("\"patternProperties\" cannot be merged with another schema's")),
    }
}

fn meet_numbers(a: Number, b: Number, at: Place<'_>) -> Result<Schema> {
    let multiple_of = match (a.multiple_of, b.multiple_of) {
        (None, other) | (other, None) => other,
        (Some(a), Some(b)) if a == b => Some(a),
        _ => return Err(at.refuse("two different values of \"multipleOf\"")),
    };
    let number = Number {
        is_integer: a.is_integer || b.is_integer,
        min: tighter(a.min, b.min, |a, b| a > b),
        max: tighter(a.max, b.max, |a, b| a < b),
        multiple_of,
    };
    Ok(match super::number::is_empty(&number) {
        true => Schema::Never,
        false => Schema::Number(number),
    })
}

fn tighter(
    a: Option<Bound>,
    b: Option<Bound>,
    is_tighter: impl Fn(&super::decimal::Decimal, &super::decimal::Decimal) -> bool,
) -> Option<Bound> {
    let (a, b) = match (a, b) {
        (None, other) | (other, None) => return other,
        (Some(a), Some(b)) => (a, b),
    };
    if a.value == b.value {
        let is_exclusive = a.is_exclusive || b.is_exclusive;
        return Some(Bound { is_exclusive, ..a });
    }
    Some(if is_tighter(&a.value, &b.value) { a } else { b })
}

fn meet_strings(a: Text, b: Text) -> Schema {
    let text = Text {
        min: a.min.max(b.min),
        max: smaller(a.max, b.max),
        regexes: a.regexes.into_iter().chain(b.regexes).collect(),
    };
    match super::accept::is_text_empty(&text) {
        true => Schema::Never,
        false => Schema::String(text),
    }
}

fn smaller(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (None, other) | (other, None) => other,
        (Some(a), Some(b)) => Some(a.min(b)),
    }
}

/// One of these, or nothing when there are none.
pub(super) fn any_of(mut options: Vec<Schema>) -> Schema {
    match options.len() {
        0 => Schema::Never,
        1 => options.remove(0),
        _ => Schema::AnyOf(options),
    }
}
