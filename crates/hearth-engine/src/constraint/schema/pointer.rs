//! Places in a schema, and the way from `$ref` to one.

use serde_json::Value;

/// One step deeper.
pub(super) fn child(path: &str, step: &str) -> String {
    format!("{path}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// Two steps deeper: a keyword and an entry of it.
pub(super) fn entry(path: &str, keyword: &str, step: impl std::fmt::Display) -> String {
    child(&child(path, keyword), &step.to_string())
}

/// What a reference within the document points at, with the place written one way; `None` when there is nothing.
pub(super) fn resolve<'a>(document: &'a Value, reference: &str) -> Option<(String, &'a Value)> {
    let pointer = percent_decoded(reference.strip_prefix('#')?)?;
    let mut path = "#".to_owned();
    let mut value = document;
    // "#/" is written for the document itself by some tools, though it means the member with the empty name.
    if pointer.is_empty() || (pointer == "/" && document.get("").is_none()) {
        return Some((path, document));
    }
    for step in pointer.strip_prefix('/')?.split('/') {
        let step = step.replace("~1", "/").replace("~0", "~");
        value = match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            Value::Object(members) => members.get(&step)?,
            _ => return None,
        };
        path = child(&path, &step);
    }
    Some((path, value))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}
