//! JSON that was cut off, made whole.
//!
//! A call that the token limit cuts has half its arguments. A stream delivers them as they are; a message
//! needs an object, and gets every value that was complete.

use serde_json::Value;

/// The value that `text` is, or that its complete parts make: what was begun last and not finished is left out and
/// what is open is closed. `None` if no value was begun, or if it is not the beginning of JSON.
pub fn complete(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let (end, closers) = last_whole(text);
    let mut whole = text[..end].to_owned();
    whole.extend(closers.iter().rev());
    serde_json::from_str(&whole).ok()
}

/// Where the last complete part ends, and what is open there, outermost first.
fn last_whole(text: &str) -> (usize, Vec<char>) {
    let mut open = Vec::new();
    let mut whole = (0, Vec::new());
    let mut is_key = false;
    let mut in_string = false;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if in_string {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => {
                    in_string = false;
                    if !is_key {
                        whole = (at + 1, open.clone());
                    }
                }
                _ => {}
            }
            continue;
        }
        match c {
            '"' => in_string = true,
            '{' | '[' => {
                open.push(if c == '{' { '}' } else { ']' });
                is_key = c == '{';
                whole = (at + 1, open.clone());
            }
            '}' | ']' => {
                open.pop();
                is_key = false;
                whole = (at + 1, open.clone());
            }
            ':' => is_key = false,
            ',' => {
                is_key = open.last() == Some(&'}');
                // A number or a word is complete when something follows it.
                whole = (at, open.clone());
            }
            _ => {}
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_complete_stays() {
        let cases = [
            ("", None),
            ("x", None),
            ("{", Some(json!({}))),
            (r#"{"a"#, Some(json!({}))),
            (r#"{"a":"#, Some(json!({}))),
            (r#"{"a": 1"#, Some(json!({}))),
            (r#"{"a": 12, "b"#, Some(json!({"a": 12}))),
            (
                r#"{"a": "x\"", "b": [1, {"c": true, "d"#,
                Some(json!({"a": "x\"", "b": [1, {"c": true}]})),
            ),
            (r#"{"a": "half a strin"#, Some(json!({}))),
            (r#"{"a": {"b": "c"}"#, Some(json!({"a": {"b": "c"}}))),
            (r#"{"a": 1}"#, Some(json!({"a": 1}))),
            (r#"{"a": 1} and more"#, Some(json!({"a": 1}))),
        ];
        for (text, expected) in cases {
            assert_eq!(complete(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_of_an_object_is_an_object(values in prop::collection::vec(("[a-z\"\\\\{\\[,:]{0,4}", -9i64..9), 0..5), at in any::<prop::sample::Index>()) {
            let value: Value = values.iter().map(|(text, number)| (text.clone(), json!([text, {"n": number}, text]))).collect::<serde_json::Map<_, _>>().into();
            let text = value.to_string();
            let cut: String = text.chars().take(1 + at.index(text.chars().count())).collect();
            prop_assert!(complete(&cut).is_some_and(|value| value.is_object()), "{}", cut);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            complete(&text);
        }
    }
}
