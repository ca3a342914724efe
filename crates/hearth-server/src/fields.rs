//! Reading a JSON object field by field, with type and range checks, remembering what was taken.
//!
//! `null` is absent. `1.0` is an integer, `1.5` and `"1"` are not. What nobody took is named in a notice at the end, so a
//! field we do not know never fails a request and never vanishes in silence. Every error names the field by its path.

use std::{collections::HashSet, ops::RangeInclusive};

use serde_json::{Map, Value};

use crate::{error::ApiError, notice::Notices};

/// An object being read.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    taken: HashSet<&'a str>,
}

impl<'a> Fields<'a> {
    /// A body.
    pub fn new(object: &'a Map<String, Value>) -> Self {
        Fields::within(object, "")
    }

    /// An object inside a body, at `path`: `messages[3]`.
    pub fn within(object: &'a Map<String, Value>, path: impl Into<String>) -> Self {
        Fields {
            object,
            path: path.into(),
            taken: HashSet::new(),
        }
    }

    /// The whole path of a field of this object.
    pub fn path_of(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// An error about a field of this object; the message begins with the field's path.
    pub fn invalid(&self, name: &str, message: impl std::fmt::Display) -> ApiError {
        let path = self.path_of(name);
        ApiError::invalid(path.as_str(), format!("'{path}' {message}"))
    }

    /// A field's value, whatever it is, unless it is null.
    pub fn value(&mut self, name: &str) -> Option<&'a Value> {
        let (name, value) = self.object.get_key_value(name)?;
        self.taken.insert(name);
        (!value.is_null()).then_some(value)
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// The field has another type.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        Ok(self.text(name)?.map(str::to_owned))
    }

    /// A string, borrowed.
    ///
    /// # Errors
    ///
    /// The field has another type.
    pub fn text(&mut self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, "a string", Value::as_str)
    }

    /// A boolean.
    ///
    /// # Errors
    ///
    /// The field has another type.
    pub fn bool(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// An array.
    ///
    /// # Errors
    ///
    /// The field has another type.
    pub fn array(&mut self, name: &str) -> Result<Option<&'a Vec<Value>>, ApiError> {
        self.typed(name, "an array", Value::as_array)
    }

    /// An object.
    ///
    /// # Errors
    ///
    /// The field has another type.
    pub fn object(&mut self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.typed(name, "an object", Value::as_object)
    }

    /// A number within a range.
    ///
    /// # Errors
    ///
    /// The field has another type or lies outside.
    pub fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ApiError> {
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        self.typed(name, &wanted, |value| {
            value.as_f64().filter(|number| range.contains(number))
        })
    }

    /// A whole number within a range.
    ///
    /// # Errors
    ///
    /// The field has another type, a fraction, or lies outside.
    pub fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let wanted = match *range.end() {
            i64::MAX => format!("a whole number of at least {}", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        self.typed(name, &wanted, |value| {
            integer(value).filter(|number| range.contains(number))
        })
    }

    /// A count: a whole number within a range.
    ///
    /// # Errors
    ///
    /// The field has another type, a fraction, or lies outside.
    pub fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiError> {
        let bound = |n: &usize| i64::try_from(*n).unwrap_or(i64::MAX);
        let range = bound(range.start())..=bound(range.end());
        let number = self.integer(name, range)?;
        Ok(number.map(|number| usize::try_from(number).expect("within a range of counts")))
    }

    /// One of some words.
    ///
    /// # Errors
    ///
    /// The field has another type or is another word.
    pub fn one_of(
        &mut self,
        name: &str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, ApiError> {
        let wanted = format!("one of {}", words.join(", "));
        self.typed(name, &wanted, |value| {
            let text = value.as_str()?;
            words.iter().copied().find(|word| *word == text)
        })
    }

    /// A string or an array of strings, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// The field or one of its entries has another type, or there are too many.
    pub fn strings(&mut self, name: &str, limit: usize) -> Result<Option<Vec<String>>, ApiError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let list = match value {
            Value::String(text) => return Ok(Some(vec![text.clone()])),
            Value::Array(list) => list,
            other => return Err(self.wrong(name, "a string or an array of strings", other)),
        };
        if list.len() > limit {
            return Err(self.too_many(name, list.len(), limit));
        }
        let texts = list.iter().enumerate().map(|(index, entry)| match entry {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(&format!("{name}[{index}]"), "a string", other)),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// What a field must have.
    ///
    /// # Errors
    ///
    /// There is nothing.
    pub fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, ApiError> {
        value.ok_or_else(|| self.invalid(name, "is required"))
    }

    /// An error about more entries than are taken.
    pub fn too_many(&self, name: &str, n: usize, limit: usize) -> ApiError {
        self.invalid(name, format!("has {n} entries, the limit is {limit}"))
    }

    /// An error about a value of the wrong kind.
    pub fn wrong(&self, name: &str, wanted: &str, found: &Value) -> ApiError {
        self.invalid(name, format!("must be {wanted}, not {}", describe(found)))
    }

    /// An entry of the list `name`, which must be an object.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn entry<'b>(
        &self,
        name: &str,
        index: usize,
        value: &'b Value,
    ) -> Result<Fields<'b>, ApiError> {
        let name = format!("{name}[{index}]");
        let object = value
            .as_object()
            .ok_or_else(|| self.wrong(&name, "an object", value))?;
        Ok(Fields::within(object, self.path_of(&name)))
    }

    /// Takes fields that change nothing and names those that are there.
    pub fn no_effect(&mut self, names: &[&str], notices: &mut Notices) {
        for name in names {
            if self.value(name).is_some() {
                notices.ignored(self.path_of(name));
            }
        }
    }

    /// Takes a field that changes nothing, and names it when it asks for something else than what happens anyway.
    pub fn no_effect_unless(&mut self, name: &str, default: &Value, notices: &mut Notices) {
        if self.value(name).is_some_and(|value| value != default) {
            notices.ignored(self.path_of(name));
        }
    }

    /// Names the fields nobody took, null ones excepted.
    pub fn finish(self, notices: &mut Notices) {
        for (name, value) in self.object {
            if !self.taken.contains(name.as_str()) && !value.is_null() {
                notices.ignored(self.path_of(name));
            }
        }
    }

    fn typed<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.wrong(name, wanted, value)),
        }
    }
}

/// The whole number a value is; `1.0` is one.
pub fn integer(value: &Value) -> Option<i64> {
    /// Beyond it a float has no unit digit.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        // An integer past i64 also arrives here, and is past EXACT.
        (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
    })
}

/// What a value is, in few words: a short one as it stands, else its type.
pub fn describe(value: &Value) -> String {
    const SHOWN: usize = 40;
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) if text.chars().count() <= SHOWN => format!("\"{text}\""),
        Value::String(_) => "a long string".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else {
            panic!("an object")
        };
        map
    }

    #[test]
    fn null_is_absent_and_one_point_zero_is_an_integer() {
        let body = object(json!({"a": null, "b": 1.0, "c": 7}));
        let mut fields = Fields::new(&body);
        assert_eq!(fields.integer("a", 0..=9).unwrap(), None);
        assert_eq!(fields.integer("b", 0..=9).unwrap(), Some(1));
        assert_eq!(fields.count("c", 0..=9).unwrap(), Some(7));
        assert_eq!(fields.string("d").unwrap(), None);
    }

    #[test]
    fn wrong_types_and_ranges_name_the_field_and_the_rule() {
        let body = object(
            json!({"t": "1", "f": 1.5, "big": 1e300, "huge": 18446744073709551615u64, "low": -1, "s": 3, "w": "banana"}),
        );
        let mut fields = Fields::within(&body, "a[0]");
        let errors = [
            fields.integer("t", 1..=9).unwrap_err(),
            fields.integer("f", 1..=9).unwrap_err(),
            fields.integer("big", 1..=9).unwrap_err(),
            fields.integer("huge", 1..=i64::MAX).unwrap_err(),
            fields.count("low", 0..=usize::MAX).unwrap_err(),
            fields.number("t", 0.0..=2.0).unwrap_err(),
            fields.string("s").unwrap_err(),
            fields.bool("s").unwrap_err(),
            fields.one_of("w", &["auto", "none"]).unwrap_err(),
        ];
        for error in &errors {
            assert_eq!(error.status, 400);
            assert!(
                error.param.as_deref().unwrap().starts_with("a[0]."),
                "{error}"
            );
        }
        assert_eq!(
            errors[0].message,
            "'a[0].t' must be a whole number from 1 to 9, not \"1\""
        );
        assert_eq!(
            errors[8].message,
            "'a[0].w' must be one of auto, none, not \"banana\""
        );
    }

    #[test]
    fn what_nobody_took_becomes_a_notice() {
        let body =
            object(json!({"model": "m", "user": "u", "store": false, "odd": 1, "nothing": null}));
        let mut notices = Notices::new(false, 8);
        let mut fields = Fields::new(&body);
        fields.string("model").unwrap();
        fields.no_effect(&["user", "absent"], &mut notices);
        fields.no_effect_unless("store", &json!(false), &mut notices);
        fields.finish(&mut notices);
        assert_eq!(notices.header().unwrap(), "ignored=user; ignored=odd");
    }

    #[test]
    fn strictness_is_asked_for_in_the_body() {
        let body = object(json!({"hearth": {"strict": true}}));
        let notices = Notices::of_body(&mut Fields::new(&body), 8).unwrap();
        assert!(notices.is_strict() && notices.is_empty());
        for bad in [json!({"hearth": 1}), json!({"hearth": {"strict": "yes"}})] {
            let body = object(bad);
            assert!(Notices::of_body(&mut Fields::new(&body), 8).is_err());
        }
    }

    #[test]
    fn lists_of_strings_may_be_one_string() {
        let body = object(json!({"one": "a", "two": ["a", "b"], "bad": ["a", 1]}));
        let mut fields = Fields::new(&body);
        assert_eq!(fields.strings("one", 2).unwrap().unwrap(), ["a"]);
        assert_eq!(fields.strings("two", 2).unwrap().unwrap(), ["a", "b"]);
        assert_eq!(
            fields.strings("two", 1).unwrap_err().message,
            "'two' has 2 entries, the limit is 1"
        );
        assert_eq!(
            fields.strings("bad", 2).unwrap_err().param.as_deref(),
            Some("bad[1]")
        );
    }
}
