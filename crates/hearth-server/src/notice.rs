//! What was accepted but has no effect, told in the header `hearth-notice`.
//!
//! Nothing happens in silence: a field that changes nothing, a tool that could not be offered and whatever else a
//! client might take for done is named there, as `ignored=FIELD; dropped-tool=KIND; note=TEXT`. In strict mode, which the
//! body asks for with `"hearth": {"strict": true}`, the first of them is an error instead.

use axum::{
    http::{HeaderName, HeaderValue},
    response::Response,
};

use crate::{error::ApiError, fields::Fields};

/// The header notices travel in.
pub const HEADER: HeaderName = HeaderName::from_static("hearth-notice");

/// The longest value; what is cut off is an odd field name.
const MAX_VALUE_BYTES: usize = 200;

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    Ignored(String),
    DroppedTool(String),
    Note(String),
}

/// The notices of one request, in the order they came up, each once.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    list: Vec<Notice>,
    is_strict: bool,
    n_more: usize,
    limit: usize,
}

impl Notices {
    /// None yet. At most `limit` are kept; of the others only the number is told.
    pub fn new(is_strict: bool, limit: usize) -> Self {
        Notices {
            is_strict,
            limit,
            ..Notices::default()
        }
    }

    /// None yet, strict if the body says so.
    ///
    /// # Errors
    ///
    /// `hearth` is not an object or `hearth.strict` not a boolean.
    pub fn of_body(fields: &mut Fields<'_>, limit: usize) -> Result<Self, ApiError> {
        let Some(extension) = fields.object("hearth")? else {
            return Ok(Notices::new(false, limit));
        };
        let mut extension = Fields::within(extension, "hearth");
        let is_strict = extension.bool("strict")?.unwrap_or(false);
        let mut notices = Notices::new(is_strict, limit);
        extension.finish(&mut notices);
        Ok(notices)
    }

    /// A field that changes nothing, by its path: `user`, `messages[2].name`.
    pub fn ignored(&mut self, field: impl Into<String>) {
        self.add(Notice::Ignored(field.into()));
    }

    /// A tool of a kind that cannot be offered.
    pub fn dropped_tool(&mut self, kind: impl Into<String>) {
        self.add(Notice::DroppedTool(kind.into()));
    }

    /// Anything else, in words.
    pub fn note(&mut self, text: impl Into<String>) {
        self.add(Notice::Note(text.into()));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the client wants an error in place of a notice.
    pub fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// In strict mode, the first notice as an error. To be asked when a request has been read, before it is run.
    ///
    /// # Errors
    ///
    /// There is a notice, and the mode is strict.
    pub fn check(&self) -> Result<(), ApiError> {
        match self.list.first() {
            Some(notice) if self.is_strict => Err(notice.as_error()),
            _ => Ok(()),
        }
    }

    /// The header's value, when there is anything to tell.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut parts: Vec<String> = self.list.iter().map(Notice::part).collect();
        if self.n_more > 0 {
            parts.push(format!("more={}", self.n_more));
        }
        let is_worth = !parts.is_empty();
        is_worth.then(|| {
            HeaderValue::from_str(&parts.join("; "))
                .expect("parts are ASCII without control characters")
        })
    }

    /// Puts the header on a response.
    pub fn apply(&self, response: &mut Response) {
        if let Some(value) = self.header() {
            response.headers_mut().insert(HEADER, value);
        }
    }

    fn add(&mut self, notice: Notice) {
        if self.list.contains(&notice) {
            return;
        }
        if self.list.len() < self.limit {
            self.list.push(notice);
        } else {
            self.n_more += 1;
        }
    }
}

impl Notice {
    fn part(&self) -> String {
        match self {
            Notice::Ignored(field) => format!("ignored={}", ascii(field)),
            Notice::DroppedTool(kind) => format!("dropped-tool={}", ascii(kind)),
            Notice::Note(text) => format!("note={}", ascii(text)),
        }
    }

    fn as_error(&self) -> ApiError {
        match self {
            Notice::Ignored(field) => ApiError::invalid(
                field.as_str(),
                format!("'{field}' has no effect here, and hearth.strict asks for an error then"),
            ),
            Notice::DroppedTool(kind) => ApiError::invalid(
                "tools",
                format!(
                    "tools of kind '{kind}' cannot be offered, and hearth.strict asks for an error then"
                ),
            ),
            Notice::Note(text) => {
                ApiError::invalid(None, format!("{text} (hearth.strict asks for an error)"))
            }
        }
    }
}

/// The text with everything percent-encoded that a header's value or our separators would take amiss.
fn ascii(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b';' | b',' | b'=' | b'%' | 0..=0x1f | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
        if out.len() > MAX_VALUE_BYTES {
            out.push_str("...");
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_become_one_header() {
        let mut notices = Notices::new(false, 8);
        notices.ignored("user");
        notices.ignored("user");
        notices.dropped_tool("web_search");
        notices.note("a; b\u{fc}");
        assert_eq!(
            notices.header().unwrap(),
            "ignored=user; dropped-tool=web_search; note=a%3B b%C3%BC"
        );
        assert!(notices.check().is_ok());
        assert_eq!(Notices::new(false, 8).header(), None);
    }

    #[test]
    fn strict_mode_names_the_field() {
        let mut notices = Notices::new(true, 8);
        assert!(notices.check().is_ok());
        notices.ignored("user");
        let error = notices.check().unwrap_err();
        assert_eq!(error.status, 400);
        assert_eq!(error.param.as_deref(), Some("user"));
    }

    #[test]
    fn a_client_cannot_blow_up_its_own_header() {
        let mut notices = Notices::new(false, 2);
        for n in 0..1000 {
            notices.ignored(format!("{n}\r\nx: {}", "y".repeat(10_000)));
        }
        let value = notices.header().unwrap();
        assert!(value.len() < 600, "{}", value.len());
        assert!(value.to_str().unwrap().ends_with("; more=998"));
    }
}
