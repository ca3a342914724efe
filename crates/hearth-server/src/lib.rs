//! The server: OpenAI's, Anthropic's and Ollama's dialects over one internal request.

#![forbid(unsafe_code)]

pub mod error;
pub mod fields;
pub mod ids;
pub mod limits;
pub mod notice;
pub mod sse;
