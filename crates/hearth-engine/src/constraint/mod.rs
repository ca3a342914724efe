//! Holds an answer to a form: a JSON schema, a regular expression, a grammar, a call of a tool.
//!
//! A [`Grammar`] is compiled into a [`Constraint`], which says before every token what may come and is told what came.
//! It fails closed: what cannot be enforced is a [`ConstraintError`] when it is compiled, and a grammar that becomes too
//! complex within an answer ends the answer with an error. A thought in front of the answer stays free.
//!
//! The parser behind it is `llguidance`'s. Schemas are read and turned into its grammar here, because its own reading of
//! them passes over keywords, and leaves numbers and blanks without an end.

mod builder;
mod cache;
mod compile;
mod error;
mod gbnf;
mod json;
mod names;
mod scanner;
mod schema;
mod state;
#[cfg(test)]
mod tests;
mod tools;
mod vocabulary;
mod writing;

use hearth_text::parse::ToolFormat;
use serde_json::Value;

pub use compile::Grammars;
pub use error::ConstraintError;
pub use state::Constraint;

/// What a whole answer must look like.
#[derive(Clone, Debug, PartialEq)]
pub struct Grammar {
    /// The thought that may stand in front of the answer, for models that think.
    pub thinking: Option<Thinking>,
    /// The answer itself.
    pub answer: AnswerGrammar,
}

/// How a model marks its thought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thinking {
    /// What opens it.
    pub open: String,
    /// What closes it.
    pub close: String,
    /// The prompt ends inside of the thought: it begins with the first token.
    pub is_open: bool,
}

/// What an answer must look like, its thought apart.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerGrammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that satisfies a schema.
    JsonSchema(Value),
    /// A text that matches an expression from its beginning to its end.
    Regex(String),
    /// A text in a grammar of the notation that `llguidance` takes.
    Lark(String),
    /// A text in a grammar of llama.cpp's notation.
    Gbnf(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// One of two, decided by how the answer begins. Each must be a whole answer: tools that are merely on offer are not.
    Either(Box<[AnswerGrammar; 2]>),
    /// Calls of tools.
    Tools {
        /// How the model writes them.
        format: ToolFormat,
        /// Those that may be called.
        tools: Vec<ToolSpec>,
        /// Whether there must be one.
        choice: ToolGrammarChoice,
        /// Whether there may be several.
        is_parallel: bool,
    },
}

/// A tool that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// Schema of its arguments; without one it has none.
    pub schema: Option<Value>,
    /// A schema that cannot be enforced is an error. Otherwise any object is taken then, with a notice.
    pub is_strict: bool,
}

/// Whether there must be a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolGrammarChoice {
    /// Free text, in which what begins like a call is one.
    Auto,
    /// At least one call and nothing else. A tool that was named is this with no other on offer.
    Required,
}
