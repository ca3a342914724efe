//! Python's methods on strings, lists and dictionaries that published templates call.
//!
//! `minijinja-contrib` has most of them. Here are the ones it lacks, and the ones whose result can be far larger
//! than their arguments: those pay before they work.

use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::env::spend_bytes;
use super::formatting::{charge_walk, check_fields, replaced_size};

/// The interpreter's hook for methods it does not know itself.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    for arg in args {
        charge_walk(state, arg)?;
    }
    if let Some(text) = value.as_str() {
        spend_bytes(state, text.len())?;
        if let Some(result) = string_method(state, text, method, args)? {
            return Ok(result);
        }
    } else if value.kind() == ValueKind::Seq {
        if let Some(result) = list_method(state, value, method, args)? {
            return Ok(result);
        }
    } else if value.kind() == ValueKind::Map && method == "copy" {
        let () = from_args(args)?;
        return Ok(value.clone());
    }
    pycompat::unknown_method_callback(state, value, method, args)
}

fn string_method(
    state: &State,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "format" => {
            check_fields(text)?;
            return Ok(None);
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let pieces = items.try_iter()?.count();
            spend_bytes(state, pieces.saturating_mul(text.len()))?;
            return Ok(None);
        }
        "replace" => {
            let (from, to, count): (&str, &str, Option<i64>) = from_args(args)?;
            let limit = count.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
            spend_bytes(state, replaced_size(text, from, to))?;
            Value::from(text.replacen(from, to, limit))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (i64, Option<&str>) = from_args(args)?;
            Value::from(pad(state, text, method, width, fill.unwrap_or(" "))?)
        }
        "zfill" => {
            let (width,): (i64,) = from_args(args)?;
            let (sign, digits) = match text.strip_prefix(['+', '-']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text),
            };
            let width = width.saturating_sub(i64::from(!sign.is_empty()));
            Value::from(format!(
                "{sign}{}",
                pad(state, digits, "rjust", width, "0")?
            ))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            non_empty(separator)?;
            let (head, middle, tail) = match text.split_once(separator) {
                Some((head, tail)) => (head, separator, tail),
                None => (text, "", ""),
            };
            tuple([head, middle, tail])
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            non_empty(separator)?;
            let (head, middle, tail) = match text.rsplit_once(separator) {
                Some((head, tail)) => (head, separator, tail),
                None => ("", "", text),
            };
            tuple([head, middle, tail])
        }
        "rsplit" => rsplit(args, text)?,
        "index" | "rindex" => {
            let (needle,): (&str,) = from_args(args)?;
            let found = if method == "index" {
                text.find(needle)
            } else {
                text.rfind(needle)
            };
            let found = found.ok_or_else(|| invalid("substring not found"))?;
            Value::from(text[..found].chars().count())
        }
        "casefold" => {
            let () = from_args(args)?;
            Value::from(text.to_lowercase())
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        _ => return Ok(None),
    }))
}

fn list_method(
    state: &State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "index" => {
            let (needle,): (&Value,) = from_args(args)?;
            charge_walk(state, value)?;
            let at = value.try_iter()?.position(|item| item == *needle);
            Value::from(at.ok_or_else(|| invalid("value is not in list"))?)
        }
        "count" => {
            charge_walk(state, value)?;
            return Ok(None);
        }
        "copy" => {
            let () = from_args(args)?;
            value.clone()
        }
        _ => return Ok(None),
    }))
}

fn tuple<const N: usize>(items: [&str; N]) -> Value {
    Value::from(Tuple::from(items.map(Value::from).to_vec()))
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn non_empty(separator: &str) -> Result<(), Error> {
    if separator.is_empty() {
        Err(invalid("empty separator"))
    } else {
        Ok(())
    }
}

fn rsplit(args: &[Value], text: &str) -> Result<Value, Error> {
    let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
    let limit = limit
        .and_then(|n| usize::try_from(n).ok())
        .map_or(usize::MAX, |n| n.saturating_add(1));
    let mut pieces: Vec<Value> = Vec::new();
    match separator {
        Some(separator) => {
            non_empty(separator)?;
            pieces.extend(text.rsplitn(limit, separator).map(Value::from));
        }
        None => {
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                let cut = if pieces.len() + 1 == limit {
                    None
                } else {
                    rest.rfind(char::is_whitespace)
                };
                let start = cut.map_or(0, |i| {
                    i + rest[i..].chars().next().map_or(0, char::len_utf8)
                });
                let piece = if cut.is_none() {
                    rest.trim_start()
                } else {
                    &rest[start..]
                };
                pieces.push(Value::from(piece));
                rest = cut.map_or("", |i| rest[..i].trim_end());
            }
        }
    }
    pieces.reverse();
    Ok(Value::from(pieces))
}

fn pad(state: &State, text: &str, method: &str, width: i64, fill: &str) -> Result<String, Error> {
    let mut fill_chars = fill.chars();
    let (Some(fill), None) = (fill_chars.next(), fill_chars.next()) else {
        return Err(invalid(
            "the fill character must be exactly one character long",
        ));
    };
    let missing = usize::try_from(width)
        .unwrap_or(0)
        .saturating_sub(text.chars().count());
    spend_bytes(state, missing.saturating_mul(fill.len_utf8()))?;
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // Python puts the odd one to the left of a text of odd width.
        _ => missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1),
    };
    let mut out = String::with_capacity(text.len() + missing * fill.len_utf8());
    out.extend(std::iter::repeat_n(fill, left));
    out.push_str(text);
    out.extend(std::iter::repeat_n(fill, missing - left));
    Ok(out)
}
