//! Why no text came out of a template.

use std::fmt;

/// Why a template could not be taken or rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template itself refused the conversation through `raise_exception`; the text is its own.
    #[error("{message}")]
    Raised {
        /// The message, exactly as the template gave it.
        message: String,
    },
    /// The text is longer than the limit.
    #[error("chat template has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Length found.
        bytes: usize,
        /// Length allowed.
        limit: usize,
    },
    /// The text is no valid template.
    #[error("chat template does not parse: {detail}")]
    Syntax {
        /// What the parser said, with the line.
        detail: String,
    },
    /// The template failed on this conversation.
    #[error("chat template failed: {detail}")]
    Failed {
        /// What the interpreter said, with the line.
        detail: String,
    },
    /// The template needed more steps or memory than its budget.
    #[error("chat template used up its fuel of {fuel} steps")]
    OutOfFuel {
        /// The budget it had.
        fuel: u64,
    },
    /// The output grew past the limit.
    #[error("chat template wrote more than {limit} bytes")]
    OutputTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The context is not an object.
    #[error("context of a chat template must be an object, found {found}")]
    ContextNotAnObject {
        /// JSON type found.
        found: &'static str,
    },
    /// The context nests too deeply.
    #[error("context of a chat template nests deeper than {limit} levels")]
    ContextTooDeep {
        /// Levels allowed.
        limit: usize,
    },
    /// No thread with the needed stack could be started.
    #[error("could not start the template sandbox: {0}")]
    Sandbox(#[source] std::io::Error),
    /// The interpreter itself broke on this template; the process goes on.
    #[error("chat template broke its interpreter: {detail}")]
    Panicked {
        /// What the interpreter's panic said.
        detail: String,
    },
    /// The file's metadata holds something else than text under a template's key.
    #[error("metadata key {key:?} must be a string, found {found}")]
    NotText {
        /// The key.
        key: String,
        /// Type found.
        found: String,
    },
}

impl TemplateError {
    /// True when the template raised the error itself, so that the message is meant for the user.
    pub fn is_by_template(&self) -> bool {
        matches!(self, Self::Raised { .. })
    }
}

/// Marker that carries the text of `raise_exception` through the interpreter's own error type.
#[derive(Debug)]
pub(crate) struct RaisedMessage(pub String);

impl fmt::Display for RaisedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RaisedMessage {}
