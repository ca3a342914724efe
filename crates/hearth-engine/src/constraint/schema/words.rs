//! The keywords of one subschema, taken out with their types checked.

use serde_json::{Map, Value};

use super::{
    Bound, MAX_COUNT, Number, Text,
    accept::is_text_empty,
    decimal::Decimal,
    format::{Format, number_format, string_format},
    keywords::{Treatment, treatment},
    number,
    pattern::{self, PatternError},
};
use crate::constraint::error::ConstraintError;

type Result<T> = std::result::Result<T, ConstraintError>;

/// The types of JSON.
pub(super) const TYPES: [&str; 7] = [
    "null", "boolean", "integer", "number", "string", "array", "object",
];

/// The keywords of one subschema.
pub(super) struct Words<'a, 'p> {
    pub map: &'a Map<String, Value>,
    pub path: &'p str,
}

impl<'a> Words<'a, '_> {
    pub(super) fn check(&self) -> Result<()> {
        for (keyword, value) in self.map {
            match treatment(keyword) {
                Treatment::Refused(_) if is_idle(keyword, value) => {}
                Treatment::Refused(reason) => return Err(self.refuse(keyword, reason)),
                Treatment::Enforced | Treatment::Ignored => {}
            }
        }
        // An identifier further in changes what "$ref" means below it.
        if self.path != "#"
            && self
                .map
                .get("$id")
                .or(self.map.get("id"))
                .is_some_and(Value::is_string)
        {
            return Err(self.refuse("$id", "only the whole schema may have one"));
        }
        Ok(())
    }

    pub(super) fn types(&self) -> Result<Option<Vec<&'a str>>> {
        let names: Vec<&str> = match self.map.get("type") {
            None => return Ok(None),
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) if !names.is_empty() => {
                names.iter().filter_map(Value::as_str).collect()
            }
            Some(_) => {
                return Err(self.malformed("type", "must be a type's name or a list of such"));
            }
        };
        let n = self
            .map
            .get("type")
            .and_then(Value::as_array)
            .map_or(1, Vec::len);
        if let Some(name) = names.iter().find(|name| !TYPES.contains(name)) {
            return Err(self.malformed("type", format!("is {name:?}, which is no type of JSON")));
        }
        match names.len() == n {
            true => Ok(Some(names)),
            false => Err(self.malformed("type", "must be a type's name or a list of such")),
        }
    }

    pub(super) fn number(&self, is_integer: bool) -> Result<Number> {
        let mut number = Number {
            is_integer,
            min: self.bound("minimum", "exclusiveMinimum", |exclusive, inclusive| {
                exclusive >= inclusive
            })?,
            max: self.bound("maximum", "exclusiveMaximum", |exclusive, inclusive| {
                exclusive <= inclusive
            })?,
            multiple_of: self.multiple_of()?,
        };
        if let Some(Some((min, max))) = self
            .string("format")?
            .map(|name| number_format(name).flatten())
        {
            let inclusive = |value| Bound {
                value: Decimal::integer(value),
                is_exclusive: false,
            };
            number.min.get_or_insert_with(|| inclusive(min));
            number.max.get_or_insert_with(|| inclusive(max));
        }
        if let Some(keyword) = number::simplify(&mut number) {
            return Err(self.refuse(
                keyword,
                "bounds beyond sixteen digits are taken for integers of 37 digits only",
            ));
        }
        match number::is_empty(&number) {
            true => Err(self.unsatisfiable(
                if self.map.contains_key("minimum") {
                    "minimum"
                } else {
                    "exclusiveMinimum"
                },
                "the range is empty",
            )),
            false => Ok(number),
        }
    }

    fn bound(
        &self,
        inclusive: &str,
        exclusive: &str,
        is_tighter: impl Fn(&Decimal, &Decimal) -> bool,
    ) -> Result<Option<Bound>> {
        let bound = |value, is_exclusive| Bound {
            value,
            is_exclusive,
        };
        let at = self.decimal(inclusive)?;
        // Draft 4 has a boolean here, which is about the other keyword.
        if let Some(Value::Bool(is_exclusive)) = self.map.get(exclusive) {
            return Ok(at.map(|value| bound(value, *is_exclusive)));
        }
        Ok(match (at, self.decimal(exclusive)?) {
            (Some(at), Some(beyond)) if is_tighter(&beyond, &at) => Some(bound(beyond, true)),
            (Some(at), _) => Some(bound(at, false)),
            (None, beyond) => beyond.map(|value| bound(value, true)),
        })
    }

    fn multiple_of(&self) -> Result<Option<(u32, u32)>> {
        let Some(value) = self.decimal("multipleOf")? else {
            return Ok(None);
        };
        if value.is_negative || value.is_zero() {
            return Err(self.malformed("multipleOf", "must be above zero"));
        }
        let places = value.fraction.len();
        let coefficient: Option<u32> = format!("{}{}", value.whole, value.fraction).parse().ok();
        // A validator divides doubles: only halves, quarters and so on come out even.
        let is_exact =
            places <= 6 && coefficient.is_some_and(|c| c % 5_u32.pow(places as u32) == 0);
        match coefficient {
            Some(coefficient) if is_exact => Ok(Some((coefficient, places as u32))),
            _ => Err(self.refuse(
                "multipleOf",
                "integers below four billion are supported, and fractions that are exact in binary, such as 0.5 and 0.25",
            )),
        }
    }

    pub(super) fn text(&self, types: &[&str]) -> Result<Text> {
        let mut text = Text {
            min: self.least("minLength")?,
            max: self.most("maxLength")?,
            regexes: Vec::new(),
        };
        self.check_range("minLength", text.min, "maxLength", text.max)?;
        if let Some(pattern) = self.string("pattern")? {
            let regex =
                pattern::search(pattern).map_err(|error| self.pattern_error("pattern", error))?;
            text.regexes.push(regex);
        }
        if let Some(name) = self.string("format")? {
            match string_format(name) {
                Format::Regex(regex) => text
                    .regexes
                    .push(llguidance::derivre::RegexAst::Regex(regex)),
                Format::Annotation => {}
                Format::Unknown if number_format(name).is_some() || !types.contains(&"string") => {}
                Format::Unknown => {
                    return Err(
                        self.refuse("format", format!("the format {name:?} is not supported"))
                    );
                }
            }
        }
        if is_text_empty(&text) {
            let keyword = if self.map.contains_key("pattern") {
                "pattern"
            } else {
                "format"
            };
            return Err(
                self.unsatisfiable(keyword, "no string satisfies all that is said about it")
            );
        }
        Ok(text)
    }

    pub(super) fn pattern_error(&self, keyword: &str, error: PatternError) -> ConstraintError {
        match error {
            PatternError::Bad(problem) => {
                self.malformed(keyword, format!("is no regular expression: {problem}"))
            }
            PatternError::Unsupported(what) => {
                self.refuse(keyword, format!("{what} is not supported"))
            }
        }
    }

    fn decimal(&self, keyword: &str) -> Result<Option<Decimal>> {
        match self.map.get(keyword) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(Decimal::new(number))),
            Some(_) => Err(self.malformed(keyword, "must be a number")),
        }
    }

    pub(super) fn least(&self, keyword: &str) -> Result<u64> {
        match self.natural(keyword)? {
            Some(n) if n > MAX_COUNT => {
                Err(self.refuse(keyword, format!("{n} is more than {MAX_COUNT}")))
            }
            n => Ok(n.unwrap_or(0)),
        }
    }

    /// An upper limit beyond ours is brought down to it: what satisfies the lower one satisfies both.
    pub(super) fn most(&self, keyword: &str) -> Result<Option<u64>> {
        Ok(self.natural(keyword)?.map(|n| n.min(MAX_COUNT)))
    }

    fn natural(&self, keyword: &str) -> Result<Option<u64>> {
        let problem = || self.malformed(keyword, "must be an integer that is not negative");
        match self.map.get(keyword) {
            None => Ok(None),
            Some(Value::Number(number)) => {
                let value = Decimal::new(number);
                let is_natural = value.is_integer() && !value.is_negative;
                let n = is_natural
                    .then(|| value.floor().unwrap_or(i128::MAX))
                    .ok_or_else(problem)?;
                Ok(Some(u64::try_from(n).unwrap_or(u64::MAX)))
            }
            Some(_) => Err(problem()),
        }
    }

    pub(super) fn check_range(
        &self,
        low: &str,
        min: u64,
        high: &str,
        max: Option<u64>,
    ) -> Result<()> {
        match max {
            Some(max) if max < min => {
                Err(self.unsatisfiable(low, format!("it is {min}, and {high:?} is {max}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn string(&self, keyword: &str) -> Result<Option<&'a str>> {
        match self.map.get(keyword) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.malformed(keyword, "must be a string")),
        }
    }

    pub(super) fn boolean(&self, keyword: &str) -> Result<Option<bool>> {
        match self.map.get(keyword) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.malformed(keyword, "must be a boolean")),
        }
    }

    pub(super) fn array(&self, keyword: &str) -> Result<Option<&'a [Value]>> {
        match self.map.get(keyword) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.malformed(keyword, "must be an array")),
        }
    }

    /// An array that must not be empty; no entries when the keyword is not there.
    pub(super) fn list(&self, keyword: &str) -> Result<&'a [Value]> {
        match self.array(keyword)? {
            Some([]) => Err(self.malformed(keyword, "must not be empty")),
            items => Ok(items.unwrap_or(&[])),
        }
    }

    pub(super) fn object(&self, keyword: &str) -> Result<Option<&'a Map<String, Value>>> {
        match self.map.get(keyword) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(_) => Err(self.malformed(keyword, "must be an object")),
        }
    }

    pub(super) fn refuse(&self, keyword: &str, reason: impl Into<String>) -> ConstraintError {
        ConstraintError::keyword(keyword, self.path, reason)
    }

    pub(super) fn malformed(&self, keyword: &str, problem: impl Into<String>) -> ConstraintError {
        ConstraintError::malformed(keyword, self.path, problem)
    }

    pub(super) fn unsatisfiable(
        &self,
        keyword: &str,
        reason: impl Into<String>,
    ) -> ConstraintError {
        ConstraintError::unsatisfiable(keyword, self.path, reason)
    }
}

/// Whether a keyword we refuse says nothing with this value.
fn is_idle(keyword: &str, value: &Value) -> bool {
    match keyword {
        "dependencies" | "dependentRequired" | "dependentSchemas" => {
            value.as_object().is_some_and(Map::is_empty)
        }
        "unevaluatedItems" | "unevaluatedProperties" => {
            value == &Value::Bool(true) || value.as_object().is_some_and(Map::is_empty)
        }
        _ => false,
    }
}
