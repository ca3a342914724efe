//! The server: OpenAI's, Anthropic's and Ollama's dialects over one internal request.
//!
//! A request passes the frame of `app.rs` (id, path, errors), then `auth.rs` (host, origin, key), then a route of a
//! dialect. The dialect turns its body into an `exchange::Ask`, `answer` runs it on the engine of a model from `models`, and the
//! dialect turns the replies into its own words. `listen.rs` owns connections. Nothing here touches weights, opens a URL, or
//! makes a path of anything a client sent.

#![forbid(unsafe_code)]

pub mod answer;
pub mod anthropic;
pub mod app;
pub mod auth;
pub mod body;
mod conversation;
pub mod error;
pub mod exchange;
pub mod fields;
mod general;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod listen;
pub mod metrics;
pub mod models;
pub mod notice;
pub mod ollama;
pub mod openai;
mod private;
pub mod routes;
pub mod sse;
#[cfg(test)]
mod strategies;
