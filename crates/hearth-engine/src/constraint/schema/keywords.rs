//! The words of JSON schema, in all its drafts and in OpenAPI's: what we do with each.

/// Enforced by [`reader`](super::reader).
const ENFORCED: &[&str] = &[
    "$id",
    "$ref",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "id",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "type",
    "uniqueItems",
];

/// Says something about values that no grammar of ours can hold them to.
const REFUSED: &[(&str, &str)] = &[
    ("$dynamicRef", "only \"$ref\" within the schema is resolved"),
    (
        "$recursiveRef",
        "only \"$ref\" within the schema is resolved",
    ),
    (
        "$recursiveAnchor",
        "only \"$ref\" within the schema is resolved",
    ),
    (
        "contains",
        "a grammar cannot count items of one kind among others",
    ),
    (
        "maxContains",
        "a grammar cannot count items of one kind among others",
    ),
    (
        "minContains",
        "a grammar cannot count items of one kind among others",
    ),
    ("dependencies", "properties cannot depend on one another"),
    (
        "dependentRequired",
        "properties cannot depend on one another",
    ),
    (
        "dependentSchemas",
        "properties cannot depend on one another",
    ),
    (
        "if",
        "conditions are not supported; \"anyOf\" with the cases written out is",
    ),
    (
        "then",
        "conditions are not supported; \"anyOf\" with the cases written out is",
    ),
    (
        "else",
        "conditions are not supported; \"anyOf\" with the cases written out is",
    ),
    (
        "unevaluatedItems",
        "\"items\": false behind \"prefixItems\" is supported",
    ),
    (
        "unevaluatedProperties",
        "\"additionalProperties\": false is supported",
    ),
    (
        "disallow",
        "the word is of a draft that is no longer in use",
    ),
    (
        "divisibleBy",
        "the word is of a draft that is no longer in use",
    ),
    ("extends", "the word is of a draft that is no longer in use"),
];

/// What becomes of a keyword.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    Enforced,
    Ignored,
    Refused(&'static str),
}

/// What becomes of this word. All others are annotations (`title`, `default`, OpenAPI's `nullable`, what a tool made
/// up): the standard says that they constrain nothing.
pub(super) fn treatment(keyword: &str) -> Treatment {
    if ENFORCED.contains(&keyword) {
        return Treatment::Enforced;
    }
    match REFUSED.iter().find(|(word, _)| *word == keyword) {
        Some((_, reason)) => Treatment::Refused(reason),
        None => Treatment::Ignored,
    }
}
