//! The clock of `strftime_now`: a date without a time zone, formatted as C's `strftime` does in the plain locale.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Seconds on the proleptic Gregorian calendar, without a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    seconds: i64,
}

/// A text that is no date of the form `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a date as YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, found {found:?}")]
pub struct TimestampError {
    /// The text as given.
    pub found: String,
}

/// A timestamp taken apart.
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// 0 is Sunday.
    weekday: i64,
    /// 1 is the first of January.
    day_of_year: i64,
}

impl Timestamp {
    /// The present moment in UTC.
    pub fn now_utc() -> Self {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        Self::from_unix_seconds(i64::try_from(seconds).unwrap_or(0))
    }

    /// A moment by its seconds since 1970; years outside 1 to 9999 are moved to the nearest one inside.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let first = days_from_civil(1, 1, 1) * 86_400;
        let last = days_from_civil(10_000, 1, 1) * 86_400 - 1;
        Self {
            seconds: seconds.clamp(first, last),
        }
    }

    fn parts(self) -> Parts {
        let days = self.seconds.div_euclid(86_400);
        let rest = self.seconds.rem_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        Parts {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7),
            day_of_year: days - days_from_civil(year, 1, 1) + 1,
        }
    }

    /// Formats like `strftime`; directives we do not know are copied as they stand.
    pub fn format(self, pattern: &str) -> String {
        let parts = self.parts();
        let mut out = String::with_capacity(pattern.len() + 16);
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                None => out.push('%'),
                // `%-d` and the like: without padding.
                Some('-') => match chars.next() {
                    Some(directive) => out.push_str(&unpadded(&parts, directive)),
                    None => out.push_str("%-"),
                },
                Some(directive) => parts.directive(directive, &mut out),
            }
        }
        out
    }
}

fn unpadded(parts: &Parts, directive: char) -> String {
    let mut text = String::new();
    parts.directive(directive, &mut text);
    let trimmed = text.trim_start_matches(['0', ' ']);
    if trimmed.is_empty() {
        "0".to_owned()
    } else {
        trimmed.to_owned()
    }
}

impl Parts {
    fn directive(&self, directive: char, out: &mut String) {
        let weekday = WEEKDAYS[self.weekday as usize];
        let month = MONTHS[self.month as usize - 1];
        let hour12 = (self.hour + 11) % 12 + 1;
        // Writing to a string cannot fail.
        let _ = match directive {
            'a' => write!(out, "{}", &weekday[..3]),
            'A' => write!(out, "{weekday}"),
            'b' | 'h' => write!(out, "{}", &month[..3]),
            'B' => write!(out, "{month}"),
            'c' => self.list("a b e T Y", ' ', out),
            'C' => write!(out, "{:02}", self.year / 100),
            'd' => write!(out, "{:02}", self.day),
            'D' | 'x' => self.list("m d y", '/', out),
            'e' => write!(out, "{:2}", self.day),
            'f' => write!(out, "000000"),
            'F' => self.list("Y m d", '-', out),
            'H' => write!(out, "{:02}", self.hour),
            'I' => write!(out, "{hour12:02}"),
            'j' => write!(out, "{:03}", self.day_of_year),
            'm' => write!(out, "{:02}", self.month),
            'M' => write!(out, "{:02}", self.minute),
            'n' => out.write_char('\n'),
            'p' => write!(out, "{}", if self.hour < 12 { "AM" } else { "PM" }),
            'R' => self.list("H M", ':', out),
            'S' => write!(out, "{:02}", self.second),
            't' => out.write_char('\t'),
            'T' | 'X' => self.list("H M S", ':', out),
            'u' => write!(out, "{}", (self.weekday + 6) % 7 + 1),
            'U' => write!(out, "{:02}", (self.day_of_year + 6 - self.weekday) / 7),
            'w' => write!(out, "{}", self.weekday),
            'W' => write!(
                out,
                "{:02}",
                (self.day_of_year + 6 - (self.weekday + 6) % 7) / 7
            ),
            'y' => write!(out, "{:02}", self.year % 100),
            'Y' => write!(out, "{}", self.year),
            // A date without a time zone has no name and no offset.
            'Z' | 'z' => Ok(()),
            '%' => write!(out, "%"),
            other => write!(out, "%{other}"),
        };
    }

    fn list(&self, directives: &str, separator: char, out: &mut String) -> std::fmt::Result {
        for (i, directive) in directives.split(' ').flat_map(str::chars).enumerate() {
            if i > 0 {
                out.push(separator);
            }
            self.directive(directive, out);
        }
        Ok(())
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        parse(text).ok_or_else(|| TimestampError {
            found: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00"),
    };
    // A fraction of a second is below what any template shows.
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let valid = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=month_days).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    valid.then_some(Timestamp { seconds })
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut out = [0; 3];
    let mut pieces = text.split(separator);
    for slot in &mut out {
        let piece = pieces.next()?;
        if piece.is_empty() || piece.len() > 4 || !piece.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *slot = piece.parse().ok()?;
    }
    pieces.next().is_none().then_some(out)
}

/// Days since 1970-01-01. Years are counted from March so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn directives_match_strftime() {
        let t = at("2026-01-05T09:03:07");
        for (pattern, expected) in [
            ("%Y-%m-%d", "2026-01-05"),
            ("%d %b %Y", "05 Jan 2026"),
            ("%B %-d, %Y", "January 5, 2026"),
            ("%A %a %j %p %I:%M:%S", "Monday Mon 005 AM 09:03:07"),
            (
                "%F %T %D %R %e %y %%",
                "2026-01-05 09:03:07 01/05/26 09:03  5 26 %",
            ),
            ("%c|%U|%W|%u|%w", "Mon Jan  5 09:03:07 2026|01|01|1|1"),
            ("%Q %", "%Q %"),
        ] {
            assert_eq!(t.format(pattern), expected, "{pattern}");
        }
        assert_eq!(at("2024-12-31").format("%j %I %p %-I"), "366 12 AM 12");
    }

    #[test]
    fn dates_survive_the_way_to_seconds_and_back() {
        for days in (-719_162..2_932_896).step_by(97) {
            let (y, m, d) = civil_from_days(days);
            assert_eq!(days_from_civil(y, m, d), days);
        }
        assert_eq!(at("1970-01-01").seconds, 0);
        assert_eq!(at("2000-02-29T23:59:59.5").seconds, 951_868_799);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2025-02-29",
            "2026-01-01T24:00:00",
            "2026-01-01T1:2",
            "-1-1-1",
            "2026-1-1-1",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        assert_eq!(Timestamp::from_unix_seconds(i64::MAX).format("%Y"), "9999");
        assert_eq!(
            Timestamp::from_unix_seconds(i64::MIN).format("%F"),
            "1-01-01"
        );
    }
}
