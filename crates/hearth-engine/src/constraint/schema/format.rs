//! Formats of strings: those a validator may check are written as expressions no wider than its check.

/// What to do with a format's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Hold the string to this expression.
    Regex(String),
    /// It says how a value is used, not what it is.
    Annotation,
    /// It says what a value is, and we cannot hold it to that.
    Unknown,
}

// Years of four digits; February has no 29th: a narrower calendar needs no memory for leap years.
const DATE: &str = concat!(
    "[1-9][0-9]{3}-(",
    "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|",
    "(0[469]|11)-(0[1-9]|[12][0-9]|30)|",
    "02-(0[1-9]|1[0-9]|2[0-8]))"
);
const TIME: &str = concat!(
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?",
    r"(Z|[-+]([01][0-9]|2[0-3]):[0-5][0-9])"
);
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const LABEL: &str = "[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?";
const TOP_LABEL: &str = "[A-Za-z]{2,24}";
const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
const DURATION: &str = concat!(
    "P([0-9]{1,9}W|[0-9]{1,9}D(T(TIME))?|[0-9]{1,9}M([0-9]{1,9}D)?(T(TIME))?|",
    "[0-9]{1,9}Y([0-9]{1,9}M([0-9]{1,9}D)?)?(T(TIME))?|T(TIME))"
);
const DURATION_TIME: &str =
    "[0-9]{1,9}S|[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?";

/// What becomes of a format of strings.
pub(super) fn string_format(name: &str) -> Format {
    Format::Regex(match name {
        "date" => DATE.to_owned(),
        "time" => TIME.to_owned(),
        "date-time" => format!("{DATE}T{TIME}"),
        "duration" => DURATION.replace("TIME", DURATION_TIME),
        "uuid" => UUID.to_owned(),
        "ipv4" => format!("{OCTET}({}){{3}}", format_args!(r"\.{OCTET}")),
        "ipv6" => "[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){7}".to_owned(),
        "hostname" => hostname(),
        "email" => format!(
            r"[A-Za-z0-9_+-]{{1,30}}(\.[A-Za-z0-9_+-]{{1,30}})?@({LABEL}\.){{1,3}}{TOP_LABEL}"
        ),
        "uri" | "url" => uri(),
        "password" | "byte" | "binary" | "base64" | "path" | "file-path" | "directory-path"
        | "textarea" | "markdown" | "html" | "color" | "json-string" => return Format::Annotation,
        _ => return Format::Unknown,
    })
}

/// What becomes of a format of numbers, as OpenAPI uses it: its range, or nothing.
pub(super) fn number_format(name: &str) -> Option<Option<(i128, i128)>> {
    Some(match name {
        "int32" => Some((i128::from(i32::MIN), i128::from(i32::MAX))),
        "uint32" => Some((0, i128::from(u32::MAX))),
        "int64" => Some((i128::from(i64::MIN), i128::from(i64::MAX))),
        "uint64" => Some((0, i128::from(u64::MAX))),
        "uint8" => Some((0, 255)),
        "int8" => Some((-128, 127)),
        "uint16" => Some((0, i128::from(u16::MAX))),
        "int16" => Some((i128::from(i16::MIN), i128::from(i16::MAX))),
        "uint" => Some((0, i128::from(u64::MAX))),
        "int" | "float" | "double" | "decimal" | "unix-time" => None,
        _ => return None,
    })
}

fn hostname() -> String {
    format!(r"({LABEL}\.){{0,3}}{TOP_LABEL}")
}

fn uri() -> String {
    let path = r"[-A-Za-z0-9._~!$&'()*+,;=:@/]";
    let host = hostname();
    format!(
        r"[A-Za-z][A-Za-z0-9+.-]{{1,20}}://{host}(:[1-9][0-9]{{0,3}})?(/{path}*)?(\?{path}*)?(#{path}*)?"
    )
}
