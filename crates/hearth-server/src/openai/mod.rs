//! OpenAI's dialect: chat, completions, embeddings, ranking, responses.
//!
//! `convert` functions read a body into an [`Ask`](crate::exchange::Ask) and are pure; stream machines turn
//! [`Reply`](crate::exchange::Reply)s into chunks and know no socket. The routes tie the two to [`answer`](crate::answer).

mod chat;
pub(crate) mod common;
mod completions;
mod embeddings;
mod format;
mod messages;
mod pieces;
mod rerank;
pub mod responses;
pub(crate) mod tools;

pub(crate) use chat::chat_of;

use crate::routes::Routes;

/// The routes of this dialect.
pub fn routes() -> Routes {
    Routes::new()
        .post(
            "/v1/chat/completions",
            "Answers a conversation",
            chat::complete,
        )
        .post(
            "/v1/chat/completions/input_tokens",
            "Counts the tokens of a conversation",
            chat::count,
        )
        .post(
            "/v1/completions",
            "Continues plain text",
            completions::complete,
        )
        .post(
            "/v1/embeddings",
            "Turns texts into vectors",
            embeddings::embed,
        )
        .post("/v1/rerank", "Ranks documents", rerank::rerank)
        .post(
            "/v1/reranking",
            "Ranks documents, as llama.cpp calls it",
            rerank::rerank,
        )
        .merge(responses::routes())
}
