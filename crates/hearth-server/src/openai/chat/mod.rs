//! `POST /v1/chat/completions` and the count of its prompt's tokens.

mod convert;
mod reply;
mod stream;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::json;

use convert::ChatRequest;
pub(crate) use convert::chat_of;
use reply::Style;
use stream::ChatStream;

use super::pieces::{self, Head, TokenNames};
use crate::{
    answer,
    app::App,
    auth::Caller,
    body::Object,
    error::ApiError,
    sse::{self, Heartbeat},
};

/// Answers a conversation.
pub(super) async fn complete(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let (request, mut notices) = convert::chat_request(&body, &app.limits)?;
    let ChatRequest {
        ask,
        streaming,
        is_old_form,
        format_field,
    } = request;
    let head = Head::new("chatcmpl-", &ask.model);
    let has_logprobs = ask.n_logprobs.is_some();
    let replies = answer::ask(&app, &caller, ask, &mut notices).await;
    let tools_field = if is_old_form { "functions" } else { "tools" };
    let replies = replies.map_err(|error| {
        let error = error.of_prompt("messages").renamed("tools", tools_field);
        error.renamed("response_format", &format_field)
    })?;
    let style = Style {
        names: has_logprobs.then(|| TokenNames(replies.loaded().engine.tokenizer().clone())),
        is_old_form,
    };
    let mut response = if streaming.is_on {
        let mut stream = ChatStream::new(head, style, streaming.includes_usage);
        sse::sse(
            pieces::events(replies, move |reply| stream.take(reply)),
            Heartbeat::Comment,
        )
    } else {
        let collected = replies.collect().await?;
        collected
            .notices
            .iter()
            .for_each(|notice| notices.note(notice.as_str()));
        Json(reply::completion(&head, &collected, &style)).into_response()
    };
    notices.apply(&mut response);
    Ok(response)
}

/// Counts the tokens of a conversation without answering it.
pub(super) async fn count(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let (request, notices) = convert::chat_request(&body, &app.limits)?;
    notices.check()?;
    let ask = request.ask;
    let n_tokens = answer::count(&app, &caller, &ask.prompt, &ask.model).await?;
    let mut response =
        Json(json!({"object": "response.input_tokens", "input_tokens": n_tokens})).into_response();
    notices.apply(&mut response);
    Ok(response)
}
