//! The grammar of a schema's JSON.
//!
//! Properties come in the schema's order. Blanks are part of the terminals: behind an opening bracket or a comma and before
//! a closing bracket one, or a line feed with an indentation; behind a colon one. Enough for every usual style, too little
//! for a weak model to get lost in. Values that are left open are nested ten deep at most, and an object whose schema lists
//! properties gets no others unless it says so.

use std::collections::HashMap;

use llguidance::derivre::{JsonQuoteOptions, RegexAst};
use serde_json::Value;

use super::{
    builder::{Builder, Node},
    error::ConstraintError,
    schema::{Array, Document, Object, Schema, Text, any_number, number_regex},
};

type Result<T> = std::result::Result<T, ConstraintError>;

/// How deep values without a schema may be nested.
const FREE_DEPTH: usize = 10;
/// The most rules that counting an object's properties may take.
const MAX_COUNTED: u64 = 20_000;

/// Blanks inside of brackets and behind commas. Deeper levels than these indent as these do.
const BLANKS: &str = r"( |\n( {0,8}|\t{0,4}))?";

/// Any object.
pub(super) fn free_object(builder: &mut Builder) -> Result<Node> {
    let document = Document {
        root: Schema::Never,
        definitions: Vec::new(),
    };
    Emitter::new(builder, &document).free(FREE_DEPTH, true)
}

/// What satisfies a schema. Also says which names that are not listed may be in it.
pub(super) fn emit(builder: &mut Builder, document: &Document) -> Result<(Node, FreeNames)> {
    emit_schema(builder, document, &document.root)
}

/// What satisfies a part of a schema.
pub(super) fn emit_part(builder: &mut Builder, document: &Document, part: &Schema) -> Result<Node> {
    emit_schema(builder, document, part).map(|(node, _)| node)
}

fn emit_schema(
    builder: &mut Builder,
    document: &Document,
    schema: &Schema,
) -> Result<(Node, FreeNames)> {
    let mut emitter = Emitter::new(builder, document);
    if !emitter.is_finite(schema) {
        let reason = "every value would have to contain itself without end";
        return Err(ConstraintError::unsatisfiable("$ref", "#", reason));
    }
    let root = emitter.node(schema)?;
    while let Some(index) = emitter.pending.pop() {
        let node = emitter.node(&document.definitions[index])?;
        let target = emitter.definitions[&index];
        emitter.builder.define(target, &[node]);
    }
    Ok((root, emitter.free_names))
}

struct Emitter<'a> {
    builder: &'a mut Builder,
    document: &'a Document,
    definitions: HashMap<usize, Node>,
    pending: Vec<usize>,
    /// Which definitions have a value that ends.
    finite: Vec<bool>,
    free: HashMap<(usize, bool), Node>,
    free_names: FreeNames,
}

/// Names that a schema does not list, in some object of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FreeNames {
    /// There are none.
    None,
    /// They may be anything.
    Open,
    /// They have to match something, so there may be only a few.
    Limited,
}

impl<'a> Emitter<'a> {
    fn new(builder: &'a mut Builder, document: &'a Document) -> Self {
        let mut emitter = Emitter {
            builder,
            document,
            definitions: HashMap::new(),
            pending: Vec::new(),
            finite: vec![false; document.definitions.len()],
            free: HashMap::new(),
            free_names: FreeNames::None,
        };
        emitter.find_finite();
        emitter
    }

    // A definition is finite when it has a value that needs only definitions known to be finite.
    fn find_finite(&mut self) {
        loop {
            let found: Vec<usize> = (0..self.finite.len())
                .filter(|&index| {
                    !self.finite[index] && self.is_finite(&self.document.definitions[index])
                })
                .collect();
            if found.is_empty() {
                return;
            }
            found
                .into_iter()
                .for_each(|index| self.finite[index] = true);
        }
    }

    /// Whether some value of the schema ends.
    fn is_finite(&self, schema: &Schema) -> bool {
        match schema {
            Schema::Never => false,
            Schema::Reference(index) => self.finite[*index],
            Schema::AnyOf(options) => options.iter().any(|option| self.is_finite(option)),
            Schema::Array(array) => {
                let n_first = array.first.len().min(array.min as usize);
                let needs_rest = array.min > array.first.len() as u64;
                array.first[..n_first]
                    .iter()
                    .all(|item| self.is_finite(item))
                    && (!needs_rest || self.is_finite(&array.rest))
            }
            Schema::Object(object) => self.is_object_finite(object),
            _ => true,
        }
    }

    fn is_object_finite(&self, object: &Object) -> bool {
        let can_be = |name: &String| self.is_finite(object.property(name));
        let n_listed = names(object).filter(|name| can_be(name)).count() as u64;
        object.required.iter().all(can_be) && (n_listed >= object.min || self.has_rest(object))
    }

    /// Whether an object may have names that are not listed.
    fn has_rest(&self, object: &Object) -> bool {
        self.is_finite(rest_of(object))
            || object
                .patterns
                .iter()
                .any(|(_, schema)| self.is_finite(schema))
    }

    fn node(&mut self, schema: &Schema) -> Result<Node> {
        if let Some(regex) = scalar(schema) {
            return self.builder.terminal(regex);
        }
        match schema {
            Schema::Any => self.free(FREE_DEPTH, false),
            Schema::Array(array) => self.array(array),
            Schema::Object(object) => self.object(object),
            Schema::AnyOf(options) => self.any_of(options),
            Schema::Reference(index) => Ok(self.definition(*index)),
            _ => unreachable!("only finite schemas are written, and all others are scalars"),
        }
    }

    fn definition(&mut self, index: usize) -> Node {
        if let Some(&node) = self.definitions.get(&index) {
            return node;
        }
        let node = self.builder.forward();
        self.definitions.insert(index, node);
        self.pending.push(index);
        node
    }

    fn any_of(&mut self, options: &[Schema]) -> Result<Node> {
        let (mut scalars, mut nodes) = (Vec::new(), Vec::new());
        for option in options
            .iter()
            .filter(|option| self.is_finite(option))
            .collect::<Vec<_>>()
        {
            match scalar(option) {
                Some(regex) => scalars.push(regex),
                None => nodes.push(self.node(option)?),
            }
        }
        if !scalars.is_empty() {
            nodes.push(self.builder.terminal(RegexAst::Or(scalars))?);
        }
        Ok(self.builder.choose(&nodes))
    }

    fn array(&mut self, array: &Array) -> Result<Node> {
        let comma = self.comma()?;
        // The first item that cannot be written ends the array.
        let n_first = array
            .first
            .iter()
            .take_while(|item| self.is_finite(item))
            .count();
        let has_rest = n_first == array.first.len() && self.is_finite(&array.rest);
        let max = match has_rest {
            true => array.max,
            false => Some(
                array
                    .max
                    .map_or(n_first as u64, |max| max.min(n_first as u64)),
            ),
        };
        let n_first = max.map_or(n_first, |max| n_first.min(max as usize));
        let (min, n_more) = (array.min as usize, max.map(|max| max as usize - n_first));
        let mut tail = None;
        if has_rest && n_more != Some(0) {
            let item = self.node(&array.rest)?;
            let list = self
                .builder
                .list(item, comma, min.saturating_sub(n_first), n_more);
            tail = Some((list, min > n_first));
        }
        // From the last of the first items to the first: each may be missing when all behind it are.
        for (index, item) in array.first[..n_first].iter().enumerate().rev() {
            let item = self.node(item)?;
            let with_tail = match tail {
                None => item,
                Some((tail, is_needed)) => {
                    let more = self.builder.join(&[comma, tail]);
                    let more = if is_needed {
                        more
                    } else {
                        self.builder.optional(more)
                    };
                    self.builder.join(&[item, more])
                }
            };
            tail = Some((with_tail, min > index));
        }
        let items = match tail {
            None => self.builder.empty(),
            Some((items, true)) => items,
            Some((items, false)) => self.builder.optional(items),
        };
        self.enclose("[", items, "]")
    }

    fn object(&mut self, object: &Object) -> Result<Node> {
        let colon = self.colon()?;
        let mut members = Vec::new();
        let listed: Vec<&String> = names(object)
            .filter(|name| self.is_finite(object.property(name)))
            .collect();
        for name in &listed {
            let schema = object.property(name).clone();
            let key = self
                .builder
                .literal(&Value::String((*name).clone()).to_string())?;
            let value = self.node(&schema)?;
            let member = self.builder.join(&[key, colon, value]);
            members.push((member, object.required.contains(*name)));
        }
        let rest = match self.has_rest(object) {
            true => Some(self.rest(object, colon)?),
            false => None,
        };
        let comma = self.comma()?;
        let members = match object.min > object.required.len() as u64 || object.max.is_some() {
            true => self.counted(object, &members, rest, comma)?,
            false => self.uncounted(&members, rest, comma),
        };
        self.enclose("{", members, "}")
    }

    /// Members that are not listed: a name that is not taken, and its value.
    fn rest(&mut self, object: &Object, colon: Node) -> Result<Node> {
        let is_limited = !object.names.is_empty() || !object.patterns.is_empty();
        let kind = if is_limited {
            FreeNames::Limited
        } else {
            FreeNames::Open
        };
        self.free_names = self.free_names.max(kind);
        let listed = names(object).cloned().map(RegexAst::Literal).collect();
        let listed = self.builder.regex(&RegexAst::Or(listed))?;
        let mut kinds = Vec::new();
        let mut patterns = vec![listed.clone()];
        for (regex, schema) in &object.patterns {
            patterns.push(regex.clone());
            if self.is_finite(schema) {
                kinds.push((
                    vec![regex.clone(), not(vec![listed.clone()])],
                    schema.clone(),
                ));
            }
        }
        let rest = rest_of(object);
        if self.is_finite(rest) {
            kinds.push((vec![Text::default().regex(), not(patterns)], rest.clone()));
        }
        let mut nodes = Vec::new();
        for (mut name, schema) in kinds {
            name.extend(object.names.iter().map(Text::regex));
            let name = self.builder.terminal(quoted(RegexAst::And(name)))?;
            let value = self.node(&schema)?;
            nodes.push(self.builder.join(&[name, colon, value]));
        }
        Ok(self.builder.choose(&nodes))
    }

    /// Members in order, optional ones in any combination, then any number of others.
    fn uncounted(&mut self, members: &[(Node, bool)], rest: Option<Node>, comma: Node) -> Node {
        let tail = match rest {
            None => self.builder.empty(),
            Some(rest) => {
                let list = self.builder.list(rest, comma, 1, None);
                self.builder.optional(list)
            }
        };
        let after = match rest {
            None => self.builder.empty(),
            Some(rest) => {
                let next = self.builder.join(&[comma, rest]);
                self.builder.repeat(next, 0, None)
            }
        };
        // What follows when nothing was written yet, and when something was.
        let (mut first, mut later) = (tail, after);
        for &(member, is_required) in members.iter().rev() {
            let begun = self.builder.join(&[member, later]);
            let next = self.builder.join(&[comma, member]);
            let next = if is_required {
                next
            } else {
                self.builder.optional(next)
            };
            later = self.builder.join(&[next, later]);
            first = match is_required {
                true => begun,
                false => self.builder.choose(&[begun, first]),
            };
        }
        first
    }

    /// The same with the number of members between two bounds. One rule for every member and every count so far.
    fn counted(
        &mut self,
        object: &Object,
        members: &[(Node, bool)],
        rest: Option<Node>,
        comma: Node,
    ) -> Result<Node> {
        let n = members.len();
        if (n as u64 + 1) * (n as u64 + 1) > MAX_COUNTED {
            return Err(ConstraintError::Limit {
                what: "number of properties beside \"minProperties\" or \"maxProperties\"",
                n,
                limit: (MAX_COUNTED as f64).sqrt() as usize - 1,
            });
        }
        let mut rules: Vec<Option<Node>> = Vec::new();
        for n_before in 0..=n as u64 {
            let (min, max) = (
                object.min.saturating_sub(n_before),
                object.max.map(|max| max.checked_sub(n_before)),
            );
            rules.push(self.counted_rest(min, max, rest, comma, n_before > 0));
        }
        for (index, &(member, is_required)) in members.iter().enumerate().rev() {
            let mut earlier = Vec::new();
            for n_before in 0..=index {
                let skipped = if is_required { None } else { rules[n_before] };
                let taken = rules[n_before + 1].map(|later| match n_before {
                    0 => self.builder.join(&[member, later]),
                    _ => self.builder.join(&[comma, member, later]),
                });
                let options: Vec<Node> = taken.into_iter().chain(skipped).collect();
                earlier.push((!options.is_empty()).then(|| self.builder.choose(&options)));
            }
            rules = earlier;
        }
        rules[0].ok_or_else(|| {
            ConstraintError::unsatisfiable("minProperties", "#", "no object has so many properties")
        })
    }

    /// `None` when the counts cannot be met any more.
    fn counted_rest(
        &mut self,
        min: u64,
        max: Option<Option<u64>>,
        rest: Option<Node>,
        comma: Node,
        is_later: bool,
    ) -> Option<Node> {
        let max = match max {
            Some(None) => return None,
            Some(Some(max)) => Some(max),
            None => None,
        };
        let Some(rest) = rest.filter(|_| max != Some(0)) else {
            return (min == 0).then(|| self.builder.empty());
        };
        let (min, max) = (min as usize, max.map(|max| max as usize));
        if is_later {
            let next = self.builder.join(&[comma, rest]);
            return Some(self.builder.repeat(next, min, max));
        }
        let list = self.builder.list(rest, comma, min, max);
        Some(if min == 0 {
            self.builder.optional(list)
        } else {
            list
        })
    }

    /// Any value, or any object, nested so many levels deep at most.
    fn free(&mut self, depth: usize, is_object: bool) -> Result<Node> {
        if let Some(&node) = self.free.get(&(depth, is_object)) {
            return Ok(node);
        }
        let scalars = RegexAst::Or(vec![
            RegexAst::Regex("null|true|false".to_owned()),
            any_number(),
            free_string(),
        ]);
        let scalars = self.builder.terminal(scalars)?;
        let node = match (depth, is_object) {
            (0, _) => scalars,
            (_, true) => {
                let value = self.free(depth - 1, false)?;
                self.free_names = self.free_names.max(FreeNames::Open);
                let name = self.builder.terminal(quoted(Text::default().regex()))?;
                let colon = self.colon()?;
                let member = self.builder.join(&[name, colon, value]);
                self.free_list("{", member, "}")?
            }
            (_, false) => {
                let item = self.free(depth - 1, false)?;
                let array = self.free_list("[", item, "]")?;
                let object = self.free(depth, true)?;
                self.builder.choose(&[scalars, array, object])
            }
        };
        self.free.insert((depth, is_object), node);
        Ok(node)
    }

    fn free_list(&mut self, open: &str, item: Node, close: &str) -> Result<Node> {
        let comma = self.comma()?;
        let list = self.builder.list(item, comma, 1, None);
        let list = self.builder.optional(list);
        self.enclose(open, list, close)
    }

    fn enclose(&mut self, open: &str, inner: Node, close: &str) -> Result<Node> {
        let open = self.builder.pattern(&format!(r"\{open}{BLANKS}"))?;
        let close = self.builder.pattern(&format!(r"{BLANKS}\{close}"))?;
        Ok(self.builder.join(&[open, inner, close]))
    }

    fn comma(&mut self) -> Result<Node> {
        self.builder.pattern(&format!(",{BLANKS}"))
    }

    fn colon(&mut self) -> Result<Node> {
        self.builder.pattern(": ?")
    }
}

/// What names that are not listed may have for a value. A schema that lists properties and is silent about others gets
/// no others, unless it needs them for their number.
fn rest_of(object: &Object) -> &Schema {
    let is_bare = object.properties.is_empty() && object.patterns.is_empty();
    match &object.rest {
        Some(rest) => rest,
        None if is_bare || object.min > names(object).count() as u64 => &Schema::Any,
        None => &Schema::Never,
    }
}

/// Names in the order they come: those with a schema, then those that are merely required.
fn names(object: &Object) -> impl Iterator<Item = &String> {
    let more = object
        .required
        .iter()
        .filter(|name| !object.properties.contains_key(*name));
    object.properties.keys().chain(more)
}

/// The expression of a schema whose values are single terminals.
fn scalar(schema: &Schema) -> Option<RegexAst> {
    match schema {
        Schema::Null => Some(RegexAst::Literal("null".to_owned())),
        Schema::Boolean => Some(RegexAst::Regex("true|false".to_owned())),
        Schema::Number(number) => Some(number_regex(number).unwrap_or(RegexAst::NoMatch)),
        Schema::String(text) => Some(string(text)),
        Schema::Values(values) => Some(RegexAst::Or(
            values
                .iter()
                .map(|value| RegexAst::Literal(value.to_string()))
                .collect(),
        )),
        _ => None,
    }
}

fn string(text: &Text) -> RegexAst {
    match text.regexes.is_empty() {
        true => escaped_string(text.min, text.max),
        false => quoted(text.regex()),
    }
}

fn free_string() -> RegexAst {
    escaped_string(0, None)
}

/// Any string with every escape JSON has; an escape, or two that make one character, counts as one.
fn escaped_string(min: u64, max: Option<u64>) -> RegexAst {
    let character = concat!(
        r#"[^"\\\x00-\x1F\x7F]|\\["\\/bfnrt]"#,
        r"|\\u([0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}",
        r"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    );
    let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let quote = || RegexAst::Literal("\"".to_owned());
    let characters = RegexAst::Repeat(
        Box::new(RegexAst::Regex(character.to_owned())),
        count(min),
        max.map_or(u32::MAX, count),
    );
    RegexAst::Concat(vec![quote(), characters, quote()])
}

/// A string whose content matches. Escapes are those that JSON needs, so that one content has one form.
fn quoted(content: RegexAst) -> RegexAst {
    let options = JsonQuoteOptions {
        allowed_escapes: r#"nrbtf\""#.to_owned(),
        raw_mode: false,
    };
    RegexAst::JsonQuote(Box::new(content), options)
}

fn not(any_of: Vec<RegexAst>) -> RegexAst {
    RegexAst::Not(Box::new(RegexAst::Or(any_of)))
}
