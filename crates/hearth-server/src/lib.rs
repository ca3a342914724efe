//! The server: OpenAI's, Anthropic's and Ollama's dialects over one internal request.

#![forbid(unsafe_code)]

pub mod exchange;
