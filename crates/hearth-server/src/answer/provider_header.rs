//! Lines that a client wrote to its provider, not to the model.
//!
//! One coding agent puts `x-anthropic-billing-header: cc_version=…; cch=…;` in front of its system prompt, with a checksum
//! that changes with every request. Its own provider takes the line away; read as text it would make every prompt new from
//! the first tokens on, and the cache would never help. So we take it away too, and say so. Only the very beginning of
//! the first system message is looked at, and only fields of that form go: whatever else is there, the model reads.

const NAME: &str = "x-anthropic-billing-header";

/// What a notice calls such a line.
pub(super) const FIELD: &str = NAME;

/// The text after the header, if it begins with one.
pub(super) fn strip(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix(NAME)?.strip_prefix(':')?;
    let mut has_field = false;
    while let Some(after) = strip_field(rest) {
        rest = after;
        has_field = true;
    }
    has_field.then(|| {
        rest.trim_start_matches([' ', '\t'])
            .trim_start_matches(['\r', '\n'])
    })
}

/// The text after ` name=value;`.
fn strip_field(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\t']);
    let (name, rest) = text.split_once('=')?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(is_word) {
        return None;
    }
    let (value, rest) = rest.split_once(';')?;
    let is_plain = |c: char| c.is_ascii_graphic();
    value.chars().all(is_plain).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_header_goes() {
        let cases = [
            (
                "x-anthropic-billing-header: cc_version=2.1.36.0d8; cc_entrypoint=cli; cch=a1b2c;\nYou are",
                Some("You are"),
            ),
            (
                "x-anthropic-billing-header: cc_version=2.1; cch=defa0;You are a = b;",
                Some("You are a = b;"),
            ),
            ("x-anthropic-billing-header: cch=defa0;\n\nYou", Some("You")),
            ("x-anthropic-billing-header: cch=defa0;", Some("")),
            (
                "x-anthropic-billing-header: cch=defa0; keep this",
                Some("keep this"),
            ),
            (
                "x-anthropic-billing-header: is a line some agents send",
                None,
            ),
            ("x-anthropic-billing-header:", None),
            ("x-anthropic-billing-headers: a=b;", None),
            (" x-anthropic-billing-header: a=b;", None),
            ("You see x-anthropic-billing-header: a=b;", None),
        ];
        for (text, expected) in cases {
            assert_eq!(strip(text), expected, "{text}");
        }
    }
}
