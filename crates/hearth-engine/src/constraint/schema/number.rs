//! Ranges of numbers as regular expressions.
//!
//! What a schema leaves open is bounded: sixteen digits in front of the point and sixteen behind it. Between bounds a
//! fraction has at most fifteen digits in all, because then two different texts are two different doubles, and what is
//! below a bound as text is below it when it is read.

use llguidance::derivre::RegexAst;

use super::{Bound, Number, decimal::Decimal};

/// Digits of an integer where the schema sets no bound.
const N_DIGITS: usize = 16;
/// A text of these has at most fifteen significant digits, or is an integer of sixteen.
const SHAPE: &str = r"-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?";
const SHORT: &str = r"-?[0-9.]{1,16}";
const MAX_OPEN: i128 = 9_999_999_999_999_999;

/// Any number.
pub(crate) fn any_number() -> RegexAst {
    RegexAst::Regex(r"-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,16})?([eE][-+]?[0-9]{1,2})?".to_owned())
}

/// The texts of the numbers of a schema; `None` when there are none.
pub(crate) fn number_regex(number: &Number) -> Option<RegexAst> {
    let mut all = Vec::new();
    let is_integer = number.is_integer || number.multiple_of.is_some_and(|(_, places)| places == 0);
    if is_integer {
        all.push(RegexAst::Regex(integers(number)?));
    } else if number.min.is_none() && number.max.is_none() && number.multiple_of.is_none() {
        return Some(any_number());
    } else {
        all.push(RegexAst::Regex(SHAPE.to_owned()));
        all.push(RegexAst::Regex(SHORT.to_owned()));
        all.extend(number.min.as_ref().map(above));
        all.extend(number.max.as_ref().map(below));
    }
    if let Some((coefficient, places)) = number.multiple_of {
        let sign = RegexAst::Regex("-?".to_owned());
        all.push(RegexAst::Concat(vec![
            sign,
            RegexAst::MultipleOf(coefficient, places),
        ]));
    }
    Some(match all.len() {
        1 => all.remove(0),
        _ => RegexAst::And(all),
    })
}

fn integers(number: &Number) -> Option<String> {
    let lowest = number.min.as_ref().and_then(|bound| {
        let at = bound.value.ceil()?;
        let is_hit = bound.is_exclusive && bound.value.is_integer();
        Some(at + i128::from(is_hit))
    });
    let highest = number.max.as_ref().and_then(|bound| {
        let at = bound.value.floor()?;
        let is_hit = bound.is_exclusive && bound.value.is_integer();
        Some(at - i128::from(is_hit))
    });
    // An open end is sixteen digits away, or as many digits as the other end has.
    let open = |other: Option<i128>| other.map_or(MAX_OPEN, |end| widest(end).max(MAX_OPEN));
    let low = lowest.unwrap_or_else(|| -open(highest));
    let high = highest.unwrap_or_else(|| open(lowest));
    integer_range(low, high)
}

fn widest(end: i128) -> i128 {
    let n_digits = end.unsigned_abs().to_string().len() as u32;
    10_i128.pow(n_digits.min(37)) - 1
}

/// The integers from `low` to `high`; `None` when there are none.
fn integer_range(low: i128, high: i128) -> Option<String> {
    let mut parts = Vec::new();
    if low < 0 {
        let (near, far) = ((-high).max(1), -low);
        if near <= far {
            parts.push(format!("-({})", natural_range(near as u128, far as u128)));
        }
    }
    if high >= 0 && low <= high {
        parts.push(natural_range(low.max(0) as u128, high as u128));
    }
    (!parts.is_empty()).then(|| parts.join("|"))
}

/// `low <= high`.
fn natural_range(low: u128, high: u128) -> String {
    let (low, high) = (low.to_string(), high.to_string());
    let parts = (low.len()..=high.len()).map(|n_digits| {
        let from = match n_digits == low.len() {
            true => low.clone(),
            false => format!("1{}", "0".repeat(n_digits - 1)),
        };
        let to = match n_digits == high.len() {
            true => high.clone(),
            false => "9".repeat(n_digits),
        };
        same_length(&from, &to)
    });
    parts.collect::<Vec<_>>().join("|")
}

/// Digit strings between two of the same length, in the order of the alphabet.
fn same_length(low: &str, high: &str) -> String {
    let n = low.len();
    if low.bytes().all(|digit| digit == b'0') && high.bytes().all(|digit| digit == b'9') {
        return digits(n, n);
    }
    let (first, last) = (low.as_bytes()[0], high.as_bytes()[0]);
    let (low, high) = (&low[1..], &high[1..]);
    if first == last {
        return format!("{}({})", first as char, same_length(low, high));
    }
    let mut parts = vec![format!(
        "{}({})",
        first as char,
        same_length(low, &"9".repeat(n - 1))
    )];
    if last - first > 1 {
        let (from, to) = (first + 1, last - 1);
        parts.push(format!(
            "[{}-{}]{}",
            from as char,
            to as char,
            digits(n - 1, n - 1)
        ));
    }
    parts.push(format!(
        "{}({})",
        last as char,
        same_length(&"0".repeat(n - 1), high)
    ));
    parts.join("|")
}

fn digits(min: usize, max: usize) -> String {
    match (min, max) {
        (_, 0) => String::new(),
        _ => format!("[0-9]{{{min},{max}}}"),
    }
}

fn above(bound: &Bound) -> RegexAst {
    let magnitude = bound.value.magnitude();
    RegexAst::Regex(match bound.value.is_negative {
        true => join([
            Some(any_magnitude()),
            at_most(&magnitude, bound.is_exclusive).map(|rest| format!("-({rest})")),
        ]),
        false => join([Some(at_least(&magnitude, bound.is_exclusive))]),
    })
}

fn below(bound: &Bound) -> RegexAst {
    let magnitude = bound.value.magnitude();
    RegexAst::Regex(match bound.value.is_negative {
        true => format!("-({})", at_least(&magnitude, bound.is_exclusive)),
        // "-0" is zero: below zero is what is more than zero away from it.
        false if bound.value.is_zero() => join([
            Some(format!("-({})", at_least(&magnitude, true))),
            (!bound.is_exclusive).then(|| "0".to_owned()),
        ]),
        false => join([
            Some(format!("-({})", any_magnitude())),
            at_most(&magnitude, bound.is_exclusive),
        ]),
    })
}

fn join<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("|")
}

fn any_magnitude() -> String {
    r"(0|[1-9][0-9]{0,15})(\.[0-9]{1,16})?".to_owned()
}

/// Numbers without a sign that are not below `bound`.
fn at_least(bound: &Decimal, is_exclusive: bool) -> String {
    let whole = &bound.whole;
    let mut parts = Vec::new();
    let value: u128 = whole.parse().unwrap_or(u128::MAX);
    let highest = 10_u128.pow(N_DIGITS.max(whole.len()).min(38) as u32) - 1;
    if value < highest {
        parts.push(format!(
            r"({})(\.[0-9]+)?",
            natural_range(value + 1, highest)
        ));
    }
    let fraction = match (bound.fraction.as_str(), is_exclusive) {
        ("", false) => r"(\.[0-9]+)?".to_owned(),
        ("", true) => r"\.[0-9]*[1-9][0-9]*".to_owned(),
        (fraction, _) => format!(r"\.({})", fraction_above(fraction, is_exclusive)),
    };
    parts.push(format!("{whole}{fraction}"));
    parts.join("|")
}

/// Numbers without a sign that are not above `bound`; `None` when there are none.
fn at_most(bound: &Decimal, is_exclusive: bool) -> Option<String> {
    let whole = &bound.whole;
    let mut parts = Vec::new();
    let value: u128 = whole.parse().unwrap_or(u128::MAX);
    if value > 0 {
        parts.push(format!(r"({})(\.[0-9]+)?", natural_range(0, value - 1)));
    }
    match (bound.fraction.as_str(), is_exclusive) {
        ("", true) => {}
        ("", false) => parts.push(format!(r"{whole}(\.0+)?")),
        (fraction, _) => parts.push(format!(
            r"{whole}(\.({}))?",
            fraction_below(fraction, is_exclusive)
        )),
    }
    (!parts.is_empty()).then(|| parts.join("|"))
}

/// Digits behind the point that are more than `bound`'s, or as much.
fn fraction_above(bound: &str, is_exclusive: bool) -> String {
    let mut parts: Vec<String> = bound
        .bytes()
        .enumerate()
        .filter(|&(_, digit)| digit < b'9')
        .map(|(at, digit)| format!("{}[{}-9][0-9]*", &bound[..at], (digit + 1) as char))
        .collect();
    parts.push(match is_exclusive {
        true => format!("{bound}[0-9]*[1-9][0-9]*"),
        false => format!("{bound}[0-9]*"),
    });
    parts.join("|")
}

/// Digits behind the point that are less than `bound`'s, or as much.
fn fraction_below(bound: &str, is_exclusive: bool) -> String {
    let mut parts: Vec<String> = bound
        .bytes()
        .enumerate()
        .filter(|&(_, digit)| digit > b'0')
        .map(|(at, digit)| format!("{}[0-{}][0-9]*", &bound[..at], (digit - 1) as char))
        .collect();
    // What stops within the bound is below it, as its last digit is not zero.
    parts.extend((1..bound.len()).map(|at| bound[..at].to_owned()));
    if !is_exclusive {
        parts.push(format!("{bound}0*"));
    }
    parts.join("|")
}

/// Whether no number is within the bounds.
pub(super) fn is_empty(number: &Number) -> bool {
    let is_crossed = match (&number.min, &number.max) {
        (Some(min), Some(max)) => {
            min.value > max.value
                || (min.value == max.value && (min.is_exclusive || max.is_exclusive))
        }
        _ => false,
    };
    // Beyond one near bound there is always a number; most schemas have none or one.
    let is_near = |bound: &Option<Bound>| {
        bound
            .as_ref()
            .is_none_or(|bound| bound.value.whole.len() < N_DIGITS)
    };
    let is_open = number.min.is_none() || number.max.is_none();
    let is_wide = is_open && is_near(&number.min) && is_near(&number.max);
    match (number.is_integer, number.multiple_of) {
        _ if is_crossed => true,
        (_, None) if is_wide => false,
        (true, None) => integers(number).is_none(),
        // No multiple may be between two bounds, or no fraction of the digits we write.
        _ => number_regex(number).is_none_or(|regex| super::accept::is_regex_empty(&regex)),
    }
}

/// Brings bounds that are further out than the digits we write down to those; returns the keyword of one that leaves
/// only numbers beyond them.
pub(super) fn simplify(number: &mut Number) -> Option<&'static str> {
    let n_digits = if number.is_integer { 37 } else { N_DIGITS };
    let is_far = |bound: &Bound| bound.value.whole.len() > n_digits;
    if number
        .min
        .as_ref()
        .is_some_and(|min| is_far(min) && !min.value.is_negative)
    {
        return Some("minimum");
    }
    if number
        .max
        .as_ref()
        .is_some_and(|max| is_far(max) && max.value.is_negative)
    {
        return Some("maximum");
    }
    let nearer = |value| Bound {
        value: Decimal::integer(value),
        is_exclusive: false,
    };
    if number.min.as_ref().is_some_and(is_far) {
        number.min = Some(nearer(-MAX_OPEN));
    }
    if number.max.as_ref().is_some_and(is_far) {
        number.max = Some(nearer(MAX_OPEN));
    }
    None
}
