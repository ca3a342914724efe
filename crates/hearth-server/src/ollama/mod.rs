//! Ollama's dialect: `/api/*`.
//!
//! Bodies are read by pure functions (`request.rs`, `messages.rs`, `options.rs`), answers written by a pure state machine
//! (`lines.rs`); `routes.rs` joins the two. Where Ollama cuts a prompt silently, this answers 400. Nothing here can make
//! the server fetch, write or delete: routes that would are switched off.

mod catalogue;
mod embed;
mod lines;
mod messages;
mod options;
mod request;
mod routes;

pub use routes::routes;
