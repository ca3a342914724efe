//! Values as Python's `str` and `repr` spell them, and a guard in front of everything that walks a value.
//!
//! The interpreter charges fuel for texts and lists as they are made, but not for walking a list that is only a
//! promise (`[1] * 100000000`) or that contains itself twice, many times over. Whoever is about to walk a value
//! calls [`charge_walk`] first.

use std::fmt::Write as _;

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, filters, tests};

use super::env::{spend, spend_bytes};

/// Fuel per item walked: an item takes about as long as two instructions.
const WALK_COST: u64 = 2;
/// Deepest nesting that may be printed or compared.
const MAX_DEPTH: usize = 200;
/// Widest field a format string may pad to.
const MAX_FIELD: usize = 1000;

/// Pays for one walk over all of a value's items.
pub(super) fn charge_walk(state: &State, value: &Value) -> Result<(), Error> {
    charge_level(state, value, MAX_DEPTH)
}

fn charge_level(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {}
        ValueKind::String => return spend_bytes(state, value.as_str().map_or(0, str::len)),
        _ => return Ok(()),
    }
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    // What cannot be iterated is an opaque object: a loop, a macro, a namespace.
    let Ok(items) = value.try_iter() else {
        return Ok(());
    };
    let is_map = value.kind() == ValueKind::Map;
    for item in items {
        spend(state, WALK_COST)?;
        if is_map {
            charge_level(state, &value.get_item(&item)?, depth)?;
        }
        charge_level(state, &item, depth)?;
    }
    Ok(())
}

fn too_deep() -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("value nests deeper than {MAX_DEPTH} levels"),
    )
}

/// What `{{ … }}` writes.
pub(super) fn write(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let fits = match value.as_str() {
        Some(text) => out.write_str(text),
        None if value.is_undefined() => Ok(()),
        None => out.write_str(&python_str(state, value)?),
    };
    fits.map_err(|_| Error::new(ErrorKind::WriteFailure, "output limit reached"))
}

/// `str(value)`.
pub(super) fn python_str(state: &State, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    charge_walk(state, value)?;
    let mut out = String::new();
    repr(state, value, &mut out)?;
    Ok(out)
}

fn repr(state: &State, value: &Value, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => out.push_str(&float(number)),
            Err(_) => return write_display(value, out),
        },
        ValueKind::Seq if !value.is_tuple() => {
            out.push('[');
            for (i, item) in value.try_iter()?.enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(state, &item, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(state, &key, out)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, out)?;
            }
            out.push('}');
        }
        ValueKind::String => {
            let start = out.len();
            // The interpreter quotes texts inside containers as Python does.
            write!(out, "{value:?}").map_err(|_| Error::from(ErrorKind::WriteFailure))?;
            spend_bytes(state, out.len() - start)?;
        }
        _ => write_display(value, out)?,
    }
    Ok(())
}

fn write_display(value: &Value, out: &mut String) -> Result<(), Error> {
    write!(out, "{value}").map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// `repr` of a Python float: shortest digits, an exponent from 1e16 upwards and below 1e-4.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent
            .strip_prefix('-')
            .map_or(('+', exponent), |e| ('-', e));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = format!("{number}");
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// Puts the guard in front of the built-in filters and tests that print, compare or sort what they are given.
pub(super) fn guard_filters(env: &mut Environment) {
    for (name, inner) in [
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("upper", Value::from_function(filters::upper)),
        ("lower", Value::from_function(filters::lower)),
        ("title", Value::from_function(filters::title)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("replace", Value::from_function(filters::replace)),
        ("trim", Value::from_function(filters::trim)),
        ("join", Value::from_function(filters::join)),
        ("indent", Value::from_function(filters::indent)),
        ("pprint", Value::from_function(filters::pprint)),
        ("safe", Value::from_function(filters::safe)),
        ("sort", Value::from_function(filters::sort)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("unique", Value::from_function(filters::unique)),
        ("groupby", Value::from_function(filters::groupby)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
        ("sum", Value::from_function(filters::sum)),
        ("list", Value::from_function(filters::list)),
        ("format", Value::from_function(filters::format)),
    ] {
        env.add_filter(name, move |state: &mut State, args: Rest<Value>| {
            for arg in args.iter() {
                charge_walk(state, arg)?;
            }
            check_growth(state, name, &args)?;
            inner.call(state, &args)
        });
    }
    env.add_filter("string", |state: &mut State, value: Value| {
        python_str(state, &value)
    });
    for (name, inner) in [
        ("eq", Value::from_function(tests::is_eq)),
        ("equalto", Value::from_function(tests::is_eq)),
        ("==", Value::from_function(tests::is_eq)),
        ("ne", Value::from_function(tests::is_ne)),
        ("!=", Value::from_function(tests::is_ne)),
        ("in", Value::from_function(tests::is_in)),
    ] {
        env.add_test(name, move |state: &mut State, args: Rest<Value>| {
            for arg in args.iter() {
                charge_walk(state, arg)?;
            }
            Ok::<bool, Error>(inner.call(state, &args)?.is_true())
        });
    }
}

/// Pays in advance for the filters whose result can be much larger than their arguments.
fn check_growth(state: &State, name: &str, args: &[Value]) -> Result<(), Error> {
    match (name, args) {
        ("format", [pattern, ..]) => check_fields(pattern.as_str().unwrap_or_default()),
        ("indent", [text, width, ..]) => {
            let lines = text.as_str().map_or(1, |t| t.matches('\n').count() + 1);
            let width = width.as_usize().unwrap_or(0);
            spend_bytes(state, lines.saturating_mul(width))
        }
        ("replace", [text, from, to, ..]) => {
            let (text, from, to) = (text.to_string(), from.to_string(), to.to_string());
            spend_bytes(state, replaced_size(&text, &from, &to))
        }
        ("join", [list, separator, ..]) => {
            let pieces = list.try_iter().map_or(0, Iterator::count);
            spend_bytes(state, pieces.saturating_mul(separator.to_string().len()))
        }
        _ => Ok(()),
    }
}

/// Refuses format strings that ask for very wide fields: the formatter would make them before paying.
pub(super) fn check_fields(pattern: &str) -> Result<(), Error> {
    let mut number = 0usize;
    for c in pattern.chars() {
        number = c
            .to_digit(10)
            .map_or(0, |d| number.saturating_mul(10).saturating_add(d as usize));
        if number > MAX_FIELD {
            let message = format!("field width in a format string is above {MAX_FIELD}");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    }
    Ok(())
}

/// Bytes that replacing every `from` may add to `text`.
pub(super) fn replaced_size(text: &str, from: &str, to: &str) -> usize {
    text.matches(from).count().saturating_mul(to.len())
}

#[cfg(test)]
mod tests_ {
    use super::float;

    #[test]
    fn floats_are_spelled_as_in_python() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1.25e-5, "1.25e-05"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(number), expected);
        }
    }
}
