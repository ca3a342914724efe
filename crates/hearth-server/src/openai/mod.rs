//! OpenAI's dialect: chat, completions, embeddings, responses.
//!
//! `convert` functions read a body into an [`Ask`](crate::exchange::Ask) and are pure; stream machines turn
//! [`Reply`](crate::exchange::Reply)s into chunks and know no socket. The routes tie the two to [`answer`](crate::answer).

mod chat;
mod common;
mod completions;
mod embeddings;
mod format;
mod messages;
mod pieces;
pub mod responses;
mod tools;

pub(crate) use chat::chat_of;

use crate::routes::Routes;

/// The routes of this dialect.
pub fn routes() -> Routes {
    Routes::new()
        .post(
            "/v1/chat/completions",
            "answers a conversation",
            chat::complete,
        )
        .post(
            "/v1/chat/completions/input_tokens",
            "counts the tokens of a conversation",
            chat::count,
        )
        .post(
            "/v1/completions",
            "continues plain text",
            completions::complete,
        )
        .post(
            "/v1/embeddings",
            "turns texts into vectors",
            embeddings::embed,
        )
        .merge(responses::routes())
}
