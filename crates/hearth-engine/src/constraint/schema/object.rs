//! Reads what a schema says about objects.

use llguidance::derivre::RegexAst;
use serde_json::Value;

use super::{
    Object, Schema, Text,
    accept::{is_regex_empty, is_string_accepted, matches},
    meet::Place,
    pattern,
    pointer::{child, entry},
    reader::Reader,
    words::Words,
};
use crate::constraint::error::ConstraintError;

type Result<T> = std::result::Result<T, ConstraintError>;

impl<'a> Reader<'a> {
    pub(super) fn read_object(&mut self, words: &Words<'a, '_>, depth: usize) -> Result<Object> {
        let mut object = Object {
            min: words.least("minProperties")?,
            max: words.most("maxProperties")?,
            ..Object::default()
        };
        words.check_range("minProperties", object.min, "maxProperties", object.max)?;
        for (name, value) in words.object("properties")?.into_iter().flatten() {
            let path = entry(words.path, "properties", name);
            let schema = self.read(value, &path, depth + 1)?;
            object.properties.insert(name.clone(), schema);
        }
        if let Some(value) = words.map.get("additionalProperties") {
            let path = child(words.path, "additionalProperties");
            object.rest = Some(self.read(value, &path, depth + 1)?);
        }
        self.read_patterns(words, depth, &mut object)?;
        self.read_names(words, depth, &mut object)?;
        read_required(words, &mut object)?;
        check_counts(words, &object)?;
        Ok(object)
    }

    fn read_patterns(
        &mut self,
        words: &Words<'a, '_>,
        depth: usize,
        object: &mut Object,
    ) -> Result<()> {
        const KEYWORD: &str = "patternProperties";
        let mut patterns: Vec<(RegexAst, Schema)> = Vec::new();
        for (pattern, value) in words.object(KEYWORD)?.into_iter().flatten() {
            let regex =
                pattern::search(pattern).map_err(|error| words.pattern_error(KEYWORD, error))?;
            let schema = self.read(value, &entry(words.path, KEYWORD, pattern), depth + 1)?;
            let meets = |(other, _): &(RegexAst, Schema)| {
                !is_regex_empty(&RegexAst::And(vec![other.clone(), regex.clone()]))
            };
            if patterns.iter().any(meets) {
                return Err(words.refuse(KEYWORD, "two patterns that match the same name"));
            }
            patterns.push((regex, schema));
        }
        let at = Place {
            keyword: KEYWORD,
            path: words.path,
        };
        for (name, schema) in &mut object.properties {
            for (_, more) in patterns.iter().filter(|(regex, _)| matches(regex, name)) {
                *schema = self.meet(schema.clone(), more.clone(), at, 0)?;
            }
        }
        object.patterns = patterns;
        Ok(())
    }

    fn read_names(
        &mut self,
        words: &Words<'a, '_>,
        depth: usize,
        object: &mut Object,
    ) -> Result<()> {
        const KEYWORD: &str = "propertyNames";
        let Some(value) = words.map.get(KEYWORD) else {
            return Ok(());
        };
        let at = Place {
            keyword: KEYWORD,
            path: words.path,
        };
        let names = self.read(value, &child(words.path, KEYWORD), depth + 1)?;
        let names = self.meet(names, Schema::String(Text::default()), at, 0)?;
        match names {
            Schema::String(text) => {
                for (name, schema) in &mut object.properties {
                    if !is_string_accepted(&text, name) {
                        *schema = Schema::Never;
                    }
                }
                object.names.push(text);
            }
            // Names that are listed become properties, each of which may be there.
            Schema::Values(values) => list_names(object, &values),
            Schema::Never => list_names(object, &[]),
            _ => return Err(at.refuse("one kind of string is supported, or a list of names")),
        }
        Ok(())
    }
}

fn list_names(object: &mut Object, names: &[Value]) {
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    for (name, schema) in &mut object.properties {
        if !names.contains(&name.as_str()) {
            *schema = Schema::Never;
        }
    }
    for name in names {
        let schema = object.property(name).clone();
        object.properties.entry(name.to_owned()).or_insert(schema);
    }
    object.patterns.clear();
    object.rest = Some(Schema::Never);
}

fn read_required(words: &Words<'_, '_>, object: &mut Object) -> Result<()> {
    const KEYWORD: &str = "required";
    // Draft 3 has a boolean in the property; tools still write it, and no later draft gives it a meaning.
    if words.map.get(KEYWORD).is_some_and(Value::is_boolean) {
        return Err(words.malformed(KEYWORD, "must be an array of names"));
    }
    for name in words.array(KEYWORD)?.unwrap_or(&[]) {
        let Some(name) = name.as_str() else {
            return Err(words.malformed(KEYWORD, "must be an array of names"));
        };
        if matches!(object.property(name), Schema::Never) {
            let reason = format!("no value may stand under the name {name:?}");
            return Err(words.unsatisfiable(KEYWORD, reason));
        }
        object.required.insert(name.to_owned());
    }
    Ok(())
}

fn check_counts(words: &Words<'_, '_>, object: &Object) -> Result<()> {
    let n_required = object.required.len() as u64;
    if object.max.is_some_and(|max| max < n_required) {
        let reason = format!("{n_required} names are required");
        return Err(words.unsatisfiable("maxProperties", reason));
    }
    let is_closed = matches!(object.rest, Some(Schema::Never)) && object.patterns.is_empty();
    let is_possible = |schema: &&Schema| !matches!(schema, Schema::Never);
    let n_possible = object.properties.values().filter(is_possible).count() as u64;
    match is_closed && n_possible < object.min {
        true => {
            let reason = format!("only {n_possible} properties can be there");
            Err(words.unsatisfiable("minProperties", reason))
        }
        false => Ok(()),
    }
}
