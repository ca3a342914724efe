//! Decimal numbers as they stand in a schema, exactly.

use std::cmp::Ordering;

/// A decimal number of any size a double can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub is_negative: bool,
    /// Digits in front of the point, without leading zeros; `0` at least.
    pub whole: String,
    /// Digits behind it, without trailing zeros.
    pub fraction: String,
}

impl Decimal {
    /// Reads a number of a JSON text.
    pub(crate) fn new(number: &serde_json::Number) -> Self {
        Self::read(&number.to_string())
    }

    /// An integer.
    pub(crate) fn integer(value: i128) -> Self {
        Self::read(&value.to_string())
    }

    // `text` is what `serde_json` writes for a number: digits, perhaps a fraction, perhaps an exponent of at most three
    // digits.
    fn read(text: &str) -> Self {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i32 = exponent.trim_start_matches('+').parse().unwrap_or(0);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{whole}{fraction}");
        let mut point = whole.len() as i32 + exponent;
        while point <= 0 {
            digits.insert(0, '0');
            point += 1;
        }
        while point as usize > digits.len() {
            digits.push('0');
        }
        let (whole, fraction) = digits.split_at(point as usize);
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let is_zero = whole.is_empty() && fraction.is_empty();
        Decimal {
            is_negative: is_negative && !is_zero,
            whole: if whole.is_empty() { "0" } else { whole }.to_owned(),
            fraction: fraction.to_owned(),
        }
    }

    /// Its distance from zero.
    pub(crate) fn magnitude(&self) -> Self {
        Decimal {
            is_negative: false,
            ..self.clone()
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.whole == "0" && self.fraction.is_empty()
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.fraction.is_empty()
    }

    /// The largest integer that is not above it; `None` beyond 37 digits.
    pub(crate) fn floor(&self) -> Option<i128> {
        let whole = self.toward_zero()?;
        Some(whole - i128::from(self.is_negative && !self.is_integer()))
    }

    /// The smallest integer that is not below it; `None` beyond 37 digits.
    pub(crate) fn ceil(&self) -> Option<i128> {
        let whole = self.toward_zero()?;
        Some(whole + i128::from(!self.is_negative && !self.is_integer()))
    }

    fn toward_zero(&self) -> Option<i128> {
        if self.whole.len() > 37 {
            return None;
        }
        let whole: i128 = self.whole.parse().ok()?;
        Some(if self.is_negative { -whole } else { whole })
    }

    fn cmp_magnitude(&self, other: &Self) -> Ordering {
        let by_whole = (self.whole.len(), &self.whole).cmp(&(other.whole.len(), &other.whole));
        by_whole.then_with(|| self.fraction.cmp(&other.fraction))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, false) => self.cmp_magnitude(other),
            (true, true) => other.cmp_magnitude(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_json_writes() {
        let cases = [
            ("0", "0", "", false),
            ("-0.0", "0", "", false),
            ("-12.50", "12", "5", true),
            ("1e3", "1000", "", false),
            ("1.25e-3", "0", "00125", false),
            ("-1.5e+2", "150", "", true),
            ("0.001e3", "1", "", false),
        ];
        for (text, whole, fraction, is_negative) in cases {
            let decimal = Decimal::read(text);
            let expected = Decimal {
                is_negative,
                whole: whole.to_owned(),
                fraction: fraction.to_owned(),
            };
            assert_eq!(decimal, expected, "{text}");
        }
    }

    #[test]
    fn orders_as_numbers_do() {
        let ascending = [
            "-1e30", "-12", "-1.5", "-1.25", "0", "0.05", "0.5", "2", "10", "1e300",
        ];
        for pair in ascending.windows(2) {
            assert!(Decimal::read(pair[0]) < Decimal::read(pair[1]), "{pair:?}");
        }
        assert_eq!(Decimal::read("-1.5").floor(), Some(-2));
        assert_eq!(Decimal::read("-1.5").ceil(), Some(-1));
        assert_eq!(Decimal::read("1.5").ceil(), Some(2));
        assert_eq!(Decimal::read("1e60").ceil(), None);
    }
}
