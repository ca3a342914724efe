//! How a model writes calls, as data.
//!
//! The same record serves two readers: the grammar that forces a call is built from it, and the parser knows
//! from it where a call begins and ends. All texts are what the model's own template writes for a call in the
//! history, so a forced call is one the model has seen in training.

/// The notation of calls:
///
/// ```text
/// open  begin NAME middle ARGUMENTS end  (between  begin NAME middle ARGUMENTS end)*  close
/// ```
///
/// White space inside these texts is how the template writes it; a model may write more or less of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSyntax {
    /// What only calls begin with.
    pub trigger: Trigger,
    /// Before the first call.
    pub open: &'static str,
    /// Before a name.
    pub begin: &'static str,
    /// Between name and arguments.
    pub middle: &'static str,
    /// How arguments are written.
    pub arguments: ArgumentSyntax,
    /// After the arguments.
    pub end: &'static str,
    /// Between two calls.
    pub between: &'static str,
    /// After the last call.
    pub close: &'static str,
    /// Whether an answer may hold more than one call; the templates of some models refuse a history with two.
    pub is_parallel: bool,
    /// Texts in the notation that some vocabularies have as control tokens.
    pub markers: &'static [&'static str],
}

/// What a call is recognised by in free text. What follows it must be a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Wherever it stands, any of these texts.
    Anywhere(&'static [&'static str]),
    /// Any of these texts wherever it stands, and a `{` that is the first character of the answer.
    AnywhereOrObject(&'static [&'static str]),
}

impl Trigger {
    /// The texts.
    pub fn texts(&self) -> &'static [&'static str] {
        match self {
            Trigger::Anywhere(texts) | Trigger::AnywhereOrObject(texts) => texts,
        }
    }

    /// Whether an answer whose first character is `{` is a call.
    pub fn is_object(&self) -> bool {
        matches!(self, Trigger::AnywhereOrObject(_))
    }
}

/// How arguments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentSyntax {
    /// A JSON object.
    Json,
    /// One element each: `begin KEY middle VALUE end`. A value of a type other than string is JSON; a string is
    /// written as it is, without quotes or escapes, and must not contain `end`.
    Elements {
        /// Before a key.
        begin: &'static str,
        /// Between key and value.
        middle: &'static str,
        /// After the value.
        end: &'static str,
    },
}
