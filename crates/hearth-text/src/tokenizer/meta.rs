//! Typed reading of the `tokenizer.ggml.*` keys.

use hearth_gguf::{Array, Metadata, StringArray, Value};

use super::error::TextError;

/// Old converters write this id for "there is none".
const NO_ID: i128 = u32::MAX as i128;

fn wrong(key: &'static str, expected: &'static str, value: &Value) -> TextError {
    TextError::WrongType {
        key,
        expected,
        found: value.describe_type(),
    }
}

pub(super) fn string<'a>(
    metadata: &'a Metadata,
    key: &'static str,
) -> Result<Option<&'a str>, TextError> {
    match metadata.get(key) {
        None => Ok(None),
        Some(value) => value
            .as_str()
            .map(Some)
            .ok_or_else(|| wrong(key, "a string", value)),
    }
}

pub(super) fn flag(metadata: &Metadata, key: &'static str) -> Result<Option<bool>, TextError> {
    match metadata.get(key) {
        None => Ok(None),
        Some(value) => value
            .as_bool()
            .map(Some)
            .ok_or_else(|| wrong(key, "a bool", value)),
    }
}

pub(super) fn strings<'a>(
    metadata: &'a Metadata,
    key: &'static str,
) -> Result<Option<&'a StringArray>, TextError> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::Array(Array::String(strings))) => Ok(Some(strings)),
        Some(other) => Err(wrong(key, "an array of strings", other)),
    }
}

pub(super) fn floats<'a>(
    metadata: &'a Metadata,
    key: &'static str,
) -> Result<Option<&'a [f32]>, TextError> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::Array(Array::F32(numbers))) => Ok(Some(numbers)),
        Some(other) => Err(wrong(key, "an array of f32", other)),
    }
}

pub(super) fn ints<'a>(
    metadata: &'a Metadata,
    key: &'static str,
) -> Result<Option<&'a [i32]>, TextError> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::Array(Array::I32(numbers))) => Ok(Some(numbers)),
        Some(other) => Err(wrong(key, "an array of i32", other)),
    }
}

/// A special id: `Ok(None)` when absent or written as "none".
///
/// # Errors
/// The value is no integer, or no token has this id.
pub(super) fn token_id(
    metadata: &Metadata,
    key: &'static str,
    n_vocab: usize,
) -> Result<Option<u32>, TextError> {
    let Some(value) = metadata.get(key) else {
        return Ok(None);
    };
    let id = value
        .as_integer()
        .ok_or_else(|| wrong(key, "an integer", value))?;
    if id == NO_ID || id == -1 {
        return Ok(None);
    }
    match u32::try_from(id) {
        Ok(small) if (small as usize) < n_vocab => Ok(Some(small)),
        _ => Err(TextError::SpecialId { key, id, n_vocab }),
    }
}
