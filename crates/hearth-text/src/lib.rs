//! Text and tokens: what stands between a conversation and a model.
//!
//! Four things live here. A [`Tokenizer`] is built from the metadata of a GGUF
//! file and turns text into token ids and back. A [`Detokenizer`] does the way
//! back as a stream and never hands out half a character. A [`ChatTemplate`]
//! renders a conversation with the Jinja template that came with the model, in
//! a sandbox with fuel. And [`parse`] takes an answer apart into thinking, text
//! and calls.
//!
//! Everything is built from files that strangers wrote, so every count, index
//! and length in them is checked, and a template can neither reach the host
//! nor run without end.
//!
//! ```
//! use hearth_text::ChatTemplate;
//! use serde_json::json;
//!
//! let template = ChatTemplate::from_source(
//!     "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}",
//! )?;
//! let text = template.render(&json!({"messages": [{"role": "user", "content": " hello "}]}), None)?;
//! assert_eq!(text, "<user>hello");
//! # Ok::<(), hearth_text::TemplateError>(())
//! ```
//!
//! This crate runs no model and keeps no conversation.
#![forbid(unsafe_code)]

mod detokenizer;
pub mod parse;
pub mod template;
pub mod tokenizer;

pub use detokenizer::Detokenizer;
pub use template::{ChatTemplate, TemplateError, TemplateLimits, Timestamp};
pub use tokenizer::{Encode, Infill, TextError, Tokenizer};
