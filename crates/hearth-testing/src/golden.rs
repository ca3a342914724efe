//! Recorded outputs of a reference implementation: JSON files with arrays of f32 in base64.
//!
//! They are large, so they lie outside the project; `HEARTH_FIXTURES` names their folder. Without it a test
//! that needs them says so and passes.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder of the fixtures, or a line about what is skipped.
pub fn fixtures(what: &str) -> Option<PathBuf> {
    match std::env::var_os("HEARTH_FIXTURES") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => {
            eprintln!(
                "skipped: {what} needs recorded outputs, and HEARTH_FIXTURES does not say where they are"
            );
            None
        }
    }
}

/// Reads a JSON file.
///
/// # Panics
///
/// There is no such file, or it is not JSON: a test cannot go on.
pub fn json(path: &Path) -> Value {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A list of token ids.
///
/// # Panics
///
/// It is no such list.
pub fn tokens(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of token ids");
    list.iter()
        .map(|id| {
            id.as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .expect("a token id")
        })
        .collect()
}

/// The values of a recorded array, row-major.
///
/// # Panics
///
/// It is not an array of f32, or its length is not that of its shape.
pub fn array(value: &Value) -> Vec<f32> {
    assert_eq!(value["dtype"], "f32", "the type of a recorded array");
    let bytes = base64(
        value["base64"]
            .as_str()
            .expect("base64 of a recorded array"),
    );
    let values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let shape = value["shape"]
        .as_array()
        .expect("shape of a recorded array");
    let n: u64 = shape.iter().map(|n| n.as_u64().expect("a size")).product();
    assert_eq!(values.len() as u64, n, "length of a recorded array");
    values
}

/// Standard base64 with padding.
fn base64(text: &str) -> Vec<u8> {
    let digits = text
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(|byte| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("{other:#x} is no digit of base64"),
        });
    let (mut bytes, mut bits, mut n_bits) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_padding() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("/+8=", b"\xff\xef"),
        ] {
            assert_eq!(base64(text), bytes);
        }
    }

    #[test]
    fn an_array_is_little_endian() {
        let value = serde_json::json!({"dtype": "f32", "shape": [1, 2], "base64": "AACAPwAAAMA="});
        assert_eq!(array(&value), [1.0, -2.0]);
    }
}
