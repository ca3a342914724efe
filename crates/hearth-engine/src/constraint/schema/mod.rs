//! JSON schemas: read strictly, so that everything in one is either enforced or refused.
//!
//! Reading turns a schema into [`Schema`], which can say nothing that the grammar of [`json`](super::json) does not
//! enforce. A keyword is known as one of three: it is part of that type, it is an annotation, or it is refused by name
//! and place. Where a schema leaves open what an answer may be, the grammar may say less than the schema, never more.

mod accept;
mod decimal;
mod disjoint;
mod format;
mod keywords;
mod meet;
mod number;
mod object;
mod pattern;
mod pointer;
mod reader;
mod words;

use std::collections::BTreeSet;

use indexmap::IndexMap;
use llguidance::derivre::RegexAst;
use serde_json::Value;

pub(super) use number::{any_number, number_regex};
pub(super) use pattern::{PatternError, whole as whole_pattern};
pub(super) use reader::{Document, read};

/// The most text of a schema, of its names and values together.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// How deep subschemas and values may be nested.
pub(super) const MAX_DEPTH: usize = 64;
/// The most subschemas, counting each use of a shared one that has to be merged.
pub(super) const MAX_SUBSCHEMAS: usize = 20_000;
/// The most items or properties a schema may count.
pub(super) const MAX_COUNT: u64 = 1_000_000;

/// What a value must be.
#[derive(Clone, Debug)]
pub(super) enum Schema {
    /// Anything.
    Any,
    /// Nothing is such a value.
    Never,
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number(Number),
    /// A string.
    String(Text),
    /// An array.
    Array(Box<Array>),
    /// An object.
    Object(Box<Object>),
    /// One of these values.
    Values(Vec<Value>),
    /// Any of these.
    AnyOf(Vec<Schema>),
    /// The definition of this number.
    Reference(usize),
}

/// A number's bounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Number {
    pub is_integer: bool,
    pub min: Option<Bound>,
    pub max: Option<Bound>,
    /// As coefficient and decimal places.
    pub multiple_of: Option<(u32, u32)>,
}

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub value: decimal::Decimal,
    pub is_exclusive: bool,
}

/// A string's length in characters, and expressions for its content that must all match as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    pub min: u64,
    pub max: Option<u64>,
    pub regexes: Vec<RegexAst>,
}

/// An array's items: the first ones, those behind them, and how many.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub first: Vec<Schema>,
    pub rest: Schema,
    pub min: u64,
    pub max: Option<u64>,
}

/// An object's properties.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub properties: IndexMap<String, Schema>,
    pub required: BTreeSet<String>,
    /// For names that match.
    pub patterns: Vec<(RegexAst, Schema)>,
    /// For all other names; nothing was said where it is `None`.
    pub rest: Option<Schema>,
    /// What names that are not listed must be.
    pub names: Vec<Text>,
    pub min: u64,
    pub max: Option<u64>,
}

impl Default for Array {
    fn default() -> Self {
        Array {
            first: Vec::new(),
            rest: Schema::Any,
            min: 0,
            max: None,
        }
    }
}

impl Object {
    /// What is said about the property of this name.
    pub(super) fn property(&self, name: &str) -> &Schema {
        if let Some(schema) = self.properties.get(name) {
            return schema;
        }
        if !self
            .names
            .iter()
            .all(|text| accept::is_string_accepted(text, name))
        {
            return &Schema::Never;
        }
        let is_match = |(regex, _): &&(RegexAst, Schema)| accept::matches(regex, name);
        match (self.patterns.iter().find(is_match), &self.rest) {
            (Some((_, schema)), _) => schema,
            (None, Some(rest)) => rest,
            (None, None) => &Schema::Any,
        }
    }
}

impl Text {
    /// The content's expression, all conditions in one.
    pub(super) fn regex(&self) -> RegexAst {
        let mut all = self.regexes.clone();
        if self.min > 0 || self.max.is_some() || all.is_empty() {
            all.push(RegexAst::Regex(length(self.min, self.max)));
        }
        match all.len() {
            1 => all.remove(0),
            _ => RegexAst::And(all),
        }
    }
}

fn length(min: u64, max: Option<u64>) -> String {
    match max {
        None if min == 0 => "(?s:.*)".to_owned(),
        None => format!("(?s:.{{{min},}})"),
        Some(max) => format!("(?s:.{{{min},{max}}})"),
    }
}
