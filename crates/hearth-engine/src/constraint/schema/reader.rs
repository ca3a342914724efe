//! Reads a schema: keyword by keyword, nothing passed over.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    Array, MAX_BYTES, MAX_DEPTH, MAX_SUBSCHEMAS, Schema, disjoint,
    meet::{Place, any_of},
    pointer::{child, entry, resolve},
    words::{TYPES, Words},
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
