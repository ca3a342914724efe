//! Ollama's dialect: `/api/*`.
//!
//! Bodies are read by pure functions (`request.rs`, `messages.rs`, `options.rs`), answers written by a pure state machine
//! (`lines.rs`); `routes.rs` and `answer.rs` join the two. Where Ollama cuts a prompt silently, this answers 400. No request can make
//! the server fetch anything, and none can change the store unless it was started for that (`manage.rs`).

mod answer;
mod catalogue;
mod embed;
mod lines;
mod manage;
mod messages;
mod options;
mod request;
mod routes;

pub use routes::routes;
