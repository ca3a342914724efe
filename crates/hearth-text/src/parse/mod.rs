//! What a model wrote, taken apart: thinking, text, calls.
//!
//! [`AnswerFormat::detect`] reads from the source of a chat template how a model writes them, and an
//! [`AnswerParser`] takes the answer's text piece by piece. It works character by character, so the pieces it
//! gives are the same however the text was cut. Text that fits no pattern is never lost: it is content, with a
//! notice when it looked like a call. [`CallSyntax`] is the same knowledge as data, for building grammars.
//!
//! Each notation of calls has a file: `hermes.rs`, `llama3.rs`, `mistral.rs`, `qwen_xml.rs`, `deepseek.rs`. They
//! share three readers: a JSON object that holds name and arguments (`object.rs`), a name between markers
//! (`marked.rs`), and elements (`elements.rs`).
//!
//! ```
//! use hearth_text::parse::{AnswerFormat, AnswerParser, OfferedTool, ParseOptions, Piece};
//!
//! let template = r#"<think></think><tool_call>\n{"name": …, "arguments": …}\n</tool_call>"#;
//! let options = ParseOptions {
//!     tools: [OfferedTool { name: "look".into(), parameters: None }].into(),
//!     is_thinking_open: true,
//! };
//! let mut parser = AnswerParser::new(&AnswerFormat::detect(template), options);
//! let mut pieces = Vec::new();
//! parser.push("hm</think>\n<tool_call>{\"name\": \"look\", \"arguments\": {}}</tool_call>", &mut pieces);
//! parser.finish(&mut pieces);
//! assert_eq!(pieces, [
//!     Piece::Reasoning("hm".into()),
//!     Piece::CallBegin { name: "look".into() },
//!     Piece::CallArguments("{}".into()),
//!     Piece::CallEnd,
//! ]);
//! ```

mod call;
mod deepseek;
mod elements;
mod emitter;
mod format;
mod hermes;
mod json;
mod literal;
mod llama3;
mod marked;
mod mistral;
mod object;
mod parser;
mod qwen_xml;
mod syntax;

#[cfg(test)]
mod tests;

pub use elements::ValueKind;
pub use format::{AnswerFormat, ThinkingTags, ToolFormat};
pub use parser::{AnswerParser, ParseOptions};
pub use syntax::{ArgumentSyntax, CallSyntax, Trigger};

use serde_json::Value;

/// A tool the model may call, as far as reading its answer needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedTool {
    /// Its name.
    pub name: String,
    /// JSON schema of its arguments.
    pub parameters: Option<Value>,
}

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Thinking.
    Reasoning(String),
    /// The answer's text.
    Text(String),
    /// A call begins.
    CallBegin {
        /// The function.
        name: String,
    },
    /// A piece of its arguments: JSON text as the model writes it.
    CallArguments(String),
    /// The arguments are complete. Missing when the answer ended inside them.
    CallEnd,
    /// Something for the client to know.
    Notice(String),
}
