//! Reads a schema: keyword by keyword, nothing passed over.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    Array, Bound, MAX_BYTES, MAX_COUNT, MAX_DEPTH, MAX_SUBSCHEMAS, Number, Schema, Text,
    accept::is_text_empty,
    decimal::Decimal,
    disjoint,
    format::{Format, number_format, string_format},
    keywords::{Treatment, treatment},
    meet::{Place, any_of},
    number,
    pattern::{self, PatternError},
    pointer::{child, entry, resolve},
};
use crate::constraint::error::ConstraintError;

type Result<T> = std::result::Result<T, ConstraintError>;

/// A schema that was read whole, with what its references point at.
#[derive(Debug)]
pub(crate) struct Document {
    pub root: Schema,
    pub definitions: Vec<Schema>,
}

/// Reads a schema and everything it refers to. `is_object` leaves only objects of what it says.
pub(crate) fn read(value: &Value, is_object: bool) -> Result<Document> {
    check_size(value)?;
    let mut reader = Reader {
        document: value,
        definitions: Vec::new(),
        by_path: HashMap::new(),
        n_subschemas: 0,
    };
    if !value.is_object() {
        return Err(ConstraintError::malformed("", "#", "must be an object"));
    }
    let mut root = reader.read(value, "#", 0)?;
    if is_object {
        let at = Place {
            keyword: "type",
            path: "#",
        };
        root = reader.meet(root, Schema::Object(Box::default()), at, 0)?;
    }
    match root {
        Schema::Never => Err(ConstraintError::unsatisfiable(
            "type",
            "#",
            "no value satisfies the schema",
        )),
        root => reader.finish(root),
    }
}

pub(super) struct Reader<'a> {
    document: &'a Value,
    definitions: Vec<Definition<'a>>,
    by_path: HashMap<String, usize>,
    n_subschemas: usize,
}

struct Definition<'a> {
    path: String,
    value: &'a Value,
    state: State,
}

enum State {
    Unread,
    Reading,
    Read(Schema),
}

const TYPES: [&str; 7] = [
    "null", "boolean", "integer", "number", "string", "array", "object",
];
const NUMBER_WORDS: &[&str] = &[
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];
const STRING_WORDS: &[&str] = &["minLength", "maxLength", "pattern", "format"];
const ARRAY_WORDS: &[&str] = &[
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
];
const OBJECT_WORDS: &[&str] = &[
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "required",
    "minProperties",
    "maxProperties",
];

impl<'a> Reader<'a> {
    /// Counts subschemas against the limit.
    pub(super) fn count(&mut self, n: usize) -> Result<()> {
        self.n_subschemas += n;
        if self.n_subschemas > MAX_SUBSCHEMAS {
            return Err(ConstraintError::Limit {
                what: "number of subschemas",
                n: self.n_subschemas,
                limit: MAX_SUBSCHEMAS,
            });
        }
        Ok(())
    }

    /// What a reference points at, read now if it was not before.
    pub(super) fn definition(&mut self, index: usize, at: Place<'_>) -> Result<Schema> {
        let definition = &mut self.definitions[index];
        match &definition.state {
            State::Read(schema) => return Ok(schema.clone()),
            State::Reading => return Err(at.refuse("the schema refers to itself on the way here")),
            State::Unread => definition.state = State::Reading,
        }
        let (path, value) = (definition.path.clone(), definition.value);
        let schema = self.read(value, &path, 0)?;
        self.definitions[index].state = State::Read(schema.clone());
        Ok(schema)
    }

    fn finish(mut self, root: Schema) -> Result<Document> {
        let mut index = 0;
        while index < self.definitions.len() {
            self.definition(
                index,
                Place {
                    keyword: "$ref",
                    path: "#",
                },
            )?;
            index += 1;
        }
        let (mut definitions, mut paths) = (Vec::new(), Vec::new());
        for definition in self.definitions {
            paths.push(definition.path);
            definitions.push(match definition.state {
                State::Read(schema) => schema,
                State::Unread | State::Reading => unreachable!("all of them were read"),
            });
        }
        let document = Document { root, definitions };
        document.check_circles(&paths)?;
        Ok(document)
    }

    pub(super) fn read(&mut self, value: &'a Value, path: &str, depth: usize) -> Result<Schema> {
        self.count(1)?;
        let words = match value {
            Value::Bool(true) => return Ok(Schema::Any),
            Value::Bool(false) => return Ok(Schema::Never),
            Value::Object(map) => Words { map, path },
            _ => {
                return Err(ConstraintError::malformed(
                    "",
                    path,
                    "must be a schema: an object or a boolean",
                ));
            }
        };
        if depth > MAX_DEPTH {
            return Err(ConstraintError::Limit {
                what: "depth of the schema",
                n: depth,
                limit: MAX_DEPTH,
            });
        }
        words.check()?;
        let mut schema = self.read_types(&words, depth)?;
        schema = self.read_reference(&words, schema)?;
        schema = self.read_combinations(&words, schema, depth)?;
        self.read_values(&words, schema)
    }

    fn read_types(&mut self, words: &Words<'a, '_>, depth: usize) -> Result<Schema> {
        let names = words.types()?;
        let has = |list: &[&str]| list.iter().any(|word| words.map.contains_key(*word));
        let says_something = [NUMBER_WORDS, STRING_WORDS, ARRAY_WORDS, OBJECT_WORDS]
            .iter()
            .any(|list| has(list));
        let names = match names {
            Some(names) => names,
            None if !says_something => return Ok(Schema::Any),
            None => TYPES
                .iter()
                .copied()
                .filter(|name| *name != "integer")
                .collect(),
        };
        // What is wrong with a word is said even where the type makes it idle.
        let number = words.number(!names.contains(&"number"))?;
        let text = words.text(&names)?;
        let array = self.read_array(words, depth)?;
        let object = self.read_object(words, depth)?;
        let mut options = Vec::new();
        for name in &names {
            options.push(match *name {
                "null" => Schema::Null,
                "boolean" => Schema::Boolean,
                "integer" if names.contains(&"number") => continue,
                "integer" | "number" => Schema::Number(number.clone()),
                "string" => Schema::String(text.clone()),
                "array" => Schema::Array(Box::new(array.clone())),
                _ => Schema::Object(Box::new(object.clone())),
            });
        }
        Ok(any_of(options))
    }

    fn read_array(&mut self, words: &Words<'a, '_>, depth: usize) -> Result<Array> {
        let mut array = Array {
            min: words.least("minItems")?,
            max: words.most("maxItems")?,
            ..Array::default()
        };
        words.check_range("minItems", array.min, "maxItems", array.max)?;
        let is_unique = words.boolean("uniqueItems")?.unwrap_or(false);
        if is_unique && array.max.is_none_or(|max| max > 1) {
            return Err(words.refuse(
                "uniqueItems",
                "a grammar cannot compare an item with earlier ones",
            ));
        }
        // Older drafts have the first items in "items" and the others in "additionalItems".
        let is_old = words.map.get("items").is_some_and(Value::is_array);
        let (first, rest) = match is_old {
            true => ("items", "additionalItems"),
            false => ("prefixItems", "items"),
        };
        for (index, item) in words.array(first)?.unwrap_or(&[]).iter().enumerate() {
            array
                .first
                .push(self.read(item, &entry(words.path, first, index), depth + 1)?);
        }
        if let Some(item) = words.map.get(rest) {
            array.rest = self.read(item, &child(words.path, rest), depth + 1)?;
        }
        Ok(array)
    }

    fn read_reference(&mut self, words: &Words<'a, '_>, schema: Schema) -> Result<Schema> {
        let Some(reference) = words.string("$ref")? else {
            return Ok(schema);
        };
        let problem = match reference.starts_with('#') {
            true => "points at nothing in the schema",
            false => "points outside of the schema, which is never followed",
        };
        let Some((path, value)) = resolve(self.document, reference) else {
            return Err(words.malformed("$ref", format!("{problem}: {reference:?}")));
        };
        let index = match self.by_path.get(&path) {
            Some(&index) => index,
            None => {
                let index = self.definitions.len();
                self.by_path.insert(path.clone(), index);
                self.definitions.push(Definition {
                    path,
                    value,
                    state: State::Unread,
                });
                index
            }
        };
        self.meet_here(schema, Schema::Reference(index), "$ref", words)
    }

    fn read_combinations(
        &mut self,
        words: &Words<'a, '_>,
        mut schema: Schema,
        depth: usize,
    ) -> Result<Schema> {
        for index in 0..words.list("allOf")?.len() {
            let item = &words.list("allOf")?[index];
            let part = self.read(item, &entry(words.path, "allOf", index), depth + 1)?;
            schema = self.meet_here(schema, part, "allOf", words)?;
        }
        if words.map.contains_key("anyOf") {
            let options = self.read_options(words, "anyOf", depth)?;
            schema = self.meet_here(schema, any_of(options), "anyOf", words)?;
        }
        if words.map.contains_key("oneOf") {
            let options = self.read_options(words, "oneOf", depth)?;
            let at = Place {
                keyword: "oneOf",
                path: words.path,
            };
            let options = disjoint::make_exclusive(self, options, at)?;
            schema = self.meet_here(schema, any_of(options), "oneOf", words)?;
        }
        match words.map.get("not") {
            None | Some(Value::Bool(false)) => Ok(schema),
            Some(Value::Bool(true)) => Ok(Schema::Never),
            Some(Value::Object(map)) if map.is_empty() => Ok(Schema::Never),
            Some(_) => Err(words.refuse("not", "a grammar says what may come, not what may not")),
        }
    }

    fn read_options(
        &mut self,
        words: &Words<'a, '_>,
        keyword: &str,
        depth: usize,
    ) -> Result<Vec<Schema>> {
        let mut options = Vec::new();
        for (index, item) in words.list(keyword)?.iter().enumerate() {
            match self.read(item, &entry(words.path, keyword, index), depth + 1)? {
                Schema::Never => {}
                one => options.push(one),
            }
        }
        match options.is_empty() {
            true => Err(words.unsatisfiable(keyword, "none of its schemas takes any value")),
            false => Ok(options),
        }
    }

    fn read_values(&mut self, words: &Words<'a, '_>, mut schema: Schema) -> Result<Schema> {
        if words.map.contains_key("enum") {
            let values = words.list("enum")?;
            self.count(values.len())?;
            schema = self.meet_here(schema, Schema::Values(values.to_vec()), "enum", words)?;
        }
        if let Some(value) = words.map.get("const") {
            schema = self.meet_here(schema, Schema::Values(vec![value.clone()]), "const", words)?;
        }
        Ok(schema)
    }

    /// The common part of two schemas of one place. That nothing is left over is an error there.
    fn meet_here(
        &mut self,
        a: Schema,
        b: Schema,
        keyword: &str,
        words: &Words<'_, '_>,
    ) -> Result<Schema> {
        let at = Place {
            keyword,
            path: words.path,
        };
        match self.meet(a, b, at, 0)? {
            Schema::Never => {
                Err(words.unsatisfiable(keyword, "it contradicts what stands beside it"))
            }
            schema => Ok(schema),
        }
    }
}

impl Document {
    /// A reference that comes back to itself before any array or object says nothing.
    fn check_circles(&self, paths: &[String]) -> Result<()> {
        // 0: not seen, 1: on the way, 2: done.
        let mut marks = vec![0_u8; self.definitions.len()];
        for index in 0..self.definitions.len() {
            self.check_circle(index, &mut marks, paths, 0)?;
        }
        Ok(())
    }

    fn check_circle(
        &self,
        index: usize,
        marks: &mut [u8],
        paths: &[String],
        depth: usize,
    ) -> Result<()> {
        if marks[index] == 2 {
            return Ok(());
        }
        if marks[index] == 1 || depth > MAX_DEPTH {
            return Err(ConstraintError::malformed(
                "$ref",
                &paths[index],
                "goes round in a circle without content",
            ));
        }
        marks[index] = 1;
        for next in direct_references(&self.definitions[index]) {
            self.check_circle(next, marks, paths, depth + 1)?;
        }
        marks[index] = 2;
        Ok(())
    }
}

fn direct_references(schema: &Schema) -> Vec<usize> {
    match schema {
        Schema::Reference(index) => vec![*index],
        Schema::AnyOf(options) => options.iter().flat_map(direct_references).collect(),
        _ => Vec::new(),
    }
}

/// The keywords of one subschema.
pub(super) struct Words<'a, 'p> {
    pub map: &'a Map<String, Value>,
    pub path: &'p str,
}

impl<'a> Words<'a, '_> {
    fn check(&self) -> Result<()> {
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

    fn types(&self) -> Result<Option<Vec<&'a str>>> {
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

    fn number(&self, is_integer: bool) -> Result<Number> {
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

    fn text(&self, types: &[&str]) -> Result<Text> {
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

    fn boolean(&self, keyword: &str) -> Result<Option<bool>> {
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
    fn list(&self, keyword: &str) -> Result<&'a [Value]> {
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

fn check_size(value: &Value) -> Result<()> {
    let mut n_bytes = 0;
    let mut deepest = 0;
    let mut rest = vec![(value, 1)];
    while let Some((value, depth)) = rest.pop() {
        deepest = deepest.max(depth);
        n_bytes += match value {
            Value::String(text) => text.len() + 2,
            Value::Array(items) => {
                rest.extend(items.iter().map(|item| (item, depth + 1)));
                items.len() + 2
            }
            Value::Object(members) => {
                rest.extend(members.values().map(|member| (member, depth + 1)));
                members.keys().map(|name| name.len() + 4).sum::<usize>() + 2
            }
            _ => 5,
        };
    }
    // A subschema is two levels of JSON: its own and that of "properties".
    let checks = [
        ("size of the schema in bytes", n_bytes, MAX_BYTES),
        ("depth of the schema's JSON", deepest, 2 * MAX_DEPTH),
    ];
    match checks.into_iter().find(|(_, n, limit)| n > limit) {
        Some((what, n, limit)) => Err(ConstraintError::Limit { what, n, limit }),
        None => Ok(()),
    }
}
